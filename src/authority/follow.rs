//! Takes over what the store says, whoever has written it: at once where the steps of a rotation have led there, and not at all,
//! but aloud, where somebody has put another signing key in its place.

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
use crate::authority::record::UnfitRecord;
use crate::authority::state::Authority;
use crate::authority::state::State;
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

/// What one record means for a process that signs.
#[derive(Clone, Debug)]
pub struct Held {
    /// The authorities.
    pub state: Arc<State>,
    /// Who signs for workloads.
    pub issuer: Arc<Issuer>,
    /// Who signs the certificate of the CA's own listener.
    pub serving: Arc<Issuer>,
}

impl Held {
    /// What `record` means.
    ///
    /// # Errors
    /// If it cannot sign.
    pub fn of(record: &Record, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Self, UnfitRecord> {
        let issuer = Arc::new(record.issuer(trust_domain, now)?);
        // A retiring authority may have expired by now; the one that signs will do.
        let serving = record.serving(trust_domain, now).map_or_else(|_| issuer.clone(), Arc::new);
        Ok(Self { state: Arc::new(record.state.clone()), issuer, serving })
    }
}

impl Held {
    /// What files that were read once mean: an authority that nothing ever happens to.
    pub fn of_files(issuer: Issuer) -> Self {
        let issuer = Arc::new(issuer);
        let chain = match issuer.intermediates() {
            [] => vec![issuer.certificate().clone()],
            path => path.to_vec(),
        };
        let since = issuer.not_before();
        let state = State::first(Authority::new(chain, issuer.root().clone(), since), since);
        let others = issuer.bundle().roots().iter().filter(|root| *root != issuer.root());
        let others: Vec<_> = others.cloned().collect();
        // The roots came out of a bundle, so they are one.
        let state = state.clone().with_extra(others).unwrap_or(state).numbered(1, 0);
        Self { state: Arc::new(state), serving: issuer.clone(), issuer }
    }
}

/// What is in use in this process, for all who use a part of it. Clones share it.
#[derive(Clone, Debug)]
pub struct InForce {
    held: watch::Sender<Held>,
    issuer: watch::Sender<Arc<Issuer>>,
    serving: watch::Sender<Arc<Issuer>>,
}

impl InForce {
    /// Begins with `held`.
    pub fn new(held: Held) -> Self {
        let (issuer, serving) = (held.issuer.clone(), held.serving.clone());
        Self {
            held: watch::Sender::new(held),
            issuer: watch::Sender::new(issuer),
            serving: watch::Sender::new(serving),
        }
    }

    /// All of it, now.
    pub fn held(&self) -> Held {
        self.held.borrow().clone()
    }

    /// All of it, as it changes.
    pub fn watch(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Who signs for workloads.
    pub fn issuer(&self) -> watch::Receiver<Arc<Issuer>> {
        self.issuer.subscribe()
    }

    /// Who signs the certificate of the CA's own listener.
    pub fn serving(&self) -> watch::Receiver<Arc<Issuer>> {
        self.serving.subscribe()
    }

    fn put(&self, next: Held) {
        let put = |place: &watch::Sender<Arc<Issuer>>, next: &Arc<Issuer>| {
            let same = |old: &Issuer| {
                old.authority() == next.authority()
                    && old.bundle() == next.bundle()
                    && old.intermediates() == next.intermediates()
            };
            place.send_if_modified(|held| {
                let is_new = !same(held);
                if is_new {
                    *held = next.clone();
                }
                is_new
            });
        };
        put(&self.issuer, &next.issuer);
        put(&self.serving, &next.serving);
        self.held.send_replace(next);
    }
}

/// Says what is wrong with the kept authority now, `None` if nothing is.
pub type Complain = Arc<dyn Fn(Option<String>) + Send + Sync>;

/// Takes over what is kept. Clones share all of it.
#[derive(Clone)]
pub struct Follower {
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// Tells the time.
    pub clock: Clock,
    /// What is in use.
    pub in_force: InForce,
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
        f.debug_struct("Follower").field("newest", &self.newest).finish_non_exhaustive()
    }
}

impl Follower {
    /// Follows `store` for as long as it is polled. What was last good stays in use whatever happens to the Secret.
    pub async fn run(self, store: KubernetesStore) {
        let mut changes = pin!(store.watch());
        let mut failing: Option<Stopwatch> = None;
        while let Some(change) = changes.next().await {
            match change {
                Change::Trouble(trouble) => {
                    let since = failing.get_or_insert_with(Stopwatch::start).elapsed();
                    // A restart of the API server is nothing, and the Secret is as it was.
                    match trouble.is_forbidden() || since > PATIENCE {
                        true => {
                            (self.complain)(Some(format!("{} is not followed: {trouble}", store.place())))
                        }
                        false => {
                            tracing::debug!(error = %trouble, "the authority's Secret is not seen at the moment")
                        }
                    }
                    continue;
                }
                Change::Kept(kept) => self.take(&kept, &store.place()),
                Change::Damaged(error) => (self.complain)(Some(error.to_string())),
                Change::Gone => self.gone(&store.place()),
                // What was wrong with what is kept still is, and only a look can tell.
                Change::Well => {
                    if let Err(error) = self.look(&store).await {
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
    pub async fn look(&self, store: &dyn Store) -> Result<(), StoreError> {
        match store.load().await {
            Ok(Some(kept)) => self.take(&kept, &store.place()),
            Ok(None) => self.gone(&store.place()),
            Err(error @ StoreError::Damaged { .. }) => (self.complain)(Some(error.to_string())),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes over what is kept at `place`, unless something newer was taken before.
    pub fn take(&self, kept: &Kept, place: &str) {
        if !self.newest.take(&kept.revision) {
            return;
        }
        let held = self.in_force.held();
        let Next { next, wrong } = next(&held, &kept.record, &self.trust_domain, self.clock.now());
        if let Some(next) = next {
            tracing::info!(
                bundle = next.state.sequence(),
                signs = next.issuer.authority(),
                roots = next.issuer.bundle().roots().len(),
                revision = kept.revision.0,
                "the authorities have changed"
            );
            self.in_force.put(next);
        }
        (self.complain)(wrong.map(|why| format!("{place}: {why}")));
    }

    fn gone(&self, place: &str) {
        (self.complain)(Some(format!(
            "{place} is gone; this process still signs with what it holds in memory, but no later start can: restore it from a copy before the CA is restarted"
        )));
    }
}

/// What follows from a record.
#[derive(Debug, Default)]
struct Next {
    /// What is in use from now on, if it is something else.
    next: Option<Held>,
    /// What is wrong with the record.
    wrong: Option<String>,
}

/// What follows from `record` while `held` is in use.
///
/// A key that signs is followed only by one that the steps of a rotation have put in its place: they have seen to it that
/// readers trust it. Of a record that was changed by hand, the trusted roots are taken over as long as the one that signs is
/// among them, and nothing else.
fn next(held: &Held, record: &Record, trust_domain: &TrustDomain, now: OffsetDateTime) -> Next {
    let fresh = match Held::of(record, trust_domain, now) {
        Ok(fresh) => fresh,
        Err(unfit) => return Next { next: None, wrong: Some(unfit.to_string()) },
    };
    let (old, new) = (&held.state.active().id, &record.state.active().id);
    if old == new || !record.is_edited() && succeeds(&record.state, &held.state) {
        let is_same = fresh.state == held.state && fresh.issuer.bundle() == held.issuer.bundle();
        return Next { next: (!is_same).then_some(fresh), wrong: None };
    }
    let wrong = Some(format!(
        "it holds another signing root ({}) than the one in use ({}), which stays in use; put the old one back, and move to another one by `burgrave root rotate --from`",
        record.certificate().fingerprint(),
        held.issuer.certificate().fingerprint()
    ));
    let bundle = record.state.bundle();
    if bundle == *held.issuer.bundle() || !bundle.contains(held.issuer.root()) {
        return Next { next: None, wrong };
    }
    let path = held.state.active().path(&bundle);
    match Issuer::new(held.issuer.signer().clone(), path, bundle, now) {
        Ok(issuer) => {
            let issuer = Arc::new(issuer.called(old.as_str()));
            let next = Held { state: held.state.clone(), serving: issuer.clone(), issuer };
            Next { next: Some(next), wrong }
        }
        Err(unfit) => Next { next: None, wrong: Some(unfit.to_string()) },
    }
}

/// Whether the steps of rotations may have led from `before` to `after`: the authority that signed then is still known.
fn succeeds(after: &State, before: &State) -> bool {
    let old = &before.active().id;
    let was_removed = after.past().iter().any(|past| past.removed.contains(old));
    after.sequence() >= before.sequence() && (after.authority(old).is_some() || was_removed)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
