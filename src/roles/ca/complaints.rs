//! What is wrong with this process now, part by part, as facts that readiness, the state page and metrics read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// A part that can be in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Callers cannot be proven: nothing can be issued.
    Callers,
    /// The stored authority is gone or damaged: what is in memory still signs.
    Authority,
    /// This replica cannot tell others whom it knows: after a while they take it for gone.
    Told,
    /// It cannot hear others: a rotation waits.
    Heard,
    /// The leader cannot take the steps of a rotation.
    Rotation,
}

impl Part {
    pub(super) const ALL: [Self; 5] =
        [Self::Callers, Self::Authority, Self::Told, Self::Heard, Self::Rotation];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Callers => "callers",
            Self::Authority => "authority",
            Self::Told => "census",
            Self::Heard => "censuses",
            Self::Rotation => "rotation",
        }
    }
}

/// One sentence for each part that is in trouble. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Complaints(Arc<Mutex<BTreeMap<Part, String>>>);

impl Complaints {
    /// Says what is wrong with `part` now, `None` if nothing is; a change is logged.
    pub(super) fn set(&self, part: Part, wrong: Option<String>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&part) == wrong.as_ref() {
            return;
        }
        match wrong {
            Some(error) => {
                tracing::error!(part = part.name(), error, "something is wrong");
                held.insert(part, error);
            }
            None => {
                tracing::info!(part = part.name(), "what was wrong is well again");
                held.remove(&part);
            }
        }
    }

    pub(super) fn about(&self, part: Part) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&part).cloned()
    }

    /// Everything that is wrong.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
