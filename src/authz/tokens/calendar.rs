//! Pure: whose keys have to be fetched, and when?

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;

/// The most URIs that keys are fetched from. Tokens of issuers beyond it are never good.
pub(super) const MAX_URIS: usize = 256;

/// How often keys are fetched, and how long they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Keys that are there are fetched anew after this time.
    pub refresh: Duration,
    /// After a failure it is tried again after this time, and each further time after twice as long.
    pub first_retry: Duration,
    /// But at least this often.
    pub last_retry: Duration,
    /// A token with a key that is not there makes us look, but not more often than this.
    pub missed: Duration,
    /// Keys that cannot be fetched anew are used for so long after they were fetched, and not longer.
    pub kept: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(5 * 60),
            first_retry: Duration::from_secs(1),
            last_retry: Duration::from_secs(60),
            missed: Duration::from_secs(30),
            kept: Duration::from_secs(60 * 60),
        }
    }
}

/// What has to be fetched when.
#[derive(Clone, Debug, Default)]
pub(super) struct Calendar {
    times: Times,
    entries: BTreeMap<Box<str>, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    failures: u32,
    began: Option<OffsetDateTime>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting(OffsetDateTime),
    UnderWay,
}

impl Calendar {
    pub(super) fn new(times: Times) -> Self {
        Self { times, entries: BTreeMap::new() }
    }

    /// These are needed, and no others. Returns those that are too many.
    pub(super) fn need<'a>(
        &mut self,
        uris: impl IntoIterator<Item = &'a str>,
        now: OffsetDateTime,
    ) -> BTreeSet<&'a str> {
        let uris: BTreeSet<&str> = uris.into_iter().collect();
        self.entries.retain(|uri, _| uris.contains(&**uri));
        let mut too_many = BTreeSet::new();
        for uri in uris {
            if self.entries.contains_key(uri) {
                continue;
            }
            if self.entries.len() == MAX_URIS {
                too_many.insert(uri);
                continue;
            }
            self.entries.insert(uri.into(), Entry { state: State::Waiting(now), failures: 0, began: None });
        }
        too_many
    }

    /// A token was signed by a key that is not among those from `uri`.
    pub(super) fn missed(&mut self, uri: &str, now: OffsetDateTime) {
        let Some(entry) = self.entries.get_mut(uri) else { return };
        let earliest = entry.began.map_or(now, |began| began + self.times.missed);
        if let State::Waiting(at) = entry.state {
            entry.state = State::Waiting(at.min(earliest.max(now)));
        }
    }

    /// What has to be fetched now; it is under way from here on.
    pub(super) fn due(&mut self, now: OffsetDateTime) -> Vec<Box<str>> {
        let mut due = Vec::new();
        for (uri, entry) in &mut self.entries {
            if matches!(entry.state, State::Waiting(at) if at <= now) {
                *entry = Entry { state: State::UnderWay, began: Some(now), ..*entry };
                due.push(uri.clone());
            }
        }
        due
    }

    /// What was under way has come to its end. `chance`, from 0 to 1, takes up to a tenth off the time to the next one.
    pub(super) fn done(&mut self, uri: &str, succeeded: bool, chance: f64, now: OffsetDateTime) {
        let Some(entry) = self.entries.get_mut(uri) else { return };
        entry.failures = if succeeded { 0 } else { entry.failures.saturating_add(1) };
        let pause = match entry.failures {
            0 => self.times.refresh,
            failures => {
                let factor = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
                self.times.first_retry.saturating_mul(factor).min(self.times.last_retry)
            }
        };
        entry.state = State::Waiting(now + pause.mul_f64(1.0 - 0.1 * chance.clamp(0.0, 1.0)));
    }

    /// When something is due next; `None` if nothing ever is, as things are.
    pub(super) fn next(&self) -> Option<OffsetDateTime> {
        let waiting = self.entries.values().filter_map(|entry| match entry.state {
            State::Waiting(at) => Some(at),
            State::UnderWay => None,
        });
        waiting.min()
    }

    /// Until when keys may be used that are fetched at `now`.
    pub(super) fn until(&self, now: OffsetDateTime) -> OffsetDateTime {
        now + self.times.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn at(seconds: u64) -> OffsetDateTime {
        START + Duration::from_secs(seconds)
    }

    fn due(calendar: &mut Calendar, seconds: u64) -> bool {
        !calendar.due(at(seconds)).is_empty()
    }

    #[test]
    fn what_is_needed_is_fetched_at_once_and_then_from_time_to_time() {
        let mut calendar = Calendar::new(Times::default());
        assert_eq!(calendar.next(), None);
        calendar.need(["a"], START);
        assert!(due(&mut calendar, 0) && !due(&mut calendar, 0), "it is under way");
        calendar.done("a", true, 0.0, at(1));
        assert_eq!(calendar.next(), Some(at(301)));
        calendar.need(["a"], at(2));
        assert!(!due(&mut calendar, 300) && due(&mut calendar, 301));
        calendar.need([], at(302));
        calendar.done("a", true, 0.0, at(303));
        assert_eq!(calendar.next(), None, "what is not needed any more is forgotten");
    }

    #[test]
    fn failures_are_tried_again_ever_more_slowly() {
        let mut calendar = Calendar::new(Times::default());
        calendar.need(["a"], START);
        let mut now = START;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            assert_eq!(calendar.due(now).len(), 1);
            calendar.done("a", false, 0.0, now);
            let next = calendar.next().unwrap();
            pauses.push((next - now).whole_seconds());
            now = next;
        }
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses[39], 60);
    }

    #[test]
    fn missed_keys_are_looked_for_but_not_for_each_token() {
        let mut calendar = Calendar::new(Times::default());
        calendar.need(["a"], START);
        assert!(due(&mut calendar, 0));
        calendar.done("a", true, 0.0, at(1));
        for _ in 0..1000 {
            calendar.missed("a", at(2));
        }
        assert_eq!(calendar.next(), Some(at(30)));
        assert!(due(&mut calendar, 30));
        calendar.missed("a", at(30));
        assert_eq!(calendar.next(), None, "one that is under way is not begun again");
        calendar.done("a", true, 0.0, at(31));
        calendar.missed("a", at(100));
        assert!(due(&mut calendar, 100), "a new key is found at once if nobody asked for a while");
    }

    #[test]
    fn the_number_of_issuers_is_bounded() {
        let uris: Vec<String> = (0..=MAX_URIS).map(|number| format!("{number:04}")).collect();
        let mut calendar = Calendar::new(Times::default());
        let too_many = calendar.need(uris.iter().map(String::as_str), START);
        assert_eq!(too_many.into_iter().collect::<Vec<_>>(), ["0256"]);
        assert_eq!(calendar.due(START).len(), MAX_URIS);
    }
}
