//! A running `burgrave ca` as its clients and its operator see it.
//!
//! [`Plan`] is what a CA is started with, again and again: ports, directory, command line. [`Ca`] is one that serves.

use crate::support::Scratch;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::Namespace;
use crate::support::part::NO_ENV;
use crate::support::part::Part;
use crate::support::ports;
use crate::support::scratch;

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use burgrave::proto::istio::IstioCertificateRequest;
use burgrave::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use burgrave::x509::TrustBundle;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::SupportedProtocolVersion;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

/// The audience that the CA asks of tokens unless it is told otherwise.
pub(crate) const AUDIENCE: &str = "istio-ca";

/// A quiet machine needs a quarter of a second; this one may be compiling.
const START: Duration = Duration::from_secs(40);
const TICK: Duration = Duration::from_millis(20);

/// What one CA is started with, as often as a story likes: always the same ports and files.
pub(crate) struct Plan {
    pub(crate) api: SocketAddr,
    pub(crate) pages: SocketAddr,
    arguments: Vec<String>,
    dir: Scratch,
}

/// A `burgrave ca` that serves, and a client that trusts its root.
pub(crate) struct Ca {
    plan: Plan,
    part: Part,
    root_pem: String,
    client: Client,
}

/// A client of the certificate service, over TLS that it verifies. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Client(IstioCertificateServiceClient<Channel>);

// === impl Plan ===

impl Plan {
    /// A CA that asks `api` with an account of its own in `namespace`. Its root is self-signed, unless `options` name
    /// a `--ca-dir`.
    pub(crate) async fn new(api: &ApiServer, namespace: &Namespace, options: &[&str]) -> Plan {
        let token = api.issuer_account(namespace).await;
        Plan::with_account(api, &token, options)
    }

    /// A CA that shows `token` to the API server.
    pub(crate) fn with_account(api: &ApiServer, token: &str, options: &[&str]) -> Plan {
        let mut plan = Plan::bare(options);
        let kubeconfig = api.kubeconfig(&plan.dir, token);
        plan.arguments.push(format!("--kubeconfig={}", kubeconfig.display()));
        plan
    }

    /// A CA that has no way to know its callers. If nothing else ends its start, [`NO_KEYS`] does.
    pub(crate) fn without_callers(options: &[&str]) -> Plan {
        Plan::with_keys("nobody", options)
    }

    /// A CA that knows its callers by the tokens of that issuer, once somebody has written its keys to `keys.json` in
    /// [`Plan::dir`].
    pub(crate) fn with_keys(issuer: &str, options: &[&str]) -> Plan {
        let mut plan = Plan::bare(options);
        plan.arguments.push(format!("--token-jwks={}", plan.dir.join("keys.json").display()));
        plan.arguments.push(format!("--token-issuer={issuer}"));
        plan
    }

    fn bare(options: &[&str]) -> Plan {
        let dir = scratch("ca");
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let (api, pages) = (address(), address());
        let mut arguments = vec![
            "ca".to_owned(),
            format!("--listen={api}"),
            format!("--admin-listen={pages}"),
            format!("--bundle-file={}", dir.join("bundle.pem").display()),
            "--log-format=json".to_owned(),
        ];
        let names_a_root = |option: &&str| {
            ["--ca-dir", "--state-dir", "--authority-secret"].iter().any(|known| option.starts_with(known))
        };
        if !options.iter().any(names_a_root) {
            arguments.push(format!("--state-dir={}", dir.join("state").display()));
        }
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        Plan { api, pages, arguments, dir }
    }

    /// Starts the CA and waits for nothing.
    pub(crate) fn spawn(&self) -> Part {
        Part::spawn("burgrave ca", &binary(), &self.arguments, NO_ENV, &self.log_file())
    }

    /// Starts a CA that is expected to end by itself, and returns its exit code and all it has said.
    pub(crate) fn run_to_its_end(&self) -> (i32, String) {
        let part = self.spawn();
        let Some(code) = part.wait(Duration::from_secs(20)) else {
            panic!("the CA was expected to end, and goes on:\n{}", part.log())
        };
        (code, part.log())
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// All that this CA has logged, in all its lives.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The roots that the CA has written for its clients at its last start.
    pub(crate) fn root_pem(&self) -> String {
        std::fs::read_to_string(self.dir.join("bundle.pem"))
            .expect("a CA that has a root writes its bundle file")
    }

    /// A client that trusts those roots.
    pub(crate) fn client(&self) -> Client {
        Client::over(self.api, trusting(&self.root_pem(), rustls::ALL_VERSIONS))
    }

    /// Status and body of an admin page; `None` if nobody answers.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        timeout(Duration::from_secs(5), http_get(self.pages, path)).await.ok()?.ok()
    }

    /// Waits until /readyz says yes; fails if `part` ends before.
    pub(crate) async fn until_ready(&self, part: &Part) {
        until("the CA to be ready", START, async || {
            assert!(part.running(), "the CA has ended:\n{}", part.log_tail(20));
            match self.page("/readyz").await {
                Some((200, _)) => Ok(()),
                answer => Err(format!("/readyz: {answer:?}\n{}", part.log_tail(20))),
            }
        })
        .await;
    }

    /// The fingerprint of the root that each start has loaded, first start first.
    pub(crate) fn roots_loaded(&self) -> Vec<String> {
        let loaded = events(&self.log()).into_iter().filter(|event| text(event, "message") == LOADED);
        loaded.map(|event| text(&event, "root").to_owned()).collect()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("ca.log")
    }
}

/// What a CA of [`Plan::without_callers`] says at last.
pub(crate) const NO_KEYS: &str = "burgrave: key set `";

/// What the CA says once it has its root.
const LOADED: &str = "the authority is loaded";

// === impl Ca ===

impl Ca {
    /// Starts a CA as [`Plan::new`] and waits until it is ready.
    pub(crate) async fn start(api: &ApiServer, namespace: &Namespace, options: &[&str]) -> Ca {
        Ca::of(Plan::new(api, namespace, options).await).await
    }

    /// Starts a CA of that plan and waits until it is ready.
    pub(crate) async fn of(plan: Plan) -> Ca {
        let part = plan.spawn();
        Ca::joined(plan, part).await
    }

    /// Waits until a CA that was started by that plan is ready.
    pub(crate) async fn joined(plan: Plan, part: Part) -> Ca {
        plan.until_ready(&part).await;
        let (root_pem, client) = (plan.root_pem(), plan.client());
        Ca { plan, part, root_pem, client }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn part(&self) -> &Part {
        &self.part
    }

    /// The root that this story's client verifies by, from before the first restart.
    pub(crate) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(self.root_pem.as_bytes()).expect("the root was used for TLS")
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A certificate chain for `csr_pem`, over the one connection that all calls share.
    pub(crate) async fn create(
        &self,
        token: Option<&str>,
        csr_pem: &str,
        seconds: i64,
    ) -> Result<Vec<String>, Status> {
        self.client.create(token, csr_pem, seconds).await
    }

    pub(crate) fn kill9(&self) {
        self.part.kill9();
    }

    /// Starts it again with the same ports and files.
    pub(crate) async fn restart(&mut self) {
        self.part = self.plan.spawn();
        self.plan.until_ready(&self.part).await;
    }

    pub(crate) fn log(&self) -> String {
        self.plan.log()
    }

    /// All that it has logged, as JSON.
    pub(crate) fn events(&self) -> Vec<Value> {
        events(&self.log())
    }

    /// The audit events of that kind: `intended`, `issued` or `refused`.
    pub(crate) fn audit(&self, kind: &str) -> Vec<Value> {
        let all = self.events().into_iter();
        all.filter(|event| text(event, "target") == "audit" && text(event, "event") == kind).collect()
    }

    /// A sample of /metrics by its name and labels as they are printed; 0 if there is none.
    pub(crate) async fn metric(&self, name_with_labels: &str) -> f64 {
        let (_, page) = self.plan.page("/metrics").await.expect("a CA that serves has metrics");
        let mut samples = page.lines().filter_map(|line| line.rsplit_once(' '));
        let value = samples.find(|(name, _)| *name == name_with_labels).map(|(_, value)| value);
        value.map_or(0.0, |value| value.parse().expect("a sample is a number"))
    }

    /// How many requests were refused for that reason.
    pub(crate) async fn refused(&self, reason: &str) -> f64 {
        self.metric(&requests_metric("refused", reason)).await
    }

    /// How many certificates were issued.
    pub(crate) async fn issued(&self) -> f64 {
        self.metric(&requests_metric("issued", "")).await
    }
}

fn requests_metric(outcome: &str, reason: &str) -> String {
    format!("burgrave_certificate_requests_total{{outcome=\"{outcome}\",reason=\"{reason}\"}}")
}

// === impl Client ===

impl Client {
    /// A client that shakes hands as `tls` says. It connects at its first call, and again when it must.
    pub(crate) fn over(address: SocketAddr, tls: ClientConfig) -> Client {
        Client(IstioCertificateServiceClient::new(channel(address, tls)))
    }

    /// A certificate chain for `csr_pem`; `token` goes out as a bearer token.
    pub(crate) async fn create(
        &self,
        token: Option<&str>,
        csr_pem: &str,
        seconds: i64,
    ) -> Result<Vec<String>, Status> {
        let authorization = token.map(|token| format!("Bearer {token}"));
        self.create_with(authorization.as_deref(), csr_pem, seconds).await
    }

    /// The same with that `authorization` header, whatever it says.
    pub(crate) async fn create_with(
        &self,
        authorization: Option<&str>,
        csr_pem: &str,
        seconds: i64,
    ) -> Result<Vec<String>, Status> {
        let message = IstioCertificateRequest {
            csr: csr_pem.to_owned(),
            validity_duration: seconds,
            ..IstioCertificateRequest::default()
        };
        let mut request = tonic::Request::new(message);
        if let Some(value) = authorization {
            let value = value.parse().expect("a story's token is ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(self.0.clone().create_certificate(request).await?.into_inner().cert_chain)
    }
}

/// A connection for calls, made at the first of them, and again when it must.
pub(crate) fn channel(address: SocketAddr, tls: ClientConfig) -> Channel {
    let tls = Arc::new(tls);
    let connector = tower::service_fn(move |_: http::Uri| {
        let tls = tls.clone();
        async move { connect(address, tls).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://burgrave.test")
        .timeout(Duration::from_secs(30))
        .connect_with_connector_lazy(connector)
}

/// TLS to the CA, with HTTP/2 as the only protocol offered.
pub(crate) async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    TlsConnector::from(tls).connect(ServerName::from(address.ip()), connection).await
}

/// TLS of those versions that trusts `root_pem` and nothing else.
pub(crate) fn trusting(root_pem: &str, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(root_pem.as_bytes()) {
        roots.add(root.expect("a root is PEM")).expect("a root is a certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring can do every version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

// === small words ===

/// The program under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_burgrave"))
}

/// A log's lines as JSON. Every line must be one object.
pub(crate) fn events(log: &str) -> Vec<Value> {
    // The last line may be half written while the CA lives.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    whole.lines().map(parse).collect()
}

/// A field of a log event as text; empty if it is absent.
pub(crate) fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

/// Tries until it works; after `limit` fails with what it last heard.
pub(crate) async fn until<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(why) if Instant::now() > end => panic!("waited {} s for {what}: {why}", limit.as_secs()),
            Err(_) => sleep(TICK).await,
        }
    }
}

pub(crate) async fn http_get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0 answers whole and closes.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    Ok((status, body.to_owned()))
}
