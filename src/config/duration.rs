//! Pure: durations as people write them: `90s`, `10m`, `24h`, `7d`, and sums such as `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A duration of whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

/// The text is not a duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write for example 90s, 10m, 24h, 7d or 1h30m")]
pub struct InvalidDuration(String);

impl HumanDuration {
    /// A duration of so many hours.
    pub const fn hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours * 3600))
    }

    /// A duration of so many minutes.
    pub const fn minutes(minutes: u64) -> Self {
        Self(Duration::from_secs(minutes * 60))
    }

    /// A duration of so many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for HumanDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut total = 0_u64;
        let mut rest = text;
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            let (digits, after) = rest.split_at(unit_at);
            let mut after = after.chars();
            let unit = after.next().ok_or_else(invalid)?;
            let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
            let number: u64 = digits.parse().map_err(|_| invalid())?;
            total =
                number.checked_mul(*seconds).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
            rest = after.as_str();
        }
        // A hundred years is beyond what any of our settings can mean.
        match text.is_empty() || total > 100 * 366 * 86_400 {
            true => Err(invalid()),
            false => Ok(Self(Duration::from_secs(total))),
        }
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = InvalidDuration;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_secs();
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, seconds) in UNITS {
            if left >= seconds {
                write!(f, "{}{name}", left / seconds)?;
                left %= seconds;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_they_are_written() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("1h30m", 5400), ("0s", 0)] {
            let read: HumanDuration = text.parse().unwrap();
            assert_eq!(read.0.as_secs(), seconds);
            assert_eq!(read.to_string().parse::<HumanDuration>(), Ok(read));
        }
        for bad in ["", "5", "h", "5x", "-1s", "1.5h", "99999999999999999999s", "1000000d", "5 m"] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad}");
        }
    }
}
