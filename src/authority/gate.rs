//! Pure: is there evidence for the next step, and if not, whom does it wait for?
//!
//! A reader counts for as long as it can be asked, or has a leaf that lives. What a reader is known to trust is what its
//! proxies have acknowledged, or what went out with its last answer. Nothing is taken for granted of anybody else.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::authority::state::AuthorityId;
use crate::authority::state::Kind;
use crate::authority::state::Stage;
use crate::authority::state::State;

/// How a reader hears of new roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReaderKind {
    /// It holds a stream open and acknowledges what all its proxies have acknowledged.
    Agent,
    /// It hears of them only with its next certificate, as Istio's agents do.
    Client,
    /// A pod whose kubelet brings certificates and roots as files.
    Pod,
    /// Whoever a replica that is gone may have certified without having told of it.
    Unheard,
}

impl ReaderKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Client => "client",
            Self::Pod => "pod",
            Self::Unheard => "unheard",
        }
    }
}

/// Whether a reader can be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Its stream is open; the present roots were sent to it then, if they were.
    Open {
        /// When.
        sent: Option<OffsetDateTime>,
    },
    /// It has no stream, since then if it had one.
    None {
        /// Since when.
        lost: Option<OffsetDateTime>,
    },
}

/// Somebody who verifies peers by our roots, or is verified by them.
#[derive(Clone, Debug, PartialEq)]
pub struct Reader {
    /// Its SPIFFE ID, or what there is instead.
    pub name: String,
    /// The pod, as `namespace/name`.
    pub pod: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// How it hears of new roots.
    pub kind: ReaderKind,
    /// Whether it can be asked.
    pub link: Link,
    /// The digest of the roots it is known to trust.
    pub bundle: Option<String>,
    /// Why it last refused something that was sent to it.
    pub trouble: Option<String>,
    /// Its leaves that may be in use: who signed them, and until when they live, clocks that are late included.
    pub leaves: Vec<(AuthorityId, OffsetDateTime)>,
}

impl Reader {
    /// Until when it counts without being asked; `None` if it has no leaf that lives.
    pub fn until(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.leaves.iter().map(|(_, until)| *until).filter(|until| *until > now).max()
    }

    fn is_open(&self) -> bool {
        matches!(self.link, Link::Open { .. })
    }

    fn counts(&self, now: OffsetDateTime) -> bool {
        self.is_open() || self.until(now).is_some()
    }
}

/// A process that signs and serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// The number of the roots that it serves.
    pub sequence: u64,
    /// How many steps had led to the state that it has taken over.
    pub steps: u64,
    /// Who signs in it.
    pub signs_with: AuthorityId,
}

/// Whether the roots are where those read them who have no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// Nobody reads them anywhere else.
    NotNeeded,
    /// Not everywhere, or it is not known.
    Pending {
        /// In how many places they are missing, if it is known.
        places: Option<usize>,
    },
    /// Everywhere, since then.
    Done {
        /// Since when.
        since: OffsetDateTime,
    },
}

/// All that is known of readers and replicas, merged from all replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Everybody who may have a leaf, or has a stream.
    pub readers: Vec<Reader>,
    /// All replicas that are alive.
    pub replicas: Vec<Replica>,
    /// Why there may be readers or replicas that are not known here, if there may.
    pub gap: Option<String>,
    /// Where the present roots are published.
    pub publication: Publication,
    /// How long files take to follow what is published.
    pub refresh: time::Duration,
}

/// One whom a step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its SPIFFE ID, the name of a replica, or what is missing.
    pub who: String,
    /// Its pod, as `namespace/name`.
    pub pod: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// What it is: `agent`, `client`, `pod`, `unheard`, `replica`, `published`.
    pub kind: &'static str,
    /// What it has not done.
    pub why: String,
    /// When it stops to count, if it does so by itself.
    pub until: Option<OffsetDateTime>,
}

/// The most whom a gate names. An operator reads no further, and naming thousands takes longer than finding them.
const NAMED: usize = 100;

/// How far the evidence for a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// How many count.
    pub total: usize,
    /// Whom it waits for; of very many, the first hundred.
    pub waiting: Vec<Waiting>,
    unnamed: usize,
    until: Option<OffsetDateTime>,
    is_refused: bool,
}

impl Gate {
    /// Whether nobody is waited for.
    pub fn is_open(&self) -> bool {
        self.waits_for() == 0
    }

    /// How many it waits for.
    pub fn waits_for(&self) -> usize {
        self.waiting.len() + self.unnamed
    }

    /// How many have done what is waited for.
    pub fn done(&self) -> usize {
        self.total.saturating_sub(self.waits_for())
    }

    /// When the last of those stops to count who do so by themselves.
    pub fn until(&self) -> Option<OffsetDateTime> {
        self.until
    }

    /// Whether somebody has refused the roots.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// One that waits for nobody yet, as long as all are known.
    fn begun(evidence: &Evidence) -> Self {
        let mut gate = Self::default();
        if let Some(why) = evidence.gap.clone() {
            let who = "the other replicas".to_owned();
            gate.ask(Some(Waiting { who, pod: None, node: None, kind: "replica", why, until: None }));
        }
        gate
    }

    fn ask(&mut self, waiting: Option<Waiting>) {
        self.total += 1;
        if let Some(one) = waiting {
            let until = one.until;
            self.wait(until, || one);
        }
    }

    fn wait(&mut self, until: Option<OffsetDateTime>, named: impl FnOnce() -> Waiting) {
        self.until = self.until.max(until);
        match self.waiting.len() < NAMED {
            true => self.waiting.push(named()),
            false => self.unnamed += 1,
        }
    }

    /// Counts a reader in, who lacks something, or nothing; until when it counts. The words for it cost more than all the rest.
    fn ask_reader(&mut self, reader: &Reader, lack: Option<Lack<'_>>, until: Option<OffsetDateTime>) {
        self.total += 1;
        let Some(lack) = lack else { return };
        self.is_refused |= matches!(lack, Lack::Roots) && reader.is_open() && reader.trouble.is_some();
        self.wait(until, || Waiting {
            who: reader.name.clone(),
            pod: reader.pod.clone(),
            node: reader.node.clone(),
            kind: reader.kind.name(),
            why: match lack {
                Lack::Roots => lacks(reader),
                Lack::Move { from, until } => holds(reader, from, until),
            },
            until,
        });
    }
}

/// What a reader has not done.
#[derive(Clone, Copy)]
enum Lack<'a> {
    /// It is not known to trust the roots.
    Roots,
    /// It has a leaf of that authority.
    Move { from: &'a AuthorityId, until: OffsetDateTime },
}

/// Proof that every reader who counts trusts the roots of one state; or that somebody took it upon themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distributed {
    steps: u64,
    forced_by: Option<String>,
}

/// Proof that nobody who counts needs an authority's root any more; or that somebody took it upon themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unneeded {
    steps: u64,
    authority: AuthorityId,
    forced_by: Option<String>,
}

impl Distributed {
    /// How many steps had led to the state that it is about.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Who goes on without evidence, if anybody does.
    pub fn forced_by(&self) -> Option<&str> {
        self.forced_by.as_deref()
    }

    /// Goes on without evidence, on somebody's own account.
    pub fn forced(state: &State, by: &str) -> Self {
        Self { steps: state.steps(), forced_by: Some(by.to_owned()) }
    }
}

impl Unneeded {
    /// How many steps had led to the state that it is about.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The authority it is about.
    pub fn authority(&self) -> &AuthorityId {
        &self.authority
    }

    /// Who goes on without evidence, if anybody does.
    pub fn forced_by(&self) -> Option<&str> {
        self.forced_by.as_deref()
    }

    /// Goes on without evidence, on somebody's own account.
    pub fn forced(state: &State, authority: &AuthorityId, by: &str) -> Self {
        Self { steps: state.steps(), authority: authority.clone(), forced_by: Some(by.to_owned()) }
    }
}

/// Whether every reader who counts trusts the roots of `state`.
///
/// # Errors
/// Whom it waits for.
pub fn distributed(state: &State, evidence: &Evidence, now: OffsetDateTime) -> Result<Distributed, Gate> {
    let gate = distribution(state, evidence, now);
    match gate.is_open() {
        true => Ok(Distributed { steps: state.steps(), forced_by: None }),
        false => Err(gate),
    }
}

/// Whether nobody who counts needs the root of the retiring `authority` any more.
///
/// # Errors
/// Whom it waits for.
pub fn unneeded(
    state: &State,
    authority: &AuthorityId,
    evidence: &Evidence,
    now: OffsetDateTime,
) -> Result<Unneeded, Gate> {
    let gate = reissue(state, authority, evidence, now);
    match gate.is_open() {
        true => Ok(Unneeded { steps: state.steps(), authority: authority.clone(), forced_by: None }),
        false => Err(gate),
    }
}

/// How far the roots of `state` have got.
pub fn distribution(state: &State, evidence: &Evidence, now: OffsetDateTime) -> Gate {
    let mut gate = Gate::begun(evidence);
    let digest = state.bundle().digest();
    let reach = Reach::of(state);
    for replica in &evidence.replicas {
        let is_late = replica.sequence < state.sequence();
        let why = format!("serves bundle {} and not yet {}", replica.sequence, state.sequence());
        gate.ask(is_late.then(|| of_replica(replica, why)));
    }
    let pods = evidence.readers.iter().any(|one| one.kind == ReaderKind::Pod && reach.waits_for(one, now));
    if evidence.publication != Publication::NotNeeded {
        gate.ask(publication(evidence, pods, now));
    }
    for reader in evidence.readers.iter().filter(|one| reach.waits_for(one, now)) {
        // Files are judged by what is published, above.
        let has_it = reader.kind == ReaderKind::Pod || reader.bundle.as_ref() == Some(&digest);
        let until = if reader.is_open() { None } else { reader.until(now) };
        gate.ask_reader(reader, (!has_it).then_some(Lack::Roots), until);
    }
    gate
}

/// How far the workloads have moved away from the retiring `authority`.
pub fn reissue(state: &State, authority: &AuthorityId, evidence: &Evidence, now: OffsetDateTime) -> Gate {
    let mut gate = Gate::begun(evidence);
    let active = &state.active().id;
    for replica in &evidence.replicas {
        // One that is late may still come by a state in which another authority signed, and sign with that for a moment.
        let is_late = replica.steps < state.steps();
        let why = match replica.signs_with != *active {
            true => format!("still signs with `{}`", replica.signs_with),
            false => format!("has taken over step {} and not yet {}", replica.steps, state.steps()),
        };
        gate.ask((is_late || replica.signs_with != *active).then(|| of_replica(replica, why)));
    }
    if stays_trusted(state, authority) {
        // Leaves under another intermediate of the same root stay good.
        return gate;
    }
    let reach = Reach::of(state);
    let digest = state.bundle().digest();
    for reader in evidence.readers.iter().filter(|one| reach.may_not_be_cut_off(one, now)) {
        let ends = reader.leaves.iter().filter(|(by, until)| by == authority && *until > now);
        let until = ends.map(|(_, until)| *until).max();
        let lack = match until {
            Some(until) => Some(Lack::Move { from: authority, until }),
            // With cross-certificates it may have signed before everybody knew its root.
            None if reader.kind != ReaderKind::Pod && reader.bundle.as_ref() != Some(&digest) => {
                Some(Lack::Roots)
            }
            None => None,
        };
        gate.ask_reader(reader, lack, until);
    }
    if evidence.publication != Publication::NotNeeded {
        gate.ask(publication(evidence, true, now));
    }
    gate
}

/// Whom a step waits for.
struct Reach {
    /// A key is known to others: who cannot be asked is not waited for.
    emergency: bool,
    /// Who cannot be asked can verify the prepared authority's leaves by the old root.
    crossed: bool,
}

impl Reach {
    fn of(state: &State) -> Self {
        Self {
            emergency: state.rotation().is_some_and(|one| one.kind == Kind::Emergency),
            crossed: state.prepared().is_some_and(|one| one.cross.is_some()),
        }
    }

    fn waits_for(&self, reader: &Reader, now: OffsetDateTime) -> bool {
        reader.counts(now) && (reader.is_open() || !(self.emergency || self.crossed))
    }

    fn may_not_be_cut_off(&self, reader: &Reader, now: OffsetDateTime) -> bool {
        reader.counts(now) && (reader.is_open() || !self.emergency)
    }
}

/// Whether the root of an authority stays in the bundle without it.
fn stays_trusted(state: &State, authority: &AuthorityId) -> bool {
    let Some(own) = state.authority(authority) else { return false };
    let others = state.authorities().iter().filter(|one| one.id != *authority && one.stage != Stage::Retired);
    others.map(|one| &one.root).chain(state.extra()).any(|root| *root == own.root)
}

fn publication(evidence: &Evidence, are_read_as_files: bool, now: OffsetDateTime) -> Option<Waiting> {
    let (why, until) = match evidence.publication {
        Publication::NotNeeded => return None,
        Publication::Done { since } if !are_read_as_files || since + evidence.refresh <= now => return None,
        Publication::Done { since } => {
            let until = since + evidence.refresh;
            ("they are published everywhere, and mounted files follow within a while".to_owned(), Some(until))
        }
        Publication::Pending { places: Some(places) } => {
            (format!("they are missing in {places} namespaces, or in the ClusterTrustBundle"), None)
        }
        Publication::Pending { places: None } => {
            ("it is not known yet whether they are everywhere; the leader tells".to_owned(), None)
        }
    };
    let who = "the published roots".to_owned();
    Some(Waiting { who, pod: None, node: None, kind: "published", why, until })
}

fn of_replica(replica: &Replica, why: String) -> Waiting {
    Waiting { who: replica.name.clone(), pod: None, node: None, kind: "replica", why, until: None }
}

fn lacks(reader: &Reader) -> String {
    match (&reader.trouble, reader.link, reader.kind) {
        (Some(trouble), Link::Open { .. }, _) => format!("refused the roots: {trouble}"),
        (None, Link::Open { sent: Some(sent) }, _) => format!("was sent the roots at {} and has not acknowledged them", told(sent)),
        (None, Link::Open { sent: None }, _) => "is connected, and was not sent the roots yet".to_owned(),
        (_, Link::None { lost: Some(lost) }, _) => {
            format!("is disconnected since {}; it counts until it comes back or its certificate expires", told(lost))
        }
        (_, Link::None { .. }, ReaderKind::Unheard) => {
            "certificates that a replica which is gone may have signed just before its end; they count until they would expire".to_owned()
        }
        (_, Link::None { .. }, _) => {
            "hears of new roots only with its next certificate; it counts until then, or until its certificate expires".to_owned()
        }
    }
}

/// A moment as people read it.
fn told(at: OffsetDateTime) -> String {
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

fn holds(reader: &Reader, authority: &AuthorityId, until: OffsetDateTime) -> String {
    match (&reader.trouble, reader.is_open()) {
        (Some(trouble), true) => format!("has not moved away from `{authority}`: {trouble}"),
        (None, true) => format!("may still use a certificate of `{authority}`, until {}", told(until)),
        (_, false) => {
            format!(
                "has a certificate of `{authority}`, and cannot be asked; it counts until {}",
                told(until)
            )
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
