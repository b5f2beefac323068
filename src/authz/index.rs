//! Pure: what changes for which workload, when an object does?

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::authz::apply::Applied;
use crate::authz::apply::apply;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::ResourceKind;
use crate::authz::workload::Mesh;
use crate::authz::workload::Proxy;
use crate::authz::workload::Workload;

/// All objects, and what applies to the workloads that are followed.
#[derive(Debug)]
pub struct Index {
    mesh: Mesh,
    resources: BTreeMap<ResourceId, Arc<Resource>>,
    workloads: BTreeMap<Workload, Arc<Applied>>,
}

impl Index {
    /// Without any object.
    pub fn new(mesh: Mesh) -> Self {
        Self { mesh, resources: BTreeMap::new(), workloads: BTreeMap::new() }
    }

    /// The settings of the mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The objects.
    pub fn resources(&self) -> &BTreeMap<ResourceId, Arc<Resource>> {
        &self.resources
    }

    /// The workloads that are followed, and what applies to each.
    pub fn workloads(&self) -> &BTreeMap<Workload, Arc<Applied>> {
        &self.workloads
    }

    /// An object is there, or has changed. Returns the workloads for which that changes anything.
    pub fn set(&mut self, resource: Arc<Resource>) -> Vec<Workload> {
        let id = resource.id.clone();
        match self.resources.insert(id.clone(), Arc::clone(&resource)) {
            Some(known) if known == resource => Vec::new(),
            _ => self.look_again(&BTreeSet::from([id.namespace])),
        }
    }

    /// An object is gone. Returns the workloads for which that changes anything.
    pub fn remove(&mut self, id: &ResourceId) -> Vec<Workload> {
        match self.resources.remove(id) {
            Some(_) => self.look_again(&BTreeSet::from([id.namespace.clone()])),
            None => Vec::new(),
        }
    }

    /// These are all objects of a kind. Returns the workloads for which that changes anything.
    pub fn replace(&mut self, kind: ResourceKind, all: Vec<Arc<Resource>>) -> Vec<Workload> {
        let mut changed = BTreeSet::new();
        let now: BTreeSet<ResourceId> = all.iter().map(|resource| resource.id.clone()).collect();
        self.resources.retain(|id, _| {
            let stays = id.kind != kind || now.contains(id);
            if !stays {
                changed.insert(id.namespace.clone());
            }
            stays
        });
        for resource in all {
            let id = resource.id.clone();
            match self.resources.insert(id.clone(), Arc::clone(&resource)) {
                Some(known) if known == resource => {}
                _ => {
                    changed.insert(id.namespace);
                }
            }
        }
        self.look_again(&changed)
    }

    /// A workload is followed from now on. Returns what applies to it.
    pub fn enter(&mut self, workload: &Workload) -> Arc<Applied> {
        match self.workloads.get(workload) {
            Some(known) => Arc::clone(known),
            None => {
                let applied = Arc::new(self.apply(workload));
                self.workloads.insert(workload.clone(), Arc::clone(&applied));
                applied
            }
        }
    }

    /// A workload is followed no longer.
    pub fn leave(&mut self, workload: &Workload) {
        self.workloads.remove(workload);
    }

    /// What applies to a workload, followed or not.
    pub fn apply(&self, workload: &Workload) -> Applied {
        apply(self.candidates(workload), workload, &self.mesh)
    }

    /// The objects that could apply to a workload: those of its namespaces, of the root namespace, and of the cluster.
    fn candidates(&self, workload: &Workload) -> impl Iterator<Item = &Resource> {
        let namespaces = self.namespaces(workload);
        ResourceKind::ALL.into_iter().flat_map(move |kind| {
            namespaces.clone().into_iter().flat_map(move |namespace| {
                let first = ResourceId { kind, namespace, name: String::new() };
                let of = first.namespace.clone();
                let from = self.resources.range(first..);
                from.take_while(move |(id, _)| id.kind == kind && id.namespace == of)
                    .map(|(_, resource)| &**resource)
            })
        })
    }

    fn namespaces(&self, workload: &Workload) -> BTreeSet<String> {
        let mut all =
            BTreeSet::from([String::new(), workload.namespace.clone(), self.mesh.root_namespace.clone()]);
        if let Proxy::Waypoint { services, .. } = &workload.proxy {
            all.extend(services.iter().map(|(_, namespace, _)| namespace.clone()));
        }
        all
    }

    /// Finds out anew what applies to the workloads that objects of these namespaces could be for.
    fn look_again(&mut self, changed: &BTreeSet<String>) -> Vec<Workload> {
        let concerned: Vec<Workload> =
            self.workloads.keys().filter(|one| !self.namespaces(one).is_disjoint(changed)).cloned().collect();
        let differs = |one: &Workload, index: &mut Self| {
            let applied = Arc::new(index.apply(one));
            index.workloads.insert(one.clone(), Arc::clone(&applied)).as_ref() != Some(&applied)
        };
        concerned.into_iter().filter(|one| differs(one, self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(namespace: &str, name: &str, labels: serde_json::Value) -> Arc<Resource> {
        let object = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"selector": {"matchLabels": labels}, "rules": [{}]},
        });
        Arc::new(Resource::read(&object).expect("it is a policy"))
    }

    fn workload(namespace: &str, app: &str) -> Workload {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        Workload { namespace: namespace.to_owned(), labels, ..Workload::default() }
    }

    fn index() -> Index {
        let mut index = Index::new(Mesh::of("td".parse().unwrap()));
        for one in [("shop", "web"), ("shop", "cart"), ("bank", "web")] {
            index.enter(&workload(one.0, one.1));
        }
        index
    }

    #[test]
    fn a_change_is_told_to_those_it_is_for_and_to_nobody_else() {
        let mut index = index();
        assert_eq!(index.set(policy("shop", "p", json!({"app": "web"}))), [workload("shop", "web")]);
        assert_eq!(index.set(policy("shop", "p", json!({"app": "web"}))), []);
        // It goes from one to the other: both are told.
        let both = [workload("shop", "cart"), workload("shop", "web")];
        assert_eq!(index.set(policy("shop", "p", json!({"app": "cart"}))), both);
        assert_eq!(index.set(policy("elsewhere", "p", json!({}))), []);
        assert_eq!(index.set(policy("istio-system", "p", json!({}))).len(), 3);
        assert_eq!(index.remove(&policy("shop", "p", json!({})).id), [workload("shop", "cart")]);
        assert_eq!(index.remove(&policy("shop", "p", json!({})).id), []);
    }

    #[test]
    fn what_is_not_in_a_whole_list_is_gone() {
        let mut index = index();
        index.set(policy("shop", "old", json!({"app": "cart"})));
        let all = vec![policy("shop", "new", json!({"app": "web"}))];
        let both = [workload("shop", "cart"), workload("shop", "web")];
        assert_eq!(index.replace(ResourceKind::AuthorizationPolicy, all.clone()), both);
        assert_eq!(index.replace(ResourceKind::AuthorizationPolicy, all), []);
        assert_eq!(index.resources().len(), 1);
        assert_eq!(index.replace(ResourceKind::PeerAuthentication, Vec::new()), []);
    }

    #[test]
    fn a_workload_that_comes_late_finds_what_there_is() {
        let mut index = index();
        index.set(policy("istio-system", "p", json!({"app": "late"})));
        assert_eq!(index.enter(&workload("new", "late")).policies.len(), 1);
        assert_eq!(index.enter(&workload("new", "other")).policies.len(), 0);
        index.leave(&workload("new", "late"));
        assert_eq!(
            index.set(policy("istio-system", "p", json!({"app": "other"}))),
            [workload("new", "other")]
        );
    }
}
