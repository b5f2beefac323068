//! Keeps issuers' keys fresh: it does what the calendar says, and is the only one to put keys into the book.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::authz::tokens::calendar::Calendar;
use crate::authz::tokens::calendar::MAX_URIS;
use crate::authz::tokens::calendar::Times;
use crate::authz::tokens::fetch::FetchError;
use crate::authz::tokens::fetch::Fetcher;
use crate::authz::tokens::key_book::KeyBook;
use crate::authz::tokens::key_book::Published;
use crate::authz::tokens::key_set::KeySet;
use crate::chance;
use crate::clock::Clock;

/// Fetches what the book needs.
#[derive(Debug)]
pub struct Keeper {
    book: KeyBook,
    fetcher: Fetcher,
    calendar: Calendar,
    clock: Clock,
    /// How many were too many when it was last looked.
    left_out: usize,
}

type Fetched = (Box<str>, Result<KeySet, FetchError>);

impl Keeper {
    /// Keeps `book`.
    pub fn new(book: KeyBook, fetcher: Fetcher, times: Times, clock: Clock) -> Self {
        Self { book, fetcher, calendar: Calendar::new(times), clock, left_out: 0 }
    }

    /// Works until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut fetching: JoinSet<Fetched> = JoinSet::new();
        loop {
            let needed = self.look();
            for uri in self.calendar.due(self.clock.now()) {
                let fetcher = self.fetcher.clone();
                fetching.spawn(async move {
                    let keys = fetcher.fetch(&uri).await;
                    (uri, keys)
                });
            }
            let next = self.calendar.next();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.book.rung() => {}
                () = sleep_until(&self.clock, next) => {}
                Some(Ok((uri, keys))) = fetching.join_next() => self.take(needed.get(&*uri), &uri, keys),
            }
        }
    }

    /// Looks at what is needed, and what was missed.
    fn look(&mut self) -> BTreeMap<Box<str>, Arc<Published>> {
        let now = self.clock.now();
        let needed: BTreeMap<Box<str>, _> =
            self.book.needed().into_iter().map(|one| (one.uri().into(), one)).collect();
        let too_many = self.calendar.need(needed.keys().map(|uri| &**uri), now).len();
        if too_many > self.left_out {
            tracing::error!(
                left_out = too_many,
                most = MAX_URIS,
                "policies name more `jwksUri` than keys are fetched from; tokens of the others are refused"
            );
        }
        self.left_out = too_many;
        for (uri, _) in needed.iter().filter(|(_, one)| one.take_missed()) {
            self.calendar.missed(uri, now);
        }
        needed
    }

    fn take(&mut self, published: Option<&Arc<Published>>, uri: &str, keys: Result<KeySet, FetchError>) {
        let now = self.clock.now();
        self.calendar.done(uri, keys.is_ok(), chance::draw(), now);
        // Without anybody who needs it, there is nothing to tell either.
        let Some(published) = published else { return };
        match keys {
            Ok(keys) => {
                tracing::debug!(uri, "the keys of a token issuer were fetched");
                published.put(keys, self.calendar.until(now));
            }
            Err(error) => {
                let still_has_keys = published.keys(now).is_some();
                tracing::warn!(uri, %error, still_has_keys, "the keys of a token issuer could not be fetched");
            }
        }
    }
}

async fn sleep_until(clock: &Clock, at: Option<OffsetDateTime>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => pending().await,
    }
}
