//! Pure: when is the next certificate due?

use std::time::Duration;

use time::OffsetDateTime;

/// A renewal is due at half of a certificate's life, a tenth of its life earlier or later by chance, so that workloads
/// which started together do not come together.
const SPREAD: f64 = 0.1;
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The shortest time between two renewals.
const SHORTEST_PAUSE: time::Duration = time::Duration::SECOND;
/// The longest pause between two attempts while there is a valid certificate.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause while there is none, or it has expired: the workload is cut off for as long.
const LONGEST_PAUSE_CUT_OFF: Duration = Duration::from_secs(10);
/// Below this share of its life left, a certificate that cannot be renewed is an emergency.
const LAST_CHANCE: f64 = 0.2;
/// Below this share of its life left, a certificate gives way to any other that is valid.
const PRESSING: f64 = 0.35;

/// Where renewals stand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Schedule {
    held: Option<Held>,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    since: OffsetDateTime,
    until: OffsetDateTime,
}

/// The next attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    /// When.
    pub at: OffsetDateTime,
    /// Whether somebody must act: the certificate has little life left, or none.
    pub is_last_chance: bool,
}

impl Schedule {
    /// A certificate came at `now` and lives until `until`. `draw` is random, from 0 up to but not including 1.
    ///
    /// What counts is the life from its receipt: NotBefore lies back on purpose, and would make a short-lived certificate
    /// look half spent when it comes.
    pub fn renewed(self, now: OffsetDateTime, until: OffsetDateTime, draw: f64) -> (Self, Due) {
        let life = until - now;
        let half = life * (0.5 + SPREAD * (2.0 * draw.clamp(0.0, 1.0) - 1.0));
        // An issuer near its end gives ever shorter lives; without a floor their halves would become a storm.
        let at = now + half.max(SHORTEST_PAUSE.min(life * 0.9));
        let held = Some(Held { since: now, until });
        (Self { held, failures: 0 }, Due { at, is_last_chance: false })
    }

    /// An attempt failed at `now`.
    ///
    /// The pause doubles up to a minute, with half of it left to chance, and shrinks again when the certificate's end
    /// comes near: at most a tenth of what is left, but never under the first pause. Without a valid certificate it doubles
    /// up to ten seconds.
    pub fn failed(self, now: OffsetDateTime, draw: f64) -> (Self, Due) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        let left = self.held.map(|held| Duration::try_from(held.until - now).unwrap_or(Duration::ZERO));
        let pause = match left {
            Some(left) if !left.is_zero() => doubled.min(LONGEST_PAUSE).min((left / 10).max(FIRST_PAUSE)),
            _ => doubled.min(LONGEST_PAUSE_CUT_OFF),
        };
        let at = now + pause.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0);
        // Whoever looks at the certificate's end is awake at it.
        let at =
            self.held.map(|held| held.until).filter(|until| *until > now).map_or(at, |until| at.min(until));
        let is_last_chance = self.held.is_some_and(|held| {
            (held.until - now).as_seconds_f64() < LAST_CHANCE * (held.until - held.since).as_seconds_f64()
        });
        (Self { failures: self.failures.saturating_add(1), ..self }, Due { at, is_last_chance })
    }

    /// Whether there is no time to be choosy: there is no certificate, or it should have been renewed for a while.
    pub fn is_pressing(&self, now: OffsetDateTime) -> bool {
        self.held.is_none_or(|held| {
            (held.until - now).as_seconds_f64() < PRESSING * (held.until - held.since).as_seconds_f64()
        })
    }

    /// How many attempts have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_give_or_take_a_tenth() {
        let until = NOW + Duration::from_secs(1000);
        for (draw, after) in [(0.0, 400), (0.5, 500), (1.0, 600)] {
            let (_, due) = Schedule::default().renewed(NOW, until, draw);
            assert_eq!(due, Due { at: NOW + Duration::from_secs(after), is_last_chance: false });
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_or_ten_seconds_and_begin_again_after_success() {
        let pauses = |mut schedule: Schedule| {
            let mut pauses = Vec::new();
            for _ in 0..10 {
                let (next, due) = schedule.failed(NOW, 1.0);
                pauses.push((due.at - NOW).whole_milliseconds());
                schedule = next;
            }
            (schedule, pauses)
        };
        let (cut_off, paused) = pauses(Schedule::default());
        assert_eq!(paused, [250, 500, 1000, 2000, 4000, 8000, 10000, 10000, 10000, 10000]);
        let (held, _) = cut_off.renewed(NOW, NOW + Duration::from_secs(86_400), 0.5);
        let (schedule, paused) = pauses(held);
        assert_eq!(paused, [250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        let (schedule, _) = schedule.renewed(NOW, NOW + Duration::from_secs(86_400), 0.5);
        let (_, due) = schedule.failed(NOW, 1.0);
        assert_eq!(due.at, NOW + Duration::from_millis(250));
    }

    #[test]
    fn the_last_fifth_of_a_life_is_the_last_chance_and_is_used() {
        let until = NOW + Duration::from_secs(100);
        let (mut schedule, _) = Schedule::default().renewed(NOW, until, 0.5);
        for _ in 0..20 {
            (schedule, _) = schedule.failed(NOW, 1.0);
        }
        let (_, early) = schedule.failed(NOW + Duration::from_secs(79), 1.0);
        assert!(!early.is_last_chance);
        let (_, late) = schedule.failed(NOW + Duration::from_secs(90), 1.0);
        assert_eq!(late, Due { at: NOW + Duration::from_secs(91), is_last_chance: true });
        let (_, expired) = schedule.failed(until, 1.0);
        assert!(expired.is_last_chance);
    }

    #[test]
    fn it_presses_where_there_is_no_certificate_and_some_time_after_the_last_moment_to_renew() {
        assert!(Schedule::default().is_pressing(NOW));
        let (schedule, _) = Schedule::default().renewed(NOW, NOW + Duration::from_secs(100), 1.0);
        assert!(!schedule.is_pressing(NOW + Duration::from_secs(64)));
        assert!(schedule.is_pressing(NOW + Duration::from_secs(66)));
    }

    proptest! {
        #[test]
        fn for_any_draw_a_renewal_lands_well_before_the_end(life in 3_u64..10_000_000, draw in 0.0..1.0_f64) {
            let until = NOW + Duration::from_secs(life);
            let (_, due) = Schedule::default().renewed(NOW, until, draw);
            let share = (due.at - NOW).as_seconds_f64() / life as f64;
            prop_assert!((0.399..=0.601).contains(&share), "{share}");
        }

        #[test]
        fn after_any_failures_several_attempts_fit_into_what_is_left(
            life in 60_u64..1_000_000, failures in 0_u32..100, spent in 0.4..0.9_f64, draw in 0.0..1.0_f64,
        ) {
            let until = NOW + Duration::from_secs(life);
            let (mut schedule, _) = Schedule::default().renewed(NOW, until, 0.5);
            schedule.failures = failures;
            let mut now = NOW + Duration::from_secs(life).mul_f64(spent);
            for _ in 0..3 {
                let (next, due) = schedule.failed(now, draw);
                prop_assert!(due.at > now && due.at <= until);
                (schedule, now) = (next, due.at);
            }
        }
    }
}
