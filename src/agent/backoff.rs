//! Pure: how long is the CA left alone after a stream to it has ended?

use std::time::Duration;

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: half a mesh may wait for this.
const LONGEST: Duration = Duration::from_secs(5);
/// A stream that held for this long was a good one: the next pause is the first again.
const HELD: Duration = Duration::from_secs(5);
/// The pause after the CA has said that it knows no such stream. Who would push to us may be new there in some minutes.
const UNKNOWN: Duration = Duration::from_secs(300);

/// Why there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It broke, or was never there.
    Broken,
    /// The CA does not know such streams.
    Unknown,
}

/// The pauses so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after a stream that was open for `held` has ended. `draw` is random, from 0 up to but not including 1.
    pub(super) fn pause(self, ended: Ended, held: Duration, draw: f64) -> (Self, Duration) {
        let failures = if held >= HELD { 0 } else { self.failures };
        let draw = draw.clamp(0.0, 1.0);
        let pause = match ended {
            Ended::Broken => {
                FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST).mul_f64(0.5 + draw / 2.0)
            }
            Ended::Unknown => UNKNOWN.mul_f64(0.9 + draw / 5.0),
        };
        (Self { failures: failures.saturating_add(1) }, pause)
    }

    /// Whether this is not the first failure in a row.
    pub(super) fn is_repeated(&self) -> bool {
        self.failures > 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_from_a_tenth_of_a_second_to_five_and_begin_again_after_a_stream_that_held() {
        let (mut backoff, mut pauses) = (Backoff::default(), Vec::new());
        for _ in 0..8 {
            let (next, pause) = backoff.pause(Ended::Broken, Duration::ZERO, 1.0);
            pauses.push(pause.as_millis());
            backoff = next;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!(backoff.is_repeated());
        let (backoff, pause) = backoff.pause(Ended::Broken, HELD, 1.0);
        assert_eq!(pause.as_millis(), 100);
        assert!(!backoff.is_repeated());
    }

    proptest! {
        #[test]
        fn for_any_draw_the_ca_is_neither_stormed_nor_given_up(failures in 0_u32.., draw in 0.0..1.0_f64) {
            let (_, broken) = Backoff { failures }.pause(Ended::Broken, Duration::ZERO, draw);
            prop_assert!((FIRST / 2..=LONGEST).contains(&broken));
            let (_, unknown) = Backoff { failures }.pause(Ended::Unknown, Duration::ZERO, draw);
            prop_assert!((270.0..=330.0).contains(&unknown.as_secs_f64()));
        }
    }
}
