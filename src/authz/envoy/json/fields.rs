//! Pure: how are the fields of a message put into JSON?

use prost::DecodeError;
use prost::Name;
use serde_json::Map;
use serde_json::Value;

/// Why a message is not written.
#[derive(Debug, thiserror::Error)]
pub enum Unprintable {
    /// Nothing that is made here.
    #[error("`{0}` is not among the messages that are written here")]
    Unknown(String),
    /// Bytes that are not what they say.
    #[error("`{0}` cannot be read: {1}")]
    Garbled(String, #[source] DecodeError),
}

pub(super) type Written = Result<Value, Unprintable>;

/// The fields of a message, in the order they are put in; what is absent or a default is left out, as proto3 has it.
#[derive(Default)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let is_default = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Number(_) | Value::Bool(true) | Value::Object(_) => false,
        };
        if !is_default {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    pub(super) fn with_some<T>(
        self,
        name: &str,
        part: &Option<T>,
        write: fn(&T) -> Written,
    ) -> Result<Self, Unprintable> {
        Ok(match part {
            Some(part) => self.with(name, write(part)?),
            None => self,
        })
    }
}

/// Refuses a message of which there is more than is written, which is all in `written`.
pub(super) fn nothing_beside<M: Name + PartialEq>(message: &M, written: &M) -> Result<(), Unprintable> {
    if message == written { Ok(()) } else { Err(Unprintable::Unknown(M::full_name())) }
}

pub(super) fn unknown(what: &str) -> Unprintable {
    Unprintable::Unknown(what.to_owned())
}

pub(super) fn list<T>(list: &[T], write: fn(&T) -> Written) -> Written {
    list.iter().map(write).collect::<Result<Vec<_>, _>>().map(Value::Array)
}
