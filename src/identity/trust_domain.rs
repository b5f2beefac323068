//! Pure: which names may a trust domain have? (SPIFFE-ID section 2.1)

use std::fmt;
use std::str::FromStr;

/// The longest trust domain name we accept, in bytes (SPIFFE-ID section 2.3).
const MAX_LENGTH: usize = 255;

/// The name of a trust domain: non-empty, at most 255 bytes of `a-z 0-9 . - _`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

/// Why a text is not the name of a trust domain.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrustDomain {
    /// Nothing was given.
    #[error("the trust domain is empty; give a name such as `cluster.local`")]
    Empty,
    /// It is longer than the standard allows.
    #[error("the trust domain has {0} bytes; SPIFFE allows at most {MAX_LENGTH}")]
    TooLong(usize),
    /// A character that the standard leaves out.
    #[error(
        "trust domain `{name}` contains `{found}`; only a-z, 0-9, `.`, `-` and `_` are allowed, without scheme or path"
    )]
    Character {
        /// The text as given.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
}

impl TrustDomain {
    /// The name as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidTrustDomain;

    /// Reads a name; upper case is folded to lower case, as names compare without case (ID-6).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidTrustDomain::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(InvalidTrustDomain::TooLong(text.len()));
        }
        let name = text.to_ascii_lowercase();
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        match name.chars().find(|c| !allowed(*c)) {
            Some(found) => Err(InvalidTrustDomain::Character { name: text.to_owned(), found }),
            None => Ok(Self(name)),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_standard_are_taken_and_folded_to_lower_case() {
        for (text, name) in
            [("cluster.local", "cluster.local"), ("Prod-1_a", "prod-1_a"), ("10.0.0.1", "10.0.0.1")]
        {
            assert_eq!(text.parse::<TrustDomain>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        assert_eq!("".parse::<TrustDomain>(), Err(InvalidTrustDomain::Empty));
        for bad in ["spiffe://a", "a/b", "a:1", "u@a", "ä", "a b", "a%41", "a\n", "a?", "a#"] {
            assert!(matches!(bad.parse::<TrustDomain>(), Err(InvalidTrustDomain::Character { .. })), "{bad}");
        }
        assert_eq!("a".repeat(256).parse::<TrustDomain>(), Err(InvalidTrustDomain::TooLong(256)));
    }
}
