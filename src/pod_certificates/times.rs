//! Pure: how long may a pod's certificate live, and when does its kubelet ask for the next one?
//!
//! The API server takes a certificate only if NotBefore lies within five minutes of its own clock, and if the time from
//! NotBefore to NotAfter, backdate included, is at least an hour and at most what the request allows; and a refresh time
//! only at least ten minutes away from both ends.

use std::time::Duration;

use time::OffsetDateTime;

use crate::issuance::Profile;
use crate::pod_certificates::hindrance::Hindrance;

/// The API server's shortest life.
pub(super) const SHORTEST_LIFE: Duration = Duration::from_secs(3600);
/// The API server's longest life: 91 days.
pub(super) const LONGEST_LIFE: Duration = Duration::from_secs(7_862_400);
/// Under the API server's five minutes, so that its clock may be a minute ahead of ours.
const LONGEST_BACKDATE: Duration = Duration::from_secs(240);
/// How far a refresh must stay away from both ends of a life.
const REFRESH_MARGIN: Duration = Duration::from_secs(600);
/// A refresh begins at half of the life, a tenth of the life earlier or later by chance, so that pods which started
/// together do not come together.
const SPREAD: f64 = 0.1;

/// The times of pod certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodProfile(Profile);

/// The profile's leaves live too short a life for pods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "leaves may live for at most {max:?}, and Kubernetes takes no pod certificate that lives for less than {SHORTEST_LIFE:?}; raise --max-leaf-lifetime to 1h or more if pods are to get theirs from the kubelet"
)]
pub struct TooShortForPods {
    max: Duration,
}

impl PodProfile {
    /// Fits a profile to Kubernetes' rules: its backdate is cut to four minutes.
    ///
    /// # Errors
    /// If its maximum is under an hour.
    pub fn new(profile: Profile) -> Result<Self, TooShortForPods> {
        let max = profile.max_lifetime();
        match max < SHORTEST_LIFE {
            true => Err(TooShortForPods { max }),
            false => Ok(Self(profile.backdated_at_most(LONGEST_BACKDATE))),
        }
    }

    /// The profile that leaves are prepared by.
    pub fn profile(&self) -> &Profile {
        &self.0
    }

    /// The seconds from `now` that a certificate of at most `max_expiration` may live, under an issuer that is valid from
    /// `begin` to `end`. Preparing cuts them to the issuer's end, and says so.
    ///
    /// # Errors
    /// If the issuer is not valid, or leaves less than an hour.
    pub(super) fn life(
        &self,
        max_expiration: Duration,
        (begin, end): (OffsetDateTime, OffsetDateTime),
        now: OffsetDateTime,
    ) -> Result<i64, Hindrance> {
        // A certificate tells whole seconds, and is prepared for them.
        let now = now.replace_nanosecond(0).unwrap_or(now);
        if end <= now {
            return Err(Hindrance::IssuerExpired(end));
        }
        if now < begin {
            return Err(Hindrance::IssuerNotYetValid(begin));
        }
        let not_before = (now - self.0.backdate()).max(begin);
        let wanted = not_before + max_expiration.min(self.0.max_lifetime());
        if wanted.min(end) - not_before < SHORTEST_LIFE {
            return Err(Hindrance::IssuerEnds(end));
        }
        Ok((wanted - now).whole_seconds())
    }
}

/// When the kubelet begins to ask for the next certificate. `draw` is random, from 0 up to but not including 1.
pub(super) fn refresh_at(not_before: OffsetDateTime, not_after: OffsetDateTime, draw: f64) -> OffsetDateTime {
    let share = 0.5 + SPREAD * (2.0 * draw.clamp(0.0, 1.0) - 1.0);
    let at = not_before + (not_after - not_before) * share;
    let at = at.replace_nanosecond(0).unwrap_or(at);
    // A life of an hour leaves room for this; a spread that did not would be refused by the API server.
    at.max(not_before + REFRESH_MARGIN).min(not_after - REFRESH_MARGIN)
}

#[cfg(test)]
#[path = "times_tests.rs"]
mod tests;
