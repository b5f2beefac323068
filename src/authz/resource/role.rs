//! Pure: what is written in a `ServiceRole`? (the `rbac.istio.io/v1alpha1` of Istio up to 1.5)
//!
//! A rule that cannot be read whole grants nothing.

use crate::authz::resource::authorization_policy::Condition;
use crate::authz::resource::authorization_policy::List;
use crate::authz::resource::authorization_policy::MAX_CONDITIONS;
use crate::authz::resource::authorization_policy::MAX_RULES;
use crate::authz::resource::authorization_policy::MAX_VALUES;
use crate::authz::resource::authorization_policy::OBJECT;
use crate::authz::resource::place::Place;
use crate::authz::resource::place::shown;

/// The fields of the spec.
pub(crate) const SPEC: [&str; 1] = ["rules"];
/// The fields of an access rule.
pub(crate) const RULE: [&str; 10] = [
    "services",
    "hosts",
    "notHosts",
    "paths",
    "notPaths",
    "methods",
    "notMethods",
    "ports",
    "notPorts",
    "constraints",
];
/// Those that are lists of values, but for the services.
pub(crate) const LISTS: [&str; 8] =
    ["hosts", "notHosts", "paths", "notPaths", "methods", "notMethods", "ports", "notPorts"];

/// What becomes of what cannot be read.
pub(crate) const EFFECT: &str = "the rule grants nothing until it is corrected";

/// A `ServiceRole`, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRole {
    /// Its rules; any of them grants.
    pub rules: Vec<AccessRule>,
}

/// What is granted, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// The services: names in the role's namespace, names in full, with a star at one end.
    pub services: Vec<String>,
    /// `paths`, `notMethods` and the like.
    pub lists: Vec<List>,
    /// What else has to be so: each has one list, `values`.
    pub constraints: Vec<Condition>,
    /// Whether nothing was left out. If something was, it grants nothing.
    pub is_sound: bool,
}

impl ServiceRole {
    /// Reads the spec of `object`.
    pub(crate) fn read(object: &Place<'_>) -> Self {
        let object = object.or_else("the role grants nothing until it is corrected");
        let is_sound = object.has_only(&OBJECT);
        let Some(spec) = object.field("spec") else {
            object.error("has no `spec`");
            return Self::default();
        };
        let is_sound = has_only(&spec, &SPEC) && is_sound;
        let rules = match spec.field("rules") {
            Some(list) => rules(&list),
            None => {
                spec.error("has no `rules`");
                Vec::new()
            }
        };
        Self { rules: if is_sound { rules } else { Vec::new() } }
    }
}

/// A list of access rules.
pub(crate) fn rules(list: &Place<'_>) -> Vec<AccessRule> {
    let items = list.items(MAX_RULES).unwrap_or_default();
    if items.is_empty() {
        list.error("is empty");
    }
    items.iter().map(|item| rule(&item.or_else(EFFECT))).collect()
}

fn rule(place: &Place<'_>) -> AccessRule {
    let mut is_sound = has_only(place, &RULE);
    let services = field(place, "services").map(|list| values(&list, "services"));
    if services.is_none() {
        place.error("has no `services`; `services: [\"*\"]` are all of the namespace");
    }
    let services = services.flatten().map(|list| list.values).unwrap_or_default();
    is_sound &= !services.is_empty();
    let (lists, is_whole) = lists(place, &LISTS);
    is_sound &= is_whole;
    let constraints = field(place, "constraints").map_or(Some(Vec::new()), |list| constraints(&list));
    is_sound &= constraints.is_some();
    AccessRule { services, lists, constraints: constraints.unwrap_or_default(), is_sound }
}

fn constraints(list: &Place<'_>) -> Option<Vec<Condition>> {
    let items = list.items(MAX_CONDITIONS)?;
    let read: Vec<Option<Condition>> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let is_sound = item.has_only(&["key", "values"]);
            let (Some(key), Some(list)) = (item.field("key"), item.field("values")) else {
                item.error("needs both `key` and `values`");
                return None;
            };
            let (key, list) = (key.text()?.to_owned(), values(&list, "values")?);
            is_sound.then(|| Condition { index, key, lists: vec![list] })
        })
        .collect();
    read.into_iter().collect()
}

// === what the old objects have in common ===

/// As [`Place::has_only`]; fields of several words may also be written `not_paths`, as the older documents do.
pub(crate) fn has_only(place: &Place<'_>, known: &[&'static str]) -> bool {
    let mut all = known.to_vec();
    all.extend(known.iter().map(|name| snake(name)).filter(|name| !known.contains(name)));
    let mut is_sound = place.has_only(&all);
    for name in known.iter().filter(|name| snake(name) != **name) {
        if place.field(name).is_some() && place.field(snake(name)).is_some() {
            place.error(format!("has `{name}` in both ways of writing it"));
            is_sound = false;
        }
    }
    is_sound
}

/// A field, in either way of writing it.
pub(crate) fn field<'b>(place: &'b Place<'b>, name: &'static str) -> Option<Place<'b>> {
    place.field(name).or_else(|| place.field(snake(name)))
}

/// How the older documents write a field of several words.
fn snake(name: &'static str) -> &'static str {
    match name {
        "notHosts" => "not_hosts",
        "notPaths" => "not_paths",
        "notMethods" => "not_methods",
        "notPorts" => "not_ports",
        "notNames" => "not_names",
        "notGroups" => "not_groups",
        "notNamespaces" => "not_namespaces",
        "notIps" => "not_ips",
        "roleRef" => "role_ref",
        "enforcementMode" => "enforcement_mode",
        other => other,
    }
}

/// The lists of these names, and whether nothing was left out.
pub(crate) fn lists(place: &Place<'_>, names: &[&'static str]) -> (Vec<List>, bool) {
    let mut lists = Vec::new();
    let mut is_whole = true;
    for name in names {
        let Some(list) = field(place, name) else { continue };
        match values(&list, name) {
            Some(list) => lists.push(list),
            None => is_whole = false,
        }
    }
    (lists, is_whole)
}

/// A list of values, if it can be read whole. Ports may be numbers.
pub(crate) fn values(list: &Place<'_>, name: &'static str) -> Option<List> {
    let items = list.items(MAX_VALUES)?;
    if items.is_empty() {
        list.error("is empty; leave it out, or give a value");
        return None;
    }
    let is_port = matches!(name, "ports" | "notPorts");
    let value = |item: &Place<'_>| match item.value().as_u64() {
        Some(number) if is_port => Some(number.to_string()),
        _ => item.text().map(str::to_owned),
    };
    let values: Vec<Option<String>> = items.iter().map(value).collect();
    let values: Vec<String> = values.into_iter().collect::<Option<_>>()?;
    if let Some(star) = values.iter().find(|value| is_port && value.contains('*')) {
        list.error(format!("`{}` is no port", shown(star)));
        return None;
    }
    Some(List { name, values })
}
