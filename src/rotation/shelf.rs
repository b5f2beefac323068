//! Policies of files, for whoever asks: what applies to a caller of whom no more is known than its service account.

use std::sync::Arc;

use tokio::sync::watch;

use crate::authz::Mesh;
use crate::authz::Objects;
use crate::authz::Rulebook;
use crate::authz::Workload;
use crate::census::Caller;
use crate::identity::SpiffeId;
use crate::rotation::policies::Follow;

/// The objects, and how they are read.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// All objects.
    pub objects: watch::Receiver<Objects>,
    /// What holds for the whole mesh.
    pub mesh: Mesh,
}

impl Follow for Shelf {
    fn follow(&self, caller: &Caller) -> watch::Receiver<Arc<Option<Rulebook>>> {
        let (mut objects, mesh, workload) = (self.objects.clone(), self.mesh.clone(), workload(caller));
        let now = rulebook(&objects.borrow_and_update(), workload.as_ref(), &mesh);
        let (told, follower) = watch::channel(Arc::new(now));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = told.closed() => return,
                    changed = objects.changed() => if changed.is_err() { return },
                }
                let next = rulebook(&objects.borrow_and_update(), workload.as_ref(), &mesh);
                told.send_if_modified(|told| {
                    let is_news = **told != next;
                    *told = Arc::new(next);
                    is_news
                });
            }
        });
        follower
    }
}

fn rulebook(objects: &Objects, workload: Option<&Workload>, mesh: &Mesh) -> Option<Rulebook> {
    Some(Rulebook::of(objects.as_ref()?.iter(), workload?, mesh))
}

fn workload(caller: &Caller) -> Option<Workload> {
    let id: SpiffeId = caller.spiffe_id.parse().ok()?;
    let mut parts = id.path().split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), Some("ns"), Some(namespace), Some("sa"), Some(account)) => Some(Workload {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            ..Workload::default()
        }),
        _ => None,
    }
}
