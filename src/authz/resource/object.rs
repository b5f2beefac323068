//! Pure: what is this object, and what of it cannot be read?

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::authz::lower::Lowered;
use crate::authz::lower::roles;
use crate::authz::resource::authorization_policy::AuthorizationPolicy;
use crate::authz::resource::binding::ServiceRoleBinding;
use crate::authz::resource::fault::Fault;
use crate::authz::resource::fault::Severity;
use crate::authz::resource::id::ResourceId;
use crate::authz::resource::id::ResourceKind;
use crate::authz::resource::peer_authentication::PeerAuthentication;
use crate::authz::resource::place::Place;
use crate::authz::resource::place::shown;
use crate::authz::resource::rbac_config::RbacConfig;
use crate::authz::resource::request_authentication::RequestAuthentication;
use crate::authz::resource::role::ServiceRole;

/// The deepest that maps and lists of an object may stand in each other.
const MAX_DEPTH: usize = 32;
/// The most faults of an object that are told.
const MAX_FAULTS: usize = 200;

/// One object, as it was read.
#[derive(Clone, PartialEq)]
pub struct Resource {
    /// Which object it is.
    pub id: ResourceId,
    /// Its `resourceVersion`; empty for one from a file.
    pub version: String,
    /// Its generation; 0 for one from a file.
    pub generation: i64,
    /// When it was made; `None` for one from a file, which counts as older than all others.
    pub created: Option<OffsetDateTime>,
    /// What it says.
    pub spec: Spec,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    object: Arc<Value>,
}

/// What an object says.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// Who may call what.
    AuthorizationPolicy(Arc<Lowered>),
    /// Whose tokens are believed.
    RequestAuthentication(Arc<RequestAuthentication>),
    /// Whether callers may speak plain text.
    PeerAuthentication(Arc<PeerAuthentication>),
    /// What may be granted.
    ServiceRole(Arc<ServiceRole>),
    /// Whom it is granted to.
    ServiceRoleBinding(Arc<ServiceRoleBinding>),
    /// Where roles and bindings count.
    RbacConfig(Arc<RbacConfig>),
}

/// Why something is no object of ours. It is as if it were not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no map, or has no kind.
    #[error("no `apiVersion` and `kind`: this is no Kubernetes object")]
    NoObject,
    /// It is of some other kind.
    #[error("objects of kind `{kind}` of `{api_version}` are no policies")]
    OtherKind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// A version that is not known.
    #[error("`{api_version}` of `{kind}` is not read; write it as `{known}`")]
    OtherVersion {
        /// Its `apiVersion`.
        api_version: String,
        /// Its kind.
        kind: &'static str,
        /// An `apiVersion` that is read.
        known: String,
    },
    /// Its name or namespace cannot be one.
    #[error("{kind} `{name}`: `metadata.{field}` must be 1 to 253 of a-z, 0-9, `-` and `.`")]
    Name {
        /// Its kind.
        kind: &'static str,
        /// The name, as far as there is one.
        name: String,
        /// Which of the two.
        field: &'static str,
    },
    /// It is nested too deep.
    #[error("the object is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl Resource {
    /// Reads an object. What is wrong within it is in [`Resource::faults`]. One without a namespace stands in `default`.
    ///
    /// # Errors
    /// If it is not of our kinds, or cannot be named.
    pub fn read(object: &Value) -> Result<Self, Unreadable> {
        if is_deeper(object, MAX_DEPTH) {
            return Err(Unreadable::TooDeep);
        }
        let kind = kind(object)?;
        let metadata = |field: &str| object.get("metadata").and_then(|metadata| metadata.get(field));
        let text = |field: &str| metadata(field).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let namespace = match kind.is_namespaced() {
            true => metadata("namespace").map_or(Some("default"), Value::as_str).unwrap_or_default(),
            false => "",
        };
        for (field, value) in [("name", name), ("namespace", namespace)] {
            if !is_name(value) && (field == "name" || kind.is_namespaced()) {
                return Err(Unreadable::Name { kind: kind.as_str(), name: shown(name), field });
            }
        }
        let id = ResourceId { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let (spec, faults) = Spec::read(&id, object);
        Ok(Self {
            id,
            version: text("resourceVersion").unwrap_or_default().to_owned(),
            generation: metadata("generation").and_then(Value::as_i64).unwrap_or_default(),
            created: text("creationTimestamp").and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()),
            spec,
            faults,
            object: Arc::new(object.clone()),
        })
    }

    /// The object as it was read.
    pub fn to_json(&self) -> Value {
        (*self.object).clone()
    }

    /// Whether something of it cannot be read, so that admission refuses it.
    pub fn is_faulty(&self) -> bool {
        self.faults.iter().any(|fault| fault.severity == Severity::Error)
    }
}

impl fmt::Debug for Resource {
    /// Without the object itself: what is read of it is there, and keys that may stand in it are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Resource");
        shown.field("id", &self.id).field("version", &self.version).field("spec", &self.spec);
        shown.field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl Spec {
    fn read(id: &ResourceId, object: &Value) -> (Self, Vec<Fault>) {
        let faults = RefCell::default();
        let place = Place::object(object, &faults);
        let mut later = Vec::new();
        let spec = match id.kind {
            ResourceKind::AuthorizationPolicy => {
                let written = AuthorizationPolicy::read(&place);
                Self::AuthorizationPolicy(Arc::new(Lowered::new(id, written, &mut later)))
            }
            ResourceKind::RequestAuthentication => {
                Self::RequestAuthentication(Arc::new(RequestAuthentication::read(id, &place)))
            }
            ResourceKind::PeerAuthentication => {
                Self::PeerAuthentication(Arc::new(PeerAuthentication::read(&place)))
            }
            ResourceKind::ServiceRole => {
                let role = ServiceRole::read(&place);
                roles::check_role(&role, &mut later);
                Self::ServiceRole(Arc::new(role))
            }
            ResourceKind::ServiceRoleBinding => {
                let binding = ServiceRoleBinding::read(&place);
                roles::check_binding(&binding, &mut later);
                Self::ServiceRoleBinding(Arc::new(binding))
            }
            ResourceKind::RbacConfig | ResourceKind::ClusterRbacConfig => {
                Self::RbacConfig(Arc::new(RbacConfig::read(&id.name, &place)))
            }
        };
        let mut faults = faults.into_inner();
        faults.append(&mut later);
        bound(&mut faults);
        (spec, faults)
    }
}

/// Keeps so many that the rest can still be told; errors first if there are more.
fn bound(faults: &mut Vec<Fault>) {
    if faults.len() <= MAX_FAULTS {
        return;
    }
    let all = faults.len();
    faults.sort_by_key(|fault| fault.severity != Severity::Error);
    faults.truncate(MAX_FAULTS);
    let problem = format!("{} more faults are not listed", all - MAX_FAULTS);
    faults.push(Fault {
        path: "spec".to_owned(),
        severity: Severity::Warning,
        problem,
        effect: String::new(),
    });
}

fn kind(object: &Value) -> Result<ResourceKind, Unreadable> {
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
        return Err(Unreadable::NoObject);
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let known = ResourceKind::ALL.into_iter().find(|known| known.as_str() == kind && known.group() == group);
    let Some(known) = known else {
        return Err(Unreadable::OtherKind { api_version: shown(api_version), kind: shown(kind) });
    };
    match known.versions() {
        versions if versions.contains(&version) => Ok(known),
        versions => Err(Unreadable::OtherVersion {
            api_version: shown(api_version),
            kind: known.as_str(),
            known: format!("{group}/{}", versions.first().unwrap_or(&"")),
        }),
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_deeper(value: &Value, depth: usize) -> bool {
    let below = |value: &Value| depth == 0 || is_deeper(value, depth - 1);
    match value {
        Value::Array(list) => list.iter().any(below),
        Value::Object(map) => map.values().any(below),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
