//! Pure: does one rule match, given the atoms that hold?

use std::ops::Range;

use crate::authz::decide::RuleRef;
use crate::authz::matcher::derived::is_true;
use crate::authz::matcher::hidden::Hidden;
use crate::authz::matcher::trie::Atom;
use crate::authz::matcher::trie::number;

/// What a rule's policy does with what it matches. Rules are numbered by lane first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::authz) enum Lane {
    Custom,
    Audit,
    Deny,
    Allow,
    WouldDeny,
    WouldAllow,
}

/// How many lanes there are.
pub(in crate::authz) const LANES: usize = 6;

/// Conjunctions of terms on their way in, any of which has to hold; a term is whether it is negated, and its values in ascending
/// order.
pub(super) type Group = Vec<Vec<(bool, Vec<Atom>)>>;

/// Rules in flat arrays, ordered by lane, policy and place.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// The groups of each rule: any of their conjunctions.
    groups: Vec<Span>,
    /// All of their terms.
    conjunctions: Vec<Span>,
    /// Any of their values.
    terms: Vec<Term>,
    values: Vec<Atom>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    at: RuleRef,
    lane: Lane,
    groups: Span,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    values: Span,
    negated: bool,
}

/// A term for those who choose by it: its values in ascending order.
#[derive(Clone, Copy, Debug)]
pub(super) struct TermAt<'a> {
    pub(super) values: &'a [Atom],
    pub(super) negated: bool,
}

impl Span {
    fn of(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    fn since(start: usize, end: usize) -> Self {
        Self { start: number(start), end: number(end) }
    }
}

impl Rules {
    /// Adds a rule, all of whose groups have to hold.
    pub(super) fn push(&mut self, at: RuleRef, lane: Lane, groups: &[Group]) {
        let first_group = self.groups.len();
        for group in groups {
            let first_conjunction = self.conjunctions.len();
            for conjunction in group {
                let first_term = self.terms.len();
                for (negated, values) in conjunction {
                    let first_value = self.values.len();
                    self.values.extend_from_slice(values);
                    let values = Span::since(first_value, self.values.len());
                    self.terms.push(Term { values, negated: *negated });
                }
                self.conjunctions.push(Span::since(first_term, self.terms.len()));
            }
            self.groups.push(Span::since(first_conjunction, self.conjunctions.len()));
        }
        let groups = Span::since(first_group, self.groups.len());
        self.rules.push(Rule { at, lane, groups });
    }

    /// Gives values other numbers, in the same order.
    pub(super) fn renumber(&mut self, number: impl Fn(Atom) -> Atom) {
        self.values.iter_mut().for_each(|atom| *atom = number(*atom));
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.rules.len()
    }

    /// Where a rule comes from.
    pub(super) fn at(&self, rule: u32) -> Option<(RuleRef, Lane)> {
        self.rules.get(rule as usize).map(|rule| (rule.at, rule.lane))
    }

    /// The groups of a rule, as conjunctions of terms.
    pub(super) fn groups(
        &self,
        rule: u32,
    ) -> impl Iterator<Item = impl Iterator<Item = impl Iterator<Item = TermAt<'_>> + Clone> + Clone> + Clone
    {
        let groups = self.rules.get(rule as usize).map(|rule| rule.groups.of()).unwrap_or_default();
        self.groups.get(groups).unwrap_or_default().iter().map(|group| {
            self.conjunctions.get(group.of()).unwrap_or_default().iter().map(|conjunction| {
                self.terms.get(conjunction.of()).unwrap_or_default().iter().map(|term| TermAt {
                    values: self.values.get(term.values.of()).unwrap_or_default(),
                    negated: term.negated,
                })
            })
        })
    }

    /// Whether a rule matches where `truths` hold.
    pub(super) fn matches(&self, rule: u32, truths: &[Atom]) -> bool {
        self.groups(rule).all(|mut group| group.any(|mut terms| terms.all(|term| term.holds(truths))))
    }

    /// Whether the policy of a rule does not count.
    pub(super) fn is_hidden(&self, rule: u32, hidden: &Hidden) -> bool {
        !hidden.is_empty() && self.rules.get(rule as usize).is_none_or(|rule| hidden.contains(rule.at.policy))
    }

    /// The memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        self.rules.len() * size_of::<Rule>()
            + (self.groups.len() + self.conjunctions.len()) * size_of::<Span>()
            + self.terms.len() * size_of::<Term>()
            + self.values.len() * size_of::<Atom>()
    }
}

impl TermAt<'_> {
    fn holds(&self, truths: &[Atom]) -> bool {
        let any = match self.values.len() <= truths.len() {
            true => self.values.iter().any(|atom| is_true(truths, *atom)),
            false => truths.iter().any(|atom| self.values.binary_search(atom).is_ok()),
        };
        any != self.negated
    }
}
