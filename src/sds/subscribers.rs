//! Who subscribes to what, and what have they answered? `roll` knows; this shares it between streams and those who wait.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Stopwatch;
use crate::sds::roll::Answer;
use crate::sds::roll::Roll;
use crate::sds::roll::Standing;
use crate::sds::roll::Subscriber;
use crate::sds::version::Version;

/// How long after one answer those who wait look again. Thousands that answer at once cost a few looks, not thousands.
const GATHER: Duration = Duration::from_millis(3);

/// All open streams, and those that were open a moment ago. Clones share it.
#[derive(Clone, Debug)]
pub struct Subscribers {
    roll: Arc<watch::Sender<Roll>>,
    last: Arc<AtomicU64>,
    started: Stopwatch,
}

/// Tells when there is something new to be asked of [`Subscribers`].
#[derive(Debug)]
pub struct Changes(watch::Receiver<Roll>);

/// One stream's entry; it goes when the stream does.
#[derive(Debug)]
pub(super) struct Entry {
    all: Subscribers,
    id: u64,
}

impl Default for Subscribers {
    fn default() -> Self {
        Self { roll: Arc::default(), last: Arc::default(), started: Stopwatch::start() }
    }
}

impl Subscribers {
    pub(super) fn enter(&self) -> Entry {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let now = self.elapsed();
        self.roll.send_modify(|roll| roll.enter(id, now));
        Entry { all: self.clone(), id }
    }

    /// How long this book has been kept.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How many streams are open.
    pub fn count(&self) -> usize {
        self.roll.borrow().open().len()
    }

    /// Every open stream.
    pub fn all(&self) -> Vec<Subscriber> {
        self.roll.borrow().open().cloned().collect()
    }

    /// How those who subscribe to `name`, or did a moment ago, stand to `version`; whoever has not answered for `polite`
    /// is silent.
    pub fn stand(&self, name: &str, version: &Version, polite: Duration) -> Standing {
        self.roll.borrow().stand(name, version, self.elapsed(), polite)
    }

    /// Tells of changes from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.roll.subscribe())
    }

    /// Waits until every stream that subscribes to `name` has answered `version`, with ACK or NACK; at once if there is
    /// none. Whoever rejects it goes on with what they had, and is not waited for. Returns whether all took it.
    pub async fn have_answered(&self, name: &str, version: &Version) -> bool {
        let mut changes = self.changes();
        loop {
            let answered = self.roll.borrow().have_answered(name, version);
            match answered {
                Some(all) => return all,
                None => changes.next().await,
            }
        }
    }
}

impl Changes {
    /// Waits until something has changed since the last time, and lets what comes with it come.
    pub async fn next(&mut self) {
        // Who asks holds the subscribers, so the channel is open.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GATHER).await;
        self.0.mark_unchanged();
    }
}

impl Entry {
    pub(super) fn is_called(&self, node: &str) {
        self.all.roll.send_if_modified(|roll| roll.is_called(self.id, node));
    }

    pub(super) fn watches(&self, names: &BTreeSet<String>) {
        self.all.roll.send_if_modified(|roll| roll.watches(self.id, names));
    }

    pub(super) fn pushed(&self, name: &str) {
        self.all.roll.send_modify(|roll| roll.pushed(self.id, name));
    }

    /// It took `version` of `name`, or refused it and said why, redacted.
    pub(super) fn answered(&self, name: &str, version: Version, refusal: Option<String>) {
        let answer = Answer { version, refusal };
        self.all.roll.send_modify(|roll| roll.answered(self.id, name, answer));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let now = self.all.elapsed();
        self.all.roll.send_modify(|roll| roll.leave(self.id, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_told_once_the_last_one_has_answered() {
        let subscribers = Subscribers::default();
        assert!(subscribers.have_answered("a", &"1".into()).await, "there is nobody");
        let names = BTreeSet::from(["a".to_owned()]);
        let entries: Vec<_> = (0..2000).map(|_| subscribers.enter()).collect();
        entries.iter().for_each(|entry| entry.watches(&names));
        assert_eq!(subscribers.count(), 2000);
        let waiting = tokio::spawn({
            let subscribers = subscribers.clone();
            async move { subscribers.have_answered("a", &"1".into()).await }
        });
        for (at, entry) in entries.iter().enumerate() {
            if at % 100 == 0 {
                tokio::task::yield_now().await;
            }
            assert!(!waiting.is_finished());
            entry.answered("a", "1".into(), (at == 7).then(|| "no".to_owned()));
        }
        assert!(!waiting.await.unwrap(), "one refused it");
        drop(entries);
        assert_eq!(subscribers.count(), 0);
    }
}
