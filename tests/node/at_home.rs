//! Burgrave at home: installed by one command, between two workloads that never stop talking, while all around them is rolled,
//! killed, frozen and restarted.

use crate::support::cluster::Cluster;
use crate::support::figure;
use crate::support::http;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::ResourceExt;
use kube::api::DeleteParams;
use kube::api::ListParams;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub(crate) const SYSTEM: &str = "burgrave-system";
pub(crate) const CA: &str = "app.kubernetes.io/name=burgrave-ca";
pub(crate) const EXAMPLE: &str = "burgrave-example";
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// As deploy/ leaves it.
const LEASE: Duration = Duration::from_secs(15);

#[test]
fn two_workloads_talk_mtls_from_one_command_on_and_nothing_that_happens_to_the_ca_costs_a_request() {
    Cluster::start().inside(async |cluster| {
        let (code, before) = install_check(&cluster.dir().join("kubeconfig")).await;
        assert!(code == 3 && before.contains("Deployment"), "{code}: {before}");
        let begun = Instant::now();
        cluster.kubectl(&["apply", "-k", "deploy/"]).await;
        cluster.kubectl(&["apply", "-k", "deploy/example/"]).await;
        let address = cluster
            .eventually("the client's Service", SOON, async || {
                service_address(cluster, EXAMPLE, "client").await
            })
            .await;
        let first = cluster
            .eventually("the first request over mTLS", SOON, async || {
                http::get((address.as_str(), 8080), "/").await
            })
            .await;
        figure("apply_to_first_mtls_s", format!("{:.1}", begun.elapsed().as_secs_f64()), "s");
        assert!(!first.is_empty());
        cluster.wait_for_pods(SYSTEM, CA, 2, SOON).await;
        let workloads = Workloads::find(cluster).await;
        let operator = operator(cluster).await;
        cluster
            .eventually("nothing to be missing", SOON, async || match install_check(&operator).await {
                (0, _) => Ok(()),
                (code, said) => Err(format!("{code}: {said}")),
            })
            .await;
        let load = Load::start(&address);

        // All replicas are replaced by new ones, by somebody who may do no more than deploy/ lets operators do.
        for what in [&["rollout", "restart"][..], &["rollout", "status", "--timeout=120s"]] {
            let arguments = [what, &["deployment/burgrave-ca", "-n", SYSTEM]].concat();
            let done = cluster.kubectl_as(&operator, &arguments).await;
            done.unwrap_or_else(|refusal| panic!("an operator may not {what:?}: {refusal}"));
        }
        workloads.renew(cluster, "the rollout").await;

        // Each is deleted in turn.
        let pods = Api::<core::Pod>::namespaced(cluster.admin(), SYSTEM);
        for pod in cluster.wait_for_pods(SYSTEM, CA, 2, SOON).await {
            pods.delete(&pod.name_any(), &DeleteParams::default()).await.expect("an admin may delete a pod");
            workloads.renew(cluster, "a deleted pod").await;
            cluster.wait_for_pods(SYSTEM, CA, 2, SOON).await;
        }

        // The leader is frozen for longer than its Lease.
        let (frozen, holder) = leader(cluster).await;
        let pid = cluster.process_of(&frozen.uid().expect("a pod has a uid"), "burgrave");
        cluster.signal(pid, "STOP");
        let thaw = Instant::now() + LEASE + Duration::from_secs(3);
        cluster
            .eventually("another leader", LEASE * 3, async || match lease_holder(cluster).await {
                Some(other) if other != holder => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        let namespace = cluster.namespace("led-anew").await;
        roots_in(cluster, &namespace.name).await;
        workloads.renew(cluster, "a frozen leader").await;
        sleep(thaw.saturating_duration_since(Instant::now())).await;
        // The kubelet may have taken it for dead by now, and begun to end it.
        let _ = std::process::Command::new("kill").args(["-CONT", &pid.to_string()]).status();
        cluster.wait_for_pods(SYSTEM, CA, 2, SOON).await;
        workloads.renew(cluster, "the frozen one's return").await;
        roots_in(cluster, &cluster.namespace("after-the-thaw").await.name).await;

        // The API server goes away, and comes back.
        cluster.kill_apiserver();
        workloads.renew(cluster, "a restarted API server").await;
        cluster.until_ready().await;
        roots_in(cluster, &cluster.namespace("after-the-restart").await.name).await;
        workloads.renew(cluster, "the end").await;

        let (requests, failed) = load.end().await;
        figure("cluster_slowest_renewal_ms", workloads.slowest_ms.load(Ordering::Relaxed), "ms");
        figure("cluster_requests", requests, "requests");
        figure("cluster_failed", failed.len(), "requests");
        assert!(requests > 1000, "{requests} are no load");
        assert!(failed.is_empty(), "{} of {requests} failed: {failed:?}", failed.len());
        nothing_secret_is_told(cluster).await;
    });
}

/// A kubeconfig of somebody who is bound to the operators' roles, as their comments say.
pub(crate) async fn operator(cluster: &Cluster) -> PathBuf {
    let account = "--serviceaccount=default:operator";
    for arguments in [
        &["create", "serviceaccount", "operator", "-n", "default"][..],
        &["create", "clusterrolebinding", "operators", "--clusterrole=burgrave-operator", account],
        &["create", "rolebinding", "operators", "--role=burgrave-operator", account, "-n", SYSTEM],
    ] {
        cluster.kubectl(arguments).await;
    }
    let token = cluster.kubectl(&["create", "token", "operator", "-n", "default"]).await;
    cluster.kubeconfig_for(token.trim())
}

/// Exit code and words of `burgrave install check`.
async fn install_check(kubeconfig: &Path) -> (i32, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_burgrave"))
        .args(["install", "check", "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .await
        .expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

/// Requests over new connections, without a pause, until its end.
pub(crate) struct Load {
    done: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(address: &str) -> Load {
        let mut load = Load {
            done: Arc::default(),
            requests: Arc::default(),
            failed: Arc::default(),
            tasks: JoinSet::new(),
        };
        let begun = Instant::now();
        for _ in 0..4 {
            let (done, requests, failed) = (load.done.clone(), load.requests.clone(), load.failed.clone());
            let address = address.to_owned();
            load.tasks.spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let answer = http::get((address.as_str(), 8080), "/").await;
                    requests.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = answer {
                        let at = begun.elapsed().as_secs_f64();
                        let mut failed = failed.lock().expect("nobody panics with it");
                        failed.push(format!("after {at:.1} s: {error}"));
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            });
        }
        load
    }

    pub(crate) async fn end(self) -> (u64, Vec<String>) {
        self.done.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let failed = self.failed.lock().expect("nobody panics with it").clone();
        (self.requests.load(Ordering::Relaxed), failed)
    }
}

/// The pods of the example.
pub(crate) struct Workloads {
    pods: BTreeMap<String, core::Pod>,
    /// The longest that one has waited for a new certificate.
    slowest_ms: AtomicU64,
}

impl Workloads {
    pub(crate) async fn find(cluster: &Cluster) -> Workloads {
        let pods = cluster.wait_for_pods(EXAMPLE, "app in (client, server)", 2, SOON).await;
        let pods = pods.into_iter().map(|pod| (pod.name_any(), pod)).collect();
        Workloads { pods, slowest_ms: AtomicU64::new(0) }
    }

    /// Has every workload ask for a new certificate, and waits until it has it.
    pub(crate) async fn renew(&self, cluster: &Cluster, after: &str) {
        for (name, pod) in &self.pods {
            let old = serial(pod).await.unwrap_or_else(|error| panic!("{name} after {after}: {error}"));
            cluster.signal(cluster.process_of(&pod.uid().expect("a pod has a uid"), "burgrave"), "HUP");
            let begun = Instant::now();
            cluster
                .eventually(&format!("a new certificate for {name} after {after}"), SOON, async || {
                    match serial(pod).await? {
                        new if new != old => Ok(()),
                        old => Err(format!("still {old}")),
                    }
                })
                .await;
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.slowest_ms.fetch_max(took, Ordering::Relaxed);
        }
    }
}

/// The serial number of the certificate that a workload's agent holds.
async fn serial(pod: &core::Pod) -> Result<String, String> {
    let page = http::get((address_of(pod).as_str(), 15020), "/state").await?;
    let state: Value = serde_json::from_str(&page).map_err(|error| error.to_string())?;
    state["identity"]["serial"].as_str().map(str::to_owned).ok_or(page)
}

pub(crate) fn address_of(pod: &core::Pod) -> String {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).expect("a pod that runs has an address")
}

pub(crate) async fn service_address(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<String, String> {
    let service = Api::<core::Service>::namespaced(cluster.admin(), namespace).get(name).await;
    let address = service.map_err(|error| error.to_string())?.spec.and_then(|spec| spec.cluster_ip);
    address.ok_or_else(|| "it has no address".to_owned())
}

pub(crate) async fn roots_in(cluster: &Cluster, namespace: &str) {
    let maps = Api::<core::ConfigMap>::namespaced(cluster.admin(), namespace);
    cluster
        .eventually(&format!("the roots in {namespace}"), SOON, async || {
            maps.get("istio-ca-root-cert").await.map_err(|error| error.to_string())
        })
        .await;
}

async fn lease_holder(cluster: &Cluster) -> Option<String> {
    let leases = Api::<Lease>::namespaced(cluster.admin(), SYSTEM);
    let lease = leases.get_opt("burgrave-ca").await.ok()??;
    lease.spec?.holder_identity.filter(|name| !name.is_empty())
}

/// The pod that leads, and its name in the Lease.
async fn leader(cluster: &Cluster) -> (core::Pod, String) {
    let pods = Api::<core::Pod>::namespaced(cluster.admin(), SYSTEM);
    cluster
        .eventually("a leader", SOON, async || {
            let holder = lease_holder(cluster).await.ok_or("nobody leads")?;
            let pods = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let pod = pods.items.into_iter().find(|pod| holder.starts_with(&pod.name_any()));
            pod.map(|pod| (pod, holder.clone())).ok_or(holder)
        })
        .await
}

/// The files of a container, as its process sees them.
fn inside_of(process: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/root"))
}

/// Looks for the bytes of every key and token there is in all that anybody who is not meant to have them may read.
pub(crate) async fn nothing_secret_is_told(cluster: &Cluster) {
    let mut told = cluster.logs_of_every_pod();
    for kind in ["events", "configmaps", "leases", "pods", "podcertificaterequests", "clustertrustbundles"] {
        told.insert(kind.to_owned(), cluster.kubectl(&["get", kind, "-A", "-o", "yaml"]).await);
    }
    let pods = Api::<core::Pod>::all(cluster.admin());
    let mut secrets = Vec::new();
    for pod in pods.list(&ListParams::default()).await.expect("an admin may list").items {
        let is_ours = |container: &core::Container| {
            container.image.as_deref().is_some_and(|image| image.contains("burgrave:"))
        };
        let spec = pod.spec.clone().unwrap_or_default();
        // A key that the kubelet brings lies in a file, which only the pod may read.
        if spec.volumes.iter().flatten().any(|volume| volume.name == "identity") {
            let process = cluster.process_of(&pod.uid().expect("a pod has a uid"), "envoy");
            let file = inside_of(process).join("var/run/secrets/burgrave/credentials.pem");
            let text = std::fs::read_to_string(file).expect("the kubelet brought it");
            let key = text.split("-----END PRIVATE KEY-----").next().unwrap_or_default();
            let lines = key.lines().filter(|line| line.len() > 12 && !line.starts_with("-----"));
            secrets.extend(lines.map(|line| ("a pod's key", line.to_owned())));
        }
        let is_agent = spec.init_containers.iter().flatten().any(is_ours);
        let is_ca = spec.containers.iter().any(is_ours);
        if !(is_agent || is_ca) {
            continue;
        }
        let pages = if is_ca { 15014 } else { 15020 };
        for page in ["/state", "/metrics", "/readyz"] {
            let answer =
                http::get((address_of(&pod).as_str(), pages), page).await.expect("it serves its pages");
            told.insert(format!("{page} of {}", pod.name_any()), answer);
        }
        let root = inside_of(cluster.process_of(&pod.uid().expect("a pod has a uid"), "burgrave"));
        let token = match is_ca {
            true => "var/run/secrets/kubernetes.io/serviceaccount/token",
            false => "var/run/secrets/tokens/istio-token",
        };
        let token = std::fs::read_to_string(root.join(token)).expect("a pod has its token");
        secrets.push(("a token's signature", token.trim().rsplit('.').next().unwrap_or_default().to_owned()));
    }
    let authority = Api::<core::Secret>::namespaced(cluster.admin(), SYSTEM).get("burgrave-authority").await;
    let data = authority.expect("the CA made it").data.expect("it has data");
    let key = String::from_utf8(data["ca-key.pem"].0.clone()).expect("PEM is text");
    let lines = key.lines().filter(|line| !line.starts_with("-----"));
    secrets.extend(lines.map(|line| ("the root's key", line.to_owned())));
    secrets.push(("a key's PEM", "PRIVATE KEY-----".to_owned()));

    assert!(told.len() > 10 && secrets.len() >= 6, "{} texts, {} secrets", told.len(), secrets.len());
    let fingerprints = told.values().filter(|text| text.contains("the authority is loaded")).count();
    assert!(fingerprints > 0, "the texts are not those of our pods");
    for (place, text) in &told {
        for (what, secret) in &secrets {
            assert!(secret.len() > 12, "{what} is too short to be looked for");
            assert!(!text.contains(secret), "{what} stands in {place}");
        }
    }
}
