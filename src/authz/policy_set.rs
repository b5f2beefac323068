//! Pure: the policies of one workload, compiled, and what they decide.
//!
//! A change of a few among many policies does not compile the many anew: those that changed are hidden in the compiled set, and what they
//! are now is compiled as a thin layer above it. When the layer is no longer thin, all of it is compiled anew.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::authz::decide::Decision;
use crate::authz::decide::Matches;
use crate::authz::decide::RuleRef;
use crate::authz::layer::Layer;
use crate::authz::matcher::Lane;
use crate::authz::matcher::hidden::Hidden;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::request::Request;

/// So many policies are compiled in less than a millisecond.
const THIN: usize = 128;

/// A compiled, immutable set of the policies that apply to one workload. Any number of threads may ask it at once.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    base: Arc<Layer>,
    /// What of it has changed or is gone.
    hidden: Hidden,
    /// What has changed or is new.
    top: Arc<Layer>,
    closes: bool,
    would_close: bool,
}

/// A rule that a decision points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its policy.
    pub policy: &'a Policy,
    /// The rule.
    pub rule: &'a Rule,
}

impl PolicySet {
    /// Compiles the policies that apply to one workload. Their order does not matter: where several rules decide, the first by name of
    /// policy is named.
    pub fn new(policies: Vec<Arc<Policy>>) -> Self {
        Self::of(Arc::new(Layer::new(policies)), Hidden::default(), Arc::default())
    }

    /// The same set with other policies. What is compiled already is kept, if most of them are the same (the same `Arc`).
    #[must_use]
    pub fn with(&self, policies: Vec<Arc<Policy>>) -> Self {
        let kept: HashSet<*const Policy, FixedState> = policies.iter().map(Arc::as_ptr).collect();
        let (mut hidden, mut known) = (Hidden::default(), HashSet::<*const Policy, FixedState>::default());
        for (place, policy) in (0..).zip(self.base.policies()) {
            match kept.contains(&Arc::as_ptr(policy)) {
                true => {
                    known.insert(Arc::as_ptr(policy));
                }
                false => hidden.hide(place),
            }
        }
        let is_new = |policy: &&Arc<Policy>| !known.contains(&Arc::as_ptr(policy));
        let new: Vec<_> = policies.iter().filter(is_new).cloned().collect();
        match new.len() + hidden.count() <= THIN {
            true => Self::of(self.base.clone(), hidden, Arc::new(Layer::new(new))),
            false => Self::new(policies),
        }
    }

    fn of(base: Arc<Layer>, hidden: Hidden, top: Arc<Layer>) -> Self {
        let is_any = |lane| base.count(lane, &hidden) + top.count(lane, &Hidden::default()) > 0;
        let (closes, would_close) = (is_any(Lane::Allow), is_any(Lane::WouldAllow));
        Self { base, hidden, top, closes, would_close }
    }

    /// The policies.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        let base = (0..).zip(self.base.policies()).filter(|(place, _)| !self.hidden.contains(*place));
        base.map(|(_, policy)| policy).chain(self.top.policies())
    }

    /// Decides on a request, or on a connection if it has no HTTP part. It asks for no memory, once a thread has decided a few times.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let mut found = self.base.find(request, &self.hidden);
        if !self.top.policies().is_empty() {
            let below = u32::try_from(self.base.policies().len()).unwrap_or(u32::MAX);
            for (found, above) in found.iter_mut().zip(self.top.find(request, &Hidden::default())) {
                let above = above.map(|at| RuleRef { policy: at.policy.saturating_add(below), ..at });
                *found = self.first(request, *found, above);
            }
        }
        let [custom, audit, deny, allow, would_deny, would_allow] = found;
        Decision::from(Matches {
            custom,
            audit,
            deny,
            allow: self.closes.then_some(allow),
            would_deny,
            would_allow: self.would_close.then_some(would_allow),
        })
    }

    /// The rule that a decision on `request` points at.
    pub fn rule(&self, request: &Request<'_>, at: RuleRef) -> Option<Found<'_>> {
        let policy = self.policy(request, at.policy)?;
        Some(Found { policy, rule: policy.rules.get(at.rule as usize)? })
    }

    /// The memory that the compiled form takes beside the policies, in bytes, about.
    pub fn size(&self) -> usize {
        self.base.size() + self.top.size()
    }

    fn policy(&self, request: &Request<'_>, place: u32) -> Option<&Policy> {
        match (place as usize).checked_sub(self.base.policies().len()) {
            None => self.base.policy(request, place),
            Some(above) => self.top.policy(request, u32::try_from(above).ok()?),
        }
    }

    /// Of two rules that match, that of the policy whose name comes first.
    fn first(
        &self,
        request: &Request<'_>,
        below: Option<RuleRef>,
        above: Option<RuleRef>,
    ) -> Option<RuleRef> {
        let name = |at: Option<RuleRef>| self.policy(request, at?.policy).map(|policy| &policy.name);
        match (name(below), name(above)) {
            (Some(one), Some(other)) if one.cmp(other) == Ordering::Greater => above,
            (Some(_), _) => below,
            (None, _) => above,
        }
    }
}

impl Found<'_> {
    /// The object that the policy comes from.
    pub fn name(&self) -> &PolicyName {
        &self.policy.name
    }
}
