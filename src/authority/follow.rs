//! Follows the Secret while the CA runs: what it may change is taken over at once, and what it may not is refused aloud.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::authority::kubernetes::Change;
use crate::authority::kubernetes::KubernetesStore;
use crate::authority::record::Record;
use crate::authority::store::Kept;
use crate::authority::store::Revision;
use crate::authority::store::Store;
use crate::authority::store::StoreError;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::identity::TrustDomain;
use crate::signer::Issuer;

/// A watch that does not get on for so long is more than a restart of the API server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says what is wrong with the kept authority now, `None` if nothing is.
pub type Complain = Arc<dyn Fn(Option<String>) + Send + Sync>;

/// Follows what is kept. Clones share all of it.
#[derive(Clone)]
pub struct Follower {
    /// Where it is kept.
    pub store: KubernetesStore,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// Tells the time.
    pub clock: Clock,
    /// The issuer in use, which is replaced when the roots change.
    pub issuer: watch::Sender<Arc<Issuer>>,
    /// Hears what is wrong.
    pub complain: Complain,
    /// The newest revision that was taken.
    pub newest: Newest,
}

/// The newest revision that was taken. Clones share it.
///
/// A look past all caches and a watch that is late may show two revisions in the wrong order. The API server's
/// resourceVersions are numbers that grow (Kubernetes promises it from 1.35 on); one that is none is always news.
#[derive(Clone, Debug, Default)]
pub struct Newest(Arc<AtomicU64>);

impl Newest {
    /// Whether nothing newer was taken before; from now on this one was.
    fn take(&self, revision: &Revision) -> bool {
        match revision.0.parse() {
            Ok(number) => self.0.fetch_max(number, Ordering::AcqRel) <= number,
            Err(_) => true,
        }
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Follower {
    /// Follows for as long as it is polled. The last good issuer stays in use whatever happens to the Secret.
    pub async fn run(self) {
        let mut changes = pin!(self.store.watch());
        let mut failing: Option<Stopwatch> = None;
        while let Some(change) = changes.next().await {
            match change {
                Change::Trouble(trouble) => {
                    let since = failing.get_or_insert_with(Stopwatch::start).elapsed();
                    // A restart of the API server is nothing, and the Secret is as it was.
                    match trouble.is_forbidden() || since > PATIENCE {
                        true => (self.complain)(Some(format!(
                            "{} is not followed: {trouble}",
                            self.store.place()
                        ))),
                        false => {
                            tracing::debug!(error = %trouble, "the authority's Secret is not seen at the moment")
                        }
                    }
                    continue;
                }
                Change::Kept(kept) => self.take(&kept),
                Change::Damaged(error) => (self.complain)(Some(error.to_string())),
                Change::Gone => self.gone(),
                // What was wrong with what is kept still is, and only a look can tell.
                Change::Well => {
                    if let Err(error) = self.look().await {
                        tracing::debug!(%error, "the authority's Secret is not seen at the moment");
                        continue;
                    }
                }
            }
            failing = None;
        }
    }

    /// Looks once, past all caches.
    ///
    /// # Errors
    /// If nobody can say what is kept. That it is gone or damaged is an answer: then what is held is the best there is.
    pub async fn look(&self) -> Result<(), StoreError> {
        match self.store.load().await {
            Ok(Some(kept)) => self.take(&kept),
            Ok(None) => self.gone(),
            Err(error @ StoreError::Damaged { .. }) => (self.complain)(Some(error.to_string())),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn take(&self, kept: &Kept) {
        if !self.newest.take(&kept.revision) {
            return;
        }
        let held = self.issuer.borrow().clone();
        let Next { issuer, wrong } = next(&held, &kept.record, &self.trust_domain, self.clock.now());
        if let Some(issuer) = issuer {
            let roots: Vec<_> = issuer.bundle().roots().iter().map(|root| root.fingerprint()).collect();
            tracing::info!(
                roots = roots.join(" "),
                revision = kept.revision.0,
                "the trusted roots have changed"
            );
            self.issuer.send_replace(Arc::new(issuer));
        }
        (self.complain)(wrong.map(|why| format!("{}: {why}", self.store.place())));
    }

    fn gone(&self) {
        (self.complain)(Some(format!(
            "{} is gone; this process still signs with what it holds in memory, but no later start can: restore it from a copy before the CA is restarted",
            self.store.place()
        )));
    }
}

/// What follows from a record.
#[derive(Debug, Default)]
struct Next {
    /// The issuer to use from now on, if it is another one.
    issuer: Option<Issuer>,
    /// What is wrong with the record.
    wrong: Option<String>,
}

/// What follows from `record` while `held` signs.
///
/// The signing key stays: readers must trust a root before anything is signed with it, and a process that runs cannot know
/// that they do. The trusted roots are taken over as long as the one that signs is among them.
fn next(held: &Issuer, record: &Record, trust_domain: &TrustDomain, now: OffsetDateTime) -> Next {
    let wrong = match record.issuer(trust_domain, now) {
        Err(unfit) => return Next { issuer: None, wrong: Some(unfit.to_string()) },
        Ok(_) if record.certificate == *held.certificate() => None,
        Ok(_) => Some(format!(
            "it holds another signing root ({}) than the one in use ({}), which stays in use; put the old one back, or publish the new one in root-cert.pem first and restart the CA when every namespace has it",
            record.certificate.fingerprint(),
            held.certificate().fingerprint()
        )),
    };
    if record.bundle == *held.bundle() || !record.bundle.contains(held.root()) {
        return Next { issuer: None, wrong };
    }
    let chain = vec![held.certificate().clone()];
    match Issuer::new(held.signer().clone(), chain, record.bundle.clone(), now) {
        Ok(issuer) => Next { issuer: Some(issuer), wrong },
        Err(unfit) => Next { issuer: None, wrong: Some(unfit.to_string()) },
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::x509::PrivateKey;
    use crate::x509::TrustBundle;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

    fn record() -> Record {
        Record::new_root(&"td".parse().unwrap(), Duration::from_secs(3600), NOW).unwrap()
    }

    #[test]
    fn what_a_late_watch_shows_does_not_undo_what_a_look_has_found() {
        let newest = Newest::default();
        let taken = |revision: &str| newest.take(&Revision(revision.to_owned()));
        assert_eq!(["7", "9", "8", "9", "10", "no number"].map(taken), [true, true, false, true, true, true]);
    }

    #[test]
    fn trusted_roots_may_come_and_go_but_the_signing_root_stays() {
        let domain = "td".parse().unwrap();
        let (mut record, other) = (record(), record());
        let held = record.issuer(&domain, NOW).unwrap();
        let unchanged = next(&held, &record, &domain, NOW);
        assert!(unchanged.issuer.is_none() && unchanged.wrong.is_none());
        let both = vec![record.certificate.clone(), other.certificate.clone()];
        record.bundle = TrustBundle::new(both.clone()).unwrap();
        let wider = next(&held, &record, &domain, NOW).issuer.unwrap();
        assert_eq!(wider.bundle().roots().len(), 2);
        record.bundle = TrustBundle::new(vec![other.certificate.clone()]).unwrap();
        let without = next(&held, &record, &domain, NOW);
        assert!(without.issuer.is_none());
        assert!(without.wrong.unwrap().contains("do not contain the signing root"));
    }

    #[test]
    fn another_signing_root_is_not_followed_though_the_roots_beside_it_are() {
        let domain = "td".parse().unwrap();
        let (record, mut other) = (record(), record());
        let held = record.issuer(&domain, NOW).unwrap();
        let foreign = next(&held, &other, &domain, NOW);
        assert!(foreign.issuer.is_none() && foreign.wrong.unwrap().contains("another signing root"));
        other.bundle = TrustBundle::new(vec![record.certificate.clone(), other.certificate.clone()]).unwrap();
        let moved = next(&held, &other, &domain, NOW);
        assert!(moved.wrong.unwrap().contains("another signing root"));
        let issuer = moved.issuer.unwrap();
        assert_eq!((issuer.certificate(), issuer.bundle().roots().len()), (held.certificate(), 2));
    }

    #[test]
    fn a_key_that_no_longer_fits_is_noticed_though_the_certificate_is_the_same() {
        let domain = "td".parse().unwrap();
        let mut record = record();
        let held = record.issuer(&domain, NOW).unwrap();
        record.key = PrivateKey::generate().unwrap();
        let told = next(&held, &record, &domain, NOW);
        assert!(told.issuer.is_none() && told.wrong.unwrap().contains("does not belong"));
    }
}
