//! Pure: is this worth another line, or the same again?
//!
//! Within a span of time the first few of a kind are written, and the rest is counted; at its end the count is written. So nothing is
//! left out silently, and a storm of denials is a few lines.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use time::OffsetDateTime;

/// How many lines there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Lines of one kind within a span.
    pub(super) lines: u32,
    /// The span.
    pub(super) span: Duration,
    /// Kinds that are told apart at a time; what is beyond is of one kind together.
    pub(super) kinds: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lines: 5, span: Duration::from_secs(10), kinds: 1024 }
    }
}

/// Says which lines are written.
#[derive(Debug)]
pub(super) struct Damper<K> {
    limits: Limits,
    spans: HashMap<Option<K>, Span>,
}

#[derive(Debug)]
struct Span {
    ends: OffsetDateTime,
    written: u32,
    left_out: u64,
}

impl<K: Eq + Hash> Damper<K> {
    /// One that has seen nothing yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, spans: HashMap::new() }
    }

    /// Whether a line of this kind is to be written. If not, it is counted.
    pub(super) fn admits(&mut self, kind: K, now: OffsetDateTime) -> bool {
        let kind = Some(kind);
        let is_known = self.spans.contains_key(&kind);
        let kind = if is_known || self.spans.len() < self.limits.kinds { kind } else { None };
        let fresh = || Span { ends: now + self.limits.span, written: 0, left_out: 0 };
        let span = self.spans.entry(kind).or_insert_with(fresh);
        if span.ends <= now && span.left_out == 0 {
            *span = fresh();
        }
        match span.written < self.limits.lines {
            true => span.written += 1,
            false => span.left_out += 1,
        }
        span.left_out == 0
    }

    /// The kinds whose span is over and of which something was left out, with how many; `None` for those that were not told apart.
    /// They begin anew.
    pub(super) fn over(&mut self, now: OffsetDateTime) -> Vec<(Option<K>, u64)> {
        let over = self.spans.extract_if(|_, span| span.ends <= now);
        over.filter(|(_, span)| span.left_out > 0).map(|(kind, span)| (kind, span.left_out)).collect()
    }

    /// All that was left out, whether its span is over or not, as when a process ends.
    pub(super) fn rest(&mut self) -> Vec<(Option<K>, u64)> {
        let all = self.spans.drain();
        all.filter(|(_, span)| span.left_out > 0).map(|(kind, span)| (kind, span.left_out)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn the_first_few_are_written_and_the_rest_is_counted() {
        let mut damper = Damper::new(Limits::default());
        let written = (0..100).filter(|_| damper.admits("a", START)).count();
        assert_eq!(written, 5);
        assert!(damper.admits("b", START), "another kind is none of its business");
        assert_eq!(damper.over(START + Duration::from_secs(9)), []);
        assert_eq!(damper.over(START + Duration::from_secs(10)), [(Some("a"), 95)]);
        assert!(damper.admits("a", START + Duration::from_secs(10)));
    }

    #[test]
    fn kinds_that_are_too_many_are_one_together() {
        let mut damper = Damper::new(Limits { kinds: 2, ..Limits::default() });
        let written = (0..100).filter(|kind| damper.admits(*kind, START)).count();
        assert_eq!(written, 2 + 5);
        assert_eq!(damper.over(START + Duration::from_secs(10)), [(None, 93)]);
    }

    proptest! {
        #[test]
        fn nothing_is_left_out_silently(kinds in proptest::collection::vec((0_u8..20, 0_u64..5), 0..300)) {
            let mut damper = Damper::new(Limits { kinds: 8, ..Limits::default() });
            let (mut now, mut told) = (START, 0);
            for (kind, pause) in &kinds {
                now += Duration::from_secs(*pause);
                told += damper.over(now).iter().map(|(_, count)| count).sum::<u64>();
                told += u64::from(damper.admits(*kind, now));
            }
            told += damper.rest().iter().map(|(_, count)| count).sum::<u64>();
            prop_assert_eq!(told, kinds.len() as u64);
        }
    }
}
