//! Pure: which texts does a value of a policy stand for? (Istio's string match: `*`, `suffix*`, `*prefix`, exact)
//!
//! There is no regex here, and none is ever made from a policy's values.

use std::fmt;

/// The longest text of a policy that is matched with, in bytes. What is longer is refused when a policy is read.
pub const MAX_LENGTH: usize = 2048;

/// A set of texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// This text and no other.
    Exact(Box<str>),
    /// What begins so.
    Prefix(Box<str>),
    /// What ends so.
    Suffix(Box<str>),
    /// What contains it.
    Contains(Box<str>),
    /// Every text but the empty one.
    NotEmpty,
    /// Every text, the empty one too.
    Any,
}

impl Pattern {
    /// Reads a value as Istio does: `*` alone is every text but the empty one, a leading `*` makes a suffix, a trailing one a
    /// prefix, and the leading one wins; everything else is exact, a `*` in the middle too.
    pub fn of(value: &str) -> Self {
        match (value.strip_prefix('*'), value.strip_suffix('*')) {
            (Some(""), _) => Self::NotEmpty,
            (Some(rest), _) => Self::Suffix(rest.into()),
            (None, Some(rest)) => Self::Prefix(rest.into()),
            (None, None) => Self::Exact(value.into()),
        }
    }

    /// Whether `text` is one of them.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(value) => text == &**value,
            Self::Prefix(value) => text.starts_with(&**value),
            Self::Suffix(value) => text.ends_with(&**value),
            Self::Contains(value) => text.contains(&**value),
            Self::NotEmpty => !text.is_empty(),
            Self::Any => true,
        }
    }

    /// The same for texts that compare without case: the value in lower case (ASCII). The text must be in lower case too.
    #[must_use]
    pub fn in_lower_case(&self) -> Self {
        let lower = |value: &str| value.to_ascii_lowercase().into_boxed_str();
        match self {
            Self::Exact(value) => Self::Exact(lower(value)),
            Self::Prefix(value) => Self::Prefix(lower(value)),
            Self::Suffix(value) => Self::Suffix(lower(value)),
            Self::Contains(value) => Self::Contains(lower(value)),
            Self::NotEmpty => Self::NotEmpty,
            Self::Any => Self::Any,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => f.write_str(value),
            Self::Prefix(value) => write!(f, "{value}*"),
            Self::Suffix(value) => write!(f, "*{value}"),
            Self::Contains(value) => write!(f, "*{value}*"),
            Self::NotEmpty => f.write_str("*"),
            Self::Any => f.write_str("anything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_istio_reads_it() {
        for (value, expected) in [
            ("a", Pattern::Exact("a".into())),
            ("a*", Pattern::Prefix("a".into())),
            ("*a", Pattern::Suffix("a".into())),
            ("*", Pattern::NotEmpty),
            ("*a*", Pattern::Suffix("a*".into())),
            ("a*b", Pattern::Exact("a*b".into())),
            ("**", Pattern::Suffix("*".into())),
            (".*", Pattern::Prefix(".".into())),
        ] {
            assert_eq!(Pattern::of(value), expected, "{value}");
        }
    }

    #[test]
    fn metacharacters_of_regexes_mean_themselves() {
        for value in ["a.c", "a+", "[ab]", "(a)", "a|b", "^a$", "\\d", "a?", "a{2}"] {
            assert!(Pattern::of(value).matches(value));
            for other in ["abc", "aa", "a", "b", "", "1"] {
                assert_eq!(Pattern::of(value).matches(other), value == other, "{value} {other}");
            }
        }
    }

    #[test]
    fn the_empty_text_is_matched_by_what_says_so() {
        assert!(!Pattern::NotEmpty.matches(""));
        assert!(Pattern::Any.matches(""));
    }
}
