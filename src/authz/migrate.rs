//! Pure: how are roles and bindings written as `AuthorizationPolicy` objects that decide alike?
//!
//! A binding becomes a policy for each group of workloads that its rules are for; the configuration becomes policies that allow
//! nothing, so that the rest is denied. A custom property is asked for by the key `experimental.envoy.filters.http.rbac[…]`.
//!
//! Policies select workloads by labels where roles name services, so the services have to be given, with their selectors. What
//! cannot be said in the new form is left out and listed. That denies more, but for two cases, which are listed first of all to be looked
//! at: a service that is switched on by name and is not among those given stays open, and where policies had switched roles off, what
//! is migrated counts beside them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::authz::lower::roles;
use crate::authz::lower::roles::OfDestination;
use crate::authz::model::Action;
use crate::authz::model::Pattern;
use crate::authz::model::Template;
use crate::authz::old_objects::Bound;
use crate::authz::old_objects::OldObjects;
use crate::authz::request::PROPERTIES;
use crate::authz::resource::AccessRule;
use crate::authz::resource::RbacMode;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::ResourceKind;
use crate::authz::resource::Selector;
use crate::authz::resource::Severity;
use crate::authz::resource::Spec;
use crate::authz::resource::Subject;
use crate::authz::workload::Mesh;

/// The most rules of one policy.
const MAX_RULES: usize = 512;
/// The most groups of workloads that one access rule is written out for.
const MAX_PLACES: usize = 1000;
/// The name of the policies that close what the configuration closed.
const CLOSING: &str = "rbac-default";

/// A service, by which roles name workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name in full: `reviews.shop.svc.cluster.local`.
    pub full_name: String,
    /// The labels of the pods behind it.
    pub selector: Selector,
}

/// What has become of roles and bindings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Migration {
    /// The policies, as Kubernetes objects.
    pub policies: Vec<Value>,
    /// What they do not say.
    pub unsaid: Vec<Unsaid>,
}

/// Something that cannot be said in the new form, or ought to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaid {
    /// The object that said it.
    pub by: ResourceId,
    /// Where: `spec.rules[1]`.
    pub path: String,
    /// Why it is left out, and what to do.
    pub why: String,
}

impl Service {
    /// Reads a `Service` of Kubernetes; `None` if it is none, or has no selector. Names are in full in `cluster.local`.
    pub fn read(object: &Value) -> Option<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        if text("/kind") != Some("Service") || text("/apiVersion") != Some("v1") {
            return None;
        }
        let (name, namespace) = (text("/metadata/name")?, text("/metadata/namespace").unwrap_or("default"));
        let labels = object.pointer("/spec/selector")?.as_object()?;
        let label = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        let selector: Selector = labels.iter().map(label).collect::<Option<_>>()?;
        let full_name = format!("{name}.{namespace}.svc.cluster.local");
        (!selector.is_empty()).then(|| Self { namespace: namespace.to_owned(), full_name, selector })
    }
}

/// The policies that decide as the roles and bindings of `resources` do.
pub fn migrate<'a>(
    resources: impl IntoIterator<Item = &'a Resource>,
    services: &[Service],
    mesh: &Mesh,
) -> Migration {
    let mut old = OldObjects::default();
    let mut writer = Writer::new(services, mesh);
    for resource in resources {
        old.add(resource, mesh);
        writer.see(resource);
    }
    let Some((id, config)) = old.config() else { return writer.migration };
    let all_dry = config.is_permissive;
    writer.close(id, &config.mode, all_dry);
    for bound in old.bindings(mesh) {
        writer.bind(&bound, &config.mode, all_dry || bound.binding.is_permissive);
    }
    writer.migration
}

/// Where in a namespace something counts.
enum Scope {
    Nowhere,
    Whole,
    Services(Vec<Selector>),
}

struct Writer<'a> {
    services: &'a [Service],
    mesh: &'a Mesh,
    /// Namespaces and names that are taken.
    names: BTreeSet<(String, String)>,
    migration: Migration,
}

impl<'a> Writer<'a> {
    fn new(services: &'a [Service], mesh: &'a Mesh) -> Self {
        Self { services, mesh, names: BTreeSet::new(), migration: Migration::default() }
    }

    /// Policies that are there already keep their names, and switched roles off where they are.
    fn see(&mut self, resource: &Resource) {
        let Spec::AuthorizationPolicy(lowered) = &resource.spec else { return };
        self.names.insert((resource.id.namespace.clone(), resource.id.name.clone()));
        if !lowered.policy.dry_run && matches!(lowered.policy.action, Action::Allow | Action::Deny) {
            let why =
                "switched roles and bindings off for its workloads; what is migrated will count beside it";
            self.leave(&resource.id, "spec", why);
        }
    }

    fn leave(&mut self, by: &ResourceId, path: &str, why: impl Into<String>) {
        self.migration.unsaid.push(Unsaid { by: by.clone(), path: path.to_owned(), why: why.into() });
    }

    // === the configuration ===

    fn close(&mut self, id: &ResourceId, mode: &RbacMode, dry_run: bool) {
        let root = self.mesh.root_namespace.clone();
        let nothing = &Selector::new();
        match mode {
            RbacMode::Off => {}
            RbacMode::On => self.write(id, &root, CLOSING, nothing, Vec::new(), dry_run),
            RbacMode::Inclusion(extent) => {
                for namespace in &extent.namespaces {
                    self.close_namespace(id, "spec.inclusion", namespace, Vec::new(), dry_run);
                }
                for name in &extent.services {
                    match self.services.iter().find(|service| service.full_name == *name) {
                        Some(service) if service.namespace != root => {
                            let (namespace, selector) = (service.namespace.clone(), service.selector.clone());
                            self.write(id, &namespace, CLOSING, &selector, Vec::new(), dry_run);
                        }
                        _ => {
                            let why = format!(
                                "service `{name}` is not among those given, or of the root namespace; close it by hand"
                            );
                            self.leave(id, "spec.inclusion.services", why);
                        }
                    }
                }
            }
            RbacMode::Exclusion(extent) => {
                self.write(id, &root, CLOSING, nothing, Vec::new(), dry_run);
                for namespace in &extent.namespaces {
                    self.close_namespace(id, "spec.exclusion", namespace, vec![json!({})], dry_run);
                }
                if !extent.services.is_empty() {
                    let why = "single services cannot be left out: their workloads may be behind others too; \
                               write policies that allow everything for them by hand";
                    self.leave(id, "spec.exclusion.services", why);
                }
            }
        }
    }

    fn close_namespace(&mut self, id: &ResourceId, path: &str, name: &str, rules: Vec<Value>, dry_run: bool) {
        if name == self.mesh.root_namespace {
            self.leave(
                id,
                path,
                "a policy of the root namespace would be for the whole mesh; write it by hand",
            );
            return;
        }
        self.write(id, name, CLOSING, &Selector::new(), rules, dry_run);
    }

    // === bindings ===

    fn bind(&mut self, bound: &Bound<'_>, mode: &RbacMode, dry_run: bool) {
        let namespace = bound.id.namespace.as_str();
        let scope = self.scope(mode, namespace);
        if matches!(scope, Scope::Nowhere) {
            return;
        }
        if namespace == self.mesh.root_namespace {
            let why = "a policy of the root namespace would be for the whole mesh; write it by hand";
            self.leave(bound.id, "spec", why);
            return;
        }
        let Some(rules) = bound.rules else {
            self.leave(bound.id, "spec", "its role is not there, so it grants nothing");
            return;
        };
        let rules_by = bound.role.unwrap_or(bound.id);
        let from = self.subjects(bound);
        let mut places: BTreeMap<Selector, Vec<Value>> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            let path = format!("spec.rules[{index}]");
            let (asked, selectors) = match self.asked(rule, namespace, &scope) {
                Ok(asked) => asked,
                Err(why) => {
                    self.leave(rules_by, &path, why);
                    continue;
                }
            };
            self.tell_services(rules_by, &path, rule, namespace);
            for written in joined(&from, &asked) {
                match refused(&written) {
                    Some(why) => self.leave(rules_by, &path, why),
                    None => selectors
                        .iter()
                        .for_each(|one| places.entry(one.clone()).or_default().push(written.clone())),
                }
            }
        }
        for (selector, rules) in places {
            for rules in rules.chunks(MAX_RULES) {
                self.write(bound.id, namespace, &bound.id.name, &selector, rules.to_vec(), dry_run);
            }
        }
    }

    fn scope(&self, mode: &RbacMode, namespace: &str) -> Scope {
        let lists = |namespaces: &[String]| namespaces.iter().any(|one| one == namespace);
        match mode {
            RbacMode::Off => Scope::Nowhere,
            RbacMode::On => Scope::Whole,
            RbacMode::Exclusion(extent) if lists(&extent.namespaces) => Scope::Nowhere,
            RbacMode::Exclusion(_) => Scope::Whole,
            RbacMode::Inclusion(extent) if lists(&extent.namespaces) => Scope::Whole,
            RbacMode::Inclusion(extent) => {
                let of_namespace = self.services.iter().filter(|service| service.namespace == namespace);
                let listed = of_namespace.filter(|service| extent.services.contains(&service.full_name));
                let selectors: Vec<Selector> = listed.map(|service| service.selector.clone()).collect();
                if selectors.is_empty() { Scope::Nowhere } else { Scope::Services(selectors) }
            }
        }
    }

    /// What an access rule asks of requests, and of which workloads.
    fn asked(
        &self,
        rule: &AccessRule,
        namespace: &str,
        scope: &Scope,
    ) -> Result<(Asked, BTreeSet<Selector>), String> {
        if !roles::reads_rule(rule) {
            return Err("it cannot be read, and so grants nothing".to_owned());
        }
        let mut asked = Asked::default();
        for list in &rule.lists {
            if matches!(list.name, "paths" | "notPaths")
                && list.values.iter().any(|path| Template::is_meant(path))
            {
                return Err("a path with braces would be a template in the new form".to_owned());
            }
            asked.lists.insert(list.name.to_owned(), json!(list.values));
        }
        let of_services: Vec<Selector> = match rule.services.iter().any(|name| name == "*") {
            true => vec![Selector::new()],
            false => {
                let is_meant = |service: &&Service| {
                    service.namespace == namespace
                        && rule.services.iter().any(|name| roles::is_service(name, &service.full_name))
                };
                self.services.iter().filter(is_meant).map(|service| service.selector.clone()).collect()
            }
        };
        let mut places: BTreeSet<Selector> = of_services.into_iter().collect();
        if let Scope::Services(within) = scope {
            places = product(&places, within)?;
        }
        for constraint in &rule.constraints {
            let values = constraint.lists.first().map(|list| list.values.as_slice()).unwrap_or_default();
            match OfDestination::of(&constraint.key)? {
                None => asked.when.push(condition(&key(&constraint.key, true), values)?),
                Some(OfDestination::Label(name)) => {
                    if values.iter().any(|value| value.contains('*')) {
                        return Err(format!("a selector has no wildcards, as label `{name}` asks for"));
                    }
                    let labels: Vec<Selector> = values
                        .iter()
                        .map(|value| Selector::from([(name.to_owned(), value.clone())]))
                        .collect();
                    places = product(&places, &labels)?;
                }
                Some(OfDestination::Namespace) => {
                    if !values.iter().any(|value| Pattern::of(value).matches(namespace)) {
                        places.clear();
                    }
                }
                Some(OfDestination::Name | OfDestination::User) => {
                    return Err(format!(
                        "a selector cannot ask for `{}`; give the pods a label",
                        constraint.key
                    ));
                }
            }
        }
        Ok((asked, places))
    }

    fn tell_services(&mut self, by: &ResourceId, path: &str, rule: &AccessRule, namespace: &str) {
        for name in rule.services.iter().filter(|name| *name != "*") {
            let is_known = self
                .services
                .iter()
                .any(|one| one.namespace == namespace && roles::is_service(name, &one.full_name));
            if !is_known {
                self.leave(
                    by,
                    path,
                    format!("service `{name}` is not among those given, or has no selector"),
                );
            } else if name.contains('*') {
                let why =
                    format!("`{name}` is written out for the services of now; later ones are not in it");
                self.leave(by, path, why);
            }
        }
    }

    fn subjects(&mut self, bound: &Bound<'_>) -> Vec<Caller> {
        let mut callers = Vec::new();
        for (index, subject) in bound.binding.subjects.iter().enumerate() {
            match caller(subject) {
                Ok(caller) => callers.push(caller),
                Err(why) => self.leave(bound.id, &format!("spec.subjects[{index}]"), why),
            }
        }
        callers
    }

    // === writing ===

    fn write(
        &mut self,
        by: &ResourceId,
        namespace: &str,
        name: &str,
        selector: &Selector,
        rules: Vec<Value>,
        dry_run: bool,
    ) {
        let name = self.free_name(namespace, name);
        let mut object = json!({
            "apiVersion": "security.istio.io/v1",
            "kind": ResourceKind::AuthorizationPolicy.as_str(),
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"action": "ALLOW"},
        });
        let mut put = |pointer: &str, name: &str, value: Value| {
            if let Some(Value::Object(map)) = object.pointer_mut(pointer) {
                map.insert(name.to_owned(), value);
            }
        };
        if dry_run {
            put("/metadata", "annotations", json!({"istio.io/dry-run": "true"}));
        }
        if !selector.is_empty() {
            put("/spec", "selector", json!({"matchLabels": selector}));
        }
        if !rules.is_empty() {
            put("/spec", "rules", Value::Array(rules));
        }
        // Our own reader has the last word.
        match Resource::read(&object) {
            Ok(read) if !read.is_faulty() => self.migration.policies.push(object),
            Ok(read) => {
                for fault in read.faults.iter().filter(|fault| fault.severity == Severity::Error) {
                    self.leave(by, "spec", format!("the new form would be refused: {fault}"));
                }
            }
            Err(error) => self.leave(by, "metadata", format!("the new form would be refused: {error}")),
        }
    }

    fn free_name(&mut self, namespace: &str, name: &str) -> String {
        let mut free = name.to_owned();
        let mut number = 2;
        while !self.names.insert((namespace.to_owned(), free.clone())) {
            free = format!("{name}-{number}");
            number += 1;
        }
        free
    }
}

/// What is asked of requests by an access rule.
#[derive(Default)]
struct Asked {
    lists: Map<String, Value>,
    when: Vec<Value>,
}

/// What is asked of callers by a subject.
#[derive(Default)]
struct Caller {
    source: Map<String, Value>,
    when: Vec<Value>,
}

fn caller(subject: &Subject) -> Result<Caller, String> {
    if !roles::reads_subject(subject) {
        return Err("it cannot be read, and so is nobody".to_owned());
    }
    let mut caller = Caller::default();
    if let Some(user) = subject.user.as_deref().filter(|user| *user != "*") {
        caller.source.insert("principals".to_owned(), json!([exactly(user)?]));
    }
    if let Some(group) = &subject.group {
        caller.when.push(json!({"key": GROUPS, "values": [exactly(group)?]}));
    }
    for list in &subject.lists {
        let name = match list.name {
            "names" if caller.source.contains_key("principals") => {
                caller.when.push(json!({"key": "source.principal", "values": list.values}));
                continue;
            }
            "groups" => {
                caller.when.push(json!({"key": GROUPS, "values": list.values}));
                continue;
            }
            "notGroups" => {
                caller.when.push(json!({"key": GROUPS, "notValues": list.values}));
                continue;
            }
            "names" => "principals",
            "notNames" => "notPrincipals",
            "ips" => "ipBlocks",
            "notIps" => "notIpBlocks",
            other => other,
        };
        caller.source.insert(name.to_owned(), json!(list.values));
    }
    for (name, value) in &subject.properties {
        caller.when.push(condition(&key(name, false), std::slice::from_ref(value))?);
    }
    Ok(caller)
}

const GROUPS: &str = "request.auth.claims[groups]";

fn exactly(value: &str) -> Result<&str, String> {
    match value.contains('*') {
        true => {
            Err(format!("`{value}` is meant as it stands, and in the new form the `*` would be a wildcard"))
        }
        false => Ok(value),
    }
}

/// The key of a condition that asks for what a constraint or property asks for.
fn key(key: &str, is_constraint: bool) -> String {
    let is_known = match is_constraint {
        true => roles::is_known_constraint(key),
        false => roles::is_known_property(key),
    };
    match key {
        "source.user" if !is_constraint => "source.principal".to_owned(),
        _ if is_known => key.to_owned(),
        _ => format!("experimental.{PROPERTIES}[{key}]"),
    }
}

fn condition(key: &str, values: &[String]) -> Result<Value, String> {
    let is_list = |value: &&String| value.starts_with('[') && value.ends_with(']');
    match values.iter().find(is_list) {
        Some(value) if key.starts_with(&format!("experimental.{PROPERTIES}[")) => {
            Err(format!("`{value}` would be looked for in a list in the new form"))
        }
        _ => Ok(json!({"key": key, "values": values})),
    }
}

/// All that any of the one and any of the other select together.
fn product(one: &BTreeSet<Selector>, other: &[Selector]) -> Result<BTreeSet<Selector>, String> {
    let mut all = BTreeSet::new();
    for (one, other) in one.iter().flat_map(|one| other.iter().map(move |other| (one, other))) {
        let agree = other.iter().all(|(name, value)| one.get(name).is_none_or(|known| known == value));
        if agree {
            all.insert(one.iter().chain(other).map(|(name, value)| (name.clone(), value.clone())).collect());
        }
        if all.len() > MAX_PLACES {
            return Err(format!("it is for more than {MAX_PLACES} groups of workloads; write it by hand"));
        }
    }
    Ok(all)
}

/// The rules that let these callers do what is asked. Callers of whom more is asked than a source can say get rules of their own.
fn joined(callers: &[Caller], asked: &Asked) -> Vec<Value> {
    let rule = |sources: Vec<&Map<String, Value>>, when: &[Value]| {
        let mut rule = Map::new();
        if !sources.is_empty() {
            let from = sources.into_iter().map(|source| json!({"source": source})).collect();
            rule.insert("from".to_owned(), Value::Array(from));
        }
        if !asked.lists.is_empty() {
            rule.insert("to".to_owned(), json!([{"operation": asked.lists}]));
        }
        let when: Vec<Value> = when.iter().chain(&asked.when).cloned().collect();
        if !when.is_empty() {
            rule.insert("when".to_owned(), Value::Array(when));
        }
        Value::Object(rule)
    };
    let is_plain = |caller: &&Caller| caller.when.is_empty() && !caller.source.is_empty();
    let plain: Vec<_> = callers.iter().filter(is_plain).map(|caller| &caller.source).collect();
    let mut rules = Vec::new();
    if !plain.is_empty() {
        rules.push(rule(plain, &[]));
    }
    for caller in callers.iter().filter(|caller| !is_plain(caller)) {
        let source = Some(&caller.source).filter(|source| !source.is_empty());
        rules.push(rule(source.into_iter().collect(), &caller.when));
    }
    rules
}

/// Why a rule would be refused, if it would.
fn refused(rule: &Value) -> Option<String> {
    let object = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": ResourceKind::AuthorizationPolicy.as_str(),
        "metadata": {"name": "tried"},
        "spec": {"rules": [rule]},
    });
    let read = Resource::read(&object).ok()?;
    let fault = read.faults.iter().find(|fault| fault.severity == Severity::Error)?;
    Some(format!("the new form would be refused: {}", fault.problem))
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
