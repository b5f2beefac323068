//! Pure: what does an `AuthorizationPolicy` mean, as it is written?
//!
//! What cannot be read only ever reduces access:
//!
//! ```text
//!              a part of a rule                 the list of rules          whom it is for                what it does
//! ALLOW        the rule is dropped              nothing is allowed         nothing is allowed, in all    everything is
//!                                                                          of its scope                  denied
//! DENY         the field is dropped, so that    everything is denied       all of its scope
//! AUDIT        the rule matches more            everything matches         all of its scope
//! CUSTOM
//! ```
//!
//! An `ALLOW` policy that lost its rules still is one, so what it is for is closed. A field that is not known counts as unreadable
//! wherever it could have made less of what was said.

pub(crate) mod attribute;
pub(crate) mod domains;
mod identity;
pub(crate) mod roles;
mod term;
mod token;

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::authz::lower::attribute::Attribute;
use crate::authz::lower::attribute::Context;
use crate::authz::lower::domains::Domains;
use crate::authz::lower::term::Terms;
use crate::authz::model::Action;
use crate::authz::model::Conjunction;
use crate::authz::model::Field;
use crate::authz::model::Kind;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::model::Term;
use crate::authz::resource::authorization_policy as written;
use crate::authz::resource::authorization_policy::AuthorizationPolicy;
use crate::authz::resource::authorization_policy::Effects;
use crate::authz::resource::fault::Fault;
use crate::authz::resource::id::ResourceId;
use crate::authz::resource::selection::Selection;
use crate::authz::workload::Mesh;

/// An `AuthorizationPolicy`, as it is written and as it is meant.
#[derive(Debug)]
pub struct Lowered {
    /// As it is written.
    pub written: AuthorizationPolicy,
    /// What it means where the mesh has one name only, the one that is written.
    pub policy: Arc<Policy>,
    /// What it means in the mesh it was asked for first.
    in_mesh: OnceLock<(Domains, Arc<Policy>)>,
}

impl PartialEq for Lowered {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written && self.policy == other.policy
    }
}

impl Lowered {
    /// Lowers a policy and tells what of it cannot be.
    pub(crate) fn new(id: &ResourceId, written: AuthorizationPolicy, faults: &mut Vec<Fault>) -> Self {
        let policy = Arc::new(Lowering::new(id, &written, &Domains::default(), faults).policy(id));
        Self { written, policy, in_mesh: OnceLock::new() }
    }

    /// What it means in a mesh, whose trust domain may have several names.
    pub(crate) fn in_mesh(&self, id: &ResourceId, mesh: &Mesh) -> Arc<Policy> {
        if !self.names_trust_domains() {
            return Arc::clone(&self.policy);
        }
        let domains = Domains::of(mesh);
        let lowered = |domains: &Domains| {
            Arc::new(Lowering::new(id, &self.written, domains, &mut Vec::new()).policy(id))
        };
        let (of, policy) = self.in_mesh.get_or_init(|| (domains.clone(), lowered(&domains)));
        if *of == domains { Arc::clone(policy) } else { lowered(&domains) }
    }

    fn names_trust_domains(&self) -> bool {
        let in_clauses = |rule: &written::Rule| {
            let mut lists = rule.from.iter().flat_map(|clause| &clause.lists);
            lists.any(|list| {
                matches!(list.name, "principals" | "notPrincipals" | "trustDomains" | "notTrustDomains")
            })
        };
        let in_conditions = |rule: &written::Rule| {
            let mut keys = rule.when.iter().map(|condition| condition.key.as_str());
            keys.any(|key| matches!(key, "source.principal" | "source.trustDomain"))
        };
        self.written.rules.iter().flatten().any(|rule| in_clauses(rule) || in_conditions(rule))
    }
}

struct Lowering<'a> {
    written: &'a AuthorizationPolicy,
    terms: Terms<'a>,
}

impl<'a> Lowering<'a> {
    fn new(
        id: &'a ResourceId,
        written: &'a AuthorizationPolicy,
        domains: &'a Domains,
        faults: &'a mut Vec<Fault>,
    ) -> Self {
        let lets_in = written.action == Some(Action::Allow);
        let context = Context { namespace: &id.namespace, domains, lets_in };
        let effects = Effects::of(written.action.as_ref());
        Self { written, terms: Terms::new(context, effects.part, faults) }
    }

    fn policy(mut self, id: &ResourceId) -> Policy {
        let name = PolicyName {
            kind: Kind::AuthorizationPolicy,
            namespace: id.namespace.as_str().into(),
            name: id.name.as_str().into(),
        };
        let dry_run = self.written.dry_run == Some(true);
        let written = self.written;
        // Each is lowered, so that everything that is wrong is told at once.
        let rules: Option<Vec<Rule>> = written.rules.as_ref().map(|rules| {
            rules.iter().enumerate().filter_map(|(index, rule)| self.rule(index, rule)).collect()
        });
        let is_sound =
            written.is_sound && written.dry_run.is_some() && written.selection != Selection::Unreadable;
        let (action, dry_run, rules) = match (written.action.clone(), rules) {
            (None, _) => (Action::Deny, false, vec![everything()]),
            (Some(Action::Allow), Some(rules)) if is_sound => (Action::Allow, dry_run, rules),
            (Some(Action::Allow), _) => (Action::Allow, dry_run, Vec::new()),
            (Some(action), None) => (action, dry_run, vec![everything()]),
            // The rules may stand under the name that is not known.
            (Some(action), Some(rules)) if rules.is_empty() && !written.is_sound => {
                (action, dry_run, vec![everything()])
            }
            (Some(action), Some(rules)) => (action, dry_run, rules),
        };
        Policy { name, action, dry_run, rules }
    }

    fn allows(&self) -> bool {
        self.written.action == Some(Action::Allow)
    }

    fn rule(&mut self, index: usize, written: &written::Rule) -> Option<Rule> {
        let before = self.terms.errors();
        let path = format_args!("spec.rules[{index}]");
        let from = self.clauses(&written.from, &format_args!("{path}.from"), "source");
        let to = self.clauses(&written.to, &format_args!("{path}.to"), "operation");
        let when = self.conditions(&written.when, &format_args!("{path}.when"));
        let is_sound = written.is_sound && self.terms.errors() == before;
        let rule = Rule { index, from, to, when };
        self.warn_of_connections(&path, &rule);
        (is_sound || !self.allows()).then_some(rule)
    }

    fn clauses(
        &mut self,
        written: &[written::Clause],
        path: &dyn fmt::Display,
        inner: &str,
    ) -> Vec<Conjunction> {
        if written.is_empty() {
            return vec![Conjunction::default()];
        }
        let mut lowered = Vec::with_capacity(written.len());
        for (index, clause) in written.iter().enumerate() {
            let path = format_args!("{path}[{index}].{inner}");
            let mut terms = Vec::with_capacity(clause.lists.len());
            for list in &clause.lists {
                let Some((attribute, negated)) = Attribute::of_list(list.name) else { continue };
                let path = format_args!("{path}.{}", list.name);
                terms.extend(self.term(&attribute, (Field::List(list.name), negated), &list.values, &path));
            }
            if self.allows() {
                self.terms.imply_peer(&mut terms, &path);
            }
            lowered.push(Conjunction { index, terms });
        }
        lowered
    }

    fn conditions(&mut self, written: &[written::Condition], path: &dyn fmt::Display) -> Conjunction {
        let mut terms = Vec::with_capacity(written.len());
        for condition in written {
            let path = format_args!("{path}[{}]", condition.index);
            let attribute = match Attribute::of_key(&condition.key) {
                Ok(attribute) => attribute,
                Err(problem) => {
                    self.terms.error(&format_args!("{path}.key"), problem);
                    continue;
                }
            };
            for list in &condition.lists {
                let field = Field::Condition {
                    list: "when",
                    index: condition.index,
                    key: condition.key.as_str().into(),
                    values: list.name,
                };
                let negated = list.name == "notValues";
                let path = format_args!("{path}.{}", list.name);
                terms.extend(self.term(&attribute, (field, negated), &list.values, &path));
            }
        }
        if self.allows() {
            self.terms.imply_peer(&mut terms, path);
        }
        Conjunction { index: 0, terms }
    }

    fn term(
        &mut self,
        attribute: &Attribute,
        field: (Field, bool),
        values: &[String],
        path: &dyn fmt::Display,
    ) -> Option<Term> {
        if matches!(self.written.action, Some(Action::Custom { .. })) && attribute.is_identity() {
            let problem = "a policy of action `CUSTOM` cannot ask who the caller is: others are asked before that is known";
            self.terms.error(path, problem.to_owned());
            return None;
        }
        self.terms.term(attribute, field, values, path)
    }

    fn warn_of_connections(&mut self, path: &dyn fmt::Display, rule: &Rule) {
        let mut terms = rule.conjunctions().flat_map(|one| &one.terms).peekable();
        let is_of_http = terms.peek().is_some() && terms.all(Term::is_http_only);
        if self.written.action == Some(Action::Deny) && is_of_http {
            let problem = "only asks of HTTP requests; on ports that are not HTTP it denies everything. Name `ports` if that is not meant";
            self.terms.warn(path, problem.to_owned());
        }
    }
}

/// A rule that matches everything.
fn everything() -> Rule {
    let any = || vec![Conjunction::default()];
    Rule { index: 0, from: any(), to: any(), when: Conjunction::default() }
}

#[cfg(test)]
#[path = "lower_tests.rs"]
mod tests;
