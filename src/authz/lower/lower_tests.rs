use std::sync::Arc;

use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

use crate::authz::decide::Effect;
use crate::authz::decide::walk;
use crate::authz::lower::Lowered;
use crate::authz::model::Policy;
use crate::authz::request::Http;
use crate::authz::request::JWT_FILTER;
use crate::authz::request::JWT_PAYLOAD;
use crate::authz::request::Peer;
use crate::authz::request::Request;
use crate::authz::resource::Resource;
use crate::authz::resource::Severity;
use crate::authz::resource::Spec;
use crate::authz::workload::Mesh;

const WEB: &str = "spiffe://td/ns/shop/sa/web";

fn object(spec: Json) -> Json {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "one", "namespace": "shop"}, "spec": spec,
    })
}

fn read(spec: Json) -> Resource {
    Resource::read(&object(spec)).unwrap()
}

fn lowered(resource: &Resource) -> &Arc<Lowered> {
    match &resource.spec {
        Spec::AuthorizationPolicy(lowered) => lowered,
        _ => panic!("another kind"),
    }
}

fn policy(spec: Json) -> Arc<Policy> {
    let resource = read(spec);
    assert_eq!(errors(&resource), Vec::<String>::new());
    lowered(&resource).policy.clone()
}

fn errors(resource: &Resource) -> Vec<String> {
    told(resource, Severity::Error)
}

fn told(resource: &Resource, severity: Severity) -> Vec<String> {
    let faults = resource.faults.iter().filter(|fault| fault.severity == severity);
    faults.map(ToString::to_string).collect()
}

/// A request of which everything is known.
fn usual() -> Request<'static> {
    Request {
        peer: Some(Peer { uris: &[WEB] }),
        source_ip: Some([10, 0, 0, 1].into()),
        remote_ip: Some([192, 0, 2, 1].into()),
        destination_ip: Some([10, 0, 0, 2].into()),
        destination_port: Some(8080),
        sni: "a.test",
        http: Some(Http { method: "GET", path: "/a/b?c=d", host: "Shop.test", headers: &[("x-h", "v")] }),
        metadata: None,
    }
}

fn with_peer(uris: &'static [&'static str]) -> Request<'static> {
    Request { peer: Some(Peer { uris }), ..usual() }
}

fn effect(policy: &Policy, request: &Request<'_>) -> Effect {
    walk(&[policy], request).effect
}

/// Whether a policy that allows has let `request` in.
fn allows(policy: &Policy, request: &Request<'_>) -> bool {
    effect(policy, request) == Effect::Allow
}

fn of_source(name: &str, values: &[&str]) -> Json {
    json!({"rules": [{"from": [{"source": {name: values}}]}]})
}

fn of_operation(name: &str, values: &[&str]) -> Json {
    json!({"rules": [{"to": [{"operation": {name: values}}]}]})
}

fn of_key(key: &str, values: &[&str]) -> Json {
    json!({"rules": [{"when": [{"key": key, "values": values}]}]})
}

#[test]
fn every_empty_form_means_what_istio_says_or_is_refused() {
    use Effect::Allow;
    use Effect::Deny;
    let empty_source = json!({"rules": [{"from": [{"source": {}}]}]});
    let denies = |mut spec: Json| {
        spec["action"] = json!("DENY");
        spec
    };
    for (spec, expected, is_refused) in [
        (json!({}), Deny, false),
        (json!({"rules": []}), Deny, false),
        (json!({"rules": null}), Deny, false),
        (json!({"rules": [{}]}), Allow, false),
        (denies(json!({"rules": [{}]})), Deny, false),
        // Without rules it matches nothing, as Istio's; it is refused, for it is not what anybody means.
        (denies(json!({})), Allow, true),
        (denies(json!({"rules": []})), Allow, true),
        (json!({"action": "CUSTOM", "provider": {"name": "p"}}), Allow, true),
        (json!({"rules": [null]}), Deny, true),
        (denies(json!({"rules": [null]})), Deny, true),
        (json!({"rules": [{"from": []}]}), Deny, true),
        (denies(json!({"rules": [{"from": []}]})), Deny, true),
        (json!({"rules": [{"to": []}]}), Deny, true),
        (empty_source.clone(), Deny, true),
        (denies(empty_source), Deny, true),
        (json!({"rules": [{"from": [{}]}]}), Deny, true),
        (json!({"rules": [{"to": [{"operation": {}}]}]}), Deny, true),
        (json!({"rules": [{"to": [{"operation": null}]}]}), Deny, true),
        (json!({"rules": [{"when": []}]}), Allow, false),
        (json!({"rules": [{"when": [{"key": "source.ip"}]}]}), Deny, true),
        (json!({"rules": [{"when": [{"values": ["x"]}]}]}), Deny, true),
        (of_source("principals", &[""]), Deny, true),
        (denies(of_source("principals", &[""])), Deny, true),
        (of_source("principals", &[]), Deny, true),
        (of_key("", &["x"]), Deny, true),
        // One rule that cannot be read leaves the others.
        (json!({"rules": [null, {}]}), Allow, true),
    ] {
        let resource = read(spec.clone());
        assert_eq!(effect(&lowered(&resource).policy, &usual()), expected, "{spec}");
        assert_eq!(resource.is_faulty(), is_refused, "{spec}: {:?}", resource.faults);
    }
}

#[test]
fn an_object_without_a_spec_allows_nothing() {
    let mut object = object(json!({}));
    object.as_object_mut().unwrap().remove("spec");
    let resource = Resource::read(&object).unwrap();
    assert!(!resource.is_faulty());
    assert!(!allows(&lowered(&resource).policy, &usual()));
}

#[test]
fn lists_are_or_and_fields_and_rules_are_as_istio_joins_them() {
    let spec = json!({"rules": [
        {
            "from": [
                {"source": {"principals": ["td/ns/shop/sa/web", "td/ns/shop/sa/app"], "notIpBlocks": ["10.0.0.9"]}},
                {"source": {"namespaces": ["ops"]}},
            ],
            "to": [{"operation": {"methods": ["GET"]}}, {"operation": {"paths": ["/post"], "methods": ["POST"]}}],
            "when": [
                {"key": "request.headers[x-h]", "values": ["v", "w"], "notValues": ["w"]},
                {"key": "request.headers[x-h]", "values": ["v"]},
            ],
        },
        {"to": [{"operation": {"ports": ["9090"]}}]},
    ]});
    let policy = policy(spec);
    let usual = usual();
    let http = usual.http.unwrap();
    let post = |path| Request { http: Some(Http { method: "POST", path, ..http }), ..usual };
    let header = |headers| Request { http: Some(Http { headers, ..http }), ..usual };
    for (request, expected) in [
        (usual, true),
        (with_peer(&["spiffe://td/ns/shop/sa/app"]), true),
        (with_peer(&["spiffe://td/ns/ops/sa/any"]), true),
        (with_peer(&["spiffe://td/ns/shop/sa/other"]), false),
        (Request { source_ip: Some([10, 0, 0, 9].into()), ..usual }, false),
        (post("/post"), true),
        (post("/get"), false),
        (header(&[("x-h", "w")]), false),
        (header(&[("x-h", "v"), ("x-h", "w")]), false),
        (header(&[]), false),
        (Request { destination_port: Some(9090), http: None, ..usual }, true),
    ] {
        assert_eq!(allows(&policy, &request), expected, "{request:?}");
    }
}

/// A field or key, a value, what else is to be changed of the usual request, and whether it then matches.
#[test]
fn every_field_of_a_source_matches_as_its_row_says() {
    for (name, value, peer, expected) in [
        ("principals", "td/ns/shop/sa/web", WEB, true),
        ("principals", "td/ns/shop/sa/we", WEB, false),
        ("principals", "td/ns/shop/sa/WEB", WEB, false),
        ("principals", "td/ns/shop/*", WEB, true),
        ("principals", "td/ns/sho*", WEB, true),
        ("principals", "*/sa/web", WEB, true),
        ("principals", "*web", "https://td/web", false),
        ("principals", "*", WEB, true),
        ("principals", "*shop*", WEB, false),
        ("principals", "spiffe://td/ns/shop/sa/web", WEB, false),
        ("namespaces", "shop", WEB, true),
        ("namespaces", "sho", WEB, false),
        ("namespaces", "sh*", WEB, true),
        ("namespaces", "*op", WEB, true),
        ("namespaces", "s*p", WEB, true),
        ("namespaces", "sh*hop", WEB, false),
        ("namespaces", "*", WEB, true),
        ("namespaces", "*", "spiffe://td/web", false),
        ("namespaces", "*s", "spiffe://td/ns/shop/sa/web", false),
        ("namespaces", "*s", "spiffe://td/ns/shops/sa/web", true),
        ("namespaces", "*s", "spiffe://td/ns/sa/sa/web", false),
        ("namespaces", "s*s", "spiffe://td/ns/s/sa/web", false),
        ("namespaces", "s*s", "spiffe://td/ns/shops/sa/web", true),
        ("serviceAccounts", "shop/web", WEB, true),
        ("serviceAccounts", "web", WEB, true),
        ("serviceAccounts", "web", "spiffe://other/ns/shop/sa/web", true),
        ("serviceAccounts", "web", "spiffe://td/ns/shop/sa/web/more", true),
        ("serviceAccounts", "web", "spiffe://td/ns/ops/sa/web", false),
        ("serviceAccounts", "shop/we", WEB, false),
        ("serviceAccounts", "shop/eb", WEB, false),
        ("trustDomains", "td", WEB, true),
        ("trustDomains", "t", WEB, false),
        ("trustDomains", "t*", WEB, true),
        ("trustDomains", "*d", WEB, true),
        ("trustDomains", "*", WEB, true),
        ("trustDomains", "other", WEB, false),
    ] {
        let uris: &[&str] = &[peer];
        let request = Request { peer: Some(Peer { uris }), ..usual() };
        let not = format!("not{}{}", name[..1].to_uppercase(), &name[1..]);
        let key = match name {
            "principals" => "source.principal",
            "namespaces" => "source.namespace",
            "serviceAccounts" => "source.serviceAccount",
            _ => "source.trustDomain",
        };
        for bare in [request, Request { http: None, ..request }] {
            assert_eq!(allows(&policy(of_source(name, &[value])), &bare), expected, "{name} {value} {peer}");
            assert_eq!(allows(&policy(of_key(key, &[value])), &bare), expected, "{key} {value} {peer}");
            assert_eq!(allows(&policy(of_source(&not, &[value])), &bare), !expected, "{not} {value} {peer}");
        }
        // Nobody is nobody, whether asked for or excluded.
        let nobody = Request { peer: None, ..request };
        assert!(!allows(&policy(of_source(name, &[value])), &nobody), "{name} {value}");
        assert!(!allows(&policy(of_source(&not, &[value])), &nobody), "{not} {value}");
    }
}

#[test]
fn every_other_field_and_key_matches_as_its_row_says() {
    let source = |name: &str, value: &str| of_source(name, &[value]);
    let operation = |name: &str, value: &str| of_operation(name, &[value]);
    let key = |name: &str, value: &str| of_key(name, &[value]);
    // What is written, whether it matches the usual request, and whether it is asked of bare connections too.
    for (spec, expected, of_connections) in [
        (source("ipBlocks", "10.0.0.0/24"), true, true),
        (source("ipBlocks", "10.0.0.2"), false, true),
        (source("ipBlocks", "192.0.2.1"), false, true),
        (source("remoteIpBlocks", "192.0.2.0/24"), true, true),
        (source("remoteIpBlocks", "10.0.0.1"), false, true),
        (key("source.ip", "10.0.0.1"), true, true),
        (key("remote.ip", "192.0.2.1"), true, true),
        (key("destination.ip", "10.0.0.2/31"), true, true),
        (key("destination.ip", "10.0.0.1"), false, true),
        (key("destination.port", "8080"), true, true),
        (key("connection.sni", "a.test"), true, true),
        (key("connection.sni", "A.test"), true, true),
        (key("connection.sni", "*.test"), true, true),
        (key("connection.sni", "b*"), false, true),
        (operation("ports", "8080"), true, true),
        (operation("ports", "80"), false, true),
        (operation("ports", "08080"), true, true),
        (operation("hosts", "shop.test"), true, false),
        (operation("hosts", "SHOP.*"), true, false),
        (operation("hosts", "shop.test:80"), false, false),
        (operation("hosts", "shop"), false, false),
        (operation("methods", "GET"), true, false),
        (operation("methods", "get"), false, false),
        (operation("methods", "*"), true, false),
        (operation("methods", "G*"), true, false),
        (operation("paths", "/a/b"), true, false),
        (operation("paths", "/a/*"), true, false),
        (operation("paths", "*/b"), true, false),
        (operation("paths", "/a*b"), false, false),
        (operation("paths", "/a/b?c=d"), false, false),
        (operation("paths", "/a/{*}"), true, false),
        (operation("paths", "/{**}"), true, false),
        (operation("paths", "/{*}"), false, false),
        (key("request.headers[X-H]", "v"), true, false),
        (key("request.headers[x-h]", "V"), false, false),
        (key("request.headers[x-h]", "*"), true, false),
        (key("request.headers[x-i]", "*"), false, false),
        (key("request.headers[:authority]", "Shop.test"), true, false),
    ] {
        let policy = policy(spec.clone());
        assert_eq!(allows(&policy, &usual()), expected, "{spec}");
        let bare = Request { http: None, ..usual() };
        let connections = policy.for_connections();
        assert_eq!(allows(&connections, &bare), expected && of_connections, "{spec}");
    }
}

#[test]
fn claims_and_request_principals_match_as_their_rows_say() {
    let key = |name: &str, value: &str| of_key(name, &[value]);
    let claims = json!({
        "iss": "https://issuer/a", "sub": "me", "aud": ["one", "two"], "azp": "app", "groups": "admins", "level": 5,
        "root": true, "nested": {"deep": ["x"], "text": "y"}, "a][": "odd", "scope": ["read", "write"],
    });
    for (spec, expected) in [
        (of_source("requestPrincipals", &["*"]), true),
        (of_source("requestPrincipals", &["*e"]), true),
        (of_source("requestPrincipals", &["*me2"]), false),
        (of_source("requestPrincipals", &["*er/a/me"]), true),
        (of_source("requestPrincipals", &["*/me"]), true),
        (of_source("requestPrincipals", &["*/you"]), false),
        (of_source("requestPrincipals", &["https://issuer/a/*"]), true),
        (of_source("requestPrincipals", &["https://issuer/a/m*"]), true),
        (of_source("requestPrincipals", &["https://issuer/*"]), false),
        (of_source("requestPrincipals", &["https://issuer/a/me"]), true),
        (of_source("requestPrincipals", &["https://issuer/me"]), false),
        (of_source("requestPrincipals", &["h*"]), true),
        (of_source("requestPrincipals", &["me"]), false),
        (of_source("notRequestPrincipals", &["*"]), false),
        (key("request.auth.principal", "https://issuer/a/me"), true),
        (key("request.auth.audiences", "two"), true),
        (key("request.auth.audiences", "three"), false),
        (key("request.auth.audiences", "t*"), true),
        (key("request.auth.presenter", "app"), true),
        (key("request.auth.claims[groups]", "admins"), true),
        (key("request.auth.claims[groups]", "admin*"), true),
        (key("request.auth.claims[scope]", "write"), true),
        (key("request.auth.claims[scope]", "read write"), false),
        (key("request.auth.claims[level]", "5"), false),
        (key("request.auth.claims[root]", "true"), false),
        (key("request.auth.claims[nested]", "*"), false),
        (key("request.auth.claims[nested][deep]", "x"), true),
        (key("request.auth.claims[nested][text]", "y"), true),
        (key("request.auth.claims[nested][none]", "*"), false),
        (key("request.auth.claims[a][]", "odd"), true),
        (key("request.auth.claims[missing]", "*"), false),
    ] {
        let policy = policy(spec.clone());
        let metadata: Map<String, Json> =
            [(JWT_FILTER.to_owned(), json!({JWT_PAYLOAD: claims}))].into_iter().collect();
        let with_token = Request { metadata: Some(&metadata), ..usual() };
        assert_eq!(allows(&policy, &with_token), expected, "{spec}");
        let is_negated = spec.to_string().contains("not");
        assert_eq!(allows(&policy, &usual()), is_negated, "{spec} without a token");
        assert!(policy.for_connections().rules.is_empty(), "{spec} on a bare connection");
    }
}

#[test]
fn an_issuer_alone_is_one_with_an_empty_subject() {
    let policy = policy(of_source("requestPrincipals", &["x"]));
    for (claims, expected) in [
        (json!({"iss": "x", "sub": ""}), true),
        (json!({"iss": "x"}), false),
        (json!({"iss": "x", "sub": "y"}), false),
    ] {
        let metadata: Map<String, Json> =
            [(JWT_FILTER.to_owned(), json!({JWT_PAYLOAD: claims}))].into_iter().collect();
        assert_eq!(allows(&policy, &Request { metadata: Some(&metadata), ..usual() }), expected, "{claims}");
    }
}

#[test]
fn what_a_filter_found_out_is_a_text_or_in_brackets_one_of_a_list() {
    let metadata = json!({"envoy.filters.a.b": {"k": "v", "list": ["x", "y"]}});
    let metadata = metadata.as_object().unwrap();
    for (key, value, expected) in [
        ("experimental.envoy.filters.a.b[k]", "v", true),
        ("experimental.envoy.filters.a.b[k]", "*", true),
        ("experimental.envoy.filters.a.b[k]", "[v]", false),
        ("experimental.envoy.filters.a.b[list]", "[y]", true),
        ("experimental.envoy.filters.a.b[list]", "[x*]", true),
        ("experimental.envoy.filters.a.b[list]", "y", false),
        ("experimental.envoy.filters.a.c[k]", "v", false),
    ] {
        let request = Request { metadata: Some(metadata), http: None, ..usual() };
        assert_eq!(allows(&policy(of_key(key, &[value])), &request), expected, "{key} {value}");
    }
}

#[test]
fn keys_that_no_policy_may_have_are_refused_with_what_to_do_instead() {
    for (key, expected) in [
        ("destination.namespace", "own namespace"),
        ("destination.labels[app]", "selector"),
        ("destination.name", "selector"),
        ("destination.user", "selector"),
        ("source.principle", "unknown attribute"),
        ("request.headers", "name the header"),
        ("request.headers[]", "name the header"),
        ("request.headers[a b]", "name the header"),
        ("request.auth.claims", "name the claim"),
        ("request.auth.claims[]", "name the claim"),
        ("experimental.envoy.filters.a", "name filter and key"),
        ("destination.ports", "unknown attribute"),
    ] {
        let resource = read(of_key(key, &["x"]));
        let [error] = errors(&resource).try_into().unwrap();
        assert!(error.contains(expected) && error.starts_with("spec.rules[0].when[0].key: "), "{error}");
        assert!(!allows(&lowered(&resource).policy, &usual()));
    }
}

/// Rows of `lower`'s own table: each part made unreadable in turn.
#[test]
fn what_cannot_be_read_only_ever_reduces_access() {
    let good = json!({
        "selector": {"matchLabels": {"app": "a"}},
        "rules": [{
            "from": [{"source": {"principals": ["td/ns/shop/sa/nobody"]}}],
            "to": [{"operation": {"ports": ["1"]}}],
            "when": [{"key": "source.ip", "values": ["192.0.2.99"]}],
        }],
    });
    for (pointer, bad) in [
        ("/rules/0/from/0/source/principals/0", json!(5)),
        ("/rules/0/from/0/source/principals", json!("text")),
        ("/rules/0/from/0/source", json!([])),
        ("/rules/0/from/0/source/ipBlocks", json!(["10.0.0.0/33"])),
        ("/rules/0/from/0/source/wrong", json!(["x"])),
        ("/rules/0/from/0/wrong", json!({})),
        ("/rules/0/from", json!({})),
        ("/rules/0/from", json!([null])),
        ("/rules/0/to/0/operation/ports/0", json!("65536")),
        ("/rules/0/to/0/operation/ports/0", json!("-1")),
        ("/rules/0/to/0/operation/ports/0", json!("80-90")),
        ("/rules/0/to/0/operation/paths", json!(["/{a}"])),
        ("/rules/0/to", json!(7)),
        ("/rules/0/when/0/key", json!("nothing")),
        ("/rules/0/when/0/values/0", json!("nothing")),
        ("/rules/0/when/0/wrong", json!(1)),
        ("/rules/0/when", json!("x")),
        ("/rules/0/wrong", json!(1)),
        ("/rules/0", json!("x")),
        ("/rules", json!("x")),
        ("/rules", json!({})),
        ("/selector/matchLabels", json!(1)),
        ("/selector/matchExpressions", json!([])),
        ("/selector", json!("x")),
        ("/targetRefs", json!([{"kind": "Pod", "name": "x"}])),
        ("/wrong", json!(1)),
        ("/provider", json!({"name": "x"})),
        ("/action", json!("DENNY")),
        ("/action", json!("deny")),
        ("/action", json!(1)),
    ] {
        for action in ["ALLOW", "DENY"] {
            let mut spec = good.clone();
            spec["action"] = json!(action);
            set(&mut spec, pointer, &bad);
            let resource = read(spec.clone());
            assert!(resource.is_faulty(), "{spec}");
            let policy = &lowered(&resource).policy;
            // What is allowed no longer is, and what is denied still is.
            let matching = Request {
                peer: Some(Peer { uris: &["spiffe://td/ns/shop/sa/nobody"] }),
                source_ip: Some([192, 0, 2, 99].into()),
                destination_port: Some(1),
                ..usual()
            };
            assert_eq!(effect(policy, &matching), Effect::Deny, "{spec}");
            for fault in resource.faults.iter().filter(|fault| fault.severity == Severity::Error) {
                assert!(!fault.effect.is_empty(), "{fault}");
            }
        }
    }
}

/// Puts `value` at a JSON pointer whose last part may not be there yet.
fn set(json: &mut Json, pointer: &str, value: &Json) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match json.pointer_mut(parent).unwrap() {
        Json::Array(list) => list[last.parse::<usize>().unwrap()] = value.clone(),
        Json::Object(map) => drop(map.insert(last.to_owned(), value.clone())),
        other => panic!("{pointer} of {other}"),
    }
}

#[test]
fn of_a_rule_that_denies_only_the_unreadable_field_is_left_out() {
    let resource = read(json!({"action": "DENY", "rules": [{
        "from": [{"source": {"principals": ["td/ns/shop/sa/web"], "ipBlocks": ["no"]}}],
    }]}));
    let policy = &lowered(&resource).policy;
    assert_eq!(effect(policy, &usual()), Effect::Deny);
    assert_eq!(effect(policy, &with_peer(&["spiffe://td/ns/shop/sa/other"])), Effect::Allow);
    assert_eq!(
        errors(&resource),
        [
            "spec.rules[0].from[0].source.ipBlocks[0]: `no` is not an address or CIDR; write it like `10.0.0.0/8`, \
          `10.1.2.3` or `2001:db8::/32`; it is left out, so that the rule denies more until it is corrected"
        ]
    );
}

#[test]
fn a_field_with_one_bad_value_is_not_read_by_its_good_ones() {
    // Without the bad one, `notPorts` would exclude less, and so deny more than was said; but what was said is not known.
    let resource = read(json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["1", "x"]}}]}]}));
    assert_eq!(effect(&lowered(&resource).policy, &usual()), Effect::Deny);
}

#[test]
fn what_is_done_about_an_unknown_field_is_told_as_it_is() {
    for (spec, expected) in [
        (json!({"x": 1, "rules": [{}]}), "the policy allows nothing until it is corrected"),
        (json!({"x": 1, "action": "DENY", "rules": [{}]}), "it is left out"),
        (json!({"x": 1, "action": "DENY"}), "the policy denies everything until it is corrected"),
        (json!({"x": 1, "action": "NO"}), "the policy denies everything until it is corrected"),
    ] {
        let resource = read(spec.clone());
        let fault = resource.faults.iter().find(|fault| fault.path == "spec.x").unwrap();
        assert_eq!(fault.effect, expected, "{spec}");
    }
}

#[test]
fn a_misspelt_action_or_rules_close_what_they_are_for() {
    for spec in [
        json!({"acton": "DENY", "rules": [{}]}),
        json!({"action": "DENY", "rulez": [{}]}),
        json!({"action": "DENY", "rules": [], "ruls": [{}]}),
        json!({"action": "CUSTOM", "rules": [{}]}),
        json!({"action": "CUSTOM", "provider": {}, "rules": [{}]}),
        json!({"action": "CUSTOM", "provider": {"name": "p", "x": 1}, "rules": [{}]}),
        json!([]),
        json!("x"),
    ] {
        let resource = read(spec.clone());
        assert!(resource.is_faulty(), "{spec}");
        assert_eq!(effect(&lowered(&resource).policy, &usual()), Effect::Deny, "{spec}");
    }
    let mut misplaced = object(json!({"rules": [{}]}));
    misplaced["action"] = json!("DENY");
    let resource = Resource::read(&misplaced).unwrap();
    assert_eq!(effect(&lowered(&resource).policy, &usual()), Effect::Deny);
}

#[test]
fn what_is_wrong_is_told_with_its_path_and_what_is_done() {
    let policy = read(json!({"rules": [{}, {"from": [
        {"source": {"ipBlocks": ["10.0.0.0/8", "10.0.0.0/33"], "principls": ["x"]}},
    ]}]}));
    assert_eq!(
        errors(&policy),
        [
            "spec.rules[1].from[0].source.principls: unknown field; did you mean `principals`?; \
             the rule allows nothing until it is corrected",
            "spec.rules[1].from[0].source.ipBlocks[1]: `10.0.0.0/33` is not an address or CIDR; write it like \
             `10.0.0.0/8`, `10.1.2.3` or `2001:db8::/32`; the rule allows nothing until it is corrected",
        ]
    );
}

#[test]
fn dry_run_is_what_go_reads_it_as_and_only_for_what_allows_or_denies() {
    for (text, action, expected, is_refused) in [
        ("true", "ALLOW", true, false),
        ("1", "DENY", true, false),
        ("T", "ALLOW", true, false),
        ("False", "ALLOW", false, false),
        ("0", "AUDIT", false, false),
        ("true", "AUDIT", false, true),
        ("yes", "DENY", false, true),
        ("yes", "ALLOW", false, true),
        ("tRUE", "ALLOW", false, true),
    ] {
        let mut object = object(json!({"action": action, "rules": [{}]}));
        object["metadata"]["annotations"] = json!({"istio.io/dry-run": text});
        let resource = Resource::read(&object).unwrap();
        let policy = &lowered(&resource).policy;
        assert_eq!((policy.dry_run, resource.is_faulty()), (expected, is_refused), "{text} {action}");
        if is_refused && action == "ALLOW" {
            assert!(!allows(policy, &usual()));
        }
    }
}

#[test]
fn a_custom_policy_cannot_ask_who_the_caller_is() {
    let custom = |mut spec: Json| {
        spec["action"] = json!("CUSTOM");
        spec["provider"] = json!({"name": "p"});
        read(spec)
    };
    for spec in [
        of_source("principals", &["a"]),
        of_source("notNamespaces", &["a"]),
        of_source("serviceAccounts", &["a"]),
        of_source("trustDomains", &["a"]),
        of_source("requestPrincipals", &["a"]),
        of_key("source.principal", &["a"]),
        of_key("source.namespace", &["a"]),
        of_key("source.serviceAccount", &["a"]),
        of_key("source.trustDomain", &["a"]),
        of_key("request.auth.claims[a]", &["a"]),
        of_key("request.auth.audiences", &["a"]),
        of_key("request.auth.presenter", &["a"]),
        of_key("request.auth.principal", &["a"]),
    ] {
        let resource = custom(spec.clone());
        assert!(resource.is_faulty(), "{spec}");
        // The field is left out, so that more is asked about.
        assert!(walk(&[&*lowered(&resource).policy], &usual()).custom.is_some(), "{spec}");
    }
    for spec in [of_source("ipBlocks", &["10.0.0.1"]), of_operation("paths", &["/a/b"])] {
        assert!(!custom(spec).is_faulty());
    }
}

#[test]
fn principals_of_the_mesh_are_known_by_all_its_names() {
    let mesh =
        Mesh { aliases: vec!["old".to_owned(), "*.example".to_owned()], ..Mesh::of("td".parse().unwrap()) };
    for (name, value, peer, expected) in [
        ("principals", "td/ns/shop/sa/web", "spiffe://old/ns/shop/sa/web", true),
        ("principals", "old/ns/shop/sa/web", WEB, true),
        ("principals", "cluster.local/ns/shop/sa/web", WEB, true),
        ("principals", "cluster.local/ns/shop/sa/web", "spiffe://old/ns/shop/sa/web", true),
        ("principals", "a.example/ns/shop/sa/web", WEB, true),
        ("principals", "other/ns/shop/sa/web", WEB, false),
        ("principals", "other/ns/shop/sa/web", "spiffe://other/ns/shop/sa/web", true),
        ("principals", "old/ns/shop/*", WEB, false),
        ("principals", "old/ns/shop/sa/*", WEB, true),
        ("principals", "*/ns/shop/sa/web", WEB, true),
        ("principals", "t*/ns/shop/sa/web", WEB, true),
        ("trustDomains", "old", WEB, true),
        ("trustDomains", "td", "spiffe://old/ns/shop/sa/web", true),
        ("trustDomains", "cluster.local", WEB, true),
        ("trustDomains", "o*", WEB, false),
    ] {
        let resource = read(of_source(name, &[value]));
        let policy = lowered(&resource).in_mesh(&resource.id, &mesh);
        let request = Request { peer: Some(Peer { uris: &[peer] }), ..usual() };
        assert_eq!(allows(&policy, &request), expected, "{value} {peer}");
        // Asked again, for another mesh, and again.
        let alone = Mesh::of("elsewhere".parse().unwrap());
        let elsewhere = lowered(&resource).in_mesh(&resource.id, &alone);
        assert_eq!(elsewhere, lowered(&read(of_source(name, &[value]))).in_mesh(&resource.id, &alone));
        assert_eq!(lowered(&resource).in_mesh(&resource.id, &mesh), policy);
    }
}

#[test]
fn a_rule_of_http_closes_connections_if_it_denies_and_is_dropped_if_it_allows() {
    let rules = json!([{"from": [{"source": {"namespaces": ["shop"]}}], "to": [{"operation": {"methods": ["GET"]}}]}]);
    let bare = Request { http: None, ..usual() };
    let elsewhere = Request { peer: Some(Peer { uris: &["spiffe://td/ns/x/sa/y"] }), ..bare };
    let allow = policy(json!({"rules": rules})).for_connections();
    assert_eq!(effect(&allow, &bare), Effect::Deny);
    let deny = policy(json!({"action": "DENY", "rules": rules})).for_connections();
    assert_eq!(effect(&deny, &bare), Effect::Deny);
    assert_eq!(effect(&deny, &elsewhere), Effect::Allow);
}

#[test]
fn what_may_not_be_meant_is_warned_of_and_admitted() {
    let denies = json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]});
    for (spec, expected) in [
        (denies, "on ports that are not HTTP it denies everything"),
        (of_source("notPrincipals", &["a"]), "callers who show no certificate are excluded too"),
        (of_source("principals", &["spiffe://td/ns/a/sa/b"]), "`spiffe://` is put before the value"),
        (of_operation("paths", &["/a/*/b"]), "stands for itself"),
        (of_operation("paths", &["*a*"]), "stands for itself"),
        (of_operation("paths", &["a"]), "paths begin with `/`"),
        (of_operation("methods", &["get"]), "upper case"),
        (of_source("trustDomains", &["td*"]), "other names of the mesh"),
    ] {
        let resource = read(spec.clone());
        assert!(!resource.is_faulty(), "{spec}");
        let [warning] = told(&resource, Severity::Warning).try_into().unwrap();
        assert!(warning.contains(expected), "{warning}");
    }
}

// === advisories, by what they must not be again ===

/// CVE-2026-39350 and istio 59992: values of policies stood in regexes unescaped.
#[test]
fn a_dot_in_a_service_account_is_a_dot() {
    for (name, value, other) in [
        ("serviceAccounts", "shop/a.b", "spiffe://td/ns/shop/sa/axb"),
        ("serviceAccounts", "shop/(a|b)", "spiffe://td/ns/shop/sa/a"),
        ("principals", "*/sa/a.b", "spiffe://td/ns/shop/sa/axb"),
        ("principals", "*.+", "spiffe://td/ns/shop/sa/a"),
        ("principals", "td/ns/sh.p/sa/a*", "spiffe://td/ns/shop/sa/a"),
        ("namespaces", "sh.p", "spiffe://td/ns/shop/sa/a"),
        ("namespaces", "s*.p", "spiffe://td/ns/shop/sa/a"),
        ("trustDomains", "t.", "spiffe://td/ns/shop/sa/a"),
        ("trustDomains", "*.d", "spiffe://td/ns/shop/sa/a"),
    ] {
        let request = Request { peer: Some(Peer { uris: &[other] }), ..usual() };
        assert!(!allows(&policy(of_source(name, &[value])), &request), "{name} {value}");
    }
}

#[test]
fn metacharacters_are_no_namespaces_or_trust_domains_and_allow_nothing() {
    for (name, value) in [
        ("namespaces", "(.*)"),
        ("namespaces", "[a-z]"),
        ("namespaces", "a/sa/b"),
        ("namespaces", "*a*b"),
        ("namespaces", "**"),
        ("trustDomains", ".+("),
        ("trustDomains", "a/ns"),
        ("trustDomains", "a*b"),
        ("trustDomains", "*a*"),
        ("serviceAccounts", "shop/*"),
        ("serviceAccounts", "a/b/c"),
        ("serviceAccounts", "/a"),
        ("serviceAccounts", "a/"),
    ] {
        let resource = read(of_source(name, &[value]));
        assert!(resource.is_faulty(), "{name} {value}");
        assert!(!allows(&lowered(&resource).policy, &usual()), "{name} {value}");
    }
}

/// ISTIO-SECURITY-2021-004.
#[test]
fn plain_text_is_not_let_in_by_a_list_of_those_who_are_not() {
    let nobody = Request { peer: None, ..usual() };
    for name in ["notPrincipals", "notNamespaces", "notServiceAccounts", "notTrustDomains"] {
        let allow = policy(of_source(name, &["other"]));
        assert!(allows(&allow, &usual()) && !allows(&allow, &nobody), "{name}");
        let mut deny = of_source(name, &["other"]);
        deny["action"] = json!("DENY");
        assert_eq!(effect(&policy(deny), &nobody), Effect::Deny, "{name}");
    }
    for key in ["source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain"] {
        let spec = json!({"rules": [{"when": [{"key": key, "notValues": ["other"]}]}]});
        assert!(!allows(&policy(spec), &nobody), "{key}");
    }
}

/// ISTIO-SECURITY-2026-002 and -006, CVE-2022-24726: without bounds, one object is enough.
#[test]
fn everything_that_is_written_has_a_bound() {
    let long = "a".repeat(2049);
    let rules = |count: usize| json!({"rules": vec![json!({}); count]});
    let many = |list: &str, inner: &str, name: &str, count: usize| json!({"rules": [{list: vec![json!({inner: {name: ["1"]}}); count]}]});
    let accounts = |count: usize| of_source("serviceAccounts", &vec!["a"; count]);
    let target = json!({"kind": "Service", "group": "", "name": "a"});
    for (within, beyond) in [
        (rules(512), rules(513)),
        (many("from", "source", "namespaces", 512), many("from", "source", "namespaces", 513)),
        (many("to", "operation", "ports", 512), many("to", "operation", "ports", 513)),
        (accounts(16), accounts(17)),
        (of_source("serviceAccounts", &[&long[..320]]), of_source("serviceAccounts", &[&long[..321]])),
        (of_operation("hosts", &[&long[..2048]]), of_operation("hosts", &[&long])),
        (json!({"targetRefs": vec![target.clone(); 16]}), json!({"targetRefs": vec![target; 17]})),
    ] {
        assert!(!read(within).is_faulty());
        let resource = read(beyond);
        assert!(resource.is_faulty());
        assert!(!allows(&lowered(&resource).policy, &usual()));
    }
}

/// CVE-2022-24726.
#[test]
fn a_deep_object_is_refused_and_not_walked() {
    let mut deep = json!("x");
    for _ in 0..100 {
        deep = json!([deep]);
    }
    assert!(Resource::read(&object(json!({"rules": deep}))).is_err());
    let text = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(crate::authz::resource::from_yaml(&text).is_err());
}

/// CVE-2021-39155.
#[test]
fn a_host_is_the_same_in_whatever_case() {
    let deny =
        policy(json!({"action": "DENY", "rules": [{"to": [{"operation": {"hosts": ["sHop.TEST"]}}]}]}));
    for host in ["shop.test", "SHOP.test", "Shop.Test"] {
        let http = Some(Http { host, ..usual().http.unwrap() });
        assert_eq!(effect(&deny, &Request { http, ..usual() }), Effect::Deny);
    }
}

/// CVE-2020-16844.
#[test]
fn a_suffix_of_a_principal_is_denied_on_connections_too() {
    let deny =
        policy(json!({"action": "DENY", "rules": [{"from": [{"source": {"principals": ["*/sa/web"]}}]}]}));
    let bare = Request { http: None, ..usual() };
    assert_eq!(effect(&deny.for_connections(), &bare), Effect::Deny);
}
