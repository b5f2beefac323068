//! Pure: what is told of a decision?

use serde::Serialize;

use crate::authz::model::Action;
use crate::authz::model::Kind;
use crate::authz::model::Policy;
use crate::authz::model::Rule;

/// What is decided, as far as what is known decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
    /// What is not known decides.
    Depends,
}

/// Why it is decided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A rule matches, which allows or denies.
    Rule,
    /// There are policies that allow, and none of their rules matches.
    NoAllowingRule,
    /// There are no policies that allow, so everything is allowed that is not denied.
    NoAllowingPolicy,
    /// Some rules match or do not, by what is not known.
    Unknown,
}

/// A decision with its reasons. Its [`std::fmt::Display`] is for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What is decided.
    pub decision: Verdict,
    /// Why.
    pub why: Why,
    /// The rule that matches, if one decides, with the fields that it matches by.
    pub by: Option<Weighed>,
    /// If no rule that allows matches: the one that misses by the least.
    pub nearest: Option<Weighed>,
    /// If what is not known decides: the rules it decides about.
    pub depends_on: Vec<Weighed>,
    /// What happens besides: who else is asked, what is written down, what would be in a dry run.
    pub besides: Vec<Beside>,
    /// How many policies there are, by what they do.
    pub policies: Counts,
    /// What is known of the request, in words.
    pub request: Vec<Known>,
    /// What is not known and is asked for by a policy.
    pub unknown: Vec<String>,
    /// What else ought to be known.
    pub remarks: Vec<String>,
}

/// How many policies are enforced or in dry run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Enforced ones that allow.
    pub allow: usize,
    /// Enforced ones that deny.
    pub deny: usize,
    /// Those that have somebody else asked.
    pub custom: usize,
    /// Those that have something written down.
    pub audit: usize,
    /// Those that only say what would be.
    pub dry_run: usize,
}

/// A rule, by its place in its object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RuleName {
    /// What kind of object.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it does: `ALLOW`, `DENY`, `AUDIT`, `CUSTOM`.
    pub action: &'static str,
    /// Which of its rules, from zero; of a binding, which of its role's.
    pub rule: usize,
}

/// A rule and how its fields come out; of several sources or operations, the ones that come out best.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weighed {
    /// Which rule.
    #[serde(flatten)]
    pub rule: RuleName,
    /// Its fields.
    pub fields: Vec<Asked>,
}

/// How a field comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Met,
    /// It does not.
    Missed,
    /// That is not known.
    Unknown,
}

/// What a field asks for, and what there was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Where it stands in its object.
    pub path: String,
    /// How it comes out.
    pub outcome: Outcome,
    /// Whether none of the values may be, instead of one of them.
    pub negated: bool,
    /// The values, as the author wrote them.
    pub values: Vec<String>,
    /// The value that holds, if one does.
    pub matched: Option<String>,
    /// The part of the request that is asked about.
    pub part: String,
    /// What it says; none if it is not known.
    pub was: Option<String>,
    /// If it is missed by a hair: by which.
    pub remark: Option<String>,
}

/// What happens besides the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Beside {
    /// What it is.
    pub what: Besides,
    /// The rule; none if what happens is that no rule matches.
    pub rule: Option<RuleName>,
    /// Whether that depends on what is not known.
    pub depends: bool,
    /// In words.
    pub says: String,
}

/// What may happen besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Besides {
    /// Somebody else is asked first.
    Custom,
    /// It is written down.
    Audit,
    /// A policy in dry run would deny it.
    DryRunDeny,
    /// A policy in dry run would allow it, or all of those that could would not.
    DryRunAllow,
}

/// A part of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Which.
    pub part: String,
    /// What it says.
    pub is: String,
    /// What ought to be known of it; may be empty.
    pub remark: String,
}

impl RuleName {
    /// The name of `rule` of `policy`.
    pub fn of(policy: &Policy, rule: &Rule) -> Self {
        Self {
            kind: policy.name.kind.as_str(),
            namespace: policy.name.namespace.to_string(),
            name: policy.name.name.to_string(),
            action: policy.action.as_str(),
            // A binding's rules come in pairs, see `lower::roles`.
            rule: match policy.name.kind {
                Kind::ServiceRoleBinding => rule.index / 2,
                Kind::AuthorizationPolicy | Kind::RbacConfig => rule.index,
            },
        }
    }
}

impl Counts {
    /// Counts `policies`.
    pub fn of(policies: &[&Policy]) -> Self {
        let mut counts = Self::default();
        for policy in policies {
            let count = match (&policy.action, policy.dry_run) {
                (_, true) => &mut counts.dry_run,
                (Action::Allow, false) => &mut counts.allow,
                (Action::Deny, false) => &mut counts.deny,
                (Action::Custom { .. }, false) => &mut counts.custom,
                (Action::Audit, false) => &mut counts.audit,
            };
            *count += 1;
        }
        counts
    }
}
