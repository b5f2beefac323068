//! Pure: who does not have the right trust bundle yet, and what is to be written there?

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use crate::k8s::queue::Queue;

/// A place that trust is published in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    /// The ClusterTrustBundle.
    Cluster,
    /// The ConfigMap of this namespace.
    Namespace(String),
}

/// What a place holds, as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Its version, which a write must name.
    pub(super) version: String,
    /// A digest of the bundle in it; `None` if it has none that can be read.
    pub(super) digest: Option<[u8; 32]>,
}

/// A write that makes a place right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Make the object.
    Create,
    /// Change the object, if it still has that version.
    Change {
        /// The version.
        version: String,
    },
}

/// All places, what they should hold, and what they do hold.
#[derive(Debug)]
pub(super) struct Board {
    wanted: [u8; 32],
    namespaces: BTreeSet<String>,
    held: HashMap<Place, Held>,
    /// Places in a list that is still coming in; `None` between lists.
    listed_namespaces: Option<BTreeSet<String>>,
    listed_held: HashMap<Kind, BTreeSet<Place>>,
    complete: BTreeSet<Kind>,
    pending: BTreeSet<Place>,
    queue: Queue<Place>,
}

/// A list that the board is fed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The namespaces.
    Namespaces,
    /// Their ConfigMaps.
    ConfigMaps,
    /// The ClusterTrustBundle.
    ClusterTrustBundle,
}

impl Board {
    /// An empty board: nothing has been seen, and the bundle with this digest is wanted everywhere.
    pub(super) fn new(wanted: [u8; 32]) -> Self {
        Self {
            wanted,
            namespaces: BTreeSet::new(),
            held: HashMap::new(),
            listed_namespaces: None,
            listed_held: HashMap::new(),
            complete: BTreeSet::new(),
            pending: BTreeSet::new(),
            queue: Queue::default(),
        }
    }

    /// Another bundle is wanted everywhere.
    pub(super) fn want(&mut self, digest: [u8; 32], now: Duration) {
        if self.wanted != digest {
            self.wanted = digest;
            self.review(now);
        }
    }

    /// A list begins: what is not in it when it is complete is gone.
    pub(super) fn begins(&mut self, kind: Kind) {
        match kind {
            Kind::Namespaces => self.listed_namespaces = Some(BTreeSet::new()),
            Kind::ConfigMaps | Kind::ClusterTrustBundle => {
                self.listed_held.insert(kind, BTreeSet::new());
            }
        }
    }

    /// A list is complete.
    pub(super) fn complete(&mut self, kind: Kind, now: Duration) {
        match kind {
            Kind::Namespaces => {
                let listed = self.listed_namespaces.take().unwrap_or_default();
                let gone: Vec<_> = self.namespaces.difference(&listed).cloned().collect();
                gone.iter().for_each(|name| self.namespace_gone(name));
            }
            Kind::ConfigMaps | Kind::ClusterTrustBundle => {
                let listed = self.listed_held.remove(&kind).unwrap_or_default();
                self.held.retain(|place, _| kind_of(place) != kind || listed.contains(place));
            }
        }
        self.complete.insert(kind);
        self.review(now);
    }

    /// A namespace is there, and takes objects; one that is being deleted does not.
    pub(super) fn namespace(&mut self, name: &str, is_ending: bool, now: Duration) {
        if let Some(listed) = &mut self.listed_namespaces {
            listed.insert(name.to_owned());
        }
        match is_ending {
            true => self.namespace_gone(name),
            false => {
                self.namespaces.insert(name.to_owned());
                self.look_at(&Place::Namespace(name.to_owned()), now);
            }
        }
    }

    /// A namespace is gone, or going.
    pub(super) fn namespace_gone(&mut self, name: &str) {
        self.namespaces.remove(name);
        let place = Place::Namespace(name.to_owned());
        self.pending.remove(&place);
        self.queue.forget(&place);
    }

    /// A place holds that; `None` if its object is gone.
    pub(super) fn holds(&mut self, place: Place, held: Option<Held>, now: Duration) {
        if let Some(listed) = self.listed_held.get_mut(&kind_of(&place)) {
            listed.insert(place.clone());
        }
        match held {
            Some(held) => drop(self.held.insert(place.clone(), held)),
            None => drop(self.held.remove(&place)),
        }
        self.look_at(&place, now);
    }

    /// The next write that is due, if any.
    pub(super) fn next(&mut self, now: Duration) -> Option<(Place, Write)> {
        loop {
            let place = self.queue.take(now)?;
            match self.wrong(&place) {
                Some(write) => return Some((place, write)),
                None => self.queue.done(&place, now),
            }
        }
    }

    /// A write went through, and the place now holds that.
    pub(super) fn wrote(&mut self, place: &Place, held: Held, now: Duration) {
        self.queue.done(place, now);
        self.holds(place.clone(), Some(held), now);
    }

    /// A write failed. Returns how often in a row.
    pub(super) fn failed(&mut self, place: &Place, now: Duration) -> u32 {
        self.queue.failed(place, now)
    }

    /// When the next write is due, and how many are under way.
    pub(super) fn queue(&self) -> (Option<Duration>, usize) {
        (self.queue.next_due(), self.queue.in_flight())
    }

    /// How many namespaces there are; `None` until all lists that tell are complete.
    pub(super) fn namespaces(&self) -> Option<usize> {
        let known = [Kind::Namespaces, Kind::ConfigMaps].iter().all(|kind| self.complete.contains(kind));
        known.then_some(self.namespaces.len())
    }

    /// The namespaces that do not have the bundle yet.
    pub(super) fn pending(&self) -> impl Iterator<Item = &str> {
        self.pending.iter().filter_map(|place| match place {
            Place::Namespace(name) => Some(name.as_str()),
            Place::Cluster => None,
        })
    }

    /// Whether the ClusterTrustBundle is right; `None` until it was seen, or seen to be missing.
    pub(super) fn cluster_is_right(&self) -> Option<bool> {
        self.complete.contains(&Kind::ClusterTrustBundle).then(|| !self.pending.contains(&Place::Cluster))
    }

    fn review(&mut self, now: Duration) {
        let namespaces = self.namespaces.iter().cloned().map(Place::Namespace);
        let places: Vec<_> = namespaces.chain([Place::Cluster]).collect();
        places.iter().for_each(|place| self.look_at(place, now));
    }

    fn look_at(&mut self, place: &Place, now: Duration) {
        match self.wrong(place) {
            Some(_) => {
                self.pending.insert(place.clone());
                self.queue.add(place, now);
            }
            None => drop(self.pending.remove(place)),
        }
    }

    /// What is to be written there. Nothing before the list is complete that tells whether there is an object, and nothing
    /// into a namespace that is not there.
    fn wrong(&self, place: &Place) -> Option<Write> {
        let is_there = match place {
            Place::Cluster => true,
            Place::Namespace(name) => self.namespaces.contains(name),
        };
        if !is_there || !self.complete.contains(&kind_of(place)) {
            return None;
        }
        match self.held.get(place) {
            None => Some(Write::Create),
            Some(held) if held.digest != Some(self.wanted) => {
                Some(Write::Change { version: held.version.clone() })
            }
            Some(_) => None,
        }
    }
}

fn kind_of(place: &Place) -> Kind {
    match place {
        Place::Cluster => Kind::ClusterTrustBundle,
        Place::Namespace(_) => Kind::ConfigMaps,
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
