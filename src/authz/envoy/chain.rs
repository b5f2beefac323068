//! Pure: which filters decide as the policies of one workload say, and in which order?
//!
//! ```text
//! CUSTOM   for each authorizer: a filter that finds out whether it is to be asked, and one that asks it
//! tokens   verifies them, so that policies can ask for their claims
//! AUDIT    writes down
//! DENY     denies what matches; beside it, what would be denied by policies in dry run
//! ALLOW    denies what does not match, if there is a policy that allows; beside it, the same for dry run
//! ```
//!
//! Envoy's filter of rules has one action, and without any rules allows everything. So a filter is made exactly where there are
//! policies of its kind, and a policy that allows nothing stands in it as one that never matches.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::authz::envoy::custom;
use crate::authz::envoy::custom::Provider;
use crate::authz::envoy::filter::Filter;
use crate::authz::envoy::filter::Layer;
use crate::authz::envoy::filter::Slot;
use crate::authz::envoy::lint;
use crate::authz::envoy::peers;
use crate::authz::envoy::rule;
use crate::authz::envoy::rule::Unspeakable;
use crate::authz::envoy::side::Side;
use crate::authz::envoy::tokens;
use crate::authz::envoy::tokens::Jwks;
use crate::authz::jwt_issuer::JwtIssuer;
use crate::authz::model::Action;
use crate::authz::model::Kind;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::proto::filters;
use crate::proto::filters::Permission;
use crate::proto::filters::Principal;
use crate::proto::filters::Rules;
use crate::proto::filters::RulesAction;

/// What the policies do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Who is asked, by the names that `CUSTOM` policies use.
    pub providers: BTreeMap<String, Provider>,
    /// Whose tokens are believed.
    pub issuers: Vec<JwtIssuer>,
    /// The keys of those of them that do not have them in their object, by issuer. Of one who is missing here no token is good.
    pub jwks: BTreeMap<String, Jwks>,
    /// How long lists of peers are written.
    pub peers: Peers,
}

/// How long lists of peers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peers {
    /// As rules. Envoy reads them one by one, and a certificate with several URI names is each of them, as in
    /// [`crate::authz::PolicySet::decide`].
    #[default]
    Rules,
    /// Where the policies that allow ask for nothing but exact names, and for many of them: as a map, which Envoy looks up in one
    /// step. A certificate with several URI names is then none of them, so less is allowed; and the map takes the name of a
    /// certificate for what it says, so the listener must refuse certificates that it cannot verify.
    Map,
}

/// The filters of a workload, in the order in which Envoy must run them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// Those that ask others. They stand before the filter that verifies tokens, so that whoever is asked may bring one.
    pub custom: Vec<Filter>,
    /// The one that verifies tokens, if any are believed.
    pub tokens: Option<Filter>,
    /// Those that decide.
    pub rules: Vec<Filter>,
}

/// Why there is no chain for these policies. Nothing is then sent, and what was sent before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A rule that cannot be said.
    #[error("policy `{policy}`, rule {rule}: {why}")]
    Rule {
        /// The policy.
        policy: PolicyName,
        /// The rule's place in its object.
        rule: usize,
        /// Why not.
        #[source]
        why: Unspeakable,
    },
    /// A rule about a token, before there is one.
    #[error(
        "policy `{policy}`, rule {rule}: a `CUSTOM` policy cannot ask for the claims of a token, for the authorizer is asked before the token is verified; ask for it in an `ALLOW` policy"
    )]
    TooEarly {
        /// The policy.
        policy: PolicyName,
        /// The rule's place in its object.
        rule: usize,
    },
    /// Something that Envoy would refuse, misread or die of.
    #[error(transparent)]
    Unsound(#[from] lint::Unsound),
}

/// Makes the filters for the policies that apply to a workload.
///
/// # Errors
/// As the variants say.
pub fn compile<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    layer: Layer,
    options: &Options,
) -> Result<Chain, Refusal> {
    let policies = policies.into_iter();
    let policies: Vec<Cow<'_, Policy>> = match layer {
        Layer::Requests => policies.map(Cow::Borrowed).collect(),
        Layer::Connections => policies.map(|policy| Cow::Owned(policy.for_connections())).collect(),
    };
    let policies: Vec<&Policy> = policies.iter().map(Cow::as_ref).collect();
    let custom = asking(&policies, layer, options)?;
    let tokens = match layer {
        Layer::Requests => tokens::verifying(&options.issuers, &options.jwks),
        Layer::Connections => None,
    };
    let chain = Chain { custom, tokens, rules: deciding(&policies, layer, options)? };
    chain.in_order().try_for_each(lint::filter)?;
    Ok(chain)
}

impl Chain {
    /// All of them.
    pub fn in_order(&self) -> impl Iterator<Item = &Filter> {
        self.custom.iter().chain(&self.tokens).chain(&self.rules)
    }

    /// The filter of that place.
    pub fn at(&self, slot: Slot) -> Option<&Filter> {
        self.in_order().find(|filter| filter.slot == slot)
    }
}

/// A pair of filters for each authorizer; for one that nobody knows, a filter that denies.
fn asking(policies: &[&Policy], layer: Layer, options: &Options) -> Result<Vec<Filter>, Refusal> {
    let mut by_provider: BTreeMap<&str, Vec<&Policy>> = BTreeMap::new();
    for policy in policies {
        if let (Action::Custom { provider }, false) = (&policy.action, policy.dry_run) {
            by_provider.entry(provider).or_default().push(policy);
        }
    }
    let mut filters = Vec::new();
    for (place, (name, policies)) in by_provider.into_iter().enumerate() {
        if let Some((policy, rule)) = custom::of_token(&policies) {
            return Err(Refusal::TooEarly { policy: policy.clone(), rule: rule.index });
        }
        let rules = rules(RulesAction::Deny, &policies, &custom::prefix(name))?;
        match options.providers.get(name) {
            Some(provider) => {
                filters.push(Filter::of_rules(layer, Slot::Custom(place), None, Some(rules)));
                filters.push(custom::ask(layer, place, name, provider));
            }
            None => filters.push(Filter::of_rules(layer, Slot::Custom(place), Some(rules), None)),
        }
    }
    Ok(filters)
}

fn deciding(policies: &[&Policy], layer: Layer, options: &Options) -> Result<Vec<Filter>, Refusal> {
    let of = |action: &Action, dry_run: bool| -> Vec<&Policy> {
        let is_meant = |policy: &&&Policy| policy.action == *action && policy.dry_run == dry_run;
        policies.iter().filter(is_meant).copied().collect()
    };
    let some_rules = |action: RulesAction, policies: &[&Policy]| {
        if policies.is_empty() { Ok(None) } else { rules(action, policies, "").map(Some) }
    };
    let mut filters = Vec::new();
    for (slot, action, word) in [
        (Slot::Audit, Action::Audit, RulesAction::Log),
        (Slot::Deny, Action::Deny, RulesAction::Deny),
        (Slot::Allow, Action::Allow, RulesAction::Allow),
    ] {
        let enforced = of(&action, false);
        let in_dry_run = if slot == Slot::Audit { Vec::new() } else { of(&action, true) };
        let (rules, shadow) = (some_rules(word, &enforced)?, some_rules(word, &in_dry_run)?);
        if rules.is_none() && shadow.is_none() {
            continue;
        }
        let map =
            (slot == Slot::Allow && options.peers == Peers::Map).then(|| peers::map(&enforced)).flatten();
        let mut filter = Filter::of_rules(layer, slot, rules, shadow);
        if let Some(map) = map {
            filter.replace_rules(map);
        }
        filters.push(filter);
    }
    Ok(filters)
}

/// The rules of policies of one kind. Each name stands once: a second one would take the place of the first.
fn rules(action: RulesAction, policies: &[&Policy], prefix: &str) -> Result<Rules, Refusal> {
    let mut named: HashMap<String, filters::Policy> = HashMap::new();
    for policy in policies {
        if policy.rules.is_empty() {
            insert(&mut named, rule_name(prefix, policy, 0), never());
        }
        for rule in &policy.rules {
            let made = rule::policies(rule).map_err(|why| Refusal::Rule {
                policy: policy.name.clone(),
                rule: rule.index,
                why,
            })?;
            for one in made {
                insert(&mut named, rule_name(prefix, policy, rule.index), one);
            }
        }
    }
    Ok(Rules { action: action.into(), policies: named, ..Rules::default() })
}

fn insert(named: &mut HashMap<String, filters::Policy>, name: String, policy: filters::Policy) {
    let mut free = name.clone();
    let mut count = 1;
    while named.contains_key(&free) {
        count += 1;
        free = format!("{name}-{count}");
    }
    named.insert(free, policy);
}

/// What Istio calls a rule; and the same for what Istio no longer has.
fn rule_name(prefix: &str, policy: &Policy, rule: usize) -> String {
    let PolicyName { kind, namespace, name } = &policy.name;
    let kind = match kind {
        Kind::AuthorizationPolicy => "policy",
        Kind::ServiceRoleBinding => "binding",
        Kind::RbacConfig => "config",
    };
    format!("{prefix}ns[{namespace}]-{kind}[{name}]-rule[{rule}]")
}

/// A policy that matches nothing.
fn never() -> filters::Policy {
    filters::Policy {
        permissions: vec![Permission::always().not()],
        principals: vec![Principal::always().not()],
        ..filters::Policy::default()
    }
}
