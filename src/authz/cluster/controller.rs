//! The driver: watches policies, pods and services on every replica, hands on what it sees, and on the leader writes statuses.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::stream;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::Client;
use kube::core::DynamicObject;
use kube::core::TypeMeta;
use tokio::time::MissedTickBehavior;

use crate::attest::ApiPod;
use crate::authz::apply::apply;
use crate::authz::cluster::board::Write;
use crate::authz::cluster::desk::Desk;
use crate::authz::cluster::desk::Shown;
use crate::authz::cluster::directory::Directory;
use crate::authz::cluster::kind_watch;
use crate::authz::cluster::kinds;
use crate::authz::cluster::standing::Notice;
use crate::authz::cluster::standing::PolicyMetrics;
use crate::authz::cluster::standing::Standing;
use crate::authz::cluster::status::Held;
use crate::authz::cluster::status::told;
use crate::authz::cluster::troubles::Troubles;
use crate::authz::cluster::writer::Writer;
use crate::authz::library::Library;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::ResourceKind;
use crate::authz::resource::Severity;
use crate::authz::workload::Mesh;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::k8s;
use crate::k8s::Leadership;
use crate::k8s::Seen;
use crate::k8s::Trouble;
use crate::k8s::queue::Flight;

/// How many statuses are written at a time.
const PARALLEL: usize = 16;
/// How often it is told how policies stand, and looked whether this process leads.
const TICK: Duration = Duration::from_millis(250);
/// How long workloads are counted at a stretch.
const COUNTING: Duration = Duration::from_millis(20);

/// Follows the policies of a cluster. To be run on every replica; clones share directory, notice and metrics.
#[derive(Clone)]
pub struct Policies {
    /// Talks to the API server.
    pub client: Client,
    /// Where the policies go to.
    pub known: Library,
    /// Which workload each pod is.
    pub directory: Directory,
    /// What holds for the whole mesh.
    pub mesh: Mesh,
    /// Whether we may write, asked right before each write.
    pub leadership: Leadership,
    /// Tells the time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: PolicyMetrics,
    /// Where it is told how they stand.
    pub notice: Notice,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("mesh", &self.mesh).finish_non_exhaustive()
    }
}

/// One thing that a watch has shown.
enum Event {
    Policy(ResourceKind, Box<Seen<DynamicObject>>),
    Pod(Box<Seen<ApiPod>>),
    Service(Box<Seen<Service>>),
}

/// A write that has ended.
type Ended = (ResourceId, Flight, Result<Held, Trouble>);

impl Policies {
    /// Follows them until it is dropped.
    pub async fn run(self) {
        let mut events = pin!(self.events());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut writes: FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>> =
            FuturesUnordered::new();
        let mut work = Work::new(&self);
        loop {
            let leads = self.leadership.holds();
            work.leads(leads);
            if leads {
                work.count();
                while writes.len() < PARALLEL
                    && let Some((id, write, flight)) = work.desk.board.next(work.since.elapsed())
                {
                    writes.push(Box::pin(self.write(id, write, flight)));
                }
            }
            let due = work.desk.board.queue().0.filter(|_| leads && writes.len() < PARALLEL);
            tokio::select! {
                Some(event) = events.next() => work.seen(event),
                Some(ended) = writes.next() => work.ended(ended),
                () = until(due, work.since) => {}
                _ = tick.tick() => work.tell(),
            }
        }
    }

    fn events(&self) -> impl Stream<Item = Event> + Send + use<> {
        let mut streams: Vec<Pin<Box<dyn Stream<Item = Event> + Send>>> = Vec::new();
        for kind in ResourceKind::ALL {
            let shown = kind_watch::watch(self.client.clone(), kind);
            streams.push(Box::pin(shown.map(move |seen| Event::Policy(kind, Box::new(seen)))));
        }
        let services = k8s::watch(Api::<Service>::all(self.client.clone()), "");
        streams.push(Box::pin(services.map(|seen| Event::Service(Box::new(seen)))));
        let pods = k8s::watch(Api::<ApiPod>::all(self.client.clone()), "");
        streams.push(Box::pin(pods.map(|seen| Event::Pod(Box::new(seen)))));
        stream::select_all(streams)
    }

    fn write(
        &self,
        id: ResourceId,
        write: Write,
        flight: Flight,
    ) -> impl Future<Output = Ended> + Send + use<> {
        let (leadership, now) = (self.leadership.clone(), self.clock.now());
        let writer = Writer { client: self.client.clone() };
        async move {
            let result = match leadership.holds() {
                true => writer.write(&id, &write, now).await,
                false => Err(Trouble::NotLeading),
            };
            (id, flight, result)
        }
    }
}

async fn until(moment: Option<Duration>, since: Stopwatch) {
    match moment {
        Some(moment) => tokio::time::sleep(moment.saturating_sub(since.elapsed())).await,
        None => std::future::pending().await,
    }
}

/// What is known, and those who are told of it: library, directory, log, metrics, notice.
struct Work<'a> {
    policies: &'a Policies,
    desk: Desk,
    troubles: Troubles,
    since: Stopwatch,
    leads: bool,
    is_counted: bool,
}

impl<'a> Work<'a> {
    fn new(policies: &'a Policies) -> Self {
        Self {
            policies,
            desk: Desk::new(&policies.mesh.root_namespace),
            troubles: Troubles::default(),
            since: Stopwatch::start(),
            leads: false,
            is_counted: false,
        }
    }

    /// Who leads counts, from the beginning.
    fn leads(&mut self, leads: bool) {
        if leads && !self.leads {
            self.desk.reach.changed([String::new()]);
        }
        self.leads = leads;
    }

    fn seen(&mut self, event: Event) {
        match event {
            Event::Policy(kind, seen) => self.policy_seen(kind, *seen),
            Event::Pod(seen) => self.pod_seen(*seen),
            Event::Service(seen) => self.service_seen(*seen),
        }
    }

    fn policy_seen(&mut self, kind: ResourceKind, seen: Seen<DynamicObject>) {
        let seen = match seen {
            Seen::Trouble(trouble) => return self.kind_failed(kind, &trouble),
            seen => seen,
        };
        if self.desk.well(kind) {
            tracing::info!(kind = kind.as_str(), "policies of this kind can be watched again");
        }
        match seen {
            Seen::Begins => self.desk.begins(kind),
            Seen::There(object) => self.policy_there(kind, object),
            Seen::Gone(object) => {
                let id = id_of(kind, &object);
                self.desk.gone(&id);
                self.policies.known.remove(&id);
            }
            Seen::Complete => {
                self.desk.complete(kind).iter().for_each(|id| self.policies.known.remove(id));
                self.complete();
            }
            Seen::Trouble(_) | Seen::Well => {}
        }
    }

    fn policy_there(&mut self, kind: ResourceKind, mut object: DynamicObject) {
        let version = kind.versions().first().copied().unwrap_or("v1");
        object.types.get_or_insert_with(|| TypeMeta {
            api_version: format!("{}/{version}", kind.group()),
            kind: kind.as_str().to_owned(),
        });
        let id = id_of(kind, &object);
        match self.desk.there(serde_json::to_value(&object).unwrap_or_default(), self.since.elapsed()) {
            Shown::New(resource) => {
                log(&resource);
                self.policies.known.set(Resource::clone(&resource));
            }
            Shown::Same => {}
            // It cannot be: the API server knows its kind and name. What it last meant goes on being meant.
            Shown::Unreadable(error) => {
                tracing::error!(policy = %id, error, "a policy cannot be read at all")
            }
        }
    }

    fn kind_failed(&mut self, kind: ResourceKind, trouble: &Trouble) {
        if trouble.is_absent() {
            if self.desk.absent(kind) {
                tracing::info!(
                    kind = kind.as_str(),
                    "the cluster does not serve policies of this kind; it is asked for them again and again"
                );
                self.complete();
            }
            return;
        }
        let sentence = format!("policies: the watch of {}: {trouble}", kinds::plural(kind));
        if self.desk.trouble(kind, sentence.clone()) {
            tracing::warn!(error = sentence, "a watch does not get on; policies stay what they were");
        }
    }

    /// A kind is listed, or not served; whoever enforces policies hears of them once that is so of every kind.
    fn complete(&self) {
        if self.desk.is_complete() {
            self.policies.known.complete();
        }
    }

    fn pod_seen(&mut self, seen: Seen<ApiPod>) {
        let Some(seen) = self.troubles.of_watch("pods", seen) else { return };
        let mut workloads = self.policies.directory.write();
        match seen {
            Seen::Begins => workloads.pods_begin(),
            Seen::There(pod) => workloads.pod_there(&pod),
            Seen::Gone(pod) => workloads.pod_gone(&pod),
            Seen::Complete => workloads.pods_complete(),
            Seen::Trouble(_) | Seen::Well => {}
        }
        let changed = workloads.take_changed();
        drop(workloads);
        self.workloads_changed(changed);
    }

    fn service_seen(&mut self, seen: Seen<Service>) {
        let Some(seen) = self.troubles.of_watch("services", seen) else { return };
        let mut workloads = self.policies.directory.write();
        match seen {
            Seen::Begins => workloads.services_begin(),
            Seen::There(service) => workloads.service_there(&service),
            Seen::Gone(service) => workloads.service_gone(&service),
            Seen::Complete => workloads.services_complete(),
            Seen::Trouble(_) | Seen::Well => {}
        }
        let changed = workloads.take_changed();
        drop(workloads);
        self.workloads_changed(changed);
    }

    fn workloads_changed(&mut self, namespaces: impl IntoIterator<Item = String>) {
        let mut namespaces = namespaces.into_iter().peekable();
        if namespaces.peek().is_some() {
            self.desk.reach.changed(namespaces);
            self.policies.directory.changed();
        }
    }

    /// Counts workloads for a moment, once all that counts is known.
    fn count(&mut self) {
        let directory = &self.policies.directory;
        if !directory.is_complete() || !self.desk.is_complete() {
            return;
        }
        let began = Stopwatch::start();
        while began.elapsed() < COUNTING
            && let Some(namespace) = self.desk.reach.next()
        {
            self.is_counted = false;
            if namespace.is_empty() {
                let all = directory.namespaces();
                self.desk.reach.all(all);
                continue;
            }
            let resources = self.desk.of(&namespace);
            let applied =
                |workload: &_| apply(resources.iter().map(Arc::as_ref), workload, &self.policies.mesh).by;
            self.desk.reach.count(&namespace, &directory.of(&namespace), applied);
        }
        if self.desk.reach.is_done() && !self.is_counted {
            self.is_counted = true;
            let totals = self.desk.reach.totals();
            self.desk.board.counted(&totals, self.since.elapsed());
        }
    }

    fn ended(&mut self, (id, flight, result): Ended) {
        let now = self.since.elapsed();
        match result {
            Ok(held) => {
                self.policies.metrics.count("written");
                self.troubles.write_went_through(&id);
                self.desk.board.wrote(&id, flight, held, now);
            }
            Err(trouble) => {
                let times = self.desk.board.failed(&id, flight, now);
                // Somebody was faster, and the watch is about to say who.
                let is_overtaken = trouble.is_overtaken();
                self.policies.metrics.count(if is_overtaken { "overtaken" } else { "failed" });
                if self.troubles.write_failed(&id, times, &trouble) {
                    tracing::warn!(policy = %id, attempt = times, error = %trouble, "a policy's status cannot be written yet");
                }
            }
        }
    }

    fn tell(&mut self) {
        let board = &self.desk.board;
        self.troubles.keep(|id| board.is_behind(id));
        let now = self.policies.clock.now();
        let since = |behind: Duration| {
            (now - self.since.elapsed().saturating_sub(behind)).replace_nanosecond(0).unwrap_or(now)
        };
        self.policies.notice.write(Standing {
            kinds: self.desk.standing(),
            unwritten: self.leads.then(|| board.behind()),
            behind_since: board.behind_since().filter(|_| self.leads).map(since),
            trouble: self.desk.first_trouble().cloned().or_else(|| self.troubles.sentence()),
        });
    }
}

/// Says once for each generation what is wrong with it.
fn log(resource: &Resource) {
    let errors: Vec<_> = resource.faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    if errors.is_empty() {
        tracing::debug!(policy = %resource.id, version = resource.version, "a policy has changed");
        return;
    }
    tracing::warn!(
        policy = %resource.id,
        version = resource.version,
        faults = errors.len(),
        error = told(&errors),
        "a policy is not understood in full; what is not understood only ever reduces access"
    );
}

fn id_of(kind: ResourceKind, object: &DynamicObject) -> ResourceId {
    ResourceId {
        kind,
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: object.metadata.name.clone().unwrap_or_default(),
    }
}
