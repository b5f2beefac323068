use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_secs(15);

fn candidate(name: &str) -> Candidate {
    Candidate::new(name.to_owned(), Timing::new(LEASE))
}

fn record(holder: Option<&str>, renewed: &str, version: &str) -> Record {
    Record {
        holder: holder.map(str::to_owned),
        lease: LEASE,
        renewed: renewed.to_owned(),
        transitions: 4,
        version: version.to_owned(),
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_record_that_is_missing_or_given_back_is_claimed_at_once() {
    let mut one = candidate("a");
    assert_eq!(one.next(secs(0)), Step::Read);
    one.read(None, secs(0));
    assert_eq!(one.next(secs(0)), Step::Claim(Claim { version: None, transitions: 0, begins: true }));
    one.read(Some(record(None, "x", "7")), secs(0));
    let claim = Claim { version: Some("7".to_owned()), transitions: 5, begins: true };
    assert_eq!(one.next(secs(0)), Step::Claim(claim));
}

#[test]
fn another_holder_is_waited_for_by_our_own_stopwatch_whatever_its_clock_says() {
    let mut one = candidate("a");
    // Its clock is a century late: that is no reason to think it dead.
    one.read(Some(record(Some("b"), "1926-01-01T00:00:00Z", "7")), secs(100));
    let mut now = secs(100);
    while now < secs(115) {
        match one.next(now) {
            Step::Wait(until) => now = until,
            Step::Read => one.read(Some(record(Some("b"), "1926-01-01T00:00:00Z", "8")), now),
            Step::Claim(_) => panic!("claimed after {:?}", now - secs(100)),
        }
    }
    assert!(matches!(one.next(now), Step::Claim(Claim { begins: true, .. })));
    // A renewal begins the wait anew, whichever way its clock went; an annotation does not.
    one.read(Some(record(Some("b"), "1925-01-01T00:00:00Z", "9")), now);
    assert!(matches!(one.next(now), Step::Wait(_)));
}

#[test]
fn a_holder_acts_for_two_thirds_of_the_lease_after_its_last_renewal_was_sent() {
    let mut one = candidate("a");
    one.wrote(record(Some("a"), "x", "7"), secs(100));
    assert_eq!(one.leads_until(), Some(secs(110)));
    assert!(matches!(one.next(secs(100)), Step::Wait(until) if until < secs(103)));
    assert!(matches!(one.next(secs(102)), Step::Claim(Claim { begins: false, transitions: 4, .. })));
    // Frozen, thawed, and overtaken: the write is refused, and the next look ends the hold.
    one.overtaken(secs(130));
    assert_eq!(one.next(secs(130)), Step::Read);
    one.read(Some(record(Some("b"), "y", "8")), secs(130));
    assert_eq!((one.leads_until(), one.holder()), (None, Some("b")));
}

#[test]
fn a_lost_answer_is_no_lost_office() {
    let mut one = candidate("a");
    one.wrote(record(Some("a"), "x", "7"), secs(100));
    // The renewal went through as version 8, but its answer did not come.
    one.failed(secs(103));
    assert!(
        matches!(one.next(secs(105)), Step::Claim(Claim { version: Some(version), .. }) if version == "7")
    );
    one.overtaken(secs(105));
    one.read(Some(record(Some("a"), "y", "8")), secs(105));
    assert_eq!(one.leads_until(), Some(secs(110)));
    assert!(matches!(one.next(secs(105)), Step::Claim(Claim { begins: false, .. })));
}

/// One process in the model: a stopwatch that may run a tenth too fast or too slow, and may be frozen.
struct Process {
    candidate: Candidate,
    rate: f64,
    frozen_until: f64,
    /// A claim that was sent and reaches the record later.
    on_its_way: Option<(Claim, Duration, f64)>,
    /// What it was told to publish when it last looked, and the version of the object it looked at.
    about_to_write: Option<(u64, u64)>,
}

/// The record and one object that the leader writes, both swapped by version; and what should stand in the object.
#[derive(Default)]
struct Server {
    record: Option<Record>,
    version: u64,
    object: u64,
    object_version: u64,
    wanted: u64,
}

impl Server {
    fn claim(&mut self, name: &str, claim: &Claim) -> Option<Record> {
        if self.record.as_ref().map(|record| &record.version) != claim.version.as_ref() {
            return None;
        }
        self.version += 1;
        let version = self.version.to_string();
        self.record = Some(Record {
            holder: Some(name.to_owned()),
            lease: LEASE,
            renewed: version.clone(),
            transitions: claim.transitions,
            version,
        });
        self.record.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any number of processes, with clocks of different speeds, frozen at any moment for any time, answers that take up to
    /// seconds: never do two lead at once by their own reckoning while awake, and what one wrote is never undone by one who
    /// knows less.
    #[test]
    fn at_most_one_leads_and_no_write_is_lost(
        rates in prop::collection::vec(0.9f64..1.1, 2..5),
        freezes in prop::collection::vec((0usize..5, 0f64..300.0, 0f64..60.0), 0..12),
        delays in prop::collection::vec(0f64..3.0, 64),
        changes in prop::collection::vec(0f64..300.0, 1..10),
    ) {
        let mut server = Server::default();
        let mut processes: Vec<_> = rates.iter().enumerate().map(|(at, rate)| Process {
            candidate: candidate(&at.to_string()),
            rate: *rate,
            frozen_until: 0.0,
            on_its_way: None,
            about_to_write: None,
        }).collect();
        let (mut draws, mut led) = (0, 0);
        for tick in 0..6000 {
            let time = f64::from(tick) * 0.05;
            for (at, from, length) in &freezes {
                if (*from..*from + 0.05).contains(&time) && let Some(process) = processes.get_mut(*at) {
                    process.frozen_until = time + length;
                }
            }
            if changes.iter().any(|change| (*change..*change + 0.05).contains(&time)) {
                server.wanted += 1;
            }
            let mut leaders = 0;
            for process in &mut processes {
                // What is on the wire arrives, whether its sender is awake or not.
                let arrived = process.on_its_way.take_if(|(_, _, arrives)| *arrives <= time);
                let answer = arrived.map(|(claim, sent, _)| {
                    (server.claim(&process.candidate.name.clone(), &claim), sent)
                });
                let now = Duration::from_secs_f64(time * process.rate);
                match answer {
                    Some((Some(record), sent)) => process.candidate.wrote(record, sent),
                    Some((None, _)) => process.candidate.overtaken(now),
                    None => {}
                }
                if process.frozen_until > time {
                    continue;
                }
                // A write that was decided on a moment ago goes out by the version that was seen then.
                if let Some((content, seen)) = process.about_to_write.take() {
                    let leads = process.candidate.leads_until().is_some_and(|until| now < until);
                    if leads && seen == server.object_version {
                        prop_assert!(content >= server.object, "{content} written over {}", server.object);
                        server.object = content;
                        server.object_version += 1;
                    }
                }
                if process.on_its_way.is_none() {
                    match process.candidate.next(now) {
                        Step::Read => process.candidate.read(server.record.clone(), now),
                        Step::Claim(claim) => {
                            let delay = delays[draws % delays.len()];
                            draws += 1;
                            process.on_its_way = Some((claim, now, time + delay));
                        }
                        Step::Wait(_) => {}
                    }
                }
                if process.candidate.leads_until().is_some_and(|until| now < until) {
                    leaders += 1;
                    led += 1;
                    if server.object != server.wanted {
                        process.about_to_write = Some((server.wanted, server.object_version));
                    }
                }
            }
            prop_assert!(leaders <= 1, "{leaders} lead at {time}");
        }
        prop_assert!(led > 0, "nobody ever led");
    }
}
