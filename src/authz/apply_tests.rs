use std::time::Duration;

use serde_json::Value as Json;
use serde_json::json;

use crate::authz::apply::Applied;
use crate::authz::apply::apply;
use crate::authz::jwt_issuer::Keys;
use crate::authz::jwt_issuer::TokenPlace;
use crate::authz::model::Action;
use crate::authz::mtls::MtlsMode;
use crate::authz::resource::Resource;
use crate::authz::workload::Mesh;
use crate::authz::workload::Proxy;
use crate::authz::workload::Workload;

fn object(kind: &str, namespace: &str, name: &str, spec: &Json) -> Resource {
    Resource::read(&json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    }))
    .unwrap()
}

fn applied(resources: &[Resource], workload: &Workload) -> Applied {
    apply(resources, workload, &Mesh::of("td".parse().unwrap()))
}

fn sidecar() -> Workload {
    let labels = [("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())].into();
    Workload { namespace: "shop".to_owned(), labels, ..Workload::default() }
}

fn gateway() -> Workload {
    Workload { proxy: Proxy::Gateway { name: "gate".to_owned() }, ..sidecar() }
}

fn waypoint() -> Workload {
    let service =
        |kind: &str, namespace: &str, name: &str| (kind.to_owned(), namespace.to_owned(), name.to_owned());
    let services = vec![service("Service", "shop", "cart"), service("ServiceEntry", "ops", "bank")];
    let (name, class) = ("way".to_owned(), "istio-waypoint".to_owned());
    Workload { proxy: Proxy::Waypoint { name, class, services }, ..sidecar() }
}

#[test]
fn every_kind_of_proxy_is_selected_as_its_row_says() {
    let labels = |labels: Json| json!({"selector": {"matchLabels": labels}});
    let target = |group: &str, kind: &str, name: &str| json!({"targetRefs": [{"group": group, "kind": kind, "name": name}]});
    let gate = target("gateway.networking.k8s.io", "Gateway", "gate");
    let way = target("gateway.networking.k8s.io", "Gateway", "way");
    let class = target("gateway.networking.k8s.io", "GatewayClass", "istio-waypoint");
    let cart = target("", "Service", "cart");
    let bank = target("networking.istio.io", "ServiceEntry", "bank");
    let mut elsewhere = gate.clone();
    elsewhere["targetRefs"][0]["namespace"] = json!("ops");
    let mut own = gate.clone();
    own["targetRefs"][0]["namespace"] = json!("shop");
    // Namespace, spec, and whether it is for the sidecar, the gateway, and the waypoint.
    for (namespace, spec, expected) in [
        ("shop", json!({}), [true, true, false]),
        ("istio-system", json!({}), [true, true, false]),
        ("ops", json!({}), [false, false, false]),
        ("shop", labels(json!({"app": "web"})), [true, true, false]),
        ("shop", labels(json!({"app": "web", "tier": "front"})), [true, true, false]),
        ("shop", labels(json!({"app": "web", "tier": "back"})), [false, false, false]),
        ("shop", labels(json!({"other": "web"})), [false, false, false]),
        ("shop", labels(json!({})), [true, true, false]),
        ("istio-system", labels(json!({"app": "web"})), [true, true, false]),
        ("ops", labels(json!({"app": "web"})), [false, false, false]),
        ("shop", gate.clone(), [false, true, false]),
        ("istio-system", gate, [false, false, false]),
        ("shop", way.clone(), [false, false, true]),
        ("ops", way, [false, false, false]),
        ("shop", class.clone(), [false, false, false]),
        ("istio-system", class, [false, false, true]),
        ("shop", cart.clone(), [false, false, true]),
        ("ops", cart, [false, false, false]),
        ("ops", bank.clone(), [false, false, true]),
        ("shop", bank, [false, false, false]),
        ("shop", elsewhere, [false, false, false]),
        ("shop", own, [false, true, false]),
        // What cannot be read is for all of its scope.
        ("shop", json!({"selector": {"matchLabel": {}}}), [true, true, true]),
        ("ops", json!({"selector": 5}), [false, false, true]),
        ("istio-system", json!({"selector": 5}), [true, true, true]),
        ("shop", json!({"selector": {"matchLabels": {"a": "*"}}}), [true, true, true]),
        ("shop", json!({"selector": {}, "targetRefs": []}), [true, true, true]),
        ("shop", target("", "Gateway", "gate"), [true, true, true]),
        ("shop", target("", "Service", ""), [true, true, true]),
    ] {
        let policy = object("AuthorizationPolicy", namespace, "one", &spec);
        let found = [sidecar(), gateway(), waypoint()].map(|workload| {
            let applied = applied(std::slice::from_ref(&policy), &workload);
            assert_eq!(applied.by.len(), applied.policies.len());
            !applied.policies.is_empty()
        });
        assert_eq!(found, expected, "{namespace} {spec}");
    }
}

#[test]
fn policies_come_by_name_whatever_the_order_they_are_given_in() {
    let all = ["b", "a", "c"].map(|name| object("AuthorizationPolicy", "shop", name, &json!({})));
    let [b, a, c] = all.clone();
    assert_eq!(applied(&all, &sidecar()), applied(&[a, b, c], &sidecar()));
}

#[test]
fn a_policy_that_needs_no_mesh_is_lowered_once_for_all_workloads() {
    let policy = object("AuthorizationPolicy", "shop", "one", &json!({"rules": [{}]}));
    let one = applied(std::slice::from_ref(&policy), &sidecar());
    let other = applied(std::slice::from_ref(&policy), &gateway());
    assert!(std::sync::Arc::ptr_eq(&one.policies[0], &other.policies[0]));
}

// === PeerAuthentication ===

fn peer(namespace: &str, name: &str, created: &str, spec: &Json) -> Resource {
    Resource::read(&json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created}, "spec": spec,
    }))
    .unwrap()
}

fn mode(mode: &str) -> Json {
    json!({"mtls": {"mode": mode}})
}

fn of_web(mode: &str) -> Json {
    json!({"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": mode}})
}

#[test]
fn the_workload_comes_before_the_namespace_and_that_before_the_mesh() {
    let early = "2024-01-01T00:00:00Z";
    let late = "2024-01-02T00:00:00Z";
    let mesh = |spec: &Json| peer("istio-system", "mesh", early, spec);
    let namespace = |spec: &Json| peer("shop", "namespace", early, spec);
    let workload = |spec: &Json| peer("shop", "workload", early, spec);
    for (objects, expected) in [
        (vec![], MtlsMode::Permissive),
        (vec![mesh(&mode("STRICT"))], MtlsMode::Strict),
        (vec![mesh(&mode("STRICT")), namespace(&mode("DISABLE"))], MtlsMode::Disable),
        (vec![mesh(&mode("STRICT")), namespace(&mode("UNSET"))], MtlsMode::Strict),
        (vec![mesh(&mode("STRICT")), namespace(&json!({}))], MtlsMode::Strict),
        (vec![namespace(&mode("DISABLE")), workload(&of_web("STRICT"))], MtlsMode::Strict),
        (vec![namespace(&mode("DISABLE")), workload(&of_web("UNSET"))], MtlsMode::Disable),
        (vec![peer("ops", "namespace", early, &mode("STRICT"))], MtlsMode::Permissive),
        // With a selector, one of the root namespace does not count.
        (vec![peer("istio-system", "a", early, &of_web("STRICT"))], MtlsMode::Permissive),
        (
            vec![peer("shop", "a", late, &mode("DISABLE")), peer("shop", "b", early, &mode("STRICT"))],
            MtlsMode::Strict,
        ),
        (
            vec![peer("shop", "b", early, &mode("DISABLE")), peer("shop", "a", early, &mode("STRICT"))],
            MtlsMode::Strict,
        ),
        // What cannot be read asks for mutual TLS.
        (vec![namespace(&mode("strict"))], MtlsMode::Strict),
        (vec![namespace(&json!({"mtls": {"mod": "DISABLE"}}))], MtlsMode::Strict),
        (vec![namespace(&json!({"mtsl": {"mode": "DISABLE"}}))], MtlsMode::Strict),
        (vec![workload(&json!({"selector": 1, "mtls": {"mode": "DISABLE"}}))], MtlsMode::Strict),
    ] {
        let found = applied(&objects, &sidecar()).mtls;
        assert_eq!(found.mode, expected, "{objects:?}");
        assert!(found.ports.is_empty());
    }
}

#[test]
fn single_ports_may_ask_for_something_else() {
    let mut spec = of_web("STRICT");
    spec["portLevelMtls"] =
        json!({"8080": {"mode": "DISABLE"}, "9090": {"mode": "UNSET"}, "7070": {"mode": "no"}});
    let mtls = applied(&[peer("shop", "a", "", &spec)], &sidecar()).mtls;
    for (port, expected) in
        [(8080, MtlsMode::Disable), (9090, MtlsMode::Strict), (7070, MtlsMode::Strict), (1, MtlsMode::Strict)]
    {
        assert_eq!(mtls.at(port), expected, "{port}");
    }
    spec["portLevelMtls"] = json!({"80a": {"mode": "DISABLE"}, "81": {"mode": "DISABLE"}});
    spec["mtls"]["mode"] = json!("DISABLE");
    let unreadable = peer("shop", "a", "", &spec);
    assert!(unreadable.is_faulty());
    assert_eq!(applied(&[unreadable], &sidecar()).mtls.at(81), MtlsMode::Strict);
    let of_all = peer("shop", "a", "", &json!({"portLevelMtls": {"80": {"mode": "DISABLE"}}}));
    assert!(of_all.is_faulty());
    assert_eq!(applied(&[of_all], &sidecar()).mtls.at(80), MtlsMode::Strict);
}

// === RequestAuthentication ===

fn issuers(spec: &Json) -> Resource {
    object("RequestAuthentication", "shop", "tokens", spec)
}

#[test]
fn all_that_are_for_a_workload_count_together() {
    let rule = |issuer: &str| json!({"jwtRules": [{"issuer": issuer, "jwksUri": "https://keys.test/"}]});
    let mesh = object("RequestAuthentication", "istio-system", "mesh", &rule("a"));
    let mut selecting = rule("b");
    selecting["selector"] = json!({"matchLabels": {"app": "web"}});
    let elsewhere = object("RequestAuthentication", "ops", "mesh", &rule("c"));
    let found = applied(&[issuers(&selecting), elsewhere, mesh], &sidecar()).authentication;
    let names: Vec<&str> = found.iter().map(|issuer| issuer.issuer.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn an_issuer_is_read_with_all_its_fields() {
    let resource = issuers(&json!({"jwtRules": [{
        "issuer": "https://issuer.test", "audiences": ["x", "y"], "jwks": "{\"keys\": []}",
        "fromHeaders": [{"name": "X-Token", "prefix": "T "}, {"name": "x-other"}], "fromParams": ["t"],
        "fromCookies": ["c"], "outputPayloadToHeader": "X-Payload",
        "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}], "forwardOriginalToken": true, "timeout": "1m1.5s",
    }]}));
    assert_eq!(resource.faults, []);
    let [issuer] = applied(&[resource], &sidecar()).authentication.try_into().unwrap();
    assert_eq!((issuer.issuer.as_str(), issuer.audiences.len()), ("https://issuer.test", 2));
    assert_eq!(issuer.keys, Keys::Inline("{\"keys\": []}".to_owned()));
    assert!(!format!("{issuer:?}").contains("keys\\\""), "{issuer:?}");
    let header =
        |name: &str, prefix: &str| TokenPlace::Header { name: name.to_owned(), prefix: prefix.to_owned() };
    assert_eq!(
        issuer.places,
        [
            header("x-token", "T "),
            header("x-other", ""),
            TokenPlace::Parameter("t".to_owned()),
            TokenPlace::Cookie("c".to_owned()),
        ]
    );
    assert_eq!(issuer.payload_header.as_deref(), Some("x-payload"));
    assert_eq!(issuer.claim_headers, [("x-sub".to_owned(), "sub".to_owned())]);
    assert!(issuer.is_forwarded);
    assert_eq!(issuer.timeout, Duration::from_millis(61_500));
}

/// CVE-2026-31837: where keys cannot be had, there are no others in their place.
#[test]
fn no_token_is_good_of_an_issuer_that_cannot_be_read_whole() {
    let good = json!({"issuer": "https://a.test", "jwksUri": "https://keys.test/"});
    for (field, value) in [
        ("issuer", json!("")),
        ("issuer", json!(null)),
        ("issuer", json!(5)),
        ("audiences", json!([""])),
        ("audiences", json!("x")),
        ("jwksUri", json!("keys.test")),
        ("jwksUri", json!("file:///etc/passwd")),
        ("jwksUri", json!("https://")),
        ("jwks", json!("{\"keys\": []}")),
        ("fromHeaders", json!([{"prefix": "x"}])),
        ("fromHeaders", json!([{"name": "a b"}])),
        ("fromParams", json!([1])),
        ("fromCookies", json!({})),
        ("outputPayloadToHeader", json!("")),
        ("outputClaimToHeaders", json!([{"header": "x"}])),
        ("forwardOriginalToken", json!("true")),
        ("timeout", json!("5")),
        ("timeout", json!("0s")),
        ("timeout", json!("2h")),
        ("audience", json!(["x"])),
    ] {
        let mut rule = good.clone();
        rule[field] = value.clone();
        let resource = issuers(&json!({"jwtRules": [rule, good]}));
        assert!(resource.is_faulty(), "{field} {value}");
        let [bad, other] = applied(&[resource], &sidecar()).authentication.try_into().unwrap();
        assert_eq!(bad.keys, Keys::None, "{field} {value}");
        assert_ne!(other.keys, Keys::None, "{field} {value}");
    }
    for spec in [
        json!({"jwtRules": [{"issuer": "https://a.test", "jwks": "{}"}]}),
        json!({"jwtRules": [{"issuer": "https://a.test", "jwks": "no"}]}),
        json!({"jwtRules": [{"issuer": "name"}]}),
        json!({"jwtRules": "x"}),
        json!({"jwtRule": []}),
        json!({"selector": 1, "jwtRules": [good]}),
        json!({"selectr": {}, "jwtRules": [good]}),
    ] {
        let resource = issuers(&spec);
        assert!(resource.is_faulty(), "{spec}");
        let found = applied(&[resource], &sidecar()).authentication;
        assert!(!found.is_empty() && found.iter().all(|issuer| issuer.keys == Keys::None), "{spec}");
    }
    let discovered = issuers(&json!({"jwtRules": [{"issuer": "https://a.test"}]}));
    assert_eq!(applied(&[discovered], &sidecar()).authentication[0].keys, Keys::Discovered);
}

#[test]
fn what_selects_labels_that_nobody_told_denies_and_allows_nothing() {
    let selector = json!({"matchLabels": {"app": "web"}});
    let policy = |name: &str, action: &str| {
        let spec = json!({"selector": selector, "action": action, "rules": [{}]});
        object("AuthorizationPolicy", "shop", name, &spec)
    };
    let spec = json!({"selector": selector, "jwtRules": [{"issuer": "joe", "jwksUri": "https://joe"}]});
    let tokens = object("RequestAuthentication", "shop", "t", &spec);
    let all = [policy("allow", "ALLOW"), policy("deny", "DENY"), tokens];
    let unknown = Workload { labels: [].into(), labels_are_unknown: true, ..sidecar() };
    let applied = applied(&all, &unknown);
    let rules: Vec<_> =
        applied.policies.iter().map(|policy| (&*policy.name.name, policy.rules.len())).collect();
    assert_eq!(rules, [("allow", 0), ("deny", 1)]);
    assert!(applied.authentication.iter().all(|issuer| issuer.keys == Keys::None));
}

#[test]
fn only_a_policy_that_is_certain_switches_roles_off() {
    let config = Resource::read(&json!({
        "apiVersion": "rbac.istio.io/v1alpha1", "kind": "ClusterRbacConfig",
        "metadata": {"name": "default"}, "spec": {"mode": "ON"},
    }))
    .unwrap();
    let deny = |extra: Json| {
        let mut spec = json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/x"]}}]}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        object("AuthorizationPolicy", "shop", "deny", &spec)
    };
    let closes = |policy: Resource, workload: &Workload| {
        let applied = applied(&[config.clone(), policy], workload);
        applied.policies.iter().any(|policy| policy.action == Action::Allow)
    };
    assert!(!closes(deny(json!({})), &sidecar()));
    assert!(closes(deny(json!({"selector": {"matchLabel": {"app": "web"}}})), &sidecar()));
    let unknown = Workload { labels: [].into(), labels_are_unknown: true, ..sidecar() };
    assert!(closes(deny(json!({"selector": {"matchLabels": {"app": "other"}}})), &unknown));
}
