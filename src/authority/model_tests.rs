//! Any interleaving of what may happen to authorities, and whoever depends on them, against the invariants.
//!
//! The exact rule: at every moment, every leaf that is in use and may be taken for alive by anybody is verified by every set of
//! roots that anybody uses who has such a leaf, and by the roots in the store. While an agent's proxies move from one set of
//! roots or one leaf to the next, both count as in use. Excused are only
//! - who had no open stream, as far as the leader could know, when a step was taken in an emergency; until it has heard of it;
//! - who has nothing but the answers to its requests, and has not got, or not yet put to use, the last one that it was given:
//!   nobody can know of that, and it asks again.
//!
//! Nobody forces anything. Clocks differ by a minute at most from the true time, and leaves count for two minutes longer.
//!
//! What the leader knows is what replicas have told it; see `census`. Some rules that it stands on are not the machine's, and
//! are here as [`Fault`]s: a replica is known to others before it loads, stops to sign and to tell when it has not reached the
//! store for a while, and looks at the store before it goes on.
//!
//! Where the model is kinder than what runs, so that it proves nothing there:
//! - the streams of a replica that is cut off end here; what runs only takes no new ones;
//! - an agent that has not said which authority its leaf is of is waited for here; what runs waits for it only if it knows of
//!   a leaf ([`Fault::SilenceIsMoved`] shows what may come of that);
//! - moments of different clocks that are too close to tell are not compared here; what runs compares them as those of one
//!   clock, and leaves it to agents to refuse what ought not to sign ([`Fault::TrustsClocks`]);
//! - an answer also reaches an agent that has lost its stream here; what runs stays with what it was told, and its answers do
//!   not count;
//! - what is published never goes back here; what runs looks afresh at the beginning of a term, and swaps by version.

use std::io::Write;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

#[path = "model_census_tests.rs"]
mod census;
#[path = "model_check_tests.rs"]
mod check;
#[path = "model_world_tests.rs"]
mod world;

use check::Violation;
use world::Brought;
use world::Fault;
use world::Goal;
use world::Happening;
use world::LIFE;
use world::REPLICAS;
use world::SKEW;
use world::WorkloadKind;
use world::World;

/// How many interleavings are run.
const INTERLEAVINGS: u64 = 100_000;
/// How many bits there are in one, before everybody becomes well.
const LENGTH: usize = 24;
/// Within how many interleavings a broken rule has to be noticed.
const ENOUGH: u64 = 40_000;

/// Numbers that look random (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// A story: how the world begins, and what happens in it.
#[derive(Clone)]
struct Story {
    kinds: Vec<WorkloadKind>,
    first: usize,
    by_age: bool,
    /// Whether everybody becomes well in the end, and the rotation has to end.
    ends: bool,
    happenings: Vec<Happening>,
}

impl Story {
    fn of(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mut kinds = vec![WorkloadKind::Agent, WorkloadKind::Agent, WorkloadKind::Client];
        if chance.one_in(2) {
            kinds.push(WorkloadKind::Pod);
        }
        // An intermediate, or a root of its own.
        let first = if chance.one_in(5) { crate::authority::test_support::ROOTS } else { chance.below(2) };
        let by_age = chance.one_in(4);
        let theme = THEMES[chance.below(THEMES.len())];
        let mut happenings = vec![];
        for w in 0..kinds.len() {
            happenings.extend([Happening::Ask(w, 0), Happening::Answered(w), Happening::Applied(w)]);
            if chance.one_in(2) {
                happenings.push(Happening::Connect(w, chance.below(REPLICAS)));
            }
        }
        for _ in 0..LENGTH {
            // Every other bit leads a rotation on, or nothing would ever get far.
            Bit::drawn(&ONWARD, &mut chance).tell(&mut chance, kinds.len(), &mut happenings);
            Bit::drawn(theme, &mut chance).tell(&mut chance, kinds.len(), &mut happenings);
        }
        Self { kinds, first, by_age, ends: seed.is_multiple_of(3), happenings }
    }

    /// Tells it, and looks after each happening whether everything holds.
    fn run(&self, fault: Fault) -> World {
        let mut world = World::new(fault, &self.kinds, self.first, self.by_age);
        for what in &self.happenings {
            world.happen(*what);
            world.check();
            if world.violation.is_some() {
                return world;
            }
        }
        if self.ends {
            world.settle();
        }
        world
    }

    /// The shortest story found in which a rule still does not hold.
    fn shortened(mut self, fault: Fault) -> (Self, Violation) {
        let mut violation = self.run(fault).violation.unwrap();
        let mut length = self.happenings.len() / 2;
        while length > 0 {
            let mut at = 0;
            while at < self.happenings.len() {
                let mut shorter = self.clone();
                shorter.happenings.drain(at..(at + length).min(self.happenings.len()));
                match shorter.run(fault).violation {
                    Some(found) => (self, violation) = (shorter, found),
                    None => at += length,
                }
            }
            length /= 2;
        }
        (self, violation)
    }
}

/// A bit of a story: one happening, or some that often come together.
#[derive(Clone, Copy)]
enum Bit {
    /// Everybody does what they ought to, once.
    Well,
    Seconds,
    Hours,
    Follow,
    Conduct,
    Begin,
    Drive,
    Publish,
    /// An operator, and it is done.
    Order,
    /// An operator, and it is not done yet.
    Ordering,
    Emergency,
    /// A bit of what an agent does, or hears.
    Agent,
    /// All of what an agent does when it hears something.
    GoodAgent,
    Renewal,
    Asking,
    Answered,
    Line,
    Notice,
    Sync,
    Fall,
    Rise,
    Cut,
    Lead,
    Skew,
    Whim,
    /// A replica is away for so long that nobody waits for what it may have signed.
    Away,
    /// It is back, and at once somebody asks it.
    Back,
    /// An agent has a stream for a moment only.
    Flap,
    /// An answer is on its way while others go on.
    SlowAnswer,
    /// An agent that has lost its stream gets certificates nevertheless.
    Offline,
    /// Somebody else thinks that it leads, and is about to publish.
    Rival,
    /// Two replicas whose clocks differ answer one after the other.
    TwoClocks,
    /// All replicas are up to date, the next step is taken if it may be, and somebody moves at once.
    Rush,
}

/// What leads a rotation on.
const ONWARD: [(Bit, usize); 6] = [
    (Bit::Well, 4),
    (Bit::Conduct, 4),
    (Bit::Order, 2),
    (Bit::Seconds, 1),
    (Bit::GoodAgent, 2),
    (Bit::Follow, 2),
];

/// How often what happens beside that, in stories about this and that.
const THEMES: [&[(Bit, usize)]; 7] = [
    &ALL_AT_ONCE,
    &[(Bit::Conduct, 4), (Bit::Hours, 1), (Bit::Agent, 3), (Bit::Whim, 1), (Bit::Publish, 1)],
    // Operators who change their minds, and watches that are late.
    &[(Bit::Order, 3), (Bit::Emergency, 1), (Bit::Follow, 2), (Bit::Renewal, 2), (Bit::Conduct, 2)],
    // Many who write at once.
    &[(Bit::Begin, 2), (Bit::Drive, 6), (Bit::Ordering, 3), (Bit::Lead, 1), (Bit::Fall, 1), (Bit::Rise, 2)],
    // Replicas that come and go, and those that the store does not see.
    &[
        (Bit::Cut, 2),
        (Bit::Fall, 2),
        (Bit::Rise, 3),
        (Bit::Seconds, 3),
        (Bit::Away, 3),
        (Bit::Back, 5),
        (Bit::Emergency, 2),
        (Bit::Rush, 2),
    ],
    // Streams that break, and answers that are late.
    &[
        (Bit::Agent, 6),
        (Bit::Line, 5),
        (Bit::Notice, 2),
        (Bit::Asking, 3),
        (Bit::Answered, 2),
        (Bit::Renewal, 2),
        (Bit::Seconds, 2),
        (Bit::Hours, 1),
        (Bit::Skew, 2),
        (Bit::Whim, 2),
        (Bit::Flap, 2),
        (Bit::SlowAnswer, 2),
        (Bit::Offline, 2),
        (Bit::TwoClocks, 2),
        (Bit::Rush, 2),
    ],
    // What is published, and by whom.
    &[
        (Bit::Publish, 4),
        (Bit::Rival, 3),
        (Bit::Sync, 3),
        (Bit::Lead, 1),
        (Bit::Seconds, 5),
        (Bit::Renewal, 2),
    ],
];

const ALL_AT_ONCE: [(Bit, usize); 23] = [
    (Bit::Seconds, 3),
    (Bit::Hours, 1),
    (Bit::Follow, 6),
    (Bit::Conduct, 6),
    (Bit::Begin, 2),
    (Bit::Drive, 6),
    (Bit::Publish, 3),
    (Bit::Order, 4),
    (Bit::Ordering, 1),
    (Bit::Emergency, 1),
    (Bit::Agent, 8),
    (Bit::GoodAgent, 4),
    (Bit::Renewal, 3),
    (Bit::Asking, 2),
    (Bit::Answered, 2),
    (Bit::Line, 3),
    (Bit::Notice, 2),
    (Bit::Sync, 1),
    (Bit::Fall, 1),
    (Bit::Rise, 2),
    (Bit::Cut, 1),
    (Bit::Lead, 1),
    (Bit::Whim, 2),
];

impl Bit {
    fn drawn(theme: &[(Self, usize)], chance: &mut Chance) -> Self {
        let mut left = chance.below(theme.iter().map(|(_, weight)| weight).sum());
        let found = theme.iter().find(|(_, weight)| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        found.unwrap().0
    }

    fn tell(self, chance: &mut Chance, workloads: usize, into: &mut Vec<Happening>) {
        let (r, w) = (chance.below(REPLICAS), chance.below(workloads));
        let leader = if chance.one_in(4) { r } else { 0 };
        let other = chance.below(workloads);
        match self {
            Self::Well => {
                let mut all: Vec<_> = (0..REPLICAS).map(Happening::Follow).collect();
                all.extend([Happening::Publish(leader), Happening::Publish(leader)]);
                for w in 0..workloads {
                    Self::good_agent(w, (w + r) % REPLICAS, &mut all);
                }
                // Or nearly.
                into.extend(all.into_iter().filter(|_| !chance.one_in(12)));
            }
            Self::Seconds => into.push(Happening::Time([1, 5, 18, 30, 150][chance.below(5)])),
            Self::Hours => {
                into.push(Happening::Time([400, LIFE / 2, LIFE, 2 * LIFE, 25 * LIFE][chance.below(5)]))
            }
            Self::Follow => into.push(Happening::Follow(r)),
            Self::Conduct => into.push(Happening::DriveOn(leader, Self::goal(chance))),
            Self::Begin => into.push(Happening::Begin(leader, Self::goal(chance))),
            Self::Drive => into.push(Happening::Drive(r)),
            Self::Publish => into.push(Happening::Publish(r)),
            Self::Order => into.extend([Self::order(r, chance), Happening::Drive(r), Happening::Drive(r)]),
            Self::Ordering => into.extend([Self::order(r, chance), Happening::Drive(r)]),
            Self::Emergency => {
                let which = u8::try_from(chance.below(3)).unwrap();
                into.extend([Happening::Taint(r, which), Happening::Drive(r), Happening::Drive(r)]);
            }
            Self::Agent => into.push(match chance.below(5) {
                0 | 1 => Happening::Handle(w),
                2 => Happening::Applied(w),
                3 => Happening::Hear(w),
                _ => Happening::Connect(w, r),
            }),
            Self::GoodAgent => Self::good_agent(w, r, into),
            Self::Renewal => into.extend([
                Happening::Due(w),
                Happening::Ask(w, r),
                Happening::Answered(w),
                Happening::Applied(w),
            ]),
            Self::Asking => into.extend([Happening::Due(w), Happening::Ask(w, r)]),
            Self::Answered => into.push(Happening::Answered(w)),
            Self::Line if chance.one_in(2) => into.push(Happening::Connect(w, r)),
            Self::Line => into.push(Happening::Disconnect(w)),
            Self::Notice => into.push(Happening::Notice(r)),
            Self::Sync => into.push(Happening::Sync(w)),
            Self::Fall => into.push(Happening::Crash(r)),
            Self::Rise => into.push(Happening::Rise(r)),
            Self::Cut => into.push(Happening::Cut(r, chance.one_in(2))),
            Self::Lead => into.push(Happening::Leads(r, chance.one_in(2))),
            Self::Skew => into.push(Happening::Skew(r, [-SKEW, 0, SKEW][chance.below(3)])),
            Self::Away => {
                into.push(if chance.one_in(2) { Happening::Cut(r, true) } else { Happening::Crash(r) });
                into.push(Happening::Time(2 * LIFE));
                if chance.one_in(2) {
                    into.push(Happening::Rise(r));
                }
            }
            Self::Back => {
                into.extend([Happening::Cut(r, false), Happening::Rise(r), Happening::Time(1)]);
                into.extend([Happening::Due(w), Happening::Ask(w, r), Happening::Answered(w)]);
            }
            Self::Flap => {
                into.extend([Happening::Disconnect(w), Happening::Connect(w, r), Happening::Handle(w)]);
                into.extend([Happening::Applied(w), Happening::Disconnect(w), Happening::Notice(r)]);
                Self::rush(leader, other, chance, into);
            }
            Self::SlowAnswer => {
                into.extend([Happening::Due(w), Happening::Ask(w, r)]);
                Self::rush(leader, other, chance, into);
                into.push(Happening::Answered(w));
            }
            Self::Offline => {
                into.push(Happening::Disconnect(w));
                into.extend((0..REPLICAS).map(Happening::Notice));
                into.extend([
                    Happening::Time(150),
                    Happening::Due(w),
                    Happening::Ask(w, r),
                    Happening::Answered(w),
                ]);
                Self::rush(leader, other, chance, into);
            }
            Self::Rival => {
                into.extend([Happening::Leads(r, true), Happening::Publish(r), Happening::Follow(r)]);
                if chance.one_in(2) {
                    into.extend([Happening::DriveOn(0, Goal::Advance), Happening::Time(400)]);
                    Self::rush(leader, other, chance, into);
                    into.extend([Happening::Publish(r), Happening::Sync(w)]);
                }
            }
            Self::TwoClocks => {
                let late = (r + 1) % REPLICAS;
                for (r, skew) in [(r, SKEW), (late, -SKEW)] {
                    into.extend([
                        Happening::Skew(r, skew),
                        Happening::Due(w),
                        Happening::Ask(w, r),
                        Happening::Answered(w),
                    ]);
                }
                Self::rush(leader, other, chance, into);
            }
            Self::Rush => Self::rush(leader, other, chance, into),
            Self::Whim => into.push(match chance.below(8) {
                0 | 1 => Happening::Nack(w, chance.one_in(2)),
                2 | 3 => Happening::Restart(w),
                4 if chance.one_in(2) => Happening::Gone(w),
                5 => Happening::Skew(r, [-SKEW, 0, SKEW][chance.below(3)]),
                _ => Happening::AnswerLost(w),
            }),
        }
    }

    /// It connects if it has to, moves if it has to, and says so.
    fn good_agent(w: usize, r: usize, into: &mut Vec<Happening>) {
        into.extend([Happening::Connect(w, r), Happening::Handle(w), Happening::Handle(w)]);
        into.extend([Happening::Ask(w, r), Happening::Answered(w), Happening::Applied(w)]);
        into.extend([Happening::Applied(w), Happening::Hear(w)]);
    }

    fn rush(leader: usize, w: usize, chance: &mut Chance, into: &mut Vec<Happening>) {
        if chance.one_in(2) {
            into.extend((0..REPLICAS).flat_map(|r| [Happening::Follow(r), Happening::Follow(r)]));
            into.extend([
                Happening::DriveOn(leader, Goal::Advance),
                Happening::Due(w),
                Happening::Ask(w, leader),
            ]);
            into.extend([Happening::Answered(w), Happening::Applied(w)]);
        }
    }

    fn goal(chance: &mut Chance) -> Goal {
        [Goal::Advance, Goal::Advance, Goal::Advance, Goal::Activate, Goal::Retire][chance.below(5)]
    }

    fn order(r: usize, chance: &mut Chance) -> Happening {
        let automatic = !chance.one_in(3);
        match chance.below(9) {
            0 => Happening::Abort(r),
            1 | 2 => Happening::RollBack(r),
            3 => Happening::Automate(r),
            4 => Happening::Prepare(r, Brought::Crossed { automatic }),
            5 => Happening::Prepare(r, Brought::Intermediate),
            _ => Happening::Prepare(r, Brought::Root { automatic }),
        }
    }
}

/// Runs the interleavings of these numbers on all processors; the first in which a rule does not hold, and how many rotations
/// have ended.
fn interleave(fault: Fault, count: u64) -> (Option<u64>, u64) {
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get() as u64);
    let (bad, ended) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (bad, ended) = (&bad, &ended);
            scope.spawn(move || {
                for seed in (thread..count).step_by(usize::try_from(threads).unwrap()) {
                    if seed > bad.load(Ordering::Relaxed) {
                        return;
                    }
                    let world = Story::of(seed).run(fault);
                    ended.fetch_add(world.ended.into(), Ordering::Relaxed);
                    if world.violation.is_some() {
                        bad.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    (Some(bad.into_inner()).filter(|seed| *seed != u64::MAX), ended.into_inner())
}

fn tell(seed: u64, fault: Fault) -> String {
    let (story, violation) = Story::of(seed).shortened(fault);
    let happenings: Vec<_> = story.happenings.iter().map(|what| format!("  {what:?}")).collect();
    format!(
        "interleaving {seed}: {} does not hold: {}\n{:?}, first authority {}, by age {}\n{}",
        violation.rule,
        violation.what,
        story.kinds,
        story.first,
        story.by_age,
        happenings.join("\n")
    )
}

/// As `figure` in tests/support, which tests of the library cannot use.
fn figure(name: &str, value: u64, unit: &str) {
    let line = format!("figure {name} {value} {unit}\n");
    print!("{line}");
    if let Some(path) = std::env::var_os("FIGURES_FILE") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
    }
}

#[test]
fn no_interleaving_strands_a_workload_or_loses_a_step_and_every_rotation_ends() {
    let (bad, ended) = interleave(Fault::None, INTERLEAVINGS);
    if let Some(seed) = bad {
        panic!("{}", tell(seed, Fault::None));
    }
    assert!(ended > INTERLEAVINGS / 10, "only {ended} rotations have ended, so the model shows little");
    figure("rotation_model_interleavings", INTERLEAVINGS, "interleavings");
    figure("rotation_model_rotations", ended, "rotations");
}

/// What chance seldom finds is told by hand.
fn by_hand(fault: Fault) -> Option<Story> {
    use Happening::*;
    let well =
        |w, r| [Connect(w, r), Handle(w), Handle(w), Ask(w, r), Answered(w), Applied(w), Applied(w), Hear(w)];
    let order = |what| [what, Drive(0), Drive(0)];
    let prepare = order(Prepare(0, Brought::Root { automatic: true }));
    let renew = |w, r| [Due(w), Ask(w, r), Answered(w), Applied(w)];
    let (agent, pod) = (WorkloadKind::Agent, WorkloadKind::Pod);
    let (kinds, happenings) = match fault {
        Fault::ForgetsWhatWasSent => (
            vec![agent, agent],
            [
                &well(0, 0)[..],
                &well(1, 0),
                &[Time(150)],
                &prepare,
                &well(0, 0),
                &well(1, 0),
                // It has acknowledged the new roots; now a replica that is late sends it the old ones, and the stream breaks.
                &[
                    Disconnect(0),
                    Notice(0),
                    Time(5),
                    Connect(0, 2),
                    Handle(0),
                    Disconnect(0),
                    Notice(2),
                    Applied(0),
                ],
                &[Follow(1), Follow(2), DriveOn(0, Goal::Advance), Handle(1)],
                &renew(1, 0),
            ]
            .concat(),
        ),
        Fault::SilenceIsMoved => (
            vec![agent, agent],
            [
                &renew(0, 2)[..],
                &renew(1, 0),
                &[Time(150)],
                &well(0, 0),
                &well(1, 0),
                // Nobody is left who knows of its leaf.
                &[Crash(2)],
                &order(Taint(0, 0)),
                &[
                    Follow(1),
                    Handle(0),
                    Applied(0),
                    Hear(0),
                    Handle(1),
                    Applied(1),
                    Hear(1),
                    DriveOn(0, Goal::Advance),
                    Follow(1),
                ],
                &[
                    Handle(1),
                    Ask(1, 0),
                    Answered(1),
                    Applied(1),
                    Hear(1),
                    Time(30),
                    DriveOn(0, Goal::Advance),
                ],
            ]
            .concat(),
        ),
        Fault::LedgerAfterAnswer => (
            vec![agent, agent],
            [
                &renew(1, 0)[..],
                &[Time(150)],
                // Its first answer is on its way, with the old roots.
                &[Due(0), Ask(0, 2)],
                &prepare,
                &[Follow(1), Follow(2)],
                &well(1, 0),
                &[DriveOn(0, Goal::Advance), Handle(1), Answered(0), Applied(0)],
                &renew(1, 0),
            ]
            .concat(),
        ),
        Fault::TrustsClocks => (
            vec![agent, WorkloadKind::Client],
            [
                &renew(0, 0)[..],
                &renew(1, 0),
                &[Time(500)],
                &prepare,
                &renew(0, 0),
                // By their clocks, the new roots came after the old ones.
                &[Skew(0, SKEW), Skew(2, -SKEW)],
                &renew(1, 0),
                &renew(1, 2),
                &[
                    Follow(1),
                    Follow(2),
                    Time(150),
                    Due(0),
                    Ask(0, 0),
                    Answered(0),
                    Applied(0),
                    DriveOn(0, Goal::Advance),
                ],
                &renew(0, 0),
            ]
            .concat(),
        ),
        Fault::OldAckCounts => (
            vec![agent, agent],
            [
                &renew(0, 0)[..],
                &renew(1, 0),
                &[Time(150)],
                // What is brought from elsewhere is withdrawn, and brought again: the same roots as before.
                &order(Prepare(0, Brought::Intermediate)),
                &well(0, 0),
                &well(1, 0),
                &order(Abort(0)),
                &order(Prepare(0, Brought::Intermediate)),
                &[Follow(1), Follow(1), Follow(1), Follow(2), Follow(2), Follow(2)],
                &[Handle(1), Handle(1), Applied(1), Hear(1), DriveOn(0, Goal::Advance), Handle(0), Handle(1)],
                &renew(1, 0),
            ]
            .concat(),
        ),
        Fault::PublishesBackwards => (
            vec![pod, agent],
            [
                &renew(0, 0)[..],
                &renew(1, 0),
                &prepare,
                &[Publish(0), Publish(0), Sync(0)],
                // A replica that is late and thinks that it leads is about to publish the old roots again.
                &[Leads(2, true), Publish(2), Follow(2), Follow(1), DriveOn(0, Goal::Advance), Time(400)],
                &well(1, 0),
                &[DriveOn(0, Goal::Advance), Handle(1)],
                &renew(1, 0),
                &[Publish(2), Sync(0)],
            ]
            .concat(),
        ),
        _ => return None,
    };
    let first = if fault == Fault::OldAckCounts { 1 } else { 0 };
    Some(Story { kinds, first, by_age: false, ends: false, happenings })
}

#[test]
fn each_rule_that_is_broken_on_purpose_is_noticed() {
    let all = [
        (Fault::GateIgnoresDisconnected, [check::VERIFIES, check::NEEDED].as_slice()),
        (Fault::ActivateBeforeAck, &[check::VERIFIES]),
        (Fault::RetireIgnoresLeaves, &[check::NEEDED]),
        (Fault::GateIgnoresLateReplicas, &[check::VERIFIES, check::NEEDED, check::SIGNS]),
        (Fault::ActBeforeStore, &[check::STORED]),
        (Fault::SignsWithPrepared, &[check::SIGNS]),
        (Fault::SequenceReused, &[check::NUMBERED]),
        (Fault::KeyDestroyedEarly, &[check::DESTROYED]),
        (Fault::RollBackToTainted, &[check::TAINTED]),
        (Fault::LostSwap, &[check::STORED]),
        (Fault::ClaimsToFollow, &[check::SIGNS, check::NEEDED]),
        (Fault::SignsUnseen, &[check::VERIFIES, check::NEEDED, check::SIGNS]),
        (Fault::ResumesWithoutLook, &[check::VERIFIES, check::NEEDED, check::SIGNS]),
        (Fault::LoadsBeforeItIsKnown, &[check::VERIFIES, check::NEEDED, check::SIGNS]),
        (Fault::ForgetsWhatWasSent, &[check::VERIFIES]),
        (Fault::OldAckCounts, &[check::VERIFIES]),
        (Fault::SilenceIsMoved, &[check::NEEDED]),
        (Fault::LedgerAfterAnswer, &[check::VERIFIES, check::NEEDED]),
        (Fault::TrustsClocks, &[check::VERIFIES, check::NEEDED]),
        (Fault::AgentForgetsAnswers, &[check::VERIFIES]),
        (Fault::PublishesBackwards, &[check::VERIFIES]),
        (Fault::AbortsActive, &[check::SIGNED]),
        (Fault::NoMargin, &[check::VERIFIES, check::NEEDED]),
        (Fault::NoUnheard, &[check::VERIFIES, check::NEEDED]),
        (Fault::NobodyDrives, &[check::ENDS]),
    ];
    let mut unnoticed = vec![];
    for (fault, rules) in all {
        let found = match by_hand(fault) {
            Some(story) => {
                assert!(
                    story.run(Fault::None).violation.is_none(),
                    "{fault:?}: its story is one without it too"
                );
                story.run(fault).violation
            }
            None => {
                let (bad, _) = interleave(fault, ENOUGH);
                bad.and_then(|seed| Story::of(seed).run(fault).violation)
            }
        };
        if found.as_ref().is_none_or(|violation| !rules.contains(&violation.rule)) {
            unnoticed.push(format!("{fault:?}: {found:?}"));
        }
    }
    assert!(unnoticed.is_empty(), "not noticed, or as something else:\n{}", unnoticed.join("\n"));
}
