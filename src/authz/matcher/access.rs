//! Pure: which rules have to be looked at, given the atoms that hold?
//!
//! A rule can only match if one of its groups does, so it is enough to look at it when something of that group holds. The group is
//! chosen whose atoms are the rarest among all rules; a rule none of whose groups has rare atoms is left to [`super::broad`].

use crate::authz::matcher::rules::Rules;
use crate::authz::matcher::rules::TermAt;
use crate::authz::matcher::trie::Atom;
use crate::authz::matcher::trie::number;

/// An atom that more rules ask for than this is not rare: looking at so many rules one by one costs as much as looking at all of them
/// a bit each.
const RARE: u32 = 16;

/// For each atom, the rules that are looked at when it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    /// Where the rules of each atom begin; those of the next one end them.
    starts: Vec<u32>,
    rules: Vec<u32>,
}

impl Access {
    /// Chooses for each of `rules`, given how often each atom is asked for; and which rules are left.
    pub(super) fn new(rules: &Rules, counts: &[u32]) -> (Self, Vec<u32>) {
        let (mut chosen, mut left) = (Vec::new(), Vec::new());
        for rule in 0..number(rules.count()) {
            let groups = rules.groups(rule);
            let best = groups
                .filter_map(|group| {
                    let terms: Option<Vec<_>> = group.map(|terms| rarest(terms, counts)).collect();
                    let terms = terms?;
                    let cost = terms.iter().map(|(cost, _)| *cost).max().unwrap_or(0);
                    Some((cost, terms))
                })
                .min_by_key(|(cost, _)| *cost);
            match best {
                Some((cost, terms)) if cost <= RARE => {
                    let keys = terms.iter().flat_map(|(_, term)| term.values);
                    chosen.extend(keys.map(|atom| (*atom, rule)));
                }
                _ => left.push(rule),
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        let mut starts = vec![0; counts.len() + 1];
        for (atom, _) in &chosen {
            if let Some(start) = starts.get_mut(*atom as usize + 1) {
                *start += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        (Self { starts, rules: chosen.into_iter().map(|(_, rule)| rule).collect() }, left)
    }

    /// The rules to look at when `atom` holds.
    pub(super) fn rules(&self, atom: Atom) -> &[u32] {
        let at = atom as usize;
        let (Some(start), Some(end)) = (self.starts.get(at), self.starts.get(at + 1)) else { return &[] };
        self.rules.get(*start as usize..*end as usize).unwrap_or_default()
    }

    /// The memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        (self.starts.len() + self.rules.len()) * size_of::<u32>()
    }
}

/// In how many rules' terms each atom is asked for.
pub(super) fn counts(rules: &Rules, atoms: usize) -> Vec<u32> {
    let mut counts = vec![0; atoms];
    for rule in 0..number(rules.count()) {
        for term in rules.groups(rule).flatten().flatten().filter(|term| !term.negated) {
            for atom in term.values {
                if let Some(count) = counts.get_mut(*atom as usize) {
                    *count += 1;
                }
            }
        }
    }
    counts
}

/// The term whose most frequent atom is the rarest, and how frequent that is. A conjunction without anything that has to hold has none.
fn rarest<'a>(terms: impl Iterator<Item = TermAt<'a>>, counts: &[u32]) -> Option<(u32, TermAt<'a>)> {
    terms
        .filter(|term| !term.negated)
        .map(|term| (frequency(&term, counts), term))
        .min_by_key(|(cost, _)| *cost)
}

/// How often the most frequent of a term's atoms is asked for.
pub(super) fn frequency(term: &TermAt<'_>, counts: &[u32]) -> u32 {
    term.values.iter().filter_map(|atom| counts.get(*atom as usize)).copied().max().unwrap_or(0)
}
