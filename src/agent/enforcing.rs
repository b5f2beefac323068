//! Has the proxies follow the policies that the CA says.

use tokio::sync::watch;

use crate::agent::heard::Heard;
use crate::authz::Enforcement;
use crate::authz::Told;

/// Aims at what was heard last, for as long as it is polled; `told` are those who decide here.
pub async fn enforce(mut heard: watch::Receiver<Heard>, enforcement: Enforcement, told: watch::Sender<Told>) {
    loop {
        let policies = heard.borrow_and_update().policies.clone();
        if let Some(policies) = policies {
            told.send_if_modified(|told| {
                let is_news = told.as_ref() != Some(&policies.applied);
                *told = Some(policies.applied.clone());
                is_news
            });
            enforcement.aim(&policies.version, policies.requests, policies.connections);
        }
        if heard.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
