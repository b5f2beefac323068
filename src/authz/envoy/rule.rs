//! Pure: which of Envoy's policies say the same as one rule?
//!
//! One of Envoy's policies matches if any of its permissions and any of its principals does. `from` makes the principals, `to` the
//! permissions, and each term of `when` goes where Envoy can ask it, beside all of that side. Where something in `from` can only be
//! asked of permissions, or the other way round, each pair of one `from` and one `to` makes a policy of its own, for in a pair every
//! term may stand on its own side.

use crate::authz::envoy::side::Side;
use crate::authz::model::Atom;
use crate::authz::model::Conjunction;
use crate::authz::model::Rule;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::proto::filters::Permission;
use crate::proto::filters::Policy;
use crate::proto::filters::Principal;

/// The most pairs of `from` and `to` that one rule may make. Each is read by Envoy for every request.
const MAX_PAIRS: usize = 1024;

/// Why a rule cannot be said to Envoy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unspeakable {
    /// A field with values for both sides.
    #[error(
        "`{0}` asks in one list for things that Envoy asks of the request and of the peer; write them as two rules"
    )]
    TwoSided(String),
    /// Too many pairs.
    #[error(
        "its {0} pairs of `from` and `to` are more than {MAX_PAIRS}, and they cannot be told apart for Envoy; split the rule"
    )]
    TooMany(usize),
}

/// The policies for `rule`, in its order.
///
/// # Errors
/// As the variants say. Rules read from Istio's objects never have either fault.
pub(super) fn policies(rule: &Rule) -> Result<Vec<Policy>, Unspeakable> {
    let is_sided = rule.from.iter().all(Principal::takes_all) && rule.to.iter().all(Permission::takes_all);
    if is_sided {
        let when = Split::of(&rule.when.terms)?;
        let permissions = rule.to.iter().filter_map(conjunction).collect();
        let principals = rule.from.iter().filter_map(conjunction).collect();
        return Ok(vec![policy(when, permissions, principals)]);
    }
    let count = rule.from.len().saturating_mul(rule.to.len());
    if count > MAX_PAIRS {
        return Err(Unspeakable::TooMany(count));
    }
    let pairs = rule.from.iter().flat_map(|from| rule.to.iter().map(move |to| (from, to)));
    let one = |(from, to): (&Conjunction, &Conjunction)| {
        let terms = from.terms.iter().chain(&to.terms).chain(&rule.when.terms);
        Ok(policy(Split::of(terms)?, vec![Permission::always()], vec![Principal::always()]))
    };
    pairs.map(one).collect()
}

/// Terms that all have to hold, by the side they are asked on.
#[derive(Default)]
struct Split {
    permissions: Vec<Permission>,
    principals: Vec<Principal>,
}

impl Split {
    fn of<'a>(terms: impl IntoIterator<Item = &'a Term>) -> Result<Self, Unspeakable> {
        let mut split = Self::default();
        for term in terms {
            let (permission, principal) = match is_of_request(term) {
                true => (Permission::term(term), None),
                false => (None, Principal::term(term)),
            };
            match (permission, principal) {
                (Some(permission), _) => split.permissions.push(permission),
                (None, Some(principal)) => split.principals.push(principal),
                // Not where it is at home, but perhaps on the other side.
                (None, None) => match Permission::term(term) {
                    Some(permission) => split.permissions.push(permission),
                    None => return Err(Unspeakable::TwoSided(term.field.to_string())),
                },
            }
        }
        Ok(split)
    }
}

/// Whether a term asks what a request wants, and of whom, rather than whose it is.
fn is_of_request(term: &Term) -> bool {
    let of_request = |atom: &Atom| match atom {
        Atom::Host(_)
        | Atom::Method(_)
        | Atom::Path(_)
        | Atom::PathTemplate(_)
        | Atom::DestinationIp(_)
        | Atom::DestinationPort(_)
        | Atom::Sni(_) => true,
        Atom::Peer
        | Atom::PeerUri(_)
        | Atom::PeerIsWorkload
        | Atom::SourceIp(_)
        | Atom::RemoteIp(_)
        | Atom::Header { .. }
        | Atom::Metadata { .. } => false,
    };
    term.values.iter().flat_map(Value::atoms).all(of_request)
}

fn conjunction<S: Side>(conjunction: &Conjunction) -> Option<S> {
    Some(S::all(conjunction.terms.iter().map(S::term).collect::<Option<_>>()?))
}

/// `when` and any of the permissions, `when` and any of the principals.
fn policy(when: Split, permissions: Vec<Permission>, principals: Vec<Principal>) -> Policy {
    Policy {
        permissions: beside(when.permissions, permissions),
        principals: beside(when.principals, principals),
        ..Policy::default()
    }
}

/// The list of which any has to hold, so that all of `asked` hold too.
fn beside<S: Side>(mut asked: Vec<S>, list: Vec<S>) -> Vec<S> {
    if asked.is_empty() && !list.is_empty() {
        return list;
    }
    if !list.iter().any(S::is_always) {
        asked.push(S::any(list));
    }
    vec![S::all(asked)]
}
