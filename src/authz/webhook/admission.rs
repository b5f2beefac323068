//! Pure: may this object be written?
//!
//! What cannot be read is refused, with each field's path; what may not mean what its author thinks is let in with a warning. An object
//! that was faulty before, and whose meaning does not change, is let in too: somebody has to be able to label it, and its finalizers
//! have to be taken away when it is deleted.

use std::borrow::Cow;

use serde_json::Value;

use crate::authz::resource::Fault;
use crate::authz::resource::Resource;
use crate::authz::resource::Severity;

/// How many warnings are given, and how long one may be in characters: the API server cuts off what is longer.
const MAX_WARNINGS: usize = 16;
const MAX_WARNING: usize = 256;
/// How many faults are told to whoever is refused, and in how many characters.
const MAX_FAULTS: usize = 20;
const MAX_MESSAGE: usize = 8192;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Why it is refused; `None` if it is let in.
    pub refused: Option<String>,
    /// What its author should know, whether it is let in or not.
    pub warnings: Vec<String>,
}

impl Admission {
    /// It may be written, and there is nothing to say.
    pub fn granted() -> Self {
        Self { refused: None, warnings: Vec::new() }
    }

    /// It is refused, for this reason.
    pub fn refused(why: impl Into<String>) -> Self {
        Self { refused: Some(why.into()), warnings: Vec::new() }
    }
}

/// Whether `object` may be written; `before` is what it replaces, if it replaces anything.
pub fn admit(object: &Value, before: Option<&Value>) -> Admission {
    let means_the_same = before.is_some_and(|before| meaning(before) == meaning(object));
    let goes = object.pointer("/metadata/deletionTimestamp").is_some();
    let resource = match Resource::read(&named(object)) {
        Ok(resource) => resource,
        Err(unreadable) if means_the_same || goes => {
            return Admission { refused: None, warnings: vec![unreadable.to_string()] };
        }
        Err(unreadable) => return Admission::refused(unreadable.to_string()),
    };
    let of = |severity| resource.faults.iter().filter(move |fault| fault.severity == severity);
    let errors: Vec<_> = of(Severity::Error).collect();
    let mut warnings: Vec<_> = of(Severity::Warning).map(warning).collect();
    if !errors.is_empty() && (means_the_same || goes) {
        warnings.splice(0..0, errors.iter().map(|fault| warning(fault)));
        return Admission { refused: None, warnings: bounded(warnings) };
    }
    let refused = (!errors.is_empty()).then(|| reasons(&errors));
    Admission { refused, warnings: bounded(warnings) }
}

/// The object with a name. The API server may make one up later, from `generateName`.
fn named(object: &Value) -> Cow<'_, Value> {
    let text =
        |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (text("/metadata/name"), text("/metadata/generateName")) {
        (None, Some(beginning)) => {
            let (name, mut named) = (format!("{beginning}x"), object.clone());
            if let Some(metadata) = named.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("name".to_owned(), Value::from(name));
            }
            Cow::Owned(named)
        }
        _ => Cow::Borrowed(object),
    }
}

/// What of an object says what it means: its spec, and the annotation that makes it a dry run. All other annotations are somebody's notes,
/// as those that `kubectl apply` takes.
fn meaning(object: &Value) -> (Option<&Value>, Option<&Value>) {
    (object.get("spec"), object.pointer("/metadata/annotations/istio.io~1dry-run"))
}

fn reasons(errors: &[&Fault]) -> String {
    let mut text: String = errors.iter().take(MAX_FAULTS).map(|fault| format!("{fault}\n")).collect();
    match errors.len().saturating_sub(MAX_FAULTS) {
        0 => drop(text.pop()),
        more => text.push_str(&format!("and {more} more; `burgrave policy validate` names them all")),
    }
    text.chars().take(MAX_MESSAGE).collect()
}

fn warning(fault: &Fault) -> String {
    fault.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WARNING).collect()
}

fn bounded(mut warnings: Vec<String>) -> Vec<String> {
    let more = warnings.len().saturating_sub(MAX_WARNINGS);
    if more > 0 {
        warnings.truncate(MAX_WARNINGS - 1);
        warnings.push(format!("and {} more; `burgrave policy validate` names them all", more + 1));
    }
    warnings
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
