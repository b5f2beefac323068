//! Pure: which objects are in a file?

use serde_json::Value;
use serde_saphyr::Options;

use crate::authz::resource::object::Resource;
use crate::authz::resource::object::Unreadable;

/// The longest text that is read, in bytes.
const MAX_TEXT: usize = 64 << 20;
/// The most documents of a text.
const MAX_DOCUMENTS: usize = 200_000;
/// The deepest that maps and lists may stand in each other.
const MAX_DEPTH: usize = 40;

/// The objects of a text of one or more YAML documents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// Those of our kinds, in order.
    pub resources: Vec<Result<Resource, Unreadable>>,
    /// How many are of other kinds, and were passed over.
    pub passed_over: usize,
}

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidYaml {
    /// It is too long.
    #[error("the text has {0} bytes; at most {MAX_TEXT} are read at once")]
    TooLong(usize),
    /// It is no YAML, or more of it than is read.
    #[error("this is no YAML: {0}")]
    Malformed(String),
}

/// Reads a text of one or more YAML (or JSON) documents; the items of a `List` count as documents of their own.
///
/// # Errors
/// If the text is no YAML; what is wrong with an object of it is told with the object.
pub fn from_yaml(text: &str) -> Result<Documents, InvalidYaml> {
    if text.len() > MAX_TEXT {
        return Err(InvalidYaml::TooLong(text.len()));
    }
    let objects: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options())
        .map_err(|error| InvalidYaml::Malformed(error.to_string()))?;
    let mut documents = Documents::default();
    for object in &objects {
        match object.get("items").and_then(Value::as_array) {
            Some(items) if is_list(object) => items.iter().for_each(|item| documents.add(item)),
            _ => documents.add(object),
        }
    }
    Ok(documents)
}

impl Documents {
    fn add(&mut self, object: &Value) {
        match Resource::read(object) {
            Err(Unreadable::OtherKind { .. }) => self.passed_over += 1,
            Err(Unreadable::NoObject) if object.is_null() => {}
            read => self.resources.push(read),
        }
    }
}

/// Whether it is what `kubectl get -o yaml` shows of several objects.
fn is_list(object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"))
}

/// What is read: without merge keys, without aliases that blow up, and words are texts unless they are `true` or `false`.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_DOCUMENTS,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_aliases: 1000,
            max_anchors: 1000,
            max_events: 20_000_000,
            max_nodes: 10_000_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
        strict_booleans: true,
        with_snippet: false,
    }
}
