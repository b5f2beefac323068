use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Map;

use crate::authz::decide::By;
use crate::authz::decide::Effect;
use crate::authz::decide::RuleRef;
use crate::authz::explain::explanation::Outcome;
use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::HttpFacts;
use crate::authz::model::Atom;
use crate::authz::model::Conjunction;
use crate::authz::model::Field;
use crate::authz::model::Kind;
use crate::authz::model::Pattern;
use crate::authz::model::PolicyName;
use crate::authz::model::Term;
use crate::authz::policy_set::PolicySet;

use super::*;

fn term(field: &'static str, negated: bool, values: Vec<Atom>) -> Term {
    Term { field: Field::List(field), negated, values: values.into_iter().map(Value::Is).collect() }
}

fn one_of(list: Vec<Vec<Term>>) -> Vec<Conjunction> {
    list.into_iter().enumerate().map(|(index, terms)| Conjunction { index, terms }).collect()
}

fn rule(index: usize, from: Vec<Term>, to: Vec<Term>) -> Rule {
    Rule { index, from: one_of(vec![from]), to: one_of(vec![to]), when: Conjunction::default() }
}

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> Policy {
    let name = PolicyName { kind: Kind::AuthorizationPolicy, namespace: "shop".into(), name: name.into() };
    Policy { name, action, dry_run: false, rules }
}

fn principal(value: &str) -> Term {
    term("principals", false, vec![Atom::PeerUri(Pattern::Exact(format!("spiffe://{value}").into()))])
}

fn methods(values: &[&str]) -> Term {
    term("methods", false, values.iter().map(|value| Atom::Method(Pattern::of(value))).collect())
}

fn paths(values: &[&str]) -> Term {
    term("paths", false, values.iter().map(|value| Atom::Path(Pattern::of(value))).collect())
}

fn get(path: &str, peer: &str) -> Facts {
    Facts {
        peer: Fact::Known(Some(vec![peer.to_owned()])),
        http: Some(HttpFacts {
            method: Fact::Known("GET".to_owned()),
            path: Fact::Known(path.to_owned()),
            host: Fact::Known("api".to_owned()),
            ..HttpFacts::default()
        }),
        ..Facts::default()
    }
}

#[test]
fn a_denial_names_the_nearest_rule_and_the_field_that_missed() {
    let web = || principal("td/ns/shop/sa/web");
    let set = [
        policy(
            "other",
            Action::Allow,
            vec![rule(0, vec![principal("td/ns/a/sa/b")], vec![methods(&["PUT"])])],
        ),
        policy(
            "read",
            Action::Allow,
            vec![
                rule(0, vec![principal("td/ns/shop/sa/admin")], vec![]),
                rule(3, vec![web()], vec![methods(&["GET"]), paths(&["/v1/*", "/health"])]),
            ],
        ),
    ];
    let told = explain(&set, &get("/v2/items?x=1", "spiffe://td/ns/shop/sa/web"));
    assert_eq!((told.decision, told.why), (Verdict::Deny, Why::NoAllowingRule));
    let nearest = told.nearest.as_ref().unwrap();
    assert_eq!((nearest.rule.name.as_str(), nearest.rule.rule), ("read", 3));
    let missed: Vec<_> = nearest.fields.iter().filter(|one| one.outcome == Outcome::Missed).collect();
    assert_eq!(missed.len(), 1);
    assert_eq!(missed[0].path, "rules[3].to[0].operation.paths");
    assert_eq!(
        told.to_string(),
        "\
denied: there are 2 policies that allow, and none of their rules matches

the nearest is rule 3 of AuthorizationPolicy shop/read (ALLOW); it misses in 1 of 3 fields
  yes rules[3].from[0].source.principals: asked for td/ns/shop/sa/web; peer was spiffe://td/ns/shop/sa/web
  yes rules[3].to[0].operation.methods: asked for GET; method was GET
  NO  rules[3].to[0].operation.paths: asked for /v1/*, /health; path was /v2/items?x=1

the request, as policies see it
  peer    spiffe://td/ns/shop/sa/web
  host    api
  method  GET
  path    /v2/items?x=1 (the query does not count)
"
    );
}

#[test]
fn a_value_missed_by_a_hair_is_nearer_than_any_other() {
    let set = [
        policy("far", Action::Allow, vec![rule(0, vec![], vec![paths(&["/other"])])]),
        policy("near", Action::Allow, vec![rule(0, vec![], vec![paths(&["/items/"])])]),
    ];
    let told = explain(&set, &get("/items", "spiffe://td/ns/a/sa/b"));
    let nearest = told.nearest.unwrap();
    assert_eq!(nearest.rule.name, "near");
    assert_eq!(nearest.fields[0].remark.as_deref(), Some("without a slash at the end it is another path"));
}

#[test]
fn what_is_not_known_is_told_only_if_it_decides() {
    let set =
        [policy("read", Action::Allow, vec![rule(0, vec![principal("td/a")], vec![methods(&["GET"])])])];
    let told = |method: &str| {
        let mut facts = get("/", "");
        facts.peer = Fact::Unknown;
        if let Some(http) = &mut facts.http {
            http.method = Fact::Known(method.to_owned());
        }
        explain(&set, &facts)
    };
    assert_eq!(told("PUT").decision, Verdict::Deny);
    let depends = told("GET");
    assert_eq!((depends.decision, depends.unknown.as_slice()), (Verdict::Depends, &["peer".to_owned()][..]));
    let text = depends.to_string();
    assert!(
        text.starts_with("cannot tell: it depends on what is not known: peer\n\nallowed if rule 0 of"),
        "{text}"
    );
    assert!(
        text.contains("  ?   rules[0].from[0].source.principals: asked for td/a; peer is not known\n"),
        "{text}"
    );
}

#[test]
fn on_a_bare_connection_it_is_told_which_rules_do_not_count() {
    let set = [
        policy("read", Action::Allow, vec![rule(0, vec![], vec![methods(&["GET"])])]),
        policy("never", Action::Deny, vec![rule(0, vec![principal("td/a")], vec![methods(&["GET"])])]),
    ];
    let facts = Facts { peer: Fact::Known(None), ..Facts::default() };
    let told = explain(&set, &facts);
    assert_eq!(told.decision, Verdict::Deny);
    assert_eq!(
        told.remarks,
        [
            "rule 0 of shop/read (ALLOW) asks for HTTP, and so allows nothing on a bare connection",
            "rule 0 of shop/never (DENY) asks for HTTP, which does not count on a bare connection: it matches more",
        ]
    );
}

#[test]
fn whom_else_it_asks_what_it_writes_down_and_what_would_be_are_told() {
    let everything = || vec![rule(0, vec![], vec![])];
    let dry = |name, action, rules| Policy { dry_run: true, ..policy(name, action, rules) };
    let set = [
        policy("ask", Action::Custom { provider: "oauth".into() }, everything()),
        policy("log", Action::Audit, everything()),
        dry("would-deny", Action::Deny, everything()),
        dry("would-allow", Action::Allow, vec![]),
    ];
    let told = explain(&set, &get("/", "spiffe://td/a"));
    assert_eq!((told.decision, told.why), (Verdict::Allow, Why::NoAllowingPolicy));
    let says: Vec<_> = told.besides.iter().map(|one| one.says.as_str()).collect();
    assert_eq!(
        says,
        [
            "`oauth` is asked first, and may deny it",
            "it is written down",
            "in dry run: it would be denied",
            "in dry run: it would be denied if nothing else allows it; 1 would allow and none of their rules matches",
        ]
    );
}

#[test]
fn secret_headers_are_not_shown() {
    let atom = Atom::Header { name: "authorization".into(), value: Pattern::of("Bearer right") };
    let set = [policy("t", Action::Allow, vec![rule(0, vec![term("when", false, vec![atom])], vec![])])];
    let mut facts = get("/", "spiffe://td/a");
    if let Some(http) = &mut facts.http {
        http.headers = vec![("authorization".to_owned(), "Bearer wrong".to_owned())];
    }
    let told = explain(&set, &facts);
    assert_eq!(told.decision, Verdict::Deny);
    let text = told.to_string() + &serde_json::to_string(&told).unwrap();
    assert!(!text.contains("wrong") && text.contains("its value is not shown"), "{text}");
}

// === agreement with the decision ===

const URIS: [&str; 3] = ["spiffe://td/ns/a/sa/x", "spiffe://td/ns/b/sa/x", "spiffe://other/ns/a/sa/x"];
const PATHS: [&str; 4] = ["/a", "/a/b", "/b?x", "/"];

fn atoms() -> impl Strategy<Value = Atom> {
    prop_oneof![
        Just(Atom::Peer),
        proptest::sample::select(&URIS[..]).prop_map(|uri| Atom::PeerUri(Pattern::Exact(uri.into()))),
        Just(Atom::PeerUri(Pattern::Contains("/ns/a/".into()))),
        proptest::sample::select(&["/a", "/a*", "*b", "*"][..])
            .prop_map(|path| Atom::Path(Pattern::of(path))),
        proptest::sample::select(&["GET", "P*"][..]).prop_map(|method| Atom::Method(Pattern::of(method))),
        proptest::sample::select(&["1", "*"][..])
            .prop_map(|value| Atom::Header { name: "x".into(), value: Pattern::of(value) }),
        Just(Atom::DestinationPort(80)),
        Just(Atom::RemoteIp("10.0.0.0/8".parse().unwrap())),
        Just(Atom::claim(["iss"], crate::authz::model::Shape::Text, Pattern::of("i"))),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        atoms().prop_map(Value::Is),
        proptest::collection::vec((atoms(), any::<bool>()), 1..3).prop_map(Value::All),
    ]
}

fn conjunctions() -> impl Strategy<Value = Conjunction> {
    let terms = (any::<bool>(), proptest::collection::vec(values(), 0..3))
        .prop_map(|(negated, values)| Term { field: Field::List("f"), negated, values });
    proptest::collection::vec(terms, 0..3).prop_map(|terms| Conjunction { index: 0, terms })
}

fn rules() -> impl Strategy<Value = Rule> {
    let list = || proptest::collection::vec(conjunctions(), 0..3);
    (list(), list(), conjunctions()).prop_map(|(from, to, when)| Rule { index: 0, from, to, when })
}

fn policies() -> impl Strategy<Value = Policy> {
    let actions = prop_oneof![
        4 => Just(Action::Allow),
        2 => Just(Action::Deny),
        1 => Just(Action::Audit),
        1 => Just(Action::Custom { provider: "p".into() }),
    ];
    (actions, any::<bool>(), proptest::collection::vec(rules(), 0..3)).prop_map(|(action, dry, mut rules)| {
        rules.iter_mut().enumerate().for_each(|(at, rule)| rule.index = at);
        let dry_run = dry && matches!(action, Action::Allow | Action::Deny);
        Policy { dry_run, ..policy("p", action, rules) }
    })
}

/// Facts that are all known.
fn all_known() -> impl Strategy<Value = Facts> {
    let peers = proptest::option::of(proptest::sample::subsequence(&URIS[..], 0..2));
    let http = proptest::option::weighted(
        0.8,
        (
            proptest::sample::select(&["GET", "PUT", "POST"][..]),
            proptest::sample::select(&PATHS[..]),
            proptest::sample::subsequence(&["1", "2"][..], 0..=2),
        ),
    );
    let port = proptest::option::of(prop_oneof![Just(80_u16), Just(81)]);
    let address = proptest::option::of(proptest::sample::select(&["10.1.1.1", "11.1.1.1"][..]));
    let issuer = proptest::option::of(prop_oneof![Just("i"), Just("j")]);
    (peers, http, port, address, issuer).prop_map(|(peer, http, port, address, issuer)| Facts {
        peer: Fact::Known(peer.map(|uris| uris.into_iter().map(str::to_owned).collect())),
        source_ip: Fact::Known(None),
        remote_ip: Fact::Known(address.map(|address| address.parse().unwrap())),
        destination_ip: Fact::Known(None),
        destination_port: Fact::Known(port),
        sni: Fact::Known(String::new()),
        http: http.map(|(method, path, lines)| HttpFacts {
            method: Fact::Known(method.to_owned()),
            path: Fact::Known(path.to_owned()),
            host: Fact::Known("h".to_owned()),
            headers: lines.into_iter().map(|value| ("x".to_owned(), value.to_owned())).collect(),
            ..HttpFacts::default()
        }),
        claims: Fact::Known(issuer.map(|issuer| Map::from_iter([("iss".to_owned(), issuer.into())]))),
        properties: Fact::Known(Map::new()),
        ..Facts::default()
    })
}

/// The same with some of it forgotten.
fn forget(mut facts: Facts, what: u8) -> Facts {
    let is_forgotten = |bit: u8| what >> bit & 1 == 1;
    if is_forgotten(0) {
        facts.peer = Fact::Unknown;
    }
    if is_forgotten(1) {
        facts.remote_ip = Fact::Unknown;
    }
    if is_forgotten(2) {
        facts.claims = Fact::Unknown;
    }
    if is_forgotten(3) {
        facts.destination_port = Fact::Unknown;
    }
    if let Some(http) = &mut facts.http {
        if is_forgotten(4) {
            http.path = Fact::Unknown;
        }
        if is_forgotten(5) {
            http.headers.clear();
            http.may_have_more_headers = true;
        }
    }
    facts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn where_all_is_known_it_is_explained_as_it_is_decided(
        set in proptest::collection::vec(policies(), 0..5),
        facts in all_known(),
    ) {
        let named: Vec<Policy> = set.into_iter().enumerate().map(|(at, one)| {
            let name = PolicyName { name: at.to_string().into(), ..one.name.clone() };
            Policy { name, ..one }
        }).collect();
        let compiled = PolicySet::new(named.iter().cloned().map(Arc::new).collect());
        let told = explain(&named, &facts);
        facts.ask(|request| {
            let decision = compiled.decide(request);
            let name = |at: RuleRef| compiled.rule(request, at).map(|found| RuleName::of(found.policy, found.rule));
            let (why, rule) = match decision.by {
                By::Rule(at) => (Why::Rule, name(at)),
                By::NoAllowingRule => (Why::NoAllowingRule, None),
                By::NoAllowingPolicy => (Why::NoAllowingPolicy, None),
            };
            let expected = if decision.effect == Effect::Allow { Verdict::Allow } else { Verdict::Deny };
            assert_eq!((told.decision, told.why), (expected, why));
            assert_eq!(told.by.as_ref().map(|by| by.rule.clone()), rule);
            let beside = |what| told.besides.iter().find(|one| one.what == what).map(|one| one.rule.clone());
            assert_eq!(beside(Besides::Custom), decision.custom.map(name));
            assert_eq!(beside(Besides::Audit), decision.audit.map(name));
            assert_eq!(beside(Besides::DryRunDeny), decision.dry_run.deny.map(name));
            assert_eq!(beside(Besides::DryRunAllow), decision.dry_run.allow.map(|at| at.and_then(name)));
        });
        // Whatever decides, all fields of a rule that matches are met.
        for by in told.by.iter() {
            assert!(by.fields.iter().all(|one| one.outcome == Outcome::Met));
        }
        for nearest in told.nearest.iter() {
            assert!(nearest.fields.iter().any(|one| one.outcome == Outcome::Missed));
        }
        let _ = told.to_string();
    }

    #[test]
    fn whatever_is_forgotten_a_verdict_that_is_given_is_the_right_one(
        set in proptest::collection::vec(policies(), 0..5),
        facts in all_known(),
        what in any::<u8>(),
    ) {
        let (whole, partly) = (verdict(&set, &facts).0, verdict(&set, &forget(facts, what)).0);
        assert!(whole != Verdict::Depends);
        assert!(partly == Verdict::Depends || partly == whole, "{partly:?} {whole:?}");
    }
}
