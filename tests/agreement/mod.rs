//! Whether a real Envoy decides as we do: generated policies, compiled, and generated requests, sent through it.
//!
//! Sets of policies are loaded many at a time, so that one start of Envoy tests thousands of pairs. Not only the verdict is compared:
//! Envoy also tells by which rule it decided, and what the rules in dry run, in `AUDIT` and in `CUSTOM` policies say.

mod dice;
mod identities;
mod policies;
mod requests;
mod stage;
mod wire;

use std::net::SocketAddr;

use burgrave::authz::By;
use burgrave::authz::Decision;
use burgrave::authz::Effect;
use burgrave::authz::PolicySet;
use burgrave::authz::RuleRef;
use burgrave::authz::envoy::Layer;
use burgrave::authz::envoy::Options;
use burgrave::authz::envoy::Provider;
use burgrave::authz::envoy::compile;
use burgrave::authz::model::Action;
use burgrave::authz::model::Kind;
use burgrave::authz::model::Policy;

use dice::Dice;
use identities::Identities;
use policies::Author;
use policies::PROVIDERS;
use requests::Asked;
use requests::Caller;
use stage::CONNECTION_SETS;
use stage::Door;
pub(crate) use stage::Form;
use stage::Stage;
use wire::Answer;
use wire::Way;
use wire::Wire;

/// Sets of policies in one round.
const SETS: usize = 48;
/// Those who call in one round.
const CALLERS: usize = 24;
/// Requests to each set over each connection, one behind the other.
const REQUESTS: usize = 5;
/// Connections to each set of policies for connections.
const CONNECTIONS: usize = 16;

/// What was found out.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Pairs of a set of policies and a request, or a connection.
    pub(crate) pairs: usize,
    /// Those of them that were connections.
    pub(crate) connections: usize,
    /// Those of them that were allowed.
    pub(crate) allowed: usize,
    /// Each difference, with what is needed to look into it.
    pub(crate) differences: Vec<String>,
}

/// Tries so many pairs, or a few more.
pub(crate) async fn run(pairs: usize, seed: u64, form: Form) -> Outcome {
    let identities = Identities::make();
    let mut stage = Stage::start(&identities, form).await;
    let mut outcome = Outcome::default();
    let mut dice = Dice::of(seed);
    while outcome.pairs < pairs && outcome.differences.len() < 20 {
        round(&mut stage, &identities, &mut dice, &mut outcome).await;
    }
    outcome
}

async fn round(stage: &mut Stage, identities: &Identities, dice: &mut Dice, outcome: &mut Outcome) {
    let ports = [Door::Plain, Door::Tls, Door::Unverified].map(|door| stage.port(door));
    let mut sets: Vec<Set> = (0..SETS).map(|_| Set::make(dice, &ports, Layer::Requests)).collect();
    let ports: Vec<u16> = (0..CONNECTION_SETS).map(|place| stage.port_of_connections(place, false)).collect();
    let ports = [ports, vec![stage.port_of_connections(0, true)]].concat();
    let connection_sets: Vec<Set> =
        (0..CONNECTION_SETS).map(|_| Set::make(dice, &ports, Layer::Connections)).collect();
    let chains = |sets: &[Set]| sets.iter().map(|set| set.chain.clone()).collect::<Vec<_>>();
    stage.load(&chains(&sets), &chains(&connection_sets)).await;
    for _ in 0..CALLERS {
        let caller = Caller::make(dice, identities, true);
        requests(stage, &caller, dice, &mut sets, outcome).await;
    }
    for (place, set) in connection_sets.iter().enumerate() {
        for _ in 0..CONNECTIONS {
            let caller = Caller::make(dice, identities, false);
            connection(stage, &caller, place, set, outcome).await;
        }
    }
}

/// Policies, and what is made of them.
struct Set {
    decides: PolicySet,
    chain: burgrave::authz::envoy::Chain,
}

impl Set {
    fn make(dice: &mut Dice, ports: &[u16], layer: Layer) -> Self {
        let policies = Author { dice, ports }.set();
        let provider = || Provider {
            cluster: "nobody".to_owned(),
            timeout: std::time::Duration::from_secs(1),
            fail_open: false,
        };
        let providers = PROVIDERS.map(|name| (name.to_owned(), provider())).into();
        let options = Options { providers, ..Options::default() };
        let chain =
            compile(&policies, layer, &options).unwrap_or_else(|refusal| panic!("{refusal}\n{policies:#?}"));
        Self { decides: PolicySet::new(policies), chain }
    }
}

/// All sets, over one connection.
async fn requests(stage: &Stage, caller: &Caller, dice: &mut Dice, sets: &mut [Set], outcome: &mut Outcome) {
    let port = stage.port(caller.door);
    let mut wire = Wire::open(&way(caller, port, None)).await.expect("Envoy takes the connection");
    for (place, set) in sets.iter().enumerate() {
        let asked: Vec<Asked> = (0..REQUESTS).map(|_| caller.request(port, dice)).collect();
        let bytes: Vec<u8> = asked.iter().flat_map(|asked| asked.bytes(&stage.set(place))).collect();
        let is_head: Vec<bool> = asked.iter().map(Asked::is_head).collect();
        let answers = wire.exchange(&bytes, &is_head).await;
        let answers =
            answers.unwrap_or_else(|error| panic!("no answer ({error}) to {asked:#?}\n{}", stage.log()));
        for (asked, answer) in asked.iter().zip(&answers) {
            outcome.pairs += 1;
            outcome.allowed += usize::from(answer.status == 200);
            if let Err(difference) = compare(set, asked, answer) {
                let policies = set.decides.policies();
                let printed: Vec<_> =
                    set.chain.in_order().filter_map(|filter| filter.to_json().ok()).collect();
                let printed = serde_json::to_string_pretty(&printed).expect("JSON can be written");
                outcome
                    .differences
                    .push(format!("{difference}\n{asked:#?}\n{answer:#?}\n{policies:#?}\n{printed}"));
            }
        }
    }
}

async fn connection(stage: &Stage, caller: &Caller, place: usize, set: &Set, outcome: &mut Outcome) {
    let port = stage.port_of_connections(place, caller.door != Door::Plain);
    let way = way(caller, port, Some(stage::protocol(place)));
    let mut wire = Wire::open(&way).await.expect("Envoy takes the connection");
    let is_allowed = wire.echoes().await;
    let asked = caller.connection(port);
    outcome.pairs += 1;
    outcome.connections += 1;
    outcome.allowed += usize::from(is_allowed);
    let decision = asked.with(|request| set.decides.decide(request));
    if is_allowed != (decision.effect == Effect::Allow) {
        let policies = set.decides.policies();
        outcome.differences.push(format!(
            "connection: Envoy {is_allowed}, we {decision:?}\n{asked:#?}\n{policies:#?}\n{:#?}",
            set.chain
        ));
    }
}

fn way(caller: &Caller, port: u16, alpn: Option<String>) -> Way {
    Way {
        source: caller.source,
        destination: SocketAddr::new(caller.destination, port),
        tls: (caller.door != Door::Plain).then(|| caller.identity.tls.clone()),
        sni: caller.sni.clone(),
        alpn,
    }
}

/// What Envoy says of a request against what we do.
fn compare(set: &Set, asked: &Asked, answer: &Answer) -> Result<(), String> {
    let decision = asked.with(|request| set.decides.decide(request));
    let is_allowed = match answer.status {
        200 => true,
        403 => false,
        other => return Err(format!("Envoy answered {other}, which is no decision")),
    };
    let differs = |what: &str, envoy: &dyn std::fmt::Debug| {
        Err(format!("{what}: Envoy says {envoy:?}, we say {decision:?}"))
    };
    if is_allowed != (decision.effect == Effect::Allow) {
        return differs("the verdict", &answer.status);
    }
    let details = answer.header("x-details").unwrap_or_default();
    let denied = details.strip_prefix("rbac_access_denied_matched_policy[");
    let denied = denied.and_then(|rest| rest.strip_suffix(']'));
    let is_right = match (decision.by, denied, answer.header("x-allow")) {
        (By::Rule(_), Some(name), None) => holds(set, asked, name, &Action::Deny, false),
        (By::Rule(_), None, Some(name)) => holds(set, asked, name, &Action::Allow, false),
        (By::NoAllowingRule, Some("none"), None) | (By::NoAllowingPolicy, None, None) => true,
        _ => false,
    };
    if !is_right {
        return differs("the reason", answer);
    }
    marks(set, asked, answer, &decision)
}

/// The policies that decide nothing.
fn marks(set: &Set, asked: &Asked, answer: &Answer, decision: &Decision) -> Result<(), String> {
    let differs = |what: &str| Err(format!("{what}: Envoy says {answer:?}, we say {decision:?}"));
    if (answer.header("x-audit") == Some("true")) != decision.audit.is_some() {
        return differs("audit");
    }
    if !is_alike(set, asked, answer.header("x-dry-deny"), &Action::Deny, decision.dry_run.deny) {
        return differs("a denial in dry run");
    }
    // Only what the filter that denies lets through comes to the one that allows.
    let is_denied = matches!((decision.effect, decision.by), (Effect::Deny, By::Rule(_)));
    let would_allow = decision.dry_run.allow.filter(|_| !is_denied);
    let said = match answer.header("x-dry-allow-is") {
        None => would_allow.is_none(),
        Some("denied") => would_allow == Some(None),
        Some(_) => {
            let rule = would_allow.flatten();
            rule.is_some() && is_alike(set, asked, answer.header("x-dry-allow"), &Action::Allow, rule)
        }
    };
    if !said {
        return differs("an allowance in dry run");
    }
    let mut asked_for: Vec<&str> = set.decides.policies().iter().filter_map(provider).collect();
    asked_for.sort_unstable();
    asked_for.dedup();
    for (place, provider) in asked_for.into_iter().enumerate() {
        let action = Action::Custom { provider: provider.into() };
        let is_asked = asked.with(|request| {
            let mut policies = set.decides.policies().iter().filter(|policy| policy.action == action);
            policies.any(|policy| policy.first_match(request).is_some())
        });
        let name = answer.header(&format!("x-custom-{place}"));
        let begins = format!("istio-ext-authz-{provider}-");
        let is_right = name.is_some_and(|name| {
            name.strip_prefix(&begins).is_some_and(|name| holds(set, asked, name, &action, false))
        });
        if is_asked != name.is_some() || is_asked != is_right || (is_asked && decision.custom.is_none()) {
            return differs("whether to ask somebody else");
        }
    }
    Ok(())
}

fn provider(policy: &Policy) -> Option<&str> {
    match &policy.action {
        Action::Custom { provider } => Some(provider),
        _ => None,
    }
}

/// Whether a rule that Envoy names in dry run is there when we name one, and holds.
fn is_alike(set: &Set, asked: &Asked, name: Option<&str>, action: &Action, rule: Option<RuleRef>) -> bool {
    match (name, rule) {
        (None, None) => true,
        (Some(name), Some(_)) => holds(set, asked, name, action, true),
        _ => false,
    }
}

/// Whether the rule that Envoy names is one of ours, of that kind, and holds.
fn holds(set: &Set, asked: &Asked, name: &str, action: &Action, dry_run: bool) -> bool {
    set.decides.policies().iter().any(|policy| {
        let kind = match policy.name.kind {
            Kind::AuthorizationPolicy => "policy",
            Kind::ServiceRoleBinding => "binding",
            Kind::RbacConfig => "config",
        };
        let is_named = |index: usize| {
            let full = format!("ns[{}]-{kind}[{}]-rule[{index}]", policy.name.namespace, policy.name.name);
            name.strip_prefix(full.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        policy.action == *action
            && policy.dry_run == dry_run
            && policy
                .rules
                .iter()
                .any(|rule| is_named(rule.index) && asked.with(|request| rule.holds(request)))
    })
}
