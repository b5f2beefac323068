//! Keeps one workload's certificate fresh: does what `schedule` and `moving` say, and publishes what came of it.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::ca_client::CaClient;
use crate::agent::ca_client::CaClientError;
use crate::agent::heard::Heard;
use crate::agent::metrics::AgentMetrics;
use crate::agent::moving::Moving;
use crate::agent::publication::Publication;
use crate::agent::roots::Follow;
use crate::agent::roots::beside;
use crate::agent::roots::follow;
use crate::agent::roots::meanwhile;
use crate::agent::roots::obey;
use crate::agent::schedule::Schedule;
use crate::chance::draw;
use crate::clock::Clock;
use crate::sds::Identity;
use crate::sds::Trust;
use crate::sds::UnfitSecret;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;
use crate::x509::key::InvalidKey;

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
    /// What it gave is of another authority than the one that ought to sign, or under none of the roots, and no better than
    /// what is in use.
    #[error(
        "the CA's answer is signed by `{0}`, which is not what the CA says ought to sign now; a replica may be late, and the certificate in use is kept"
    )]
    Late(String),
}

/// The one task that owns a workload's secrets.
#[derive(Debug)]
pub struct Renewal {
    /// Asks the CA.
    pub ca: CaClient,
    /// Where secrets are published.
    pub publication: Publication,
    /// Tells the time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: AgentMetrics,
    /// Somebody wants a new certificate now.
    pub now: Arc<Notify>,
    /// Roots that now stand in the mounted root file.
    pub root_file: watch::Receiver<Option<TrustBundle>>,
    /// What the CA has said on its stream.
    pub heard: watch::Receiver<Heard>,
}

impl Renewal {
    /// Renews until `stop` is cancelled. The old certificate is served until there is a better one.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut schedule, mut moving) = (Schedule::default(), Moving::default());
        let mut scheduled = self.clock.now();
        loop {
            let is_pressing = schedule.is_pressing(self.clock.now());
            let renewed = tokio::select! {
                () = stop.cancelled() => return,
                renewed = self.renew(is_pressing) => renewed,
            };
            let now = self.clock.now();
            match renewed {
                Ok((identity, suits)) => {
                    let until = identity.chain().leaf().facts().not_after;
                    let (next, due) = schedule.renewed(now, until, draw());
                    (schedule, scheduled) = (next, due.at);
                    moving = if suits { moving.arrived() } else { moving.late(now, Some(until), draw()) };
                    self.metrics.renewed();
                    tracing::info!(
                        spiffe_id = %identity.spiffe_id(),
                        serial = %identity.chain().leaf().facts().serial,
                        version = %identity.version(),
                        expires_at = %until,
                        renew_at = %moving.or_sooner(scheduled),
                        "the workload has a new certificate"
                    );
                }
                Err(error @ RenewalError::Late(_)) => {
                    let until = self.publication.held().identity.as_ref().map(ends_at);
                    moving = moving.late(now, until, draw());
                    if scheduled <= now {
                        scheduled = moving.or_later(scheduled);
                    }
                    self.metrics.late();
                    let (retry_at, attempt) = (moving.or_sooner(scheduled), moving.late_answers());
                    match attempt {
                        1 => tracing::warn!(%error, %retry_at, "the CA's answer is not used"),
                        _ => tracing::debug!(%error, attempt, %retry_at, "the CA's answer is not used"),
                    }
                }
                Err(error) => {
                    let (next, due) = schedule.failed(now, draw());
                    (schedule, scheduled) = (next, due.at);
                    moving = moving.failed(now);
                    self.metrics.failed(due.is_last_chance);
                    self.publication.withdraw_if_expired(now);
                    let attempt = schedule.failures();
                    match due.is_last_chance {
                        true => {
                            tracing::error!(%error, attempt, retry_at = %due.at, "the certificate is about to expire and cannot be renewed")
                        }
                        false => {
                            tracing::warn!(%error, attempt, retry_at = %due.at, "no new certificate; the old one, if any, stays in use")
                        }
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                next = self.until_due(scheduled, moving.clone()) => moving = next,
            }
        }
    }

    /// Waits for the next attempt, and does meanwhile what the root file and the CA's stream say.
    async fn until_due(&mut self, scheduled: OffsetDateTime, mut moving: Moving) -> Moving {
        loop {
            tokio::select! {
                () = self.clock.sleep_until(moving.or_sooner(scheduled)) => return moving,
                () = self.now.notified() => {
                    tracing::info!("a new certificate is asked for");
                    return moving;
                }
                Ok(()) = self.root_file.changed() => if self.follow_root_file() { return moving },
                Ok(()) = self.heard.changed() => moving = self.obey(moving),
            }
        }
    }

    /// New key, CSR, chain, verified secret, published: roots first. Returns whether it suits what the CA's stream has said.
    async fn renew(&mut self, is_pressing: bool) -> Result<(Identity, bool), RenewalError> {
        let key = PrivateKey::generate()?;
        let answer = self.ca.sign(key.csr_pem()?).await?;
        let now = self.clock.now();
        let heard = self.heard.borrow().clone();
        let fitness = heard.fitness(&answer.chain, now);
        let suits = fitness.is_perfect();
        let held = self.publication.held();
        let is_no_better =
            held.identity.as_ref().is_some_and(|held| fitness <= heard.fitness(held.chain(), now));
        if !suits && is_no_better && !is_pressing {
            return Err(RenewalError::Late(answer.chain.leaf().facts().issuer_text.clone()));
        }
        let file = self.root_file.borrow().clone();
        let roots = beside(&answer.chain, answer.bundle, heard.trust.as_ref(), file, now)?;
        let after = Trust::new(roots, now)?;
        let identity = Identity::new(answer.chain, key, &after, now)?;
        let before = match heard.trust {
            Some(_) => Trust::new(meanwhile(held.trust.as_ref(), after.bundle()), now)?,
            None => after.clone(),
        };
        self.publication.renewed(before, identity.clone(), after).await;
        Ok((identity, suits))
    }

    /// Uses the roots that now stand in the mounted file. Returns whether the CA has to be asked first.
    fn follow_root_file(&mut self) -> bool {
        let Some(roots) = self.root_file.borrow_and_update().clone() else { return false };
        // Once the CA itself has told the roots, the file is only what the CA is verified by.
        if self.heard.borrow().trust.is_some() {
            return false;
        }
        let held = self.publication.held();
        // So it is before the CA's first answer.
        let Some(trust) = &held.trust else { return false };
        match (follow(&roots, trust, held.identity.as_ref()), Trust::new(roots, self.clock.now())) {
            (Follow::Nothing, _) => false,
            (Follow::Publish, Ok(trust)) => {
                tracing::info!(version = %trust.version(), "the root file has changed, and its roots are used");
                self.publication.roots(trust);
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

    /// Does what the CA's stream says.
    fn obey(&mut self, moving: Moving) -> Moving {
        let (heard, held) = (self.heard.borrow_and_update().clone(), self.publication.held());
        let now = self.clock.now();
        let identity = held.identity.as_ref();
        let is_there = identity.is_none_or(|identity| {
            heard.notice.as_ref().is_none_or(|notice| notice.covers(identity.chain().leaf()))
        });
        let moving = moving.told(heard.notice.as_ref(), is_there, now, draw());
        let Some(trust) = heard.trust else { return moving };
        match obey(trust.bundle(), held.trust.as_ref(), identity) {
            Follow::Nothing => moving,
            Follow::Publish => {
                self.publication.roots(trust);
                moving
            }
            Follow::AskTheCa => {
                tracing::info!(version = %trust.version(), "the CA's roots do not cover our certificate; a new one comes first");
                match Trust::new(meanwhile(held.trust.as_ref(), trust.bundle()), now) {
                    Ok(both) => self.publication.roots(both),
                    Err(error) => tracing::warn!(%error, "the CA's roots are not used yet"),
                }
                moving.at_once(now)
            }
        }
    }
}

fn ends_at(identity: &Identity) -> OffsetDateTime {
    identity.chain().leaf().facts().not_after
}
