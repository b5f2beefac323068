//! Which issuers' keys are needed, and which of them are there?
//!
//! Policies say which: whoever is in force holds a [`Published`] for each URI, all of the same URI the same one. The keeper, and
//! nobody else, puts keys into it. A URI that no policy in force names any more is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::authz::tokens::key_set::KeySet;

/// The URIs that keys are needed from. Clones are the same book.
#[derive(Clone, Debug, Default)]
pub struct KeyBook {
    entries: Arc<Mutex<BTreeMap<Box<str>, Weak<Published>>>>,
    bell: Arc<Notify>,
    /// Counts how often keys were put in.
    news: watch::Sender<u64>,
}

/// The keys that an issuer publishes at a URI, as far as they are known.
#[derive(Debug)]
pub struct Published {
    uri: Box<str>,
    kept: ArcSwapOption<Kept>,
    missed: AtomicBool,
    bell: Arc<Notify>,
    news: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    keys: Arc<KeySet>,
    until: OffsetDateTime,
}

impl KeyBook {
    /// The keys at `uri`: those that are there already, or none until they are fetched.
    pub fn follow(&self, uri: &str) -> Arc<Published> {
        let mut entries = self.entries();
        if let Some(known) = entries.get(uri).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Published {
            uri: uri.into(),
            kept: ArcSwapOption::empty(),
            missed: AtomicBool::new(false),
            bell: self.bell.clone(),
            news: self.news.clone(),
        });
        entries.insert(uri.into(), Arc::downgrade(&new));
        drop(entries);
        self.bell.notify_one();
        new
    }

    /// Changes whenever keys were put in.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// What is needed by anybody now.
    pub(super) fn needed(&self) -> Vec<Arc<Published>> {
        let mut entries = self.entries();
        entries.retain(|_, one| one.strong_count() > 0);
        entries.values().filter_map(Weak::upgrade).collect()
    }

    /// Waits until somebody needs something that is not there.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Weak<Published>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    /// Where they are published.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The keys, unless there never were any or they are too old.
    pub fn keys(&self, now: OffsetDateTime) -> Option<Arc<KeySet>> {
        let kept = self.kept.load();
        kept.as_ref().filter(|kept| now < kept.until).map(|kept| kept.keys.clone())
    }

    /// Says that a token names a key that is not among them: the issuer may have a new one.
    pub(super) fn miss(&self) {
        if !self.missed.swap(true, Ordering::Relaxed) {
            self.bell.notify_one();
        }
    }

    /// Whether a key was missed since this was last asked.
    pub(super) fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// Puts keys into it, to be used before `until`.
    pub(super) fn put(&self, keys: KeySet, until: OffsetDateTime) {
        self.kept.store(Some(Arc::new(Kept { keys: Arc::new(keys), until })));
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::authz::tokens::test_support::Signer;

    #[test]
    fn all_who_need_a_uri_share_its_keys_and_the_last_takes_them_along() {
        let book = KeyBook::default();
        let (one, other) = (book.follow("https://a"), book.follow("https://a"));
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(book.needed().len(), 1);
        drop((one, other));
        assert_eq!(book.needed().len(), 0);
    }

    #[test]
    fn keys_are_not_there_before_they_are_fetched_nor_once_they_are_too_old() {
        let (start, book) = (OffsetDateTime::UNIX_EPOCH, KeyBook::default());
        let published = book.follow("https://a");
        assert!(published.keys(start).is_none());
        let hour = Duration::from_secs(3600);
        published.put(KeySet::parse(&Signer::new("k").jwks()).unwrap(), start + hour);
        assert!(published.keys(start + hour - Duration::from_nanos(1)).is_some());
        assert!(published.keys(start + hour).is_none());
    }
}
