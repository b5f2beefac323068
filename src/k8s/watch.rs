//! A watch that does not end: what is there, then what changes; and what is wrong, as long as it is.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::stream;
use kube::Api;
use kube::Resource;
use kube::runtime::watcher;
use serde::de::DeserializeOwned;

use crate::chance;
use crate::k8s::trouble::Trouble;

/// The first pause after a failure; each further one is twice as long, and half of it is left to chance.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// A watch that was opened again and says neither good nor bad for so long is well: a connection that cannot be made, or that
/// hangs, would have failed by then.
const QUIET: Duration = Duration::from_secs(30);
/// The API server closes a watch after at most this time.
const LONGEST_WATCH_S: u32 = 290;

/// What a watch tells.
#[derive(Debug)]
pub enum Seen<K> {
    /// All that follows until [`Seen::Complete`] is the whole list; what is not in it is gone.
    Begins,
    /// The object is there, or has changed.
    There(K),
    /// The object is gone.
    Gone(K),
    /// The list is complete; from here on there are only changes.
    Complete,
    /// It does not get on, for this reason; it goes on trying, with ever longer pauses. Whatever follows that is not trouble
    /// means that it gets on again.
    Trouble(Trouble),
    /// It gets on again after trouble, and nothing has changed.
    Well,
}

type Event<K> = Result<watcher::Event<K>, watcher::Error>;

struct Watch<K> {
    events: Pin<Box<dyn Stream<Item = Event<K>> + Send>>,
    /// A list was asked for, and nothing of it has come yet.
    asked: bool,
    failures: u32,
    has_failed: bool,
}

/// Watches the objects of `api` whose fields match `fields` (all if it is empty).
///
/// It survives closed streams, expired versions and an API server that is away.
pub fn watch<K>(api: Api<K>, fields: &str) -> impl Stream<Item = Seen<K>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch_by(api, watcher::Config::default().fields(fields))
}

/// Watches the objects of `api` whose labels match `labels`; see [`watch`].
pub fn watch_labelled<K>(api: Api<K>, labels: &str) -> impl Stream<Item = Seen<K>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch_by(api, watcher::Config::default().labels(labels))
}

fn watch_by<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Seen<K>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = config.timeout(LONGEST_WATCH_S);
    let events = Box::pin(watcher::watcher(api, config));
    let watch = Watch { events, asked: false, failures: 0, has_failed: false };
    stream::unfold(watch, |mut watch| async move {
        let seen = watch.next().await?;
        Some((stream::iter(seen), watch))
    })
    .flatten()
}

impl<K> Watch<K> {
    async fn next(&mut self) -> Option<Vec<Seen<K>>> {
        if std::mem::take(&mut self.has_failed) {
            tokio::time::sleep(pause(self.failures)).await;
        }
        let event = match self.failures {
            0 => self.events.next().await?,
            _ => match tokio::time::timeout(QUIET, self.events.next()).await {
                Ok(event) => event?,
                Err(_) => {
                    self.failures = 0;
                    return Some(vec![Seen::Well]);
                }
            },
        };
        Some(match event {
            // kube says so before it asks; that is no success yet.
            Ok(watcher::Event::Init) => {
                self.asked = true;
                Vec::new()
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                self.got_on(Seen::There(object))
            }
            Ok(watcher::Event::InitDone) => self.got_on(Seen::Complete),
            Ok(watcher::Event::Delete(object)) => self.got_on(Seen::Gone(object)),
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.has_failed = true;
                vec![Seen::Trouble(Trouble::Watch(Box::new(error)))]
            }
        })
    }

    fn got_on(&mut self, seen: Seen<K>) -> Vec<Seen<K>> {
        self.failures = 0;
        match std::mem::take(&mut self.asked) {
            true => vec![Seen::Begins, seen],
            false => vec![seen],
        }
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    doubled.mul_f64(0.5 + chance::draw() / 2.0)
}

/// The field selector of one object.
pub fn named(name: &str) -> String {
    format!("metadata.name={name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<K>() -> Event<K> {
        Err(watcher::Error::NoResourceVersion)
    }

    #[tokio::test(start_paused = true)]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test's time stands still but for pauses, and only tokio tells it"
    )]
    async fn a_list_that_fails_is_asked_for_ever_more_slowly_and_begins_only_when_it_comes() {
        let events: Vec<Event<u32>> = (0..6)
            .flat_map(|_| [Ok(watcher::Event::Init), refused()])
            .chain([Ok(watcher::Event::Init), Ok(watcher::Event::InitApply(7)), Ok(watcher::Event::InitDone)])
            .collect();
        let events = Box::pin(stream::iter(events));
        let mut watch = Watch { events, asked: false, failures: 0, has_failed: false };
        let (begun, mut told) = (tokio::time::Instant::now(), Vec::new());
        while let Some(seen) = watch.next().await {
            told.extend(seen);
        }
        let troubles = told.iter().take_while(|seen| matches!(seen, Seen::Trouble(_))).count();
        assert_eq!(troubles, 6);
        assert!(matches!(told[6..], [Seen::Begins, Seen::There(7), Seen::Complete]), "{told:?}");
        assert!(begun.elapsed() > Duration::from_secs(12), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_comes_back_to_silence_is_well_again() {
        let events = Box::pin(stream::iter([refused::<u32>()]).chain(stream::pending()));
        let mut watch = Watch { events, asked: false, failures: 0, has_failed: false };
        assert!(matches!(watch.next().await.as_deref(), Some([Seen::Trouble(_)])));
        assert!(matches!(watch.next().await.as_deref(), Some([Seen::Well])));
        assert_eq!(watch.failures, 0);
    }
}
