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
        loop {
            if self.office.wait_for(|office| office.term.is_some()).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.lost() => {}
                () = work() => {}
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
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.step() => {}
            }
        }
        self.release().await;
    }

    async fn step(&mut self) {
        let now = self.since.elapsed();
        match self.candidate.next(now) {
            Step::Wait(until) => tokio::time::sleep(until.saturating_sub(now)).await,
            Step::Read => match self.in_time(self.leases.get_opt(&self.candidacy.lease)).await {
                Ok(lease) => {
                    self.candidate.read(lease.map(|lease| record(&lease)), self.since.elapsed());
                    self.well();
                }
                Err(trouble) => self.failed(&trouble),
            },
            Step::Claim(claim) => self.claim(&claim).await,
        }
    }

    async fn claim(&mut self, claim: &Claim) {
        let (sent, renewed, renewed_at) =
            (self.since.elapsed(), Stopwatch::start(), self.candidacy.clock.now());
        let began = self.began.filter(|_| !claim.begins).unwrap_or(renewed_at);
        let lease = self.lease(claim, Some(&self.candidacy.name), began, renewed_at);
        match self.in_time(self.write(&lease)).await {
            Ok(written) => {
                self.began = Some(began);
                self.candidate.wrote(record(&written), sent);
                if !self.office.borrow().term.is_some_and(|_| !claim.begins) {
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
            Err(trouble) if trouble.is_overtaken() => {
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

    /// A call that takes longer than a pause between renewals is no use to anybody.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
        Trouble::within(self.candidacy.timing.pause() * 2, call).await
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
        let Some((version, transitions)) = self.candidate.release(self.since.elapsed()) else { return };
        let now = self.candidacy.clock.now();
        let claim = Claim { version: Some(version), transitions, begins: false };
        let lease = self.lease(&claim, None, now, now);
        // Whoever acts for us stops first.
        self.office.send_replace(Office::default());
        match self.in_time(self.write(&lease)).await {
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
