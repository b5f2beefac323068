//! The CA's own certificate, kept fresh.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::issuance::ServingError;
use crate::issuance::ServingNames;
use crate::issuance::serving_certificate;
use crate::signer::Issuer;
use crate::tls::HotCertificate;

/// Life of the CA's own certificate; it is replaced at half of it.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How soon something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What it takes to make the CA's own certificate.
pub(super) struct Serving {
    pub(super) certificate: HotCertificate,
    pub(super) names: ServingNames,
    pub(super) backdate: Duration,
    pub(super) issuer: watch::Receiver<Arc<Issuer>>,
    pub(super) clock: Clock,
}

impl Serving {
    /// Makes a new one, puts it in use, and returns the end of its life.
    pub(super) fn renew(&self) -> Result<OffsetDateTime, ServingError> {
        let issuer = self.issuer.borrow().clone();
        let now = self.clock.now();
        let (certificate, end) = serving_certificate(&issuer, &self.names, self.backdate, LIFETIME, now)?;
        self.certificate.swap(certificate);
        tracing::info!(expires_at = %end, "the CA's own certificate is new");
        Ok(end)
    }

    /// Renews at half of its life, and at once when the issuer changes.
    pub(super) async fn keep_fresh(mut self, end: watch::Sender<OffsetDateTime>) {
        loop {
            let now = self.clock.now();
            // With an issuer near its end the halves become ever shorter; they need not become a storm.
            let half: OffsetDateTime = now + (*end.borrow() - now) / 2;
            let due = half.max(now + AGAIN);
            let changed = tokio::select! {
                () = self.clock.sleep_until(due) => Ok(()),
                changed = self.issuer.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            match self.renew() {
                Ok(renewed) => drop(end.send_replace(renewed)),
                Err(error) => {
                    tracing::error!(%error, "the CA's own certificate could not be renewed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
