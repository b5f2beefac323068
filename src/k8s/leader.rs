//! Runs for office by a Lease, and tells who works for the leader for how long they may act.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::Client;
use kube::api::ObjectMeta;
use kube::api::PostParams;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::k8s::election::Candidate;
use crate::k8s::election::Claim;
use crate::k8s::election::Record;
use crate::k8s::election::Step;
use crate::k8s::election::Timing;
use crate::k8s::labels;
use crate::k8s::trouble::Trouble;
use crate::k8s::trouble::moment;

/// What may be read by all who look at the Lease.
type Annotations = Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

/// A candidacy: which Lease, under which name.
#[derive(Clone)]
pub struct Candidacy {
    /// Talks to the API server.
    pub client: Client,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// Our own name; no other process may have it.
    pub name: String,
    /// How long a hold lasts.
    pub timing: Timing,
    /// What the leader writes beside its name.
    pub annotations: Annotations,
    /// Tells the time.
    pub clock: Clock,
}

impl fmt::Debug for Candidacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidacy")
            .field("lease", &self.lease)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Whether this process leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership {
    office: watch::Receiver<Office>,
    clock: Clock,
}

/// Who leads, as far as this process knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Office {
    term: Option<Term>,
    leader: Option<String>,
    trouble: Option<String>,
}

/// A hold, measured twice: a stopwatch stands still while a machine is suspended, and a wall clock can be set.
#[derive(Clone, Copy, Debug)]
struct Term {
    renewed: Stopwatch,
    renewed_at: OffsetDateTime,
    lasts: Duration,
}

// === impl Leadership ===

impl Leadership {
    /// Whether this process may act for the leader at this very moment. To be asked right before each write.
    pub fn holds(&self) -> bool {
        self.remaining().is_some()
    }

    /// Who leads, as this process last saw it.
    pub fn leader(&self) -> Option<String> {
        self.office.borrow().leader.clone()
    }

    /// What is wrong with the election, if anything.
    pub fn trouble(&self) -> Option<String> {
        self.office.borrow().trouble.clone()
    }

    /// Runs `work` whenever this process leads, from its beginning each time, and drops it as soon as it no longer does.
    /// Ends only when the candidacy does.
    pub async fn while_leading<F: Future<Output = ()>>(mut self, mut work: impl FnMut() -> F) {
        while self.gained().await {
            tokio::select! {
                () = self.lost() => {}
                () = async {
                    work().await;
                    // Work that ends by itself has nothing left to do in this term.
                    std::future::pending().await
                } => {}
            }
        }
    }

    /// Waits until this process leads; `false` if it never will again.
    async fn gained(&mut self) -> bool {
        loop {
            // Whoever runs no more cannot renew: what is left of its last hold is not begun on.
            if self.office.has_changed().is_err() {
                return false;
            }
            self.office.borrow_and_update();
            if self.holds() {
                return true;
            }
            if self.office.changed().await.is_err() {
                return false;
            }
        }
    }

    async fn lost(&self) {
        let mut office = self.office.clone();
        while let Some(left) = self.remaining() {
            tokio::select! {
                changed = office.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    fn remaining(&self) -> Option<Duration> {
        let term = self.office.borrow().term?;
        let by_wall = (self.clock.now() - term.renewed_at).unsigned_abs();
        let left = term.lasts.checked_sub(term.renewed.elapsed().max(by_wall))?;
        (!left.is_zero()).then_some(left)
    }
}

// === impl Candidacy ===

impl Candidacy {
    /// Runs until `stop` is cancelled, and then gives the office back, so that nobody has to wait for it to run out.
    pub fn run(self, stop: CancellationToken) -> (Leadership, impl Future<Output = ()> + Send) {
        let (office, watching) = watch::channel(Office::default());
        let leadership = Leadership { office: watching, clock: self.clock.clone() };
        (leadership, Campaign::new(self, office).run(stop))
    }
}

/// A candidacy under way.
struct Campaign {
    candidacy: Candidacy,
    leases: Api<Lease>,
    office: watch::Sender<Office>,
    since: Stopwatch,
    candidate: Candidate,
    /// When the present hold began, as the Lease tells it.
    began: Option<OffsetDateTime>,
}

impl Campaign {
    fn new(candidacy: Candidacy, office: watch::Sender<Office>) -> Self {
        let leases = Api::namespaced(candidacy.client.clone(), &candidacy.namespace);
        let candidate = Candidate::new(candidacy.name.clone(), candidacy.timing);
        Self { candidacy, leases, office, since: Stopwatch::start(), candidate, began: None }
    }

    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let now = self.since.elapsed();
            match self.candidate.next(now) {
                Step::Wait(until) => tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(until.saturating_sub(now)) => {}
                },
                Step::Read => tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.read() => {}
                },
                // Never broken off: a claim that went through unheard could not be given back.
                Step::Claim(claim) => self.claim(&claim).await,
            }
        }
        self.release().await;
    }

    async fn read(&mut self) {
        match Trouble::within(self.candidacy.timing.pause() * 2, self.leases.get_opt(&self.candidacy.lease))
            .await
        {
            Ok(lease) => {
                self.candidate.read(lease.map(|lease| record(&lease)), self.since.elapsed());
                self.well();
            }
            Err(trouble) => self.failed(&trouble),
        }
    }

    async fn claim(&mut self, claim: &Claim) {
        let (sent, renewed, renewed_at) =
            (self.since.elapsed(), Stopwatch::start(), self.candidacy.clock.now());
        let began = self.began.filter(|_| !claim.begins).unwrap_or(renewed_at);
        let lease = self.lease(claim, Some(&self.candidacy.name), began, renewed_at);
        // Whoever leads waits for a slow answer for as long as its hold lasts, and others for no longer than that.
        let patience = self.candidacy.timing.hold() - self.candidacy.timing.pause();
        match Trouble::within(patience, self.write(&lease)).await {
            Ok(written) => {
                self.began = Some(began);
                self.candidate.wrote(record(&written), sent);
                if claim.begins || self.office.borrow().term.is_none() {
                    tracing::info!(
                        lease = self.candidacy.lease,
                        leader = self.candidacy.name,
                        "this process leads"
                    );
                }
                let term = Term { renewed, renewed_at, lasts: self.candidacy.timing.hold() };
                let leader = Some(self.candidacy.name.clone());
                self.office.send_replace(Office { term: Some(term), leader, trouble: None });
            }
            // A Lease that cannot be made because its namespace is missing is no race.
            Err(trouble) if trouble.is_overtaken() && !(claim.version.is_none() && trouble.is_absent()) => {
                self.candidate.overtaken(self.since.elapsed());
                self.well();
            }
            Err(trouble) => self.failed(&trouble),
        }
    }

    async fn write(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        match lease.metadata.resource_version {
            None => self.leases.create(&PostParams::default(), lease).await,
            Some(_) => self.leases.replace(&self.candidacy.lease, &PostParams::default(), lease).await,
        }
    }

    fn lease(
        &self,
        claim: &Claim,
        holder: Option<&str>,
        began: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Lease {
        let lasts = i32::try_from(self.candidacy.timing.lease().as_secs()).unwrap_or(i32::MAX).max(1);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.candidacy.lease.clone()),
                resource_version: claim.version.clone(),
                labels: Some(labels()),
                annotations: Some((self.candidacy.annotations)()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.unwrap_or_default().to_owned()),
                lease_duration_seconds: Some(if holder.is_some() { lasts } else { 1 }),
                lease_transitions: Some(claim.transitions),
                acquire_time: Some(MicroTime(moment(began))),
                renew_time: Some(MicroTime(moment(now))),
                ..LeaseSpec::default()
            }),
        }
    }

    /// All that follows from a good answer; the term itself changes only with a claim, or by its end.
    fn well(&self) {
        self.publish(None);
    }

    fn failed(&mut self, trouble: &Trouble) {
        self.candidate.failed(self.since.elapsed());
        let text = format!("lease `{}/{}`: {trouble}", self.candidacy.namespace, self.candidacy.lease);
        if self.office.borrow().trouble.is_none() {
            tracing::warn!(error = text, "the election does not get on");
        }
        self.publish(Some(text));
    }

    fn publish(&self, trouble: Option<String>) {
        let holds = self.candidate.leads_until().is_some_and(|until| self.since.elapsed() < until);
        let leader = self.candidate.holder().map(str::to_owned);
        self.office.send_modify(|office| {
            if office.term.is_some() && !holds {
                tracing::warn!(lease = self.candidacy.lease, "this process no longer leads");
            }
            *office = Office { term: office.term.filter(|_| holds), leader, trouble };
        });
    }

    async fn release(&mut self) {
        // Whoever acts for us stops first.
        self.office.send_replace(Office::default());
        let Some((version, transitions)) = self.candidate.release(self.since.elapsed()) else { return };
        let now = self.candidacy.clock.now();
        let claim = Claim { version: Some(version), transitions, begins: false };
        let lease = self.lease(&claim, None, now, now);
        match Trouble::within(self.candidacy.timing.pause() * 2, self.write(&lease)).await {
            Ok(_) => tracing::info!(lease = self.candidacy.lease, "the lease is given back"),
            Err(trouble) => {
                tracing::warn!(error = %trouble, "the lease could not be given back and runs out")
            }
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    Record {
        holder: spec.holder_identity.filter(|name| !name.is_empty()),
        lease: Duration::from_secs(seconds),
        renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or(0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use time::macros::datetime;

    use super::*;

    const HOLD: Duration = Duration::from_secs(10);

    /// An office that was just gained by a clock whose hand can be moved.
    fn office() -> (watch::Sender<Office>, Leadership, Clock, crate::clock::Hand) {
        let (clock, hand) = Clock::simulated(datetime!(2030-01-01 0:00 UTC));
        let (office, watching) = watch::channel(Office::default());
        (office, Leadership { office: watching, clock: clock.clone() }, clock, hand)
    }

    fn term(clock: &Clock) -> Office {
        let term = Term { renewed: Stopwatch::start(), renewed_at: clock.now(), lasts: HOLD };
        Office { term: Some(term), ..Office::default() }
    }

    #[test]
    fn a_hold_ends_by_the_wall_clock_too_whichever_way_it_was_set() {
        let (office, leadership, clock, hand) = office();
        assert!(!leadership.holds());
        office.send_replace(term(&clock));
        assert!(leadership.holds());
        hand.advance(HOLD + Duration::from_secs(1));
        assert!(!leadership.holds(), "a machine that slept, or whose clock was set, does not act");
        office.send_replace(term(&clock));
        assert!(leadership.holds(), "until it has renewed its hold");
    }

    #[tokio::test]
    async fn work_is_begun_once_a_term_and_not_at_all_while_a_term_has_run_out() {
        let (office, leadership, clock, hand) = office();
        let begun = Cell::new(0);
        let work = || {
            begun.set(begun.get() + 1);
            std::future::pending()
        };
        let mut running = std::pin::pin!(leadership.while_leading(work));
        let mut turn = async || {
            let turns = tokio::time::timeout(Duration::from_millis(20), &mut running).await;
            assert!(turns.is_err(), "the candidacy goes on");
            begun.get()
        };
        assert_eq!(turn().await, 0);
        office.send_replace(term(&clock));
        assert_eq!(turn().await, 1);
        // A renewal changes nothing.
        office.send_replace(term(&clock));
        assert_eq!(turn().await, 1);
        // The clock is set: the hold is over, though nobody has said so yet.
        hand.advance(HOLD * 2);
        office.send_modify(|office| office.trouble = Some("the API server is away".to_owned()));
        assert_eq!(turn().await, 1, "nothing is begun, and begun again, in vain");
        office.send_replace(term(&clock));
        assert_eq!(turn().await, 2);
        // The candidacy ends in the middle of a hold.
        drop(office);
        tokio::time::timeout(Duration::from_secs(5), &mut running).await.expect("so does the work");
        assert_eq!(begun.get(), 2);
    }
}
