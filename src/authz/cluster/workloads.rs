//! Pure: which workloads are there, and which services lead to them?
//!
//! Pods and services go in as watches show them; out comes what has to be known of a pod's workload to know which policies apply to it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::Resource;
use kube::ResourceExt;

use crate::attest::ApiPod;
use crate::authz::workload::Proxy;
use crate::authz::workload::Workload;
use crate::k8s::mirror::Mirror;

/// The label by which a proxy of the Gateway API says which `Gateway` it was made for.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";
/// The label by which it says who made it.
const MANAGED: &str = "gateway.istio.io/managed";
/// What is said there of a waypoint.
const MESH_CONTROLLER: &str = "istio.io-mesh-controller";
/// The class of waypoints.
const WAYPOINT_CLASS: &str = "istio-waypoint";
/// The label of a service by which it asks for a waypoint.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The label that a Deployment puts on its pods.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Namespace and name.
type Name = (String, String);

/// All workloads that are known.
#[derive(Debug)]
pub(super) struct Workloads {
    /// The domain of services' names, such as `cluster.local`.
    domain: String,
    pods: Mirror<Name, Pod>,
    services: Mirror<Name, Front>,
    /// The same services, by namespace.
    fronts: HashMap<String, Vec<Front>>,
    /// Namespaces whose services have changed while a list is under way.
    stale: BTreeSet<String>,
    /// What has changed since somebody last asked, by namespace.
    changed: BTreeSet<String>,
}

/// A pod, and the workload it is one of.
#[derive(Debug)]
struct Pod {
    namespace: String,
    uid: String,
    /// As it would be without any service.
    alone: Workload,
    workload: Arc<Workload>,
}

/// What matters of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Front {
    namespace: String,
    name: String,
    selector: BTreeMap<String, String>,
    waypoint: Option<String>,
}

impl Workloads {
    /// Nothing is known; services are named under `domain`.
    pub(super) fn new(domain: String) -> Self {
        Self {
            domain,
            pods: Mirror::default(),
            services: Mirror::default(),
            fronts: HashMap::new(),
            stale: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }

    /// The workload of the pod of that name and UID.
    pub(super) fn workload(&self, namespace: &str, name: &str, uid: &str) -> Option<Arc<Workload>> {
        let pod = self.pods.get(&(namespace.to_owned(), name.to_owned()))?;
        (pod.uid == uid).then(|| pod.workload.clone())
    }

    /// The distinct workloads of a namespace.
    pub(super) fn of(&self, namespace: &str) -> BTreeSet<&Arc<Workload>> {
        self.pods.values().filter(|pod| pod.namespace == namespace).map(|pod| &pod.workload).collect()
    }

    /// The namespaces that have any.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        self.pods.values().map(|pod| pod.namespace.clone()).collect()
    }

    /// Whether both lists were complete at least once.
    pub(super) fn is_complete(&self) -> bool {
        self.pods.is_complete() && self.services.is_complete()
    }

    /// The namespaces in which a workload has come, gone or changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    // --- what the watches show ---

    /// A list of pods begins.
    pub(super) fn pods_begin(&mut self) {
        self.pods.begin();
    }

    /// A pod is there, or has changed.
    pub(super) fn pod_there(&mut self, pod: &ApiPod) {
        let Some(key) = name_of(pod) else { return };
        let alone = workload_of(pod);
        let workload = Arc::new(self.dressed(&alone));
        let (namespace, uid) = (key.0.clone(), pod.meta().uid.clone().unwrap_or_default());
        let known = self.pods.get(&key);
        let is_news = known.is_none_or(|known| known.workload != workload || known.uid != uid);
        if is_news {
            self.changed.insert(namespace.clone());
        }
        // One value for all that are equal, and for as long as they are: there are many pods, and few workloads.
        let workload = known.filter(|_| !is_news).map_or(workload, |known| known.workload.clone());
        self.pods.put(key, Pod { namespace, uid, alone, workload });
    }

    /// A pod is gone.
    pub(super) fn pod_gone(&mut self, pod: &ApiPod) {
        let Some(key) = name_of(pod) else { return };
        if self.pods.remove(&key).is_some() {
            self.changed.insert(key.0);
        }
    }

    /// The list of pods is complete.
    pub(super) fn pods_complete(&mut self) {
        let gone = self.pods.complete();
        self.changed.extend(gone.into_iter().map(|pod| pod.namespace));
    }

    /// A list of services begins.
    pub(super) fn services_begin(&mut self) {
        self.services.begin();
    }

    /// A service is there, or has changed.
    pub(super) fn service_there(&mut self, service: &Service) {
        let front = Front::of(service);
        let key = (front.namespace.clone(), front.name.clone());
        let is_news = self.services.get(&key) != Some(&front);
        if is_news {
            self.stale.insert(front.namespace.clone());
        }
        self.services.put(key, front);
        self.refresh();
    }

    /// A service is gone.
    pub(super) fn service_gone(&mut self, service: &Service) {
        let front = Front::of(service);
        if self.services.remove(&(front.namespace.clone(), front.name)).is_some() {
            self.stale.insert(front.namespace);
            self.refresh();
        }
    }

    /// The list of services is complete.
    pub(super) fn services_complete(&mut self) {
        let gone = self.services.complete();
        self.stale.extend(gone.into_iter().map(|front| front.namespace));
        self.refresh();
    }

    /// Brings the workloads of namespaces up to date whose services have changed. A list is waited for: it may have thousands.
    fn refresh(&mut self) {
        if self.services.is_listing() {
            return;
        }
        for namespace in std::mem::take(&mut self.stale) {
            let own = self.services.values().filter(|front| front.namespace == namespace);
            let fronts: Vec<_> = own.cloned().collect();
            for pod in self.pods.values_mut().filter(|pod| pod.namespace == namespace) {
                let workload = dressed(&pod.alone, &fronts, &self.domain);
                if *pod.workload != workload {
                    pod.workload = Arc::new(workload);
                    self.changed.insert(namespace.clone());
                }
            }
            self.fronts.insert(namespace, fronts);
        }
        self.fronts.retain(|_, fronts| !fronts.is_empty());
    }

    fn dressed(&self, alone: &Workload) -> Workload {
        let fronts = self.fronts.get(&alone.namespace).map(Vec::as_slice);
        dressed(alone, fronts.unwrap_or_default(), &self.domain)
    }
}

impl Front {
    fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        Self {
            namespace: service.namespace().unwrap_or_default(),
            name: service.name_any(),
            selector: spec.and_then(|spec| spec.selector.clone()).unwrap_or_default(),
            waypoint: service.labels().get(USE_WAYPOINT).cloned(),
        }
    }

    /// A service without a selector leads to nothing that can be known here.
    fn leads_to(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// The same workload with all services that lead to it, or that it stands before.
fn dressed(alone: &Workload, fronts: &[Front], domain: &str) -> Workload {
    let mut services: Vec<_> = fronts
        .iter()
        .filter(|front| front.leads_to(&alone.labels))
        .map(|front| format!("{}.{}.svc.{domain}", front.name, front.namespace))
        .collect();
    services.sort_unstable();
    let mut workload = Workload { services, ..alone.clone() };
    if let Proxy::Waypoint { name, services, .. } = &mut workload.proxy {
        let own = fronts.iter().filter(|front| front.waypoint.as_ref() == Some(name));
        services.extend(own.map(|front| ("Service".to_owned(), front.namespace.clone(), front.name.clone())));
        services.sort_unstable();
    }
    workload
}

/// The workload of `pod`, with those of the `services` of its namespace that lead to it; they are named under `domain`.
pub(crate) fn workload_among(pod: &ApiPod, services: &[Service], domain: &str) -> Workload {
    let alone = workload_of(pod);
    let fronts: Vec<_> =
        services.iter().map(Front::of).filter(|front| front.namespace == alone.namespace).collect();
    dressed(&alone, &fronts, domain)
}

fn name_of(pod: &ApiPod) -> Option<Name> {
    Some((pod.meta().namespace.clone()?, pod.meta().name.clone()?))
}

fn workload_of(pod: &ApiPod) -> Workload {
    let labels = pod.meta().labels.clone().unwrap_or_default();
    Workload {
        labels_are_unknown: false,
        namespace: pod.meta().namespace.clone().unwrap_or_default(),
        service_account: pod.service_account().to_owned(),
        name: controller_of(pod, &labels),
        services: Vec::new(),
        proxy: proxy_of(&labels),
        labels,
    }
}

/// Whoever made the pod; where that is a ReplicaSet, the Deployment that made it.
fn controller_of(pod: &ApiPod, labels: &BTreeMap<String, String>) -> String {
    let owners = pod.meta().owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else {
        return pod.meta().name.clone().unwrap_or_default();
    };
    let ending = labels.get(TEMPLATE_HASH).map(|hash| format!("-{hash}"));
    let of_deployment = ending.and_then(|ending| owner.name.strip_suffix(&ending));
    match of_deployment {
        Some(name) if owner.kind == "ReplicaSet" => name.to_owned(),
        _ => owner.name.clone(),
    }
}

fn proxy_of(labels: &BTreeMap<String, String>) -> Proxy {
    let Some(name) = labels.get(GATEWAY).cloned() else { return Proxy::Sidecar };
    match labels.get(MANAGED).is_some_and(|by| by == MESH_CONTROLLER) {
        true => Proxy::Waypoint { name, class: WAYPOINT_CLASS.to_owned(), services: Vec::new() },
        false => Proxy::Gateway { name },
    }
}

#[cfg(test)]
#[path = "workloads_tests.rs"]
mod tests;
