//! Policies of files, for whoever asks: what applies to a caller of whom no more is known than its service account.

use std::sync::Arc;

use tokio::sync::watch;

use crate::attest::Attested;
use crate::authz::Follow;
use crate::authz::Mesh;
use crate::authz::Objects;
use crate::authz::Rulebook;
use crate::authz::Told;
use crate::authz::Workload;
use crate::authz::apply;
use crate::authz::resource::Resource;
use crate::census::Caller;
use crate::identity::SpiffeId;
use crate::rotation::policies::Rulebooks;

/// The objects, and how they are read.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// All objects.
    pub objects: watch::Receiver<Objects>,
    /// What holds for the whole mesh.
    pub mesh: Mesh,
}

impl Rulebooks for Shelf {
    fn of(&self, caller: &Caller) -> watch::Receiver<Arc<Option<Rulebook>>> {
        let workload = workload_of_id(&caller.spiffe_id);
        self.told(move |objects, mesh| {
            let workload = workload.as_ref()?;
            Some(Rulebook::of(objects.iter(), workload, mesh))
        })
    }
}

impl Follow for Shelf {
    fn follow(&self, caller: &Attested) -> Option<watch::Receiver<Told>> {
        let workload = workload(caller.namespace(), caller.service_account());
        let (told, follower) = watch::channel(None);
        let mut all = self.told(move |objects, mesh| Some(Arc::new(apply(objects, &workload, mesh))));
        tokio::spawn(async move {
            loop {
                let now = Option::clone(&all.borrow_and_update());
                told.send_replace(now);
                tokio::select! {
                    () = told.closed() => return,
                    changed = all.changed() => if changed.is_err() { return },
                }
            }
        });
        Some(follower)
    }
}

impl Shelf {
    /// What `make` makes of the objects, each time that they change; `None` before they are known.
    fn told<T: PartialEq + Send + Sync + 'static>(
        &self,
        make: impl Fn(&[Resource], &Mesh) -> Option<T> + Send + 'static,
    ) -> watch::Receiver<Arc<Option<T>>> {
        let (mut objects, mesh) = (self.objects.clone(), self.mesh.clone());
        let make = move |objects: &Objects| make(objects.as_ref()?, &mesh);
        let now = make(&objects.borrow_and_update());
        let (told, follower) = watch::channel(Arc::new(now));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = told.closed() => return,
                    changed = objects.changed() => if changed.is_err() { return },
                }
                let next = make(&objects.borrow_and_update());
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

fn workload_of_id(spiffe_id: &str) -> Option<Workload> {
    let id: SpiffeId = spiffe_id.parse().ok()?;
    let mut parts = id.path().split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), Some("ns"), Some(namespace), Some("sa"), Some(account)) => {
            Some(workload(namespace, account))
        }
        _ => None,
    }
}

fn workload(namespace: &str, account: &str) -> Workload {
    Workload {
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        labels_are_unknown: true,
        ..Workload::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::attest::Attestor;
    use crate::attest::Credentials;
    use crate::attest::test_support::attestor_and_token;

    #[tokio::test]
    async fn a_policy_of_files_that_selects_labels_denies_and_closes_though_nobody_tells_the_labels() {
        let policy = |name: &str, action: &str| {
            let object = json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"selector": {"matchLabels": {"app": "api"}}, "action": action, "rules": [{}]},
            });
            Resource::read(&object).unwrap()
        };
        let all = Arc::new(vec![policy("allow", "ALLOW"), policy("deny", "DENY")]);
        let (_objects, read) = watch::channel(Some(all));
        let shelf = Shelf { objects: read, mesh: Mesh::of("td".parse().unwrap()) };
        let (attestor, token) = attestor_and_token("shop", "web");
        let caller = attestor.attest(&Credentials { token: Some(token) }).await.unwrap();
        let mut told = shelf.follow(&caller).unwrap();
        let applied = told.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        let rules: Vec<_> =
            applied.policies.iter().map(|policy| (&*policy.name.name, policy.rules.len())).collect();
        assert_eq!(rules, [("allow", 0), ("deny", 1)]);
    }
}
