//! Pure: who leads?
//!
//! Candidates agree through one record, written by compare-and-swap. No candidate compares its own clock with a time in the
//! record, as clocks differ: it measures, by its own stopwatch, how long it has seen the record unchanged. The holder stops
//! acting before the others may take over, by the same kind of measure, so clocks may differ by any amount, and
//! stopwatches by less than a third.

use std::time::Duration;

/// How long a hold lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
}

/// The record that candidates share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None` if it was released.
    pub holder: Option<String>,
    /// For how long after its last renewal nobody else may take it, as its holder says.
    pub lease: Duration,
    /// When it was last renewed, in its holder's words: only ever compared with itself.
    pub renewed: String,
    /// How often it has changed hands.
    pub transitions: i32,
    /// The version to swap it by.
    pub version: String,
}

/// One who would lead. Moments are durations on a stopwatch of its own.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: String,
    timing: Timing,
    seen: Seen,
    /// When the last write of ours that went through was sent.
    held: Option<Duration>,
    /// When to look, or to write, next.
    pause_until: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing is known, or what was known is out of date.
    Nothing,
    /// There is no record.
    Absent,
    /// A record, unchanged since that moment.
    Present(Record, Duration),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the record.
    Read,
    /// Write ourselves into the record, if it still has that version; make it if there is none.
    Claim(Claim),
    /// Nothing until that moment.
    Wait(Duration),
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The version that is replaced; `None` if there is no record.
    pub version: Option<String>,
    /// The record's new count of changed hands.
    pub transitions: i32,
    /// Whether the hold begins with it.
    pub begins: bool,
}

impl Timing {
    /// Others may take over once a hold was not renewed for `lease`.
    pub fn new(lease: Duration) -> Self {
        Self { lease }
    }

    /// For how long after its last renewal nobody else may take over.
    pub fn lease(self) -> Duration {
        self.lease
    }

    /// For how long after its last renewal the holder itself acts.
    pub fn hold(self) -> Duration {
        self.lease * 2 / 3
    }

    /// The time between two looks, or two renewals.
    pub fn pause(self) -> Duration {
        self.lease / 8
    }
}

impl Candidate {
    /// A candidate who has seen nothing yet.
    pub fn new(name: String, timing: Timing) -> Self {
        Self { name, timing, seen: Seen::Nothing, held: None, pause_until: Duration::ZERO }
    }

    /// What to do at `now`.
    pub fn next(&self, now: Duration) -> Step {
        if now < self.pause_until {
            return Step::Wait(self.pause_until);
        }
        match &self.seen {
            Seen::Nothing => Step::Read,
            Seen::Absent => Step::Claim(Claim { version: None, transitions: 0, begins: true }),
            Seen::Present(record, since) => {
                let is_ours = record.holder.as_deref() == Some(&self.name);
                let is_free = record.holder.is_none() || now.saturating_sub(*since) >= record.lease;
                match is_ours || is_free {
                    true => Step::Claim(Claim {
                        version: Some(record.version.clone()),
                        transitions: record.transitions.saturating_add(i32::from(!is_ours)),
                        begins: !is_ours,
                    }),
                    false => Step::Read,
                }
            }
        }
    }

    /// The record was read at `now`, or is not there.
    pub fn read(&mut self, record: Option<Record>, now: Duration) {
        let unchanged = |known: &Record, record: &Record| {
            (&known.holder, &known.renewed, known.transitions)
                == (&record.holder, &record.renewed, record.transitions)
        };
        self.seen = match (record, &self.seen) {
            (None, _) => Seen::Absent,
            (Some(record), Seen::Present(known, since)) if unchanged(known, &record) => {
                Seen::Present(record, *since)
            }
            (Some(record), _) => Seen::Present(record, now),
        };
        let is_others =
            matches!(&self.seen, Seen::Present(record, _) if record.holder.as_deref() != Some(&self.name));
        // Gone, it may be made anew by anybody at any moment.
        if is_others || self.seen == Seen::Absent {
            self.held = None;
        }
        if !matches!(self.next(now), Step::Claim(_)) {
            self.pause_until = now + self.timing.pause();
        }
    }

    /// A write that was sent at `sent` went through, and the record is now this.
    pub fn wrote(&mut self, record: Record, sent: Duration) {
        self.seen = Seen::Present(record, sent);
        self.held = Some(sent);
        self.pause_until = sent + self.timing.pause();
    }

    /// A write was refused at `now`, as the record has another version: what was known is out of date. It may have been a
    /// write of our own whose answer was lost, so a hold is not given up for it; the next look tells.
    pub fn overtaken(&mut self, now: Duration) {
        self.seen = Seen::Nothing;
        self.pause_until = now;
    }

    /// Something failed at `now`, and whether a write went through is not known.
    pub fn failed(&mut self, now: Duration) {
        // The next look tells. A hold stays what it was: it ends by itself. What was seen stays too, with its moment: an
        // unreachable record must not look fresh when it is reached again.
        self.pause_until = now + self.timing.pause() / 2;
        if self.held.is_none() && self.seen == Seen::Absent {
            self.seen = Seen::Nothing;
        }
    }

    /// Who leads, as was last seen.
    pub fn holder(&self) -> Option<&str> {
        match &self.seen {
            Seen::Present(record, _) => record.holder.as_deref(),
            Seen::Nothing | Seen::Absent => None,
        }
    }

    /// Until when we lead, if we do.
    pub fn leads_until(&self) -> Option<Duration> {
        self.held.map(|sent| sent + self.timing.hold())
    }

    /// The version to swap a release by, if we lead at `now`.
    pub fn release(&self, now: Duration) -> Option<(String, i32)> {
        match (&self.seen, self.leads_until()) {
            (Seen::Present(record, _), Some(until)) if now < until => {
                Some((record.version.clone(), record.transitions))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
