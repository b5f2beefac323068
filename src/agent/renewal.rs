//! Keeps one workload's certificate fresh: does what `schedule` says, and publishes what came of it.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::ca_client::CaClient;
use crate::agent::ca_client::CaClientError;
use crate::agent::metrics::AgentMetrics;
use crate::agent::roots::Follow;
use crate::agent::roots::follow;
use crate::agent::roots::merged;
use crate::agent::schedule::Schedule;
use crate::chance::draw;
use crate::clock::Clock;
use crate::sds::Identity;
use crate::sds::Secrets;
use crate::sds::Subscribers;
use crate::sds::Trust;
use crate::sds::UnfitSecret;
use crate::sds::names;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;
use crate::x509::key::InvalidKey;

/// How long a new leaf waits for all proxies to have the new roots. A proxy that is stuck must not keep the others from
/// a fresh certificate.
const ROOTS_FIRST: Duration = Duration::from_secs(5);

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The key could not be made.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The CA gave nothing.
    #[error(transparent)]
    Ca(#[from] CaClientError),
    /// Its roots and those that are published do not go together.
    #[error("the CA's roots and those in the root file: {0}")]
    Roots(#[from] InvalidBundle),
    /// What it gave must not be served.
    #[error("the CA's answer is not served: {0}")]
    Unfit(#[from] UnfitSecret),
}

/// The one task that owns a workload's secrets.
#[derive(Debug)]
pub struct Renewal {
    /// Asks the CA.
    pub ca: CaClient,
    /// Where secrets are published.
    pub secrets: watch::Sender<Arc<Secrets>>,
    /// Who uses them.
    pub subscribers: Subscribers,
    /// Tells the time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: AgentMetrics,
    /// Somebody wants a new certificate now.
    pub now: Arc<Notify>,
    /// Roots that now stand in the mounted root file.
    pub root_file: watch::Receiver<Option<TrustBundle>>,
}

impl Renewal {
    /// Renews until `stop` is cancelled. The old certificate is served until there is a better one.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut schedule = Schedule::default();
        loop {
            let renewed = tokio::select! {
                () = stop.cancelled() => return,
                renewed = self.renew() => renewed,
            };
            let now = self.clock.now();
            let due = match renewed {
                Ok(identity) => {
                    let until = identity.chain().leaf().facts().not_after;
                    let (next, due) = schedule.renewed(now, until, draw());
                    schedule = next;
                    self.metrics.renewed();
                    tracing::info!(
                        spiffe_id = %identity.spiffe_id(),
                        serial = %identity.chain().leaf().facts().serial,
                        version = %identity.version(),
                        expires_at = %until,
                        renew_at = %due.at,
                        "the workload has a new certificate"
                    );
                    due
                }
                Err(error) => {
                    let (next, due) = schedule.failed(now, draw());
                    schedule = next;
                    self.metrics.failed(due.is_last_chance);
                    self.withdraw_if_expired(now);
                    let attempt = schedule.failures();
                    match due.is_last_chance {
                        true => {
                            tracing::error!(%error, attempt, retry_at = %due.at, "the certificate is about to expire and cannot be renewed")
                        }
                        false => {
                            tracing::warn!(%error, attempt, retry_at = %due.at, "no new certificate; the old one, if any, stays in use")
                        }
                    }
                    due
                }
            };
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.clock.sleep_until(due.at) => break,
                    () = self.now.notified() => {
                        tracing::info!("a new certificate is asked for");
                        break;
                    }
                    Ok(()) = self.root_file.changed() => if self.follow_root_file() { break },
                }
            }
        }
    }

    /// New key, CSR, chain, verified secret, published: roots first.
    async fn renew(&self) -> Result<Identity, RenewalError> {
        let key = PrivateKey::generate()?;
        let answer = self.ca.sign(key.csr_pem()?).await?;
        let now = self.clock.now();
        let published = self.root_file.borrow().clone();
        let trust = Trust::new(merged(answer.bundle, published)?, now)?;
        let identity = Identity::new(answer.chain, key, &trust, now)?;
        self.publish(trust, identity.clone()).await;
        Ok(identity)
    }

    async fn publish(&self, trust: Trust, identity: Identity) {
        let is_new = self.secrets.borrow().trust.as_ref() != Some(&trust);
        if is_new {
            let version = trust.version().clone();
            tracing::info!(%version, "the roots are new");
            self.secrets.send_modify(|secrets| {
                *secrets = Arc::new(Secrets { trust: Some(trust.clone()), ..Secrets::clone(secrets) });
            });
            // Peers of this workload's proxies get the new leaf only when the proxies know the root of their answers.
            let answered = self.subscribers.have_answered(names::TRUST, &version);
            if tokio::time::timeout(ROOTS_FIRST, answered).await.is_err() {
                tracing::error!(%version, "not every proxy has answered the new roots; the new certificate is pushed all the same");
            }
        }
        let secrets =
            Secrets { trust: Some(trust), identity: Some(identity), expired_at: None, notice: None };
        self.secrets.send_replace(Arc::new(secrets));
    }

    /// Uses the roots that now stand in the mounted file. Returns whether the CA has to be asked first.
    fn follow_root_file(&mut self) -> bool {
        let Some(roots) = self.root_file.borrow_and_update().clone() else { return false };
        let secrets = self.secrets.borrow().clone();
        // Before the first answer the file is only what the CA itself is verified by.
        let Some(held) = &secrets.trust else { return false };
        match (follow(&roots, held, secrets.identity.as_ref()), Trust::new(roots, self.clock.now())) {
            (Follow::Nothing, _) => false,
            (Follow::Publish, Ok(trust)) => {
                tracing::info!(version = %trust.version(), "the root file has changed, and its roots are used");
                let secrets = Secrets { trust: Some(trust), ..Secrets::clone(&secrets) };
                self.secrets.send_replace(Arc::new(secrets));
                false
            }
            (Follow::Publish, Err(error)) => {
                tracing::warn!(%error, "the root file has changed, and is not followed");
                false
            }
            (Follow::AskTheCa, _) => {
                tracing::info!(
                    "the root file has other roots than those in use; the CA is asked which go with a new certificate"
                );
                true
            }
        }
    }

    /// Envoy takes an expired certificate without a word, and every handshake fails: better it waits for a good one.
    fn withdraw_if_expired(&self, now: OffsetDateTime) {
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
