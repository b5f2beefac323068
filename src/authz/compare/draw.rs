//! Pure: which requests are worth trying on some policies?
//!
//! Half of them are aimed: what a rule asks for is so, and then one part or two are changed. The others have each part as chance has
//! it, among the values at the edges of what is asked for.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value as Json;

use crate::authz::compare::dice::Dice;
use crate::authz::compare::setting::Setting;
use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::facts::HttpFacts;
use crate::authz::explain::part::Part;
use crate::authz::model::Conjunction;
use crate::authz::model::Policy;
use crate::authz::model::Rule;
use crate::authz::model::Value;

/// The most values that are kept of one part.
const MAX_VALUES: usize = 5_000;

/// Draws requests.
pub struct Draw<'a> {
    rules: Vec<&'a Rule>,
    settings: Vec<Vec<Setting>>,
    filters: Map<String, Json>,
    dice: Dice,
}

impl<'a> Draw<'a> {
    /// Requests for all of `policies`.
    pub fn new(policies: impl IntoIterator<Item = &'a Policy>, seed: u64) -> Self {
        let rules: Vec<&Rule> = policies.into_iter().flat_map(|policy| &policy.rules).collect();
        let mut by_part: BTreeMap<Part, Vec<Setting>> = BTreeMap::new();
        let mut filters = Map::new();
        let terms = rules.iter().flat_map(|rule| rule.conjunctions().flat_map(|one| &one.terms));
        for value in terms.flat_map(|term| &term.values) {
            let Some(part) = value.atoms().map(Part::of).next() else { continue };
            if let Part::Filter(filter, _) = &part {
                filters.insert(filter.to_string(), Json::Object(Map::new()));
            }
            let settings = by_part.entry(part).or_default();
            for setting in Setting::of(value) {
                if settings.len() < MAX_VALUES
                    && !settings.iter().rev().take(64).any(|known| *known == setting)
                {
                    settings.push(setting);
                }
            }
        }
        Self { rules, settings: by_part.into_values().collect(), filters, dice: Dice::new(seed) }
    }

    /// The next request; there is always one.
    pub fn request(&mut self) -> Facts {
        let mut facts = plain();
        facts.filters = self.filters.clone();
        if self.dice.roll(12) == 0 {
            facts.http = None;
        }
        match self.dice.roll(2) {
            0 => self.aim(&mut facts),
            _ => {
                for at in 0..self.settings.len() {
                    self.change(&mut facts, at);
                }
            }
        }
        facts
    }

    /// Makes a rule match, and then perhaps not.
    fn aim(&mut self, facts: &mut Facts) {
        let Some(&rule) = self.dice.pick(&self.rules) else { return };
        for list in [&rule.from, &rule.to] {
            if let Some(one) = self.dice.pick(list) {
                self.meet(facts, one);
            }
        }
        self.meet(facts, &rule.when);
        for _ in 0..self.dice.roll(3) {
            let at = self.dice.roll(self.settings.len());
            self.change(facts, at);
        }
    }

    fn meet(&mut self, facts: &mut Facts, conjunction: &Conjunction) {
        for term in conjunction.terms.iter().filter(|term| !term.negated) {
            let value: Option<&Value> = self.dice.pick(&term.values);
            for setting in value.map(Setting::witness).unwrap_or_default() {
                setting.put(facts);
            }
        }
    }

    fn change(&mut self, facts: &mut Facts, at: usize) {
        if let Some(setting) = self.settings.get(at).and_then(|settings| self.dice.pick(settings)) {
            setting.put(facts);
        }
    }
}

/// A request of which all is known, and that asks for nothing special.
pub fn plain() -> Facts {
    let known = |text: &str| Fact::Known(text.to_owned());
    let address = Fact::Known("192.0.2.1".parse().ok());
    Facts {
        peer: Fact::Known(None),
        source_ip: address,
        remote_ip: address,
        destination_ip: Fact::Known("192.0.2.2".parse().ok()),
        destination_port: Fact::Known(Some(8080)),
        sni: known(""),
        http: Some(HttpFacts {
            method: known("GET"),
            path: known("/"),
            host: known("host"),
            ..HttpFacts::default()
        }),
        claims: Fact::Known(None),
        properties: Fact::Known(Map::new()),
        ..Facts::default()
    }
}
