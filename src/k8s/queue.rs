//! Pure: what is to be done next, and when again if it failed?
//!
//! A level-triggered queue: a key stands in it once however often it is added, is never worked on twice at a time, and never
//! leaves it by failing. Moments are durations on the caller's stopwatch.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So often a key may come back right after it was done; from then on it is taken for a fight with somebody, and pauses.
const PATIENCE: u32 = 3;
/// A key that stayed away for so long after it was done has no past.
const CALM: Duration = Duration::from_secs(60);

/// Keys to work on.
#[derive(Clone, Debug)]
pub struct Queue<K> {
    entries: HashMap<K, Entry>,
    due: BTreeSet<(Duration, K)>,
    in_flight: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    stage: Stage,
    failures: u32,
    /// How often it was done in quick succession, and when last.
    done: u32,
    done_at: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Waiting(Duration),
    InFlight {
        /// It was added again meanwhile.
        again: bool,
    },
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), due: BTreeSet::new(), in_flight: 0 }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// Something about `key` has changed: it is due at once, unless it is already being worked on or in a fight.
    pub fn add(&mut self, key: &K, now: Duration) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.done_at + CALM <= now {
            entry.done = 0;
        }
        match entry.stage {
            Stage::InFlight { .. } => entry.stage = Stage::InFlight { again: true },
            Stage::Idle => {
                let at = now.max(entry.done_at + pause(entry.done.saturating_sub(PATIENCE)));
                entry.stage = Stage::Waiting(at);
                self.due.insert((at, key.clone()));
            }
            // What has failed may work now, as something has changed; a fight goes on at its own pace.
            Stage::Waiting(at) if entry.done <= PATIENCE && at > now => {
                self.due.remove(&(at, key.clone()));
                entry.stage = Stage::Waiting(now);
                self.due.insert((now, key.clone()));
            }
            Stage::Waiting(_) => {}
        }
    }

    /// There is nothing to do for `key` any more.
    pub fn forget(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            match entry.stage {
                Stage::Waiting(at) => drop(self.due.remove(&(at, key.clone()))),
                Stage::InFlight { .. } => self.in_flight = self.in_flight.saturating_sub(1),
                Stage::Idle => {}
            }
        }
    }

    /// A key that is due at `now`; it is in flight until [`Queue::done`] or [`Queue::failed`].
    pub fn take(&mut self, now: Duration) -> Option<K> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.entries.entry(key.clone()).or_default().stage = Stage::InFlight { again: false };
        self.in_flight += 1;
        Some(key)
    }

    /// The work on `key` is done; it comes back if it was added meanwhile.
    pub fn done(&mut self, key: &K, now: Duration) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Stage::InFlight { again } = entry.stage else { return };
        self.in_flight = self.in_flight.saturating_sub(1);
        let done = if entry.done_at + CALM <= now { 1 } else { entry.done.saturating_add(1) };
        *entry = Entry { stage: Stage::Idle, failures: 0, done, done_at: now };
        if again {
            self.add(key, now);
        }
    }

    /// The work on `key` failed; it comes back after a pause. Returns how often it has failed in a row.
    pub fn failed(&mut self, key: &K, now: Duration) -> u32 {
        let Some(entry) = self.entries.get_mut(key) else { return 0 };
        let Stage::InFlight { .. } = entry.stage else { return 0 };
        self.in_flight = self.in_flight.saturating_sub(1);
        entry.failures = entry.failures.saturating_add(1);
        let at = now + pause(entry.failures);
        entry.stage = Stage::Waiting(at);
        self.due.insert((at, key.clone()));
        entry.failures
    }

    /// When the next key is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many keys are being worked on.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

fn pause(times: u32) -> Duration {
    match times {
        0 => Duration::ZERO,
        times => FIRST_PAUSE.saturating_mul(1 << (times - 1).min(16)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_key_stands_in_it_once_and_is_worked_on_once_at_a_time() {
        let mut queue = Queue::default();
        queue.add(&"a", SECOND);
        queue.add(&"a", SECOND);
        assert_eq!(queue.take(SECOND), Some("a"));
        queue.add(&"a", SECOND);
        assert_eq!((queue.take(SECOND), queue.in_flight()), (None, 1));
        queue.done(&"a", SECOND);
        assert_eq!(queue.take(SECOND), Some("a"), "it was added while it was in flight");
        queue.done(&"a", SECOND);
        assert_eq!((queue.take(100 * SECOND), queue.in_flight()), (None, 0));
    }

    #[test]
    fn what_fails_comes_back_for_ever_with_longer_pauses_and_at_once_when_something_changes() {
        let (mut queue, mut now) = (Queue::default(), Duration::ZERO);
        queue.add(&"a", now);
        for times in 1..40 {
            assert_eq!(queue.take(now), Some("a"));
            assert_eq!(queue.failed(&"a", now), times);
            let due = queue.next_due().unwrap();
            assert!(due > now && due - now <= LONGEST_PAUSE, "{due:?}");
            now = due;
        }
        assert_eq!(queue.take(now), Some("a"));
        queue.failed(&"a", now);
        assert_eq!(queue.take(now), None);
        queue.add(&"a", now);
        assert_eq!(queue.take(now), Some("a"));
    }

    #[test]
    fn whoever_keeps_undoing_it_is_answered_ever_more_slowly() {
        let mut queue = Queue::default();
        let mut answered = 0;
        for tick in 0..60_000 {
            let now = Duration::from_millis(tick);
            queue.add(&"a", now);
            if queue.take(now).is_some() {
                answered += 1;
                queue.done(&"a", now);
            }
        }
        assert!((8..=16).contains(&answered), "{answered}");
    }

    #[test]
    fn a_forgotten_key_is_gone_in_flight_or_not() {
        let mut queue = Queue::default();
        queue.add(&"a", SECOND);
        queue.add(&"b", SECOND);
        let first = queue.take(SECOND).unwrap();
        queue.forget(&"a");
        queue.forget(&"b");
        queue.done(&first, SECOND);
        assert_eq!((queue.take(10 * SECOND), queue.in_flight(), queue.next_due()), (None, 0, None));
    }
}
