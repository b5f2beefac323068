use proptest::prelude::*;
use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

use super::*;
use crate::authz::apply::apply;
use crate::authz::decide::Effect;
use crate::authz::decide::walk;
use crate::authz::request::Http;
use crate::authz::request::JWT_FILTER;
use crate::authz::request::JWT_PAYLOAD;
use crate::authz::request::Peer;
use crate::authz::request::Request;
use crate::authz::workload::Workload;

fn mesh() -> Mesh {
    Mesh::of("td".parse().unwrap())
}

fn old(kind: &str, namespace: &str, name: &str, spec: &Json) -> Resource {
    Resource::read(&json!({
        "apiVersion": "rbac.istio.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    }))
    .unwrap()
}

fn service(name: &str) -> Service {
    Service {
        namespace: "shop".to_owned(),
        full_name: format!("{name}.shop.svc.cluster.local"),
        selector: [("app".to_owned(), name.to_owned())].into(),
    }
}

fn services() -> Vec<Service> {
    vec![service("cart"), service("reviews")]
}

/// Labels and services agree, as they do in a cluster.
fn workload(app: &'static str, version: &'static str) -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        labels: [("app".to_owned(), app.to_owned()), ("version".to_owned(), version.to_owned())].into(),
        services: vec![format!("{app}.shop.svc.cluster.local")],
        ..Workload::default()
    }
}

fn viewer_of_reviews(subject: &Json) -> [Resource; 3] {
    let rule = json!({
        "services": ["reviews"], "methods": ["GET"], "paths": ["/a*"],
        "constraints": [{"key": "tenant", "values": ["blue"]}, {"key": "destination.labels[version]", "values": ["v1", "v2"]}],
    });
    let spec = json!({"subjects": [subject], "roleRef": {"kind": "ServiceRole", "name": "viewer"}});
    [
        old(
            "ClusterRbacConfig",
            "",
            "default",
            &json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["shop"]}}),
        ),
        old("ServiceRole", "shop", "viewer", &json!({"rules": [rule]})),
        old("ServiceRoleBinding", "shop", "viewers", &spec),
    ]
}

#[test]
fn a_binding_becomes_a_policy_for_each_group_of_workloads() {
    let subject =
        json!({"user": "td/ns/shop/sa/web", "group": "staff", "properties": {"membership": "gold"}});
    let migration = migrate(&viewer_of_reviews(&subject), &services(), &mesh());
    assert_eq!(migration.unsaid, []);
    let rules = json!([{
        "from": [{"source": {"principals": ["td/ns/shop/sa/web"]}}],
        "to": [{"operation": {"paths": ["/a*"], "methods": ["GET"]}}],
        "when": [
            {"key": "request.auth.claims[groups]", "values": ["staff"]},
            {"key": "experimental.envoy.filters.http.rbac[membership]", "values": ["gold"]},
            {"key": "experimental.envoy.filters.http.rbac[tenant]", "values": ["blue"]},
        ],
    }]);
    let policy = |name: &str, spec: Json| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
        })
    };
    let of_version = |version: &str| {
        let labels = json!({"app": "reviews", "version": version});
        json!({"action": "ALLOW", "selector": {"matchLabels": labels}, "rules": rules})
    };
    assert_eq!(
        migration.policies,
        [
            policy("rbac-default", json!({"action": "ALLOW"})),
            policy("viewers", of_version("v1")),
            policy("viewers-2", of_version("v2")),
        ]
    );
}

#[test]
fn what_cannot_be_said_is_left_out_and_listed() {
    for (subject, rule, expected) in [
        (json!({"user": "a*"}), json!({"services": ["*"]}), "would be a wildcard"),
        (json!({"group": "a*"}), json!({"services": ["*"]}), "would be a wildcard"),
        (json!({}), json!({"services": ["*"]}), "is nobody"),
        (json!({"properties": {"a": "[b]"}}), json!({"services": ["*"]}), "looked for in a list"),
        (json!({"user": "*"}), json!({"services": ["*"], "paths": ["/{id}"]}), "template"),
        (json!({"user": "*"}), json!({"services": ["other"]}), "not among those given"),
        (json!({"user": "*"}), json!({"services": ["*"], "methods": []}), "cannot be read"),
        (
            json!({"user": "*"}),
            json!({"services": ["*"], "constraints": [{"key": "destination.name", "values": ["x"]}]}),
            "give the pods a label",
        ),
        (
            json!({"user": "*"}),
            json!({"services": ["*"], "constraints": [{"key": "destination.labels[a]", "values": ["x*"]}]}),
            "no wildcards",
        ),
    ] {
        let spec = json!({"subjects": [subject], "actions": [rule]});
        let resources = [
            old("ClusterRbacConfig", "", "default", &json!({"mode": "ON"})),
            old("ServiceRoleBinding", "shop", "viewers", &spec),
        ];
        let migration = migrate(&resources, &services(), &mesh());
        // Only what closes is left.
        assert_eq!(migration.policies.len(), 1, "{spec}");
        assert_eq!(migration.policies[0]["metadata"]["namespace"], "istio-system");
        assert!(
            migration.unsaid.iter().any(|unsaid| unsaid.why.contains(expected)),
            "{:?}",
            migration.unsaid
        );
    }
}

#[test]
fn nothing_of_the_root_namespace_becomes_a_policy_for_the_whole_mesh() {
    let everybody = json!({"subjects": [{"user": "*"}], "actions": [{"services": ["*"]}]});
    let extent = json!({"mode": "ON_WITH_EXCLUSION", "exclusion": {"namespaces": ["istio-system"]}});
    for config in [json!({"mode": "ON"}), extent] {
        let resources = [
            old("ClusterRbacConfig", "", "default", &config),
            old("ServiceRoleBinding", "istio-system", "all", &everybody),
        ];
        let migration = migrate(&resources, &services(), &mesh());
        assert!(migration.policies.iter().all(|policy| policy["spec"]["rules"].is_null()), "{config}");
        assert!(!migration.unsaid.is_empty(), "{config}");
    }
}

#[test]
fn services_are_read_from_kubernetes() {
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"selector": {"app": "cart"}},
    });
    assert_eq!(Service::read(&object), Some(service("cart")));
    for bad in [json!({"kind": "Service"}), json!({}), json!(5)] {
        assert_eq!(Service::read(&bad), None);
    }
}

// === the same decisions ===

fn some_of(values: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(values), 1..3)
}

/// An object with this share of these fields.
fn fields(share: f64, all: Vec<(&'static str, BoxedStrategy<Json>)>) -> impl Strategy<Value = Json> {
    let each: Vec<_> = all
        .into_iter()
        .map(|(name, value)| prop::option::weighted(share, value).prop_map(move |value| (name, value)))
        .collect();
    each.prop_map(|fields| {
        let present = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Json::Object(present.collect())
    })
}

fn list(values: &'static [&'static str]) -> BoxedStrategy<Json> {
    some_of(values).prop_map(|list| json!(list)).boxed()
}

fn text(values: &'static [&'static str]) -> BoxedStrategy<Json> {
    prop::sample::select(values).prop_map(|text| json!(text)).boxed()
}

const PRINCIPALS: &[&str] =
    &["td/ns/shop/sa/web", "td/ns/ops/sa/job", "cluster.local/ns/shop/sa/web", "*", "td/ns/*"];
/// Now and then one that cannot be said.
const USERS: &[&str] =
    &["td/ns/shop/sa/web", "cluster.local/ns/ops/sa/job", "*", "td/ns/shop/sa/web", "*", "td/ns/*"];
const GROUPS: &[&str] = &["staff", "admins", "st*"];
const ADDRESSES: &[&str] = &["10.0.0.0/24", "10.0.0.1", "::/0", "no"];

fn subject() -> impl Strategy<Value = Json> {
    let properties = fields(
        0.2,
        vec![
            ("source.ip", text(ADDRESSES)),
            ("source.namespace", text(&["shop", "o*"])),
            ("source.principal", text(PRINCIPALS)),
            ("source.user", text(PRINCIPALS)),
            ("request.headers[x-h]", text(&["v", "*"])),
            ("request.auth.principal", text(&["issuer/me", "*"])),
            ("request.auth.claims[groups]", text(GROUPS)),
            ("membership", text(&["gold", "g*", "[gold]"])),
        ],
    );
    fields(
        0.12,
        vec![
            ("user", text(USERS)),
            ("group", text(&["staff", "admins", "st*"])),
            ("names", list(PRINCIPALS)),
            ("notNames", list(PRINCIPALS)),
            ("groups", list(GROUPS)),
            ("notGroups", list(GROUPS)),
            ("namespaces", list(&["shop", "*s"])),
            ("notNamespaces", list(&["ops", "x"])),
            ("ips", list(ADDRESSES)),
            ("notIps", list(&["10.0.0.1", "192.0.2.0/24"])),
            ("properties", properties.boxed()),
        ],
    )
}

fn constraint() -> impl Strategy<Value = Json> {
    prop_oneof![
        list(&["9080", "80"]).prop_map(|values| json!({"key": "destination.port", "values": values})),
        list(&["10.0.0.2"]).prop_map(|values| json!({"key": "destination.ip", "values": values})),
        list(&["v1", "v2", "v*"])
            .prop_map(|values| json!({"key": "destination.labels[version]", "values": values})),
        list(&["shop", "ops"]).prop_map(|values| json!({"key": "destination.namespace", "values": values})),
        list(&["v", "w", "*"]).prop_map(|values| json!({"key": "request.headers[x-h]", "values": values})),
        list(&["blue", "b*", "red"]).prop_map(|values| json!({"key": "tenant", "values": values})),
        list(&["x"]).prop_map(|values| json!({"key": "destination.user", "values": values})),
    ]
}

fn rule() -> impl Strategy<Value = Json> {
    let lists = fields(
        0.2,
        vec![
            ("methods", list(&["GET", "POST", "*", "G*"])),
            ("notMethods", list(&["POST"])),
            ("paths", list(&["/a", "/a*", "*b", "/{x}"])),
            ("notPaths", list(&["/a"])),
            ("hosts", list(&["reviews", "re*"])),
            ("ports", list(&["9080", "80"])),
            ("notPorts", list(&["80"])),
        ],
    );
    let constraints = prop::collection::vec(constraint(), 0..2);
    (list(&["reviews", "cart", "*", "re*", "*art", "reviews.shop.svc.cluster.local"]), lists, constraints)
        .prop_map(|(services, mut rule, constraints)| {
            rule["services"] = services;
            if !constraints.is_empty() {
                rule["constraints"] = json!(constraints);
            }
            rule
        })
}

fn binding() -> impl Strategy<Value = Json> {
    let subjects = prop::collection::vec(subject(), 1..4);
    let rules = prop::collection::vec(rule(), 1..3);
    (subjects, rules, any::<bool>()).prop_map(|(subjects, rules, permissive)| {
        let mode = if permissive { "PERMISSIVE" } else { "ENFORCED" };
        json!({"subjects": subjects, "actions": rules, "mode": mode})
    })
}

fn config() -> impl Strategy<Value = Json> {
    prop_oneof![
        6 => Just(json!({"mode": "ON"})),
        1 => Just(json!({"mode": "ON", "enforcementMode": "PERMISSIVE"})),
        1 => Just(json!({"mode": "OFF"})),
        1 => Just(json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["shop"]}})),
        1 => Just(json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["ops"]}})),
        1 => Just(
            json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"services": ["cart.shop.svc.cluster.local"]}})
        ),
        1 => Just(json!({"mode": "ON_WITH_EXCLUSION", "exclusion": {"namespaces": ["shop"]}})),
        1 => Just(json!({"mode": "ON_WITH_EXCLUSION", "exclusion": {"namespaces": ["ops"]}})),
    ]
}

/// What a request is made of.
#[derive(Clone, Debug)]
struct Sample {
    peer: Option<&'static str>,
    address: [u8; 4],
    port: u16,
    http: Option<(&'static str, &'static str, Option<&'static str>)>,
    claims: Option<Json>,
    properties: Json,
}

impl Sample {
    fn metadata(&self) -> Map<String, Json> {
        let claims = self.claims.as_ref().map(|claims| (JWT_FILTER.to_owned(), json!({JWT_PAYLOAD: claims})));
        claims.into_iter().chain([(PROPERTIES.to_owned(), self.properties.clone())]).collect()
    }
}

fn sample() -> impl Strategy<Value = Sample> {
    let peers: &[&str] =
        &["spiffe://td/ns/shop/sa/web", "spiffe://td/ns/ops/sa/job", "spiffe://x/ns/ops/sa/job"];
    let header = prop::option::of(prop::sample::select(&["v", "w", ""][..]));
    let http = (
        prop::sample::select(&["GET", "POST"][..]),
        prop::sample::select(&["/a", "/ab", "/{x}", "/c?d"][..]),
        header,
    );
    let claims = prop_oneof![
        Just(json!({"iss": "issuer", "sub": "me", "groups": ["staff"]})),
        Just(json!({"iss": "issuer", "sub": "you", "groups": "admins"})),
    ];
    let properties = prop_oneof![
        Just(json!({})),
        Just(json!({"tenant": "blue", "membership": "gold"})),
        Just(json!({"tenant": "red", "membership": "[gold]"})),
    ];
    (
        prop::option::weighted(0.8, prop::sample::select(peers)),
        prop::sample::select(&[[10, 0, 0, 1], [10, 0, 0, 9], [192, 0, 2, 1]][..]),
        prop::sample::select(&[9080, 80][..]),
        prop::option::weighted(0.8, http),
        prop::option::of(claims),
        properties,
    )
        .prop_map(|(peer, address, port, http, claims, properties)| Sample {
            peer,
            address,
            port,
            http,
            claims,
            properties,
        })
}

/// What is decided, and what would be.
fn decided(resources: &[Resource], workload: &Workload, sample: &Sample) -> (Effect, bool) {
    let uris: Vec<&str> = sample.peer.into_iter().collect();
    let headers: Vec<(&str, &str)> =
        sample.http.and_then(|(_, _, header)| header).map(|value| ("x-h", value)).into_iter().collect();
    let metadata = sample.metadata();
    let request = Request {
        peer: sample.peer.map(|_| Peer { uris: &uris }),
        source_ip: Some(sample.address.into()),
        destination_ip: Some([10, 0, 0, 2].into()),
        destination_port: Some(sample.port),
        http: sample.http.map(|(method, path, _)| Http { method, path, host: "reviews", headers: &headers }),
        metadata: Some(&metadata),
        ..Request::default()
    };
    let mut policies = apply(resources, workload, &mesh()).policies;
    if request.http.is_none() {
        policies = policies.iter().map(|policy| policy.for_connections().into()).collect();
    }
    let decision = walk(&policies, &request);
    (decision.effect, decision.dry_run.allow.flatten().is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_migrated_decides_alike(
        config in config(),
        bindings in prop::collection::vec(binding(), 1..3),
        samples in prop::collection::vec(sample(), 32),
    ) {
        let mut resources = vec![old("ClusterRbacConfig", "", "default", &config)];
        for (at, spec) in bindings.iter().enumerate() {
            resources.push(old("ServiceRoleBinding", "shop", &format!("b{at}"), spec));
        }
        let migration = migrate(&resources, &services(), &mesh());
        let new: Vec<Resource> = migration.policies.iter().map(|one| Resource::read(one).unwrap()).collect();
        prop_assert!(new.iter().all(|one| !one.is_faulty()));
        // A star of a service is written out for the services of now, and those are all there are here.
        let is_whole = migration.unsaid.iter().all(|unsaid| unsaid.why.contains("the services of now")
            || unsaid.why.contains("cannot be read"));
        for workload in [workload("reviews", "v1"), workload("cart", "v2"), workload("cart", "v3")] {
            for sample in &samples {
                let (before, after) = (decided(&resources, &workload, sample), decided(&new, &workload, sample));
                if is_whole {
                    prop_assert_eq!(before, after, "{:?}", sample);
                } else {
                    // What cannot be said only denies more.
                    prop_assert!(before.0 == Effect::Allow || after.0 == Effect::Deny, "{:?}", sample);
                }
            }
        }
    }
}
