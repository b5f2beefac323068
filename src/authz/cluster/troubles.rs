//! What is wrong between us and the API server, as long as it is; each is said once.

use std::collections::BTreeMap;

use crate::authz::resource::ResourceId;
use crate::k8s::Seen;
use crate::k8s::Trouble;

/// From how many failures in a row on an operator should hear of a write.
const WORTH_SAYING: u32 = 3;

/// What is wrong, by where it shows.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    watches: BTreeMap<&'static str, String>,
    writes: BTreeMap<ResourceId, String>,
}

impl Troubles {
    /// What is the same for every watch; returns what it has shown, unless that is trouble.
    pub(super) fn of_watch<K>(&mut self, of: &'static str, seen: Seen<K>) -> Option<Seen<K>> {
        let Seen::Trouble(trouble) = seen else {
            if self.watches.remove(of).is_some() {
                tracing::info!(of, "the watch gets on");
            }
            return Some(seen);
        };
        let sentence = format!("policies: the watch of {of}: {trouble}");
        if self.watches.insert(of, sentence.clone()).is_none() {
            tracing::warn!(error = sentence, "a watch does not get on");
        }
        None
    }

    /// A write went through.
    pub(super) fn write_went_through(&mut self, id: &ResourceId) {
        self.writes.remove(id);
    }

    /// A write has failed so many times in a row; returns whether that is to be said now.
    pub(super) fn write_failed(&mut self, id: &ResourceId, times: u32, trouble: &Trouble) -> bool {
        let is_sure = trouble.is_final() || trouble.is_forbidden();
        if times >= WORTH_SAYING || is_sure {
            self.writes.insert(id.clone(), format!("the status of {id}: {trouble}"));
        }
        times == WORTH_SAYING || (times == 1 && is_sure)
    }

    /// Writes that are no longer due are no trouble.
    pub(super) fn keep(&mut self, is_due: impl Fn(&ResourceId) -> bool) {
        self.writes.retain(|id, _| is_due(id));
    }

    /// The first of them.
    pub(super) fn sentence(&self) -> Option<String> {
        self.watches.values().chain(self.writes.values()).next().cloned()
    }
}
