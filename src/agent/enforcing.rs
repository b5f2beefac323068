//! Has the proxies follow the policies that the CA says, with the keys that issuers of tokens publish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::agent::heard::Heard;
use crate::agent::policies::Policies;
use crate::authz::Compiled;
use crate::authz::Enforcement;
use crate::authz::Told;
use crate::authz::envoy::Layer;
use crate::authz::tokens::Issuer;
use crate::authz::tokens::KeyBook;
use crate::authz::tokens::Keys;
use crate::clock::Clock;

/// How often it is looked whether keys have become too old to be used.
const LOOK: Duration = Duration::from_secs(30);

/// Aims at what was heard last, for as long as it is polled; `told` are those who decide here. Keys are looked up in `book`.
pub async fn enforce(
    mut heard: watch::Receiver<Heard>,
    enforcement: Enforcement,
    told: watch::Sender<Told>,
    book: KeyBook,
    clock: Clock,
) {
    let mut news = book.news();
    // Who holds an issuer has its keys kept fresh.
    let mut issuers = Vec::new();
    loop {
        news.borrow_and_update();
        let policies = heard.borrow_and_update().policies.clone();
        if let Some(policies) = policies {
            told.send_if_modified(|told| {
                let is_news = told.as_ref() != Some(&policies.applied);
                *told = Some(policies.applied.clone());
                is_news
            });
            issuers =
                policies.applied.authentication.iter().map(|issuer| Issuer::of(issuer, &book)).collect();
            let requests = with_keys(&policies, &issuers, &clock);
            enforcement.aim(&policies.version, requests, policies.connections);
        }
        let is_over = tokio::select! {
            changed = heard.changed() => changed.is_err(),
            changed = news.changed() => changed.is_err(),
            () = tokio::time::sleep(LOOK), if !issuers.is_empty() => false,
        };
        if is_over {
            std::future::pending::<()>().await;
        }
    }
}

/// The filters for requests, with the keys that are known now.
fn with_keys(policies: &Policies, issuers: &[Issuer], clock: &Clock) -> Arc<Compiled> {
    let now = clock.now();
    let published: BTreeMap<String, String> = issuers
        .iter()
        .filter_map(|issuer| match &issuer.keys {
            Keys::Published(published) => Some((issuer.name.to_string(), published.keys(now)?.to_jwks())),
            Keys::Inline(_) | Keys::None => None,
        })
        .collect();
    if published.is_empty() {
        return policies.requests.clone();
    }
    match Compiled::with_keys(&policies.applied, Layer::Requests, &published) {
        Ok(compiled) => Arc::new(compiled),
        Err(error) => {
            tracing::error!(%error, "the keys of token issuers cannot be told to Envoy; their tokens are refused");
            policies.requests.clone()
        }
    }
}
