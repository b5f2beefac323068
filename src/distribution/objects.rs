//! Pure: the bundle as Kubernetes objects, and what there is in one.

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ConfigMap;
use ring::digest;
use serde_json::Value;
use serde_json::json;

use crate::distribution::board::Held;
use crate::distribution::board::Write;
use crate::k8s;

/// The key in each ConfigMap, as Istio has it.
const KEY: &str = "root-cert.pem";

/// What the objects are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The ConfigMap in each namespace.
    pub config_map: String,
    /// The signer that the ClusterTrustBundle belongs to, such as `burgrave.dev/workload`.
    pub signer: String,
}

impl Names {
    /// The ClusterTrustBundle: objects of a signer begin with its name, with colons for slashes.
    pub fn cluster_trust_bundle(&self) -> String {
        format!("{}:roots", self.signer.replace('/', ":"))
    }

    /// A ConfigMap with this bundle, made anew or changed by a merge patch.
    pub(super) fn config_map(&self, bundle: &str, write: &Write) -> Value {
        let mut object = json!({ "metadata": metadata(&self.config_map, write), "data": { KEY: bundle } });
        if matches!(write, Write::Change { .. }) {
            // A key may stand in one of the two maps only.
            object["binaryData"] = json!({ KEY: null });
        }
        object
    }

    /// A ClusterTrustBundle with this bundle, made anew or changed by a merge patch.
    pub(super) fn trust_bundle(&self, bundle: &str, write: &Write) -> Value {
        let name = self.cluster_trust_bundle();
        json!({ "metadata": metadata(&name, write), "spec": { "signerName": self.signer, "trustBundle": bundle } })
    }
}

fn metadata(name: &str, write: &Write) -> Value {
    match write {
        Write::Create => json!({ "name": name, "labels": k8s::labels() }),
        Write::Change { version } => {
            json!({ "name": name, "labels": k8s::labels(), "resourceVersion": version })
        }
    }
}

/// A digest of a bundle's text.
pub(super) fn digest_of(bundle: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bundle.as_bytes());
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// What a ConfigMap holds.
pub(super) fn held_by_config_map(object: &ConfigMap) -> Held {
    let bundle = object.data.as_ref().and_then(|data| data.get(KEY));
    held(object.metadata.resource_version.as_ref(), bundle.map(String::as_str))
}

/// What a ClusterTrustBundle holds.
pub(super) fn held_by_trust_bundle(object: &ClusterTrustBundle) -> Held {
    held(object.metadata.resource_version.as_ref(), Some(&object.spec.trust_bundle))
}

fn held(version: Option<&String>, bundle: Option<&str>) -> Held {
    Held { version: version.cloned().unwrap_or_default(), digest: bundle.map(digest_of) }
}

/// The bundle in a ConfigMap.
pub(super) fn bundle_of(object: &ConfigMap) -> &str {
    object.data.as_ref().and_then(|data| data.get(KEY)).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { config_map: "roots".to_owned(), signer: "burgrave.dev/workload".to_owned() }
    }

    #[test]
    fn the_cluster_trust_bundle_is_named_after_its_signer() {
        assert_eq!(names().cluster_trust_bundle(), "burgrave.dev:workload:roots");
    }

    #[test]
    fn a_change_names_the_version_it_replaces_and_leaves_the_rest_alone() {
        let change = names().config_map("PEM", &Write::Change { version: "7".to_owned() });
        assert_eq!(change["metadata"]["resourceVersion"], "7");
        assert_eq!(change["data"], json!({ "root-cert.pem": "PEM" }));
        let made: ConfigMap = serde_json::from_value(names().config_map("PEM", &Write::Create)).unwrap();
        assert_eq!(held_by_config_map(&made).digest, Some(digest_of("PEM")));
        assert_eq!(bundle_of(&made), "PEM");
    }
}
