//! Pure: what does an object's status say of it, and what should it say?
//!
//! Two conditions are ours: `Accepted`, with all that is wrong and what is done about it, and `Applied`, with the number of workloads.
//! Those of others, Istio's among them, stay as they are.

use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::authz::resource::Fault;
use crate::authz::resource::Severity;

/// Whether the object could be read.
const ACCEPTED: &str = "Accepted";
/// Whether it applies to any workload.
const APPLIED: &str = "Applied";
/// How many faults are told, and how long the telling may be in bytes.
const MAX_FAULTS: usize = 10;
const MAX_MESSAGE: usize = 4096;

/// What a status should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The generation of the object that it is about.
    pub(super) generation: i64,
    /// Whether it could be read.
    pub(super) accepted: Saying,
    /// Whether it applies; `None` as long as that is not known.
    pub(super) applied: Option<Saying>,
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saying {
    is_true: bool,
    reason: String,
    message: String,
}

/// What an object's status says, as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The object's version, which a write must name.
    pub(super) version: String,
    /// Its API version.
    api_version: String,
    generation: Option<i64>,
    accepted: Option<Stood>,
    applied: Option<Stood>,
    /// Conditions of others; empty if the API server keeps them apart by itself.
    others: Vec<Value>,
}

/// A condition, and since when it has stood as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stood {
    saying: Saying,
    since: String,
    generation: Option<i64>,
}

impl Wanted {
    /// What there is to say of an object with these faults that applies to so many workloads.
    pub(super) fn of(generation: i64, faults: &[Fault], workloads: Option<usize>) -> Self {
        Self { generation, accepted: accepted(faults), applied: workloads.map(applied) }
    }
}

fn accepted(faults: &[Fault]) -> Saying {
    let errors: Vec<_> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    let all: Vec<_> = faults.iter().collect();
    let saying = |is_true, reason: &str, message| Saying { is_true, reason: reason.to_owned(), message };
    match (errors.is_empty(), faults.is_empty()) {
        (true, true) => saying(true, "Accepted", "all of it is understood".to_owned()),
        (true, false) => saying(true, "AcceptedWithWarnings", told(&all)),
        (false, _) => saying(false, "Faulty", told(&errors)),
    }
}

fn applied(workloads: usize) -> Saying {
    let (reason, message) = match workloads {
        0 => ("NoWorkload", "it applies to no workload that there is now".to_owned()),
        1 => ("Applied", "it applies to 1 workload".to_owned()),
        several => ("Applied", format!("it applies to {several} workloads")),
    };
    Saying { is_true: workloads > 0, reason: reason.to_owned(), message }
}

/// The faults, one a line, up to a bound.
pub(crate) fn told(faults: &[&Fault]) -> String {
    let mut text = String::new();
    for (at, fault) in faults.iter().enumerate() {
        let line = fault.to_string();
        if at == MAX_FAULTS || text.len() + line.len() > MAX_MESSAGE {
            // Even a single one may be longer than there is room for.
            let room = MAX_MESSAGE.saturating_sub(text.len());
            if at == 0 {
                text.extend(line.chars().take(room / 4));
            }
            let rest = faults.len() - at.max(1);
            if rest > 0 {
                text.push_str(&format!("\nand {rest} more"));
            }
            break;
        }
        if at > 0 {
            text.push('\n');
        }
        text.push_str(&line);
    }
    text
}

impl Held {
    /// What is held by an object as the API server shows it.
    pub(super) fn by(object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let conditions = || conditions.into_iter().flatten();
        let ours = |kind: &str| conditions().find(|one| kind_of(one) == kind).map(Stood::read);
        let others = || conditions().filter(|one| ![ACCEPTED, APPLIED].contains(&kind_of(one)));
        Self {
            version: text("/metadata/resourceVersion").to_owned(),
            api_version: text("/apiVersion").to_owned(),
            generation: object.pointer("/status/observedGeneration").and_then(Value::as_i64),
            accepted: ours(ACCEPTED),
            applied: ours(APPLIED),
            others: if keeps_apart(object) { Vec::new() } else { others().cloned().collect() },
        }
    }

    /// The version of the API it was seen in, without the group.
    pub(super) fn version_of_api(&self) -> &str {
        self.api_version.split_once('/').map_or(self.api_version.as_str(), |(_, version)| version)
    }

    /// What is wrong with it, if anything.
    pub(super) fn lacks(&self, wanted: &Wanted) -> Option<Lack> {
        let says = |stood: &Option<Stood>, saying: &Saying| {
            stood
                .as_ref()
                .is_some_and(|one| one.saying == *saying && one.generation == Some(wanted.generation))
        };
        if self.generation != Some(wanted.generation) || !says(&self.accepted, &wanted.accepted) {
            return Some(Lack::Much);
        }
        match &wanted.applied {
            Some(applied) if !says(&self.applied, applied) => match &self.applied {
                // From nothing to something, and back, is news; from 40 to 41 is not.
                Some(stood) if stood.saying.is_true == applied.is_true => Some(Lack::Count),
                _ => Some(Lack::Much),
            },
            _ => None,
        }
    }

    /// The status to be applied: it names the version that it was decided on, and keeps what others say.
    pub(super) fn patch(&self, metadata: &Value, kind: &str, wanted: &Wanted, now: OffsetDateTime) -> Value {
        let now = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
        let mut conditions = self.others.clone();
        conditions.push(condition(ACCEPTED, &wanted.accepted, &self.accepted, wanted.generation, &now));
        match (&wanted.applied, &self.applied) {
            (Some(applied), held) => {
                conditions.push(condition(APPLIED, applied, held, wanted.generation, &now));
            }
            // What is not known yet by this leader was known to the one before.
            (None, Some(held)) => {
                let generation = held.generation.unwrap_or(wanted.generation);
                conditions.push(condition(APPLIED, &held.saying, &self.applied, generation, &now));
            }
            (None, None) => {}
        }
        json!({
            "apiVersion": self.api_version,
            "kind": kind,
            "metadata": metadata,
            "status": { "observedGeneration": wanted.generation, "conditions": conditions },
        })
    }
}

/// How much a status is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// It says something wrong of the object.
    Much,
    /// It tells an old number of workloads.
    Count,
}

fn condition(kind: &str, saying: &Saying, held: &Option<Stood>, generation: i64, now: &str) -> Value {
    let unchanged = held.as_ref().filter(|held| held.saying.is_true == saying.is_true);
    json!({
        "type": kind,
        "status": if saying.is_true { "True" } else { "False" },
        "reason": saying.reason,
        "message": saying.message,
        "observedGeneration": generation,
        "lastTransitionTime": unchanged.map_or(now, |held| held.since.as_str()),
    })
}

fn kind_of(condition: &Value) -> &str {
    condition.get("type").and_then(Value::as_str).unwrap_or_default()
}

impl Stood {
    fn read(condition: &Value) -> Self {
        let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            saying: Saying {
                is_true: text("status") == "True",
                reason: text("reason"),
                message: text("message"),
            },
            since: text("lastTransitionTime"),
            generation: condition.get("observedGeneration").and_then(Value::as_i64),
        }
    }
}

/// Whether the API server merges conditions by their type. If it does not, as with Istio's own definitions, whoever applies a list
/// replaces all of it, so that the list has to be written as a whole; and if it does, what is written of others would become ours. How
/// it keeps track of who wrote them tells.
fn keeps_apart(object: &Value) -> bool {
    let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    managers.into_iter().flatten().any(|manager| {
        let conditions = manager.pointer("/fieldsV1/f:status/f:conditions").and_then(Value::as_object);
        conditions.is_some_and(|fields| fields.keys().any(|key| key.starts_with("k:")))
    })
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
