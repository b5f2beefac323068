//! What time is it? The only place in the crate that reads a clock, and a simulated one for tests.

use std::time::Duration;
use std::time::Instant;

use time::OffsetDateTime;
use tokio::sync::watch;

/// A source of wall-clock time (UTC). Cheap to clone; clones of a simulated clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Simulated(watch::Receiver<OffsetDateTime>),
}

/// The hand that moves a simulated [`Clock`].
#[derive(Debug)]
pub struct Hand(watch::Sender<OffsetDateTime>);

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `at` until its hand is moved.
    pub fn simulated(at: OffsetDateTime) -> (Self, Hand) {
        let (hand, face) = watch::channel(at);
        (Self(Source::Simulated(face)), Hand(hand))
    }

    /// The present moment.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn now(&self) -> OffsetDateTime {
        match &self.0 {
            Source::System => OffsetDateTime::now_utc(),
            Source::Simulated(face) => *face.borrow(),
        }
    }

    /// Waits until the clock shows `at` or later; at once if it already does.
    ///
    /// The system clock is looked at again at least every half minute, so that a machine that was
    /// suspended, or whose clock was set, wakes close to the right moment.
    pub async fn sleep_until(&self, at: OffsetDateTime) {
        match &self.0 {
            Source::System => loop {
                let left = Duration::try_from(at - self.now()).unwrap_or(Duration::ZERO);
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(30))).await;
            },
            Source::Simulated(face) => {
                // The hand is gone only when the test is over; nobody waits for the answer then.
                let _ = face.clone().wait_for(|now| *now >= at).await;
            }
        }
    }
}

impl Hand {
    /// Moves the clock forward by `by`.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now += by);
    }
}

/// Measures how long something took, unmoved by changes of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts to measure now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since [`Stopwatch::start`].
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The time since [`Stopwatch::start`] in milliseconds.
    pub fn elapsed_ms(&self) -> f64 {
        self.elapsed().as_secs_f64() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[tokio::test]
    async fn a_simulated_clock_wakes_its_sleepers_when_the_hand_moves() {
        let (clock, hand) = Clock::simulated(datetime!(2030-01-01 0:00 UTC));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(datetime!(2030-01-01 1:00 UTC)).await }
        });
        hand.advance(Duration::from_secs(3599));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hand.advance(Duration::from_secs(1));
        sleeper.await.expect("the sleeper does not panic");
        assert_eq!(clock.now(), datetime!(2030-01-01 1:00 UTC));
    }
}
