//! Pure: values that are made of several atoms, as atoms of their own.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::authz::matcher::trie::Atom;

/// Whether `atom` is among `truths`, which are in ascending order.
pub(super) fn is_true(truths: &[Atom], atom: Atom) -> bool {
    match truths.len() {
        0..=16 => truths.contains(&atom),
        _ => truths.binary_search(&atom).is_ok(),
    }
}

/// An atom that holds if each of some others does, or does not.
#[derive(Clone, Debug)]
pub(super) struct Derived {
    pub(super) atom: Atom,
    pub(super) literals: Vec<(Atom, bool)>,
}

/// All of them; each is looked at only if its rarest part holds.
#[derive(Clone, Debug, Default)]
pub(super) struct DerivedAtoms {
    by_key: HashMap<Atom, Vec<Derived>, FixedState>,
    /// Those without a part that has to hold.
    always: Vec<Derived>,
}

impl DerivedAtoms {
    /// Takes them; their numbers are higher than those of their parts.
    pub(super) fn new(derived: Vec<Derived>) -> Self {
        let mut uses: HashMap<Atom, usize, FixedState> = HashMap::default();
        for (part, _) in derived.iter().flat_map(|one| &one.literals) {
            *uses.entry(*part).or_default() += 1;
        }
        let mut made = Self::default();
        for one in derived {
            let parts = one.literals.iter().filter(|(_, expected)| *expected).map(|(part, _)| *part);
            match parts.min_by_key(|part| uses.get(part)) {
                Some(key) => made.by_key.entry(key).or_default().push(one),
                None => made.always.push(one),
            }
        }
        made
    }

    /// Adds those that hold to `truths`.
    pub(super) fn find(&self, truths: &mut Vec<Atom>) {
        if self.by_key.is_empty() && self.always.is_empty() {
            return;
        }
        let known = truths.len();
        for at in 0..known {
            let Some(of_key) = truths.get(at).and_then(|atom| self.by_key.get(atom)) else { continue };
            Self::add(of_key, known, truths);
        }
        Self::add(&self.always, known, truths);
        if let Some(new) = truths.get_mut(known..) {
            new.sort_unstable();
        }
    }

    fn add(all: &[Derived], known: usize, truths: &mut Vec<Atom>) {
        for one in all {
            let parts = truths.get(..known).unwrap_or_default();
            if one.literals.iter().all(|(part, expected)| is_true(parts, *part) == *expected) {
                truths.push(one.atom);
            }
        }
    }

    /// The memory it takes, in bytes, about.
    pub(super) fn size(&self) -> usize {
        let of = |list: &Vec<Derived>| -> usize {
            list.iter().map(|one| size_of::<Derived>() + one.literals.len() * size_of::<(Atom, bool)>()).sum()
        };
        self.by_key.values().map(of).sum::<usize>() + of(&self.always)
    }
}
