//! Pure: what is enforced for one workload, ready to be asked?

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use crate::authz::apply::Applied;
use crate::authz::model::Action;
use crate::authz::model::Atom;
use crate::authz::model::Pattern;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::policy_set::PolicySet;
use crate::authz::tally::Counts;
use crate::authz::tally::Deed;
use crate::authz::tally::Tally;
use crate::authz::tokens::Issuer;
use crate::authz::tokens::KeyBook;

/// The policies of one workload, compiled, and the issuers whose tokens it takes.
#[derive(Debug)]
pub struct Enforced {
    policies: PolicySet,
    issuers: Vec<Issuer>,
    counts: HashMap<PolicyName, Arc<Counts>>,
    headers: BTreeMap<Box<str>, Vec<Pattern>>,
    asks_for_client: bool,
}

impl Enforced {
    /// What `policies` say and `issuers` vouch for. What policies do is counted in `tally`.
    pub fn new(policies: PolicySet, issuers: Vec<Issuer>, tally: &Tally) -> Self {
        Self::counted(policies, issuers, |name| tally.counts(name))
    }

    fn counted(
        policies: PolicySet,
        issuers: Vec<Issuer>,
        counts: impl Fn(&PolicyName) -> Arc<Counts>,
    ) -> Self {
        let name = |policy: &Arc<Policy>| (policy.name.clone(), counts(&policy.name));
        let counts = policies.policies().map(name).collect();
        let mut headers: BTreeMap<Box<str>, Vec<Pattern>> = BTreeMap::new();
        let mut asks_for_client = false;
        for atom in policies.policies().filter(|policy| decides(policy)).flat_map(|policy| atoms(policy)) {
            match atom {
                Atom::Header { name, value } => headers.entry(name.clone()).or_default().push(value.clone()),
                Atom::RemoteIp(_) => asks_for_client = true,
                _ => {}
            }
        }
        for patterns in headers.values_mut() {
            patterns.sort();
            patterns.dedup();
        }
        Self { policies, issuers, counts, headers, asks_for_client }
    }

    /// What applies to a workload. What was compiled for it `before` is made use of; keys are looked up in `book`.
    pub fn of(applied: &Applied, before: Option<&Self>, book: &KeyBook, tally: &Tally) -> Self {
        let policies = match before {
            Some(before) => before.policies.with(applied.policies.clone()),
            None => PolicySet::new(applied.policies.clone()),
        };
        let issuers = applied.authentication.iter().map(|issuer| Issuer::of(issuer, book)).collect();
        let known = |name: &PolicyName| before.and_then(|before| before.counts.get(name)).cloned();
        Self::counted(policies, issuers, |name| known(name).unwrap_or_else(|| tally.counts(name)))
    }

    /// The policies.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// The issuers whose tokens are taken.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// The values that policies look for in the header of this name, which is in lower case.
    pub(super) fn asked_of(&self, header: &str) -> &[Pattern] {
        self.headers.get(header).map_or(&[], Vec::as_slice)
    }

    /// Whether a policy asks for the client's address, as a proxy in between tells it.
    pub(super) fn asks_for_client(&self) -> bool {
        self.asks_for_client
    }

    /// Counts what a policy did.
    pub(super) fn count(&self, policy: &PolicyName, deed: Deed) {
        if let Some(counts) = self.counts.get(policy) {
            counts.add(deed);
        }
    }

    /// Counts, for each policy in dry run that would allow some, that it would not have allowed this.
    pub(super) fn count_unmatched(&self) {
        let allowing = |policy: &&Arc<Policy>| policy.dry_run && policy.action == Action::Allow;
        for policy in self.policies.policies().filter(allowing) {
            self.count(&policy.name, Deed::WouldDeny);
        }
    }
}

/// Whether the answer depends on it.
fn decides(policy: &Policy) -> bool {
    !policy.dry_run && policy.action != Action::Audit
}

fn atoms(policy: &Policy) -> impl Iterator<Item = &Atom> {
    let terms = policy.rules.iter().flat_map(|rule| rule.conjunctions()).flat_map(|one| &one.terms);
    terms.flat_map(|term| &term.values).flat_map(|value| value.atoms())
}
