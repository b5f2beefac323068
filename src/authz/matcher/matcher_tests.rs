use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

use crate::authz::decide::By;
use crate::authz::decide::Decision;
use crate::authz::decide::RuleRef;
use crate::authz::decide::walk;
use crate::authz::model::Action;
use crate::authz::model::Atom;
use crate::authz::model::Conjunction;
use crate::authz::model::Field;
use crate::authz::model::Kind;
use crate::authz::model::Pattern;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::model::Shape;
use crate::authz::model::Template;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::authz::policy_set::PolicySet;
use crate::authz::request::Http;
use crate::authz::request::JWT_FILTER;
use crate::authz::request::Peer;
use crate::authz::request::Request;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["/?[ab]{0,2}", Just("/ns/a/sa/b".to_owned()), Just("spiffe://td/ns/a/sa/b".to_owned())]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        4 => text().prop_map(|text| Pattern::Exact(text.into())),
        2 => text().prop_map(|text| Pattern::Prefix(text.into())),
        2 => text().prop_map(|text| Pattern::Suffix(text.into())),
        1 => text().prop_map(|text| Pattern::Contains(text.into())),
        1 => Just(Pattern::NotEmpty),
        1 => Just(Pattern::Any),
    ]
}

fn atom() -> impl Strategy<Value = Atom> {
    let block = || {
        (0_u8..4, 28_u8..=32).prop_map(|(last, length)| format!("10.0.0.{last}/{length}").parse().unwrap())
    };
    prop_oneof![
        Just(Atom::Peer),
        Just(Atom::PeerIsWorkload),
        pattern().prop_map(Atom::PeerUri),
        block().prop_map(Atom::SourceIp),
        block().prop_map(Atom::RemoteIp),
        block().prop_map(Atom::DestinationIp),
        (0_u16..3).prop_map(Atom::DestinationPort),
        pattern().prop_map(Atom::Sni),
        pattern().prop_map(Atom::Host),
        pattern().prop_map(Atom::Method),
        pattern().prop_map(Atom::Path),
        "(/[ab]|/\\{\\*\\}){1,2}(/\\{\\*\\*\\})?"
            .prop_map(|text| Atom::PathTemplate(Template::parse(&text).unwrap())),
        ("[a-h]|host", pattern()).prop_map(|(name, value)| Atom::Header { name: name.into(), value }),
        (pattern(), any::<bool>()).prop_map(|(value, is_list)| {
            Atom::claim(["c"], if is_list { Shape::List } else { Shape::Text }, value)
        }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        5 => atom().prop_map(Value::Is),
        1 => proptest::collection::vec((atom(), any::<bool>()), 0..3).prop_map(Value::All),
    ]
}

fn conjunction(most: usize) -> impl Strategy<Value = Conjunction> {
    let term = (proptest::collection::vec(value(), 0..4), proptest::bool::weighted(0.3))
        .prop_map(|(values, negated)| Term { field: Field::List("any"), negated, values });
    proptest::collection::vec(term, 0..most).prop_map(|terms| Conjunction { index: 0, terms })
}

fn policy() -> impl Strategy<Value = Policy> {
    let rule = (
        proptest::collection::vec(conjunction(3), 0..3),
        proptest::collection::vec(conjunction(3), 0..3),
        conjunction(3),
    )
        .prop_map(|(from, to, when)| Rule { index: 0, from, to, when });
    let action = prop_oneof![
        Just(Action::Allow),
        Just(Action::Deny),
        Just(Action::Audit),
        Just(Action::Custom { provider: "p".into() }),
    ];
    (proptest::collection::vec(rule, 0..3), action, any::<bool>()).prop_map(|(rules, action, dry_run)| {
        Policy {
            name: PolicyName { kind: Kind::AuthorizationPolicy, namespace: "n".into(), name: "p".into() },
            action,
            dry_run,
            rules,
        }
    })
}

/// A request of which everything may be missing.
#[derive(Clone, Debug)]
struct Owned {
    uris: Option<Vec<String>>,
    addresses: [Option<IpAddr>; 3],
    port: Option<u16>,
    sni: String,
    http: Option<[String; 3]>,
    headers: Vec<(String, String)>,
    metadata: Option<Map<String, Json>>,
}

fn request() -> impl Strategy<Value = Owned> {
    let address =
        || proptest::option::of((0_u8..6).prop_map(|last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last))));
    let claim = prop_oneof![
        text().prop_map(Json::String),
        proptest::collection::vec(text(), 0..3).prop_map(|list| json!(list)),
        Just(json!(7)),
    ];
    (
        proptest::option::of(proptest::collection::vec(text(), 0..3)),
        [address(), address(), address()],
        proptest::option::of(0_u16..3),
        text(),
        proptest::option::weighted(0.8, [text(), text(), text()]),
        proptest::collection::vec(("[a-h]", text()), 0..4),
        proptest::option::of(claim),
    )
        .prop_map(|(uris, addresses, port, sni, http, headers, claim)| Owned {
            uris,
            addresses,
            port,
            sni,
            http,
            headers,
            metadata: claim
                .map(|claim| json!({JWT_FILTER: {"payload": {"c": claim}}}).as_object().cloned().unwrap()),
        })
}

/// Asks what `owned` says.
fn with<T>(owned: &Owned, ask: impl FnOnce(&Request<'_>) -> T) -> T {
    let uris: Vec<&str> = owned.uris.iter().flatten().map(String::as_str).collect();
    let headers: Vec<(&str, &str)> =
        owned.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let [source_ip, remote_ip, destination_ip] = owned.addresses;
    ask(&Request {
        peer: owned.uris.as_ref().map(|_| Peer { uris: &uris }),
        source_ip,
        remote_ip,
        destination_ip,
        destination_port: owned.port,
        sni: &owned.sni,
        http: owned.http.as_ref().map(|[method, path, host]| Http { method, path, host, headers: &headers }),
        metadata: owned.metadata.as_ref(),
    })
}

fn agrees(policies: &[Policy], requests: &[Owned]) {
    holds_to_walking(&PolicySet::new(shared(policies)), policies, requests);
}

fn shared(policies: &[Policy]) -> Vec<Arc<Policy>> {
    policies.iter().cloned().map(Arc::new).collect()
}

/// A decision with the rules that it points at, by their names.
fn named(decision: Decision, find: impl Fn(RuleRef) -> (PolicyName, u32)) -> String {
    let find = |at: Option<RuleRef>| at.map(&find);
    let by = match decision.by {
        By::Rule(rule) => format!("{:?}", find(Some(rule))),
        other => format!("{other:?}"),
    };
    let dry_run = (find(decision.dry_run.deny), decision.dry_run.allow.map(find));
    format!(
        "{:?} by {by}, {:?} {:?}, {dry_run:?}",
        decision.effect,
        find(decision.custom),
        find(decision.audit)
    )
}

/// `policies` have names in ascending order.
fn holds_to_walking(set: &PolicySet, policies: &[Policy], requests: &[Owned]) {
    let connections: Vec<Policy> = policies.iter().map(Policy::for_connections).collect();
    for owned in requests {
        with(owned, |request| {
            let policies = if request.http.is_some() { policies } else { &connections };
            let decided = named(set.decide(request), |at| {
                (set.rule(request, at).expect("it points at a rule").name().clone(), at.rule)
            });
            let walked =
                named(walk(policies, request), |at| (policies[at.policy as usize].name.clone(), at.rule));
            assert_eq!(decided, walked, "{request:?}");
        });
    }
}

/// Gives policies their names, in ascending order.
fn numbered(mut policies: Vec<Policy>) -> Vec<Policy> {
    for (at, policy) in policies.iter_mut().enumerate() {
        policy.name.name = format!("p{at:04}").into();
    }
    policies
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_matcher_decides_what_walking_decides_by_the_same_rule(
        policies in proptest::collection::vec(policy(), 0..12),
        requests in proptest::collection::vec(request(), 1..12),
    ) {
        agrees(&numbered(policies), &requests);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// So many that atoms are no longer rare, and bits fill more than a word.
    #[test]
    fn many_policies_are_decided_on_as_few_are(
        policies in proptest::collection::vec(policy(), 200..400),
        requests in proptest::collection::vec(request(), 12),
    ) {
        agrees(&numbered(policies), &requests);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any number of changes later, a set decides as one that was compiled at once.
    #[test]
    fn a_set_that_changed_decides_as_a_new_one(
        policies in proptest::collection::vec(policy(), 1..12),
        changes in proptest::collection::vec((0_usize..12, proptest::option::of(policy())), 1..8),
        requests in proptest::collection::vec(request(), 6),
    ) {
        let mut now: Vec<Option<Arc<Policy>>> = shared(&numbered(policies)).into_iter().map(Some).collect();
        now.resize(12, None);
        let mut set = PolicySet::new(now.iter().flatten().cloned().collect());
        for (place, change) in changes {
            let named = change.map(|mut policy| {
                policy.name.name = format!("p{place:04}").into();
                Arc::new(policy)
            });
            now[place] = named;
            set = set.with(now.iter().flatten().cloned().collect());
            let all: Vec<Policy> = now.iter().flatten().map(|policy| Policy::clone(policy)).collect();
            holds_to_walking(&set, &all, &requests);
        }
    }
}
