//! Pure: which proxies use a version, which refused it, which have not answered, and which left without a word?
//!
//! Moments are times since the roll was begun.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::sds::version::Version;

/// How long a proxy whose stream ended is waited for. One that survives us is back within two seconds; one that starts anew
/// takes longer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// How often those who are forgotten are cleared away.
const CLEARED_EVERY: Duration = Duration::from_secs(1);
/// How many silent proxies are named.
const NAMED: usize = 5;
/// The longest name of a proxy that is kept, in characters.
const LONGEST_NODE: usize = 256;

/// One open stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriber {
    /// What the proxy calls itself. It is a name for people; nothing is granted by it.
    pub node: String,
    /// Each name it subscribes to, with its answer to what it was sent last.
    pub names: BTreeMap<String, Option<Answer>>,
    /// When the stream was opened.
    pub since: Duration,
}

/// The last answer to a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The version it was about.
    pub version: Version,
    /// Why the proxy refused it, redacted; `None` if it uses it now.
    pub refusal: Option<String>,
}

/// How the proxies stand to one version of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether any proxy has subscribed to anything since the roll was begun.
    pub is_anybody_seen: bool,
    /// How many have refused it.
    pub refusals: usize,
    /// One of those who refused it, and why, redacted.
    pub refusal: Option<(String, String)>,
    /// How many have not answered it, those among them who left and may come back.
    pub waiting: usize,
    /// How many of these have been here, or away, for longer than is polite.
    pub silent: usize,
    /// The first few of the silent ones.
    pub silent_nodes: Vec<String>,
}

/// All streams that are open, and those that were a moment ago.
#[derive(Clone, Debug, Default)]
pub(super) struct Roll {
    open: BTreeMap<u64, Subscriber>,
    /// Who has left, by what they call themselves and what they subscribed to.
    gone: BTreeMap<(String, String), Vec<Gone>>,
    cleared: Duration,
    is_anybody_seen: bool,
}

#[derive(Clone, Debug)]
struct Gone {
    at: Duration,
    answer: Option<Answer>,
}

impl Roll {
    pub(super) fn enter(&mut self, id: u64, now: Duration) {
        self.open.insert(id, Subscriber { since: now, ..Subscriber::default() });
    }

    /// Whether this is news.
    pub(super) fn is_called(&mut self, id: u64, node: &str) -> bool {
        let node: String = node.chars().take(LONGEST_NODE).collect();
        match self.open.get_mut(&id) {
            Some(subscriber) if subscriber.node != node => {
                subscriber.node = node;
                true
            }
            _ => false,
        }
    }

    /// Whether this is news.
    pub(super) fn watches(&mut self, id: u64, names: &BTreeSet<String>) -> bool {
        let Some(subscriber) = self.open.get_mut(&id) else { return false };
        if subscriber.names.keys().eq(names) {
            return false;
        }
        subscriber.names.retain(|name, _| names.contains(name));
        for name in names {
            if !subscriber.names.contains_key(name) {
                subscriber.names.insert(name.clone(), None);
                // One stream that comes makes good for one that went.
                let key = (subscriber.node.clone(), name.clone());
                if let Some(gone) = self.gone.get_mut(&key) {
                    gone.pop();
                    if gone.is_empty() {
                        self.gone.remove(&key);
                    }
                }
            }
        }
        self.is_anybody_seen = true;
        true
    }

    /// It is sent another version. Its answer to an earlier one says nothing any more, even if that one comes again.
    pub(super) fn pushed(&mut self, id: u64, name: &str) {
        if let Some(answer) = self.open.get_mut(&id).and_then(|subscriber| subscriber.names.get_mut(name)) {
            *answer = None;
        }
    }

    pub(super) fn answered(&mut self, id: u64, name: &str, answer: Answer) {
        if let Some(subscriber) = self.open.get_mut(&id) {
            subscriber.names.insert(name.to_owned(), Some(answer));
        }
    }

    pub(super) fn leave(&mut self, id: u64, now: Duration) {
        let Some(Subscriber { node, names, .. }) = self.open.remove(&id) else { return };
        if now.saturating_sub(self.cleared) >= CLEARED_EVERY {
            self.cleared = now;
            self.gone.retain(|_, gone| {
                gone.retain(|one| !one.is_forgotten(now));
                !gone.is_empty()
            });
        }
        // Who has no name is not known again; such are people who look, not proxies.
        if !node.is_empty() {
            for (name, answer) in names {
                self.gone.entry((node.clone(), name)).or_default().push(Gone { at: now, answer });
            }
        }
    }

    pub(super) fn open(&self) -> impl ExactSizeIterator<Item = &Subscriber> {
        self.open.values()
    }

    /// Whether all who are here have answered `version` of `name`, and if so, whether all took it.
    pub(super) fn have_answered(&self, name: &str, version: &Version) -> Option<bool> {
        let mut all = true;
        for answer in self.open.values().filter_map(|one| one.names.get(name)) {
            let answer = answer.as_ref().filter(|answer| answer.version == *version)?;
            all &= answer.refusal.is_none();
        }
        Some(all)
    }

    /// How those who subscribe to `name`, or did a moment ago, stand to `version`; whoever has not answered for `polite`
    /// is silent.
    pub(super) fn stand(&self, name: &str, version: &Version, now: Duration, polite: Duration) -> Standing {
        let here = self.open.values().filter_map(|one| Some((&one.node, one.names.get(name)?, one.since)));
        let gone =
            self.gone.iter().filter(|((_, watched), _)| watched == name).flat_map(|((node, _), gone)| {
                let remembered = gone.iter().filter(|one| !one.is_forgotten(now));
                remembered.map(move |one| (node, &one.answer, one.at))
            });
        let mut standing = Standing { is_anybody_seen: self.is_anybody_seen, ..Standing::default() };
        for (node, answer, since) in here.chain(gone) {
            match answer.as_ref().filter(|answer| answer.version == *version) {
                Some(Answer { refusal: None, .. }) => {}
                Some(Answer { refusal: Some(why), .. }) => {
                    standing.refusals += 1;
                    standing.refusal.get_or_insert_with(|| (node.clone(), why.clone()));
                }
                None => {
                    standing.waiting += 1;
                    if now.saturating_sub(since) >= polite {
                        standing.silent += 1;
                        if standing.silent_nodes.len() < NAMED && !standing.silent_nodes.contains(node) {
                            standing.silent_nodes.push(node.clone());
                        }
                    }
                }
            }
        }
        standing
    }
}

impl Gone {
    fn is_forgotten(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) >= FORGOTTEN_AFTER
    }
}

#[cfg(test)]
#[path = "roll_tests.rs"]
mod tests;
