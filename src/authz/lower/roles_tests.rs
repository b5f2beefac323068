//! The rules of roles and bindings, row by row; each row changes one thing of a mesh where `web` may `GET` `/a` of `reviews`.

use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

use crate::authz::apply::apply;
use crate::authz::decide::DryRun;
use crate::authz::decide::Effect;
use crate::authz::decide::walk;
use crate::authz::request::Http;
use crate::authz::request::JWT_FILTER;
use crate::authz::request::JWT_PAYLOAD;
use crate::authz::request::PROPERTIES;
use crate::authz::request::Peer;
use crate::authz::request::Request;
use crate::authz::resource::Resource;
use crate::authz::resource::Severity;
use crate::authz::workload::Mesh;
use crate::authz::workload::Workload;

fn old(kind: &str, namespace: &str, name: &str, spec: &Json) -> Resource {
    Resource::read(&json!({
        "apiVersion": "rbac.istio.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    }))
    .unwrap()
}

fn config(spec: &Json) -> Resource {
    old("ClusterRbacConfig", "", "default", spec)
}

fn role(rule: &Json) -> Resource {
    old("ServiceRole", "shop", "viewer", &json!({"rules": [rule]}))
}

fn binding(subject: &Json) -> Resource {
    let role = json!({"kind": "ServiceRole", "name": "viewer"});
    old("ServiceRoleBinding", "shop", "viewers", &json!({"subjects": [subject], "roleRef": role}))
}

fn on() -> Json {
    json!({"mode": "ON"})
}

fn viewer() -> Json {
    json!({"services": ["reviews"], "methods": ["GET"], "paths": ["/a"]})
}

fn web() -> Json {
    json!({"user": "td/ns/shop/sa/web"})
}

fn reviews() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        labels: [("app".to_owned(), "reviews".to_owned()), ("version".to_owned(), "v1".to_owned())].into(),
        service_account: "reader".to_owned(),
        name: "reviews-v1".to_owned(),
        services: vec!["reviews.shop.svc.cluster.local".to_owned()],
        ..Workload::default()
    }
}

fn usual() -> Request<'static> {
    Request {
        peer: Some(Peer { uris: &["spiffe://td/ns/shop/sa/web"] }),
        source_ip: Some([10, 0, 0, 1].into()),
        destination_ip: Some([10, 0, 0, 2].into()),
        destination_port: Some(9080),
        sni: "reviews.test",
        http: Some(Http { method: "GET", path: "/a", host: "reviews", headers: &[("x-h", "v")] }),
        ..Request::default()
    }
}

fn decided(resources: &[Resource], workload: &Workload, request: &Request<'_>) -> (Effect, DryRun) {
    let applied = apply(resources, workload, &Mesh::of("td".parse().unwrap()));
    let bare: Vec<_> = applied.policies.iter().map(|policy| policy.for_connections()).collect();
    let decision = match request.http {
        Some(_) => walk(&applied.policies, request),
        None => walk(&bare, request),
    };
    (decision.effect, decision.dry_run)
}

fn allows(resources: &[Resource], request: &Request<'_>) -> bool {
    decided(resources, &reviews(), request).0 == Effect::Allow
}

fn of_rule(rule: &Json) -> bool {
    let resources = [config(&on()), role(rule), binding(&web())];
    let is_allowed = allows(&resources, &usual());
    assert!(!is_allowed || !resources[1].is_faulty(), "{rule}: {:?}", resources[1].faults);
    is_allowed
}

#[test]
fn access_is_denied_unless_a_role_is_bound_where_roles_are_switched_on() {
    let granted = [config(&on()), role(&viewer()), binding(&web())];
    let http = usual().http.unwrap();
    assert!(allows(&granted, &usual()));
    assert!(!allows(&granted, &Request { peer: None, ..usual() }));
    assert!(!allows(&granted, &Request { http: Some(Http { method: "POST", ..http }), ..usual() }));
    assert!(!allows(&granted, &Request { http: Some(Http { path: "/b", ..http }), ..usual() }));
    assert!(!allows(&[config(&on())], &usual()));
    assert!(!allows(&[config(&on()), role(&viewer())], &usual()));
    assert!(!allows(&[config(&on()), binding(&web())], &usual()));
    assert!(allows(&[role(&viewer()), binding(&web())], &Request::default()));
}

#[test]
fn the_configuration_switches_on_where_it_says() {
    let service = "reviews.shop.svc.cluster.local";
    for (spec, closed) in [
        (json!({}), false),
        (json!({"mode": "OFF"}), false),
        (json!({"mode": "ON"}), true),
        (json!({"mode": "ON_WITH_INCLUSION"}), false),
        (json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["shop"]}}), true),
        (json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["ops"]}}), false),
        (json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"services": [service]}}), true),
        (
            json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"services": ["other.shop.svc.cluster.local"]}}),
            false,
        ),
        (json!({"mode": "ON_WITH_EXCLUSION"}), true),
        (json!({"mode": "ON_WITH_EXCLUSION", "exclusion": {"namespaces": ["shop"]}}), false),
        (json!({"mode": "ON_WITH_EXCLUSION", "exclusion": {"namespaces": ["ops"]}}), true),
        (json!({"mode": "ON_WITH_EXCLUSION", "exclusion": {"services": [service]}}), false),
        (json!({"mode": "ON_WITH_EXCLUSION", "inclusion": {"namespaces": ["ops"]}}), true),
        // What cannot be read switches on.
        (json!({"mode": "NO"}), true),
        (json!({"mood": "ON"}), true),
        (json!({"mode": "ON_WITH_INCLUSION", "inclusions": {}}), true),
        (json!({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespace": ["shop"]}}), true),
        (json!({"mode": "ON_WITH_EXCLUSION", "exclusion": {"namespaces": "shop"}}), true),
    ] {
        assert_eq!(!allows(&[config(&spec)], &usual()), closed, "{spec}");
    }
}

#[test]
fn a_workload_behind_several_services_is_left_out_if_all_of_them_are() {
    let two = Workload {
        services: vec!["a.shop.svc.cluster.local".to_owned(), "b.shop.svc.cluster.local".to_owned()],
        ..reviews()
    };
    for (services, expected) in [
        (vec!["a.shop.svc.cluster.local"], Effect::Deny),
        (vec!["a.shop.svc.cluster.local", "b.shop.svc.cluster.local"], Effect::Allow),
    ] {
        let spec = json!({"mode": "ON_WITH_EXCLUSION", "exclusion": {"services": services}});
        assert_eq!(decided(&[config(&spec)], &two, &usual()).0, expected);
    }
}

#[test]
fn the_cluster_configuration_replaces_the_one_of_the_root_namespace_and_others_do_not_count() {
    let off = json!({"mode": "OFF"});
    let of = |namespace: &str, name: &str, spec: &Json| old("RbacConfig", namespace, name, spec);
    assert!(!allows(&[of("istio-system", "default", &on())], &usual()));
    assert!(allows(&[of("istio-system", "default", &on()), config(&off)], &usual()));
    assert!(!allows(&[of("istio-system", "default", &off), config(&on())], &usual()));
    assert!(allows(&[of("shop", "default", &on())], &usual()));
    let other = old("ClusterRbacConfig", "", "other", &on());
    assert!(allows(std::slice::from_ref(&other), &usual()));
    assert!(other.is_faulty());
}

#[test]
fn a_rule_is_for_services_by_short_and_full_names_and_stars() {
    for (services, expected) in [
        (json!(["*"]), true),
        (json!(["reviews"]), true),
        (json!(["reviews.shop"]), true),
        (json!(["reviews.shop.svc.cluster.local"]), true),
        (json!(["rev*"]), true),
        (json!(["*views"]), true),
        (json!(["*.shop.svc.cluster.local"]), true),
        (json!(["ratings", "reviews"]), true),
        (json!(["review"]), false),
        (json!(["ratings"]), false),
        (json!(["reviews.ops.svc.cluster.local"]), false),
        (json!([]), false),
        (json!([""]), false),
    ] {
        assert_eq!(of_rule(&json!({"services": services})), expected, "{services}");
    }
    assert!(!of_rule(&json!({"methods": ["GET"]})));
}

#[test]
fn every_list_of_an_access_rule_matches_as_its_row_says() {
    for (name, values, expected) in [
        ("methods", json!(["*"]), true),
        ("methods", json!(["POST", "GET"]), true),
        ("methods", json!(["POST"]), false),
        ("methods", json!(["G*"]), true),
        ("paths", json!(["*"]), true),
        ("paths", json!(["/a*"]), true),
        ("paths", json!(["*a"]), true),
        ("paths", json!(["/b", "/a"]), true),
        ("paths", json!(["/{*}"]), false),
        ("hosts", json!(["REVIEWS"]), true),
        ("hosts", json!(["other"]), false),
        ("notHosts", json!(["reviews"]), false),
        ("notPaths", json!(["/a"]), false),
        ("notPaths", json!(["/b"]), true),
        ("not_paths", json!(["/b"]), true),
        ("notMethods", json!(["GET"]), false),
        ("ports", json!([9080]), true),
        ("ports", json!(["9080"]), true),
        ("ports", json!([80]), false),
        ("notPorts", json!([9080]), false),
        ("notPorts", json!([80]), true),
        ("ports", json!([70000]), false),
        ("ports", json!(["*"]), false),
        ("methods", json!([]), false),
        ("method", json!(["GET"]), false),
    ] {
        assert_eq!(of_rule(&json!({"services": ["*"], name: values})), expected, "{name} {values}");
    }
    assert!(!of_rule(&json!({"services": ["*"], "notPaths": ["/b"], "not_paths": ["/a"]})));
}

#[test]
fn every_constraint_matches_as_its_row_says_and_an_unknown_one_never_widens() {
    for (key, values, expected) in [
        ("destination.ip", json!(["10.0.0.0/24"]), true),
        ("destination.ip", json!(["10.1.0.0/24"]), false),
        ("destination.port", json!(["9080"]), true),
        ("destination.port", json!(["80"]), false),
        ("destination.labels[version]", json!(["v0", "v1"]), true),
        ("destination.labels[version]", json!(["v*"]), true),
        ("destination.labels[version]", json!(["v2"]), false),
        ("destination.labels[tier]", json!(["*"]), false),
        ("destination.labels", json!(["v1"]), false),
        ("destination.name", json!(["reviews-*"]), true),
        ("destination.name", json!(["reviews"]), false),
        ("destination.namespace", json!(["shop"]), true),
        ("destination.namespace", json!(["ops"]), false),
        ("destination.user", json!(["reader"]), true),
        ("destination.user", json!(["cluster.local/ns/shop/sa/reader"]), true),
        ("destination.user", json!(["writer"]), false),
        ("connection.sni", json!(["*.test"]), true),
        ("request.headers[x-h]", json!(["v"]), true),
        ("request.headers[x-h]", json!(["w"]), false),
        ("request.headers", json!(["v"]), false),
        // Custom ones, and slips of the pen, which are taken for such.
        ("tenant", json!(["blue"]), false),
        ("destination.ports", json!(["9080"]), false),
        ("source.ip", json!(["10.0.0.1"]), false),
        ("destination.port", json!([]), false),
    ] {
        let rule = json!({"services": ["*"], "constraints": [{"key": key, "values": values}]});
        assert_eq!(of_rule(&rule), expected, "{key} {values}");
    }
}

#[test]
fn custom_properties_and_constraints_are_texts_that_a_filter_has_set() {
    let tenant = |value: &str| json!({"services": ["*"], "constraints": [{"key": "tenant", "values": ["red", value]}]});
    let member = |value: &str| json!({"user": "*", "properties": {"membership": value}});
    for (constraint, property, found, expected) in [
        ("blue", "gold", json!({"tenant": "blue", "membership": "gold"}), true),
        ("blue", "gold", json!({"tenant": "red", "membership": "gold"}), true),
        ("bl*", "*ld", json!({"tenant": "blue", "membership": "gold"}), true),
        ("*", "*", json!({"tenant": "any", "membership": "any"}), true),
        ("*", "*", json!({"tenant": "", "membership": ""}), false),
        ("blue", "gold", json!({"tenant": "green", "membership": "gold"}), false),
        ("blue", "gold", json!({"tenant": "blue", "membership": "silver"}), false),
        ("blue", "gold", json!({"tenant": "blue"}), false),
        ("blue", "gold", json!({"membership": "gold"}), false),
        ("blue", "gold", json!({"tenant": ["blue"], "membership": "gold"}), false),
        ("5", "gold", json!({"tenant": 5, "membership": "gold"}), false),
        ("[blue]", "gold", json!({"tenant": ["blue"], "membership": "gold"}), false),
        ("[blue]", "gold", json!({"tenant": "[blue]", "membership": "gold"}), true),
    ] {
        let resources = [config(&on()), role(&tenant(constraint)), binding(&member(property))];
        let metadata: Map<String, Json> = [(PROPERTIES.to_owned(), found.clone())].into_iter().collect();
        let request = Request { metadata: Some(&metadata), ..usual() };
        assert_eq!(allows(&resources, &request), expected, "{constraint} {property} {found}");
        // They are known of connections too.
        let bare = Request { http: None, ..request };
        assert_eq!(allows(&resources, &bare), expected, "{constraint} {property} {found}");
    }
}

#[test]
fn every_subject_is_who_its_row_says() {
    let claims = json!({"groups": ["staff", "admins"], "iss": "issuer", "sub": "me", "team": "a"});
    let metadata: Map<String, Json> =
        [(JWT_FILTER.to_owned(), json!({JWT_PAYLOAD: claims}))].into_iter().collect();
    let request = Request { metadata: Some(&metadata), ..usual() };
    let property = |key: &str, value: &str| json!({"properties": {key: value}});
    for (subject, expected) in [
        (web(), true),
        (json!({"user": "*"}), true),
        (json!({"user": "td/ns/shop/*"}), false),
        (json!({"user": "td/ns/shop/sa/app"}), false),
        (json!({"names": ["td/ns/shop/*"]}), true),
        (json!({"names": ["*"]}), true),
        (json!({"notNames": ["td/ns/shop/sa/app"]}), true),
        (json!({"not_names": ["td/ns/shop/sa/web"]}), false),
        (json!({"group": "admins"}), true),
        (json!({"group": "admin*"}), false),
        (json!({"groups": ["admin*"]}), true),
        (json!({"groups": ["others", "staff"]}), true),
        (json!({"notGroups": ["staff"]}), false),
        (json!({"namespaces": ["shop"]}), true),
        (json!({"notNamespaces": ["shop"]}), false),
        (json!({"ips": ["10.0.0.0/24"]}), true),
        (json!({"ips": ["10.0.0.0/33"]}), false),
        (json!({"notIps": ["10.0.0.1"]}), false),
        (property("source.ip", "10.0.0.1"), true),
        (property("source.namespace", "shop"), true),
        (property("source.namespace", "ops"), false),
        (property("source.principal", "*"), true),
        (property("source.principal", "td/ns/shop/sa/web"), true),
        (property("source.user", "td/ns/shop/sa/web"), true),
        (property("request.headers[x-h]", "v"), true),
        (property("request.auth.principal", "issuer/me"), true),
        (property("request.auth.principal", "issuer/you"), false),
        (property("request.auth.audiences", "any"), false),
        (property("request.auth.claims[team]", "a"), true),
        (property("request.auth.claims", "a"), false),
        // All of it has to be so.
        (json!({"user": "td/ns/shop/sa/web", "group": "staff", "namespaces": ["shop"]}), true),
        (json!({"user": "td/ns/shop/sa/web", "group": "none"}), false),
        (json!({"user": "*", "namespaces": ["ops"]}), false),
        // Nobody.
        (json!({}), false),
        (json!(null), false),
        (json!({"user": ""}), false),
        (json!({"users": "*"}), false),
        (json!({"user": "*", "groups": []}), false),
        (json!({"user": "*", "properties": {"a": 1}}), false),
    ] {
        let resources = [config(&on()), role(&viewer()), binding(&subject)];
        assert_eq!(allows(&resources, &request), expected, "{subject}");
    }
    let everyone = [config(&on()), role(&viewer()), binding(&json!({"user": "*"}))];
    let anybody = [config(&on()), role(&viewer()), binding(&property("source.principal", "*"))];
    let nobody = Request { peer: None, ..usual() };
    assert!(allows(&everyone, &nobody) && !allows(&anybody, &nobody));
    let excluding = [config(&on()), role(&viewer()), binding(&json!({"notNames": ["x"]}))];
    assert!(!allows(&excluding, &nobody));
}

#[test]
fn roles_of_http_grant_nothing_on_connections() {
    let bare = Request { http: None, ..usual() };
    let mongo = json!({"services": ["*"], "constraints": [{"key": "destination.port", "values": ["9080"]}]});
    assert!(allows(&[config(&on()), role(&mongo), binding(&web())], &bare));
    assert!(!allows(&[config(&on()), role(&viewer()), binding(&web())], &bare));
    // A subject that only a token proves does not take the others along.
    let both = json!({"subjects": [web(), {"group": "staff"}], "roleRef": {"kind": "ServiceRole", "name": "viewer"}});
    let both = old("ServiceRoleBinding", "shop", "viewers", &both);
    assert!(allows(&[config(&on()), role(&mongo), both], &bare));
}

#[test]
fn what_is_permissive_is_told_and_not_enforced() {
    let mut spec = json!({"subjects": [web()], "roleRef": {"kind": "ServiceRole", "name": "viewer"}});
    spec["mode"] = json!("PERMISSIVE");
    let permissive = old("ServiceRoleBinding", "shop", "viewers", &spec);
    let (effect, dry_run) =
        decided(&[config(&on()), role(&viewer()), permissive.clone()], &reviews(), &usual());
    assert_eq!(effect, Effect::Deny);
    assert!(dry_run.allow.flatten().is_some());

    let config = config(&json!({"mode": "ON", "enforcementMode": "PERMISSIVE"}));
    let resources = [config, role(&viewer()), binding(&web())];
    let (effect, dry_run) = decided(&resources, &reviews(), &usual());
    assert_eq!(effect, Effect::Allow);
    assert!(dry_run.allow.flatten().is_some());
    let (effect, dry_run) = decided(&resources, &reviews(), &Request { peer: None, ..usual() });
    assert_eq!((effect, dry_run.allow), (Effect::Allow, Some(None)));

    spec["mode"] = json!("SOMETIMES");
    let unreadable = old("ServiceRoleBinding", "shop", "viewers", &spec);
    assert!(unreadable.is_faulty());
    let enforced = [self::config(&on()), role(&viewer()), unreadable];
    assert!(!allows(&enforced, &usual()));
}

#[test]
fn roles_are_looked_for_where_the_binding_says() {
    let spec = |role: Json| {
        let mut spec = json!({"subjects": [web()]});
        spec.as_object_mut().unwrap().extend(role.as_object().unwrap().clone());
        spec
    };
    let rules = json!({"rules": [viewer()]});
    let of = |namespace: &str| old("ServiceRole", namespace, "viewer", &rules);
    let reference = json!({"roleRef": {"kind": "ServiceRole", "name": "viewer"}});
    for (role, namespace, expected) in [
        (reference.clone(), "shop", true),
        (reference.clone(), "ops", false),
        (reference.clone(), "istio-system", false),
        (json!({"role": "/viewer"}), "istio-system", true),
        (json!({"role": "/viewer"}), "shop", false),
        (json!({"role": "viewer"}), "shop", true),
        (json!({"actions": [viewer()]}), "ops", true),
        (json!({"roleRef": {"kind": "Role", "name": "viewer"}}), "shop", false),
        (json!({"roleRef": {"kind": "ServiceRole"}}), "shop", false),
        (json!({}), "shop", false),
        (json!({"role": "viewer", "actions": [viewer()]}), "shop", false),
    ] {
        let binding = old("ServiceRoleBinding", "shop", "viewers", &spec(role.clone()));
        let resources = [config(&on()), of(namespace), binding];
        assert_eq!(allows(&resources, &usual()), expected, "{role} {namespace}");
    }
    // A binding of another namespace grants nothing here.
    let elsewhere = old("ServiceRoleBinding", "ops", "viewers", &spec(reference));
    assert!(!allows(&[config(&on()), of("shop"), of("ops"), elsewhere], &usual()));
}

#[test]
fn a_binding_without_its_role_is_told_and_grants_nothing() {
    let resources = [config(&on()), binding(&web())];
    let missing = crate::authz::missing_roles(&resources, &Mesh::of("td".parse().unwrap()));
    let [(id, fault)] = missing.try_into().unwrap();
    assert_eq!((id, fault.severity), (resources[1].id.clone(), Severity::Error));
    assert_eq!(
        fault.to_string(),
        "spec.roleRef.name: there is no ServiceRole `shop/viewer`; the binding grants nothing until there is"
    );
    assert!(!allows(&resources, &usual()));
}

#[test]
fn a_policy_that_allows_or_denies_switches_roles_off_and_others_do_not() {
    let policy = |action: &str, dry_run: &str| {
        Resource::read(&json!({
            "apiVersion": "security.istio.io/v1beta1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "new", "namespace": "shop", "annotations": {"istio.io/dry-run": dry_run}},
            "spec": {
                "action": action,
                "provider": if action == "CUSTOM" { json!({"name": "p"}) } else { json!(null) },
                "rules": [{"to": [{"operation": {"paths": ["/new"]}}]}],
            },
        }))
        .unwrap()
    };
    for (action, dry_run, expected) in [
        ("ALLOW", "false", Effect::Deny),
        ("DENY", "false", Effect::Allow),
        ("ALLOW", "true", Effect::Deny),
        ("AUDIT", "false", Effect::Deny),
        ("CUSTOM", "false", Effect::Deny),
    ] {
        let post = Request { http: Some(Http { method: "POST", ..usual().http.unwrap() }), ..usual() };
        let resources = [config(&on()), role(&viewer()), binding(&web()), policy(action, dry_run)];
        assert_eq!(decided(&resources, &reviews(), &post).0, expected, "{action} {dry_run}");
        let is_off = matches!((action, dry_run), ("ALLOW" | "DENY", "false"));
        assert_eq!(allows(&resources, &usual()), !is_off || action == "DENY", "{action} {dry_run}");
    }
}

/// The samples that came with Istio, in our own words.
#[test]
fn access_is_given_by_namespace_service_and_method_as_in_the_samples() {
    let by_namespace = json!({
        "services": ["*"], "methods": ["GET"],
        "constraints": [{"key": "destination.labels[app]", "values": ["productpage", "details", "reviews"]}],
    });
    let by_service = json!({"services": ["reviews"], "methods": ["GET"]});
    let by_path = json!({"services": ["reviews.shop.svc.cluster.local"], "methods": ["GET"], "paths": ["/products*", "/a*"]});
    for rule in [by_namespace, by_service, by_path] {
        assert!(of_rule(&rule), "{rule}");
        let ratings = Workload {
            labels: [("app".to_owned(), "ratings".to_owned())].into(),
            services: vec!["ratings.shop.svc.cluster.local".to_owned()],
            ..reviews()
        };
        let resources = [config(&on()), role(&rule), binding(&web())];
        assert_eq!(decided(&resources, &ratings, &usual()).0, Effect::Deny, "{rule}");
    }
}
