//! Pure: the rules of many policies, compiled so that a decision costs about the same whether there are ten or a hundred thousand.
//!
//! ```text
//! request ─► facts: which atoms hold? (a look-up for each part of the request)
//!              └─► access: rules with a rare atom that holds ─┐
//!              └─► broad: all others, 64 at a time ───────────┴─► rules: does it match? ─► the first of each lane
//! ```
//!
//! It decides exactly what [`crate::authz::decide::walk`] decides, the same rule too.

mod access;
mod blocks;
mod broad;
mod derived;
mod facts;
pub(super) mod hidden;
mod rules;
mod scratch;
mod templates;
mod texts;
mod trie;

use std::cell::RefCell;
use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::authz::decide::RuleRef;
use crate::authz::matcher::access::Access;
use crate::authz::matcher::broad::Broad;
use crate::authz::matcher::derived::Derived;
use crate::authz::matcher::derived::DerivedAtoms;
use crate::authz::matcher::facts::Facts;
use crate::authz::matcher::hidden::Hidden;
use crate::authz::matcher::rules::Group;
pub(super) use crate::authz::matcher::rules::LANES;
pub(super) use crate::authz::matcher::rules::Lane;
use crate::authz::matcher::rules::Rules;
use crate::authz::matcher::scratch::Scratch;
use crate::authz::matcher::trie::Atom as Number;
use crate::authz::matcher::trie::number;
use crate::authz::model::Action;
use crate::authz::model::Atom;
use crate::authz::model::Policy;
use crate::authz::model::Rule;
use crate::authz::model::Value;
use crate::authz::request::Request;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A compiled set of policies.
#[derive(Clone, Debug, Default)]
pub(super) struct Matcher {
    facts: Facts,
    derived: DerivedAtoms,
    rules: Rules,
    access: Access,
    broad: Broad,
}

impl Matcher {
    /// Compiles policies.
    pub(super) fn new<'a>(policies: impl Iterator<Item = &'a Policy> + Clone) -> Self {
        let mut compiler = Compiler::default();
        let mut ordered: Vec<(Lane, u32, u32, &Rule)> = Vec::new();
        for (policy, place) in policies.zip(0..) {
            let lane = lane(policy);
            ordered.extend(policy.rules.iter().zip(0..).map(|(rule, at)| (lane, place, at, rule)));
        }
        ordered.sort_by_key(|(lane, policy, rule, _)| (*lane, *policy, *rule));
        for (lane, policy, rule, definition) in &ordered {
            let groups = compiler.groups(definition);
            compiler.rules.push(RuleRef { policy: *policy, rule: *rule }, *lane, &groups);
        }
        let count = compiler.finish();
        let counts = access::counts(&compiler.rules, count);
        let (access, left) = Access::new(&compiler.rules, &counts);
        let broad = Broad::new(&compiler.rules, &left, &counts);
        Self {
            facts: Facts::new(compiler.atoms.iter().copied()),
            derived: DerivedAtoms::new(compiler.derived),
            rules: compiler.rules,
            access,
            broad,
        }
    }

    /// The first rule that matches of each lane, but for those of policies that are `hidden`. Whether there are policies that allow is
    /// not known here.
    pub(super) fn find(&self, request: &Request<'_>, hidden: &Hidden) -> [Option<RuleRef>; LANES] {
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => self.find_in(request, hidden, &mut scratch),
            Err(_) => self.find_in(request, hidden, &mut Scratch::default()),
        })
    }

    fn find_in(
        &self,
        request: &Request<'_>,
        hidden: &Hidden,
        scratch: &mut Scratch,
    ) -> [Option<RuleRef>; LANES] {
        self.facts.find(request, scratch);
        self.derived.find(&mut scratch.truths);
        let mut best = [u32::MAX; LANES];
        for atom in &scratch.truths {
            for rule in self.access.rules(*atom) {
                broad::look(&self.rules, hidden, *rule, &scratch.truths, &mut best);
            }
        }
        self.broad.find(&self.rules, hidden, scratch, &mut best);
        let mut first = [None; LANES];
        for (first, rule) in first.iter_mut().zip(best) {
            *first = self.rules.at(rule).map(|(at, _)| at);
        }
        first
    }

    /// The memory it takes, in bytes, about.
    pub(super) fn size(&self) -> usize {
        self.facts.size() + self.derived.size() + self.rules.size() + self.access.size() + self.broad.size()
    }
}

/// The lane of a policy's rules.
pub(super) fn lane(policy: &Policy) -> Lane {
    match (&policy.action, policy.dry_run) {
        (Action::Custom { .. }, _) => Lane::Custom,
        (Action::Audit, _) => Lane::Audit,
        (Action::Deny, false) => Lane::Deny,
        (Action::Allow, false) => Lane::Allow,
        (Action::Deny, true) => Lane::WouldDeny,
        (Action::Allow, true) => Lane::WouldAllow,
    }
}

/// Gives each atom a number, the same one to the same atom.
#[derive(Debug, Default)]
struct Compiler<'a> {
    numbers: HashMap<&'a Atom, Number, FixedState>,
    atoms: Vec<&'a Atom>,
    /// Values of several atoms; they are numbered behind all atoms, and until those are known, from the end.
    several: HashMap<Vec<(Number, bool)>, Number, FixedState>,
    derived: Vec<Derived>,
    rules: Rules,
}

impl<'a> Compiler<'a> {
    fn groups(&mut self, rule: &'a Rule) -> Vec<Group> {
        let parts = [rule.from.as_slice(), rule.to.as_slice(), std::slice::from_ref(&rule.when)];
        let mut groups = Vec::with_capacity(parts.len());
        for part in parts {
            // A conjunction that always holds makes its group one that need not be asked.
            if part.iter().any(|conjunction| conjunction.terms.is_empty()) {
                continue;
            }
            let conjunctions = part.iter().map(|conjunction| {
                conjunction.terms.iter().map(|term| (term.negated, self.values(&term.values))).collect()
            });
            groups.push(conjunctions.collect());
        }
        groups
    }

    fn values(&mut self, values: &'a [Value]) -> Vec<Number> {
        let mut numbers: Vec<_> = values
            .iter()
            .map(|value| match value {
                Value::Is(atom) => self.number(atom),
                Value::All(all) => {
                    let parts = all.iter().map(|(atom, expected)| (self.number(atom), *expected)).collect();
                    let next = Number::MAX - 1 - number(self.several.len());
                    *self.several.entry(parts).or_insert(next)
                }
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn number(&mut self, atom: &'a Atom) -> Number {
        let next = number(self.atoms.len());
        *self.numbers.entry(atom).or_insert_with(|| {
            self.atoms.push(atom);
            next
        })
    }

    /// Numbers the values of several atoms behind the atoms, and returns how many numbers there are.
    fn finish(&mut self) -> usize {
        let (first, count) = (number(self.atoms.len()), number(self.several.len()));
        // The last one that was given a number from the end has the lowest.
        let lowest = Number::MAX - count;
        self.rules.renumber(|atom| if atom >= lowest { atom - lowest + first } else { atom });
        let renumbered = |atom: Number| atom - lowest + first;
        self.derived = self
            .several
            .drain()
            .map(|(literals, atom)| Derived { atom: renumbered(atom), literals })
            .collect();
        (first + count) as usize
    }
}

#[cfg(test)]
#[path = "matcher_tests.rs"]
mod tests;
