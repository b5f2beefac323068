//! Policies of a cluster, for whoever asks: what applies to the workload of the caller's pod, for as long as the caller listens.

use std::sync::Arc;

use tokio::sync::watch;

use crate::attest::Attested;
use crate::authz::Follow;
use crate::authz::Library;
use crate::authz::Mesh;
use crate::authz::Rulebook;
use crate::authz::Told;
use crate::authz::Workload;
use crate::authz::cluster::Directory;
use crate::census::Caller;
use crate::rotation::policies::Rulebooks;

/// The policies and the pods, and how they are read.
#[derive(Clone, Debug)]
pub struct Pods {
    /// All policies.
    pub known: Library,
    /// All pods.
    pub directory: Directory,
    /// What holds for the whole mesh.
    pub mesh: Mesh,
}

impl Rulebooks for Pods {
    fn of(&self, caller: &Caller) -> watch::Receiver<Arc<Option<Rulebook>>> {
        let (told, follower) = watch::channel(Arc::new(None));
        match Pod::of(caller) {
            Some(pod) => drop(tokio::spawn(self.clone().tell(pod, told, Self::pass_on))),
            // Who is no pod of this cluster has no labels that a policy could select: it is told nothing, and enforces nothing but denial.
            None => tracing::warn!(spiffe_id = caller.spiffe_id, "somebody who is no pod asks for policies"),
        }
        follower
    }
}

impl Follow for Pods {
    fn follow(&self, caller: &Attested) -> Option<watch::Receiver<Told>> {
        let pod = caller.pod()?;
        let (namespace, name) = (caller.namespace().to_owned(), pod.name.clone());
        let (told, follower) = watch::channel(None);
        let pod = Pod { namespace, name, uid: pod.uid.clone() };
        tokio::spawn(self.clone().tell(pod, told, |_, _, applied, told| {
            told.send_replace(applied.clone());
        }));
        Some(follower)
    }
}

/// A pod, by name.
struct Pod {
    namespace: String,
    name: String,
    uid: String,
}

impl Pod {
    fn of(caller: &Caller) -> Option<Self> {
        let (name, uid) = caller.pod.as_ref()?;
        let (namespace, name) = name.split_once('/')?;
        Some(Self { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.clone() })
    }
}

impl Pods {
    /// Has `pass_on` tell what applies to the pod, each time that it changes, until nobody listens. What was last told stays if the pod
    /// is gone: its agent ends with it.
    async fn tell<T>(
        self,
        pod: Pod,
        told: watch::Sender<T>,
        pass_on: impl Fn(&Self, &Workload, &Told, &watch::Sender<T>),
    ) {
        let mut changes = self.directory.changes();
        loop {
            changes.borrow_and_update();
            let workload = self.directory.workload(&pod.namespace, &pod.name, &pod.uid);
            let Some(workload) = workload else {
                tokio::select! {
                    () = told.closed() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                continue;
            };
            let mut applied = self.known.follow(&workload);
            loop {
                let now = applied.borrow_and_update().clone();
                if now.is_some() {
                    pass_on(&self, &workload, &now, &told);
                }
                tokio::select! {
                    () = told.closed() => return,
                    changed = applied.changed() => if changed.is_err() { return },
                    changed = changes.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let now = self.directory.workload(&pod.namespace, &pod.name, &pod.uid);
                        if now.is_some_and(|now| now != workload) {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn pass_on(&self, workload: &Workload, _: &Told, told: &watch::Sender<Arc<Option<Rulebook>>>) {
        // Both from one moment, so that nobody is told half of a change; what is made of them need not hold the others up.
        let objects = self.known.look(|index| {
            let applied = index.workloads().get(workload)?;
            Some(applied.by.iter().filter_map(|id| index.resources().get(id)).cloned().collect::<Vec<_>>())
        });
        // An empty rulebook would allow everything.
        let Some(objects) = objects else { return };
        let rulebook = Rulebook::of(objects.iter().map(Arc::as_ref), workload, &self.mesh);
        told.send_if_modified(|told| {
            let is_news = told.as_ref().as_ref() != Some(&rulebook);
            *told = Arc::new(Some(rulebook));
            is_news
        });
    }
}
