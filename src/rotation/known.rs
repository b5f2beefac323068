//! What this process knows at one moment: its own bulletin, and what others have told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;

use crate::authority::Evidence;
use crate::authority::Held;
use crate::authority::InForce;
use crate::census::Census;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::distribution::Distribution;
use crate::k8s::Leadership;
use crate::rotation::bulletin::Bulletin;
use crate::rotation::bulletin::pause_that_leaves_the_time_to_others;
use crate::rotation::exchange::Others;
use crate::rotation::merge;
use crate::rotation::merge::Gathered;
use crate::rotation::merge::Known;
use crate::rotation::merge::Patience;

/// For how long an authority has to be in force before this replica says that it signs with it: by then, whatever was under way
/// with another one is in the book.
const UNDER_WAY: Duration = Duration::from_millis(300);

/// How often this replica looks at what it has to tell.
const PAUSE: Duration = Duration::from_millis(100);

/// Everything that evidence is made of. Clones share it.
#[derive(Clone, Debug)]
pub struct Sources {
    /// This replica's name.
    pub replica: String,
    /// What is in use.
    pub in_force: InForce,
    /// Whom this replica knows.
    pub census: Census,
    /// What others have told.
    pub others: watch::Receiver<Others>,
    /// Where the roots are published, and whether this process is the one who knows.
    pub publishing: Option<(Distribution, Leadership)>,
    /// Times that evidence is judged by.
    pub patience: Patience,
    /// Tells the time.
    pub clock: Clock,
    /// What has to be remembered between two looks.
    pub memory: Memory,
}

/// What has to be remembered between two looks. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    remembered: Arc<Mutex<Remembered>>,
    /// What the last evidence was made of.
    gathered: Arc<Mutex<Gathered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Who signs, since when, and who did before.
    signer: Option<(String, Stopwatch, String)>,
    /// The digest that is published everywhere, and since when.
    published: Option<(String, i64)>,
    /// Holders whose pods are gone.
    gone: BTreeSet<String>,
}

impl Sources {
    /// What this replica tells the others.
    pub fn bulletin(&self) -> Bulletin {
        let held = self.in_force.held();
        let now = self.clock.now().unix_timestamp();
        let mut memory = self.memory.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (published, missing_in) = self.published(&held, &mut memory, now);
        Bulletin {
            replica: self.replica.clone(),
            at: now,
            sequence: held.state.sequence(),
            steps: held.state.steps(),
            busy: held.state.rotation().is_some(),
            signs_with: memory.signs_with(held.issuer.authority()),
            published,
            missing_in,
            unheard_until: self.census.unheard_until().map(time::OffsetDateTime::unix_timestamp),
            gone: memory.gone.clone(),
            holders: self.census.holders(),
        }
    }

    /// The pods of these holders are gone, and nobody else's that was known to be.
    pub(super) fn bury(&self, gone: BTreeSet<String>) {
        self.memory.remembered.lock().unwrap_or_else(PoisonError::into_inner).gone = gone;
    }

    /// What all replicas know together.
    pub fn known(&self) -> Known {
        let others = self.others.borrow().clone();
        Known {
            own: self.bulletin(),
            alive: others.alive,
            silent: others.silent,
            gap: others.gap,
            publishes: self.publishing.is_some(),
        }
    }

    /// Looks at the evidence for steps from what `held` says.
    pub fn judge<T>(&self, held: &Held, look: impl FnOnce(&Evidence) -> T) -> T {
        let known = self.known();
        let mut gathered = self.memory.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let evidence = merge::gather(&mut gathered, &known, held.issuer.bundle_digest(), &self.patience);
        let seen = look(&evidence);
        gathered.keep(evidence);
        seen
    }

    fn published(
        &self,
        held: &Held,
        memory: &mut Remembered,
        now: i64,
    ) -> (Option<(String, i64)>, Option<usize>) {
        let Some((distribution, leadership)) = &self.publishing else { return (None, None) };
        let status = distribution.borrow().clone();
        let Some(status) = status.filter(|_| leadership.holds()) else {
            memory.published = None;
            return (None, None);
        };
        let digest = held.issuer.bundle_digest();
        let is_everywhere = status.bundle == digest
            && status.pending == Some(0)
            && status.cluster_trust_bundle != Some(false);
        let since = match &memory.published {
            Some((known, since)) if known == digest => *since,
            _ => now,
        };
        memory.published = is_everywhere.then(|| (digest.to_owned(), since));
        (memory.published.clone(), status.pending)
    }
}

impl Remembered {
    /// The authority that all under way is signed by.
    fn signs_with(&mut self, present: &str) -> String {
        match &self.signer {
            Some((known, since, before)) if known == present => match since.elapsed() < UNDER_WAY {
                true => before.clone(),
                false => known.clone(),
            },
            Some((known, ..)) => {
                let before = known.clone();
                self.signer = Some((present.to_owned(), Stopwatch::start(), before.clone()));
                before
            }
            None => {
                self.signer = Some((present.to_owned(), Stopwatch::start(), present.to_owned()));
                present.to_owned()
            }
        }
    }
}

/// Keeps `own` what this replica has to tell, for as long as it is polled.
pub async fn keep_bulletin(sources: Sources, own: watch::Sender<Bulletin>) {
    let mut held = sources.in_force.watch();
    let mut census = sources.census.changes();
    loop {
        let bulletin = sources.bulletin();
        let pause = pause_that_leaves_the_time_to_others(bulletin.holders.len(), PAUSE);
        own.send_if_modified(|known| {
            let is_news = bulletin.differs(known);
            if is_news {
                *known = bulletin;
            }
            is_news
        });
        tokio::time::sleep(pause).await;
        tokio::select! {
            changed = held.changed() => if changed.is_err() { return },
            _ = census.changed() => {}
            // Where it is published, and who signs by now, changes without a word.
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
