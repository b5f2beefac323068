//! Pure: who could be meant by policies, and what do they let somebody do?

use std::borrow::Borrow;
use std::collections::BTreeSet;

use crate::authz::compare::setting::Setting;
use crate::authz::explain::explanation::Weighed;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::truth::Truth;
use crate::authz::explain::weigh::Scales;
use crate::authz::model::Action;
use crate::authz::model::Atom;
use crate::authz::model::Pattern;
use crate::authz::model::Policy;
use crate::authz::model::Rule;
use crate::authz::model::Value;

/// The most peers that are named.
pub const MAX_PEERS: usize = 10_000;

/// Somebody who may call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// What they are called: a SPIFFE ID, or how policies describe them.
    pub name: String,
    /// The names in their certificate; none for plain text.
    pub peer: Option<Vec<String>>,
}

/// What a rule lets somebody do, or keeps them from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The rule and its fields; of several operations of a rule, one.
    pub by: Weighed,
    /// Whether it depends on the request.
    pub depends: bool,
}

/// Everybody whom `policies` name, each once; one stands for all whom a pattern describes.
pub fn callers(policies: &[impl Borrow<Policy>]) -> Vec<Caller> {
    let rules = policies.iter().flat_map(|policy| &policy.borrow().rules);
    let terms = rules.flat_map(|rule| rule.conjunctions().flat_map(|one| &one.terms));
    let values = terms.flat_map(|term| &term.values).filter(|value| value.atoms().any(Atom::is_of_peer));
    let all: BTreeSet<Caller> = values.filter_map(caller).take(MAX_PEERS).collect();
    all.into_iter().collect()
}

fn caller(value: &Value) -> Option<Caller> {
    if matches!(value, Value::Is(Atom::Peer)) {
        return None;
    }
    let peer = Setting::witness(value).into_iter().find_map(|setting| match setting {
        Setting::Peer(peer) => peer,
        _ => None,
    })?;
    let name = match value {
        Value::Is(Atom::PeerUri(Pattern::Exact(uri))) => uri.to_string(),
        Value::Is(atom) => format!("any {atom}"),
        Value::All(_) => format!("any like {}", peer.join(", ")),
    };
    Some(Caller { name, peer: Some(peer) })
}

/// What `facts` leave open of what enforced policies that allow let, and those that deny keep from.
pub fn operations(policies: &[impl Borrow<Policy>], facts: &Facts) -> Vec<Operation> {
    facts.ask(|request| {
        let scales = Scales { facts, request };
        let mut operations = Vec::new();
        let enforced = policies.iter().map(Borrow::borrow).filter(|policy: &&Policy| !policy.dry_run);
        for policy in enforced.filter(|policy| matches!(policy.action, Action::Allow | Action::Deny)) {
            for rule in &policy.rules {
                let each = rule.to.iter().map(|one| Rule { to: vec![one.clone()], ..rule.clone() });
                for one in each {
                    let truth = scales.rule(&one);
                    if truth != Truth::No {
                        let by = scales.weigh(policy, &one);
                        operations.push(Operation { by, depends: truth == Truth::Unknown });
                    }
                }
            }
        }
        operations
    })
}

#[cfg(test)]
mod tests {
    use crate::authz::model::Conjunction;
    use crate::authz::model::Field;
    use crate::authz::model::Kind;
    use crate::authz::model::PolicyName;
    use crate::authz::model::Term;

    use super::*;

    #[test]
    fn everybody_who_is_named_is_found_once_and_patterns_have_somebody_who_stands_for_them() {
        let uri = |pattern| Value::Is(Atom::PeerUri(pattern));
        let exact = || uri(Pattern::Exact("spiffe://td/ns/a/sa/b".into()));
        let values = vec![exact(), exact(), uri(Pattern::Contains("/ns/c/".into())), Value::Is(Atom::Peer)];
        let term = Term { field: Field::List("principals"), negated: false, values };
        let from = vec![Conjunction { index: 0, terms: vec![term] }];
        let to = vec![Conjunction::default()];
        let rule = Rule { index: 0, from, to, when: Conjunction::default() };
        let name = PolicyName { kind: Kind::AuthorizationPolicy, namespace: "n".into(), name: "p".into() };
        let policy = Policy { name, action: Action::Allow, dry_run: false, rules: vec![rule] };
        let found = callers(&[&policy]);
        let names: Vec<_> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["any */ns/c/*", "spiffe://td/ns/a/sa/b"]);
        assert_eq!(operations(&[policy], &Facts::default()).len(), 1);
    }
}
