//! Pure: which is the first of many rules to match, none of which has anything rare to know it by?
//!
//! All of them are looked at, sixty-four at a time: a bit for each clause, and for each atom the bits of those that ask for it. A
//! clause is a rule with one conjunction of each of its groups; the first of a clause's terms stands in the first slot, and so on.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::FixedState;

use crate::authz::matcher::access::frequency;
use crate::authz::matcher::hidden::Hidden;
use crate::authz::matcher::rules::LANES;
use crate::authz::matcher::rules::Rules;
use crate::authz::matcher::rules::TermAt;
use crate::authz::matcher::scratch::Scratch;
use crate::authz::matcher::trie::Atom;
use crate::authz::matcher::trie::number;

/// A rule that would come to more clauses than this is looked at for itself.
const MOST_CLAUSES: usize = 32;
/// No clause: what fills up the last bits of a lane.
const NONE: u32 = u32::MAX;

/// Rules as bits.
#[derive(Clone, Debug, Default)]
pub(super) struct Broad {
    /// The rule of each clause. Each lane begins with a word of its own.
    clauses: Vec<u32>,
    lanes: [Range<usize>; LANES],
    /// Which bits are clauses.
    all: Vec<u64>,
    slots: Vec<Slot>,
    /// Which clauses cannot match if an atom holds.
    excluded: HashMap<Atom, Bits, FixedState>,
    /// Rules with too many clauses.
    wide: Vec<u32>,
}

/// One term of each clause.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// The clauses that have no term here.
    free: Vec<u64>,
    is_any_free: bool,
    /// The clauses whose term asks for an atom.
    asked: HashMap<Atom, Bits, FixedState>,
}

/// Some of the clauses.
#[derive(Clone, Debug)]
enum Bits {
    Few(Vec<u32>),
    Many(Vec<u64>),
}

impl Broad {
    /// Takes those of `rules` that are in `chosen`, in ascending order; `counts` says how often each atom is asked for.
    pub(super) fn new(rules: &Rules, chosen: &[u32], counts: &[u32]) -> Self {
        let mut broad = Self::default();
        let mut slots: Vec<HashMap<Atom, Vec<u32>, FixedState>> = Vec::new();
        let mut taken: Vec<Vec<u32>> = Vec::new();
        let mut excluded: HashMap<Atom, Vec<u32>, FixedState> = HashMap::default();
        let mut lane_now = None;
        for rule in chosen {
            let Some((_, lane)) = rules.at(*rule) else { continue };
            let Some(clauses) = clauses(rules, *rule) else {
                broad.wide.push(*rule);
                continue;
            };
            if lane_now != Some(lane) {
                broad.end_lane(lane_now.map(|lane| lane as usize), lane as usize);
                lane_now = Some(lane);
            }
            for terms in clauses {
                let clause = number(broad.clauses.len());
                broad.clauses.push(*rule);
                let (negated, mut asked): (Vec<_>, Vec<_>) = terms.into_iter().partition(|term| term.negated);
                for atom in negated.iter().flat_map(|term| term.values) {
                    excluded.entry(*atom).or_default().push(clause);
                }
                asked.sort_by_key(|term| frequency(term, counts));
                for (place, term) in asked.iter().enumerate() {
                    if slots.len() == place {
                        slots.push(HashMap::default());
                        taken.push(Vec::new());
                    }
                    if let (Some(slot), Some(taken)) = (slots.get_mut(place), taken.get_mut(place)) {
                        taken.push(clause);
                        for atom in term.values {
                            slot.entry(*atom).or_default().push(clause);
                        }
                    }
                }
            }
        }
        broad.end_lane(lane_now.map(|lane| lane as usize), LANES);
        let words = broad.clauses.len() / 64;
        broad.all =
            filled(words, (0..).zip(&broad.clauses).filter(|(_, rule)| **rule != NONE).map(|(at, _)| at));
        broad.excluded = excluded.into_iter().map(|(atom, list)| (atom, Bits::of(list, words))).collect();
        for (asked, taken) in slots.into_iter().zip(taken) {
            let mut free = broad.all.clone();
            for (free, taken) in free.iter_mut().zip(filled(words, taken.into_iter())) {
                *free &= !taken;
            }
            let is_any_free = free.iter().any(|word| *word != 0);
            let asked = asked.into_iter().map(|(atom, list)| (atom, Bits::of(list, words))).collect();
            broad.slots.push(Slot { free, is_any_free, asked });
        }
        broad
    }

    /// Ends a lane at the end of a word, and lets another begin there.
    fn end_lane(&mut self, ended: Option<usize>, begun: usize) {
        while !self.clauses.len().is_multiple_of(64) {
            self.clauses.push(NONE);
        }
        let word = self.clauses.len() / 64;
        if let Some(lane) = ended.and_then(|lane| self.lanes.get_mut(lane)) {
            lane.end = word;
        }
        if let Some(lane) = self.lanes.get_mut(begun) {
            *lane = word..word;
        }
    }

    /// Lowers the entry of each lane in `best` to the first of its rules that matches, if that is lower.
    pub(super) fn find(
        &self,
        rules: &Rules,
        hidden: &Hidden,
        scratch: &mut Scratch,
        best: &mut [u32; LANES],
    ) {
        for rule in &self.wide {
            look(rules, hidden, *rule, &scratch.truths, best);
        }
        if self.clauses.is_empty() || self.find_few(rules, hidden, scratch, best) {
            return;
        }
        let Scratch { truths, alive, satisfied, .. } = scratch;
        alive.clone_from(&self.all);
        for slot in &self.slots {
            slot.keep(truths, alive, satisfied);
        }
        if !self.excluded.is_empty() {
            for bits in truths.iter().filter_map(|atom| self.excluded.get(atom)) {
                bits.take_from(alive);
            }
        }
        for (lane, best) in self.lanes.iter().zip(best) {
            let words = alive.get(lane.clone()).unwrap_or_default();
            let matching = (lane.start..).zip(words).flat_map(|(place, word)| bits(place, *word));
            let rules_of = matching.filter_map(|clause| self.clauses.get(clause));
            let first = rules_of.copied().find(|rule| !rules.is_hidden(*rule, hidden));
            *best = first.unwrap_or(NONE).min(*best);
        }
    }

    /// The same where all clauses have a first term and those that it leaves are few: they are looked at for themselves.
    fn find_few(
        &self,
        rules: &Rules,
        hidden: &Hidden,
        scratch: &mut Scratch,
        best: &mut [u32; LANES],
    ) -> bool {
        let Some(slot) = self.slots.first().filter(|slot| !slot.is_any_free) else { return false };
        let most = 8 + self.all.len() / 4;
        scratch.candidates.clear();
        for bits in scratch.truths.iter().filter_map(|atom| slot.asked.get(atom)) {
            match bits {
                Bits::Few(list) if list.len() + scratch.candidates.len() <= most => {
                    scratch.candidates.extend_from_slice(list);
                }
                _ => return false,
            }
        }
        for clause in &scratch.candidates {
            let rule = self.clauses.get(*clause as usize).copied().unwrap_or(NONE);
            look(rules, hidden, rule, &scratch.truths, best);
        }
        true
    }

    /// The memory it takes, in bytes, about.
    pub(super) fn size(&self) -> usize {
        let bits = |all: &HashMap<Atom, Bits, FixedState>| -> usize {
            all.values().map(|bits| size_of::<(Atom, Bits)>() + 1 + bits.size()).sum()
        };
        let slots: usize = self.slots.iter().map(|slot| slot.free.len() * 8 + bits(&slot.asked)).sum();
        self.clauses.len() * 4 + self.all.len() * 8 + slots + bits(&self.excluded) + self.wide.len() * 4
    }
}

/// The places of the bits that are set in the word at `place`.
fn bits(place: usize, mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            place * 64 + bit
        })
    })
}

/// Lowers the entry of a rule's lane to it, if it matches, is lower and not hidden.
pub(super) fn look(rules: &Rules, hidden: &Hidden, rule: u32, truths: &[Atom], best: &mut [u32; LANES]) {
    let Some((_, lane)) = rules.at(rule) else { return };
    if let Some(best) = best.get_mut(lane as usize)
        && rule < *best
        && rules.matches(rule, truths)
        && !rules.is_hidden(rule, hidden)
    {
        *best = rule;
    }
}

/// The clauses of a rule, unless they are too many.
fn clauses(rules: &Rules, rule: u32) -> Option<Vec<Vec<TermAt<'_>>>> {
    let mut made: Vec<Vec<TermAt<'_>>> = vec![Vec::new()];
    for group in rules.groups(rule) {
        let mut next = Vec::new();
        for terms in group {
            for clause in &made {
                if next.len() == MOST_CLAUSES {
                    return None;
                }
                next.push(clause.iter().copied().chain(terms.clone()).collect());
            }
        }
        made = next;
    }
    Some(made)
}

impl Slot {
    /// Leaves of `alive` those clauses that are free here, or that have an atom here which holds.
    fn keep(&self, truths: &[Atom], alive: &mut [u64], satisfied: &mut Vec<u64>) {
        satisfied.clone_from(&self.free);
        for bits in truths.iter().filter_map(|atom| self.asked.get(atom)) {
            bits.add_to(satisfied);
        }
        for (alive, satisfied) in alive.iter_mut().zip(satisfied) {
            *alive &= *satisfied;
        }
    }
}

impl Bits {
    /// A list, or a bit for each clause, whichever is smaller.
    fn of(mut list: Vec<u32>, words: usize) -> Self {
        list.dedup();
        match list.len() < words * 2 {
            true => Self::Few(list),
            false => Self::Many(filled(words, list.into_iter())),
        }
    }

    fn add_to(&self, words: &mut [u64]) {
        match self {
            Self::Few(list) => {
                for clause in list {
                    if let Some(word) = words.get_mut(*clause as usize / 64) {
                        *word |= 1 << (clause % 64);
                    }
                }
            }
            Self::Many(bits) => words.iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits),
        }
    }

    fn take_from(&self, words: &mut [u64]) {
        match self {
            Self::Few(list) => {
                for clause in list {
                    if let Some(word) = words.get_mut(*clause as usize / 64) {
                        *word &= !(1 << (clause % 64));
                    }
                }
            }
            Self::Many(bits) => words.iter_mut().zip(bits).for_each(|(word, bits)| *word &= !bits),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Few(list) => list.len() * 4,
            Self::Many(bits) => bits.len() * 8,
        }
    }
}

/// Words with these bits set.
fn filled(words: usize, bits: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut made = vec![0_u64; words];
    for bit in bits {
        if let Some(word) = made.get_mut(bit as usize / 64) {
            *word |= 1 << (bit % 64);
        }
    }
    made
}
