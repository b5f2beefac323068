//! The simulated world: a store, replicas, agents, clients and pods, and what any of them may do at any moment.

use std::collections::VecDeque;
use std::sync::Arc;

use time::Duration;
use time::OffsetDateTime;

use super::census::Ledger;
use super::census::Seen;
use super::check::Violation;
use crate::authority::advance::Next;
use crate::authority::advance::advance;
use crate::authority::gate;
use crate::authority::gate::Evidence;
use crate::authority::gate::Link;
use crate::authority::machine;
use crate::authority::machine::Effect;
use crate::authority::machine::Terms;
use crate::authority::state::Authority;
use crate::authority::state::AuthorityId;
use crate::authority::state::Kind;
use crate::authority::state::Stage;
use crate::authority::state::State;
use crate::authority::test_support::INTERMEDIATES;
use crate::authority::test_support::NOW;
use crate::authority::test_support::ROOTS;
use crate::authority::test_support::pool;
use crate::authority::test_support::terms;

/// Seconds since the story began.
pub(super) type At = i64;

/// How far any clock may be off.
pub(super) const SKEW: At = 60;
/// How long a leaf lives.
pub(super) const LIFE: At = 3600;
/// How long a leaf that has expired by the clock of whoever signed it may still be taken for alive.
pub(super) const MARGIN: At = 2 * SKEW;
/// How long files take to follow what is published.
const REFRESH: At = 90;
/// How long a replica signs without having reached the store.
pub(super) const LEASE: At = 15;
/// After how long others take it for gone: later than it stops to sign.
pub(super) const GONE: At = 20;
/// The age at which an authority is replaced by itself.
const AGE: At = 20 * LIFE;

pub(super) const REPLICAS: usize = 3;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Who has no stream is not waited for.
    GateIgnoresDisconnected,
    /// A prepared authority is activated without any evidence.
    ActivateBeforeAck,
    /// A root is retired though leaves under it live.
    RetireIgnoresLeaves,
    /// Replicas that are late are not waited for.
    GateIgnoresLateReplicas,
    /// A replica takes a step over before it is in the store.
    ActBeforeStore,
    /// A replica signs with the prepared authority.
    SignsWithPrepared,
    /// A new set of roots gets an old number.
    SequenceReused,
    /// A key is destroyed as soon as its authority is retiring.
    KeyDestroyedEarly,
    /// Going back does not mind a taint.
    RollBackToTainted,
    /// Who is overtaken writes nevertheless.
    LostSwap,
    /// A replica says that it has taken over all steps though it is late.
    ClaimsToFollow,
    /// A replica that is cut off from the store goes on signing.
    SignsUnseen,
    /// A replica that was cut off signs again before it has looked at the store.
    ResumesWithoutLook,
    /// A replica loads before others can know of it.
    LoadsBeforeItIsKnown,
    /// What an agent was sent and has not acknowledged is forgotten with its stream.
    ForgetsWhatWasSent,
    /// What was acknowledged once counts again when the same roots are sent again, though others were in between.
    OldAckCounts,
    /// An agent that has not said which authority its leaf is of is taken for one that has moved.
    SilenceIsMoved,
    /// An answer is in the ledger only once it is out.
    LedgerAfterAnswer,
    /// The moments of two replicas are compared as if their clocks were one.
    TrustsClocks,
    /// An agent without a stream keeps to what it was told before, whatever answers bring.
    AgentForgetsAnswers,
    /// Published roots are replaced by older ones.
    PublishesBackwards,
    /// Abort also withdraws an authority that has signed.
    AbortsActive,
    /// Leaves are counted until they expire by the leader's clock.
    NoMargin,
    /// What a replica that is gone has signed last is not counted.
    NoUnheard,
    /// In the end nobody drives.
    NobodyDrives,
}

/// One revision of the store, and what follows from it.
pub(super) struct View {
    pub(super) state: State,
    pub(super) digest: String,
    /// Its trusted roots, a bit each.
    pub(super) mask: u32,
    /// The number of the authority that signs.
    pub(super) active: usize,
    /// The roots by any of which a leaf signed now can be verified, a bit each.
    pub(super) path: u32,
}

fn root_of(number: usize) -> usize {
    if number < ROOTS { number } else { 0 }
}

impl View {
    fn of(state: State, crossed_by: &[Option<usize>]) -> Arc<Self> {
        let numbered = |one: &Authority| pool().number(&one.id);
        let trusted = state.authorities().iter().filter(|one| one.stage != Stage::Retired);
        let mask = trusted.map(|one| 1_u32 << root_of(numbered(one))).fold(0, |all, one| all | one);
        let active = numbered(state.active());
        let cross = crossed_by[active].map_or(0, |by| 1 << root_of(by));
        let path = (1 << root_of(active)) | (cross & mask);
        Arc::new(Self { digest: state.bundle().digest(), mask, active, path, state })
    }

    pub(super) fn steps(&self) -> u64 {
        self.state.steps()
    }
}

/// Roots that somebody uses, and the step that they are from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Roots {
    pub(super) mask: u32,
    /// Their name, if it is a set that the store has had.
    pub(super) digest: Option<Arc<str>>,
    pub(super) steps: u64,
}

impl Roots {
    fn of(view: &View) -> Self {
        Self { mask: view.mask, digest: Some(view.digest.as_str().into()), steps: view.steps() }
    }

    fn with(&self, other: &Self) -> Self {
        let digest = match (self.mask | other.mask == other.mask, self.mask | other.mask == self.mask) {
            (true, _) => other.digest.clone(),
            (_, true) => self.digest.clone(),
            _ => None,
        };
        Self { mask: self.mask | other.mask, digest, steps: self.steps.max(other.steps) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Leaf {
    pub(super) authority: usize,
    /// The roots that verify it, a bit each.
    pub(super) path: u32,
    pub(super) not_after: At,
    pub(super) steps: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkloadKind {
    Agent,
    Client,
    Pod,
}

/// Somebody with a certificate. While something new is coming into use, some of its proxies use the old and some the new.
pub(super) struct Workload {
    pub(super) kind: WorkloadKind,
    pub(super) is_gone: bool,
    pub(super) bundles: Vec<Roots>,
    pub(super) leaves: Vec<Leaf>,
    /// What the stream has told.
    told: Option<Roots>,
    /// By which push of this stream.
    nonce: u64,
    /// Who ought to sign.
    target: Option<usize>,
    stream: Option<Stream>,
    /// Its proxies refuse roots, and these they have refused last.
    nacks: bool,
    refused: Option<(Roots, u64)>,
    /// A certificate is due.
    wants: bool,
    answer: Option<Answer>,
    synced: At,
    /// It has nothing but answers to go by, and one has not arrived, or is not in use yet. Nobody can know of that: it is excused
    /// until it uses this one or another, which it will ask for.
    pub(super) awaits: bool,
    /// The step since which it is not waited for, until it has caught up.
    pub(super) excused: Option<u64>,
}

struct Stream {
    replica: usize,
    number: u64,
    down: VecDeque<Push>,
    up: VecDeque<Word>,
}

enum Push {
    Roots(Roots, u64),
    Issuer(usize),
}

#[derive(Clone)]
pub(super) enum Word {
    /// All proxies use these roots, which came with the push of that number; 0 if they came before this stream.
    Roots(Arc<str>, u64),
    Issuer(usize),
    Refused,
}

struct Answer {
    leaf: Leaf,
    roots: Roots,
    replica: usize,
    is_noted: bool,
}

/// What a replica does as a leader, bit by bit.
enum Drive {
    Idle,
    /// It has loaded the state, and asks all replicas that are known.
    Asking {
        goal: Goal,
        view: Arc<View>,
        to_ask: Vec<usize>,
        gone: Vec<At>,
        heard: Vec<Seen>,
        since: Option<At>,
    },
    /// It knows what is to be done.
    Decided {
        event: Box<machine::Event>,
        skipped: u32,
    },
    /// It has made the next state, and is about to write it.
    Made {
        over: usize,
        next: Arc<View>,
        effects: Vec<Effect>,
        skipped: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    Advance,
    Activate,
    Retire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Down,
    /// Others know of it; it has not loaded yet.
    Known,
    /// It has loaded, and others do not know of it: only by mistake.
    Hidden,
    Up,
}

pub(super) struct Replica {
    life: Life,
    pub(super) held: Arc<View>,
    /// How far it has followed.
    followed: usize,
    skew: At,
    is_cut: bool,
    renewed: At,
    leads: bool,
    drive: Drive,
    ledger: Ledger,
    /// It has decided to publish over this version.
    publishing: Option<(u64, Arc<View>)>,
    /// Which version of what is published it has seen, and since when.
    seen: Option<(u64, Arc<str>, At)>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Happening {
    Time(At),
    Skew(usize, At),
    Crash(usize),
    Rise(usize),
    Cut(usize, bool),
    Follow(usize),
    Leads(usize, bool),
    /// A replica does the next bit of what it drives.
    Drive(usize),
    /// It does all of it in one go.
    DriveOn(usize, Goal),
    /// It begins to.
    Begin(usize, Goal),
    Prepare(usize, Brought),
    Abort(usize),
    RollBack(usize),
    Taint(usize, u8),
    Automate(usize),
    Publish(usize),
    Connect(usize, usize),
    Disconnect(usize),
    Notice(usize),
    Handle(usize),
    Applied(usize),
    Hear(usize),
    Nack(usize, bool),
    Restart(usize),
    Due(usize),
    Ask(usize, usize),
    Answered(usize),
    AnswerLost(usize),
    Sync(usize),
    Gone(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Brought {
    Root { automatic: bool },
    Crossed { automatic: bool },
    Intermediate,
}

/// The whole world.
pub(super) struct World {
    pub(super) fault: Fault,
    pub(super) now: At,
    pub(super) history: Vec<Arc<View>>,
    pub(super) replicas: Vec<Replica>,
    pub(super) workloads: Vec<Workload>,
    published: (u64, Arc<View>),
    /// Processes that are gone, and until when what they have signed last may count.
    gone: Vec<At>,
    streams: u64,
    /// Which authorities have signed, a bit each.
    pub(super) signed: u32,
    used: u32,
    crossed_by: Vec<Option<usize>>,
    rotates_by_age: bool,
    has_pods: bool,
    /// Whether anything that rules are about has changed since they were looked at.
    pub(super) touched: bool,
    pub(super) violation: Option<Violation>,
    /// What the story came through, for the figures.
    pub(super) ended: u32,
}

pub(super) fn moment(at: At) -> OffsetDateTime {
    NOW + Duration::seconds(at)
}

impl World {
    pub(super) fn new(fault: Fault, kinds: &[WorkloadKind], first: usize, rotates_by_age: bool) -> Self {
        let crossed_by = vec![None; ROOTS + INTERMEDIATES];
        let view = View::of(State::first(pool().authority(first, moment(0)), moment(0)), &crossed_by);
        let replica = |number| Replica {
            life: Life::Up,
            held: view.clone(),
            followed: 0,
            skew: 0,
            is_cut: false,
            renewed: 0,
            leads: number == 0,
            drive: Drive::Idle,
            ledger: Ledger::new(kinds.len()),
            publishing: None,
            seen: None,
        };
        let workload = |kind: &WorkloadKind| Workload {
            kind: *kind,
            is_gone: false,
            bundles: vec![Roots::of(&view)],
            leaves: vec![],
            told: None,
            nonce: 0,
            target: None,
            stream: None,
            nacks: false,
            refused: None,
            wants: true,
            answer: None,
            synced: 0,
            awaits: false,
            excused: None,
        };
        Self {
            fault,
            now: 0,
            replicas: (0..REPLICAS).map(replica).collect(),
            workloads: kinds.iter().map(workload).collect(),
            published: (0, view.clone()),
            history: vec![view],
            gone: vec![],
            streams: 0,
            signed: 0,
            used: 1 << first,
            crossed_by,
            rotates_by_age,
            has_pods: kinds.contains(&WorkloadKind::Pod),
            touched: true,
            violation: None,
            ended: 0,
        }
    }

    pub(super) fn stored(&self) -> &Arc<View> {
        self.history.last().unwrap()
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn clock(&self, replica: usize) -> At {
        self.now + self.replicas[replica].skew
    }

    /// Whether a leaf is taken for alive by anybody.
    pub(super) fn lives(&self, leaf: &Leaf) -> bool {
        self.now - SKEW <= leaf.not_after
    }

    fn is_alive(&self, workload: usize) -> bool {
        self.workloads[workload].leaves.iter().any(|leaf| self.lives(leaf))
    }

    pub(super) fn happen(&mut self, what: Happening) {
        match what {
            Happening::Time(by) => self.pass(by),
            Happening::Skew(r, by) => self.replicas[r].skew = by,
            Happening::Crash(r) => self.crash(r),
            Happening::Rise(r) => self.rise(r),
            Happening::Cut(r, is_cut) => self.replicas[r].is_cut = is_cut,
            Happening::Follow(r) => self.follow(r),
            Happening::Leads(r, leads) => self.replicas[r].leads = leads && self.replicas[r].life == Life::Up,
            Happening::Begin(r, goal) => self.begin(r, goal),
            Happening::Drive(r) => self.drive(r),
            Happening::DriveOn(r, goal) => {
                self.begin(r, goal);
                for _ in 0..REPLICAS + 4 {
                    if matches!(self.replicas[r].drive, Drive::Idle) {
                        break;
                    }
                    self.drive(r);
                }
            }
            Happening::Prepare(r, brought) => self.prepare(r, brought),
            Happening::Abort(r) => self.abort(r),
            Happening::RollBack(r) => self.roll_back(r),
            Happening::Taint(r, which) => self.taint(r, which),
            Happening::Automate(r) => self.decide(r, machine::Event::Automate { by: "test".to_owned() }),
            Happening::Publish(r) => self.publish(r),
            Happening::Connect(w, r) => self.connect(w, r),
            Happening::Disconnect(w) => self.workloads[w].stream = None,
            Happening::Notice(r) => self.notice(r),
            Happening::Handle(w) => self.handle(w),
            Happening::Applied(w) => self.applied(w),
            Happening::Hear(w) => self.hear(w),
            Happening::Nack(w, nacks) => self.nack(w, nacks),
            Happening::Restart(w) => self.restart(w),
            Happening::Due(w) => self.workloads[w].wants = true,
            Happening::Ask(w, r) => self.ask(w, r),
            Happening::Answered(w) => self.answered(w),
            Happening::AnswerLost(w) => self.workloads[w].answer = None,
            Happening::Sync(w) => self.sync(w),
            Happening::Gone(w) => {
                let workload = &mut self.workloads[w];
                (workload.is_gone, workload.stream, workload.answer) = (true, None, None);
            }
        }
    }

    // === time ===

    fn pass(&mut self, by: At) {
        // Who reaches the store says so all the time; files follow within a while.
        self.touched = true;
        let mut left = by;
        while left > 0 {
            let bit = if self.has_pods { left.min(REFRESH / 2) } else { left };
            self.now += bit;
            left -= bit;
            for w in 0..self.workloads.len() {
                if self.workloads[w].kind == WorkloadKind::Pod
                    && self.now - self.workloads[w].synced > REFRESH / 2
                {
                    self.sync(w);
                }
            }
        }
        for r in 0..REPLICAS {
            let replica = &self.replicas[r];
            if replica.is_cut && !self.can_sign(r) {
                // Nor does it tell anybody what may be old: its streams end.
                for workload in &mut self.workloads {
                    workload.stream.take_if(|stream| stream.replica == r);
                }
            }
            if replica.is_cut || replica.life == Life::Down {
                continue;
            }
            // Whoever had to stop looks at the store before it signs again.
            let had_to_stop = self.now - by - replica.renewed > LEASE;
            if had_to_stop && replica.life == Life::Up && !self.is(Fault::ResumesWithoutLook) {
                self.take(r, self.history.len() - 1);
            }
            self.replicas[r].renewed = self.now;
        }
        for workload in self.workloads.iter_mut().filter(|one| one.leaves.len() > 1) {
            let until = self.now - SKEW;
            let newest = *workload.leaves.last().unwrap();
            workload.leaves.retain(|one| one.not_after >= until || *one == newest);
        }
    }

    // === replicas ===

    fn crash(&mut self, r: usize) {
        let replica = &mut self.replicas[r];
        if replica.life == Life::Down {
            return;
        }
        if replica.life != Life::Hidden {
            self.gone.push(replica.renewed);
        }
        (replica.life, replica.leads, replica.drive) = (Life::Down, false, Drive::Idle);
        (replica.publishing, replica.seen) = (None, None);
        replica.ledger = Ledger::new(self.workloads.len());
        for workload in &mut self.workloads {
            if workload.stream.as_ref().is_some_and(|stream| stream.replica == r) {
                workload.stream = None;
            }
            if workload.answer.as_ref().is_some_and(|answer| answer.replica == r) {
                workload.answer = None;
            }
        }
    }

    /// First others know of it, then it loads: whoever does not know of it has loaded before.
    fn rise(&mut self, r: usize) {
        let hides = self.is(Fault::LoadsBeforeItIsKnown);
        let (stored, last) = (self.stored().clone(), self.history.len() - 1);
        let now = self.now;
        let replica = &mut self.replicas[r];
        if replica.is_cut {
            return;
        }
        let load = |replica: &mut Replica| (replica.held, replica.followed) = (stored, last);
        match (replica.life, hides) {
            (Life::Down, false) => (replica.life, replica.renewed) = (Life::Known, now),
            (Life::Down, true) => {
                load(replica);
                (replica.life, replica.renewed) = (Life::Hidden, now);
            }
            (Life::Known, _) => {
                load(replica);
                replica.life = Life::Up;
            }
            (Life::Hidden, _) => replica.life = Life::Up,
            (Life::Up, _) => {}
        }
    }

    /// By the rule of `follow`: each revision in its turn, none twice, and an authority that takes over from a known one.
    fn follow(&mut self, r: usize) {
        let replica = &self.replicas[r];
        if replica.life != Life::Up || replica.is_cut || replica.followed + 1 >= self.history.len() {
            return;
        }
        let next = replica.followed + 1;
        self.take(r, next);
    }

    fn take(&mut self, r: usize, revision: usize) {
        let view = self.history[revision].clone();
        let replica = &mut self.replicas[r];
        if revision <= replica.followed {
            return;
        }
        replica.followed = revision;
        let old = &replica.held.state.active().id;
        let was_removed = view.state.past().iter().any(|past| past.removed.contains(old));
        let is_known = view.state.authority(old).is_some() || was_removed;
        if view.state.sequence() >= replica.held.state.sequence() && is_known {
            replica.held = view;
            self.touched = true;
            self.push(r);
        }
    }

    /// Says the present roots and authority on all streams to this replica.
    fn push(&mut self, r: usize) {
        for w in 0..self.workloads.len() {
            self.push_to(r, w);
        }
    }

    fn push_to(&mut self, r: usize, w: usize) {
        let clock = self.clock(r);
        let replica = &mut self.replicas[r];
        let Some(line) = replica.ledger.line(w) else { return };
        let (held, number) = (replica.held.clone(), line.number);
        let forgives = self.fault == Fault::OldAckCounts;
        let says = line.says(&held.digest, held.active, clock, forgives);
        let stream = self.workloads[w].stream.as_mut().filter(|stream| stream.number == number);
        if let Some(stream) = stream {
            if let Some(nonce) = says.0 {
                stream.down.push_back(Push::Roots(Roots::of(&held), nonce));
            }
            if says.1 {
                stream.down.push_back(Push::Issuer(held.active));
            }
        }
    }

    fn can_sign(&self, r: usize) -> bool {
        let replica = &self.replicas[r];
        let is_seen = self.now - replica.renewed <= LEASE || self.is(Fault::SignsUnseen);
        matches!(replica.life, Life::Up | Life::Hidden) && is_seen
    }

    /// Its streams that have broken are noticed.
    fn notice(&mut self, r: usize) {
        let clock = self.clock(r);
        for w in 0..self.workloads.len() {
            let number = self.workloads[w].stream.as_ref().map(|stream| stream.number);
            let forgets = self.is(Fault::ForgetsWhatWasSent);
            self.replicas[r].ledger.close_unless(w, number, clock, forgets);
        }
    }

    // === agents, clients and pods ===

    fn connect(&mut self, w: usize, r: usize) {
        let workload = &self.workloads[w];
        let fits = workload.kind == WorkloadKind::Agent && !workload.is_gone && workload.stream.is_none();
        if !fits || !self.can_sign(r) {
            return;
        }
        self.streams += 1;
        let number = self.streams;
        let clock = self.clock(r);
        // What all of its proxies use counts as acknowledged.
        let is_settled = workload.bundles.len() == 1 && workload.leaves.len() == 1 && workload.told.is_some();
        let roots = workload.bundles.last().filter(|_| is_settled);
        let roots =
            roots.filter(|roots| workload.told.as_ref().is_some_and(|told| told.digest == roots.digest));
        let roots = roots.and_then(|roots| roots.digest.clone());
        let issuer = workload.leaves.last().filter(|_| is_settled).map(|leaf| leaf.authority);
        let forgets = self.is(Fault::ForgetsWhatWasSent);
        self.replicas[r].ledger.open(w, number, (roots, issuer), clock, forgets);
        (self.workloads[w].refused, self.workloads[w].nonce) = (None, 0);
        self.workloads[w].stream =
            Some(Stream { replica: r, number, down: VecDeque::new(), up: VecDeque::new() });
        self.push_to(r, w);
    }

    fn handle(&mut self, w: usize) {
        let is_alive = self.is_alive(w);
        let workload = &mut self.workloads[w];
        let Some(stream) = &mut workload.stream else { return };
        match stream.down.pop_front() {
            None => {}
            Some(Push::Roots(roots, nonce)) if workload.nacks => {
                workload.refused = Some((roots, nonce));
                stream.up.push_back(Word::Refused);
            }
            Some(Push::Roots(roots, nonce)) => {
                self.touched = true;
                workload.nonce = nonce;
                workload.told = Some(roots.clone());
                let leaf = workload.leaves.last();
                let is_covered = leaf.is_none_or(|leaf| leaf.path & roots.mask != 0);
                let held = workload.bundles.last().unwrap();
                let roots = match is_covered {
                    true => roots,
                    false => {
                        workload.wants = true;
                        held.with(&roots)
                    }
                };
                match is_alive {
                    true => workload.bundles.push(roots),
                    false => workload.bundles = vec![roots],
                }
            }
            Some(Push::Issuer(issuer)) => {
                workload.target = Some(issuer);
                workload.wants |= workload.leaves.last().is_some_and(|leaf| leaf.authority != issuer);
            }
        }
        self.speak(w);
    }

    /// Proxies that are well again get what they have refused.
    fn nack(&mut self, w: usize, nacks: bool) {
        let workload = &mut self.workloads[w];
        workload.nacks = nacks;
        let refused = workload.refused.take_if(|_| !nacks);
        if let (Some(stream), Some((roots, nonce))) = (&mut workload.stream, refused) {
            stream.down.push_front(Push::Roots(roots, nonce));
        }
    }

    /// All proxies use what came last.
    fn applied(&mut self, w: usize) {
        let workload = &self.workloads[w];
        let (told, roots) = (workload.told.as_ref(), workload.bundles.last());
        let is_settled = workload.bundles.len() == 1
            && workload.leaves.len() == 1
            && told.is_none_or(|told| roots.is_some_and(|roots| roots.mask == told.mask));
        if is_settled {
            return;
        }
        let workload = &mut self.workloads[w];
        let surplus = |count: usize| count.saturating_sub(1);
        workload.bundles.drain(..surplus(workload.bundles.len()));
        workload.leaves.drain(..surplus(workload.leaves.len()));
        // What the leaf had kept there may go.
        let (told, leaf) = (workload.told.clone(), workload.leaves.last().copied());
        if let (Some(told), Some(leaf)) = (told, leaf) {
            let is_other = workload.bundles.last().is_some_and(|roots| roots.mask != told.mask);
            if is_other && leaf.path & told.mask != 0 && !workload.nacks && workload.stream.is_some() {
                workload.bundles.push(told);
            }
        }
        workload.awaits &= workload.answer.is_some();
        self.touched = true;
        self.speak(w);
    }

    /// Acknowledges what all of its proxies use.
    fn speak(&mut self, w: usize) {
        let workload = &mut self.workloads[w];
        let Some(stream) = &mut workload.stream else { return };
        if let ([roots], Some(told)) = (workload.bundles.as_slice(), &workload.told)
            && let Some(digest) = told.digest.clone().filter(|_| roots.digest == told.digest)
        {
            stream.up.push_back(Word::Roots(digest, workload.nonce));
        }
        if let [leaf] = workload.leaves.as_slice()
            && workload.target == Some(leaf.authority)
        {
            stream.up.push_back(Word::Issuer(leaf.authority));
        }
    }

    /// A replica hears all that an agent has said.
    fn hear(&mut self, w: usize) {
        let Some(stream) = &mut self.workloads[w].stream else { return };
        let (r, number) = (stream.replica, stream.number);
        let words: Vec<_> = stream.up.drain(..).collect();
        let clock = self.clock(r);
        for word in words {
            self.replicas[r].ledger.heard(w, number, &word, clock);
        }
    }

    /// The process of the agent or the client; its proxies go on with what they have.
    fn restart(&mut self, w: usize) {
        let workload = &mut self.workloads[w];
        if workload.kind == WorkloadKind::Pod {
            return;
        }
        (workload.told, workload.target, workload.stream) = (None, None, None);
        (workload.refused, workload.wants) = (None, true);
        workload.answer = None;
    }

    fn ask(&mut self, w: usize, r: usize) {
        let workload = &self.workloads[w];
        let leads = self.replicas[r].leads || workload.kind != WorkloadKind::Pod;
        if workload.is_gone || !workload.wants || !leads || !self.can_sign(r) {
            return;
        }
        let replica = &self.replicas[r];
        let held = replica.held.clone();
        let prepared = held.state.prepared().filter(|_| self.is(Fault::SignsWithPrepared));
        let authority = prepared.map_or(held.active, |one| pool().number(&one.id));
        let path = if prepared.is_some() { 1 << root_of(authority) } else { held.path };
        let not_after = self.clock(r) + LIFE;
        let leaf = Leaf { authority, path, not_after, steps: held.steps() };
        self.check_signing(&leaf, &held);
        self.signed |= 1 << authority;
        let answer = Answer {
            leaf,
            roots: Roots::of(&held),
            replica: r,
            is_noted: !self.is(Fault::LedgerAfterAnswer),
        };
        if answer.is_noted {
            self.note(w, r, &answer);
        }
        let workload = &mut self.workloads[w];
        workload.awaits |= workload.stream.is_none() || workload.told.is_none();
        workload.answer = Some(answer);
    }

    fn note(&mut self, w: usize, r: usize, answer: &Answer) {
        let clock = self.clock(r);
        let margin = if self.is(Fault::NoMargin) { 0 } else { MARGIN };
        let digest = answer.roots.digest.clone().filter(|_| self.workloads[w].kind != WorkloadKind::Pod);
        self.replicas[r].ledger.signed(
            w,
            answer.leaf.authority,
            answer.leaf.not_after + margin,
            digest,
            clock,
        );
    }

    fn answered(&mut self, w: usize) {
        let Some(answer) = self.workloads[w].answer.take() else { return };
        self.touched = true;
        if !answer.is_noted {
            self.note(w, answer.replica, &answer);
        }
        let is_alive = self.is_alive(w);
        if !is_alive {
            // The kubelet brings a pod's first files all at once.
            self.sync(w);
        }
        let forgets = self.is(Fault::AgentForgetsAnswers);
        let lives = |leaf: &Leaf| self.lives(leaf);
        let suits =
            |workload: &Workload, leaf: &Leaf| workload.target.is_none_or(|target| target == leaf.authority);
        let old_suits = self.workloads[w]
            .leaves
            .last()
            .is_some_and(|leaf| lives(leaf) && suits(&self.workloads[w], leaf));
        let workload = &mut self.workloads[w];
        let is_late = !suits(workload, &answer.leaf);
        if is_late && old_suits {
            workload.awaits = false;
            return;
        }
        workload.wants = is_late;
        let roots = match (workload.kind, &workload.told) {
            (WorkloadKind::Pod, _) => None,
            (WorkloadKind::Client, _) | (WorkloadKind::Agent, None) => Some(answer.roots),
            (WorkloadKind::Agent, Some(told)) => {
                let is_covered = answer.leaf.path & told.mask != 0;
                // Without a stream, what it was told may be old.
                match is_covered && (workload.stream.is_some() || forgets) {
                    true => Some(told.clone()),
                    false => Some(told.with(&answer.roots)),
                }
            }
        };
        if !is_alive {
            workload.leaves.clear();
            if roots.is_some() {
                workload.bundles.clear();
            }
        }
        workload.bundles.extend(roots);
        workload.leaves.push(answer.leaf);
        if !is_alive || workload.kind != WorkloadKind::Agent {
            workload.awaits = false;
            // A client of its own takes both at once; who has nothing that works has nothing to lose.
            self.applied(w);
        }
    }

    fn sync(&mut self, w: usize) {
        let (now, roots) = (self.now, Roots::of(&self.published.1));
        let workload = &mut self.workloads[w];
        if workload.kind == WorkloadKind::Pod {
            self.touched = true;
            (workload.bundles, workload.synced) = (vec![roots], now);
        }
    }

    fn publish(&mut self, r: usize) {
        let backwards = self.is(Fault::PublishesBackwards);
        let (version, published) = self.published.clone();
        let replica = &mut self.replicas[r];
        match replica.publishing.take() {
            Some((seen, view)) => {
                if seen == version && !replica.is_cut {
                    self.published = (version + 1, view);
                }
            }
            None => {
                let is_newer = replica.held.steps() > published.steps() || backwards;
                let fits = replica.life == Life::Up && replica.leads && !replica.is_cut;
                if fits && is_newer && replica.held.digest != published.digest {
                    replica.publishing = Some((version, replica.held.clone()));
                }
            }
        }
    }

    // === the leader ===

    fn begin(&mut self, r: usize, goal: Goal) {
        let stored = self.stored().clone();
        let clock = self.clock(r);
        let (version, published) = (self.published.0, self.published.1.digest.as_str());
        let knows = |one: &Replica| matches!(one.life, Life::Known | Life::Up);
        let to_ask = (0..REPLICAS).filter(|one| knows(&self.replicas[*one])).collect();
        let gone = self.gone.clone();
        let rests = stored.state.rotation().is_none() && !self.rotates_by_age;
        let replica = &mut self.replicas[r];
        if replica.life != Life::Up || replica.is_cut || rests || goal == Goal::Advance && !replica.leads {
            return;
        }
        // What is published is looked at after the state was loaded, and counts only for as long as it stays the same.
        let same = |(seen, digest, _): &&(u64, Arc<str>, At)| **digest == *published && *seen == version;
        let since = replica.seen.as_ref().filter(same).map(|(.., since)| *since);
        if published == stored.digest {
            replica.seen = Some((version, published.into(), since.unwrap_or(clock)));
        }
        let since = replica.seen.as_ref().filter(same).map(|(.., since)| *since);
        let since = since.filter(|_| published == stored.digest);
        replica.drive = Drive::Asking { goal, view: stored, to_ask, gone, heard: vec![], since };
    }

    fn drive(&mut self, r: usize) {
        if self.replicas[r].life != Life::Up {
            return;
        }
        match std::mem::replace(&mut self.replicas[r].drive, Drive::Idle) {
            Drive::Idle => {}
            Drive::Asking { goal, view, mut to_ask, mut gone, mut heard, since } => {
                if let Some(other) = to_ask.pop() {
                    let one = &self.replicas[other];
                    match one.life {
                        _ if one.is_cut && self.now - one.renewed > GONE => gone.push(one.renewed),
                        Life::Up => heard.push(self.snapshot(other)),
                        Life::Known | Life::Hidden => heard.push(Seen::silent(REPLICAS)),
                        Life::Down => gone.push(one.renewed),
                    }
                    self.replicas[r].drive = Drive::Asking { goal, view, to_ask, gone, heard, since };
                } else {
                    self.conclude(r, goal, view, gone, heard, since);
                }
            }
            Drive::Decided { event, skipped } => self.make(r, *event, skipped),
            Drive::Made { over, next, effects, skipped } => self.swap(r, over, next, &effects, skipped),
        }
    }

    fn snapshot(&self, r: usize) -> Seen {
        let replica = &self.replicas[r];
        let claims = self.is(Fault::ClaimsToFollow) || self.is(Fault::GateIgnoresLateReplicas);
        let steps = if claims { u64::MAX } else { replica.held.steps() };
        let ignores = self.is(Fault::GateIgnoresLateReplicas);
        let sequence = if ignores { u64::MAX } else { replica.held.state.sequence() };
        let signs_with = if ignores { None } else { Some(replica.held.active) };
        Seen { sequence, steps, signs_with, ledger: replica.ledger.clone() }
    }

    fn conclude(
        &mut self,
        r: usize,
        goal: Goal,
        view: Arc<View>,
        gone: Vec<At>,
        heard: Vec<Seen>,
        since: Option<At>,
    ) {
        let now = moment(self.clock(r));
        let mut evidence = self.evidence(r, &view, &gone, &heard, since);
        let state = &view.state;
        match self.fault {
            Fault::GateIgnoresDisconnected => {
                evidence.readers.retain(|one| matches!(one.link, Link::Open { .. }));
            }
            Fault::RetireIgnoresLeaves if state.prepared().is_none() => {
                evidence.readers.iter_mut().for_each(|one| one.leaves.clear());
            }
            _ => {}
        }
        // Who has no open stream is not waited for in an emergency.
        let is_open = |name: &str| {
            evidence.readers.iter().any(|one| one.name == name && matches!(one.link, Link::Open { .. }))
        };
        let is_emergency = state.rotation().is_some_and(|one| one.kind == Kind::Emergency);
        let skipped = match is_emergency {
            true => {
                (0..self.workloads.len()).filter(|w| !is_open(&name(*w))).fold(0, |all, w| all | (1 << w))
            }
            false => 0,
        };
        let event = match goal {
            Goal::Advance => {
                let age = self.rotates_by_age.then(|| std::time::Duration::from_secs(AGE as u64));
                match advance(state, &evidence, age, now) {
                    Next::Do(event) => Some(event),
                    Next::Renew => self.new_authority(None).map(|authority| machine::Event::Prepare {
                        authority: Box::new(authority),
                        terms: Terms { kind: Kind::Scheduled, ..terms(true) },
                    }),
                    Next::Wait(_) | Next::Rest => None,
                }
            }
            Goal::Activate => gate::distributed(state, &evidence, now).ok().map(machine::Event::Activate),
            Goal::Retire => {
                let retiring = state.at(Stage::Retiring).next();
                let proof = retiring.and_then(|one| gate::unneeded(state, &one.id, &evidence, now).ok());
                proof.map(machine::Event::Retire)
            }
        };
        let event = match (self.fault, event) {
            (Fault::ActivateBeforeAck, None) if state.prepared().is_some() => {
                Some(machine::Event::Activate(gate::Distributed::forced(state, "nobody")))
            }
            (_, event) => event,
        };
        if let Some(event) = event {
            self.replicas[r].drive = Drive::Decided { event: Box::new(event), skipped };
        }
    }

    fn evidence(&self, r: usize, view: &View, gone: &[At], heard: &[Seen], since: Option<At>) -> Evidence {
        let unheard = match self.is(Fault::NoUnheard) {
            true => vec![],
            // Whatever it signed last, it signed before it would have to stop.
            false => gone.iter().map(|at| at + LEASE + LIFE + MARGIN + SKEW).collect(),
        };
        let judge = super::census::Judge {
            now: self.clock(r),
            moved_by_silence: self.is(Fault::SilenceIsMoved),
            trusts_clocks: self.is(Fault::TrustsClocks),
        };
        let publication = match (self.has_pods, since) {
            (false, _) => gate::Publication::NotNeeded,
            (true, None) => gate::Publication::Pending { places: None },
            (true, Some(since)) => gate::Publication::Done { since: moment(since) },
        };
        // The leader's clock may be moved while it waits.
        let refresh = Duration::seconds(REFRESH + 2 * SKEW);
        Evidence {
            gap: None,
            readers: judge.readers(view, &self.workloads, heard, &unheard),
            replicas: heard.iter().map(|one| one.replica(view)).collect(),
            publication,
            refresh,
        }
    }

    /// An operator asks this replica for a step that needs no evidence.
    fn decide(&mut self, r: usize, event: machine::Event) {
        let replica = &mut self.replicas[r];
        if replica.life == Life::Up && !replica.is_cut {
            replica.drive = Drive::Decided { event: Box::new(event), skipped: 0 };
        }
    }

    fn new_authority(&mut self, cross: Option<usize>) -> Option<Authority> {
        let number = (0..ROOTS).find(|number| self.used & (1 << number) == 0)?;
        self.bring(number, cross)
    }

    fn bring(&mut self, number: usize, cross: Option<usize>) -> Option<Authority> {
        self.used |= 1 << number;
        self.crossed_by[number] = cross;
        let now = moment(self.now);
        Some(match cross {
            Some(by) => pool().crossed(number, by, now),
            None => pool().authority(number, now),
        })
    }

    fn prepare(&mut self, r: usize, brought: Brought) {
        if self.replicas[r].life != Life::Up || self.stored().state.rotation().is_some() {
            return;
        }
        let active = self.stored().active;
        let (authority, automatic) = match brought {
            Brought::Root { automatic } => (self.new_authority(None), automatic),
            Brought::Crossed { automatic } if active < ROOTS => (self.new_authority(Some(active)), automatic),
            Brought::Crossed { automatic } => (self.new_authority(None), automatic),
            Brought::Intermediate => {
                let mut all = ROOTS..ROOTS + INTERMEDIATES;
                let next = all.find(|number| self.used & (1 << number) == 0);
                (next.and_then(|number| self.bring(number, None)), true)
            }
        };
        if let Some(authority) = authority {
            let event = machine::Event::Prepare { authority: Box::new(authority), terms: terms(automatic) };
            self.decide(r, event);
        }
    }

    fn abort(&mut self, r: usize) {
        self.decide(r, machine::Event::Abort { by: "test".to_owned() });
    }

    fn roll_back(&mut self, r: usize) {
        self.decide(r, machine::Event::RollBack { by: "test".to_owned() });
    }

    fn taint(&mut self, r: usize, which: u8) {
        let state = &self.replicas[r].held.state;
        let all = state.authorities();
        let id = all[usize::from(which) % all.len()].id.clone();
        if self.replicas[r].life != Life::Up {
            return;
        }
        if let Some(spare) = self.new_authority(None) {
            self.decide(r, machine::Event::Taint { id, by: "test".to_owned(), spare: Box::new(spare) });
        }
    }

    /// Loads what is there now, and steps.
    fn make(&mut self, r: usize, event: machine::Event, skipped: u32) {
        let over = self.history.len() - 1;
        let stored = self.stored().clone();
        let made = self
            .broken(&stored.state, &event)
            .or_else(|| machine::step(&stored.state, event, moment(self.clock(r))).ok());
        let Some((state, effects)) = made else { return };
        let next = View::of(state, &self.crossed_by);
        if self.is(Fault::ActBeforeStore) {
            self.touched = true;
            self.replicas[r].held = next.clone();
            self.push(r);
        }
        self.replicas[r].drive = Drive::Made { over, next, effects, skipped };
    }

    fn swap(&mut self, r: usize, over: usize, next: Arc<View>, effects: &[Effect], skipped: u32) {
        if self.replicas[r].is_cut || over + 1 != self.history.len() && !self.is(Fault::LostSwap) {
            return;
        }
        let before = self.stored().clone();
        for w in 0..self.workloads.len() {
            // A step without evidence strands nobody whom the last one did not.
            if skipped & (1 << w) != 0 {
                self.workloads[w].excused = Some(next.steps());
            }
        }
        self.check_step(&before, &next, effects);
        self.ended += u32::from(effects.iter().any(|effect| matches!(effect, Effect::Ended(_))));
        self.touched = true;
        self.history.push(next);
        // From here on a crash leaves it to others to act on it; it follows like everybody else.
        let revision = self.history.len() - 1;
        if self.replicas[r].followed + 1 == revision {
            self.take(r, revision);
        }
    }

    /// What a machine that is broken on purpose makes of it.
    fn broken(&self, state: &State, event: &machine::Event) -> Option<(State, Vec<Effect>)> {
        let of = |authorities: Vec<Authority>, effects| {
            let rotation = state.rotation().cloned();
            let numbers = (state.sequence(), state.steps() + 1);
            let next = State::of(numbers, authorities, vec![], rotation, vec![]).ok()?;
            let grown = u64::from(next.bundle() != state.bundle());
            Some((next.numbered(numbers.0 + grown, numbers.1), effects))
        };
        let now = moment(self.now);
        match (self.fault, event) {
            (Fault::SequenceReused, event) => {
                let (next, effects) = machine::step(state, event.clone(), now).ok()?;
                let numbers = (state.sequence(), next.steps());
                let authorities = next.authorities().to_vec();
                let rotation = next.rotation().cloned();
                Some((State::of(numbers, authorities, vec![], rotation, next.past().to_vec()).ok()?, effects))
            }
            (Fault::KeyDestroyedEarly, machine::Event::Retire(_) | machine::Event::Automate { .. }) => {
                let retiring: AuthorityId = state.at(Stage::Retiring).next()?.id.clone();
                let left = state.authorities().iter().filter(|one| one.id != retiring).cloned().collect();
                of(left, vec![Effect::DestroyKey(retiring)])
            }
            (Fault::RollBackToTainted, machine::Event::RollBack { .. }) => {
                let back = state.at(Stage::Retiring).next()?.id.clone();
                let mut all = state.authorities().to_vec();
                for one in &mut all {
                    one.stage = if one.id == back { Stage::Active } else { Stage::Retiring };
                }
                of(all, vec![Effect::SwitchSigner(back)])
            }
            (Fault::AbortsActive, machine::Event::Abort { .. }) => {
                let back = state.at(Stage::Retiring).find(|one| one.tainted.is_none())?.id.clone();
                let gone = state.active().id.clone();
                let mut all: Vec<_> =
                    state.authorities().iter().filter(|one| one.id != gone).cloned().collect();
                for one in all.iter_mut().filter(|one| one.id == back) {
                    one.stage = Stage::Active;
                }
                of(all, vec![Effect::DestroyKey(gone)])
            }
            _ => None,
        }
    }

    // === the end ===

    /// Everybody becomes well, and time passes: whatever is under way has to end.
    pub(super) fn settle(&mut self) {
        for r in 0..REPLICAS {
            self.happen(Happening::Cut(r, false));
            self.happen(Happening::Rise(r));
            self.happen(Happening::Rise(r));
            self.happen(Happening::Leads(r, r == 0));
        }
        for w in 0..self.workloads.len() {
            self.happen(Happening::Nack(w, false));
        }
        self.happen(Happening::Automate(0));
        self.drive(0);
        self.drive(0);
        for round in 0..60 {
            let is_over = self.stored().state.rotation().is_none();
            if is_over || self.violation.is_some() {
                return;
            }
            self.round();
            self.happen(Happening::Time([1, 30, 150, 1800][round % 4]));
            self.check();
        }
        self.check_ended();
    }

    fn round(&mut self) {
        for r in 0..REPLICAS {
            while self.replicas[r].followed + 1 < self.history.len() {
                self.follow(r);
            }
            self.notice(r);
        }
        self.happen(Happening::Publish(0));
        self.happen(Happening::Publish(0));
        for w in 0..self.workloads.len() {
            let half = self.now + LIFE / 2;
            if self.workloads[w].leaves.last().is_none_or(|leaf| leaf.not_after < half) {
                self.workloads[w].wants = true;
            }
            self.connect(w, w % REPLICAS);
            for _ in 0..2 {
                self.handle(w);
                self.handle(w);
                self.ask(w, if self.workloads[w].kind == WorkloadKind::Pod { 0 } else { w % REPLICAS });
                self.answered(w);
                self.applied(w);
                self.applied(w);
                self.hear(w);
            }
            self.check();
        }
        if !self.is(Fault::NobodyDrives) {
            self.happen(Happening::DriveOn(0, Goal::Advance));
        }
        self.check();
    }
}

pub(super) fn name(workload: usize) -> String {
    format!("w{workload}")
}
