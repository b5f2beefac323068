//! Pure: does the live pod bear out what a PodCertificateRequest says of it?
//!
//! The request's facts are a kubelet's word. When the kubelet's own user made the request, the API server's NodeRestriction
//! has compared all of them with the pod, the node and the service account. **Whoever else may create such requests in a
//! namespace can name any pod in it, with a key of their own**, and the object does not tell who made it. What is compared
//! here keeps such a request from naming a pod that is not there, or an identity that is not the pod's; it cannot tell a
//! kubelet from an impostor who has read the pod. So `create podcertificaterequests` must stay with kubelets.
//!
//! The UIDs of the service account and of the node are not compared: no certificate says them, what it does say is the name
//! of the live pod's own account, and watching all accounts and nodes for it would prove nothing more.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde::Deserializer;

use crate::attest::Attested;
use crate::attest::Bound;

/// What a request says of its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedPod {
    /// Namespace of the request, and so of the pod and its service account.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Name of its service account.
    pub service_account: String,
    /// Name of its node.
    pub node: String,
}

/// What the API server says of a pod, made only of its answer ([`ApiPod`]) and small enough to keep one for each of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePod {
    uid: String,
    service_account: String,
    /// Empty as long as it has none.
    node: String,
    is_terminating: bool,
}

/// The API server's pod with the few fields that are read here; a whole one costs fifty times as much to read.
#[derive(Clone, Debug, Deserialize)]
pub struct ApiPod {
    #[serde(deserialize_with = "few_fields")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ApiPodSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ApiPodSpec {
    service_account_name: String,
    node_name: String,
}

/// The metadata that is read, here and by `kube`'s watch. What managed which field is the larger part of a pod.
fn few_fields<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Few {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let few = Few::deserialize(from)?;
    Ok(ObjectMeta {
        name: few.name,
        namespace: few.namespace,
        uid: few.uid,
        resource_version: few.resource_version,
        deletion_timestamp: few.deletion_timestamp,
        labels: few.labels,
        owner_references: few.owner_references,
        ..ObjectMeta::default()
    })
}

/// Why a live pod does not bear out a request. Nothing of the live pod is quoted: whoever made the request reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotThatPod {
    /// A pod of that name is there, and it is another.
    #[error(
        "the pod `{0}` that runs now has another UID than spec.podUID says; the pod that the request is for is gone"
    )]
    Uid(String),
    /// It has another service account.
    #[error("the pod `{0}` runs as another service account than spec.serviceAccountName says")]
    ServiceAccount(String),
    /// It is on another node, or on none.
    #[error("the pod `{0}` does not run on the node that spec.nodeName says")]
    Node(String),
    /// It is being deleted.
    #[error("the pod `{0}` is being deleted; only pods that go on running get certificates")]
    Terminating(String),
}

impl NotThatPod {
    /// A short name for logs and metrics, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Uid(_) => "pod_uid",
            Self::ServiceAccount(_) => "pod_service_account",
            Self::Node(_) => "pod_node",
            Self::Terminating(_) => "pod_terminating",
        }
    }
}

impl kube::Resource for ApiPod {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl ApiPod {
    /// The name of its service account.
    pub fn service_account(&self) -> &str {
        &self.spec.service_account_name
    }

    /// The name of its node; empty as long as it has none.
    pub fn node(&self) -> &str {
        &self.spec.node_name
    }
}

impl From<ApiPod> for LivePod {
    fn from(pod: ApiPod) -> Self {
        Self {
            uid: pod.metadata.uid.unwrap_or_default(),
            service_account: pod.spec.service_account_name,
            node: pod.spec.node_name,
            is_terminating: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

impl ClaimedPod {
    /// The pod's service account, if `live`, the pod of that namespace and name, is all that the request says.
    ///
    /// # Errors
    /// The first thing that it is not.
    pub fn attest(&self, live: &LivePod) -> Result<Attested, NotThatPod> {
        let name = || format!("{}/{}", self.namespace, self.name);
        if self.uid.is_empty() || self.uid != live.uid {
            return Err(NotThatPod::Uid(name()));
        }
        if self.service_account.is_empty() || self.service_account != live.service_account {
            return Err(NotThatPod::ServiceAccount(name()));
        }
        if self.node.is_empty() || self.node != live.node {
            return Err(NotThatPod::Node(name()));
        }
        if live.is_terminating {
            return Err(NotThatPod::Terminating(name()));
        }
        Ok(Attested {
            namespace: self.namespace.clone(),
            service_account: live.service_account.clone(),
            pod: Some(Bound { name: self.name.clone(), uid: live.uid.clone() }),
            // The pod tells its node's name alone; a UID that only the request tells is no evidence.
            node: Some(Bound { name: live.node.clone(), uid: String::new() }),
            credential_id: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed() -> ClaimedPod {
        ClaimedPod {
            namespace: "shop".to_owned(),
            name: "web-0".to_owned(),
            uid: "u1".to_owned(),
            service_account: "web".to_owned(),
            node: "n1".to_owned(),
        }
    }

    fn live() -> LivePod {
        LivePod {
            uid: "u1".to_owned(),
            service_account: "web".to_owned(),
            node: "n1".to_owned(),
            is_terminating: false,
        }
    }

    #[test]
    fn what_the_api_server_says_of_a_pod_is_read_and_the_rest_passed_over() {
        let mut pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1", "managedFields": [{"fieldsV1": {}}]},
            "spec": {"serviceAccountName": "web", "nodeName": "n1", "containers": []},
            "status": {"phase": "Running"},
        });
        let read = |pod: &serde_json::Value| -> LivePod {
            serde_json::from_value::<ApiPod>(pod.clone()).unwrap().into()
        };
        assert_eq!(read(&pod), live());
        pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
        assert_eq!(read(&pod), LivePod { is_terminating: true, ..live() });
        pod["spec"] = serde_json::json!({"serviceAccountName": "web"});
        assert_eq!(read(&pod).node, "");
    }

    #[test]
    fn a_live_pod_that_is_all_the_request_says_is_attested() {
        let caller = claimed().attest(&live()).unwrap();
        assert_eq!((caller.namespace(), caller.service_account()), ("shop", "web"));
        assert_eq!(caller.pod().map(|pod| (pod.name.as_str(), pod.uid.as_str())), Some(("web-0", "u1")));
        assert_eq!(caller.node().map(|node| node.name.as_str()), Some("n1"));
    }

    #[test]
    fn each_thing_that_is_not_so_has_its_own_reason_and_the_live_pod_is_not_quoted() {
        let other = || "secret".to_owned();
        for (reason, live) in [
            ("pod_uid", LivePod { uid: other(), ..live() }),
            ("pod_service_account", LivePod { service_account: other(), ..live() }),
            ("pod_node", LivePod { node: other(), ..live() }),
            ("pod_node", LivePod { node: String::new(), ..live() }),
            ("pod_terminating", LivePod { is_terminating: true, ..live() }),
        ] {
            let refused = claimed().attest(&live).unwrap_err();
            assert_eq!(refused.reason(), reason);
            let text = refused.to_string();
            assert!(text.contains("shop/web-0") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn what_is_empty_on_both_sides_is_not_the_same() {
        let nothing = |claimed: ClaimedPod, live: LivePod| claimed.attest(&live).unwrap_err().reason();
        let empty = String::new;
        let uid = (ClaimedPod { uid: empty(), ..claimed() }, LivePod { uid: empty(), ..live() });
        assert_eq!(nothing(uid.0, uid.1), "pod_uid");
        let account = (
            ClaimedPod { service_account: empty(), ..claimed() },
            LivePod { service_account: empty(), ..live() },
        );
        assert_eq!(nothing(account.0, account.1), "pod_service_account");
        let node = (ClaimedPod { node: empty(), ..claimed() }, LivePod { node: empty(), ..live() });
        assert_eq!(nothing(node.0, node.1), "pod_node");
    }
}
