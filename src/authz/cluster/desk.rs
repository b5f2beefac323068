//! Pure: which policies are there, what is wrong with them, and what of that is news?

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::authz::cluster::board::Board;
use crate::authz::cluster::reach::Reach;
use crate::authz::cluster::standing::OfKind;
use crate::authz::cluster::status::Held;
use crate::authz::resource::Fault;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::ResourceKind;
use crate::authz::resource::Severity;
use crate::authz::resource::Unreadable;
use crate::k8s::mirror::Mirror;

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Desk {
    root_namespace: String,
    kinds: BTreeMap<ResourceKind, Shelf>,
    by_namespace: HashMap<String, BTreeSet<ResourceId>>,
    /// Whose status is behind.
    pub(super) board: Board,
    /// To how many workloads each of them applies.
    pub(super) reach: Reach,
}

/// What is known of a kind.
#[derive(Debug, Default)]
struct Shelf {
    objects: Mirror<ResourceId, Known>,
    trouble: Option<String>,
    is_absent: bool,
}

#[derive(Debug)]
struct Known {
    id: ResourceId,
    mark: u64,
    resource: Arc<Resource>,
}

/// What a watch has shown of an object.
#[derive(Debug)]
pub(super) enum Shown {
    /// It means something new.
    New(Arc<Resource>),
    /// It means what it did: its status alone has changed, or it was listed again.
    Same,
    /// It cannot be read at all, for this reason.
    Unreadable(String),
}

impl Desk {
    /// Nothing is known yet; policies of `root_namespace` concern all namespaces.
    pub(super) fn new(root_namespace: &str) -> Self {
        Self {
            root_namespace: root_namespace.to_owned(),
            kinds: ResourceKind::ALL.map(|kind| (kind, Shelf::default())).into(),
            by_namespace: HashMap::new(),
            board: Board::default(),
            reach: Reach::default(),
        }
    }

    /// A list of a kind begins.
    pub(super) fn begins(&mut self, kind: ResourceKind) {
        self.shelf(kind).objects.begin();
    }

    /// A list of a kind is complete; returns what is gone.
    pub(super) fn complete(&mut self, kind: ResourceKind) -> Vec<ResourceId> {
        let gone: Vec<_> = self.shelf(kind).objects.complete().into_iter().map(|known| known.id).collect();
        gone.iter().for_each(|id| self.forget(id));
        gone
    }

    /// The cluster does not know that kind. What was known of it is kept, as whoever takes the definition away takes the objects away
    /// first. Returns whether that is news, and the kind is as good as listed.
    pub(super) fn absent(&mut self, kind: ResourceKind) -> bool {
        let shelf = self.shelf(kind);
        let is_news = !shelf.is_absent;
        (shelf.is_absent, shelf.trouble) = (true, None);
        is_news
    }

    /// A watch does not get on; returns whether that is news.
    pub(super) fn trouble(&mut self, kind: ResourceKind, sentence: String) -> bool {
        self.shelf(kind).trouble.replace(sentence).is_none()
    }

    /// A watch gets on; returns whether that is news.
    pub(super) fn well(&mut self, kind: ResourceKind) -> bool {
        let shelf = self.shelf(kind);
        let was_absent = std::mem::take(&mut shelf.is_absent);
        shelf.trouble.take().is_some() || was_absent
    }

    /// An object is there, or has changed.
    pub(super) fn there(&mut self, mut object: Value, now: Duration) -> Shown {
        let (mark, held) = (mark_of(&object), Held::by(&object));
        without_bookkeeping(&mut object);
        let resource = match Resource::read(&object).or_else(|why| as_nothing(&object, &why).ok_or(why)) {
            Ok(resource) => Arc::new(resource),
            Err(unreadable) => return Shown::Unreadable(unreadable.to_string()),
        };
        let id = resource.id.clone();
        let (generation, faults) = (resource.generation, resource.faults.clone());
        let shelf = self.shelf(id.kind);
        let is_same = shelf.objects.get(&id).is_some_and(|known| known.mark == mark);
        shelf.objects.put(id.clone(), Known { id: id.clone(), mark, resource: resource.clone() });
        self.board.there(&id, generation, faults, held, now);
        if is_same {
            return Shown::Same;
        }
        self.by_namespace.entry(id.namespace.clone()).or_default().insert(id.clone());
        self.touch(&id);
        Shown::New(resource)
    }

    /// An object is gone.
    pub(super) fn gone(&mut self, id: &ResourceId) {
        self.shelf(id.kind).objects.remove(id);
        self.forget(id);
    }

    /// The objects that may concern workloads of a namespace.
    pub(super) fn of(&self, namespace: &str) -> Vec<Arc<Resource>> {
        let places = BTreeSet::from([namespace, self.root_namespace.as_str(), ""]);
        let ids = places.into_iter().filter_map(|place| self.by_namespace.get(place)).flatten();
        ids.filter_map(|id| Some(self.kinds.get(&id.kind)?.objects.get(id)?.resource.clone())).collect()
    }

    /// Whether every kind was listed, or is not served.
    pub(super) fn is_complete(&self) -> bool {
        self.kinds.values().all(|shelf| shelf.is_absent || shelf.objects.is_complete())
    }

    /// How the kinds stand.
    pub(super) fn standing(&self) -> BTreeMap<&'static str, OfKind> {
        self.kinds.iter().map(|(kind, shelf)| (kind.as_str(), shelf.standing())).collect()
    }

    /// The first trouble with a watch.
    pub(super) fn first_trouble(&self) -> Option<&String> {
        self.kinds.values().find_map(|shelf| shelf.trouble.as_ref())
    }

    fn shelf(&mut self, kind: ResourceKind) -> &mut Shelf {
        self.kinds.entry(kind).or_default()
    }

    fn forget(&mut self, id: &ResourceId) {
        if let Some(own) = self.by_namespace.get_mut(&id.namespace) {
            own.remove(id);
            if own.is_empty() {
                self.by_namespace.remove(&id.namespace);
            }
        }
        self.board.gone(id);
        self.touch(id);
    }

    /// What it applies to is to be counted anew: in its namespace, or in all of them, which an empty name stands for.
    fn touch(&mut self, id: &ResourceId) {
        let is_of_all = id.namespace.is_empty() || id.namespace == self.root_namespace;
        self.reach.changed([if is_of_all { String::new() } else { id.namespace.clone() }]);
    }
}

impl Shelf {
    fn standing(&self) -> OfKind {
        let mut of = OfKind {
            is_in_trouble: self.trouble.is_some(),
            is_served: self.objects.is_complete() && !self.is_absent,
            ..OfKind::default()
        };
        for known in self.objects.values() {
            let errors =
                known.resource.faults.iter().filter(|fault| fault.severity == Severity::Error).count();
            *(if errors == 0 { &mut of.accepted } else { &mut of.faulty }) += 1;
            of.errors += errors;
            of.warnings += known.resource.faults.len() - errors;
        }
        of
    }
}

/// An object that is there and cannot be read as a whole, as one that is nested too deep, read as one that says nothing that can be
/// read: it must not be as if it were not there, for without it more might be allowed.
fn as_nothing(object: &Value, why: &Unreadable) -> Option<Resource> {
    let of = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_default();
    let mut metadata = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let nothing = json!({
        "apiVersion": of("/apiVersion"), "kind": of("/kind"), "metadata": metadata, "spec": "unreadable",
    });
    let mut resource = Resource::read(&nothing).ok()?;
    let effect =
        "until it is corrected, it is read as whatever allows least to all that it could be for".to_owned();
    let (path, problem) = ("spec".to_owned(), why.to_string());
    resource.faults = vec![Fault { path, severity: Severity::Error, problem, effect }];
    Some(resource)
}

/// Takes away what the API server and we ourselves write: it is no part of what an author says, and larger than that.
fn without_bookkeeping(object: &mut Value) {
    let Some(parts) = object.as_object_mut() else { return };
    parts.remove("status");
    if let Some(metadata) = parts.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// What changes whenever an object means something new: its UID, and its spec and annotations.
fn mark_of(object: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    for pointer in ["/metadata/uid", "/metadata/generation", "/metadata/annotations", "/spec"] {
        object.pointer(pointer).map(Value::to_string).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
