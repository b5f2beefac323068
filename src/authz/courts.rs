//! A judge for each workload whose proxies ask, made when the first of them does, and let go when none has for a while.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::attest::Attested;
use crate::authz::enforce::enforce;
use crate::authz::judge::Judge;
use crate::authz::library::Told;
use crate::authz::service::Judges;
use crate::authz::tally::Tally;
use crate::authz::tokens::KeyBook;
use crate::clock::Clock;

/// How long a judge stays whom nobody asks.
const IDLE: Duration = Duration::from_secs(300);
/// The most judges there are at a time. Whoever comes when there are more is denied.
const MAX_JUDGES: usize = 10_000;
/// How long the first question waits for policies to be compiled.
const FIRST: Duration = Duration::from_millis(500);

/// Knows what applies to whom.
pub trait Follow: fmt::Debug + Send + Sync {
    /// What applies to the caller's workload, as it changes; `None` if it is not known which that is.
    fn follow(&self, caller: &Attested) -> Option<watch::Receiver<Told>>;
}

/// The judges of all workloads that ask.
#[derive(Debug)]
pub struct Courts {
    source: Arc<dyn Follow>,
    asked_elsewhere: Vec<Box<str>>,
    seats: Mutex<HashMap<Party, Seat>>,
    book: KeyBook,
    tally: Tally,
    clock: Clock,
}

/// Whose judge it is: service account and pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Party {
    namespace: String,
    account: String,
    pod: Option<String>,
}

#[derive(Debug)]
struct Seat {
    judge: Judge,
    asked: OffsetDateTime,
    _at_work: AbortOnDropHandle<()>,
}

impl Courts {
    /// Judges by what `source` says. Keys of token issuers are looked up in `book`, and what policies do is counted in `tally`.
    /// `asked_elsewhere` are as in [`Judge::with_providers_asked_elsewhere`].
    pub fn new(
        source: Arc<dyn Follow>,
        asked_elsewhere: Vec<Box<str>>,
        book: KeyBook,
        tally: Tally,
        clock: Clock,
    ) -> Self {
        Self { source, asked_elsewhere, seats: Mutex::default(), book, tally, clock }
    }

    /// The judge of a caller; it may know nothing yet, and then denies.
    fn seat(&self, caller: &Attested) -> Option<Judge> {
        let party = Party {
            namespace: caller.namespace().to_owned(),
            account: caller.service_account().to_owned(),
            pod: caller.pod().map(|pod| pod.uid.clone()),
        };
        let now = self.clock.now();
        let mut seats = self.seats();
        if let Some(seat) = seats.get_mut(&party) {
            seat.asked = now;
            return Some(seat.judge.clone());
        }
        seats.retain(|_, seat| now - seat.asked < IDLE);
        if seats.len() >= MAX_JUDGES {
            tracing::error!(most = MAX_JUDGES, "too many workloads ask; those that come now are denied");
            return None;
        }
        let told = self.source.follow(caller)?;
        let (enforced, follower) = watch::channel(None);
        let judge = Judge::following(follower, self.clock.clone())
            .with_providers_asked_elsewhere(self.asked_elsewhere.iter().cloned());
        let at_work = tokio::spawn(enforce(told, enforced, self.book.clone(), self.tally.clone()));
        let seat = Seat { judge: judge.clone(), asked: now, _at_work: AbortOnDropHandle::new(at_work) };
        seats.insert(party, seat);
        Some(judge)
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<Party, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Judges for Courts {
    fn of<'a>(&'a self, caller: &'a Attested) -> BoxFuture<'a, Option<Judge>> {
        Box::pin(async move {
            let judge = self.seat(caller)?;
            // Who comes first need not be denied for what takes a moment.
            let _ = tokio::time::timeout(FIRST, judge.ready()).await;
            Some(judge)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::Attestor;
    use crate::attest::Credentials;
    use crate::attest::test_support::attestor_and_token;
    use crate::authz::library::Library;
    use crate::authz::request::Request;
    use crate::authz::resource::Resource;
    use crate::authz::workload::Mesh;
    use crate::authz::workload::Workload;

    /// All of a namespace are one workload, and other namespaces are unknown.
    #[derive(Debug)]
    struct Shop(Library);

    impl Follow for Shop {
        fn follow(&self, caller: &Attested) -> Option<watch::Receiver<Told>> {
            let namespace = caller.namespace().to_owned();
            (namespace == "shop").then(|| self.0.follow(&Workload { namespace, ..Workload::default() }))
        }
    }

    async fn caller(namespace: &str) -> Attested {
        let (attestor, token) = attestor_and_token(namespace, "web");
        attestor.attest(&Credentials { token: Some(token) }).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_workload_has_its_own_judge_for_as_long_as_it_asks() {
        let library = Library::new(Mesh::of("td".parse().unwrap()));
        let (clock, hand) = Clock::simulated(OffsetDateTime::UNIX_EPOCH);
        let source = Arc::new(Shop(library.clone()));
        let courts = Courts::new(source, Vec::new(), KeyBook::default(), Tally::default(), clock);
        let shop = caller("shop").await;
        let judge = courts.of(&shop).await.unwrap();
        assert!(!judge.rule_on(&Request::default()).is_allowed(), "not all policies are known yet");
        library.complete();
        let judge = courts.of(&shop).await.unwrap();
        assert!(judge.rule_on(&Request::default()).is_allowed());
        let nothing = serde_json::json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "nothing", "namespace": "shop"}, "spec": {},
        });
        library.set(Resource::read(&nothing).unwrap());
        tokio::task::yield_now().await;
        assert!(!judge.rule_on(&Request::default()).is_allowed());
        assert!(courts.of(&caller("other").await).await.is_none());
        assert_eq!(courts.seats().len(), 1);
        hand.advance(IDLE);
        assert!(courts.of(&caller("other").await).await.is_none());
        assert_eq!(courts.seats().len(), 0);
    }
}
