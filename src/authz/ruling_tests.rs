use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::authz::judge::Judge;
use crate::authz::model::Atom;
use crate::authz::model::Cidr;
use crate::authz::model::Conjunction;
use crate::authz::model::Field;
use crate::authz::model::Kind;
use crate::authz::model::Pattern;
use crate::authz::model::Policy;
use crate::authz::model::Rule;
use crate::authz::model::Shape;
use crate::authz::model::Term;
use crate::authz::model::Value as Wanted;
use crate::authz::policy_set::PolicySet;
use crate::authz::tally::Tally;
use crate::authz::tokens::Issuer;
use crate::authz::tokens::KeySet;
use crate::authz::tokens::Keys;
use crate::authz::tokens::test_support::Signer;
use crate::clock::Clock;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn set(policies: Vec<Policy>) -> PolicySet {
    PolicySet::new(policies.into_iter().map(Arc::new).collect())
}

fn policy(name: &str, action: Action, atoms: Vec<Atom>) -> Policy {
    let term = |atom| Term { field: Field::List("test"), negated: false, values: vec![Wanted::Is(atom)] };
    let always = || vec![Conjunction::default()];
    let when = Conjunction { index: 0, terms: atoms.into_iter().map(term).collect() };
    Policy {
        name: PolicyName { kind: Kind::AuthorizationPolicy, namespace: "shop".into(), name: name.into() },
        action,
        dry_run: false,
        rules: vec![Rule { index: 3, from: always(), to: always(), when }],
    }
}

fn header(name: &str, value: &str) -> Atom {
    Atom::Header { name: name.into(), value: Pattern::of(value) }
}

fn enforced(policies: Vec<Policy>, issuers: Vec<Issuer>) -> Arc<Enforced> {
    Arc::new(Enforced::new(set(policies), issuers, &Tally::default()))
}

fn ask(enforced: &Arc<Enforced>, headers: &[(&str, &str)], doubts: Doubts) -> Ruling {
    let http = Http { method: "GET", path: "/", host: "h", headers };
    rule_on(enforced, &Request { http: Some(http), ..Request::default() }, doubts, &[], NOW)
}

fn said(ruling: &Ruling) -> (bool, &'static str) {
    (ruling.is_allowed(), ruling.reason.as_str())
}

#[test]
fn before_policies_are_received_all_is_denied_and_after_their_source_is_gone_the_last_hold() {
    let (sender, receiver) = watch::channel(None);
    let judge = Judge::following(receiver, Clock::system());
    let ruling = judge.rule_on(&Request::default());
    assert_eq!(said(&ruling), (false, "policies_not_received"));
    sender.send_replace(Some(enforced(vec![], vec![])));
    drop(sender);
    assert_eq!(said(&judge.rule_on(&Request::default())), (true, "no_allowing_policy"));
}

#[test]
fn the_deciding_rule_is_named_by_its_place_in_the_object() {
    let enforced = enforced(vec![policy("no", Action::Deny, vec![header("x", "bad")])], vec![]);
    let ruling = ask(&enforced, &[("x", "bad")], Doubts::default());
    assert_eq!(said(&ruling), (false, "rule"));
    let named = ruling.rule().unwrap();
    assert_eq!((named.policy.to_string().as_str(), named.rule), ("shop/no", 3));
    assert_eq!(said(&ask(&enforced, &[], Doubts::default())), (true, "no_allowing_policy"));
}

#[test]
fn claims_of_a_good_token_are_asked_and_a_bad_one_is_refused_whatever_policies_say() {
    let signer = Signer::new("k");
    let keys = Keys::Inline(Arc::new(KeySet::parse(&signer.jwks()).unwrap()));
    let claim = Atom::claim(["groups"], Shape::List, Pattern::of("staff"));
    let staff = vec![policy("staff", Action::Allow, vec![claim])];
    let enforced = enforced(staff, vec![Issuer::new("here", keys)]);
    let with = |claims: serde_json::Value| {
        let token = format!("Bearer {}", signer.token(&claims));
        said(&ask(&enforced, &[("authorization", &token)], Doubts::default()))
    };
    assert_eq!(with(json!({"iss": "here", "groups": ["staff"]})), (true, "rule"));
    assert_eq!(with(json!({"iss": "here", "groups": ["guests"]})), (false, "no_allowing_rule"));
    assert_eq!(with(json!({"iss": "here", "groups": ["staff"], "exp": -100})), (false, "token_expired"));
    assert_eq!(said(&ask(&enforced, &[], Doubts::default())), (false, "no_allowing_rule"));
}

#[test]
fn what_a_client_says_of_a_token_in_metadata_gives_way_to_the_token() {
    let signer = Signer::new("k");
    let keys = Keys::Inline(Arc::new(KeySet::parse(&signer.jwks()).unwrap()));
    let claim = Atom::claim(["sub"], Shape::Text, Pattern::of("alice"));
    let enforced = enforced(vec![policy("p", Action::Allow, vec![claim])], vec![Issuer::new("here", keys)]);
    let token = format!("Bearer {}", signer.token(&json!({"iss": "here", "sub": "bob"})));
    let before = json!({JWT_FILTER: {JWT_PAYLOAD: {"sub": "alice"}}});
    let headers = [("authorization", &*token)];
    let request = Request {
        http: Some(Http { headers: &headers, ..Http::default() }),
        metadata: before.as_object(),
        ..Request::default()
    };
    assert!(!rule_on(&enforced, &request, Doubts::default(), &[], NOW).is_allowed());
    let request = Request { http: Some(Http::default()), ..request };
    assert!(
        rule_on(&enforced, &request, Doubts::default(), &[], NOW).is_allowed(),
        "a filter before us said so"
    );
}

#[test]
fn joined_lines_of_a_header_are_refused_only_where_the_answer_depends_on_them() {
    let joined = Doubts { joined_headers: true, ..Doubts::default() };
    let deny = enforced(vec![policy("no", Action::Deny, vec![header("x-role", "admin")])], vec![]);
    let allow = enforced(vec![policy("yes", Action::Allow, vec![header("x-role", "admin")])], vec![]);
    for (enforced, value, doubts, expected) in [
        // Envoy would see the line `admin`, or the line `user,admin`: nobody knows.
        (&deny, "user,admin", joined, (false, "ambiguous_header")),
        (&deny, "user,guest", joined, (true, "no_allowing_policy")),
        (&deny, "admin", joined, (false, "rule")),
        (&allow, "user,admin", joined, (false, "no_allowing_rule")),
        (&allow, "admin", joined, (true, "rule")),
        (&deny, "user,admin", Doubts::default(), (true, "no_allowing_policy")),
    ] {
        assert_eq!(said(&ask(enforced, &[("x-role", value)], doubts)), expected, "{value}");
    }
    assert!(ask(&deny, &[("x-other", "a,admin")], joined).is_allowed(), "no policy asks for it");
}

#[test]
fn a_policy_that_asks_for_the_client_is_not_passed_by_who_hides_it() {
    let client = Doubts { client_unknown: true, ..Doubts::default() };
    let address = Atom::RemoteIp("10.0.0.0/8".parse::<Cidr>().unwrap());
    let asks = enforced(vec![policy("no", Action::Deny, vec![address])], vec![]);
    assert_eq!(said(&ask(&asks, &[], client)), (false, "client_address_unknown"));
    assert_eq!(said(&ask(&enforced(vec![], vec![]), &[], client)), (true, "no_allowing_policy"));
}

#[test]
fn what_somebody_else_has_to_be_asked_about_is_denied_unless_they_are_known_to_be() {
    let custom = || Action::Custom { provider: "theirs".into() };
    let enforced = enforced(vec![policy("ask", custom(), vec![header("x", "a")])], vec![]);
    let headers = [("x", "a")];
    let http = Http { headers: &headers, ..Http::default() };
    let request = Request { http: Some(http), ..Request::default() };
    let ruling = |known: &[Box<str>]| rule_on(&enforced, &request, Doubts::default(), known, NOW);
    assert_eq!(said(&ruling(&[])), (false, "custom_provider_not_asked"));
    assert_eq!(ruling(&[]).rule().unwrap().policy.to_string(), "shop/ask");
    assert_eq!(said(&ruling(&["ours".into()])), (false, "custom_provider_not_asked"));
    assert_eq!(said(&ruling(&["theirs".into()])), (true, "no_allowing_policy"));
    assert_eq!(said(&ask(&enforced, &[], Doubts::default())), (true, "no_allowing_policy"));
}

#[test]
fn a_second_provider_is_not_passed_over_because_the_first_one_is_asked() {
    let ask_of = |name: &str, provider: &str| {
        policy(name, Action::Custom { provider: provider.into() }, vec![header("x", "a")])
    };
    let enforced = enforced(vec![ask_of("a", "known"), ask_of("b", "unknown")], vec![]);
    let headers = [("x", "a")];
    let request = Request { http: Some(Http { headers: &headers, ..Http::default() }), ..Request::default() };
    let ruling = |known: &[Box<str>]| rule_on(&enforced, &request, Doubts::default(), known, NOW);
    assert_eq!(said(&ruling(&["known".into()])), (false, "custom_provider_not_asked"));
    assert_eq!(said(&ruling(&["known".into(), "unknown".into()])), (true, "no_allowing_policy"));
}

#[test]
fn a_token_is_judged_by_the_clock() {
    let signer = Signer::new("k");
    let keys = Keys::Inline(Arc::new(KeySet::parse(&signer.jwks()).unwrap()));
    let (clock, hand) = Clock::simulated(NOW);
    let issuers = vec![Issuer::new("here", keys)];
    let judge = Judge::of(Enforced::new(PolicySet::default(), issuers, &Tally::default()), clock);
    let token = format!("Bearer {}", signer.token(&json!({"iss": "here", "exp": 600})));
    let headers = [("authorization", &*token)];
    let request = Request { http: Some(Http { headers: &headers, ..Http::default() }), ..Request::default() };
    assert!(judge.rule_on(&request).is_allowed());
    hand.advance(Duration::from_secs(660));
    assert_eq!(said(&judge.rule_on(&request)), (false, "token_expired"));
}
