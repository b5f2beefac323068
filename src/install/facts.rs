//! Pure: what was seen of a cluster, and what it takes to look.

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::install::expected;
use crate::install::expected::Expected;
use crate::install::expected::Subject;
use crate::install::findings::Finding;
use crate::install::findings::State;
use crate::install::rules::Permission;

/// What a look at something showed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Look<T> {
    /// It is there, and this is it.
    There(T),
    /// There is no such thing.
    Absent,
    /// We may not look.
    Forbidden,
    /// It could not be found out, for this reason.
    Failed(String),
}

impl<T> Look<T> {
    /// The same look, at something made of what is there.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Look<U> {
        match self {
            Self::There(seen) => Look::There(make(seen)),
            Self::Absent => Look::Absent,
            Self::Forbidden => Look::Forbidden,
            Self::Failed(why) => Look::Failed(why),
        }
    }
}

/// A node, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// Version of its kubelet, such as `v1.37.2`.
    pub(super) kubelet: String,
}

/// All that was seen.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The authority's namespace.
    pub(super) namespace: String,
    /// Version of the API server, such as `v1.37.2`.
    pub(super) version: Look<String>,
    /// The resources of `certificates.k8s.io/v1`.
    pub(super) certificates: Look<Vec<String>>,
    pub(super) nodes: Look<Vec<Node>>,
    /// Every object of `deploy/`, and what was seen of it.
    pub(super) objects: Vec<(Expected, Look<Value>)>,
    /// The authority's pods.
    pub(super) pods: Look<Vec<Pod>>,
    pub(super) lease: Look<Lease>,
    /// The namespaces that are there to stay.
    pub(super) namespaces: Look<Vec<String>>,
    /// The ConfigMaps with the roots, of all namespaces.
    pub(super) config_maps: Look<Vec<ConfigMap>>,
    pub(super) trust_bundle: Look<ClusterTrustBundle>,
}

/// What it takes to look at things that are no objects of `deploy/`. Those that name no namespace are cluster-wide.
pub(super) mod reading {
    use super::Permission;
    use super::expected;

    pub(in crate::install) fn nodes() -> Permission {
        Permission::new("", "nodes", None, "list")
    }

    pub(in crate::install) fn pods() -> Permission {
        Permission::new("", "pods", None, "list")
    }

    pub(in crate::install) fn lease() -> Permission {
        Permission::new("coordination.k8s.io", "leases", Some(expected::LEASE), "get")
    }

    pub(in crate::install) fn namespaces() -> Permission {
        Permission::new("", "namespaces", None, "list")
    }

    pub(in crate::install) fn config_maps() -> Permission {
        Permission::new("", "configmaps", Some(expected::CONFIG_MAP), "list")
    }

    pub(in crate::install) fn trust_bundle() -> Permission {
        let name = Some(expected::TRUST_BUNDLE);
        Permission::new("certificates.k8s.io", "clustertrustbundles", name, "get")
    }
}

/// Says that a look was refused, and who could allow it.
pub(super) fn forbidden(subject: Subject, permission: Permission) -> Finding {
    let (within, fix) = match &subject.namespace {
        Some(namespace) => (
            format!(" in namespace `{namespace}`"),
            format!(
                "an administrator runs: kubectl create rolebinding burgrave-viewers --role=burgrave-viewer --namespace={namespace} --user=YOU"
            ),
        ),
        None => (
            String::new(),
            "an administrator runs: kubectl create clusterrolebinding burgrave-viewers --clusterrole=burgrave-viewer --user=YOU"
                .to_owned(),
        ),
    };
    let says = format!("you may not {permission}{within}");
    Finding::wrong(State::CannotLook, subject, says, fix).about(permission)
}

/// Says that a look came to nothing.
pub(super) fn failed(subject: Subject, why: &str) -> Finding {
    Finding::wrong(State::CannotLook, subject, why, "run it again when the API server answers")
}
