//! Pure: what do policies mean, once they are read?
//!
//! One form for all of them, whatever they were written as:
//!
//! ```text
//! policy   action, dry run, rules: any of them
//! rule     from: any of these conjunctions   and   to: any of these   and   when: all of these terms
//! term     any of these values, or none of them (negated)
//! value    one atom, or several that hold together or do not
//! ```
//!
//! An absent `from` or `to` is one conjunction without terms, which is always so. A policy without rules matches nothing.
//!
//! [`Policy::first_match`] and the `holds` of the parts are the definition, by walking through all of it. The matcher, which does
//! not walk, and the configuration of Envoy have to agree with it.
//!
//! Where the peer is unknown (plain text), what is asked of it does not hold and what is excluded does, as in Envoy. In a rule that
//! allows, that would let in everybody who shows no certificate (ISTIO-SECURITY-2021-004); so such a rule gets a term
//! [`Atom::Peer`] when it is read.

pub mod atom;
pub mod cidr;
pub mod pattern;
pub mod template;

use std::fmt;

pub use crate::authz::model::atom::Atom;
pub use crate::authz::model::atom::Shape;
pub use crate::authz::model::cidr::Cidr;
pub use crate::authz::model::pattern::Pattern;
pub use crate::authz::model::template::Template;
use crate::authz::request::Request;

/// A policy as far as it concerns one workload: whom it applies to is decided already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which object it comes from.
    pub name: PolicyName,
    /// What happens to what it matches.
    pub action: Action,
    /// Whether it only says what would happen.
    pub dry_run: bool,
    /// Its rules; any of them.
    pub rules: Vec<Rule>,
}

/// The object that a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// What it is.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// The kinds of objects that policies come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `AuthorizationPolicy`.
    AuthorizationPolicy,
    /// `ServiceRoleBinding`, with the role it names.
    ServiceRoleBinding,
    /// `ClusterRbacConfig` or `RbacConfig`: it switches roles and bindings on.
    RbacConfig,
}

/// What a policy does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// What it matches is allowed; where there is one of these, everything else is denied.
    Allow,
    /// What it matches is denied.
    Deny,
    /// What it matches is written down.
    Audit,
    /// For what it matches somebody else is asked, who may deny it.
    Custom {
        /// The provider's name.
        provider: Box<str>,
    },
}

/// A rule: `from`, `to` and `when` all have to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its place among the rules of its object, which may have had others that could not be read.
    pub index: usize,
    /// Who: any of them.
    pub from: Vec<Conjunction>,
    /// What: any of them.
    pub to: Vec<Conjunction>,
    /// And all of these.
    pub when: Conjunction,
}

/// Terms that all have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conjunction {
    /// Its place in the list it comes from (`from[2]`, `to[0]`).
    pub index: usize,
    /// The terms; none is always so.
    pub terms: Vec<Term>,
}

/// One field of a policy, as `principals`, `notPaths`, or the values of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Which field.
    pub field: Field,
    /// Whether none of the values may hold, instead of any.
    pub negated: bool,
    /// The values; none holds never, or negated always.
    pub values: Vec<Value>,
}

/// A field as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A list of a source, operation, access rule or subject, by its name there: `principals`, `notPaths`.
    List(&'static str),
    /// A condition, constraint or property, by its place and key.
    Condition {
        /// Where it stands: `when`, `constraints`, `properties`.
        list: &'static str,
        /// Its place there.
        index: usize,
        /// Its key.
        key: Box<str>,
        /// `values` or `notValues`.
        values: &'static str,
    },
    /// Nothing that was written: what a rule asks for beyond its words, for this reason.
    Implied(&'static str),
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// It holds if this does.
    Is(Atom),
    /// It holds if each of these does (`true`) or does not (`false`).
    All(Vec<(Atom, bool)>),
}

impl Policy {
    /// The first rule that matches.
    pub fn first_match(&self, request: &Request<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.holds(request))
    }

    /// The policy as it is for bare connections (istio: `checkError`). What can only be asked of HTTP requests cannot be read there, and
    /// so, as always, it only ever reduces access: a rule that allows is dropped with it, of any other rule only the field is.
    #[must_use]
    pub fn for_connections(&self) -> Self {
        let rules = match self.action {
            Action::Allow => self.rules.iter().filter(|rule| !rule.is_http_only()).cloned().collect(),
            Action::Deny | Action::Audit | Action::Custom { .. } => {
                self.rules.iter().map(Rule::without_http).collect()
            }
        };
        Self { rules, ..self.clone() }
    }
}

impl Rule {
    /// Whether it matches.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        self.from.iter().any(|one| one.holds(request))
            && self.to.iter().any(|one| one.holds(request))
            && self.when.holds(request)
    }

    /// All its conjunctions.
    pub fn conjunctions(&self) -> impl Iterator<Item = &Conjunction> {
        self.from.iter().chain(&self.to).chain([&self.when])
    }

    fn is_http_only(&self) -> bool {
        self.conjunctions().flat_map(|one| &one.terms).any(Term::is_http_only)
    }

    fn without_http(&self) -> Self {
        let all = |list: &[Conjunction]| list.iter().map(Conjunction::without_http).collect();
        Self { index: self.index, from: all(&self.from), to: all(&self.to), when: self.when.without_http() }
    }
}

impl Conjunction {
    /// Whether all its terms hold.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        self.terms.iter().all(|term| term.holds(request))
    }

    fn without_http(&self) -> Self {
        let terms = self.terms.iter().filter(|term| !term.is_http_only()).cloned().collect();
        Self { index: self.index, terms }
    }
}

impl Term {
    /// Whether it holds.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        self.values.iter().any(|value| value.holds(request)) != self.negated
    }

    /// Whether it can only be asked of HTTP requests.
    pub fn is_http_only(&self) -> bool {
        self.values.iter().flat_map(Value::atoms).any(Atom::is_http_only)
    }

    /// Whether it asks who the peer is.
    pub fn is_of_peer(&self) -> bool {
        self.values.iter().flat_map(Value::atoms).any(Atom::is_of_peer)
    }
}

impl Value {
    /// Whether it holds.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Is(atom) => atom.holds(request),
            Self::All(all) => all.iter().all(|(atom, expected)| atom.holds(request) == *expected),
        }
    }

    /// The atoms it is made of.
    pub fn atoms(&self) -> impl Iterator<Item = &Atom> {
        let (one, all) = match self {
            Self::Is(atom) => (Some(atom), None),
            Self::All(all) => (None, Some(all)),
        };
        one.into_iter().chain(all.into_iter().flatten().map(|(atom, _)| atom))
    }
}

// === what people read ===

impl Kind {
    /// As the object says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::ServiceRoleBinding => "ServiceRoleBinding",
            Self::RbacConfig => "ClusterRbacConfig",
        }
    }
}

impl Action {
    /// As the object says it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
            Self::Custom { .. } => "CUSTOM",
        }
    }
}

impl fmt::Display for PolicyName {
    /// `namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(name) => f.write_str(name),
            Self::Condition { list, index, key, values } => write!(f, "{list}[{index}].{values} ({key})"),
            Self::Implied(why) => write!(f, "({why})"),
        }
    }
}
