//! All policies of a mesh, kept current by one who watches them, and told to those who enforce them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;

use crate::authz::apply::Applied;
use crate::authz::index::Index;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::ResourceKind;
use crate::authz::workload::Mesh;
use crate::authz::workload::Workload;

/// What is told to one who follows a workload: `None` as long as not all policies are known, for then nothing may be allowed.
pub type Told = Option<Arc<Applied>>;

/// All policies. Clones are the same library.
#[derive(Clone)]
pub struct Library {
    shelves: Arc<Mutex<Shelves>>,
}

struct Shelves {
    index: Index,
    followers: BTreeMap<Workload, watch::Sender<Told>>,
    is_complete: bool,
}

impl Library {
    /// Without any policy, and not complete.
    pub fn new(mesh: Mesh) -> Self {
        let shelves = Shelves { index: Index::new(mesh), followers: BTreeMap::new(), is_complete: false };
        Self { shelves: Arc::new(Mutex::new(shelves)) }
    }

    /// What applies to a workload, now and from now on.
    pub fn follow(&self, workload: &Workload) -> watch::Receiver<Told> {
        let mut shelves = self.lock();
        shelves.forget_who_left();
        if let Some(known) = shelves.followers.get(workload) {
            return known.subscribe();
        }
        let applied = shelves.index.enter(workload);
        let (sender, receiver) = watch::channel(shelves.is_complete.then_some(applied));
        shelves.followers.insert(workload.clone(), sender);
        receiver
    }

    /// An object is there, or has changed.
    pub fn set(&self, resource: Resource) {
        self.change(|index| index.set(Arc::new(resource)));
    }

    /// An object is gone.
    pub fn remove(&self, id: &ResourceId) {
        self.change(|index| index.remove(id));
    }

    /// These are all objects of a kind.
    pub fn replace(&self, kind: ResourceKind, all: Vec<Resource>) {
        self.change(|index| index.replace(kind, all.into_iter().map(Arc::new).collect()));
    }

    /// All policies are known; those who follow are told from now on.
    pub fn complete(&self) {
        let mut shelves = self.lock();
        if !shelves.is_complete {
            shelves.is_complete = true;
            let all: Vec<Workload> = shelves.followers.keys().cloned().collect();
            shelves.tell(&all);
        }
    }

    /// Whether all policies are known.
    pub fn is_complete(&self) -> bool {
        self.lock().is_complete
    }

    /// Looks at the policies and at what applies where.
    pub fn look<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.lock().index)
    }

    fn change(&self, change: impl FnOnce(&mut Index) -> Vec<Workload>) {
        let mut shelves = self.lock();
        shelves.forget_who_left();
        let changed = change(&mut shelves.index);
        shelves.tell(&changed);
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        // Nothing in here is left half done by a panic that could come from outside.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    fn tell(&self, workloads: &[Workload]) {
        if !self.is_complete {
            return;
        }
        for workload in workloads {
            if let (Some(follower), Some(applied)) =
                (self.followers.get(workload), self.index.workloads().get(workload))
            {
                follower.send_replace(Some(Arc::clone(applied)));
            }
        }
    }

    fn forget_who_left(&mut self) {
        let index = &mut self.index;
        self.followers.retain(|workload, sender| {
            let stays = !sender.is_closed();
            if !stays {
                index.leave(workload);
            }
            stays
        });
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shelves = self.lock();
        f.debug_struct("Library")
            .field("resources", &shelves.index.resources().len())
            .field("followers", &shelves.followers.len())
            .field("is_complete", &shelves.is_complete)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(name: &str) -> Resource {
        let object = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"namespace": "shop", "name": name}, "spec": {"rules": [{}]},
        });
        Resource::read(&object).expect("it is a policy")
    }

    fn names(told: &watch::Receiver<Told>) -> Option<Vec<String>> {
        let told = told.borrow();
        told.as_ref().map(|applied| applied.by.iter().map(|id| id.name.clone()).collect())
    }

    #[test]
    fn nobody_is_told_anything_before_all_is_known() {
        let library = Library::new(Mesh::of("td".parse().unwrap()));
        let shop = Workload { namespace: "shop".to_owned(), ..Workload::default() };
        let told = library.follow(&shop);
        library.set(policy("a"));
        assert_eq!(names(&told), None);
        library.complete();
        assert_eq!(names(&told), Some(vec!["a".to_owned()]));
        library.set(policy("b"));
        library.remove(&policy("a").id);
        assert_eq!(names(&told), Some(vec!["b".to_owned()]));
        assert_eq!(names(&library.follow(&shop)), Some(vec!["b".to_owned()]));
    }

    #[test]
    fn who_left_is_forgotten() {
        let library = Library::new(Mesh::of("td".parse().unwrap()));
        drop(library.follow(&Workload::default()));
        library.set(policy("a"));
        assert_eq!(library.look(|index| index.workloads().len()), 0);
    }
}
