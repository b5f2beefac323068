//! A real one-node Kubernetes: kubelet, containerd, controllers, Services, DNS, and pods that run.
//!
//! It lives in namespaces of its own (see `up`), so its API is reached only from inside: a story runs in
//! [`Cluster::inside`], where a `kube::Client`, a TCP connection or a child process meet the cluster's network. Files are
//! the same inside and outside. Many stories share one cluster; each works in a [`Cluster::namespace`] of its own.

/// What a failing story leaves behind.
mod evidence;
/// How a story gets inside.
mod inside;
/// Which processes of the machine are the cluster's.
mod processes;

use super::Scratch;
use super::access::Access;
use super::access::ca_of;
use super::apiserver::Namespace;
use super::apiserver::eventually;
use super::figure;
use super::part::NO_ENV;
use super::part::Part;
use super::random_hex;
use super::scratch;
use super::tools;

use std::future::Future;
use std::os::unix::fs::symlink;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

/// The program under test, at `/burgrave`; like every image here it runs as 65532, with an empty `/tmp`.
pub const BURGRAVE_IMAGE: &str = concat!("burgrave.dev/burgrave:", env!("CARGO_PKG_VERSION"));

/// Envoy at `/envoy`, with `sh`, `cat`, `ls`, `sleep` and `openssl` beside it in `/bin`.
pub const ENVOY_IMAGE: &str = "burgrave.dev/envoy:1.40.0";

/// The one node.
pub const NODE: &str = "node-1";

/// Where the API server listens, inside.
const API: &str = "https://198.18.0.1:6443";

/// Long enough for a machine that is busy compiling; a quiet one needs six seconds.
const START: Duration = Duration::from_secs(150);
const READY: Duration = Duration::from_secs(60);

/// A cluster that runs; all of it is gone when this is dropped, or when this process ends in any other way.
pub struct Cluster {
    node: Part,
    access: Arc<Access>,
    dir: Scratch,
}

impl Cluster {
    /// The one that most stories share: started by the first who asks, ended with the process.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        let started = SHARED.get_or_init(|| catch_unwind(Cluster::start).ok());
        started.as_ref().unwrap_or_else(|| {
            panic!("the cluster did not start; the story that asked for it first shows why")
        })
    }

    /// One of the caller's own, for a story that breaks it.
    pub fn start() -> Cluster {
        let dir = scratch("cluster");
        let begun = Instant::now();
        provide(&dir);
        let node =
            Part::spawn("the cluster", &script("up"), [dir.as_os_str()], NO_ENV, &dir.join("node.log"));
        while !dir.join("ready").exists() {
            assert!(node.running(), "the cluster did not start:\n{}", node.log_tail(30));
            assert!(begun.elapsed() < START, "the cluster is not ready yet:\n{}", node.log_tail(30));
            std::thread::sleep(Duration::from_millis(20));
        }
        figure("cluster_start", format!("{:.1}", begun.elapsed().as_secs_f64()), "s");
        // The cluster has them in its own store now, and a kept directory should be small.
        let _ = std::fs::remove_dir_all(dir.join("images"));
        let read = |name| std::fs::read_to_string(dir.join(name)).expect("a cluster that is ready wrote it");
        let ca_pem =
            ca_of(&read("pki/apiserver.crt")).expect("the API server's file ends with its authority");
        let access = Arc::new(Access { url: API.to_owned(), ca_pem, admin_token: read("admin-token") });
        Cluster { node, access, dir }
    }

    /// A client that may do anything; it works only inside, in the runtime that asked for it.
    pub fn admin(&self) -> kube::Client {
        self.access.admin()
    }

    /// A client that logs in with that token.
    pub fn client(&self, token: &str) -> kube::Client {
        self.access.client(token)
    }

    /// The certificate authority of the API server's own certificate.
    pub fn ca_pem(&self) -> &str {
        &self.access.ca_pem
    }

    /// The cluster's own directory: `log/` has a file for each part, `podlogs/` what pods say.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A kubeconfig that logs in with that token.
    pub fn kubeconfig_for(&self, token: &str) -> PathBuf {
        let path = self.dir.join(format!("kubeconfig-{}", random_hex(4)));
        self.access.write_kubeconfig(&path, token);
        path
    }

    /// A namespace of the story's own, in which pods can be made.
    pub async fn namespace(&self, prefix: &str) -> Namespace {
        let namespace = Namespace::create(&self.access, prefix).await;
        let accounts = Api::<core::ServiceAccount>::namespaced(self.admin(), &namespace.name);
        let maps = Api::<core::ConfigMap>::namespaced(self.admin(), &namespace.name);
        self.eventually("what a controller puts into a namespace", READY, async || {
            accounts.get("default").await.map_err(|error| error.to_string())?;
            maps.get("kube-root-ca.crt").await.map_err(|error| error.to_string())
        })
        .await;
        namespace
    }

    /// Tries until it works; after `limit` fails with what was told last.
    pub async fn eventually<T, F>(&self, what: &str, limit: Duration, attempt: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, String>>,
    {
        eventually(what, limit, Some(&self.node), attempt).await
    }
}

// === kubectl ===

impl Cluster {
    /// What an administrator's `kubectl` prints, run in the repository's root; its refusal fails the story.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let told = self.try_kubectl(arguments).await;
        told.unwrap_or_else(|refusal| panic!("kubectl {}: {refusal}", arguments.join(" ")))
    }

    /// What it prints, or what it says is wrong.
    pub async fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_as(&self.dir.join("kubeconfig"), arguments).await
    }

    /// The same for whoever that kubeconfig is for.
    pub async fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<String, String> {
        self.run_kubectl(kubeconfig, arguments, "").await
    }

    /// Makes or changes an object; several go into a `List`.
    pub async fn apply(&self, object: &Value) {
        let (kubeconfig, text) = (self.dir.join("kubeconfig"), object.to_string());
        let told = self.run_kubectl(&kubeconfig, &["apply", "--filename=-"], &text).await;
        told.unwrap_or_else(|refusal| panic!("kubectl apply: {refusal}\n{object:#}"));
    }

    async fn run_kubectl(
        &self,
        kubeconfig: &Path,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let mut child = tokio::process::Command::new(tools::kubectl())
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("KUBECONFIG", kubeconfig)
            // It remembers what API servers serve, and this one's address is every cluster's.
            .env("KUBECACHEDIR", self.dir.join("kubectl"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        // One that refuses its arguments does not read.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("a child can be waited for");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

// === pods ===

impl Cluster {
    /// Waits until just `count` pods match the selector, each Ready and none about to end, and returns them.
    pub async fn wait_for_pods(
        &self,
        namespace: &str,
        selector: &str,
        count: usize,
        limit: Duration,
    ) -> Vec<core::Pod> {
        let pods = Api::<core::Pod>::namespaced(self.admin(), namespace);
        let what = format!("{count} ready pods `{selector}` in {namespace}");
        self.eventually(&what, limit, async || {
            let found = pods.list(&ListParams::default().labels(selector)).await;
            let found = found.map_err(|error| error.to_string())?.items;
            if found.len() == count && found.iter().all(is_ready) {
                return Ok(found);
            }
            Err(found.iter().map(|pod| format!("\n{}", state(pod))).collect())
        })
        .await
    }

    /// All that a container has said: in its run before this one too, if there was one.
    pub async fn log(&self, namespace: &str, pod: &str, container: &str) -> String {
        let arguments = ["logs", pod, "--container", container, "--namespace", namespace];
        let before = self.try_kubectl(&[&arguments[..], &["--previous"]].concat()).await;
        before.unwrap_or_default() + &self.kubectl(&arguments).await
    }
}

/// Ready, and not about to end.
pub fn is_ready(pod: &core::Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The line about a pod that a reader of a failed story wants.
fn state(pod: &core::Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let ending = if pod.metadata.deletion_timestamp.is_some() { ", about to end" } else { "" };
    let mut line = format!("{name}: {}{ending}", status.phase.unwrap_or_default());
    for container in status.container_statuses.unwrap_or_default() {
        let state = serde_json::to_string(&container.state).unwrap_or_default();
        line += &format!("; {} restarted {} times, {state}", container.name, container.restart_count);
    }
    line
}

// === what a story breaks ===

impl Cluster {
    /// Kills the API server as a power cut would. It is back a moment later, with all it knew.
    pub fn kill_apiserver(&self) {
        self.kill("kube-apiserver");
    }

    /// Kills the kubelet. Its pods run on, and it is back a moment later.
    pub fn kill_kubelet(&self) {
        self.kill("kubelet");
    }

    /// Kills the API server, and keeps it away until `start_apiserver`.
    pub fn stop_apiserver(&self) {
        std::fs::write(self.dir.join("hold-kube-apiserver"), "").expect("the cluster's directory is ours");
        self.kill("kube-apiserver");
    }

    /// Lets it come back.
    pub fn start_apiserver(&self) {
        let _ = std::fs::remove_file(self.dir.join("hold-kube-apiserver"));
    }

    /// Waits until the API server and the kubelet answer, and the node is Ready.
    pub async fn until_ready(&self) {
        self.eventually("the API server", READY, async || {
            self.try_kubectl(&["get", "--raw", "/readyz"]).await
        })
        .await;
        self.eventually("the kubelet", READY, async || {
            self.try_kubectl(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/healthz")]).await
        })
        .await;
        let nodes = Api::<core::Node>::all(self.admin());
        self.eventually("the node", READY, async || {
            let node = nodes.get(NODE).await.map_err(|error| error.to_string())?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
            if ready { Ok(()) } else { Err(format!("{conditions:?}")) }
        })
        .await;
    }
}

// === what `up` needs ===

/// Puts the parts and the images where `up` looks for them.
fn provide(dir: &Path) {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).expect("a scratch can be written to");
    let burgrave = ("burgrave", PathBuf::from(env!("CARGO_BIN_EXE_burgrave")));
    for (name, path) in tools::node().into_iter().chain([burgrave]) {
        symlink(path, bin.join(name)).expect("each part has a name of its own");
    }
    let made = Command::new(script("images")).arg(dir).output();
    let made = made.expect("tests/support/cluster/images can be run");
    assert!(made.status.success(), "no images: {}", String::from_utf8_lossy(&made.stderr));
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/cluster").join(name)
}
