//! Pure: whose status is behind, and which is to be written next?
//!
//! Every replica feeds it, so that whoever leads next knows at once what there is to do; only the leader takes writes from it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use crate::authz::cluster::status::Held;
use crate::authz::cluster::status::Lack;
use crate::authz::cluster::status::Wanted;
use crate::authz::resource::Fault;
use crate::authz::resource::ResourceId;
use crate::k8s::queue::Flight;
use crate::k8s::queue::Queue;

/// How long a status may tell an old number of workloads: pods come and go all the time, and with each of them the numbers of all
/// policies that apply to it.
const COUNT_PAUSE: Duration = Duration::from_secs(30);
/// How many statuses are written in a second at most.
const PER_SECOND: usize = 50;

/// All objects, what their statuses should say, and what they do say.
#[derive(Debug, Default)]
pub(super) struct Board {
    entries: HashMap<ResourceId, Entry>,
    queue: Queue<ResourceId>,
    /// When the numbers of these are due.
    later: BTreeSet<(Duration, ResourceId)>,
    /// When the present second of writing began, and how many were written in it.
    second: (Duration, usize),
}

#[derive(Debug)]
struct Entry {
    generation: i64,
    faults: Vec<Fault>,
    workloads: Option<usize>,
    held: Held,
    /// Since when it is behind.
    behind: Option<Duration>,
    written: Option<Duration>,
    /// When its number is due, if it waits for that.
    later: Option<Duration>,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) wanted: Wanted,
    pub(super) held: Held,
}

impl Entry {
    fn wanted(&self) -> Wanted {
        Wanted::of(self.generation, &self.faults, self.workloads)
    }
}

impl Board {
    /// An object is there, or has changed; that is wrong with it, and that is what its status says.
    pub(super) fn there(
        &mut self,
        id: &ResourceId,
        generation: i64,
        faults: Vec<Fault>,
        held: Held,
        now: Duration,
    ) {
        let known = self.entries.remove(id);
        let (workloads, behind) =
            known.as_ref().map_or((None, None), |known| (known.workloads, known.behind));
        let (written, later) = known.map_or((None, None), |known| (known.written, known.later));
        let entry = Entry { generation, faults, workloads, held, behind, written, later };
        self.entries.insert(id.clone(), entry);
        self.look_at(id, now);
        self.queue.changed(id);
    }

    /// An object is gone.
    pub(super) fn gone(&mut self, id: &ResourceId) {
        if let Some(Entry { later: Some(at), .. }) = self.entries.remove(id) {
            self.later.remove(&(at, id.clone()));
        }
        self.queue.forget(id);
    }

    /// Each object applies to so many workloads; those that are not named apply to none.
    pub(super) fn counted(&mut self, counts: &BTreeMap<ResourceId, usize>, now: Duration) {
        let mut changed = Vec::new();
        for (id, entry) in &mut self.entries {
            let count = Some(counts.get(id).copied().unwrap_or(0));
            if entry.workloads != count {
                entry.workloads = count;
                changed.push(id.clone());
            }
        }
        changed.iter().for_each(|id| self.look_at(id, now));
    }

    /// The next write that is due, if any.
    pub(super) fn next(&mut self, now: Duration) -> Option<(ResourceId, Write, Flight)> {
        self.ripen(now);
        if now.saturating_sub(self.second.0) >= Duration::from_secs(1) {
            self.second = (now, 0);
        }
        while self.second.1 < PER_SECOND {
            let (id, flight) = self.queue.take(now)?;
            let write = self.entries.get(&id).map(|entry| (entry.wanted(), entry.held.clone()));
            match write {
                Some((wanted, held)) if held.lacks(&wanted).is_some() => {
                    self.second.1 += 1;
                    return Some((id, Write { wanted, held }, flight));
                }
                _ => drop(self.queue.done(&id, flight, now)),
            }
        }
        None
    }

    /// A write went through, and the object held that right after it. If the watch has shown anything since the write was decided on,
    /// what it showed is the newer truth.
    pub(super) fn wrote(&mut self, id: &ResourceId, flight: Flight, held: Held, now: Duration) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.written = Some(now);
        }
        if self.queue.done(id, flight, now)
            && let Some(entry) = self.entries.get_mut(id)
        {
            entry.held = held;
            self.look_at(id, now);
        }
    }

    /// A write failed. Returns how often in a row.
    pub(super) fn failed(&mut self, id: &ResourceId, flight: Flight, now: Duration) -> u32 {
        self.queue.failed(id, flight, now)
    }

    /// When there is something to write next, and how many writes are under way.
    pub(super) fn queue(&self) -> (Option<Duration>, usize) {
        let later = self.later.first().map(|(at, _)| *at);
        let queued = self.queue.next_due().map(|due| match self.second.1 < PER_SECOND {
            true => due,
            false => due.max(self.second.0 + Duration::from_secs(1)),
        });
        (queued.into_iter().chain(later).min(), self.queue.in_flight())
    }

    /// Since when the status that is behind for the longest is so; numbers that wait for their time are not.
    pub(super) fn behind_since(&self) -> Option<Duration> {
        self.entries.values().filter_map(|entry| entry.behind).min()
    }

    /// How many are behind.
    pub(super) fn behind(&self) -> usize {
        self.entries.values().filter(|entry| entry.behind.is_some()).count()
    }

    /// Whether one is behind.
    pub(super) fn is_behind(&self, id: &ResourceId) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.behind.is_some())
    }

    fn look_at(&mut self, id: &ResourceId, now: Duration) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match entry.held.lacks(&entry.wanted()) {
            None => {
                entry.behind = None;
                if let Some(at) = entry.later.take() {
                    self.later.remove(&(at, id.clone()));
                }
            }
            Some(Lack::Much) => {
                entry.behind.get_or_insert(now);
                self.queue.add(id, now);
            }
            Some(Lack::Count) => {
                let due = entry.written.map_or(now, |written| written + COUNT_PAUSE).max(now);
                if entry.later.is_none() {
                    entry.later = Some(due);
                    self.later.insert((due, id.clone()));
                }
            }
        }
    }

    /// Numbers whose time has come.
    fn ripen(&mut self, now: Duration) {
        while let Some((at, _)) = self.later.first()
            && *at <= now
            && let Some((_, id)) = self.later.pop_first()
        {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.later = None;
            if entry.held.lacks(&entry.wanted()).is_some() {
                entry.behind.get_or_insert(now);
                self.queue.add(&id, now);
            }
        }
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
