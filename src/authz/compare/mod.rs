//! Pure: which decisions change, if these policies take the place of those?
//!
//! Asked of requests, not of texts: two sets that are written otherwise and decide alike are the same. That no request differs among
//! those that were tried is no proof, so it is said how many there were.

pub mod dice;
pub mod draw;
pub mod setting;
pub mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::authz::compare::draw::Draw;
use crate::authz::decide::By;
use crate::authz::decide::Effect;
use crate::authz::explain::explanation::RuleName;
use crate::authz::explain::explanation::Verdict;
use crate::authz::explain::explanation::Why;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::verdict;
use crate::authz::model::Action;
use crate::authz::model::Policy;
use crate::authz::policy_set::PolicySet;

/// What one set of policies says of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Said {
    /// What is decided.
    pub decision: Verdict,
    /// The provider that is asked first, if any.
    pub asks: Option<String>,
    /// Whether it is asked only by what is not known.
    pub asks_depends: bool,
    /// The rule that decides, if one does and all is known.
    pub rule: Option<RuleName>,
}

/// Requests that are decided otherwise, each in the same way.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What was said.
    pub old: Said,
    /// What is said now.
    pub new: Said,
    /// How many of the requests.
    pub count: usize,
    /// The first of them.
    pub example: Facts,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// How many requests were tried.
    pub tried: usize,
    /// How many of them are decided otherwise.
    pub changed: usize,
    /// How many of the others neither set decides: what is not known of the request does.
    pub undecided: usize,
    /// Those that are, by how.
    pub changes: Vec<Change>,
}

/// Two sets of policies for one workload.
pub struct Pair {
    old: Side,
    new: Side,
}

struct Side {
    policies: Vec<Arc<Policy>>,
    set: PolicySet,
}

impl Pair {
    /// `old`, which `new` shall take the place of.
    pub fn new(old: Vec<Arc<Policy>>, new: Vec<Arc<Policy>>) -> Self {
        Self { old: Side::new(old), new: Side::new(new) }
    }

    /// Tries `count` requests that are made for both.
    pub fn on_drawn(&self, count: usize, seed: u64) -> Comparison {
        let both = self.old.policies.iter().chain(&self.new.policies);
        let mut draw = Draw::new(both.map(|policy| &**policy), seed);
        let mut comparison = Comparison::default();
        for _ in 0..count {
            let facts = draw.request();
            let (old, new) = (self.old.decided(&facts), self.new.decided(&facts));
            comparison.add(facts, old, new);
        }
        comparison
    }

    /// Tries requests of which not all is known. Where one set decides and the other cannot tell, that is a change too.
    pub fn on_recorded(&self, requests: impl IntoIterator<Item = Facts>) -> Comparison {
        let mut comparison = Comparison::default();
        for facts in requests {
            let (old, new) = (self.old.recorded(&facts), self.new.recorded(&facts));
            comparison.add(facts, old, new);
        }
        comparison
    }
}

impl Side {
    fn new(policies: Vec<Arc<Policy>>) -> Self {
        Self { set: PolicySet::new(policies.clone()), policies }
    }

    /// As far as what is known decides it.
    fn recorded(&self, facts: &Facts) -> Said {
        let (decision, asked) = verdict(&self.policies, facts);
        // Somebody who is asked about what is denied anyway changes nothing.
        let asked = asked.filter(|_| decision != Verdict::Deny);
        Said {
            decision,
            asks_depends: asked.as_ref().is_some_and(|asked| asked.depends),
            asks: asked.map(|asked| asked.provider),
            rule: None,
        }
    }

    fn decided(&self, facts: &Facts) -> Said {
        facts.ask(|request| {
            let decision = self.set.decide(request);
            let found = |at| self.set.rule(request, at);
            let provider = decision.custom.and_then(found).and_then(|found| match &found.policy.action {
                Action::Custom { provider } => Some(provider.to_string()),
                _ => None,
            });
            let rule = match decision.by {
                By::Rule(at) => found(at).map(|found| RuleName::of(found.policy, found.rule)),
                By::NoAllowingRule | By::NoAllowingPolicy => None,
            };
            let decision = match decision.effect {
                Effect::Allow => Verdict::Allow,
                Effect::Deny => Verdict::Deny,
            };
            // Somebody who is asked about what is denied anyway changes nothing.
            let asks = provider.filter(|_| decision == Verdict::Allow);
            Said { decision, asks, asks_depends: false, rule }
        })
    }
}

impl Comparison {
    fn add(&mut self, facts: Facts, old: Said, new: Said) {
        self.tried += 1;
        if (old.decision, &old.asks, old.asks_depends) == (new.decision, &new.asks, new.asks_depends) {
            self.undecided += usize::from(old.is_open());
            return;
        }
        self.changed += 1;
        match self.changes.iter_mut().find(|change| change.old == old && change.new == new) {
            Some(change) => change.count += 1,
            None => self.changes.push(Change { old, new, count: 1, example: facts }),
        }
    }

    /// Both together.
    pub fn join(&mut self, other: Self) {
        self.tried += other.tried;
        self.changed += other.changed;
        self.undecided += other.undecided;
        self.changes.extend(other.changes);
    }

    /// How many are decided how, and how now.
    pub fn totals(&self) -> BTreeMap<(Verdict, Verdict), usize> {
        let mut totals = BTreeMap::new();
        for change in &self.changes {
            *totals.entry((change.old.decision, change.new.decision)).or_default() += change.count;
        }
        totals
    }
}

impl Said {
    /// Whether what is not known decides, or says who is asked.
    fn is_open(&self) -> bool {
        self.decision == Verdict::Depends || self.asks_depends
    }

    /// In words; why a decision without a rule is so follows from what it is.
    pub fn why(&self) -> Why {
        match (self.decision, &self.rule) {
            (Verdict::Depends, _) => Why::Unknown,
            (_, Some(_)) => Why::Rule,
            (Verdict::Deny, None) => Why::NoAllowingRule,
            (Verdict::Allow, None) => Why::NoAllowingPolicy,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::authz::explain::facts::Fact;
    use crate::authz::explain::facts::HttpFacts;
    use crate::authz::model::Atom;
    use crate::authz::model::Conjunction;
    use crate::authz::model::Field;
    use crate::authz::model::Kind;
    use crate::authz::model::Pattern;
    use crate::authz::model::PolicyName;
    use crate::authz::model::Rule;
    use crate::authz::model::Template;
    use crate::authz::model::Term;
    use crate::authz::model::Value;

    use super::*;

    fn allow(atoms: Vec<Atom>) -> Arc<Policy> {
        let values = atoms.into_iter().map(Value::Is).collect();
        let to =
            Conjunction { index: 0, terms: vec![Term { field: Field::List("f"), negated: false, values }] };
        let rule =
            Rule { index: 0, from: vec![Conjunction::default()], to: vec![to], when: Conjunction::default() };
        let name = PolicyName { kind: Kind::AuthorizationPolicy, namespace: "a".into(), name: "b".into() };
        Arc::new(Policy { name, action: Action::Allow, dry_run: false, rules: vec![rule] })
    }

    #[test]
    fn whatever_a_value_is_changed_to_a_request_at_its_edge_tells() {
        let path = |value: &str| Atom::Path(Pattern::of(value));
        let uri = |value: Pattern| Atom::PeerUri(value);
        let template = |value: &str| Atom::PathTemplate(Template::parse(value).unwrap());
        for (old, new) in [
            (path("/a"), path("/a*")),
            (path("/a*"), path("/a/*")),
            (path("/ab"), path("/a")),
            (path("*.html"), path("*html")),
            (template("/a/{*}"), template("/a/{**}")),
            (Atom::Method(Pattern::of("GET")), Atom::Method(Pattern::of("*"))),
            (Atom::SourceIp("10.0.0.0/8".parse().unwrap()), Atom::SourceIp("10.0.0.0/9".parse().unwrap())),
            (Atom::SourceIp("10.0.0.0/8".parse().unwrap()), Atom::RemoteIp("10.0.0.0/8".parse().unwrap())),
            (Atom::DestinationPort(80), Atom::DestinationPort(81)),
            (uri(Pattern::Contains("/ns/a/".into())), uri(Pattern::Contains("/ns/a".into()))),
            (uri(Pattern::Exact("spiffe://td/ns/a/sa/b".into())), uri(Pattern::Contains("/ns/a/".into()))),
            (uri(Pattern::Exact("spiffe://td/ns/a/sa/b".into())), Atom::Peer),
        ] {
            let pair = Pair::new(vec![allow(vec![old.clone()])], vec![allow(vec![new.clone()])]);
            let comparison = pair.on_drawn(400, 1);
            assert!(comparison.changed > 0, "{old:?} {new:?}");
            assert_eq!(comparison.tried, 400);
            assert_eq!(comparison, pair.on_drawn(400, 1), "the same seed tries the same");
        }
    }

    fn custom(atoms: Vec<Atom>) -> Arc<Policy> {
        let allow = allow(atoms);
        let name = PolicyName { name: "c".into(), ..allow.name.clone() };
        Arc::new(Policy { name, action: Action::Custom { provider: "ext".into() }, ..(*allow).clone() })
    }

    /// A request of which the method alone is known.
    fn put() -> Facts {
        let http = HttpFacts { method: Fact::Known("PUT".into()), ..HttpFacts::default() };
        Facts { http: Some(http), ..Facts::default() }
    }

    #[test]
    fn a_recorded_request_that_neither_set_decides_is_not_counted_as_the_same() {
        let uri = |text: &str| allow(vec![Atom::PeerUri(Pattern::Exact(text.into()))]);
        let method = |text: &str| allow(vec![Atom::Method(Pattern::of(text))]);
        let compared = |old, new| Pair::new(vec![old], vec![new]).on_recorded([put()]);
        let open = compared(uri("spiffe://td/ns/a/sa/b"), uri("spiffe://td/ns/a/sa/c"));
        assert_eq!((open.tried, open.changed, open.undecided), (1, 0, 1));
        let same = compared(method("PUT"), method("P*"));
        assert_eq!((same.tried, same.changed, same.undecided), (1, 0, 0));
        let closed = compared(method("PUT"), uri("spiffe://td/ns/a/sa/c"));
        assert_eq!((closed.changed, closed.undecided), (1, 0), "one of them decides, so it is a change");
    }

    #[test]
    fn who_is_asked_first_about_recorded_requests_is_a_part_of_what_is_decided() {
        let method = |text: &str| Atom::Method(Pattern::of(text));
        let uri = Atom::PeerUri(Pattern::Exact("spiffe://td/ns/a/sa/b".into()));
        let open = || allow(vec![method("PUT")]);
        let compared = |old, new| Pair::new(old, new).on_recorded([put()]);
        for (atom, depends) in [(method("PUT"), false), (uri.clone(), true)] {
            let asked = compared(vec![open()], vec![open(), custom(vec![atom])]);
            assert_eq!(asked.changed, 1);
            let new = &asked.changes[0].new;
            assert_eq!((new.asks.as_deref(), new.asks_depends), (Some("ext"), depends));
        }
        assert_eq!(compared(vec![open()], vec![open(), custom(vec![method("GET")])]).changed, 0);
        let perhaps = || vec![open(), custom(vec![uri.clone()])];
        let both = compared(perhaps(), perhaps());
        assert_eq!((both.changed, both.undecided), (0, 1));
        let denied =
            compared(vec![allow(vec![])], vec![allow(vec![method("GET")]), custom(vec![method("PUT")])]);
        assert_eq!(denied.changed, 0, "nobody need be asked about what is denied anyway");
    }

    #[test]
    fn what_is_only_written_otherwise_does_not_differ() {
        let (a, b) = (Atom::Method(Pattern::of("GET")), Atom::Method(Pattern::of("PUT")));
        let pair = Pair::new(vec![allow(vec![a.clone(), b.clone()])], vec![allow(vec![b, a])]);
        assert_eq!(pair.on_drawn(2000, 7).changed, 0);
    }
}
