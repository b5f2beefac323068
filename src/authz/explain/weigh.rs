//! Pure: does a rule match, by which of its fields, and by how much does it miss?

use crate::authz::explain::explanation::Asked;
use crate::authz::explain::explanation::Outcome;
use crate::authz::explain::explanation::RuleName;
use crate::authz::explain::explanation::Weighed;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::part;
use crate::authz::explain::part::Part;
use crate::authz::explain::remark;
use crate::authz::explain::truth::Truth;
use crate::authz::explain::written;
use crate::authz::model::Conjunction;
use crate::authz::model::Policy;
use crate::authz::model::Rule;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::authz::request::Request;

/// Weighs policies against one request.
#[derive(Clone, Copy)]
pub struct Scales<'a> {
    /// What is known of it.
    pub facts: &'a Facts,
    /// The request that is made of these facts.
    pub request: &'a Request<'a>,
}

/// By how much something misses: fields that are missed, how far, and how many are not known. Less is nearer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance {
    missed: usize,
    far: usize,
    unknown: usize,
}

impl Distance {
    fn plus(self, other: Self) -> Self {
        Self {
            missed: self.missed + other.missed,
            far: self.far + other.far,
            unknown: self.unknown + other.unknown,
        }
    }
}

impl Scales<'_> {
    /// Whether `rule` matches.
    pub fn rule(&self, rule: &Rule) -> Truth {
        let any = |list: &[Conjunction]| Truth::any(list.iter().map(|one| self.conjunction(one)));
        any(&rule.from).and(any(&rule.to)).and(self.conjunction(&rule.when))
    }

    fn conjunction(&self, conjunction: &Conjunction) -> Truth {
        Truth::all(conjunction.terms.iter().map(|term| self.term(term)))
    }

    fn term(&self, term: &Term) -> Truth {
        Truth::any(term.values.iter().map(|value| self.value(value))).is(!term.negated)
    }

    fn value(&self, value: &Value) -> Truth {
        let atom = |atom| part::holds(atom, self.facts, self.request);
        match value {
            Value::Is(one) => atom(one),
            Value::All(all) => Truth::all(all.iter().map(|(one, expected)| atom(one).is(*expected))),
        }
    }

    /// By how much `rule` misses; none if nothing could ever meet it.
    pub fn distance(&self, rule: &Rule) -> Option<Distance> {
        let from = rule.from.iter().map(|one| self.away(one)).min()?;
        let to = rule.to.iter().map(|one| self.away(one)).min()?;
        Some(from.plus(to).plus(self.away(&rule.when)))
    }

    fn away(&self, conjunction: &Conjunction) -> Distance {
        conjunction.terms.iter().map(|term| self.term_away(term)).fold(Distance::default(), Distance::plus)
    }

    fn term_away(&self, term: &Term) -> Distance {
        match self.term(term) {
            Truth::Yes => Distance::default(),
            Truth::Unknown => Distance { unknown: 1, ..Distance::default() },
            Truth::No => Distance { missed: 1, far: self.far(term), ..Distance::default() },
        }
    }

    /// A value that was missed by a hair is near; another caller is further away than another method.
    fn far(&self, term: &Term) -> usize {
        if remark::on_miss(term, self.facts, self.request).is_some() {
            return 1;
        }
        match part_of(term) {
            Some(Part::Peer | Part::Claim(_)) => 5,
            Some(Part::Path | Part::Host) => 4,
            _ => 3,
        }
    }

    /// `rule` with its fields; of several sources and operations, the nearest.
    pub fn weigh(&self, policy: &Policy, rule: &Rule) -> Weighed {
        let nearest = |list: &'_ [Conjunction]| {
            let each = list.iter().enumerate();
            each.min_by_key(|(_, one)| self.away(one)).map(|(at, _)| at)
        };
        let chosen = |name, list| {
            let list: &[Conjunction] = list;
            nearest(list).and_then(|at| list.get(at)).map(|one| (name, one))
        };
        let all = [chosen("from", &rule.from), chosen("to", &rule.to), Some(("when", &rule.when))]
            .into_iter()
            .flatten();
        let fields = all.flat_map(|(list, one)| {
            one.terms.iter().map(move |term| {
                let path = written::path(&policy.name, rule.index, list, one.index, &term.field);
                self.asked(path, term)
            })
        });
        Weighed { rule: RuleName::of(policy, rule), fields: fields.collect() }
    }

    fn asked(&self, path: String, term: &Term) -> Asked {
        let outcome = match self.term(term) {
            Truth::Yes => Outcome::Met,
            Truth::No => Outcome::Missed,
            Truth::Unknown => Outcome::Unknown,
        };
        let part = part_of(term);
        let holds = term.values.iter().find(|value| self.value(value) == Truth::Yes);
        Asked {
            path,
            outcome,
            negated: term.negated,
            values: written::values(term),
            matched: holds.map(|value| written::value(&term.field, value)),
            was: part.as_ref().and_then(|part| part.said(self.facts)),
            part: part.map(|part| part.to_string()).unwrap_or_default(),
            remark: match outcome {
                Outcome::Missed => remark::on_miss(term, self.facts, self.request),
                Outcome::Met | Outcome::Unknown => None,
            },
        }
    }
}

/// The part that a field asks about. Where it asks about two claims of one token, the token is meant.
pub fn part_of(term: &Term) -> Option<Part> {
    let mut parts = term.values.iter().flat_map(Value::atoms).map(Part::of);
    let first = parts.next()?;
    match parts.all(|part| part == first) {
        true => Some(first),
        false if matches!(first, Part::Claim(_)) => Some(Part::Claim(Box::default())),
        false => Some(first),
    }
}
