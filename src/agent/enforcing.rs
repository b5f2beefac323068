//! Has the proxies follow the policies that the CA says.

use tokio::sync::watch;

use crate::agent::heard::Heard;
use crate::authz::Enforcement;

/// Aims at what was heard last, for as long as it is polled.
pub async fn enforce(mut heard: watch::Receiver<Heard>, enforcement: Enforcement) {
    loop {
        let policies = heard.borrow_and_update().policies.clone();
        if let Some(policies) = policies {
            enforcement.aim(&policies.version, policies.requests, policies.connections);
        }
        if heard.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
