//! Pure: which objects apply to a workload, and what do they say together? (istio: `pilot/pkg/model/policyattachment.go`)
//!
//! ```text
//! proxy      with targets                                       without
//! sidecar    never                                              by selector
//! gateway    Gateway of its name, in its namespace              by selector
//! waypoint   its services, in the object's namespace; its       never
//!            Gateway; its class, from the root namespace
//! ```
//!
//! Objects of the root namespace are for all namespaces, others for their own. What an object selects is within that scope even
//! if it cannot be read: then it is for all of its scope.
//!
//! All `RequestAuthentication`s that are for a workload count together. Of `PeerAuthentication`s, one with a selector comes before
//! one of the namespace, and that before one of the mesh; of two alike the older one counts, or else the first by name.
//!
//! Old and new: an `AuthorizationPolicy` that is enforced, and allows or denies, switches roles and bindings off for the workloads
//! that it is for, as it did in Istio. One that is run dry, audits, or asks somebody else does not.

use std::sync::Arc;

use crate::authz::jwt_issuer::JwtIssuer;
use crate::authz::jwt_issuer::Keys;
use crate::authz::lower::Lowered;
use crate::authz::model::Action;
use crate::authz::model::Policy;
use crate::authz::mtls::Mtls;
use crate::authz::old_objects::OldObjects;
use crate::authz::peer_modes::Modes;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::Selection;
use crate::authz::resource::Spec;
use crate::authz::resource::Target;
use crate::authz::resource::TargetKind;
use crate::authz::workload::Mesh;
use crate::authz::workload::Proxy;
use crate::authz::workload::Workload;

/// What applies to one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Its policies, by name: of all kinds, enforced and in dry run.
    pub policies: Vec<Arc<Policy>>,
    /// Whose tokens are believed.
    pub authentication: Vec<JwtIssuer>,
    /// Whether callers may speak plain text.
    pub mtls: Mtls,
    /// The objects that apply, sorted.
    pub by: Vec<ResourceId>,
}

/// What of `resources` applies to `workload`.
pub fn apply<'a>(
    resources: impl IntoIterator<Item = &'a Resource>,
    workload: &Workload,
    mesh: &Mesh,
) -> Applied {
    let mut applied = Applied::default();
    let mut old = OldObjects::default();
    let mut modes = Modes::default();
    let mut has_new = false;
    for resource in resources {
        let (id, namespace) = (&resource.id, resource.id.namespace.as_str());
        let selects = |selection| selects(selection, namespace, workload, mesh);
        let is_for = match &resource.spec {
            Spec::AuthorizationPolicy(lowered) if selects(&lowered.written.selection) => {
                let policy = lowered.in_mesh(id, mesh);
                let is_certain = is_certain(&lowered.written.selection, workload);
                has_new |= is_certain && is_new(lowered);
                applied.policies.push(if is_certain { policy } else { in_doubt(&policy) });
                true
            }
            Spec::RequestAuthentication(written) if selects(&written.selection) => {
                let is_certain = is_certain(&written.selection, workload);
                let unsure = |issuer: JwtIssuer| JwtIssuer { keys: Keys::None, ..issuer };
                let issuers = written.issuers.iter().cloned();
                applied.authentication.extend(issuers.map(|one| if is_certain { one } else { unsure(one) }));
                true
            }
            Spec::PeerAuthentication(written)
                if selects(&written.selection) && is_certain(&written.selection, workload) =>
            {
                modes.add(resource, written, mesh);
                false
            }
            Spec::AuthorizationPolicy(_) | Spec::RequestAuthentication(_) | Spec::PeerAuthentication(_) => {
                false
            }
            Spec::ServiceRole(_) | Spec::ServiceRoleBinding(_) | Spec::RbacConfig(_) => {
                old.add(resource, mesh);
                false
            }
        };
        if is_for {
            applied.by.push(id.clone());
        }
    }
    let (mtls, by) = modes.mtls();
    applied.mtls = mtls;
    applied.by.extend(by);
    // The coexistence of old and new.
    if !has_new {
        let (policies, by) = old.policies(workload, mesh);
        applied.policies.extend(policies.into_iter().map(Arc::new));
        applied.by.extend(by);
    }
    applied.policies.sort_by(|one, other| one.name.cmp(&other.name));
    applied.authentication.sort_by(|one, other| (&one.by, one.index).cmp(&(&other.by, other.index)));
    applied.by.sort();
    applied.by.dedup();
    applied
}

/// Whether an object of `namespace` that selects so is for `workload`.
pub(crate) fn selects(selection: &Selection, namespace: &str, workload: &Workload, mesh: &Mesh) -> bool {
    let is_of_root = namespace == mesh.root_namespace;
    let in_scope = is_of_root
        || namespace == workload.namespace
        || match &workload.proxy {
            Proxy::Waypoint { services, .. } => services.iter().any(|(_, of, _)| of == namespace),
            Proxy::Sidecar | Proxy::Gateway { .. } => false,
        };
    if !in_scope {
        return false;
    }
    match (selection, &workload.proxy) {
        (Selection::Unreadable, _) => true,
        (Selection::All | Selection::Labels(_), Proxy::Waypoint { .. }) => false,
        (Selection::All, Proxy::Sidecar | Proxy::Gateway { .. }) => true,
        (Selection::Labels(labels), Proxy::Sidecar | Proxy::Gateway { .. }) => {
            workload.labels_are_unknown
                || labels.iter().all(|(name, value)| workload.labels.get(name) == Some(value))
        }
        (Selection::Targets(targets), _) => {
            targets.iter().any(|target| is_target(target, namespace, is_of_root, workload))
        }
    }
}

/// Whether a policy switches the old objects off: one that is enforced. What it is for, what it does and whether it is enforced must be
/// certain, for what the old ones deny is allowed then.
fn is_new(lowered: &Lowered) -> bool {
    let written = &lowered.written;
    let is_readable = written.selection != Selection::Unreadable && written.dry_run == Some(false);
    is_readable && matches!(written.action, Some(Action::Allow | Action::Deny))
}

/// Whether it is known that what selects so is for `workload`, if it may be.
fn is_certain(selection: &Selection, workload: &Workload) -> bool {
    !workload.labels_are_unknown || !matches!(selection, Selection::Labels(labels) if !labels.is_empty())
}

/// A policy that may be for a workload or not: it may only ever reduce access.
fn in_doubt(policy: &Arc<Policy>) -> Arc<Policy> {
    match policy.action {
        Action::Allow => Arc::new(Policy { rules: Vec::new(), ..Policy::clone(policy) }),
        Action::Deny | Action::Audit | Action::Custom { .. } => Arc::clone(policy),
    }
}

fn is_target(target: &Target, namespace: &str, is_of_root: bool, workload: &Workload) -> bool {
    // A target elsewhere is never meant.
    if target.namespace.as_deref().is_some_and(|given| given != namespace) {
        return false;
    }
    let is_own = |name: &str| name == target.name && namespace == workload.namespace;
    match (target.kind, &workload.proxy) {
        (TargetKind::Gateway, Proxy::Gateway { name } | Proxy::Waypoint { name, .. }) => is_own(name),
        (TargetKind::GatewayClass, Proxy::Waypoint { class, .. }) => is_of_root && *class == target.name,
        (TargetKind::Service | TargetKind::ServiceEntry, Proxy::Waypoint { services, .. }) => services
            .iter()
            .any(|(kind, of, name)| kind == target.kind.as_str() && of == namespace && *name == target.name),
        _ => false,
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
