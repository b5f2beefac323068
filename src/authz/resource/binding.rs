//! Pure: what is written in a `ServiceRoleBinding`? (the `rbac.istio.io/v1alpha1` of Istio up to 1.5)
//!
//! A subject that cannot be read whole is nobody.

use crate::authz::resource::authorization_policy::List;
use crate::authz::resource::authorization_policy::MAX_RULES;
use crate::authz::resource::authorization_policy::OBJECT;
use crate::authz::resource::place::Place;
use crate::authz::resource::place::shown;
use crate::authz::resource::role;
use crate::authz::resource::role::AccessRule;
use crate::authz::resource::role::field;

/// The fields of the spec.
pub(crate) const SPEC: [&str; 5] = ["subjects", "roleRef", "mode", "actions", "role"];
/// The fields of a subject.
pub(crate) const SUBJECT: [&str; 11] = [
    "user",
    "group",
    "properties",
    "names",
    "notNames",
    "groups",
    "notGroups",
    "namespaces",
    "notNamespaces",
    "ips",
    "notIps",
];
const LISTS: [&str; 8] =
    ["names", "notNames", "groups", "notGroups", "namespaces", "notNamespaces", "ips", "notIps"];
/// The most properties of a subject.
const MAX_PROPERTIES: usize = 512;

/// What becomes of a subject that cannot be read.
pub(crate) const EFFECT: &str = "nothing is granted to this subject until it is corrected";
const OF_ALL: &str = "the binding grants nothing until it is corrected";

/// A `ServiceRoleBinding`, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRoleBinding {
    /// Whom it grants to; any of them.
    pub subjects: Vec<Subject>,
    /// What it grants.
    pub role: RoleOf,
    /// Whether it only says what would be granted (`PERMISSIVE`).
    pub is_permissive: bool,
}

/// Where a binding has what it grants from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleOf {
    /// The role of this name, in the binding's namespace.
    Own(String),
    /// The role of this name, in the root namespace.
    Root(String),
    /// These rules, which stand in the binding.
    Inline(Vec<AccessRule>),
    /// It cannot be read, and grants nothing.
    Unreadable,
}

/// Whom something is granted to, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The one user; `*` is everybody.
    pub user: Option<String>,
    /// The one group.
    pub group: Option<String>,
    /// `names`, `notIps` and the like.
    pub lists: Vec<List>,
    /// Properties the caller must have, by key.
    pub properties: Vec<(String, String)>,
    /// Whether nothing was left out. If something was, it is nobody.
    pub is_sound: bool,
}

impl ServiceRoleBinding {
    /// Reads the spec of `object`.
    pub(crate) fn read(object: &Place<'_>) -> Self {
        let object = object.or_else(OF_ALL);
        let nothing = Self { subjects: Vec::new(), role: RoleOf::Unreadable, is_permissive: false };
        let is_sound = object.has_only(&OBJECT);
        let Some(spec) = object.field("spec") else {
            object.error("has no `spec`");
            return nothing;
        };
        let is_sound = role::has_only(&spec, &SPEC) && is_sound;
        let is_permissive = spec
            .field("mode")
            .map_or(Some(false), |mode| mode.one_of(&[("ENFORCED", false), ("PERMISSIVE", true)]));
        let role = role_of(&spec).filter(|_| is_sound && is_permissive.is_some());
        let subjects = spec.field("subjects").map(|list| subjects(&list));
        if subjects.is_none() {
            spec.error("has no `subjects`");
        }
        Self {
            subjects: subjects.unwrap_or_default(),
            role: role.unwrap_or(RoleOf::Unreadable),
            is_permissive: is_permissive.unwrap_or_default(),
        }
    }
}

fn role_of(spec: &Place<'_>) -> Option<RoleOf> {
    let (reference, role, actions) = (field(spec, "roleRef"), spec.field("role"), spec.field("actions"));
    if [reference, role, actions].iter().flatten().count() != 1 {
        spec.error("needs exactly one of `roleRef`, `role` and `actions`");
        return None;
    }
    if let Some(actions) = actions {
        return Some(RoleOf::Inline(role::rules(&actions)));
    }
    if let Some(role) = role {
        let name = role.text()?;
        return Some(match name.strip_prefix('/') {
            Some(name) => RoleOf::Root(name.to_owned()),
            None => RoleOf::Own(name.to_owned()),
        });
    }
    let reference = reference?;
    let is_sound = reference.has_only(&["kind", "name"]);
    let kind = reference.field("kind").map_or(Some("ServiceRole"), |kind| kind.text())?;
    if kind != "ServiceRole" {
        reference.error(format!("`{}` cannot be bound; only a `ServiceRole` can", shown(kind)));
        return None;
    }
    let Some(name) = reference.field("name") else {
        reference.error("has no `name`");
        return None;
    };
    let name = name.text()?.to_owned();
    is_sound.then_some(RoleOf::Own(name))
}

fn subjects(list: &Place<'_>) -> Vec<Subject> {
    let items = list.items(MAX_RULES).unwrap_or_default();
    if items.is_empty() {
        list.error("is empty");
    }
    items.iter().map(|item| subject(&item.or_else(EFFECT))).collect()
}

fn subject(place: &Place<'_>) -> Subject {
    let mut is_sound = role::has_only(place, &SUBJECT);
    let mut text = |name| {
        let place = place.field(name)?;
        let text = place.text();
        is_sound &= text.is_some();
        text.map(str::to_owned)
    };
    let (user, group) = (text("user"), text("group"));
    let (lists, is_whole) = role::lists(place, &LISTS);
    is_sound &= is_whole;
    let properties = place.field("properties").map_or(Some(Vec::new()), |map| properties(&map));
    is_sound &= properties.is_some();
    let properties = properties.unwrap_or_default();
    if is_sound && user.is_none() && group.is_none() && lists.is_empty() && properties.is_empty() {
        place.error("is empty, and nobody; `user: \"*\"` is everybody");
        is_sound = false;
    }
    Subject { user, group, lists, properties, is_sound }
}

fn properties(map: &Place<'_>) -> Option<Vec<(String, String)>> {
    let entries = map.entries()?;
    if entries.len() > MAX_PROPERTIES {
        map.error(format!("has {} entries; at most {MAX_PROPERTIES} are allowed", entries.len()));
        return None;
    }
    let read: Vec<Option<(String, String)>> = entries
        .iter()
        .map(|(key, value)| {
            if key.is_empty() {
                value.error("has no key");
                return None;
            }
            Some(((*key).to_owned(), value.text()?.to_owned()))
        })
        .collect();
    read.into_iter().collect()
}
