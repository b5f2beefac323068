//! The driver: watches requests and pods, hands out work, and tells what came of it.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use kube::Api;
use kube::Client;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::attest::ApiPod;
use crate::census::Census;
use crate::chance::draw;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::identity::TrustDomain;
use crate::issuance::GrantPolicy;
use crate::k8s;
use crate::k8s::Leadership;
use crate::k8s::Seen;
use crate::pod_certificates::desk::Desk;
use crate::pod_certificates::desk::Job;
use crate::pod_certificates::hindrance::Hindrance;
use crate::pod_certificates::hindrance::Weight;
use crate::pod_certificates::metrics::PodCertificateMetrics;
use crate::pod_certificates::state::Board;
use crate::pod_certificates::state::Standing;
use crate::pod_certificates::times::PodProfile;
use crate::pod_certificates::troubles::Watch;
use crate::pod_certificates::worker::Answer;
use crate::pod_certificates::worker::Worker;
use crate::signer::Issuer;

/// How many requests are worked on at a time.
const AT_ONCE: usize = 16;
/// How often the board and the gauge are written.
const TELL: Duration = Duration::from_millis(500);

/// The signer of pod certificates, to be run on the leader. Clones share metrics and board.
#[derive(Clone)]
pub struct PodCertificates {
    /// Talks to the API server.
    pub client: Client,
    /// The name that pods know this signer by, such as `example.org/workload`.
    pub signer_name: String,
    /// The trust domain of the identities.
    pub trust_domain: TrustDomain,
    /// The times of the certificates.
    pub profile: PodProfile,
    /// What signs; it may change.
    pub issuer: watch::Receiver<Arc<Issuer>>,
    /// Whether we may write, asked right before each write.
    pub leadership: Leadership,
    /// Who has which certificate.
    pub census: Census,
    /// Tells the time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: PodCertificateMetrics,
    /// Where it is told how the signer stands.
    pub board: Board,
}

impl fmt::Debug for PodCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodCertificates").field("signer_name", &self.signer_name).finish_non_exhaustive()
    }
}

impl PodCertificates {
    /// Answers requests until it is dropped, and what is under way is dropped with it. All state is read from the API
    /// server anew at its beginning: the next leader needs nothing of this one.
    pub async fn run(self) {
        let fields = format!("spec.signerName={}", self.signer_name);
        let requests = Api::<PodCertificateRequest>::all(self.client.clone());
        let mut requests = pin!(k8s::watch(requests, &fields));
        let mut pods = pin!(k8s::watch(Api::<ApiPod>::all(self.client.clone()), ""));
        let mut issuer = self.issuer.clone();
        issuer.mark_unchanged();
        let worker = self.worker();
        let since = Stopwatch::start();
        let mut tell = tokio::time::interval(TELL);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = FuturesUnordered::new();
        let mut told = Told::new(&self);
        tracing::info!(signer_name = self.signer_name, "pod certificates are signed here");
        loop {
            while let Some(job) = told.desk.next(since.elapsed(), AT_ONCE) {
                under_way.push(async {
                    let answer = worker.answer(&job).await;
                    (job, answer)
                });
            }
            let wakes_at = told.desk.wakes_at(AT_ONCE);
            tokio::select! {
                Some(seen) = requests.next() => told.request_seen(seen),
                Some(seen) = pods.next() => told.pod_seen(seen),
                Some((job, answer)) = under_way.next() => told.tried(&job, answer, since.elapsed()),
                Ok(()) = issuer.changed() => told.desk.issuer_changed(),
                () = until(wakes_at, since) => {}
                _ = tell.tick() => told.tell(),
            }
        }
    }

    fn worker(&self) -> Worker {
        Worker {
            client: self.client.clone(),
            signer_name: self.signer_name.clone(),
            policy: GrantPolicy::new(self.trust_domain.clone(), *self.profile.profile()),
            profile: self.profile,
            issuer: self.issuer.clone(),
            leadership: self.leadership.clone(),
            census: self.census.clone(),
            clock: self.clock.clone(),
        }
    }
}

async fn until(moment: Option<Duration>, since: Stopwatch) {
    match moment {
        Some(moment) => tokio::time::sleep(moment.saturating_sub(since.elapsed())).await,
        None => std::future::pending().await,
    }
}

/// The desk, and those who are told of it: log, metrics, board.
struct Told<'a> {
    signer: &'a PodCertificates,
    desk: Desk,
}

impl<'a> Told<'a> {
    fn new(signer: &'a PodCertificates) -> Self {
        Self { signer, desk: Desk::new(signer.signer_name.clone()) }
    }

    fn request_seen(&mut self, seen: Seen<PodCertificateRequest>) {
        let seen = match seen {
            Seen::Trouble(trouble) => return self.watch_failed(Watch::Requests, &trouble),
            seen => seen,
        };
        self.watch_gets_on(Watch::Requests);
        match seen {
            Seen::Begins => self.desk.requests_begin(),
            Seen::There(object) => {
                let name = object.metadata.name.clone().unwrap_or_default();
                if let Some(missing) = self.desk.request_there(object) {
                    tracing::error!(name, missing, "a PodCertificateRequest cannot be read");
                }
            }
            Seen::Gone(object) => self.desk.request_gone(&object.metadata.uid.unwrap_or_default()),
            Seen::Complete => self.desk.requests_complete(),
            Seen::Trouble(_) | Seen::Well => {}
        }
    }

    fn pod_seen(&mut self, seen: Seen<ApiPod>) {
        let seen = match seen {
            Seen::Trouble(trouble) => return self.watch_failed(Watch::Pods, &trouble),
            seen => seen,
        };
        self.watch_gets_on(Watch::Pods);
        match seen {
            Seen::Begins => self.desk.pods_begin(),
            Seen::There(pod) => self.desk.pod_there(pod),
            Seen::Gone(pod) => self.desk.pod_gone(&pod),
            Seen::Complete => self.desk.pods_complete(),
            Seen::Trouble(_) | Seen::Well => {}
        }
    }

    fn watch_failed(&mut self, watch: Watch, trouble: &k8s::Trouble) {
        let error = match trouble.is_absent() {
            true => "this cluster does not serve PodCertificateRequests of certificates.k8s.io/v1, which came with Kubernetes 1.37: no pod gets a certificate from its kubelet".to_owned(),
            false => format!("pod certificates: the watch of {}: {trouble}", watch.of()),
        };
        if self.desk.troubles.watch_failed(watch, error.clone()) {
            tracing::warn!(error, "a watch does not get on");
        }
    }

    fn watch_gets_on(&mut self, watch: Watch) {
        if self.desk.troubles.watch_gets_on(watch) {
            tracing::info!(of = watch.of(), "the watch gets on");
        }
    }

    fn tried(&mut self, job: &Job, answer: Result<Answer, Hindrance>, now: Duration) {
        let request = job.request.full_name();
        match answer {
            Ok(Answer::Issued) => {
                let took = self.signer.clock.now() - job.request.created;
                self.signer.metrics.issued(Duration::try_from(took).unwrap_or(Duration::ZERO));
                tracing::debug!(request, "a pod has its certificate");
                self.desk.finished(job, now);
            }
            Ok(Answer::Denied(denial)) => {
                self.signer.metrics.denied(denial.label);
                tracing::info!(request, reason = denial.reason, "a pod's certificate is denied");
                self.desk.finished(job, now);
            }
            Err(hindrance) => {
                self.signer.metrics.waits(hindrance.reason());
                let is_news = self.desk.hindered(job, &hindrance, now, draw());
                log(&request, &hindrance, is_news);
            }
        }
    }

    fn tell(&self) {
        self.write(self.desk.standing());
    }

    fn write(&self, standing: Standing) {
        self.signer.metrics.pending(standing.pending);
        self.signer.board.write(standing);
    }
}

impl Drop for Told<'_> {
    /// Whoever leads next tells how it stands from now on.
    fn drop(&mut self) {
        self.write(Standing::default());
    }
}

/// The first request with a trouble speaks for all that have the same.
fn log(request: &str, hindrance: &Hindrance, is_news: bool) {
    let (reason, error) = (hindrance.reason(), hindrance.to_string());
    match hindrance.weight() {
        Weight::Error if is_news => tracing::error!(request, reason, error, "pod certificates wait"),
        Weight::Warning if is_news => tracing::warn!(request, reason, error, "pod certificates wait"),
        _ => tracing::debug!(request, reason, error, "a pod certificate waits"),
    }
}
