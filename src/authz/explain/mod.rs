//! Pure: why is it decided so, and what would have to be otherwise?
//!
//! ```text
//! facts (what is known, and what is not) ─┐
//!                                         ├─► weigh each rule: yes, no, or not to be told ─► verdict, rule, field
//! policies of the workload ───────────────┘                                                  nearest rule, and what it missed by
//! ```
//!
//! Where all is known, the verdict and the rule are those of [`crate::authz::PolicySet::decide`]; a test holds it to that. Where
//! something is not, a verdict is given only if it is the same whatever that is.

pub mod explanation;
pub mod facts;
pub mod part;
pub mod reach;
mod remark;
pub mod truth;
pub mod weigh;
mod words;
pub mod written;

use std::borrow::Borrow;
use std::collections::BTreeSet;

use crate::authz::explain::explanation::Beside;
use crate::authz::explain::explanation::Besides;
use crate::authz::explain::explanation::Counts;
use crate::authz::explain::explanation::Explanation;
use crate::authz::explain::explanation::Known;
use crate::authz::explain::explanation::RuleName;
use crate::authz::explain::explanation::Verdict;
use crate::authz::explain::explanation::Weighed;
use crate::authz::explain::explanation::Why;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::part::Part;
use crate::authz::explain::truth::Truth;
use crate::authz::explain::weigh::Scales;
use crate::authz::model::Action;
use crate::authz::model::Policy;
use crate::authz::model::Rule;
use crate::authz::model::Value;

/// How many rules are told that hang on what is not known.
const MAX_HINGES: usize = 20;

/// Explains what `policies`, which apply to one workload, decide on what is known of a request.
pub fn explain(policies: &[impl Borrow<Policy>], facts: &Facts) -> Explanation {
    let policies: Vec<&Policy> = policies.iter().map(Borrow::borrow).collect();
    let connections = for_connections(&policies, facts);
    let effective: Vec<&Policy> = match &connections {
        Some(connections) => connections.iter().collect(),
        None => policies.clone(),
    };
    let effective = effective.as_slice();
    let mut remarks = facts.remarks.clone();
    if connections.is_some() {
        remarks.extend(policies.iter().zip(effective).flat_map(|(whole, narrow)| dropped(whole, narrow)));
    }
    facts.ask(|request| {
        let scales = Scales { facts, request };
        let found = Found::among(effective, &scales);
        let (decision, why) = found.verdict();
        let rule = match (decision, why) {
            (Verdict::Deny, Why::Rule) => found.deny.yes,
            (_, Why::Rule) => found.allow.yes,
            _ => None,
        };
        let by = rule.map(|(policy, rule)| scales.weigh(policy, rule));
        Explanation {
            nearest: (why == Why::NoAllowingRule).then(|| nearest(effective, &scales)).flatten(),
            depends_on: match decision {
                Verdict::Depends => found.hinges(&scales),
                Verdict::Allow | Verdict::Deny => Vec::new(),
            },
            besides: found.besides(effective),
            policies: Counts::of(&policies),
            request: known(facts, effective),
            unknown: unknown(facts, effective),
            remarks,
            decision,
            why,
            by,
        }
    })
}

/// Whoever is asked besides, by a CUSTOM policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedFirst {
    /// The provider.
    pub provider: String,
    /// Whether it is asked only by what is not known.
    pub depends: bool,
}

/// What is decided, and who is asked first.
pub fn verdict(policies: &[impl Borrow<Policy>], facts: &Facts) -> (Verdict, Option<AskedFirst>) {
    let policies: Vec<&Policy> = policies.iter().map(Borrow::borrow).collect();
    let connections = for_connections(&policies, facts);
    let effective = match &connections {
        Some(connections) => connections.iter().collect(),
        None => policies,
    };
    facts.ask(|request| {
        let found = Found::among(&effective, &Scales { facts, request });
        (found.verdict().0, found.asked_first())
    })
}

/// The policies as they are for bare connections, if it is about one.
fn for_connections(policies: &[&Policy], facts: &Facts) -> Option<Vec<Policy>> {
    facts.http.is_none().then(|| policies.iter().map(|policy| policy.for_connections()).collect())
}

type At<'a> = (&'a Policy, &'a Rule);

/// Of the rules that do one thing: the first that matches, and those that may.
#[derive(Default)]
struct Matches<'a> {
    policies: usize,
    yes: Option<At<'a>>,
    maybe: Vec<At<'a>>,
}

impl Matches<'_> {
    fn truth(&self) -> Truth {
        match (self.yes, self.maybe.is_empty()) {
            (Some(_), _) => Truth::Yes,
            (None, false) => Truth::Unknown,
            (None, true) => Truth::No,
        }
    }
}

#[derive(Default)]
struct Found<'a> {
    custom: Matches<'a>,
    audit: Matches<'a>,
    deny: Matches<'a>,
    allow: Matches<'a>,
    would_deny: Matches<'a>,
    would_allow: Matches<'a>,
}

impl<'a> Found<'a> {
    fn among(policies: &[&'a Policy], scales: &Scales<'_>) -> Self {
        let mut found = Self::default();
        for &policy in policies {
            let matches = match (&policy.action, policy.dry_run) {
                (Action::Custom { .. }, false) => &mut found.custom,
                (Action::Audit, false) => &mut found.audit,
                (Action::Deny, false) => &mut found.deny,
                (Action::Allow, false) => &mut found.allow,
                (Action::Deny, true) => &mut found.would_deny,
                (Action::Allow, true) => &mut found.would_allow,
                (Action::Custom { .. } | Action::Audit, true) => continue,
            };
            matches.policies += 1;
            for rule in &policy.rules {
                match scales.rule(rule) {
                    Truth::Yes if matches.yes.is_none() => matches.yes = Some((policy, rule)),
                    Truth::Unknown => matches.maybe.push((policy, rule)),
                    Truth::Yes | Truth::No => {}
                }
            }
        }
        found
    }

    fn verdict(&self) -> (Verdict, Why) {
        let is_closed = self.allow.policies > 0;
        let allowed = if is_closed { self.allow.truth() } else { Truth::Yes };
        match (self.deny.truth(), allowed) {
            (Truth::Yes, _) => (Verdict::Deny, Why::Rule),
            (_, Truth::No) => (Verdict::Deny, Why::NoAllowingRule),
            (Truth::No, Truth::Yes) if is_closed => (Verdict::Allow, Why::Rule),
            (Truth::No, Truth::Yes) => (Verdict::Allow, Why::NoAllowingPolicy),
            (Truth::Unknown, _) | (_, Truth::Unknown) => (Verdict::Depends, Why::Unknown),
        }
    }

    fn asked_first(&self) -> Option<AskedFirst> {
        let certain = self.custom.yes.map(|at| (at, false));
        let ((policy, _), depends) = certain.or_else(|| self.custom.maybe.first().map(|at| (*at, true)))?;
        match &policy.action {
            Action::Custom { provider } => Some(AskedFirst { provider: provider.to_string(), depends }),
            _ => None,
        }
    }

    /// The rules that the verdict hangs on, those that deny first.
    fn hinges(&self, scales: &Scales<'_>) -> Vec<Weighed> {
        let allowing = match self.allow.yes {
            Some(_) => &[],
            None => self.allow.maybe.as_slice(),
        };
        let all = self.deny.maybe.iter().chain(allowing);
        all.take(MAX_HINGES).map(|(policy, rule)| scales.weigh(policy, rule)).collect()
    }

    fn besides(&self, policies: &[&Policy]) -> Vec<Beside> {
        let mut all = Vec::new();
        let mut tell = |what: Besides, matches: &Matches<'_>, says: &dyn Fn(&Policy) -> String| {
            let first = matches.yes.map(|at| (at, false));
            if let Some(((policy, rule), depends)) =
                first.or_else(|| matches.maybe.first().map(|at| (*at, true)))
            {
                let may = if depends { ", by what is not known" } else { "" };
                let rule = RuleName::of(policy, rule);
                all.push(Beside { what, rule: Some(rule), depends, says: says(policy) + may });
            }
        };
        tell(Besides::Custom, &self.custom, &|policy| match &policy.action {
            Action::Custom { provider } => format!("`{provider}` is asked first, and may deny it"),
            _ => String::new(),
        });
        tell(Besides::Audit, &self.audit, &|_| "it is written down".to_owned());
        tell(Besides::DryRunDeny, &self.would_deny, &|_| "in dry run: it would be denied".to_owned());
        tell(Besides::DryRunAllow, &self.would_allow, &|_| "in dry run: it would be allowed".to_owned());
        if self.would_allow.policies > 0 && self.would_allow.truth() == Truth::No {
            let count = policies.iter().filter(|one| one.dry_run && one.action == Action::Allow).count();
            let says = format!(
                "in dry run: it would be denied if nothing else allows it; {count} would allow and none of their rules matches"
            );
            all.push(Beside { what: Besides::DryRunAllow, rule: None, depends: false, says });
        }
        all
    }
}

/// The rule that allows and misses by the least; of several, the first.
fn nearest(policies: &[&Policy], scales: &Scales<'_>) -> Option<Weighed> {
    let allowing =
        policies.iter().copied().filter(|policy| policy.action == Action::Allow && !policy.dry_run);
    let rules = allowing.flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)));
    let apart = rules.filter_map(|(policy, rule)| Some((scales.distance(rule)?, policy, rule)));
    apart.min_by_key(|(distance, _, _)| *distance).map(|(_, policy, rule)| scales.weigh(policy, rule))
}

/// What of a policy counts for requests only.
fn dropped(whole: &Policy, narrow: &Policy) -> Vec<String> {
    let fields = |rule: &Rule| rule.conjunctions().map(|one| one.terms.len()).sum::<usize>();
    let each = whole.rules.iter().filter_map(|rule| {
        let name = format!("rule {} of {} ({})", rule.index, whole.name, whole.action.as_str());
        match narrow.rules.iter().find(|kept| kept.index == rule.index) {
            None => Some(format!("{name} asks for HTTP, and so allows nothing on a bare connection")),
            Some(kept) if fields(kept) < fields(rule) => Some(format!(
                "{name} asks for HTTP, which does not count on a bare connection: it matches more"
            )),
            Some(_) => None,
        }
    });
    each.collect()
}

/// All parts that `policies` ask about.
fn asked(policies: &[&Policy]) -> BTreeSet<Part> {
    let rules = policies.iter().flat_map(|policy| &policy.rules);
    let terms = rules.flat_map(|rule| rule.conjunctions().flat_map(|one| &one.terms));
    terms.flat_map(|term| term.values.iter().flat_map(Value::atoms)).map(Part::of).collect()
}

fn unknown(facts: &Facts, policies: &[&Policy]) -> Vec<String> {
    asked(policies).iter().filter(|part| !part.is_known(facts)).map(Part::to_string).collect()
}

/// What is known of the request: always how it was called, and whatever else a policy asks about.
fn known(facts: &Facts, policies: &[&Policy]) -> Vec<Known> {
    let mut parts = asked(policies);
    parts.extend([Part::Peer, Part::RemoteIp]);
    if facts.http.is_some() {
        parts.extend([Part::Method, Part::Path, Part::Host]);
    }
    let shown = parts.into_iter().filter_map(|part| {
        let is = part.said(facts)?;
        Some(Known { part: part.to_string(), is, remark: remark_on(&part, facts) })
    });
    shown.collect()
}

fn remark_on(part: &Part, facts: &Facts) -> String {
    match part {
        Part::Path => facts.http.as_ref().map(of_path).unwrap_or_default(),
        Part::SourceIp => "the other end of the socket".to_owned(),
        Part::RemoteIp => match (&facts.remote_ip, &facts.source_ip) {
            (facts::Fact::Known(client), facts::Fact::Known(socket)) if client == socket => {
                "the other end of the socket".to_owned()
            }
            _ => "as X-Forwarded-For or the PROXY protocol tell it, if the proxy believes them".to_owned(),
        },
        _ => String::new(),
    }
}

fn of_path(http: &facts::HttpFacts) -> String {
    let mut said = Vec::new();
    match &http.sent {
        Some((sent, form)) if http.path.known() != Some(sent) => {
            said.push(format!("sent as {sent}, normalised as `{form}`"));
        }
        Some((_, form)) => said.push(format!("normalised as `{form}`")),
        None => {}
    }
    let path = http.path.known().map_or("", String::as_str);
    if path.contains('#') {
        said.push("Envoy refuses a path with a `#` before any policy is asked".to_owned());
    } else if path.contains('?') {
        said.push("the query does not count".to_owned());
    }
    said.join("; ")
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
