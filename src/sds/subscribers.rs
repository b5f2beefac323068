//! Who subscribes to what, and what have they acknowledged?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use crate::sds::version::Version;

/// One open stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriber {
    /// What the proxy calls itself. It is a name for people; nothing is granted by it.
    pub node: String,
    /// Each name it subscribes to, with the version it answered last and whether it took it.
    pub names: BTreeMap<String, Option<Answer>>,
}

/// The last answer to a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The version it was about.
    pub version: Version,
    /// Whether the proxy uses it now.
    pub accepted: bool,
}

/// All open streams. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Subscribers {
    open: Arc<watch::Sender<BTreeMap<u64, Subscriber>>>,
    last: Arc<AtomicU64>,
}

/// One stream's entry; it goes when the stream does.
#[derive(Debug)]
pub(super) struct Entry {
    all: Subscribers,
    id: u64,
}

impl Subscribers {
    pub(super) fn enter(&self) -> Entry {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        self.open.send_modify(|open| drop(open.insert(id, Subscriber::default())));
        Entry { all: self.clone(), id }
    }

    /// How many streams are open.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Waits until every stream that subscribes to `name` has answered `version`, with ACK or NACK; at once if there is
    /// none. Whoever rejects it goes on with what they had, and is not waited for. Returns whether all took it.
    pub async fn have_answered(&self, name: &str, version: &Version) -> bool {
        let answer = |subscriber: &Subscriber| match subscriber.names.get(name) {
            None => Some(true),
            Some(answer) => answer.as_ref().filter(|one| one.version == *version).map(|one| one.accepted),
        };
        let mut open = self.open.subscribe();
        // We hold a sender, so the channel cannot be closed.
        match open.wait_for(|open| open.values().all(|one| answer(one).is_some())).await {
            Ok(open) => open.values().all(|one| answer(one) == Some(true)),
            Err(_) => false,
        }
    }
}

impl Entry {
    pub(super) fn is_called(&self, node: &str) {
        self.change(|subscriber| subscriber.node = node.chars().take(256).collect());
    }

    pub(super) fn watches<'a>(&self, names: impl Iterator<Item = &'a String> + Clone) {
        self.change(|subscriber| {
            subscriber.names.retain(|name, _| names.clone().any(|kept| kept == name));
            for name in names {
                subscriber.names.entry(name.clone()).or_default();
            }
        });
    }

    pub(super) fn answered(&self, name: &str, version: Version, accepted: bool) {
        self.change(|subscriber| {
            subscriber.names.insert(name.to_owned(), Some(Answer { version, accepted }));
        });
    }

    fn change(&self, how: impl FnOnce(&mut Subscriber)) {
        self.all.open.send_modify(|open| {
            if let Some(subscriber) = open.get_mut(&self.id) {
                how(subscriber);
            }
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.open.send_modify(|open| drop(open.remove(&self.id)));
    }
}
