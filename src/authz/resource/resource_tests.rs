use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use super::*;

fn object(kind: ResourceKind, version: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{}/{version}", kind.group()), "kind": kind.as_str(),
        "metadata": {"name": "one", "namespace": "shop", "resourceVersion": "7", "generation": 3}, "spec": spec,
    })
}

#[test]
fn every_kind_is_read_in_all_its_versions() {
    for kind in ResourceKind::ALL {
        for version in kind.versions() {
            let object = object(kind, version, &json!({}));
            let read = Resource::read(&object).unwrap();
            let namespace = if kind.is_namespaced() { "shop" } else { "" };
            assert_eq!((read.id.kind, read.id.namespace.as_str()), (kind, namespace));
            assert_eq!((read.version.as_str(), read.generation), ("7", 3));
            assert_eq!(read.to_json(), object);
        }
        assert!(matches!(
            Resource::read(&object(kind, "v9", &json!({}))),
            Err(Unreadable::OtherVersion { .. })
        ));
    }
}

#[test]
fn what_is_no_object_of_ours_is_told_apart() {
    let named = |metadata: Value| {
        let mut object = object(ResourceKind::AuthorizationPolicy, "v1", &json!({}));
        object["metadata"] = metadata;
        Resource::read(&object)
    };
    for bad in [json!(null), json!({}), json!({"kind": "AuthorizationPolicy"}), json!([]), json!("x")] {
        assert_eq!(Resource::read(&bad), Err(Unreadable::NoObject));
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
    assert!(matches!(Resource::read(&pod), Err(Unreadable::OtherKind { .. })));
    for bad in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "A"}),
        json!({"name": "a/b"}),
        json!({"name": "a".repeat(254)}),
        json!({"name": "a", "namespace": ""}),
        json!({"name": "a", "namespace": 5}),
        json!({"name": "a]-rule[0"}),
    ] {
        assert!(matches!(named(bad.clone()), Err(Unreadable::Name { .. })), "{bad}");
    }
    assert_eq!(named(json!({"name": "a"})).unwrap().id.namespace, "default");
}

#[test]
fn a_file_may_hold_many_documents_and_other_kinds_are_passed_over() {
    let text = "\
# a comment
apiVersion: v1
kind: Service
metadata: {name: a}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a}
spec: {rules: [{to: [{operation: {methods: [GET]}}]}]}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: rbac.istio.io/v1alpha1, kind: ClusterRbacConfig, metadata: {name: default}, spec: {mode: ON}}
- {apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {}}
---
{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\"}
";
    let documents = from_yaml(text).unwrap();
    let names: Vec<String> = documents
        .resources
        .iter()
        .map(|one| one.as_ref().map_or_else(ToString::to_string, |one| one.id.to_string()))
        .collect();
    assert_eq!(
        names,
        [
            "AuthorizationPolicy default/a",
            "ClusterRbacConfig default",
            "AuthorizationPolicy ``: `metadata.name` must be 1 to 253 of a-z, 0-9, `-` and `.`",
        ]
    );
    assert_eq!(documents.passed_over, 2);
    assert_eq!(from_yaml("").unwrap(), Documents::default());
}

#[test]
fn words_of_yaml_are_texts_unless_they_are_truth_values_or_numbers() {
    let policy = |value: &str| {
        let text = format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: a}}, \
             spec: {{rules: [{{to: [{{operation: {{ports: [{value}]}}}}]}}]}}}}"
        );
        from_yaml(&text).unwrap().resources.remove(0).unwrap()
    };
    assert!(!policy("'80'").is_faulty());
    let faulty = policy("80");
    assert_eq!(
        faulty.faults[0].to_string(),
        "spec.rules[0].to[0].operation.ports[0]: is a number and must be a text; quote it; \
         the rule allows nothing until it is corrected"
    );
    assert!(policy("true").is_faulty());
}

#[test]
fn text_that_would_grow_without_end_is_refused() {
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (from, to) in ["a", "b", "c", "d", "e", "f", "g"].iter().zip(["b", "c", "d", "e", "f", "g", "h"]) {
        bomb.push_str(&format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 10].join(", ")));
    }
    assert!(matches!(from_yaml(&bomb), Err(InvalidYaml::Malformed(_))));
    assert!(matches!(from_yaml("{a: 1, a: 2}"), Err(InvalidYaml::Malformed(_))));
    assert!(matches!(from_yaml("{a: ["), Err(InvalidYaml::Malformed(_))));
}

#[test]
fn an_object_tells_only_so_many_faults() {
    let spec = json!({"rules": [{"to": [{"operation": {"ports": vec!["x"; 1000]}}]}]});
    let read = Resource::read(&object(ResourceKind::AuthorizationPolicy, "v1", &spec)).unwrap();
    assert_eq!(read.faults.len(), 201);
    assert_eq!(read.faults[200].problem, "800 more faults are not listed");
}

#[test]
fn no_text_of_an_object_breaks_a_line_of_the_log() {
    let bad = json!(["8\n0", format!("/{{{}", "x\n".repeat(500))]);
    let spec = json!({"rules": [{
        "from": [{"source": {"ipBlocks": bad, "namespaces": bad, "trustDomains": bad, "serviceAccounts": [" / /\n"]}}],
        "to": [{"operation": {"ports": bad, "paths": bad, "\r\n": []}}],
        "when": [{"key": format!("request.headers[{}\n", "x".repeat(1000)), "values": ["\n"]}],
    }]});
    let read = Resource::read(&object(ResourceKind::AuthorizationPolicy, "v1", &spec)).unwrap();
    assert!(read.faults.len() > 8, "{:?}", read.faults);
    for fault in read.faults {
        let text = fault.to_string();
        assert!(!text.contains(char::is_control) && text.chars().count() < 800, "{text:?}");
    }
}

// === the definitions for Kubernetes ===

const DEFINITIONS: [&str; 7] = [
    include_str!("../../../deploy/crds/security.istio.io_authorizationpolicies.yaml"),
    include_str!("../../../deploy/crds/security.istio.io_requestauthentications.yaml"),
    include_str!("../../../deploy/crds/security.istio.io_peerauthentications.yaml"),
    include_str!("../../../deploy/crds/rbac.istio.io_serviceroles.yaml"),
    include_str!("../../../deploy/crds/rbac.istio.io_servicerolebindings.yaml"),
    include_str!("../../../deploy/crds/rbac.istio.io_rbacconfigs.yaml"),
    include_str!("../../../deploy/crds/rbac.istio.io_clusterrbacconfigs.yaml"),
];

fn definitions() -> BTreeMap<ResourceKind, Value> {
    let read = |text: &&str| -> Value { serde_saphyr::from_str(text).unwrap() };
    let definitions = DEFINITIONS.iter().map(read);
    let kind = |one: &Value| {
        let named = |kind: &ResourceKind| one["spec"]["names"]["kind"] == kind.as_str();
        ResourceKind::ALL.into_iter().find(named).unwrap()
    };
    definitions.map(|one| (kind(&one), one)).collect()
}

fn names(schema: &Value) -> BTreeSet<&str> {
    schema["properties"].as_object().unwrap().keys().map(String::as_str).collect()
}

fn set(names: &[&'static str]) -> BTreeSet<&'static str> {
    names.iter().copied().collect()
}

#[test]
fn there_is_a_definition_of_every_kind_with_all_its_versions() {
    let definitions = definitions();
    assert_eq!(definitions.len(), ResourceKind::ALL.len());
    for (kind, one) in definitions {
        assert_eq!(one["spec"]["group"], kind.group());
        assert_eq!(one["spec"]["scope"], if kind.is_namespaced() { "Namespaced" } else { "Cluster" });
        let plural = one["spec"]["names"]["plural"].as_str().unwrap();
        assert_eq!(one["metadata"]["name"], format!("{plural}.{}", kind.group()));
        let versions = one["spec"]["versions"].as_array().unwrap();
        let served: Vec<&str> = versions.iter().map(|version| version["name"].as_str().unwrap()).collect();
        assert_eq!(served, kind.versions());
        for version in versions {
            assert!(version["subresources"]["status"].is_object());
            assert_eq!(version["schema"], versions[0]["schema"]);
            let status = &version["schema"]["openAPIV3Schema"]["properties"]["status"];
            assert_eq!(names(status), set(&["conditions", "observedGeneration"]));
        }
    }
}

#[test]
fn the_definitions_have_the_fields_that_are_read() {
    let definitions = definitions();
    let spec =
        |kind| &definitions[&kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let policy = spec(ResourceKind::AuthorizationPolicy);
    let rule = &policy["properties"]["rules"]["items"];
    let part = |list: &str, inner: &str| &rule["properties"][list]["items"]["properties"][inner];
    let tokens = spec(ResourceKind::RequestAuthentication);
    let binding = spec(ResourceKind::ServiceRoleBinding);
    let role = spec(ResourceKind::ServiceRole);
    for (schema, known) in [
        (policy, &authorization_policy::SPEC[..]),
        (rule, &["from", "to", "when"]),
        (part("from", "source"), &authorization_policy::SOURCE),
        (part("to", "operation"), &authorization_policy::OPERATION),
        (&rule["properties"]["when"]["items"], &["key", "values", "notValues"]),
        (tokens, &request_authentication::SPEC),
        (&tokens["properties"]["jwtRules"]["items"], &request_authentication::RULE),
        (spec(ResourceKind::PeerAuthentication), &peer_authentication::SPEC),
        (role, &role::SPEC),
        (&role["properties"]["rules"]["items"], &role::RULE),
        (binding, &binding::SPEC),
        (&binding["properties"]["actions"]["items"], &role::RULE),
        (&binding["properties"]["subjects"]["items"], &binding::SUBJECT),
        (spec(ResourceKind::RbacConfig), &rbac_config::SPEC),
        (spec(ResourceKind::ClusterRbacConfig), &rbac_config::SPEC),
    ] {
        assert_eq!(names(schema), set(known), "{schema}");
    }
}

/// What the API server dropped without a word would not be there to reduce access: `acton: DENY` would allow.
#[test]
fn the_definitions_keep_what_they_do_not_know_wherever_there_are_fields() {
    fn walk(schema: &Value, path: &str) {
        if schema["properties"].is_object() && !path.contains(".conditions") {
            assert_eq!(schema["x-kubernetes-preserve-unknown-fields"], true, "{path}");
        }
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            walk(below, &format!("{path}.{name}"));
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                walk(&schema[inner], path);
            }
        }
    }
    for (kind, one) in definitions() {
        walk(&one["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind.as_str());
    }
}

#[test]
fn the_definitions_have_the_bounds_that_are_read() {
    let definitions = definitions();
    let spec = |kind| {
        &definitions[&kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    };
    let policy = spec(ResourceKind::AuthorizationPolicy);
    let rule = &policy["rules"]["items"]["properties"];
    let source = &rule["from"]["items"]["properties"]["source"]["properties"];
    let (accounts, length) = authorization_policy::MAX_SERVICE_ACCOUNTS;
    for (found, bound) in [
        (&policy["rules"]["maxItems"], authorization_policy::MAX_RULES),
        (&policy["targetRefs"]["maxItems"], selection::MAX_TARGETS),
        (&rule["from"]["maxItems"], authorization_policy::MAX_RULES),
        (&rule["to"]["maxItems"], authorization_policy::MAX_RULES),
        (&rule["when"]["maxItems"], authorization_policy::MAX_CONDITIONS),
        (&source["serviceAccounts"]["maxItems"], accounts),
        (&source["serviceAccounts"]["items"]["maxLength"], length),
        (&source["principals"]["maxItems"], authorization_policy::MAX_VALUES),
        (&source["principals"]["items"]["maxLength"], crate::authz::model::pattern::MAX_LENGTH),
        (
            &spec(ResourceKind::RequestAuthentication)["jwtRules"]["maxItems"],
            request_authentication::MAX_RULES,
        ),
    ] {
        assert_eq!(found.as_u64(), Some(bound as u64));
    }
}
