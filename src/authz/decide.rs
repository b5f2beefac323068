//! Pure: may it? The order of Istio: custom, deny, allow; and what would have been.

use std::borrow::Borrow;
use std::sync::Arc;

use crate::authz::model::Action;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::request::Request;

/// A compiled, immutable set of the policies that apply to one workload.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: Vec<Arc<Policy>>,
    connections: Vec<Arc<Policy>>,
}

/// What is decided. It holds no texts: [`PolicySet::rule`] names what it points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may.
    pub effect: Effect,
    /// Why.
    pub by: By,
    /// If a `CUSTOM` rule matches: whoever is named there must be asked first, and may deny what would be allowed.
    pub custom: Option<RuleRef>,
    /// If an `AUDIT` rule matches: the first.
    pub audit: Option<RuleRef>,
    /// What the policies that only say what would happen say.
    pub dry_run: DryRun,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// Why it is decided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// This rule matches, which allows or denies.
    Rule(RuleRef),
    /// There are policies that allow, and none of their rules matches.
    NoAllowingRule,
    /// There are no policies that allow, so everything is allowed that is not denied.
    NoAllowingPolicy,
}

/// What would be, if the policies in dry run were enforced (each kind for itself, as Envoy's shadow rules).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DryRun {
    /// The rule that would deny.
    pub deny: Option<RuleRef>,
    /// If there are policies that would allow: the rule that does, or `Some(None)` if none of them does.
    pub allow: Option<Option<RuleRef>>,
}

/// A rule of a policy of a [`PolicySet`], by its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef {
    /// The policy's place.
    pub policy: u32,
    /// The rule's place in [`Policy::rules`]; not the same as [`Rule::index`].
    pub rule: u32,
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
    /// Compiles the policies that apply to one workload.
    pub fn new(policies: Vec<Arc<Policy>>) -> Self {
        let connections = policies.iter().map(|policy| Arc::new(policy.for_connections())).collect();
        Self { policies, connections }
    }

    /// The policies, in the order that [`RuleRef::policy`] counts.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// Decides on a request, or on a connection if it has no HTTP part.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        walk(if request.http.is_some() { &self.policies } else { &self.connections }, request)
    }

    /// The rule that a decision on `request` points at.
    pub fn rule(&self, request: &Request<'_>, at: RuleRef) -> Option<Found<'_>> {
        let policies = if request.http.is_some() { &self.policies } else { &self.connections };
        let policy = policies.get(at.policy as usize)?;
        Some(Found { policy, rule: policy.rules.get(at.rule as usize)? })
    }
}

impl Found<'_> {
    /// The object that the policy comes from.
    pub fn name(&self) -> &PolicyName {
        &self.policy.name
    }
}

/// Decides by walking through all rules: the definition, slow and simple.
pub fn walk(policies: &[impl Borrow<Policy>], request: &Request<'_>) -> Decision {
    let first = |action: fn(&Action) -> bool, dry_run: bool| {
        let of_kind = |policy: &Policy| action(&policy.action) && policy.dry_run == dry_run;
        let mut is_any = false;
        for (at, policy) in
            policies.iter().map(Borrow::borrow).enumerate().filter(|(_, policy)| of_kind(policy))
        {
            is_any = true;
            if let Some(rule) = policy.rules.iter().position(|rule| rule.holds(request)) {
                let place = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                return (true, Some(RuleRef { policy: place(at), rule: place(rule) }));
            }
        }
        (is_any, None)
    };
    let (_, custom) = first(|action| matches!(action, Action::Custom { .. }), false);
    let (_, audit) = first(|action| *action == Action::Audit, false);
    let (_, deny) = first(|action| *action == Action::Deny, false);
    let (is_closed, allow) = first(|action| *action == Action::Allow, false);
    let (_, would_deny) = first(|action| *action == Action::Deny, true);
    let (would_close, would_allow) = first(|action| *action == Action::Allow, true);
    let (effect, by) = match (deny, is_closed, allow) {
        (Some(rule), _, _) => (Effect::Deny, By::Rule(rule)),
        (None, true, Some(rule)) => (Effect::Allow, By::Rule(rule)),
        (None, true, None) => (Effect::Deny, By::NoAllowingRule),
        (None, false, _) => (Effect::Allow, By::NoAllowingPolicy),
    };
    let dry_run = DryRun { deny: would_deny, allow: would_close.then_some(would_allow) };
    Decision { effect, by, custom, audit, dry_run }
}
