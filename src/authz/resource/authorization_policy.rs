//! Pure: what is written in an `AuthorizationPolicy`?
//!
//! The parts keep what was written, and whether it could be read whole; what that means is decided in [`crate::authz::lower`].

use serde_json::Map;
use serde_json::Value;

use crate::authz::model::Action;
use crate::authz::resource::place::Place;
use crate::authz::resource::place::shown;
use crate::authz::resource::selection::Selection;

/// The most rules of a policy, and the most items of `from` and `to`.
pub(crate) const MAX_RULES: usize = 512;
/// The most conditions of a rule.
pub(crate) const MAX_CONDITIONS: usize = 512;
/// The most values of one list.
pub(crate) const MAX_VALUES: usize = 16_384;
/// The most service accounts of one list, and the longest of them in bytes.
pub(crate) const MAX_SERVICE_ACCOUNTS: (usize, usize) = (16, 320);

/// The fields of any object.
pub(crate) const OBJECT: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// The fields of the spec.
pub(crate) const SPEC: [&str; 6] = ["selector", "targetRef", "targetRefs", "action", "provider", "rules"];
/// The fields of a source.
pub(crate) const SOURCE: [&str; 14] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];
/// The fields of an operation.
pub(crate) const OPERATION: [&str; 8] =
    ["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"];

/// An `AuthorizationPolicy`, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Which workloads it is for.
    pub selection: Selection,
    /// What it does; `None` if that cannot be read.
    pub action: Option<Action>,
    /// Whether it only says what would happen; `None` if that cannot be read.
    pub dry_run: Option<bool>,
    /// Its rules; `None` if the list cannot be read.
    pub rules: Option<Vec<Rule>>,
    /// Whether the spec has no fields that are unknown.
    pub is_sound: bool,
}

/// A rule, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The sources; empty if any will do.
    pub from: Vec<Clause>,
    /// The operations; empty if any will do.
    pub to: Vec<Clause>,
    /// The conditions that could be read.
    pub when: Vec<Condition>,
    /// Whether nothing was left out.
    pub is_sound: bool,
}

/// A source or an operation, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clause {
    /// Its fields that could be read.
    pub lists: Vec<List>,
    /// Whether nothing was left out.
    pub is_sound: bool,
}

/// A field with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name: `principals`, `notPaths`, `values`.
    pub name: &'static str,
    /// Its values; at least one.
    pub values: Vec<String>,
}

/// A condition, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its place among the conditions of the rule.
    pub index: usize,
    /// Its key.
    pub key: String,
    /// `values` and `notValues`, those that are given.
    pub lists: Vec<List>,
}

/// What happens, by action, if a part cannot be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effects {
    /// A part of a rule.
    pub(crate) part: &'static str,
    /// The list of rules.
    pub(crate) rules: &'static str,
    /// Whom the policy is for.
    pub(crate) selection: &'static str,
}

impl Effects {
    pub(crate) fn of(action: Option<&Action>) -> Self {
        match action {
            Some(Action::Allow) => Self {
                part: "the rule allows nothing until it is corrected",
                rules: "the policy allows nothing until it is corrected",
                selection: "the policy allows nothing until it is corrected, and applies to all workloads of its scope",
            },
            Some(Action::Deny) => Self {
                part: "it is left out, so that the rule denies more until it is corrected",
                rules: "the policy denies everything until it is corrected",
                selection: "the policy denies what its rules say to all workloads of its scope until it is corrected",
            },
            Some(Action::Audit | Action::Custom { .. }) => Self {
                part: "it is left out, so that the rule matches more until it is corrected",
                rules: "the policy matches everything until it is corrected",
                selection: "the policy applies to all workloads of its scope until it is corrected",
            },
            None => Self { part: CLOSED, rules: CLOSED, selection: CLOSED },
        }
    }
}

impl Effects {
    /// A field of the spec that is not known. Where there are rules, it cannot stand for them.
    fn of_unknown(&self, action: Option<&Action>, spec: &Place<'_>) -> &'static str {
        let has_rules =
            spec.value().get("rules").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
        match action {
            Some(Action::Deny | Action::Audit | Action::Custom { .. }) if has_rules => "it is left out",
            _ => self.rules,
        }
    }
}

/// What becomes of a policy whose action is not known.
pub(crate) const CLOSED: &str = "the policy denies everything until it is corrected";

impl AuthorizationPolicy {
    /// Reads the spec and the annotation of `object`.
    pub(crate) fn read(object: &Place<'_>) -> Self {
        let object = object.or_else(CLOSED);
        let empty = Value::Object(Map::new());
        let spec = object.field("spec").unwrap_or_else(|| object.as_if("spec", &empty));
        if spec.map().is_none() {
            return Self::default();
        }
        let action = action(&spec);
        let effects = Effects::of(action.as_ref());
        let unknown = effects.of_unknown(action.as_ref(), &spec);
        let is_sound = object.or_else(unknown).has_only(&OBJECT) & spec.or_else(unknown).has_only(&SPEC);
        let rules = rules(&spec.or_else(effects.rules), action.as_ref(), effects);
        let selection = Selection::read(&spec.or_else(effects.selection));
        let dry_run = dry_run(&object, action.as_ref());
        Self { selection, action, dry_run, rules, is_sound }
    }
}

fn action(spec: &Place<'_>) -> Option<Action> {
    let provider = spec.field("provider");
    let name = match spec.field("action") {
        None => "ALLOW",
        Some(place) => {
            place.one_of(&[("ALLOW", "ALLOW"), ("DENY", "DENY"), ("AUDIT", "AUDIT"), ("CUSTOM", "CUSTOM")])?
        }
    };
    match (name, provider) {
        ("CUSTOM", None) => {
            spec.error("action `CUSTOM` needs a `provider`");
            None
        }
        ("CUSTOM", Some(provider)) => {
            let is_sound = provider.has_only(&["name"]);
            let Some(name) = provider.field("name") else {
                provider.error("has no `name`");
                return None;
            };
            let provider = name.text()?.into();
            is_sound.then_some(Action::Custom { provider })
        }
        (_, Some(provider)) => {
            provider.error(format!("only action `CUSTOM` has a provider, not `{name}`"));
            None
        }
        ("DENY", None) => Some(Action::Deny),
        ("AUDIT", None) => Some(Action::Audit),
        (_, None) => Some(Action::Allow),
    }
}

/// Annotation that makes a policy only say what would happen.
pub(crate) const DRY_RUN: &str = "istio.io/dry-run";

fn dry_run(object: &Place<'_>, action: Option<&Action>) -> Option<bool> {
    let effect = match action {
        Some(Action::Allow) => "the policy is enforced, and allows nothing until it is corrected",
        _ => "the policy is enforced",
    };
    let metadata = object.field("metadata");
    let annotations = metadata.as_ref().and_then(|metadata| metadata.field("annotations"));
    let Some(annotation) = annotations.as_ref().and_then(|annotations| annotations.field(DRY_RUN)) else {
        return Some(false);
    };
    let annotation = annotation.or_else(effect);
    let value = match annotation.text()? {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
        "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
        other => {
            annotation.error(format!("`{}` is neither `true` nor `false`", shown(other)));
            return None;
        }
    };
    if value && !matches!(action, Some(Action::Allow | Action::Deny)) {
        annotation.error("only policies of action `ALLOW` or `DENY` can be run dry");
        return None;
    }
    Some(value)
}

fn rules(spec: &Place<'_>, action: Option<&Action>, effects: Effects) -> Option<Vec<Rule>> {
    let list = spec.field("rules");
    let items = match &list {
        None => Vec::new(),
        Some(list) => list.items(MAX_RULES)?,
    };
    if items.is_empty() && matches!(action, Some(Action::Deny | Action::Custom { .. } | Action::Audit)) {
        spec.or_else("it matches nothing")
            .error("a policy of this action needs `rules`; `rules: [{}]` matches everything");
    }
    Some(items.iter().map(|item| rule(&item.or_else(effects.part))).collect())
}

fn rule(place: &Place<'_>) -> Rule {
    let mut is_sound = place.has_only(&["from", "to", "when"]);
    let mut clauses = |name, inner, known| {
        let read = place.field(name).map(|list| clauses(&list, inner, known));
        let (clauses, is_whole) = read.unwrap_or((Vec::new(), true));
        is_sound &= is_whole;
        clauses
    };
    let from = clauses("from", "source", &SOURCE);
    let to = clauses("to", "operation", &OPERATION);
    let (when, is_whole) = place.field("when").map_or((Vec::new(), true), |list| conditions(&list));
    is_sound &= is_whole;
    Rule { from, to, when, is_sound }
}

/// The clauses of `from` or `to`, and whether nothing was left out. A clause of which nothing can be read stands for everything.
fn clauses(list: &Place<'_>, inner: &str, known: &[&'static str]) -> (Vec<Clause>, bool) {
    let Some(items) = list.items(MAX_RULES) else { return (Vec::new(), false) };
    if items.is_empty() {
        list.error("is empty; leave it out, or say what it is to be");
        return (Vec::new(), false);
    }
    let clauses: Vec<Clause> = items.iter().map(|item| clause(item, inner, known)).collect();
    let is_whole = clauses.iter().all(|clause| clause.is_sound);
    (clauses, is_whole)
}

fn clause(item: &Place<'_>, inner: &str, known: &[&'static str]) -> Clause {
    let is_alone = item.has_only(&[inner]);
    let Some(place) = item.field(inner) else {
        item.error(format!("has no `{inner}`"));
        return Clause::default();
    };
    let mut is_sound = place.has_only(known) && is_alone;
    let mut lists = Vec::new();
    for name in known {
        let Some(field) = place.field(name) else { continue };
        match list(&field, name) {
            Some(list) => lists.push(list),
            None => is_sound = false,
        }
    }
    if is_sound && lists.is_empty() {
        place.error("is empty; leave it out, or say what it is to be");
        is_sound = false;
    }
    Clause { lists, is_sound }
}

/// A list of values, if it can be read whole.
fn list(place: &Place<'_>, name: &'static str) -> Option<List> {
    let (most, longest) = match name {
        "serviceAccounts" | "notServiceAccounts" => MAX_SERVICE_ACCOUNTS,
        _ => (MAX_VALUES, usize::MAX),
    };
    let items = place.items(most)?;
    if items.is_empty() {
        place.error("is empty; leave it out, or give a value");
        return None;
    }
    // All of them are looked at, so that everything that is wrong is told at once.
    let values: Vec<Option<String>> = items
        .iter()
        .map(|item| {
            let text = item.text()?;
            if text.len() > longest {
                item.error(format!("has {} bytes; at most {longest} are allowed", text.len()));
                return None;
            }
            Some(text.to_owned())
        })
        .collect();
    let values = values.into_iter().collect::<Option<_>>()?;
    Some(List { name, values })
}

fn conditions(list: &Place<'_>) -> (Vec<Condition>, bool) {
    let Some(items) = list.items(MAX_CONDITIONS) else { return (Vec::new(), false) };
    let read: Vec<(Option<Condition>, bool)> =
        items.iter().enumerate().map(|(index, item)| condition(item, index)).collect();
    let is_whole = read.iter().all(|(_, is_whole)| *is_whole);
    (read.into_iter().filter_map(|(condition, _)| condition).collect(), is_whole)
}

fn condition(item: &Place<'_>, index: usize) -> (Option<Condition>, bool) {
    let is_sound = item.has_only(&["key", "values", "notValues"]);
    let key = match item.field("key") {
        Some(key) => key.text(),
        None => {
            item.error("has no `key`");
            None
        }
    };
    let given = ["values", "notValues"].map(|name| item.field(name).map(|place| list(&place, name)));
    if given.iter().all(Option::is_none) {
        item.error("has neither `values` nor `notValues`");
        return (None, false);
    }
    let is_whole = is_sound && key.is_some() && !given.contains(&Some(None));
    let lists = given.into_iter().flatten().flatten().collect();
    (key.map(|key| Condition { index, key: key.to_owned(), lists }), is_whole)
}
