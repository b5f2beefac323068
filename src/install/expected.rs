//! Pure: what belongs in the cluster? The very files of `deploy/`, which this program carries, so that the two cannot drift.

use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use crate::install::rules::Permission;

/// The files of `deploy/`, in the order of their numbers.
const FILES: [&str; 11] = [
    include_str!("../../deploy/00-namespace.yaml"),
    include_str!("../../deploy/10-service-account.yaml"),
    include_str!("../../deploy/20-rbac-issuer.yaml"),
    include_str!("../../deploy/21-rbac-controller.yaml"),
    include_str!("../../deploy/22-rbac-operator.yaml"),
    include_str!("../../deploy/23-rbac-viewer.yaml"),
    include_str!("../../deploy/30-service.yaml"),
    include_str!("../../deploy/40-quota.yaml"),
    include_str!("../../deploy/41-pod-disruption-budget.yaml"),
    include_str!("../../deploy/45-webhook.yaml"),
    include_str!("../../deploy/50-deployment.yaml"),
];

/// The namespace that the files speak of.
pub const NAMESPACE: &str = "burgrave-system";
/// The label selector of the authority's pods.
pub(super) const PODS: &str = "app.kubernetes.io/name=burgrave-ca";
/// The Lease that the authority's replicas elect a leader by.
pub(super) const LEASE: &str = "burgrave-ca";
/// The ConfigMap that carries the roots in every namespace, and the key in it.
pub(super) const CONFIG_MAP: &str = "istio-ca-root-cert";
pub(super) const CONFIG_MAP_KEY: &str = "root-cert.pem";
/// The ClusterTrustBundle that carries them for the whole cluster.
pub(super) const TRUST_BUNDLE: &str = "burgrave.dev:workload:roots";

/// What a finding is about: an object of the cluster, or a part of the cluster itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Kind of the object.
    pub kind: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// An object that belongs in the cluster.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) subject: Subject,
    pub(super) api_version: String,
    /// The object as the file has it.
    pub(super) body: Value,
}

// === impl Subject ===

impl Subject {
    pub(super) fn cluster(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: None, name: name.to_owned() }
    }

    pub(super) fn within(namespace: &str, kind: &str, name: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::cluster(kind, name) }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

// === impl Expected ===

impl Expected {
    fn of(body: Value) -> Self {
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Self {
            subject: Subject {
                kind: text("/kind").unwrap_or_default(),
                namespace: text("/metadata/namespace"),
                name: text("/metadata/name").unwrap_or_default(),
            },
            api_version: text("/apiVersion").unwrap_or_default(),
            body,
        }
    }

    /// Group and version, as the API server splits them.
    pub(super) fn group_version(&self) -> (&str, &str) {
        self.api_version.split_once('/').unwrap_or(("", &self.api_version))
    }

    /// The resource, in the plural.
    pub(super) fn resource(&self) -> String {
        format!("{}s", self.subject.kind.to_lowercase())
    }

    /// What it takes to look at it.
    pub(super) fn reading(&self) -> Permission {
        Permission::new(self.group_version().0, &self.resource(), Some(&self.subject.name), "get")
    }

    /// The rules of a role; none for any other kind.
    pub(super) fn rules(&self) -> Vec<PolicyRule> {
        rules_of(&self.body)
    }
}

/// The rules in a role as the API server shows it.
pub(super) fn rules_of(role: &Value) -> Vec<PolicyRule> {
    let rules = role.get("rules").cloned();
    rules.and_then(|rules| serde_json::from_value(rules).ok()).unwrap_or_default()
}

/// All objects of `deploy/`, as they are when it is applied to `namespace`.
pub(super) fn objects(namespace: &str) -> Vec<Expected> {
    let read = |file: &&str| -> Vec<Value> {
        serde_saphyr::from_multiple(file).expect("our own manifests are YAML; a test reads each")
    };
    FILES.iter().flat_map(read).map(|object| Expected::of(moved(object, namespace))).collect()
}

/// What a kustomization's `namespace:` does: the objects move, and so do those who are bound.
fn moved(mut object: Value, namespace: &str) -> Value {
    if object.get("kind").is_some_and(|kind| kind == "Namespace") {
        replace(&mut object, "/metadata/name", namespace);
    }
    replace(&mut object, "/metadata/namespace", namespace);
    replace(&mut object, "/subjects/0/namespace", namespace);
    replace(&mut object, "/webhooks/0/clientConfig/service/namespace", namespace);
    object
}

fn replace(object: &mut Value, pointer: &str, with: &str) {
    if let Some(place) = object.pointer_mut(pointer) {
        *place = Value::from(with);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(namespace: &str) -> Vec<String> {
        objects(namespace).iter().map(|one| one.subject.to_string()).collect()
    }

    #[test]
    fn every_file_that_is_applied_is_expected_in_the_same_order() {
        let listed: Value = serde_saphyr::from_str(include_str!("../../deploy/kustomization.yaml")).unwrap();
        let texts = listed["resources"].as_array().unwrap().iter().map(|file| {
            let path = format!("{}/deploy/{}", env!("CARGO_MANIFEST_DIR"), file.as_str().unwrap());
            std::fs::read_to_string(path).unwrap()
        });
        assert_eq!(texts.collect::<Vec<_>>(), FILES);
    }

    #[test]
    fn every_object_has_a_kind_and_a_name_and_those_with_a_namespace_are_in_ours() {
        let names = names(NAMESPACE);
        assert_eq!(names.len(), 20);
        assert_eq!(names[0], "Namespace burgrave-system");
        assert!(names.contains(&"Role burgrave-system/burgrave-issuer".to_owned()), "{names:?}");
        assert!(objects(NAMESPACE).iter().all(|one| !one.subject.name.is_empty()
            && one.subject.namespace.as_deref().is_none_or(|namespace| namespace == NAMESPACE)));
    }

    #[test]
    fn in_another_namespace_nothing_speaks_of_the_usual_one() {
        for one in objects("mesh") {
            assert!(!one.body.to_string().contains(NAMESPACE), "{}", one.body);
        }
        assert_eq!(names("mesh")[0], "Namespace mesh");
    }

    #[test]
    fn the_names_that_the_authority_is_told_are_those_that_are_looked_for() {
        let objects = objects(NAMESPACE);
        let deployment = objects.iter().find(|one| one.subject.kind == "Deployment").unwrap();
        let arguments = deployment.body.pointer("/spec/template/spec/containers/0/args").unwrap().to_string();
        assert!(arguments.contains(&format!("--lease={LEASE}")), "{arguments}");
        let (key, value) = PODS.split_once('=').unwrap();
        assert_eq!(deployment.body["spec"]["selector"]["matchLabels"][key], value);
    }
}
