//! Follows the Secret while the CA runs: what it may change is taken over at once, and what it may not is refused aloud.

use std::sync::Arc;

use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::authority::kubernetes::Change;
use crate::authority::kubernetes::KubernetesStore;
use crate::authority::record::Record;
use crate::authority::store::Store;
use crate::clock::Clock;
use crate::identity::TrustDomain;
use crate::signer::Issuer;

/// Follows `store` for as long as it is polled: sends each new issuer, and what is wrong while something is.
///
/// The last good issuer stays in use whatever happens to the Secret.
pub async fn follow(
    store: KubernetesStore,
    trust_domain: TrustDomain,
    clock: Clock,
    issuer: watch::Sender<Arc<Issuer>>,
    wrong: impl Fn(Option<String>) + Send,
) {
    let mut changes = std::pin::pin!(store.watch());
    while let Some(change) = changes.next().await {
        let held = issuer.borrow().clone();
        match change {
            Change::Kept(kept) => match next(&held, &kept.record, &trust_domain, clock.now()) {
                Ok(None) => wrong(None),
                Ok(Some(next)) => {
                    let roots: Vec<_> = next.bundle().roots().iter().map(|root| root.fingerprint()).collect();
                    tracing::info!(
                        roots = roots.join(" "),
                        revision = kept.revision.0,
                        "the trusted roots have changed"
                    );
                    issuer.send_replace(Arc::new(next));
                    wrong(None);
                }
                Err(why) => wrong(Some(format!("{}: {why}", store.place()))),
            },
            Change::Damaged(error) => wrong(Some(error.to_string())),
            Change::Gone => wrong(Some(format!(
                "{} is gone; this process still signs with what it holds in memory, but no later start can: restore it from a copy before the CA is restarted",
                store.place()
            ))),
            Change::Trouble(trouble) if trouble.is_forbidden() => {
                wrong(Some(format!("{} is not followed: {trouble}", store.place())));
            }
            // The watch goes on by itself, and the Secret is as it was.
            Change::Trouble(trouble) => {
                tracing::debug!(error = %trouble, "the authority's Secret is not seen at the moment")
            }
        }
    }
}

/// The issuer that follows `held` under `record`; `None` if nothing has changed.
///
/// # Errors
/// If the record cannot sign, or would sign with another key: readers must trust a root before anything is signed with it,
/// and a process that runs cannot know that they do.
fn next(
    held: &Issuer,
    record: &Record,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Option<Issuer>, String> {
    if record.certificate != *held.certificate() {
        return Err(format!(
            "it holds another signing root ({}) than the one in use ({}), which stays in use; put the old one back, or publish the new one in root-cert.pem first and restart the CA when every namespace has it",
            record.certificate.fingerprint(),
            held.certificate().fingerprint()
        ));
    }
    if record.bundle == *held.bundle() {
        return Ok(None);
    }
    record.issuer(trust_domain, now).map(Some).map_err(|unfit| unfit.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::*;
    use crate::x509::TrustBundle;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

    fn record() -> Record {
        Record::new_root(&"td".parse().unwrap(), Duration::from_secs(3600), NOW).unwrap()
    }

    #[test]
    fn trusted_roots_may_come_and_go_but_the_signing_root_stays() {
        let domain = "td".parse().unwrap();
        let (mut record, other) = (record(), record());
        let held = record.issuer(&domain, NOW).unwrap();
        assert!(next(&held, &record, &domain, NOW).unwrap().is_none());
        assert!(next(&held, &other, &domain, NOW).unwrap_err().contains("another signing root"));
        let both = vec![record.certificate.clone(), other.certificate.clone()];
        record.bundle = TrustBundle::new(both).unwrap();
        let wider = next(&held, &record, &domain, NOW).unwrap().unwrap();
        assert_eq!(wider.bundle().roots().len(), 2);
        record.bundle = TrustBundle::new(vec![other.certificate]).unwrap();
        assert!(next(&held, &record, &domain, NOW).unwrap_err().contains("do not contain the signing root"));
    }
}
