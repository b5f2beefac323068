//! Pure: what is on the desk? The requests that wait, the pods that are known, and what is worked on next.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use kube::Resource;
use time::OffsetDateTime;

use crate::attest::ApiPod;
use crate::attest::LivePod;
use crate::k8s::mirror::Mirror;
use crate::pod_certificates::hindrance::Hindrance;
use crate::pod_certificates::hindrance::Pace;
use crate::pod_certificates::queue::Queue;
use crate::pod_certificates::request::PodRequest;
use crate::pod_certificates::request::Reading;
use crate::pod_certificates::state::Standing;
use crate::pod_certificates::troubles::Troubles;
use crate::pod_certificates::troubles::Watch;

/// Namespace and name of a pod.
type PodName = (String, String);

/// Everything that is known, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Desk {
    signer_name: String,
    requests: Mirror<String, Arc<PodRequest>>,
    pods: Mirror<PodName, LivePod>,
    queue: Queue<String>,
    /// The requests that wait for a pod to appear, by its name.
    waiting_for: HashMap<PodName, BTreeSet<String>>,
    /// What is wrong.
    pub(super) troubles: Troubles,
}

/// A request to work on, and its pod as the watch has shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// The request.
    pub(super) request: Arc<PodRequest>,
    /// Its pod; `None` if no pod of that name is known, or what is known is old.
    pub(super) pod: Option<LivePod>,
}

impl Desk {
    /// An empty desk of the signer of that name.
    pub(super) fn new(signer_name: String) -> Self {
        Self {
            signer_name,
            requests: Mirror::default(),
            pods: Mirror::default(),
            queue: Queue::default(),
            waiting_for: HashMap::new(),
            troubles: Troubles::default(),
        }
    }

    // --- what the watches show ---

    /// A list of requests begins.
    pub(super) fn requests_begin(&mut self) {
        self.requests.begin();
    }

    /// A request is there, or has changed; returns what is wrong with one that cannot be read.
    pub(super) fn request_there(&mut self, object: PodCertificateRequest) -> Option<&'static str> {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        match PodRequest::read(object, &self.signer_name) {
            Reading::Pending(request) => {
                let known = self.requests.get(&uid).is_some_and(|known| **known == *request);
                self.requests.put(uid.clone(), Arc::from(request));
                // A list that begins anew shows what is known; that is no reason to try before its time.
                if !known {
                    self.queue.due(&uid);
                }
                None
            }
            Reading::Settled | Reading::NotOurs => {
                self.request_gone(&uid);
                None
            }
            Reading::Malformed(what) => {
                self.request_gone(&uid);
                Some(what)
            }
        }
    }

    /// A request is gone, or has its answer.
    pub(super) fn request_gone(&mut self, uid: &str) {
        if let Some(request) = self.requests.remove(uid) {
            self.forget(&request);
        }
    }

    /// The list of requests is complete.
    pub(super) fn requests_complete(&mut self) {
        for request in self.requests.complete() {
            self.forget(&request);
        }
    }

    fn forget(&mut self, request: &PodRequest) {
        if let Entry::Occupied(mut waiting) = self.waiting_for.entry(pod_of(request)) {
            waiting.get_mut().remove(&request.uid);
            if waiting.get().is_empty() {
                waiting.remove();
            }
        }
        self.queue.remove(&request.uid);
        self.troubles.request_is_well(&request.uid);
    }

    /// A list of pods begins.
    pub(super) fn pods_begin(&mut self) {
        self.pods.begin();
    }

    /// A pod is there, or has changed.
    pub(super) fn pod_there(&mut self, pod: ApiPod) {
        let Some(name) = name_of(&pod) else { return };
        for uid in self.waiting_for.remove(&name).unwrap_or_default() {
            self.queue.due(&uid);
        }
        self.pods.put(name, pod.into());
    }

    /// A pod is gone.
    pub(super) fn pod_gone(&mut self, pod: &ApiPod) {
        if let Some(name) = name_of(pod) {
            self.pods.remove(&name);
        }
    }

    /// The list of pods is complete.
    pub(super) fn pods_complete(&mut self) {
        self.pods.complete();
    }

    /// The issuer is another: what waits may have waited for it.
    pub(super) fn issuer_changed(&mut self) {
        self.queue.all_due();
    }

    // --- what is to be done ---

    /// The next thing to do at `now`, while at most `limit` are under way. The caller tells its end to [`Desk::finished`] or
    /// [`Desk::hindered`].
    pub(super) fn next(&mut self, now: Duration, limit: usize) -> Option<Job> {
        // Before the first list of pods is complete, every one would seem to be missing.
        if !self.pods.is_complete() {
            return None;
        }
        loop {
            let uid = self.queue.next(now, limit)?;
            if let Some(request) = self.requests.get(&uid).cloned() {
                return Some(Job { pod: self.current_pod(&request).cloned(), request });
            }
            self.queue.tried(&uid, None, now, 0.0);
        }
    }

    /// The pod, unless what is known of pods is old: a pod that is long gone gets no certificate because our watch hangs. Then
    /// each is read freshly.
    fn current_pod(&self, request: &PodRequest) -> Option<&LivePod> {
        let is_old = self.pods.is_listing() || self.troubles.is_failing(Watch::Pods);
        if is_old { None } else { self.pods.get(&pod_of(request)) }
    }

    /// When [`Desk::next`] may have something that it has not now.
    pub(super) fn wakes_at(&self, limit: usize) -> Option<Duration> {
        self.pods.is_complete().then(|| self.queue.wakes_at(limit)).flatten()
    }

    /// The request has its answer.
    pub(super) fn finished(&mut self, job: &Job, now: Duration) {
        self.queue.tried(&job.request.uid, None, now, 0.0);
        self.request_gone(&job.request.uid);
    }

    /// A try came to nothing; returns whether its reason is news.
    pub(super) fn hindered(&mut self, job: &Job, hindrance: &Hindrance, now: Duration, draw: f64) -> bool {
        let uid = &job.request.uid;
        let pod = pod_of(&job.request);
        let pace = match hindrance.pace() {
            // It came while we were asking for it, and its coming wakes nobody any more.
            Pace::WhenSomethingChanges if self.pods.get(&pod) != job.pod.as_ref() => Pace::Soon,
            pace => pace,
        };
        self.queue.tried(uid, Some(pace), now, draw);
        if self.requests.get(uid).is_none() {
            return false;
        }
        if pace == Pace::WhenSomethingChanges {
            self.waiting_for.entry(pod).or_default().insert(uid.clone());
        }
        self.troubles.request_waits(uid, hindrance)
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        let oldest: Option<OffsetDateTime> = self.requests.values().map(|request| request.created).min();
        Standing { pending: self.requests.len(), oldest, trouble: self.troubles.sentence() }
    }
}

fn pod_of(request: &PodRequest) -> PodName {
    (request.pod.namespace.clone(), request.pod.name.clone())
}

fn name_of(pod: &ApiPod) -> Option<PodName> {
    Some((pod.meta().namespace.clone()?, pod.meta().name.clone()?))
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
