//! Pure: how does Envoy look for such a text?

use crate::authz::model::Pattern;
use crate::proto::filters::MatchPattern;
use crate::proto::filters::RegexMatcher;
use crate::proto::filters::StringMatcher;

/// Every text but the empty one. `\C` is any byte: `.` would leave out line feeds and what is no UTF-8, and a value could then be
/// written so that a policy that denies does not see it.
pub(super) const NOT_EMPTY: &str = r"\C+";

/// Every text, the empty one too.
pub(super) const ANY: &str = r"\C*";

/// A workload's SPIFFE ID, as Istio writes them (`Atom::PeerIsWorkload`).
pub(super) const WORKLOAD: &str = "spiffe://[^/]+/ns/[^/]+/sa/[^/]+";

/// How texts compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// By every byte.
    Counts,
    /// Without the case of ASCII letters.
    Ignored,
}

/// The matcher for what `pattern` stands for; `None` if that is every text. Envoy refuses a prefix of no length.
pub(super) fn matcher(pattern: &Pattern, case: Case) -> Option<StringMatcher> {
    let matched = match pattern {
        Pattern::Exact(value) => MatchPattern::Exact(value.to_string()),
        Pattern::Prefix(value) | Pattern::Suffix(value) | Pattern::Contains(value) if value.is_empty() => {
            return None;
        }
        Pattern::Prefix(value) => MatchPattern::Prefix(value.to_string()),
        Pattern::Suffix(value) => MatchPattern::Suffix(value.to_string()),
        Pattern::Contains(value) => MatchPattern::Contains(value.to_string()),
        Pattern::NotEmpty => return Some(constant(NOT_EMPTY)),
        Pattern::Any => return None,
    };
    Some(StringMatcher { ignore_case: case == Case::Ignored, match_pattern: Some(matched) })
}

/// The same where Envoy needs something to match with even for every text.
pub(super) fn matcher_or_any(pattern: &Pattern) -> StringMatcher {
    matcher(pattern, Case::Counts).unwrap_or_else(|| constant(ANY))
}

/// A regex of ours, never of a policy.
pub(super) fn constant(regex: &'static str) -> StringMatcher {
    let regex = RegexMatcher { regex: regex.to_owned(), engine_type: None };
    StringMatcher { ignore_case: false, match_pattern: Some(MatchPattern::SafeRegex(regex)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_policies_never_become_regexes() {
        for value in ["a.c", "a+", "(a)", "a|b", ".*"] {
            for pattern in [
                Pattern::Exact(value.into()),
                Pattern::Prefix(value.into()),
                Pattern::Suffix(value.into()),
                Pattern::Contains(value.into()),
            ] {
                let matched = matcher(&pattern, Case::Counts).unwrap().match_pattern;
                assert!(!matches!(matched, Some(MatchPattern::SafeRegex(_))), "{pattern:?}");
            }
        }
    }

    #[test]
    fn what_every_text_fits_needs_no_matcher() {
        let empty = || Box::from("");
        for pattern in
            [Pattern::Any, Pattern::Prefix(empty()), Pattern::Suffix(empty()), Pattern::Contains(empty())]
        {
            assert_eq!(matcher(&pattern, Case::Counts), None, "{pattern:?}");
        }
        let exact = matcher(&Pattern::Exact(empty()), Case::Counts).unwrap();
        assert_eq!(exact.match_pattern, Some(MatchPattern::Exact(String::new())));
    }
}
