//! Pure: which roles and bindings count at a workload, and where are they switched on?
//!
//! They are switched on by the `ClusterRbacConfig` called `default`; without one, by the `RbacConfig` of that name in the root
//! namespace. Where they are, what no binding grants is denied. A binding counts at the workloads of its own namespace, and grants a
//! role of that namespace, or of the root namespace if it says so. One whose role is not there grants nothing.

use std::collections::HashMap;

use crate::authz::lower::domains::Domains;
use crate::authz::lower::roles;
use crate::authz::model::Action;
use crate::authz::model::Kind;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::resource::AccessRule;
use crate::authz::resource::Extent;
use crate::authz::resource::Fault;
use crate::authz::resource::RbacConfig;
use crate::authz::resource::RbacMode;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::ResourceKind;
use crate::authz::resource::RoleOf;
use crate::authz::resource::ServiceRole;
use crate::authz::resource::ServiceRoleBinding;
use crate::authz::resource::Severity;
use crate::authz::resource::Spec;
use crate::authz::workload::Mesh;
use crate::authz::workload::Workload;

/// The name of the only configuration that counts.
const CONFIG: &str = "default";

/// The roles, bindings and configurations that may count somewhere.
#[derive(Debug, Default)]
pub(crate) struct OldObjects<'a> {
    cluster: Option<(&'a ResourceId, &'a RbacConfig)>,
    root: Option<(&'a ResourceId, &'a RbacConfig)>,
    roles: HashMap<(&'a str, &'a str), (&'a ResourceId, &'a ServiceRole)>,
    bindings: Vec<(&'a ResourceId, &'a ServiceRoleBinding)>,
}

impl<'a> OldObjects<'a> {
    /// Takes an object in, if it is an old one.
    pub(crate) fn add(&mut self, resource: &'a Resource, mesh: &Mesh) {
        let id = &resource.id;
        match &resource.spec {
            Spec::RbacConfig(config) if id.name == CONFIG => match id.kind {
                ResourceKind::ClusterRbacConfig => self.cluster = Some((id, config)),
                _ if id.namespace == mesh.root_namespace => self.root = Some((id, config)),
                _ => {}
            },
            Spec::ServiceRole(role) => {
                self.roles.insert((&id.namespace, &id.name), (id, role));
            }
            Spec::ServiceRoleBinding(binding) => self.bindings.push((id, binding)),
            Spec::RbacConfig(_)
            | Spec::AuthorizationPolicy(_)
            | Spec::RequestAuthentication(_)
            | Spec::PeerAuthentication(_) => {}
        }
    }

    /// The configuration that counts.
    pub(crate) fn config(&self) -> Option<(&'a ResourceId, &'a RbacConfig)> {
        self.cluster.or(self.root)
    }

    /// The bindings, with what they grant; `None` if their role is not there.
    pub(crate) fn bindings(&self, mesh: &Mesh) -> impl Iterator<Item = Bound<'a>> {
        self.bindings.iter().map(|(id, binding)| {
            let named = match &binding.role {
                RoleOf::Own(name) => Some((id.namespace.as_str(), name.as_str())),
                RoleOf::Root(name) => Some((mesh.root_namespace.as_str(), name.as_str())),
                RoleOf::Inline(_) | RoleOf::Unreadable => None,
            };
            let role = named.and_then(|name| self.roles.get(&name));
            let rules = match (&binding.role, role) {
                (RoleOf::Inline(rules), _) => Some(rules.as_slice()),
                (RoleOf::Unreadable, _) => Some(&[] as &[AccessRule]),
                (_, Some((_, role))) => Some(role.rules.as_slice()),
                (_, None) => None,
            };
            Bound { id, binding, role: role.map(|(id, _)| *id), rules }
        })
    }

    /// What they say at a workload, and which of them say it.
    pub(crate) fn policies(&self, workload: &Workload, mesh: &Mesh) -> (Vec<Policy>, Vec<ResourceId>) {
        let Some((config_id, config)) = self.config().filter(|(_, config)| is_on(&config.mode, workload))
        else {
            return (Vec::new(), Vec::new());
        };
        let name = |kind, id: &ResourceId| PolicyName {
            kind,
            namespace: id.namespace.as_str().into(),
            name: id.name.as_str().into(),
        };
        // One that allows nothing, so that what is not granted is denied.
        let closing = Policy {
            name: name(Kind::RbacConfig, config_id),
            action: Action::Allow,
            dry_run: config.is_permissive,
            rules: Vec::new(),
        };
        let (mut policies, mut by) = (vec![closing], vec![config_id.clone()]);
        let domains = Domains::of(mesh);
        for bound in self.bindings(mesh).filter(|bound| bound.id.namespace == workload.namespace) {
            let rules =
                roles::rules(bound.rules.unwrap_or_default(), &bound.binding.subjects, workload, &domains);
            if rules.is_empty() {
                continue;
            }
            by.extend([Some(bound.id), bound.role].into_iter().flatten().cloned());
            policies.push(Policy {
                name: name(Kind::ServiceRoleBinding, bound.id),
                action: Action::Allow,
                dry_run: config.is_permissive || bound.binding.is_permissive,
                rules,
            });
        }
        (policies, by)
    }
}

/// A binding with what it grants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'a> {
    /// The binding.
    pub(crate) id: &'a ResourceId,
    /// What is written in it.
    pub(crate) binding: &'a ServiceRoleBinding,
    /// The role it names, if that is there.
    pub(crate) role: Option<&'a ResourceId>,
    /// What it grants; `None` if its role is not there.
    pub(crate) rules: Option<&'a [AccessRule]>,
}

/// What is wrong with old objects only beside each other: bindings whose role is not there.
pub fn missing_roles<'a>(
    resources: impl IntoIterator<Item = &'a Resource>,
    mesh: &Mesh,
) -> Vec<(ResourceId, Fault)> {
    let mut old = OldObjects::default();
    resources.into_iter().for_each(|resource| old.add(resource, mesh));
    let missing = old.bindings(mesh).filter(|bound| bound.rules.is_none());
    missing.map(|bound| (bound.id.clone(), missing_role(&bound, mesh))).collect()
}

fn missing_role(bound: &Bound<'_>, mesh: &Mesh) -> Fault {
    let (path, namespace, name) = match &bound.binding.role {
        RoleOf::Root(name) => ("spec.role", &mesh.root_namespace, name.as_str()),
        RoleOf::Own(name) => ("spec.roleRef.name", &bound.id.namespace, name.as_str()),
        RoleOf::Inline(_) | RoleOf::Unreadable => ("spec", &bound.id.namespace, ""),
    };
    Fault {
        path: path.to_owned(),
        severity: Severity::Error,
        problem: format!("there is no ServiceRole `{namespace}/{name}`"),
        effect: "the binding grants nothing until there is".to_owned(),
    }
}

/// Whether roles and bindings are switched on at a workload.
fn is_on(mode: &RbacMode, workload: &Workload) -> bool {
    let names = |extent: &Extent| extent.namespaces.contains(&workload.namespace);
    let is_listed = |extent: &Extent, service: &String| extent.services.contains(service);
    let mut services = workload.services.iter();
    match mode {
        RbacMode::Off => false,
        RbacMode::On => true,
        // Where nobody told which services lead to it, any of them may.
        RbacMode::Inclusion(extent) => {
            let may_be = workload.labels_are_unknown && !extent.services.is_empty();
            names(extent) || may_be || services.any(|service| is_listed(extent, service))
        }
        // A workload of several services is left out if all of them are.
        RbacMode::Exclusion(extent) => {
            let is_out = !workload.services.is_empty() && services.all(|service| is_listed(extent, service));
            !names(extent) && !is_out
        }
    }
}
