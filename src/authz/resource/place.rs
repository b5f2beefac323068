//! Pure: what stands at a place of an object, and is it what may stand there?
//!
//! A place knows its path, so that everything that is wrong is told with it, and what it means for the object if something is.

use std::cell::RefCell;
use std::fmt;

use serde_json::Map;
use serde_json::Value;

use crate::authz::model::pattern::MAX_LENGTH;
use crate::authz::resource::fault::Fault;
use crate::authz::resource::fault::Severity;

/// The most faults that are kept while an object is read; fewer of them are told.
const MOST_FAULTS: usize = 1000;
/// How much of a text of an object is repeated when something is wrong with it, in characters.
const SHOWN: usize = 120;

/// A place in an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    value: &'a Value,
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
    effect: &'a str,
    faults: &'a RefCell<Vec<Fault>>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Object,
    Field(&'a str),
    Item(usize),
}

impl<'a> Place<'a> {
    /// The object itself.
    pub(crate) fn object(value: &'a Value, faults: &'a RefCell<Vec<Fault>>) -> Self {
        Self { value, parent: None, step: Step::Object, effect: "", faults }
    }

    /// The same place; what is wrong there, or below, has this effect.
    pub(crate) fn or_else(self, effect: &'a str) -> Self {
        Self { effect, ..self }
    }

    /// What stands there, as it is.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// Tells an error.
    pub(crate) fn error(&self, problem: impl Into<String>) {
        self.tell(Severity::Error, problem.into(), self.effect);
    }

    /// Tells a warning.
    pub(crate) fn warning(&self, problem: impl Into<String>) {
        self.tell(Severity::Warning, problem.into(), "");
    }

    fn tell(&self, severity: Severity, problem: String, effect: &str) {
        let mut faults = self.faults.borrow_mut();
        // An object may be made of nothing else; what is beyond is as good as told, but an error is never lost behind warnings.
        if faults.len() >= MOST_FAULTS {
            if severity == Severity::Warning || faults.last().is_some_and(|last| last.severity == severity) {
                return;
            }
            faults.pop();
        }
        faults.push(Fault { path: self.to_string(), severity, problem, effect: effect.to_owned() });
    }

    /// Whether so much is wrong that more is not told.
    fn is_enough(&self) -> bool {
        self.faults.borrow().len() >= MOST_FAULTS
    }

    /// A field of it; nothing and `null` are no field.
    pub(crate) fn field<'b>(&'b self, name: &'b str) -> Option<Place<'b>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(self.below(value, Step::Field(name)))
    }

    /// A field of it, as if this stood there.
    pub(crate) fn as_if<'b>(&'b self, name: &'b str, value: &'b Value) -> Place<'b> {
        self.below(value, Step::Field(name))
    }

    fn below<'b>(&'b self, value: &'b Value, step: Step<'b>) -> Place<'b> {
        Place { value, parent: Some(self), step, effect: self.effect, faults: self.faults }
    }

    /// Its fields, if it is a map and has none but these. What is wrong is told.
    pub(crate) fn has_only(&self, known: &[&str]) -> bool {
        let Some(map) = self.map() else { return false };
        let mut is_sound = true;
        for (name, value) in map {
            if !known.contains(&name.as_str()) {
                let near = if self.is_enough() { String::new() } else { hint(name, known) };
                self.below(value, Step::Field(name)).error(format!("unknown field{near}"));
                is_sound = false;
            }
        }
        is_sound
    }

    /// The map that stands there.
    pub(crate) fn map(&self) -> Option<&'a Map<String, Value>> {
        let map = self.value.as_object();
        if map.is_none() {
            self.error(format!("is {} and must be a map of fields", kind(self.value)));
        }
        map
    }

    /// The entries of the map that stands there.
    pub(crate) fn entries<'b>(&'b self) -> Option<Vec<(&'b str, Place<'b>)>> {
        let entry = |(name, value): (&'b String, &'b Value)| {
            (name.as_str(), self.below(value, Step::Field(name.as_str())))
        };
        Some(self.map()?.iter().map(entry).collect())
    }

    /// The items of the list that stands there, which is not empty and has at most so many.
    pub(crate) fn items<'b>(&'b self, most: usize) -> Option<Vec<Place<'b>>> {
        let Some(list) = self.value.as_array() else {
            self.error(format!("is {} and must be a list", kind(self.value)));
            return None;
        };
        if list.len() > most {
            self.error(format!("has {} items; at most {most} are allowed", list.len()));
            return None;
        }
        let item = |(at, value): (usize, &'b Value)| self.below(value, Step::Item(at));
        Some(list.iter().enumerate().map(item).collect())
    }

    /// The text that stands there: not empty, and not longer than is matched with.
    pub(crate) fn text(&self) -> Option<&'a str> {
        let text = self.text_or_empty()?;
        if text.is_empty() {
            self.error("is empty");
        }
        (!text.is_empty()).then_some(text)
    }

    /// The text that stands there, which may be empty.
    pub(crate) fn text_or_empty(&self) -> Option<&'a str> {
        self.text_within(MAX_LENGTH)
    }

    /// The text that stands there, which may be empty, and has at most so many bytes.
    pub(crate) fn text_within(&self, most: usize) -> Option<&'a str> {
        let Some(text) = self.value.as_str() else {
            let quote =
                if matches!(self.value, Value::Number(_) | Value::Bool(_)) { "; quote it" } else { "" };
            self.error(format!("is {} and must be a text{quote}", kind(self.value)));
            return None;
        };
        if text.len() > most {
            self.error(format!("has {} bytes; at most {most} are allowed", text.len()));
            return None;
        }
        Some(text)
    }

    /// The truth value that stands there.
    pub(crate) fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.error(format!("is {} and must be true or false", kind(self.value)));
        }
        flag
    }

    /// One of these texts.
    pub(crate) fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.error(format!("`{}` is unknown{}", shown(text), hint(text, &names)));
        }
        chosen
    }
}

impl fmt::Display for Place<'_> {
    /// `spec.rules[1].from[0].source.ipBlocks[2]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Object => Ok(()),
            Step::Item(at) => write!(f, "[{at}]"),
            Step::Field(name) => {
                let dot = if self.parent.is_none_or(|parent| matches!(parent.step, Step::Object)) {
                    ""
                } else {
                    "."
                };
                match name.contains(['.', '/']) {
                    true => write!(f, "[{}]", shown(name)),
                    false => write!(f, "{dot}{}", shown(name)),
                }
            }
        }
    }
}

/// A text of the user's, cut if it is long, without control characters.
pub(crate) fn shown(text: &str) -> String {
    plain(text, SHOWN)
}

/// A text without control characters, with at most so many characters.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut plain: String = text.chars().take(most).map(visible).collect();
    if text.chars().nth(most).is_some() {
        plain.push('…');
    }
    plain
}

/// `; did you mean …?` for a near miss, else all that would be right.
pub(crate) fn hint(written: &str, known: &[&str]) -> String {
    let short: String = written.chars().take(SHOWN).collect();
    let distance = |name: &&&str| strsim::damerau_levenshtein(&short, name);
    match known.iter().min_by_key(distance) {
        Some(nearest) if distance(&nearest) <= 1 + nearest.len() / 4 => {
            format!("; did you mean `{nearest}`?")
        }
        _ => format!("; known are {}", known.join(", ")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
