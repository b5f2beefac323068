//! Pure: when does a workload that holds a leaf of one authority ask for one of another?
//!
//! The CA's notice names the authority and a window. Everybody draws a moment in it, so that a mesh moves over bit by bit;
//! whoever is due for renewal sooner moves then. A replica that has not heard of the new authority yet still signs with the
//! old one; it is asked again.

use std::time::Duration;

use time::OffsetDateTime;

use crate::sds::Notice;
use crate::sds::Version;

/// The first pause after an answer of an authority that ought to sign no more; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause, as long as there is reason to think that a replica is only late.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How many such answers are a replica that is late. Then something is wrong, and the pause is longer.
const LATE: u32 = 30;
const PAUSE_AFTER_THAT: Duration = Duration::from_secs(60);
/// The shortest pause, for leaves that live for seconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);

/// Where the move stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Moving {
    target: Option<Target>,
    due: Option<OffsetDateTime>,
    late_answers: u32,
}

#[derive(Clone, Debug, PartialEq)]
struct Target {
    authority: Version,
    window: Duration,
}

impl Moving {
    /// The CA says which authority ought to sign; `is_there` if our leaf is of it, or we have none and are asking anyway.
    /// `draw` is random, from 0 up to but not including 1.
    ///
    /// A notice that is repeated changes nothing, or whoever loses its connection often would never move; one that gives
    /// less time counts.
    pub(super) fn told(
        self,
        notice: Option<&Notice>,
        is_there: bool,
        now: OffsetDateTime,
        draw: f64,
    ) -> Self {
        let Some(notice) = notice else { return Self::default() };
        let target = Target { authority: notice.version(), window: notice.window };
        let is_known = self.target.as_ref().is_some_and(|known| known.authority == target.authority);
        let gives_less = self.target.as_ref().is_some_and(|known| target.window < known.window);
        let drawn = now + target.window.mul_f64(draw.clamp(0.0, 1.0));
        match (is_there, is_known) {
            (true, _) => Self { target: Some(target), due: None, late_answers: 0 },
            (false, true) if !gives_less => self,
            (false, true) => {
                let due = Some(self.due.map_or(drawn, |due| due.min(drawn)));
                Self { target: Some(target), due, ..self }
            }
            (false, false) => Self { target: Some(target), due: Some(drawn), late_answers: 0 },
        }
    }

    /// There is a reason not to wait: our leaf is under none of the roots that are to be trusted.
    pub(super) fn at_once(self, now: OffsetDateTime) -> Self {
        Self { due: Some(now), ..self }
    }

    /// A leaf came that suits what the CA has told.
    pub(super) fn arrived(self) -> Self {
        Self { due: None, late_answers: 0, ..self }
    }

    /// A leaf came that does not; the one in use, if any, lives until `until`.
    pub(super) fn late(self, now: OffsetDateTime, until: Option<OffsetDateTime>, draw: f64) -> Self {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.late_answers.min(16)).min(LONGEST_PAUSE);
        let pause = if self.late_answers < LATE { doubled } else { PAUSE_AFTER_THAT };
        let left = until.map(|until| Duration::try_from(until - now).unwrap_or(Duration::ZERO));
        let pause = left.map_or(pause, |left| pause.min((left / 10).max(SHORTEST_PAUSE)));
        let due = Some(now + pause.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0));
        Self { due, late_answers: self.late_answers.saturating_add(1), ..self }
    }

    /// No leaf came. The schedule says when the CA is asked again, and that is for this too.
    pub(super) fn failed(self, now: OffsetDateTime) -> Self {
        Self { due: self.due.filter(|due| *due > now), ..self }
    }

    /// How many answers in a row did not suit.
    pub(super) fn late_answers(&self) -> u32 {
        self.late_answers
    }

    /// The next attempt, given when the schedule has it.
    pub(super) fn or_sooner(&self, scheduled: OffsetDateTime) -> OffsetDateTime {
        self.due.map_or(scheduled, |due| due.min(scheduled))
    }

    /// The next attempt after [`Moving::late`], given when the schedule had it: maybe it is what just has been.
    pub(super) fn or_later(&self, scheduled: OffsetDateTime) -> OffsetDateTime {
        self.due.map_or(scheduled, |due| due.max(scheduled))
    }
}

#[cfg(test)]
#[path = "moving_tests.rs"]
mod tests;
