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
use std::sync::Arc;

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

use futures_util::future::join_all;

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
const CONNECTIONS: usize = 40;

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
    let sets: Vec<Set> = (0..SETS).map(|_| Set::make(dice, &ports, Layer::Requests)).collect();
    let ports: Vec<u16> = (0..CONNECTION_SETS).map(|place| stage.port_of_connections(place, false)).collect();
    let ports = [ports, vec![stage.port_of_connections(0, true)]].concat();
    let connection_sets: Vec<Set> =
        (0..CONNECTION_SETS).map(|_| Set::make(dice, &ports, Layer::Connections)).collect();
    let chains = |sets: &[Set]| sets.iter().map(|set| set.chain.clone()).collect::<Vec<_>>();
    stage.load(&chains(&sets), &chains(&connection_sets)).await;
    let callers = (0..CALLERS).map(|_| requests(stage, identities, dice.next(), &sets));
    let mut found = join_all(callers).await;
    for (place, set) in connection_sets.iter().enumerate() {
        let callers = (0..CONNECTIONS).map(|_| connection(stage, identities, dice.next(), place, set));
        found.extend(join_all(callers).await);
    }
    found.into_iter().for_each(|part| outcome.add(part));
}

impl Outcome {
    fn add(&mut self, part: Self) {
        self.pairs += part.pairs;
        self.connections += part.connections;
        self.allowed += part.allowed;
        self.differences.extend(part.differences);
    }
}

/// Policies, and what is made of them.
struct Set {
    policies: Vec<Arc<Policy>>,
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
        let chain = compile(policies.iter().map(Arc::as_ref), layer, &options);
        let chain = chain.unwrap_or_else(|refusal| panic!("{refusal}\n{policies:#?}"));
        // Half of them come about by changes to others, as they do where policies are watched.
        let decides = match dice.percent(50) {
            true => PolicySet::new(policies.clone()),
            false => {
                let before = policies.iter().filter(|_| dice.percent(50)).cloned();
                let before: Vec<_> = before.collect();
                let gone = Author { dice, ports }.set();
                PolicySet::new([before, gone].concat()).with(policies.clone())
            }
        };
        Self { policies, decides, chain }
    }
}

impl Set {
    /// A difference, with the policies and what became of them.
    fn told(&self, difference: &str) -> String {
        let printed: Vec<_> = self.chain.in_order().filter_map(|filter| filter.to_json().ok()).collect();
        let printed = serde_json::to_string_pretty(&printed).expect("JSON can be written");
        format!("{difference}\n{:#?}\n{printed}", self.policies)
    }
}

/// All sets, over one connection.
async fn requests(stage: &Stage, identities: &Identities, seed: u64, sets: &[Set]) -> Outcome {
    let mut dice = Dice::of(seed);
    let caller = Caller::make(&mut dice, identities, true);
    let port = stage.port(caller.door);
    let mut wire = Wire::open(&way(&caller, port, None)).await.expect("Envoy takes the connection");
    let mut outcome = Outcome::default();
    for (place, set) in sets.iter().enumerate() {
        for _ in 0..REQUESTS {
            let asked = caller.request(port, &mut dice);
            let answer = wire.ask(&asked.bytes(&stage.set(place)), asked.is_head()).await;
            let answer =
                answer.unwrap_or_else(|error| panic!("no answer ({error}) to {asked:#?}\n{}", stage.log()));
            outcome.pairs += 1;
            outcome.allowed += usize::from(answer.status == 200);
            if let Err(difference) = compare(set, &asked, &answer) {
                outcome.differences.push(set.told(&format!("{difference}\n{asked:#?}\n{answer:#?}")));
            }
        }
    }
    outcome
}

/// One connection to one set.
async fn connection(stage: &Stage, identities: &Identities, seed: u64, place: usize, set: &Set) -> Outcome {
    let caller = Caller::make(&mut Dice::of(seed), identities, false);
    let port = stage.port_of_connections(place, caller.door != Door::Plain);
    let way = way(&caller, port, Some(stage::protocol(place)));
    let mut wire = Wire::open(&way).await.expect("Envoy takes the connection");
    let is_allowed = wire.echoes().await;
    let asked = caller.connection(port);
    let decision = asked.with(|request| set.decides.decide(request));
    let mut outcome =
        Outcome { pairs: 1, connections: 1, allowed: usize::from(is_allowed), differences: Vec::new() };
    if is_allowed != (decision.effect == Effect::Allow) {
        let told = format!("connection: Envoy says {is_allowed}, we say {decision:?}\n{asked:#?}");
        outcome.differences.push(set.told(&told));
    }
    outcome
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
    // A filter that denies tells nothing but that, and what stands behind it is not run.
    let is_denied = matches!((decision.effect, decision.by), (Effect::Deny, By::Rule(_)));
    let would_deny = decision.dry_run.deny.filter(|_| !is_denied);
    if !is_alike(set, asked, answer.header("x-dry-deny"), &Action::Deny, would_deny) {
        return differs("a denial in dry run");
    }
    let would_allow = decision.dry_run.allow.filter(|_| decision.effect == Effect::Allow);
    let is_right = match answer.header("x-dry-allow-is") {
        None => would_allow.is_none(),
        Some("denied") => would_allow == Some(None),
        Some(_) => {
            let rule = would_allow.flatten();
            rule.is_some() && is_alike(set, asked, answer.header("x-dry-allow"), &Action::Allow, rule)
        }
    };
    if !is_right {
        return differs("an allowance in dry run");
    }
    let mut asked_for: Vec<&str> = set.policies.iter().filter_map(|policy| provider(policy)).collect();
    asked_for.sort_unstable();
    asked_for.dedup();
    for (place, provider) in asked_for.into_iter().enumerate() {
        let action = Action::Custom { provider: provider.into() };
        let is_asked = asked.with(|request| {
            let mut policies = set.policies.iter().filter(|policy| policy.action == action);
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
    set.policies.iter().any(|policy| {
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
