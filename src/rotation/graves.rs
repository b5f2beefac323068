//! Are the pods still there of those who cannot be asked? A pod that is gone took its processes with it, and nobody waits for them.
//!
//! Kubernetes takes a pod's object away once its containers have ended. Somebody may have it taken away by force, and then it is
//! theirs to know that they have.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::Client;
use time::OffsetDateTime;

use crate::census::Holder;
use crate::k8s::Trouble;
use crate::rotation::known::Sources;
use crate::rotation::merge;
use crate::rotation::merge::Merged;

/// How often is looked while a rotation is under way.
const LOOK: Duration = Duration::from_secs(2);
/// How many pods are looked for at a time: a rotation does not wait for each of them any longer than for all.
const AT_ONCE: usize = 64;
/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks for as long as it is polled; only where this process leads.
pub async fn look_for_the_gone(client: Client, sources: Sources) {
    loop {
        tokio::time::sleep(LOOK).await;
        if sources.in_force.held().state.rotation().is_none() {
            sources.bury(BTreeSet::new());
            continue;
        }
        let known = sources.known();
        let now = sources.clock.now();
        let counting = merge::holders(&known);
        // Who was found gone is no longer among those who count, but has to stay known as gone for as long as its leaves live.
        let mut gone: BTreeSet<String> = known.own.gone.clone();
        for holder in
            counting.iter().filter(|one| is_to_be_looked_for(one, now)).map(|one| &one.holder).take(AT_ONCE)
        {
            match is_gone(&client, holder).await {
                Ok(true) => {
                    tracing::info!(
                        spiffe_id = holder.spiffe_id,
                        pod = holder.pod,
                        "the pod of a reader is gone; it is not waited for"
                    );
                    gone.insert(holder.id.clone());
                }
                Ok(false) => {}
                Err(trouble) => {
                    tracing::debug!(error = %trouble, "whether a pod is there cannot be told at the moment");
                    break;
                }
            }
        }
        sources.bury(gone);
    }
}

fn is_to_be_looked_for(one: &Merged, now: OffsetDateTime) -> bool {
    let holder = &one.holder;
    let lives = one.leaves().any(|(_, span)| span.until > now.unix_timestamp());
    holder.open.is_empty() && lives && holder.pod.is_some() && holder.pod_uid.is_some()
}

async fn is_gone(client: &Client, holder: &Holder) -> Result<bool, Trouble> {
    let Some((namespace, name)) = holder.pod.as_deref().and_then(|pod| pod.split_once('/')) else {
        return Ok(false);
    };
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let found = Trouble::within(TIMEOUT, pods.get_metadata_opt(name)).await?;
    // Another pod of the same name has another uid.
    Ok(found.is_none_or(|pod| pod.metadata.uid != holder.pod_uid))
}
