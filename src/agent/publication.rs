//! What the proxies are given, in the right order: roots that come before a leaf under them, roots that go after it.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::clock::Stopwatch;
use crate::sds::Identity;
use crate::sds::Secrets;
use crate::sds::Subscribers;
use crate::sds::Trust;
use crate::sds::Version;
use crate::sds::names;

/// How long a new leaf waits for all proxies to have the new roots. A proxy that is stuck must not keep the others from
/// a fresh certificate.
const ROOTS_FIRST: Duration = Duration::from_secs(5);

/// Where secrets are published, and who uses them.
#[derive(Debug)]
pub struct Publication {
    secrets: watch::Sender<Arc<Secrets>>,
    subscribers: Subscribers,
    /// Since when the roots are what they are.
    roots: Option<Stopwatch>,
}

impl Publication {
    /// Publishes to `secrets`, which `subscribers` are served from.
    pub fn new(secrets: watch::Sender<Arc<Secrets>>, subscribers: Subscribers) -> Self {
        Self { secrets, subscribers, roots: None }
    }

    /// What is published now.
    pub(super) fn held(&self) -> Arc<Secrets> {
        self.secrets.borrow().clone()
    }

    /// Publishes roots, if they are not those in use.
    pub(super) fn roots(&mut self, trust: Trust) {
        let held = self.held();
        if held.trust.as_ref() != Some(&trust) {
            tracing::info!(version = %trust.version(), count = trust.bundle().roots().len(), "the roots are new");
            self.roots = Some(Stopwatch::start());
            self.secrets.send_replace(Arc::new(Secrets { trust: Some(trust), ..Secrets::clone(&held) }));
        }
    }

    /// Publishes a new leaf: `meanwhile` before it, `after` once it is there.
    pub(super) async fn renewed(&mut self, meanwhile: Trust, identity: Identity, after: Trust) {
        let version = meanwhile.version().clone();
        self.roots(meanwhile);
        self.have_the_roots(&version).await;
        self.secrets.send_modify(|secrets| {
            *secrets =
                Arc::new(Secrets { identity: Some(identity), expired_at: None, ..Secrets::clone(secrets) });
        });
        self.roots(after);
    }

    /// Peers of this workload's proxies get a new leaf only when the proxies know the root of their answers.
    async fn have_the_roots(&self, version: &Version) {
        let age = self.roots.map_or(ROOTS_FIRST, |since| since.elapsed());
        let left = ROOTS_FIRST.saturating_sub(age);
        let answered = self.subscribers.have_answered(names::TRUST, version);
        if !left.is_zero() && tokio::time::timeout(left, answered).await.is_err() {
            tracing::error!(%version, "not every proxy has answered the new roots; the new certificate is pushed all the same");
        }
    }

    /// Envoy takes an expired certificate without a word, and every handshake fails: better it waits for a good one.
    pub(super) fn withdraw_if_expired(&self, now: OffsetDateTime) {
        self.secrets.send_if_modified(|secrets| {
            let until = secrets.identity.as_ref().map(|identity| identity.chain().leaf().facts().not_after);
            let expired_at = until.filter(|until| *until <= now);
            if expired_at.is_some() {
                *secrets = Arc::new(Secrets { identity: None, expired_at, ..Secrets::clone(secrets) });
            }
            expired_at.is_some()
        });
    }
}
