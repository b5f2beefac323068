//! A real Kubernetes API server on a real etcd, and what a story needs from them: namespaces, pods, tokens.
//!
//! There is no controller manager, no scheduler and no kubelet. So a pod is put on its node by us, a namespace is made
//! under a fresh name and left to end with etcd, and nothing but what a test does ever changes.

use super::Scratch;
use super::access::Access;
use super::access::ca_of;
use super::namespace::create_if_absent;
use super::namespace::object;
use super::part::NO_ENV;
use super::part::Part;
use super::ports;
use super::random_hex;
use super::scratch;
use super::token_key::TokenKey;
use super::token_key::claims_of;
use super::tools;
use super::write_private;

// They are the API server's, and stories know them by its name.
pub use super::namespace::Namespace;
pub use super::namespace::Pod;

use std::future::Future;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::rbac::v1 as rbac;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::OnceCell;
use tokio::time::sleep;

/// Who issues this cluster's tokens, and for whom when nobody says.
pub const ISSUER: &str = "https://kubernetes.default.svc";

/// The node that pods are put on unless a story names another one.
pub const NODE: &str = "node-1";

/// Long enough for a start on a machine that is busy compiling; a quiet one needs three seconds.
const START: Duration = Duration::from_secs(90);
const TICK: Duration = Duration::from_millis(50);

/// etcd and kube-apiserver, both gone when this is dropped.
pub struct ApiServer {
    apiserver: Mutex<Option<Part>>,
    etcd: Part,
    etcd_port: u16,
    port: u16,
    access: Arc<Access>,
    kubelet_token: String,
    key: TokenKey,
    dir: Scratch,
}

// === impl ApiServer ===

impl ApiServer {
    /// The one that most stories share: started by the first who asks, ended with the process.
    pub async fn shared() -> &'static ApiServer {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_init(ApiServer::start).await
    }

    /// One of the caller's own, for a story that stops it.
    pub async fn start() -> ApiServer {
        let dir = scratch("apiserver");
        let key = TokenKey::generate();
        write_private(&dir.join("tokens.key"), &key.private_pem);
        write_private(&dir.join("tokens.pub"), &key.public_pem);
        let admin_token = random_hex(24);
        let kubelet_token = random_hex(24);
        let users = format!(
            "{admin_token},admin,admin,\"system:masters\"\n{kubelet_token},system:node:{NODE},kubelet,\"system:nodes\"\n"
        );
        write_private(&dir.join("admins.csv"), users);

        let (etcd, etcd_port) = spawn_etcd(&dir);
        let port = ports::free();
        let apiserver = spawn_apiserver(&dir, port, etcd_port);
        let certificates = dir.join("pki/apiserver.crt");
        eventually("the API server's certificate", START, Some(&apiserver), async || {
            std::fs::read_to_string(&certificates)
                .map_err(|error| error.to_string())
                .and_then(|pem| ca_of(&pem))
        })
        .await;
        let pem = std::fs::read_to_string(&certificates).expect("it was just read");
        let ca_pem = ca_of(&pem).expect("it was just found");
        let access = Arc::new(Access { url: format!("https://127.0.0.1:{port}"), ca_pem, admin_token });
        let started = ApiServer {
            apiserver: Mutex::new(Some(apiserver)),
            etcd,
            etcd_port,
            port,
            access,
            kubelet_token,
            key,
            dir,
        };
        started.until_ready().await;
        started
    }

    /// A client that may do anything; made for the calling runtime, so every test asks for its own.
    pub fn admin(&self) -> kube::Client {
        self.access.admin()
    }

    /// A client that logs in with that token.
    pub fn client(&self, token: &str) -> kube::Client {
        self.access.client(token)
    }

    /// A client of the kubelet on the usual node, which may do what the API server lets that node do.
    pub fn kubelet(&self) -> kube::Client {
        self.access.client(&self.kubelet_token)
    }

    pub fn url(&self) -> &str {
        &self.access.url
    }

    /// The certificate authority of the API server's own certificate.
    pub fn ca_pem(&self) -> &str {
        &self.access.ca_pem
    }

    /// The process id of kube-apiserver.
    pub fn pid(&self) -> u32 {
        self.with_apiserver(|part| part.pid())
    }

    /// Writes a kubeconfig into `dir` that logs in with `token`.
    pub fn kubeconfig(&self, dir: &Path, token: &str) -> PathBuf {
        let path = dir.join("kubeconfig");
        self.access.write_kubeconfig(&path, token);
        path
    }

    /// Writes a kubeconfig into `dir` for somebody who may do anything.
    pub fn admin_kubeconfig(&self, dir: &Path) -> PathBuf {
        self.kubeconfig(dir, &self.access.admin_token)
    }

    /// Kills the API server as a power cut would. etcd keeps what it knew.
    pub async fn stop_apiserver(&self) {
        let part = self.apiserver().take();
        if let Some(part) = part {
            part.kill9();
        }
    }

    /// Brings the API server back at the same address, with all it knew.
    pub async fn start_apiserver(&self) {
        self.stop_apiserver().await;
        *self.apiserver() = Some(spawn_apiserver(&self.dir, self.port, self.etcd_port));
        self.until_ready().await;
    }

    /// Sends kube-apiserver a signal: `STOP` makes it hang as a broken network would, until `CONT`.
    pub fn signal_apiserver(&self, signal: &str) {
        self.with_apiserver(|part| part.signal(signal));
    }

    /// A namespace of the caller's own; `prefix` is for people who read logs.
    pub async fn namespace(&self, prefix: &str) -> Namespace {
        Namespace::create(&self.access, prefix).await
    }

    /// Makes the service account `burgrave-ca` in that namespace, which may create token reviews and nothing else, and
    /// returns a token of its own for the API server.
    pub async fn issuer_account(&self, namespace: &Namespace) -> String {
        let admin = self.admin();
        let role = json!({
            "metadata": {"name": "burgrave-ca"},
            "rules": [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}],
        });
        create_if_absent(&Api::<rbac::ClusterRole>::all(admin.clone()), role).await;
        let binding = json!({
            "metadata": {"name": format!("burgrave-ca-{}", namespace.name)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "burgrave-ca"},
            "subjects": [{"kind": "ServiceAccount", "name": "burgrave-ca", "namespace": namespace.name}],
        });
        create_if_absent(&Api::<rbac::ClusterRoleBinding>::all(admin), binding).await;
        namespace.service_account("burgrave-ca").await;
        let token = namespace.token("burgrave-ca", None, ISSUER, 4 * 3600).await;

        // The authorizer learns of the binding through a watch, a moment later.
        let reviews = Api::<TokenReview>::all(self.access.client(&token));
        let probe = object(json!({"spec": {"token": "nobody's"}, "metadata": {}}));
        eventually("the right to review tokens", Duration::from_secs(20), None, async || {
            reviews.create(&PostParams::default(), &probe).await.map_err(|error| error.to_string())
        })
        .await;
        token
    }

    /// A token as this cluster would have signed it, whose hour was over an hour ago.
    pub async fn expired_token(
        &self,
        namespace: &Namespace,
        service_account: &str,
        pod: Option<&Pod>,
        audience: &str,
    ) -> String {
        let mut claims = claims_of(&namespace.token(service_account, pod, audience, 3600).await);
        let expired = OffsetDateTime::now_utc().unix_timestamp() - 3600;
        claims["exp"] = json!(expired);
        claims["nbf"] = json!(expired - 3600);
        claims["iat"] = json!(expired - 3600);
        self.key.sign(&claims)
    }

    /// A token that says just what one of this cluster's would say, signed by the key of another cluster.
    pub async fn foreign_token(
        &self,
        namespace: &Namespace,
        service_account: &str,
        pod: Option<&Pod>,
        audience: &str,
    ) -> String {
        let claims = claims_of(&namespace.token(service_account, pod, audience, 3600).await);
        TokenKey::generate().sign(&claims)
    }

    async fn until_ready(&self) {
        let client = self.admin();
        eventually("an API server that is ready", START, None, async || {
            self.with_apiserver(|part| {
                assert!(part.running(), "kube-apiserver has ended; its last lines:\n{}", part.log_tail(15))
            });
            let request =
                http::Request::get("/readyz").body(Vec::new()).expect("a constant request is well formed");
            client
                .request_text(request)
                .await
                .map_err(|error| format!("{error}\n{}", self.with_apiserver(|part| part.log_tail(15))))
        })
        .await;
    }

    fn apiserver(&self) -> std::sync::MutexGuard<'_, Option<Part>> {
        self.apiserver.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn with_apiserver<T>(&self, look: impl FnOnce(&Part) -> T) -> T {
        look(self.apiserver().as_ref().expect("the API server runs; start_apiserver brings it back"))
    }
}

impl Drop for ApiServer {
    /// Nothing of it is to be kept, so there is no wait for an orderly end. A failing test still gets the logs.
    fn drop(&mut self) {
        if let Some(part) = self.apiserver().as_ref() {
            part.signal("KILL");
        }
        self.etcd.signal("KILL");
    }
}

fn spawn_etcd(dir: &Path) -> (Part, u16) {
    let (port, peers) = (ports::free(), ports::free());
    let args = [
        format!("--data-dir={}", dir.join("etcd").display()),
        // It is thrown away with the test, so a crash of the machine may lose it.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
        format!("--listen-client-urls=http://127.0.0.1:{port}"),
        format!("--advertise-client-urls=http://127.0.0.1:{port}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peers}"),
    ];
    (Part::spawn("etcd", &tools::etcd(), args, NO_ENV, &dir.join("etcd.log")), port)
}

fn spawn_apiserver(dir: &Path, port: u16, etcd_port: u16) -> Part {
    let args = [
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // Loopback cannot be the endpoint of the service `kubernetes`, and nobody here needs one.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={port}"),
        // It makes its own serving certificate here, and finds it again after a restart.
        format!("--cert-dir={}", dir.join("pki").display()),
        "--service-cluster-ip-range=198.19.0.0/16".to_owned(),
        format!("--service-account-issuer={ISSUER}"),
        format!("--api-audiences={ISSUER}"),
        format!("--service-account-key-file={}", dir.join("tokens.pub").display()),
        format!("--service-account-signing-key-file={}", dir.join("tokens.key").display()),
        format!("--token-auth-file={}", dir.join("admins.csv").display()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        // It waits for what only a controller manager makes.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    Part::spawn("kube-apiserver", &tools::kube_apiserver(), args, NO_ENV, &dir.join("apiserver.log"))
}

/// Tries until it works; after `limit`, or if `part` ends, fails with what it last heard and the part's last lines.
pub(super) async fn eventually<T, F>(
    what: &str,
    limit: Duration,
    part: Option<&Part>,
    mut attempt: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let until = Instant::now() + limit;
    loop {
        let refusal = match attempt().await {
            Ok(value) => return value,
            Err(refusal) => refusal,
        };
        let tail = || part.map(|part| part.log_tail(15)).unwrap_or_default();
        assert!(
            part.is_none_or(Part::running),
            "waited for {what}, but its program has ended: {refusal}\n{}",
            tail()
        );
        assert!(Instant::now() < until, "waited {} s for {what}: {refusal}\n{}", limit.as_secs(), tail());
        sleep(TICK).await;
    }
}
