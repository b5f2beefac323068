//! Who has which certificates, and which roots are they known to trust?
//!
//! ```text
//! issuance: a leaf will be signed ──┐
//! stream: opened, sent, answered ───┤ book ── holders: evidence for a rotation
//! journal: what was known before ───┘
//! ```
//!
//! Issuance tells before it signs, streams tell what agents acknowledge. `book` knows, [`Census`] shares it.

mod book;
mod journal;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

pub use book::Book;
pub use book::Caller;
pub use book::Holder;
pub use book::Leaf;
pub use book::Open;
pub use book::Span;
pub use book::Word;
pub use book::milliseconds;

use crate::census::journal::Journal;
use crate::clock::Clock;

/// How often the journal is made to outlive the machine, and who no longer counts is forgotten.
const SETTLE: Duration = Duration::from_secs(1);

/// The book, shared. Clones share it.
#[derive(Clone, Debug)]
pub struct Census(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    /// Counts the changes.
    changed: watch::Sender<u64>,
    /// Why nobody may be certified now, if so.
    fence: watch::Sender<Option<String>>,
    streams: AtomicU64,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Desk {
    book: Book,
    paper: Paper,
}

/// The book on disk, if it is kept there, and what was missed in it.
#[derive(Debug, Default)]
struct Paper {
    journal: Option<Journal>,
    /// Until when somebody may have a leaf that the journal does not tell of.
    unheard_until: Option<OffsetDateTime>,
    trouble: Option<String>,
}

/// A stream's entry; it ends when it is dropped.
#[derive(Debug)]
pub struct Stream {
    census: Census,
    id: u64,
}

impl Census {
    /// A book that is kept in memory alone.
    pub fn in_memory(clock: Clock) -> Self {
        Self(Arc::new(Shared {
            desk: Mutex::default(),
            changed: watch::Sender::new(0),
            fence: watch::Sender::new(None),
            streams: AtomicU64::new(0),
            clock,
        }))
    }

    /// A book that is also kept in `directory`, with all that stands in it.
    ///
    /// # Errors
    /// If its file cannot be read or written.
    pub fn in_directory(directory: &Path, clock: Clock) -> io::Result<Self> {
        let (journal, holders) = Journal::open(directory)?;
        let now = clock.now();
        let census = Self::in_memory(clock);
        {
            let mut desk = census.desk();
            holders.into_iter().for_each(|holder| desk.book.remember(holder, now));
            desk.paper.journal = Some(journal);
        }
        Ok(census)
    }

    /// Nobody may be certified, for this reason: others take this process for gone, and would not know of it. `None` lifts it.
    pub fn fence(&self, why: Option<String>) {
        self.0.fence.send_if_modified(|known| {
            let is_news = *known != why;
            if is_news {
                *known = why;
            }
            is_news
        });
    }

    /// Why nobody may be certified now, if so.
    pub fn fenced(&self) -> Option<String> {
        self.0.fence.borrow().clone()
    }

    /// A leaf is about to be signed for `caller`: from now on it counts.
    pub fn will_sign(&self, caller: &Caller, leaf: &Leaf) {
        let now = self.0.clock.now();
        let mut desk = self.desk();
        let Desk { book, paper } = &mut *desk;
        paper.keep(book.will_sign(caller, leaf, now), leaf.until);
        drop(desk);
        self.tell();
    }

    /// A stream was opened by `caller`.
    pub fn opened(&self, caller: &Caller) -> Stream {
        let id = self.0.streams.fetch_add(1, Ordering::Relaxed);
        self.desk().book.opened(id, caller, self.0.clock.now());
        self.tell();
        Stream { census: self.clone(), id }
    }

    /// All holders that count now, by name.
    pub fn holders(&self) -> Vec<Arc<Holder>> {
        self.desk().book.holders(self.0.clock.now())
    }

    /// Until when somebody may have a leaf that nobody here knows of, if so.
    pub fn unheard_until(&self) -> Option<OffsetDateTime> {
        self.desk().paper.unheard_until.filter(|until| *until > self.0.clock.now())
    }

    /// What is wrong with the journal.
    pub fn trouble(&self) -> Option<String> {
        self.desk().paper.trouble.clone()
    }

    /// Hears of changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Keeps the journal in order, and forgets who no longer counts, for as long as it is polled.
    pub async fn settle(self) {
        loop {
            tokio::time::sleep(SETTLE).await;
            let census = self.clone();
            // A disk that is slow must not hold up anybody but this task.
            let settled = tokio::task::spawn_blocking(move || census.settle_once()).await;
            if let Err(error) = settled {
                tracing::error!(%error, "the census could not be put in order");
            }
        }
    }

    fn settle_once(&self) {
        let now = self.0.clock.now();
        let file = {
            let mut desk = self.desk();
            desk.book.forget(now);
            let Desk { book, paper } = &mut *desk;
            let Some(journal) = &mut paper.journal else { return };
            journal.settle(|| book.holders(now))
        };
        let synced = file.and_then(|file| file.sync_data());
        self.desk().paper.trouble =
            synced.err().map(|error| format!("the census cannot be kept: {error}; make room on the disk"));
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Paper {
    /// Writes it down. What cannot be written down counts until it surely is over.
    fn keep(&mut self, holder: &Holder, until: OffsetDateTime) {
        let Some(journal) = &mut self.journal else { return };
        if let Err(error) = journal.add(holder) {
            tracing::error!(%error, "the census cannot be kept; a rotation waits for all that it may have missed");
            self.trouble = Some(format!("the census cannot be kept: {error}; make room on the disk"));
            self.unheard_until = self.unheard_until.max(Some(until));
        }
    }
}

impl Stream {
    /// The agent has said what it is called.
    pub fn called(&self, agent: &str) {
        let now = self.census.0.clock.now();
        let mut desk = self.census.desk();
        let Desk { book, paper } = &mut *desk;
        if let Some(holder) = book.called(self.id, agent, now) {
            paper.keep(holder, now);
        }
        drop(desk);
        self.census.tell();
    }

    /// Something was sent.
    pub fn sent(&self, word: &Word) {
        let now = self.census.0.clock.now();
        self.census.desk().book.sent(self.id, word, now);
        self.census.tell();
    }

    /// It was acknowledged, or refused with a reason.
    pub fn answered(&self, word: &Word, answer: Result<(), &str>) {
        let mut desk = self.census.desk();
        let Desk { book, paper } = &mut *desk;
        match answer {
            Err(reason) => book.refused(self.id, reason),
            Ok(()) => {
                let now = self.census.0.clock.now();
                if let Some(holder) = book.acknowledged(self.id, word, now) {
                    paper.keep(holder, now);
                }
            }
        }
        drop(desk);
        self.census.tell();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now = self.census.0.clock.now();
        let mut desk = self.census.desk();
        let Desk { book, paper } = &mut *desk;
        if let Some(holder) = book.closed(self.id, now) {
            paper.keep(holder, now);
        }
        drop(desk);
        self.census.tell();
    }
}
