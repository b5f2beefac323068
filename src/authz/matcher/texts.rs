//! Pure: which of many patterns does a text fit?

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::authz::matcher::trie::Atom;
use crate::authz::matcher::trie::Trie;
use crate::authz::model::Pattern;

/// Words that what is looked for inside a text begins or ends with: those of SPIFFE IDs. Looking is then a matter of finding the word
/// and going on from there.
const WORDS: [&str; 2] = ["/ns/", "/sa/"];

/// Patterns, each with an atom.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    exact: HashMap<Box<str>, Atom, FixedState>,
    prefix: Trie,
    suffix: Trie,
    around: Vec<Around>,
    /// What is looked for inside texts and has none of the words: one by one. Nothing that is read from objects is of this kind.
    inside: Vec<(Box<str>, Atom)>,
    not_empty: Option<Atom>,
    any: Option<Atom>,
}

/// What follows or precedes a word.
#[derive(Clone, Debug)]
struct Around {
    word: &'static str,
    after: Trie,
    before: Trie,
}

/// Patterns on their way into [`Texts`].
#[derive(Debug, Default)]
pub(super) struct TextsBuilder {
    patterns: Vec<(Pattern, Atom)>,
}

impl TextsBuilder {
    pub(super) fn add(&mut self, pattern: Pattern, atom: Atom) {
        self.patterns.push((pattern, atom));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    pub(super) fn build(self) -> Texts {
        let mut texts = Texts::default();
        let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
        let mut around = WORDS.map(|_| (Vec::new(), Vec::new()));
        for (pattern, atom) in self.patterns {
            match pattern {
                Pattern::Exact(text) => {
                    texts.exact.insert(text, atom);
                }
                Pattern::Prefix(text) => prefix.push((text.as_bytes().to_vec(), atom)),
                Pattern::Suffix(text) => suffix.push((reversed(&text), atom)),
                Pattern::NotEmpty => texts.not_empty = Some(atom),
                Pattern::Any => texts.any = Some(atom),
                Pattern::Contains(text) => {
                    let place = WORDS.iter().zip(&mut around).find_map(|(word, (after, before))| {
                        let rest = text.strip_prefix(word).map(|rest| (after, rest.as_bytes().to_vec()));
                        rest.or_else(|| text.strip_suffix(word).map(|rest| (before, reversed(rest))))
                    });
                    match place {
                        Some((list, text)) => list.push((text, atom)),
                        None => texts.inside.push((text, atom)),
                    }
                }
            }
        }
        let trie =
            |list: &[(Vec<u8>, Atom)]| Trie::new(list.iter().map(|(text, atom)| (text.as_slice(), *atom)));
        (texts.prefix, texts.suffix) = (trie(&prefix), trie(&suffix));
        for (word, (after, before)) in WORDS.into_iter().zip(&around) {
            if !after.is_empty() || !before.is_empty() {
                texts.around.push(Around { word, after: trie(after), before: trie(before) });
            }
        }
        texts
    }
}

impl Texts {
    /// Calls `found` for each pattern that `text` fits; it may be called more than once for the same.
    pub(super) fn matching(&self, text: &str, mut found: impl FnMut(Atom)) {
        if let Some(atom) = self.exact.get(text) {
            found(*atom);
        }
        self.prefix.prefixes(text.as_bytes(), &mut found);
        self.suffix.suffixes(text.as_bytes(), &mut found);
        for around in &self.around {
            around.matching(text, &mut found);
        }
        for (inside, atom) in &self.inside {
            if text.contains(&**inside) {
                found(*atom);
            }
        }
        if let Some(atom) = self.not_empty.filter(|_| !text.is_empty()) {
            found(atom);
        }
        if let Some(atom) = self.any {
            found(atom);
        }
    }

    /// The memory it takes, in bytes, about.
    pub(super) fn size(&self) -> usize {
        let exact: usize = self.exact.keys().map(|text| text.len() + size_of::<(Box<str>, Atom)>() + 1).sum();
        let around: usize = self.around.iter().map(|around| around.after.size() + around.before.size()).sum();
        exact + self.prefix.size() + self.suffix.size() + around
    }
}

impl Around {
    fn matching(&self, text: &str, mut found: impl FnMut(Atom)) {
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| rest.find(self.word)) {
            let (start, end) = (from + at, from + at + self.word.len());
            let bytes = text.as_bytes();
            self.after.prefixes(bytes.get(end..).unwrap_or_default(), &mut found);
            self.before.suffixes(bytes.get(..start).unwrap_or_default(), &mut found);
            // Words may share a slash.
            from = end - 1;
        }
    }
}

fn reversed(text: &str) -> Vec<u8> {
    text.bytes().rev().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pattern() -> impl Strategy<Value = Pattern> {
        let text =
            || prop_oneof!["[ab/*]{0,4}", "/ns/[ab/]{0,3}", "[ab/]{0,3}/sa/", "[ab]{0,2}/ns/", "(/ns){1,3}/"];
        prop_oneof![
            text().prop_map(|text| Pattern::Exact(text.into())),
            text().prop_map(|text| Pattern::Prefix(text.into())),
            text().prop_map(|text| Pattern::Suffix(text.into())),
            text().prop_map(|text| Pattern::Contains(text.into())),
            Just(Pattern::NotEmpty),
            Just(Pattern::Any),
        ]
    }

    proptest! {
        #[test]
        fn they_find_what_each_pattern_says_for_itself(
            patterns in proptest::collection::btree_set(pattern(), 0..30),
            asked in prop_oneof!["[ab/*]{0,6}", "[ab/]{0,3}(/ns){0,3}/[ab]{0,2}/sa/[ab]{0,2}"],
        ) {
            let patterns: Vec<Pattern> = patterns.into_iter().collect();
            let mut builder = TextsBuilder::default();
            for (pattern, atom) in patterns.iter().zip(0..) {
                builder.add(pattern.clone(), atom);
            }
            let mut found = BTreeSet::new();
            builder.build().matching(&asked, |atom| { found.insert(atom); });
            let expected = patterns.iter().zip(0..).filter(|(pattern, _)| pattern.matches(&asked));
            prop_assert_eq!(found, expected.map(|(_, atom)| atom).collect());
        }
    }
}
