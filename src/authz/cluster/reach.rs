//! Pure: to how many workloads does each object apply?
//!
//! Counted namespace by namespace, and only where something has changed: an object concerns its own namespace alone, unless it is in the
//! root namespace. Pods that differ in nothing but a label that their Deployment gave them are one workload.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use crate::authz::resource::ResourceId;
use crate::authz::workload::Workload;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Reach {
    counts: HashMap<String, BTreeMap<ResourceId, usize>>,
    dirty: BTreeSet<String>,
}

impl Reach {
    /// Something has changed in these namespaces.
    pub(super) fn changed(&mut self, namespaces: impl IntoIterator<Item = String>) {
        self.dirty.extend(namespaces);
    }

    /// Something has changed that may concern every namespace: these are those that have workloads.
    pub(super) fn all(&mut self, namespaces: impl IntoIterator<Item = String>) {
        self.dirty.extend(self.counts.keys().cloned());
        self.dirty.extend(namespaces);
    }

    /// A namespace that is to be counted anew, if there is one.
    pub(super) fn next(&mut self) -> Option<String> {
        self.dirty.pop_first()
    }

    /// Whether everything is counted.
    pub(super) fn is_done(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Counts a namespace: these are its workloads, and `applied` says which objects apply to one.
    pub(super) fn count<I: IntoIterator<Item = ResourceId>>(
        &mut self,
        namespace: &str,
        workloads: &[Arc<Workload>],
        applied: impl Fn(&Workload) -> I,
    ) {
        let mut reached: BTreeMap<ResourceId, BTreeSet<(&str, &str)>> = BTreeMap::new();
        for workload in workloads {
            for id in applied(workload) {
                reached.entry(id).or_default().insert((&workload.service_account, &workload.name));
            }
        }
        let counts: BTreeMap<_, _> = reached.into_iter().map(|(id, all)| (id, all.len())).collect();
        match counts.is_empty() {
            true => drop(self.counts.remove(namespace)),
            false => drop(self.counts.insert(namespace.to_owned(), counts)),
        }
    }

    /// What all namespaces come to.
    pub(super) fn totals(&self) -> BTreeMap<ResourceId, usize> {
        let mut totals = BTreeMap::new();
        for (id, count) in self.counts.values().flatten() {
            *totals.entry(id.clone()).or_default() += count;
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::resource::ResourceKind;

    fn workload(namespace: &str, name: &str, hash: &str) -> Arc<Workload> {
        Arc::new(Workload {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: [("pod-template-hash".to_owned(), hash.to_owned())].into(),
            ..Workload::default()
        })
    }

    fn id(namespace: &str, name: &str) -> ResourceId {
        ResourceId {
            kind: ResourceKind::AuthorizationPolicy,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_deployment_that_is_rolled_out_is_one_workload_and_a_mesh_wide_policy_reaches_all() {
        let mut reach = Reach::default();
        let applied = |workload: &Workload| [id("istio-system", "all"), id(&workload.namespace, "own")];
        reach.changed(["shop".to_owned(), "bank".to_owned(), "shop".to_owned()]);
        let shop = [workload("shop", "web", "1"), workload("shop", "web", "2"), workload("shop", "db", "1")];
        while let Some(namespace) = reach.next() {
            let workloads =
                if namespace == "shop" { shop.to_vec() } else { vec![workload("bank", "web", "1")] };
            reach.count(&namespace, &workloads, applied);
        }
        assert!(reach.is_done());
        let expected = [(id("istio-system", "all"), 3), (id("shop", "own"), 2), (id("bank", "own"), 1)];
        assert_eq!(reach.totals(), expected.into());
        // The namespace is emptied.
        reach.count("shop", &[], applied);
        assert_eq!(reach.totals(), [(id("istio-system", "all"), 1), (id("bank", "own"), 1)].into());
    }
}
