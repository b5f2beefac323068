//! Pure: may it? What is decided once it is known which rules match: Istio's order is custom, deny, allow.

use std::borrow::Borrow;

use crate::authz::model::Action;
use crate::authz::model::Policy;
use crate::authz::request::Request;

/// What is decided. It holds no texts: [`crate::authz::PolicySet::rule`] names what it points at.
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

/// A rule of a policy of a set, by its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef {
    /// The policy's place.
    pub policy: u32,
    /// The rule's place in [`Policy::rules`]; not the same as [`crate::authz::model::Rule::index`].
    pub rule: u32,
}

/// The first rule that matches, of each kind of policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Of `CUSTOM` policies.
    pub custom: Option<RuleRef>,
    /// Of `AUDIT` policies.
    pub audit: Option<RuleRef>,
    /// Of `DENY` policies.
    pub deny: Option<RuleRef>,
    /// Of `ALLOW` policies; `None` if there are none of these.
    pub allow: Option<Option<RuleRef>>,
    /// Of `DENY` policies in dry run.
    pub would_deny: Option<RuleRef>,
    /// Of `ALLOW` policies in dry run; `None` if there are none of these.
    pub would_allow: Option<Option<RuleRef>>,
}

impl From<Matches> for Decision {
    /// Istio's order: what is denied is denied, and what is not allowed is, where anything is allowed by name.
    fn from(found: Matches) -> Self {
        let (effect, by) = match (found.deny, found.allow) {
            (Some(rule), _) => (Effect::Deny, By::Rule(rule)),
            (None, Some(Some(rule))) => (Effect::Allow, By::Rule(rule)),
            (None, Some(None)) => (Effect::Deny, By::NoAllowingRule),
            (None, None) => (Effect::Allow, By::NoAllowingPolicy),
        };
        let dry_run = DryRun { deny: found.would_deny, allow: found.would_allow };
        Self { effect, by, custom: found.custom, audit: found.audit, dry_run }
    }
}

/// Decides by walking through all rules: the definition, slow and simple.
pub fn walk(policies: &[impl Borrow<Policy>], request: &Request<'_>) -> Decision {
    let mut found = Matches::default();
    for (policy, place) in policies.iter().map(Borrow::borrow).zip(0..) {
        let rule = policy.rules.iter().zip(0..).find(|(rule, _)| rule.holds(request));
        let at = rule.map(|(_, rule)| RuleRef { policy: place, rule });
        let first = |known: &mut Option<RuleRef>| *known = known.or(at);
        match (&policy.action, policy.dry_run) {
            (Action::Custom { .. }, _) => first(&mut found.custom),
            (Action::Audit, _) => first(&mut found.audit),
            (Action::Deny, false) => first(&mut found.deny),
            (Action::Deny, true) => first(&mut found.would_deny),
            (Action::Allow, false) => first(found.allow.get_or_insert(None)),
            (Action::Allow, true) => first(found.would_allow.get_or_insert(None)),
        }
    }
    found.into()
}
