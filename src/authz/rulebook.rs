//! Pure: what does a CA tell an agent of the policies of its workload? The objects that apply, and what it takes to read them.

use std::collections::BTreeMap;
use std::fmt;

use prost::Message;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::authz::apply::Applied;
use crate::authz::apply::apply;
use crate::authz::parts::extension;
use crate::authz::resource::Resource;
use crate::authz::resource::Unreadable;
use crate::authz::workload::Mesh;
use crate::authz::workload::Proxy;
use crate::authz::workload::Workload;
use crate::proto::envoy::Any;
use crate::proto::envoy::BytesValue;
use crate::proto::envoy::TypedExtensionConfig;
use crate::sds::Offer;
use crate::sds::Resources;
use crate::sds::Version;

/// The name that agents ask the CA for.
pub const RULEBOOK: &str = "burgrave.dev/policies";
/// The longest that an agent reads, in bytes.
pub const MAX_RULEBOOK: usize = 64 << 20;
const BYTES_TYPE: &str = "type.googleapis.com/google.protobuf.BytesValue";

/// The policies of one workload, as they travel. Its version is the digest of all of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Rulebook {
    json: Vec<u8>,
    version: Version,
}

/// A rulebook, read.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What holds for the whole mesh.
    pub mesh: Mesh,
    /// The workload.
    pub workload: Workload,
    /// The objects.
    pub objects: Vec<Resource>,
}

/// Why a rulebook is not followed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRulebook {
    /// It is not in the message.
    #[error("the CA's message has no policies under the name `{RULEBOOK}`")]
    NotThere,
    /// It is not the JSON of one.
    #[error("the CA's policies are not the JSON that this agent knows: {0}")]
    Json(#[from] serde_json::Error),
    /// The trust domain in it is none.
    #[error("the trust domain in the CA's policies: {0}")]
    TrustDomain(String),
    /// An object that the CA could read and we cannot, and without which the rest may allow more.
    #[error("an object among the CA's policies cannot be read; is this agent older than the CA? {0}")]
    Object(#[from] Unreadable),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    mesh: MeshWire,
    workload: WorkloadWire,
    objects: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MeshWire {
    trust_domain: String,
    aliases: Vec<String>,
    root_namespace: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorkloadWire {
    namespace: String,
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    labels_are_unknown: bool,
    service_account: String,
    name: String,
    services: Vec<String>,
    proxy: ProxyWire,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
enum ProxyWire {
    Sidecar,
    Gateway { name: String },
    Waypoint { name: String, class: String, services: Vec<(String, String, String)> },
}

impl Rulebook {
    /// The rulebook of `workload`, with those of `resources` that apply to it.
    pub fn of<'a>(
        resources: impl IntoIterator<Item = &'a Resource>,
        workload: &Workload,
        mesh: &Mesh,
    ) -> Self {
        let mut by_id: BTreeMap<_, _> =
            resources.into_iter().map(|resource| (resource.id.clone(), resource)).collect();
        let applied = apply(by_id.values().copied(), workload, mesh);
        by_id.retain(|id, _| applied.by.contains(id));
        Self::new(by_id.into_values().map(Resource::to_json).collect(), workload, mesh)
    }

    /// A rulebook of these objects, which must be in an order that does not depend on when they came.
    pub fn new(objects: Vec<Value>, workload: &Workload, mesh: &Mesh) -> Self {
        let wire = Wire { mesh: mesh.into(), workload: workload.clone().into(), objects };
        // Texts, lists and maps by text always are JSON.
        let json = serde_json::to_vec(&wire).unwrap_or_default();
        let version = Version::of(RULEBOOK, std::iter::once(json.as_slice()));
        Self { json, version }
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The rulebook in a resource of the CA's.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_any(any: &Any) -> Result<Self, InvalidRulebook> {
        let not_there = |_| InvalidRulebook::NotThere;
        let extension = TypedExtensionConfig::decode(any.value.as_slice()).map_err(not_there)?;
        let config = extension.typed_config.filter(|config| config.type_url == BYTES_TYPE);
        let config = config.filter(|_| extension.name == RULEBOOK).ok_or(InvalidRulebook::NotThere)?;
        let json = BytesValue::decode(config.value.as_slice()).map_err(not_there)?.value;
        let version = Version::of(RULEBOOK, std::iter::once(json.as_slice()));
        Ok(Self { json, version })
    }

    /// What stands in it.
    ///
    /// # Errors
    /// If any of it cannot be read.
    pub fn read(&self) -> Result<Contents, InvalidRulebook> {
        let Wire { mesh, workload, objects } = serde_json::from_slice(&self.json)?;
        let trust_domain = mesh
            .trust_domain
            .parse()
            .map_err(|error| InvalidRulebook::TrustDomain(format!("`{}`: {error}", mesh.trust_domain)))?;
        let objects: Result<_, _> = objects.iter().map(Resource::read).collect();
        Ok(Contents {
            mesh: Mesh { trust_domain, aliases: mesh.aliases, root_namespace: mesh.root_namespace },
            workload: workload.into(),
            objects: objects?,
        })
    }
}

impl Contents {
    /// What they say together.
    pub fn applied(&self) -> Applied {
        apply(&self.objects, &self.workload, &self.mesh)
    }
}

impl fmt::Debug for Rulebook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rulebook").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A source that does not know the policies yet offers nothing, for an empty rulebook would allow everything.
impl Resources for Option<Rulebook> {
    const TYPE: &'static str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    const NOUN: &'static str = "rulebook";

    fn offer(&self) -> Offer {
        self.iter().map(|rulebook| (RULEBOOK.to_owned(), rulebook.version.clone())).collect()
    }

    fn resource(&self, name: &str) -> Option<Any> {
        let rulebook = self.as_ref().filter(|_| name == RULEBOOK)?;
        let value = BytesValue { value: rulebook.json.clone() }.encode_to_vec();
        Some(extension(RULEBOOK, Any { type_url: BYTES_TYPE.to_owned(), value }))
    }
}

// === on the wire ===

impl From<&Mesh> for MeshWire {
    fn from(mesh: &Mesh) -> Self {
        Self {
            trust_domain: mesh.trust_domain.to_string(),
            aliases: mesh.aliases.clone(),
            root_namespace: mesh.root_namespace.clone(),
        }
    }
}

impl From<Workload> for WorkloadWire {
    fn from(workload: Workload) -> Self {
        let Workload { namespace, labels, labels_are_unknown, service_account, name, services, proxy } =
            workload;
        let proxy = match proxy {
            Proxy::Sidecar => ProxyWire::Sidecar,
            Proxy::Gateway { name } => ProxyWire::Gateway { name },
            Proxy::Waypoint { name, class, services } => ProxyWire::Waypoint { name, class, services },
        };
        Self { namespace, labels, labels_are_unknown, service_account, name, services, proxy }
    }
}

impl From<WorkloadWire> for Workload {
    fn from(workload: WorkloadWire) -> Self {
        let WorkloadWire { namespace, labels, labels_are_unknown, service_account, name, services, proxy } =
            workload;
        let proxy = match proxy {
            ProxyWire::Sidecar => Proxy::Sidecar,
            ProxyWire::Gateway { name } => Proxy::Gateway { name },
            ProxyWire::Waypoint { name, class, services } => Proxy::Waypoint { name, class, services },
        };
        Self { namespace, labels, labels_are_unknown, service_account, name, services, proxy }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(namespace: &str, name: &str, action: &str) -> Resource {
        Resource::read(&json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"action": action, "rules": [{"to": [{"operation": {"paths": ["/admin"]}}]}]},
        }))
        .unwrap()
    }

    fn workload() -> Workload {
        Workload { namespace: "shop".to_owned(), service_account: "web".to_owned(), ..Workload::default() }
    }

    fn mesh() -> Mesh {
        Mesh { aliases: vec!["old.test".to_owned()], ..Mesh::of("td".parse().unwrap()) }
    }

    #[test]
    fn a_rulebook_holds_what_applies_and_reads_back() {
        let all = [policy("shop", "a", "DENY"), policy("other", "b", "DENY"), policy("shop", "c", "ALLOW")];
        let rulebook = Rulebook::of(&all, &workload(), &mesh());
        let offered = Some(rulebook.clone());
        let travelled = Rulebook::from_any(&offered.resource(RULEBOOK).unwrap()).unwrap();
        assert_eq!(travelled, rulebook);
        let contents = travelled.read().unwrap();
        assert_eq!((&contents.workload, &contents.mesh), (&workload(), &mesh()));
        assert_eq!(contents.applied(), apply(&all, &workload(), &mesh()));
        assert_eq!(contents.objects.len(), 2);
    }

    #[test]
    fn the_version_tells_content_apart_and_not_the_order_in_which_objects_came() {
        let (a, b) = (policy("shop", "a", "DENY"), policy("shop", "b", "DENY"));
        let of = |all: &[&Resource]| Rulebook::of(all.iter().copied(), &workload(), &mesh());
        assert_eq!(of(&[&a, &b]), of(&[&b, &a]));
        assert_ne!(of(&[&a, &b]).version(), of(&[&a]).version());
    }

    #[test]
    fn who_does_not_know_the_policies_offers_nothing() {
        assert!(Option::<Rulebook>::None.offer().is_empty());
    }

    #[test]
    fn what_this_agent_cannot_read_is_refused_as_a_whole() {
        let odd = json!({"apiVersion": "security.istio.io/v9", "kind": "AuthorizationPolicy"});
        let rulebook = Rulebook::new(vec![policy("shop", "a", "DENY").to_json(), odd], &workload(), &mesh());
        assert!(matches!(rulebook.read(), Err(InvalidRulebook::Object(_))));
        let broken = Rulebook { json: b"{}".to_vec(), ..rulebook };
        assert!(matches!(broken.read(), Err(InvalidRulebook::Json(_))));
        assert!(matches!(Rulebook::from_any(&Any::default()), Err(InvalidRulebook::NotThere)));
    }
}
