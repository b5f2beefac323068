//! Pure: how long may a leaf live, and from when?

use std::time::Duration;

/// The times of a leaf certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    backdate: Duration,
    default_lifetime: Duration,
    max_lifetime: Duration,
}

/// Why a profile makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProfile {
    /// The default is above the maximum.
    #[error(
        "the default leaf lifetime ({default:?}) is above the maximum ({max:?}); lower the one or raise the other"
    )]
    DefaultAboveMaximum {
        /// The default.
        default: Duration,
        /// The maximum.
        max: Duration,
    },
    /// A lifetime is zero.
    #[error("a leaf lifetime must be at least one second")]
    Zero,
    /// Clocks that far apart are broken clocks.
    #[error("leaves may be backdated by at most one hour, not {0:?}")]
    Backdate(Duration),
}

/// The lifetime that was asked for is above the maximum.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a lifetime of {requested} s was asked for, and the maximum is {max} s; ask for less (Istio's agents: SECRET_TTL) or raise --max-leaf-lifetime"
)]
pub struct LifetimeAboveMaximum {
    requested: i64,
    max: u64,
}

impl Profile {
    /// Makes a profile: NotBefore lies `backdate` before the moment of issue, for peers whose clocks are late.
    ///
    /// # Errors
    /// If the default is above the maximum, a lifetime is zero, or the backdate is above one hour.
    pub fn new(
        backdate: Duration,
        default_lifetime: Duration,
        max_lifetime: Duration,
    ) -> Result<Self, InvalidProfile> {
        if default_lifetime > max_lifetime {
            return Err(InvalidProfile::DefaultAboveMaximum { default: default_lifetime, max: max_lifetime });
        }
        if default_lifetime < Duration::from_secs(1) {
            return Err(InvalidProfile::Zero);
        }
        if backdate > Duration::from_secs(3600) {
            return Err(InvalidProfile::Backdate(backdate));
        }
        Ok(Self { backdate, default_lifetime, max_lifetime })
    }

    /// The lifetime for a request of `seconds`: the default for zero and less, as Istio's CA has it.
    ///
    /// # Errors
    /// If it is above the maximum. It is not shortened silently: the caller plans its renewals by it.
    pub fn lifetime(&self, seconds: i64) -> Result<Duration, LifetimeAboveMaximum> {
        match u64::try_from(seconds) {
            Err(_) | Ok(0) => Ok(self.default_lifetime),
            Ok(wanted) if wanted <= self.max_lifetime.as_secs() => Ok(Duration::from_secs(wanted)),
            Ok(_) => Err(LifetimeAboveMaximum { requested: seconds, max: self.max_lifetime.as_secs() }),
        }
    }

    /// The same profile with NotBefore at most `limit` before the moment of issue, for those who take no more.
    pub fn backdated_at_most(self, limit: Duration) -> Self {
        Self { backdate: self.backdate.min(limit), ..self }
    }

    /// The longest lifetime that may be asked for.
    pub fn max_lifetime(&self) -> Duration {
        self.max_lifetime
    }

    /// How far NotBefore lies before the moment of issue.
    pub fn backdate(&self) -> Duration {
        self.backdate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn zero_and_less_ask_for_the_default_and_too_much_is_refused() {
        let profile = Profile::new(MINUTE, HOUR, 2 * HOUR).unwrap();
        for (asked, granted) in [(0, HOUR), (-1, HOUR), (i64::MIN, HOUR), (1, MINUTE / 60), (7200, 2 * HOUR)]
        {
            assert_eq!(profile.lifetime(asked), Ok(granted));
        }
        assert!(profile.lifetime(7201).is_err());
        assert!(profile.lifetime(i64::MAX).is_err());
    }

    #[test]
    fn a_backdate_is_cut_and_never_stretched() {
        let profile = Profile::new(2 * MINUTE, HOUR, HOUR).unwrap();
        assert_eq!(profile.backdated_at_most(MINUTE).backdate(), MINUTE);
        assert_eq!(profile.backdated_at_most(4 * MINUTE), profile);
    }

    #[test]
    fn a_profile_that_contradicts_itself_is_refused() {
        assert!(matches!(
            Profile::new(MINUTE, 2 * HOUR, HOUR),
            Err(InvalidProfile::DefaultAboveMaximum { .. })
        ));
        assert_eq!(Profile::new(MINUTE, Duration::ZERO, HOUR), Err(InvalidProfile::Zero));
        assert_eq!(Profile::new(2 * HOUR, HOUR, HOUR), Err(InvalidProfile::Backdate(2 * HOUR)));
    }
}
