//! Pure: what does one field with its values mean, and what is told if it cannot be read?

use std::fmt;

use crate::authz::lower::attribute::Attribute;
use crate::authz::lower::attribute::Context;
use crate::authz::model::Field;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::authz::model::atom::Atom;
use crate::authz::resource::fault::Fault;
use crate::authz::resource::fault::Severity;

/// Why a rule that allows asks for a peer where none is named.
const PEER_IMPLIED: &str = "a peer is excluded, so there has to be one";

/// Makes terms, and tells what is wrong on the way.
pub(crate) struct Terms<'a> {
    context: Context<'a>,
    effect: &'static str,
    faults: &'a mut Vec<Fault>,
    errors: usize,
}

impl<'a> Terms<'a> {
    /// What is wrong has this effect.
    pub(crate) fn new(context: Context<'a>, effect: &'static str, faults: &'a mut Vec<Fault>) -> Self {
        Self { context, effect, faults, errors: 0 }
    }

    /// How many errors were told.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// A field, if all of its values can be read: with some of them only, it would say something else.
    pub(crate) fn term(
        &mut self,
        attribute: &Attribute,
        (field, negated): (Field, bool),
        values: &[String],
        path: &dyn fmt::Display,
    ) -> Option<Term> {
        let mut read = Vec::with_capacity(values.len());
        let mut is_whole = true;
        let context = Context { lets_in: self.context.lets_in != negated, ..self.context };
        for (at, value) in values.iter().enumerate() {
            match attribute.values(value, context) {
                Ok(values) => read.extend(values),
                Err(problem) => {
                    self.error(&format_args!("{path}[{at}]"), problem);
                    is_whole = false;
                }
            }
            if let Some(doubt) = attribute.doubt(value) {
                self.warn(&format_args!("{path}[{at}]"), doubt);
            }
        }
        is_whole.then_some(Term { field, negated, values: read })
    }

    /// Asks for a peer where one is excluded: where no certificate is shown, nobody is (ISTIO-SECURITY-2021-004). For what allows.
    pub(crate) fn imply_peer(&mut self, terms: &mut Vec<Term>, path: &dyn fmt::Display) {
        let excludes = |term: &Term| term.negated && term.is_of_peer();
        let asks = |term: &Term| !term.negated && term.is_of_peer();
        if !terms.iter().any(excludes) || terms.iter().any(asks) {
            return;
        }
        let problem =
            "only excludes peers; callers who show no certificate are excluded too, unlike in Istio";
        self.warn(path, problem.to_owned());
        let values = vec![Value::Is(Atom::Peer)];
        terms.push(Term { field: Field::Implied(PEER_IMPLIED), negated: false, values });
    }

    /// Tells an error.
    pub(crate) fn error(&mut self, path: &dyn fmt::Display, problem: String) {
        self.errors += 1;
        let (path, effect) = (path.to_string(), self.effect.to_owned());
        self.faults.push(Fault { path, severity: Severity::Error, problem, effect });
    }

    /// Tells a warning.
    pub(crate) fn warn(&mut self, path: &dyn fmt::Display, problem: String) {
        let (path, effect) = (path.to_string(), String::new());
        self.faults.push(Fault { path, severity: Severity::Warning, problem, effect });
    }
}
