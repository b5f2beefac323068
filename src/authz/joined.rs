//! Pure: does it matter how many lines a header came in?
//!
//! Where several header lines of one name arrive joined with commas, nobody can tell `a` and `b` from `a,b`. Policies look at each line
//! for itself, so there may be no certain answer. There is one if each value that policies look for is either found whichever way
//! the text is taken apart at its commas, or found in no way.

use crate::authz::model::Pattern;

/// The most parts that a text is taken apart into, and the most comparisons that are made; what is beyond is not certain.
const MAX_PARTS: usize = 24;
const MAX_WORK: usize = 20_000;

/// Whether each of `patterns` gives the same answer for `joined`, however many lines it was.
pub(super) fn is_certain(patterns: &[Pattern], joined: &str) -> bool {
    let parts = joined.split(',').count();
    if parts == 1 || patterns.is_empty() {
        return true;
    }
    if parts > MAX_PARTS || parts * parts * patterns.len() > MAX_WORK {
        return false;
    }
    let lines = Lines::of(joined);
    patterns.iter().all(|pattern| lines.agree(pattern))
}

/// A text, and where its parts begin and end.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let commas: Vec<usize> = text.match_indices(',').map(|(at, _)| at).collect();
        let starts = std::iter::once(0).chain(commas.iter().map(|at| at + 1)).collect();
        let ends = commas.iter().copied().chain([text.len()]).collect();
        Self { text, starts, ends }
    }

    /// The line that would be made of the parts from `first` to before `behind`, if it matches.
    fn matches(&self, pattern: &Pattern, first: usize, behind: usize) -> bool {
        let start = self.starts.get(first).copied().unwrap_or_default();
        let end = behind.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or_default();
        self.text.get(start..end).is_some_and(|line| pattern.matches(line.trim_matches([' ', '\t'])))
    }

    /// Whether all ways to take the text apart agree on whether some line matches.
    fn agree(&self, pattern: &Pattern) -> bool {
        let parts = self.starts.len();
        // Whether the first parts can be made lines of which none matches.
        let mut without = vec![true];
        let mut is_found = false;
        for behind in 1..=parts {
            let mut reached = false;
            for (first, _) in without.iter().enumerate().filter(|(_, reached)| **reached).collect::<Vec<_>>()
            {
                let matches = self.matches(pattern, first, behind);
                is_found |= matches;
                reached |= !matches;
            }
            without.push(reached);
        }
        let is_always_found = !without.last().copied().unwrap_or_default();
        is_found == is_always_found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_every_way_of_reading_agrees_on_is_certain() {
        for (value, joined, expected) in [
            ("a", "a", true),
            ("a", "b", true),
            ("a", "b,c", true),
            ("a", "a,b", false),
            ("a,b", "a,b", false),
            ("b*", "a,b", false),
            ("a*", "a,b", true),
            ("*b", "a, b", true),
            ("*", "a,b", true),
            ("*", ",", false),
            ("x", "text/html, application/xml;q=0.9, */*", true),
            ("b,c", "a,b,c,d", false),
        ] {
            assert_eq!(is_certain(&[Pattern::of(value)], joined), expected, "{value} in {joined}");
        }
    }

    #[test]
    fn what_would_be_too_much_work_is_not_certain() {
        let patterns = [Pattern::of("x")];
        assert!(is_certain(&patterns, &"a,".repeat(MAX_PARTS - 1)));
        assert!(!is_certain(&patterns, &"a,".repeat(MAX_PARTS)));
        let many: Vec<_> = (0..10_000).map(|number| Pattern::Exact(format!("x{number}").into())).collect();
        assert!(!is_certain(&many, "a,b"));
        assert!(is_certain(&many, "a"));
    }

    proptest! {
        /// The definition, by trying all ways.
        #[test]
        fn certainty_is_what_trying_all_ways_says(joined in "[ab ,]{0,9}", value in "[*]?[ab,]{0,2}[*]?") {
            let pattern = Pattern::of(&value);
            let commas: Vec<usize> = joined.match_indices(',').map(|(at, _)| at).collect();
            let answers: std::collections::BTreeSet<bool> = (0_u32..1 << commas.len())
                .map(|choice| {
                    let mut lines = joined.clone().into_bytes();
                    for (_, at) in commas.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1) {
                        lines[*at] = b'\n';
                    }
                    let lines = String::from_utf8(lines).unwrap();
                    lines.split('\n').any(|line| pattern.matches(line.trim()))
                })
                .collect();
            prop_assert_eq!(is_certain(&[pattern], &joined), answers.len() == 1);
        }
    }
}
