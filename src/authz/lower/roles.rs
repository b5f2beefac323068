//! Pure: what do roles and bindings mean, as they are written? (the `rbac.istio.io/v1alpha1` of Istio up to 1.5)
//!
//! A binding is a policy that allows: for each access rule of its role, subjects are the `from`, and what the rule asks for is the
//! `to`. There are up to two rules for each: one for the subjects that are known on bare connections, one for those that only a
//! token proves, so that these do not take the others along where there is no HTTP. [`Rule::index`] counts them; the place of the
//! access rule is [`Conjunction::index`] of its `to`, that of the subject the one of its `from`.
//!
//! Where Istio's own evaluators disagreed, ours takes what grants less, or what the documents said:
//!
//! - A constraint that is not known is a custom one, and has to be met; it is never left out.
//! - Custom properties and constraints are texts under their key in the metadata of [`PROPERTIES`], with `*` at one end as anywhere.
//! - A rule without `methods` is for all methods, one without `paths` for all paths.
//! - `group` is in a claim `groups` that is a text or a list. `user` is exactly one, or `*`, which is everybody.
//! - What is asked of the destination is decided against the workload. A term that is not met is left without values, and never
//!   holds.

use std::fmt;

use crate::authz::lower::attribute::Attribute;
use crate::authz::lower::attribute::Context;
use crate::authz::lower::domains::Domains;
use crate::authz::lower::term::Terms;
use crate::authz::lower::token;
use crate::authz::model::Conjunction;
use crate::authz::model::Field;
use crate::authz::model::Rule;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::authz::model::atom::Atom;
use crate::authz::model::atom::Shape;
use crate::authz::model::pattern::Pattern;
use crate::authz::request::PROPERTIES;
use crate::authz::resource::authorization_policy::Condition;
use crate::authz::resource::binding;
use crate::authz::resource::binding::RoleOf;
use crate::authz::resource::binding::ServiceRoleBinding;
use crate::authz::resource::binding::Subject;
use crate::authz::resource::fault::Fault;
use crate::authz::resource::place::shown;
use crate::authz::resource::role;
use crate::authz::resource::role::AccessRule;
use crate::authz::resource::role::ServiceRole;
use crate::authz::workload::Workload;

/// Tells what of a role cannot be lowered.
pub(crate) fn check_role(role: &ServiceRole, faults: &mut Vec<Fault>) {
    check_rules(&role.rules, "spec.rules", faults);
}

/// Tells what of a binding cannot be lowered.
pub(crate) fn check_binding(binding: &ServiceRoleBinding, faults: &mut Vec<Fault>) {
    if let RoleOf::Inline(rules) = &binding.role {
        check_rules(rules, "spec.actions", faults);
    }
    let (domains, namespace) = (Domains::default(), "");
    let mut terms =
        Terms::new(Context { namespace, domains: &domains, lets_in: true }, binding::EFFECT, faults);
    for (index, one) in binding.subjects.iter().enumerate() {
        let _ = subject(one, index, &mut terms);
    }
}

fn check_rules(rules: &[AccessRule], path: &str, faults: &mut Vec<Fault>) {
    let domains = Domains::default();
    let mut terms =
        Terms::new(Context { namespace: "", domains: &domains, lets_in: true }, role::EFFECT, faults);
    for (index, rule) in rules.iter().enumerate() {
        let _ = operation(rule, index, None, &format_args!("{path}[{index}]"), &mut terms);
    }
}

/// Whether a subject can be read whole.
pub(crate) fn reads_subject(one: &Subject) -> bool {
    let (domains, mut untold) = (Domains::default(), Vec::new());
    let context = Context { namespace: "", domains: &domains, lets_in: true };
    subject(one, 0, &mut Terms::new(context, "", &mut untold)).is_some()
}

/// Whether an access rule can be read whole.
pub(crate) fn reads_rule(rule: &AccessRule) -> bool {
    let (domains, mut untold) = (Domains::default(), Vec::new());
    let context = Context { namespace: "", domains: &domains, lets_in: true };
    operation(rule, 0, None, &"", &mut Terms::new(context, "", &mut untold)).is_some()
}

/// The rules by which `rules` are granted to `subjects` at a workload.
pub(crate) fn rules(
    rules: &[AccessRule],
    subjects: &[Subject],
    workload: &Workload,
    domains: &Domains,
) -> Vec<Rule> {
    let mut untold = Vec::new();
    let context = Context { namespace: &workload.namespace, domains, lets_in: true };
    let mut terms = Terms::new(context, "", &mut untold);
    let from: Vec<Conjunction> =
        subjects.iter().enumerate().filter_map(|(index, one)| subject(one, index, &mut terms)).collect();
    let (by_token, by_peer): (Vec<_>, Vec<_>) =
        from.into_iter().partition(|one| one.terms.iter().any(Term::is_http_only));
    let mut lowered = Vec::new();
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| is_for(rule, workload)) {
        let Some(to) = operation(rule, index, Some(workload), &"", &mut terms) else { continue };
        for (half, from) in [&by_peer, &by_token].into_iter().enumerate().filter(|(_, from)| !from.is_empty())
        {
            lowered.push(Rule {
                index: 2 * index + half,
                from: from.clone(),
                to: vec![to.clone()],
                when: Conjunction::default(),
            });
        }
    }
    lowered
}

/// Whether a rule is for one of the workload's services.
fn is_for(rule: &AccessRule, workload: &Workload) -> bool {
    let is_one =
        |service: &str| service == "*" || workload.services.iter().any(|own| is_service(service, own));
    rule.services.iter().any(|service| is_one(service))
}

/// Whether a name, in short or in full or with a star at one end, means a service that is named in full.
pub(crate) fn is_service(name: &str, full: &str) -> bool {
    let short = full.split('.').next().unwrap_or(full);
    match Pattern::of(name) {
        // `reviews`, `reviews.shop`, `reviews.shop.svc.cluster.local`
        Pattern::Exact(name) => {
            full.strip_prefix(&*name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        }
        Pattern::Suffix(end) => full.ends_with(&*end) || short.ends_with(&*end),
        other => other.matches(full),
    }
}

/// What a subject asks of the caller; `None` if it cannot be read.
fn subject(subject: &Subject, index: usize, terms: &mut Terms<'_>) -> Option<Conjunction> {
    let before = terms.errors();
    let path = format_args!("spec.subjects[{index}]");
    let mut all = Vec::new();
    if let Some(user) = subject.user.as_deref().filter(|user| *user != "*") {
        let field = (Field::List("user"), false);
        all.extend(terms.term(&Attribute::User, field, &[user.to_owned()], &format_args!("{path}.user")));
    }
    if let Some(group) = &subject.group {
        let exact = |shape| Value::Is(Atom::claim(["groups"], shape, Pattern::Exact(group.as_str().into())));
        let values = vec![exact(Shape::Text), exact(Shape::List)];
        all.push(Term { field: Field::List("group"), negated: false, values });
    }
    for list in &subject.lists {
        let attribute = match list.name {
            "names" | "notNames" => Attribute::Principal,
            "groups" | "notGroups" => Attribute::Claim(vec!["groups".into()]),
            "namespaces" | "notNamespaces" => Attribute::Namespace,
            _ => Attribute::SourceIp,
        };
        let field = (Field::List(list.name), list.name.starts_with("not"));
        all.extend(terms.term(&attribute, field, &list.values, &format_args!("{path}.{}", list.name)));
    }
    for (at, (key, value)) in subject.properties.iter().enumerate() {
        let path = format_args!("{path}.properties[{}]", shown(key));
        let attribute = match property(key) {
            Ok(attribute) => attribute,
            Err(problem) => {
                terms.error(&path, problem);
                continue;
            }
        };
        warn_of_key(&attribute, key, &path, terms);
        let field =
            Field::Condition { list: "properties", index: at, key: key.as_str().into(), values: "values" };
        all.extend(terms.term(&attribute, (field, false), std::slice::from_ref(value), &path));
    }
    terms.imply_peer(&mut all, &path);
    (subject.is_sound && terms.errors() == before).then_some(Conjunction { index, terms: all })
}

/// What an access rule asks of the request; `None` if it cannot be read. Without a workload it is only looked through.
fn operation(
    rule: &AccessRule,
    index: usize,
    workload: Option<&Workload>,
    path: &dyn fmt::Display,
    terms: &mut Terms<'_>,
) -> Option<Conjunction> {
    let before = terms.errors();
    let mut all = Vec::new();
    for list in &rule.lists {
        let attribute = match list.name {
            "hosts" | "notHosts" => Attribute::Host,
            "paths" | "notPaths" => Attribute::PlainPath,
            "methods" | "notMethods" => Attribute::Method,
            _ => Attribute::DestinationPort,
        };
        let field = (Field::List(list.name), list.name.starts_with("not"));
        all.extend(terms.term(&attribute, field, &list.values, &format_args!("{path}.{}", list.name)));
    }
    for constraint in &rule.constraints {
        all.extend(constrained(
            constraint,
            workload,
            &format_args!("{path}.constraints[{}]", constraint.index),
            terms,
        ));
    }
    (rule.is_sound && terms.errors() == before).then_some(Conjunction { index, terms: all })
}

fn constrained(
    constraint: &Condition,
    workload: Option<&Workload>,
    path: &dyn fmt::Display,
    terms: &mut Terms<'_>,
) -> Option<Term> {
    let key = constraint.key.as_str();
    let values = constraint.lists.first().map(|list| list.values.as_slice()).unwrap_or_default();
    let field =
        Field::Condition { list: "constraints", index: constraint.index, key: key.into(), values: "values" };
    match OfDestination::of(key) {
        Ok(Some(asked)) => {
            let is_met = workload.is_none_or(|workload| asked.is_met(values, workload));
            return (!is_met).then(|| Term { field, negated: false, values: Vec::new() });
        }
        Ok(None) => {}
        Err(problem) => {
            terms.error(&format_args!("{path}.key"), problem);
            return None;
        }
    }
    let attribute = match is_known_constraint(key) {
        true => Attribute::of_key(key),
        false => Ok(Attribute::Property(key.into())),
    };
    match attribute {
        Ok(attribute) => {
            warn_of_key(&attribute, key, &format_args!("{path}.key"), terms);
            terms.term(&attribute, (field, false), values, &format_args!("{path}.values"))
        }
        Err(problem) => {
            terms.error(&format_args!("{path}.key"), problem);
            None
        }
    }
}

/// What a property of a subject is about.
fn property(key: &str) -> Result<Attribute, String> {
    match key {
        "source.user" => Ok(Attribute::Principal),
        _ if is_known_property(key) => Attribute::of_key(key),
        _ => Ok(Attribute::Property(key.into())),
    }
}

/// Whether a constraint's key is one that the conditions of policies have too.
pub(crate) fn is_known_constraint(key: &str) -> bool {
    matches!(key, "destination.ip" | "destination.port" | "connection.sni")
        || key.starts_with("request.headers")
        || key.starts_with("experimental.envoy.filters.")
}

/// Whether a property's key is one that the conditions of policies have too.
pub(crate) fn is_known_property(key: &str) -> bool {
    matches!(
        key,
        "source.ip"
            | "source.namespace"
            | "source.principal"
            | "request.auth.principal"
            | "request.auth.audiences"
            | "request.auth.presenter"
    ) || key.starts_with("request.headers")
        || key.starts_with("request.auth.claims")
}

/// A key that looks like one of Istio's and is none may be a slip of the pen.
fn warn_of_key(attribute: &Attribute, key: &str, path: &dyn fmt::Display, terms: &mut Terms<'_>) {
    let begins = ["source.", "request.", "destination.", "connection.", "experimental."];
    if matches!(attribute, Attribute::Property(_)) && begins.iter().any(|begin| key.starts_with(begin)) {
        let problem = format!(
            "`{}` is none of the keys that are known here, and so is a custom one, which a filter has to set under `{PROPERTIES}`",
            shown(key)
        );
        terms.warn(path, problem);
    }
}

/// What a constraint asks of the workload itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfDestination<'a> {
    Label(&'a str),
    Name,
    Namespace,
    User,
}

impl<'a> OfDestination<'a> {
    /// Of a constraint's key, if it is of this kind.
    pub(crate) fn of(key: &'a str) -> Result<Option<Self>, String> {
        Ok(match key {
            "destination.name" => Some(Self::Name),
            "destination.namespace" => Some(Self::Namespace),
            "destination.user" => Some(Self::User),
            _ => match key.strip_prefix("destination.labels") {
                None => None,
                Some(brackets) => match token::bracketed(brackets) {
                    Some(name) => Some(Self::Label(name)),
                    None => {
                        return Err(format!(
                            "key `{}`: name the label, as in `destination.labels[app]`",
                            shown(key)
                        ));
                    }
                },
            },
        })
    }

    fn is_met(self, values: &[String], workload: &Workload) -> bool {
        let any = |text: &str| values.iter().any(|value| Pattern::of(value).matches(text));
        match self {
            Self::Label(name) => workload.labels.get(name).is_some_and(|label| any(label)),
            Self::Name => any(&workload.name),
            Self::Namespace => any(&workload.namespace),
            // The account's name alone, or as the end of its SPIFFE ID.
            Self::User => {
                let account = &workload.service_account;
                let path = format!("ns/{}/sa/{account}", workload.namespace);
                any(account) || any(&path) || values.iter().any(|value| value.ends_with(&format!("/{path}")))
            }
        }
    }
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
