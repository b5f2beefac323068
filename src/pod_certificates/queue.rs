//! Pure: which request is worked on next, and when?
//!
//! A key stands in the queue once, however often it changes, and is worked on by one at a time: a change in the meantime
//! makes it due again afterwards. Moments are durations on the caller's stopwatch.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

use crate::pod_certificates::hindrance::Pace;

/// The first pause after a try that came to nothing; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause while the API server is away: everybody waits for its return.
const LONGEST_PAUSE_AWAY: Duration = Duration::from_secs(5);
/// The pause where trying again is likely to be in vain.
const SLOW_PAUSE: Duration = Duration::from_secs(600);

/// Keys that have to be worked on.
#[derive(Debug)]
pub(super) struct Queue<K> {
    entries: HashMap<K, Entry>,
    ready: VecDeque<K>,
    paused: BTreeSet<(Duration, K)>,
    busy: usize,
    away: Option<Away>,
}

#[derive(Debug, Default)]
struct Entry {
    stand: Stand,
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stand {
    #[default]
    Ready,
    PausedUntil(Duration),
    /// Until something changes.
    Parked,
    Busy {
        is_due_again: bool,
    },
}

/// The API server is away: nobody tries before that moment, and then one alone.
#[derive(Debug)]
struct Away {
    failures: u32,
    until: Duration,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), ready: VecDeque::new(), paused: BTreeSet::new(), busy: 0, away: None }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// The key is new, or something about it has changed: it is due now.
    pub(super) fn due(&mut self, key: &K) {
        let entry = self.entries.entry(key.clone());
        let is_new = matches!(entry, std::collections::hash_map::Entry::Vacant(_));
        let entry = entry.or_default();
        match &mut entry.stand {
            Stand::Busy { is_due_again } => *is_due_again = true,
            Stand::Ready if !is_new => {}
            stand => {
                if let Stand::PausedUntil(until) = stand {
                    self.paused.remove(&(*until, key.clone()));
                }
                *stand = Stand::Ready;
                self.ready.push_back(key.clone());
            }
        }
    }

    /// Everything that waits is due now: what all of it may have waited for has changed.
    pub(super) fn all_due(&mut self) {
        let waiting = |(_, entry): &(&K, &Entry)| entry.stand != Stand::Ready;
        let keys: Vec<K> = self.entries.iter().filter(waiting).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.due(key));
    }

    /// The key is gone. A try at it that is under way counts until it ends.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some(Stand::PausedUntil(until)) = self.entries.remove(key).map(|entry| entry.stand) {
            self.paused.remove(&(until, key.clone()));
        }
        // Among the ready it is passed over when its turn comes.
    }

    /// The next key to work on at `now`, while at most `limit` are worked on. The caller tells its end to [`Queue::tried`].
    pub(super) fn next(&mut self, now: Duration, limit: usize) -> Option<K> {
        let limit = match &self.away {
            Some(away) if now < away.until => 0,
            Some(_) => 1,
            None => limit,
        };
        if self.busy >= limit {
            return None;
        }
        self.end_pauses(now);
        while let Some(key) = self.ready.pop_front() {
            if let Some(entry) = self.entries.get_mut(&key)
                && entry.stand == Stand::Ready
            {
                entry.stand = Stand::Busy { is_due_again: false };
                self.busy += 1;
                return Some(key);
            }
        }
        None
    }

    fn end_pauses(&mut self, now: Duration) {
        while let Some((until, _)) = self.paused.first()
            && *until <= now
            && let Some((_, key)) = self.paused.pop_first()
            && let Some(entry) = self.entries.get_mut(&key)
        {
            entry.stand = Stand::Ready;
            self.ready.push_back(key);
        }
    }

    /// The try at `key` has ended at `now`; `again` says when to try again, if at all. `draw` is random, from 0 up to but
    /// not including 1.
    pub(super) fn tried(&mut self, key: &K, again: Option<Pace>, now: Duration, draw: f64) {
        self.busy = self.busy.saturating_sub(1);
        self.away = match (self.away.take(), again) {
            (away, Some(Pace::WhenTheApiServerIsBack)) => Some(still_away(away, now, draw)),
            _ => None,
        };
        let Some(again) = again else {
            self.entries.remove(key);
            return;
        };
        let Some(entry) = self.entries.get_mut(key) else { return };
        let is_due_again = entry.stand == Stand::Busy { is_due_again: true };
        entry.stand = match again {
            _ if is_due_again => Stand::Ready,
            Pace::Soon => Stand::PausedUntil(now + pause(entry.failures, LONGEST_PAUSE, draw)),
            Pace::Slowly => Stand::PausedUntil(now + SLOW_PAUSE),
            Pace::WhenSomethingChanges => Stand::Parked,
            Pace::WhenTheApiServerIsBack => Stand::Ready,
        };
        entry.failures = entry.failures.saturating_add(1);
        match entry.stand {
            Stand::Ready => self.ready.push_back(key.clone()),
            Stand::PausedUntil(until) => {
                self.paused.insert((until, key.clone()));
            }
            Stand::Parked | Stand::Busy { .. } => {}
        }
    }

    /// When [`Queue::next`] may have something that it has not now, if nothing else happens until then.
    pub(super) fn wakes_at(&self, limit: usize) -> Option<Duration> {
        // The end of a try wakes the caller by itself.
        if self.busy >= limit || self.away.is_some() && self.busy > 0 {
            return None;
        }
        let first = match self.ready.is_empty() {
            true => self.paused.first().map(|(until, _)| *until)?,
            false => Duration::ZERO,
        };
        Some(self.away.as_ref().map_or(first, |away| first.max(away.until)))
    }
}

/// The end of a try that found the API server away. Those that were under way together count as one.
fn still_away(before: Option<Away>, now: Duration, draw: f64) -> Away {
    match before {
        Some(away) if now < away.until => away,
        before => {
            let failures = before.map_or(0, |away| away.failures);
            Away { failures: failures + 1, until: now + pause(failures, LONGEST_PAUSE_AWAY, draw) }
        }
    }
}

/// The pause after that many failures, up to half of it left to chance.
fn pause(failures: u32, longest: Duration, draw: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(longest);
    doubled.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
