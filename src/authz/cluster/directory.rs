//! Which workload is the pod behind a stream? Known on every replica, from the watches of pods and services.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockWriteGuard;

use tokio::sync::watch;

use crate::authz::cluster::workloads::Workloads;
use crate::authz::workload::Workload;

/// All pods of the cluster, by name. Clones share it.
#[derive(Clone)]
pub struct Directory {
    workloads: Arc<RwLock<Workloads>>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("changes", &*self.changes.borrow()).finish_non_exhaustive()
    }
}

impl Directory {
    /// Nothing is known yet. Services are named under `domain`, such as `cluster.local`.
    pub fn new(domain: &str) -> Self {
        let workloads = Arc::new(RwLock::new(Workloads::new(domain.to_owned())));
        Self { workloads, changes: watch::Sender::new(0) }
    }

    /// The workload of the pod of that name and UID; `None` if it is not known, or not known yet.
    pub fn workload(&self, namespace: &str, pod: &str, uid: &str) -> Option<Arc<Workload>> {
        self.workloads.read().unwrap_or_else(PoisonError::into_inner).workload(namespace, pod, uid)
    }

    /// Changes whenever a workload has come, gone or become another: time to ask for it again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether all pods and services were known at least once.
    pub fn is_complete(&self) -> bool {
        self.workloads.read().unwrap_or_else(PoisonError::into_inner).is_complete()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Workloads> {
        self.workloads.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The distinct workloads of a namespace.
    pub(super) fn of(&self, namespace: &str) -> Vec<Arc<Workload>> {
        let workloads = self.workloads.read().unwrap_or_else(PoisonError::into_inner);
        workloads.of(namespace).into_iter().cloned().collect()
    }

    /// The namespaces that have workloads.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.workloads.read().unwrap_or_else(PoisonError::into_inner).namespaces().into_iter().collect()
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}
