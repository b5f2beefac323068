//! Watches one kind of policy, in the best version that the cluster serves.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::stream;
use kube::Api;
use kube::Client;
use kube::core::DynamicObject;

use crate::authz::cluster::kinds;
use crate::authz::resource::ResourceKind;
use crate::k8s;
use crate::k8s::Seen;

/// How long after no version was served they are asked for again.
const AGAIN: Duration = Duration::from_secs(5);

struct Watch {
    client: Client,
    kind: ResourceKind,
    /// Which of the versions is watched.
    version: usize,
    shown: Option<Pin<Box<dyn Stream<Item = Seen<DynamicObject>> + Send>>>,
    /// None was served, so that there is a pause first.
    is_absent: bool,
}

/// What the API server shows of `kind`. Trouble that says `is_absent` means that the cluster serves it in no version.
pub(super) fn watch(client: Client, kind: ResourceKind) -> impl Stream<Item = Seen<DynamicObject>> + Send {
    let watch = Watch { client, kind, version: 0, shown: None, is_absent: false };
    stream::unfold(watch, |mut watch| async move {
        let seen = watch.next().await;
        Some((seen, watch))
    })
}

impl Watch {
    async fn next(&mut self) -> Seen<DynamicObject> {
        if std::mem::take(&mut self.is_absent) {
            tokio::time::sleep(AGAIN).await;
        }
        let versions = self.kind.versions();
        loop {
            let shown = self.shown.get_or_insert_with(|| {
                let version = versions.get(self.version).copied().unwrap_or("v1");
                let resource = kinds::api_resource(self.kind, version);
                let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
                Box::pin(k8s::watch(api, ""))
            });
            match shown.next().await {
                Some(Seen::Trouble(trouble)) if trouble.is_absent() => {
                    self.shown = None;
                    self.version = (self.version + 1) % versions.len().max(1);
                    if self.version == 0 {
                        self.is_absent = true;
                        return Seen::Trouble(trouble);
                    }
                }
                Some(seen) => return seen,
                // A watch does not end.
                None => self.shown = None,
            }
        }
    }
}
