//! Pure: can a long list of peers be looked up in one step?
//!
//! A map of names decides as the rules do, as long as certificates have one URI name each, as SPIFFE and this CA have it. Envoy looks
//! up all the URI names of a certificate as one text, with commas between them; so a name with a comma never goes into a map, and a
//! certificate with several names is found nowhere. For policies that allow, that is less; for those that deny it would be a way
//! around them, so they are never made into a map.

use std::collections::BTreeSet;
use std::collections::HashMap;

use prost::Message;
use prost::Name;

use crate::authz::model::Atom;
use crate::authz::model::Conjunction;
use crate::authz::model::Pattern;
use crate::authz::model::Policy;
use crate::authz::model::Rule;
use crate::authz::model::Value;
use crate::proto::envoy::Any;
use crate::proto::filters::MatchExtension;
use crate::proto::filters::Matcher;
use crate::proto::filters::RulesAction;
use crate::proto::filters::UriSanInput;
use crate::proto::filters::Verdict;
use crate::proto::filters::matcher;
use crate::proto::filters::matcher::OnMatch;
use crate::proto::filters::matcher::matcher_tree::MatchMap;
use crate::proto::filters::matcher::matcher_tree::TreeType;

/// From so many names on. Measured on a request of 0.19 ms: a list of 100 names adds 0.04 ms, one of 1,000 adds 0.14 ms and one of
/// 5,000 some milliseconds, a map of 5,000 nothing that could be seen; but a map takes three times the bytes.
const LEAST: usize = 100;

/// The map for these policies, if they ask for nothing but exact names, and for so many of them that it is worth it.
pub(super) fn map(policies: &[&Policy]) -> Option<Matcher> {
    let mut names = BTreeSet::new();
    for rule in policies.iter().flat_map(|policy| &policy.rules) {
        names.extend(exact_peers(rule)?);
    }
    if names.len() < LEAST {
        return None;
    }
    let one = |name: &str| (name.to_owned(), verdict("peer", RulesAction::Allow));
    let tree = matcher::MatcherTree {
        input: Some(extension("peer", &UriSanInput::default())),
        tree_type: Some(TreeType::ExactMatchMap(MatchMap {
            map: names.into_iter().map(one).collect::<HashMap<_, _>>(),
        })),
    };
    Some(Matcher {
        on_no_match: Some(Box::new(verdict("no peer", RulesAction::Deny))),
        matcher_type: Some(matcher::MatcherType::MatcherTree(tree)),
    })
}

/// The names that a rule asks for, if it asks for nothing else.
fn exact_peers(rule: &Rule) -> Option<Vec<&str>> {
    let is_open = rule.to.iter().any(|to| to.terms.is_empty()) && rule.when.terms.is_empty();
    if !is_open {
        return None;
    }
    let each: Option<Vec<Vec<&str>>> = rule.from.iter().map(names).collect();
    Some(each?.concat())
}

fn names(from: &Conjunction) -> Option<Vec<&str>> {
    let [term] = from.terms.as_slice() else { return None };
    let exact = |value| match value {
        &Value::Is(Atom::PeerUri(Pattern::Exact(ref name))) if !name.contains(',') => Some(&**name),
        _ => None,
    };
    if term.negated { None } else { term.values.iter().map(exact).collect() }
}

fn verdict(name: &str, action: RulesAction) -> OnMatch {
    let verdict = Verdict { name: name.to_owned(), action: action.into() };
    let on_match = matcher::on_match::OnMatch::Action(extension("verdict", &verdict));
    OnMatch { keep_matching: false, on_match: Some(on_match) }
}

fn extension<M: Message + Name>(name: &str, message: &M) -> MatchExtension {
    let config = Any { type_url: M::type_url(), value: message.encode_to_vec() };
    MatchExtension { name: name.to_owned(), typed_config: Some(config) }
}
