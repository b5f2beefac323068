//! Two workloads with an agent and an Envoy each, and those who look at them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use burgrave::identity::SpiffeId;
use burgrave::proto::envoy::DiscoveryRequest;
use burgrave::proto::envoy::DiscoveryResponse;
use burgrave::proto::envoy::Node;
use burgrave::proto::envoy::Secret;
use burgrave::proto::envoy::SecretType;
use burgrave::proto::envoy::Specifier;
use burgrave::sds;
use burgrave::sds::SECRET_TYPE;
use burgrave::sds::bootstrap;
use burgrave::x509::Certificate;
use burgrave::x509::CertificateChain;
use burgrave::x509::PrivateKey;
use burgrave::x509::TrustBundle;
use prost::Message;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::ca::AUDIENCE;
use crate::ca::Ca;
use crate::ca::binary;
use crate::ca::until;
use crate::support::Scratch;
use crate::support::apiserver::Namespace;
use crate::support::envoy::Envoy;
use crate::support::part::NO_ENV;
use crate::support::part::Part;
use crate::support::ports;
use crate::support::scratch;
use crate::support::write_private;

pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
const START: Duration = Duration::from_secs(40);

/// A service account with a pod, and an agent that has its token.
pub(crate) struct Workload {
    pub(crate) id: SpiffeId,
    pub(crate) dir: Scratch,
    pub(crate) agent: Part,
    pages: SocketAddr,
    arguments: Vec<String>,
}

impl Workload {
    /// Makes the account, its pod and its token, and starts an agent that asks `ca`.
    pub(crate) async fn start(ca: &Ca, namespace: &Namespace, account: &str, options: &[&str]) -> Workload {
        namespace.service_account(account).await;
        let pod = namespace.pod(&format!("{account}-0"), account).await;
        let token = namespace.token(account, Some(&pod), AUDIENCE, 3600).await;
        let dir = scratch(account);
        write_private(&dir.join("token"), &token);
        std::fs::write(dir.join("root.pem"), ca.root_pem()).expect("a scratch can be written");
        let pages = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let mut arguments = vec![
            "agent".to_owned(),
            format!("--ca-address=https://{}", ca.plan().api),
            format!("--ca-root-file={}", dir.join("root.pem").display()),
            format!("--token-file={}", dir.join("token").display()),
            format!("--socket={}", dir.join("sds").display()),
            format!("--admin-listen={pages}"),
            "--log-format=json".to_owned(),
        ];
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        let id = format!("spiffe://{TRUST_DOMAIN}/ns/{}/sa/{account}", namespace.name);
        let agent = Part::spawn(account, &binary(), &arguments, NO_ENV, &dir.join("agent.log"));
        let workload = Workload { id: id.parse().expect("it is a SPIFFE ID"), dir, agent, pages, arguments };
        workload.until_ready().await;
        workload
    }

    /// Starts the agent again, as it was.
    pub(crate) fn restart(&mut self) {
        self.agent = Part::spawn("agent", &binary(), &self.arguments, NO_ENV, &self.dir.join("agent.log"));
    }

    pub(crate) async fn until_ready(&self) {
        until("the agent to be ready", START, async || match self.page("/readyz").await {
            Some((200, _)) => Ok(()),
            answer => Err(format!("{answer:?}\n{}", self.agent.log_tail(10))),
        })
        .await;
    }

    /// Asks for a new certificate.
    pub(crate) fn renew(&self) {
        self.agent.signal("HUP");
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("sds")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("agent.log")).expect("the agent has a log")
    }

    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        crate::ca::http_get(self.pages, path).await.ok()
    }

    /// A sample of /metrics by its name and labels as they are printed; 0 if there is none.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.page("/metrics").await.expect("an agent that serves has metrics");
        let mut samples = page.lines().filter_map(|line| line.rsplit_once(' '));
        let value = samples.find(|(found, _)| *found == name).map(|(_, value)| value);
        value.map_or(0.0, |value| value.parse().expect("a sample is a number"))
    }
}

/// What one SDS stream was sent.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) version: String,
    pub(crate) nonce: String,
    pub(crate) secret: SecretType,
    pub(crate) at: Instant,
}

impl Pushed {
    /// The certificates in it, leaf first.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        let source = match &self.secret {
            SecretType::TlsCertificate(found) => found.certificate_chain.clone(),
            SecretType::ValidationContext(found) => found.trusted_ca.clone(),
            other => panic!("not a secret of ours: {other:?}"),
        };
        let Some(Specifier::InlineBytes(pem)) = source.and_then(|source| source.specifier) else {
            panic!("the secret is not inline")
        };
        let ders = burgrave::x509::pem::certificates(&pem).expect("a secret is PEM");
        ders.into_iter().map(|der| Certificate::from_der(der).expect("it is a certificate")).collect()
    }

    /// The private key in it.
    pub(crate) fn key_pem(&self) -> String {
        let SecretType::TlsCertificate(found) = &self.secret else { panic!("no key in {:?}", self.version) };
        let source = found.private_key.clone().and_then(|source| source.specifier);
        let Some(Specifier::InlineBytes(pem)) = source else { panic!("the key is not inline") };
        String::from_utf8(pem).expect("PEM is text")
    }

    pub(crate) fn serial(&self) -> String {
        self.certificates()[0].facts().serial.to_string()
    }
}

/// A discovery stream that says what the story wants it to say.
pub(crate) struct Stream {
    node: Option<Node>,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Stream {
    pub(crate) async fn open(socket: &Path) -> Stream {
        Stream::called(socket, None).await
    }

    /// Opens a stream for one name, as a proxy that is called so.
    pub(crate) async fn subscribe_as(node: &str, socket: &Path, name: &str) -> Stream {
        let node = Node { id: node.to_owned(), ..Node::default() };
        let stream = Stream::called(socket, Some(node)).await;
        stream.ask(&[name], "", "", None).await;
        stream
    }

    async fn called(socket: &Path, node: Option<Node>) -> Stream {
        let mut client = sds::connect(socket).await.expect("the agent serves on its socket");
        let (requests, outgoing) = mpsc::channel(16);
        let responses = client
            .stream_secrets(ReceiverStream::new(outgoing))
            .await
            .expect("the agent takes a stream")
            .into_inner();
        Stream { node, requests, responses }
    }

    /// Opens a stream for one name.
    pub(crate) async fn subscribe(socket: &Path, name: &str) -> Stream {
        let stream = Stream::open(socket).await;
        stream.ask(&[name], "", "", None).await;
        stream
    }

    pub(crate) async fn ask(&self, names: &[&str], version: &str, nonce: &str, error: Option<&str>) {
        let request = DiscoveryRequest {
            node: self.node.clone(),
            resource_names: names.iter().map(|&name| name.to_owned()).collect(),
            type_url: SECRET_TYPE.to_owned(),
            version_info: version.to_owned(),
            response_nonce: nonce.to_owned(),
            error_detail: error.map(|message| burgrave::proto::envoy::Status {
                code: 13,
                message: message.to_owned(),
                ..burgrave::proto::envoy::Status::default()
            }),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.expect("the stream is open");
    }

    /// The next push within `limit`, if there is one.
    pub(crate) async fn next(&mut self, limit: Duration) -> Option<Pushed> {
        let response = tokio::time::timeout(limit, self.responses.message()).await.ok()?;
        let response = response.expect("the stream is not broken").expect("the stream goes on");
        assert_eq!(response.resources.len(), 1, "one secret a response");
        let secret = Secret::decode(response.resources[0].value.as_slice()).expect("it is a secret");
        Some(Pushed {
            version: response.version_info,
            nonce: response.nonce,
            secret: secret.r#type.expect("a secret has a type"),
            at: Instant::now(),
        })
    }

    /// The next push, acknowledged.
    pub(crate) async fn take(&mut self, name: &str) -> Pushed {
        let pushed = self.next(Duration::from_secs(10)).await;
        let pushed = pushed.unwrap_or_else(|| panic!("no `{name}` was pushed within 10 s"));
        self.ask(&[name], &pushed.version, &pushed.nonce, None).await;
        pushed
    }
}

/// What a workload has, taken from its agent: for stories that play its proxy.
pub(crate) struct Held {
    pub(crate) chain: CertificateChain,
    pub(crate) key: PrivateKey,
    pub(crate) bundle: TrustBundle,
}

impl Held {
    pub(crate) async fn by(workload: &Workload) -> Held {
        let identity = Stream::subscribe(&workload.socket(), "default").await.take("default").await;
        let roots = Stream::subscribe(&workload.socket(), "ROOTCA").await.take("ROOTCA").await;
        Held {
            chain: CertificateChain::new(identity.certificates()).expect("a chain was pushed"),
            key: PrivateKey::from_pem(identity.key_pem().as_bytes()).expect("a key was pushed"),
            bundle: TrustBundle::new(roots.certificates()).expect("roots were pushed"),
        }
    }

    /// A TLS client with this identity that talks to nobody but `peer`.
    pub(crate) fn client(&self, peer: &SpiffeId) -> Arc<ClientConfig> {
        let config = burgrave::tls::spiffe_client(&self.chain, &self.key, self.bundle.clone(), peer.clone());
        Arc::new(config.expect("what the agent serves is usable for TLS"))
    }
}

/// One request over mTLS by hand: the answer's status, or why there is none.
pub(crate) async fn request_over_tls(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<u16, String> {
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::from(address.ip());
        let mut stream = TlsConnector::from(tls).connect(name, stream).await?;
        // With TLS 1.3 a server's refusal of our certificate shows only now.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.or_else(|error| {
            // Envoy closes without a TLS goodbye now and then; the answer is whole all the same.
            if answer.is_empty() { Err(error) } else { Ok(answer.len()) }
        })?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await;
    let answer = answer.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    status(&answer).ok_or_else(|| format!("not HTTP: `{answer}`"))
}

/// The certificate that `address` shows to `tls` now.
pub(crate) async fn shown(address: SocketAddr, tls: &Arc<ClientConfig>) -> Certificate {
    let stream = TcpStream::connect(address).await.expect("the Envoy listens");
    let name = ServerName::from(address.ip());
    let stream =
        TlsConnector::from(tls.clone()).connect(name, stream).await.expect("the two trust each other");
    let leaf = stream.get_ref().1.peer_certificates().expect("a certificate was shown")[0].clone();
    Certificate::from_der(leaf).expect("it was verified")
}

/// An Envoy that answers every caller it lets in with 200, and with who they are.
pub(crate) struct Server {
    pub(crate) envoy: Envoy,
    pub(crate) address: SocketAddr,
}

/// An Envoy that takes plain HTTP and sends it on over mTLS.
pub(crate) struct Client {
    pub(crate) envoy: Envoy,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Beside `workload`; lets in `callers` alone, or everybody of the trust domain.
    pub(crate) async fn start(workload: &Workload, callers: Option<&SpiffeId>) -> Server {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        Server { envoy: Self::envoy(workload, address, callers).await, address }
    }

    /// Starts it again on the same port.
    pub(crate) async fn restart(self, workload: &Workload) -> Server {
        let address = self.address;
        drop(self.envoy);
        Server { envoy: Self::envoy(workload, address, None).await, address }
    }

    async fn envoy(workload: &Workload, address: SocketAddr, callers: Option<&SpiffeId>) -> Envoy {
        let domain = TRUST_DOMAIN.parse().expect("it is a trust domain");
        let mut transport = bootstrap::downstream(&domain);
        if let Some(only) = callers {
            let matcher = "/typed_config/common_tls_context/combined_validation_context/default_validation_context/match_typed_subject_alt_names/0/matcher";
            *transport.pointer_mut(matcher).expect("the matcher stands there") =
                json!({"exact": only.to_string()});
        }
        let routes = json!([{
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "hello"}},
            "response_headers_to_add": [{"header": {"key": "x-caller", "value": "%DOWNSTREAM_PEER_URI_SAN%"}}],
        }]);
        let config = json!({
            "node": {"id": "server", "cluster": "stories"},
            "static_resources": {
                "clusters": [bootstrap::cluster(&workload.socket())],
                "listeners": [listener("inbound", address, &routes, Some(&transport))],
            },
        });
        let envoy = Envoy::start("server-envoy", &config, &workload.dir).await;
        envoy.ready(START).await;
        envoy
    }
}

impl Client {
    /// Beside `workload`; sends everything to `server`, which must be `peer`, over new mTLS connections all the time.
    pub(crate) async fn start(workload: &Workload, server: SocketAddr, peer: &SpiffeId) -> Client {
        Self::pooling(workload, server, peer, Some(5)).await
    }

    /// The same with so many requests on each mTLS connection; `None` keeps connections for ever.
    pub(crate) async fn pooling(
        workload: &Workload,
        server: SocketAddr,
        peer: &SpiffeId,
        per_connection: Option<u32>,
    ) -> Client {
        let common = match per_connection {
            Some(count) => json!({"max_requests_per_connection": count}),
            None => json!({}),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let upstream = json!({
            "name": "server",
            "type": "STATIC",
            "connect_timeout": "2s",
            "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [{"endpoint": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": server.port()}},
            }}]}]},
            "typed_extension_protocol_options": {options: {
                "@type": format!("type.googleapis.com/{options}"),
                "common_http_protocol_options": common,
                "explicit_http_config": {"http_protocol_options": {}},
            }},
            "transport_socket": bootstrap::upstream(peer),
        });
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "server"}}]);
        let config = json!({
            "node": {"id": "client", "cluster": "stories"},
            "static_resources": {
                "clusters": [bootstrap::cluster(&workload.socket()), upstream],
                "listeners": [listener("outbound", address, &routes, None)],
            },
        });
        let envoy = Envoy::start("client-envoy", &config, &workload.dir).await;
        envoy.ready(START).await;
        Client { envoy, address }
    }
}

/// A listener that answers by `routes`.
pub(crate) fn listener(name: &str, address: SocketAddr, routes: &Value, transport: Option<&Value>) -> Value {
    let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "envoy.extensions.filters.http.router.v3.Router";
    let mut chain = json!({"filters": [{"name": "http", "typed_config": {
        "@type": format!("type.googleapis.com/{manager}"),
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": format!("type.googleapis.com/{router}")}}],
    }}]});
    if let Some(transport) = transport {
        chain["transport_socket"] = transport.clone();
    }
    let place =
        json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    json!({"name": name, "address": place, "filter_chains": [chain]})
}

/// Status and `x-caller` of one plain request on a connection of its own.
pub(crate) async fn request(address: SocketAddr) -> Result<(u16, String), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await;
    let answer = answer.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    let caller = answer.lines().find_map(|line| line.strip_prefix("x-caller: ")).unwrap_or_default();
    let status = status(&answer).ok_or_else(|| format!("not HTTP: `{answer}`"))?;
    Ok((status, caller.to_owned()))
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

/// Requests all the time, each on a connection of its own, until it is stopped.
pub(crate) struct Load {
    state: Arc<LoadState>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct LoadState {
    stop: AtomicBool,
    requests: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Load {
    /// `clients` at once ask `address`, and expect to be told that the caller is `caller`.
    pub(crate) fn start(address: SocketAddr, caller: &SpiffeId, clients: usize) -> Load {
        let state = Arc::new(LoadState::default());
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let (state, caller) = (state.clone(), caller.to_string());
            tasks.spawn(async move {
                while !state.stop.load(Ordering::Relaxed) {
                    let outcome = request(address).await;
                    state.requests.fetch_add(1, Ordering::Relaxed);
                    match outcome {
                        Ok((200, named)) if named == caller => {}
                        other => {
                            let mut failures = state.failures.lock().expect("nobody panics while holding it");
                            *failures.entry(format!("{other:?}")).or_default() += 1;
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        Load { state, clients: tasks }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Ends it: requests, and failures by what they looked like.
    pub(crate) async fn finish(mut self) -> (u64, BTreeMap<String, u64>) {
        self.state.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let failures = self.state.failures.lock().expect("nobody panics while holding it").clone();
        (self.requests(), failures)
    }
}
