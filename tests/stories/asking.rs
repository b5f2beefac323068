//! How a story puts an Envoy before a workload that asks our evaluator, for each request, whether it may come in.

use crate::crafted::ca_params;
use crate::support::Scratch;
use crate::support::envoy::Envoy;
use crate::support::ports;
use crate::support::scratch;
use crate::support::write_private;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::Request;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use burgrave::authz::About;
use burgrave::authz::Applied;
use burgrave::authz::AuthorizationService;
use burgrave::authz::DecisionAudit;
use burgrave::authz::Enforced;
use burgrave::authz::Judge;
use burgrave::authz::Mesh;
use burgrave::authz::Tally;
use burgrave::authz::Workload;
use burgrave::authz::apply;
use burgrave::authz::check::Wording;
use burgrave::authz::resource::from_yaml;
use burgrave::authz::tokens::Fetcher;
use burgrave::authz::tokens::Keeper;
use burgrave::authz::tokens::KeyBook;
use burgrave::authz::tokens::Times;
use burgrave::clock::Clock;
use prometheus_client::registry::Registry;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rcgen::SanType;
use ring::rand::SystemRandom;
use ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use ring::signature::EcdsaKeyPair;
use ring::signature::KeyPair as _;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::ServerName;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// An Envoy that asks, the evaluator that it asks, and the workload behind it.
pub(crate) struct Gate {
    pub(crate) envoy: Envoy,
    /// Where Envoy sends each header line for itself; and where it joins them.
    pub(crate) raw: SocketAddr,
    pub(crate) joined: SocketAddr,
    /// Where it asks nobody.
    pub(crate) open: SocketAddr,
    /// Where it takes mutual TLS.
    pub(crate) tls: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) enforced: watch::Sender<Option<Arc<Enforced>>>,
    pub(crate) book: KeyBook,
    evaluator: Option<Runtime>,
    socket: PathBuf,
    access_log: PathBuf,
    _dir: Scratch,
}

impl Gate {
    /// All of it, with nothing received yet.
    pub(crate) async fn start(name: &str) -> Gate {
        let dir = scratch(name);
        let (socket, access_log) = (dir.join("authz.sock"), dir.join("access.log"));
        let (enforced, book) = (watch::Sender::new(None), KeyBook::default());
        let workload = workload().await;
        let authority = Authority::make(&dir);
        let [raw, joined, open, tls] =
            std::array::from_fn(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free())));
        let asking = |raw: bool| ext_authz(raw, Duration::from_secs(2));
        let listeners = json!([
            listener("raw", raw, Some(&asking(true)), &access_log, None),
            listener("joined", joined, Some(&asking(false)), &access_log, None),
            listener("open", open, None, &access_log, None),
            listener("tls", tls, Some(&asking(true)), &access_log, Some(&authority.downstream())),
        ]);
        let config = json!({
            "node": {"id": "gate", "cluster": "stories"},
            "static_resources": {"clusters": clusters(&socket, workload), "listeners": listeners},
        });
        let evaluator = Some(evaluator(&socket, enforced.subscribe(), &book));
        let envoy = Envoy::start("gate", &config, &dir).await;
        envoy.ready(Duration::from_secs(30)).await;
        Gate {
            envoy,
            raw,
            joined,
            open,
            tls,
            authority,
            enforced,
            book,
            evaluator,
            socket,
            access_log,
            _dir: dir,
        }
    }

    /// Puts policies in force.
    pub(crate) fn enforce(&self, yaml: &str, issuers: Vec<burgrave::authz::JwtIssuer>) {
        let resources: Vec<_> = from_yaml(yaml)
            .expect("the story's policies are YAML")
            .resources
            .into_iter()
            .map(|read| read.expect("the story's policies can be read"))
            .inspect(|resource| assert!(!resource.is_faulty(), "{:?}", resource.faults))
            .collect();
        let workload = Workload { namespace: "shop".to_owned(), ..Workload::default() };
        let mesh = Mesh::of("td".parse().expect("it is a trust domain"));
        let applied = Applied { authentication: issuers, ..apply(&resources, &workload, &mesh) };
        let before = self.enforced.borrow().clone();
        let enforced = Enforced::of(&applied, before.as_deref(), &self.book, &Tally::default());
        self.enforced.send_replace(Some(Arc::new(enforced)));
    }

    /// Ends the evaluator at once, with all its connections.
    pub(crate) fn kill_evaluator(&mut self) {
        self.evaluator.take().expect("it runs").shutdown_background();
    }

    pub(crate) fn start_evaluator(&mut self) {
        self.evaluator = Some(evaluator(&self.socket, self.enforced.subscribe(), &self.book));
    }

    /// What the access log says of the request with that path.
    pub(crate) async fn logged(&self, path: &str) -> Value {
        for _ in 0..100 {
            let text = std::fs::read_to_string(&self.access_log).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.into_iter().find(|line| line["path"] == path) {
                return line["decision"].clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the access log says nothing of {path}");
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(runtime) = self.evaluator.take() {
            runtime.shutdown_background();
        }
    }
}

/// The evaluator, in a runtime of its own that can be ended like a process.
fn evaluator(socket: &Path, enforced: watch::Receiver<Option<Arc<Enforced>>>, book: &KeyBook) -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let _ = std::fs::remove_file(socket);
    let entered = runtime.enter();
    let listener = UnixListener::bind(socket).expect("a socket can be bound in a scratch");
    drop(entered);
    let clock = Clock::system();
    let audit = DecisionAudit::new(0.0, &Tally::default(), &mut Registry::default(), clock.clone());
    let judge = Judge::following(enforced, clock.clone());
    let service =
        AuthorizationService { about: About::Own(judge), audit, trusted: None, wording: Wording::default() };
    let times = Times { missed: Duration::from_millis(200), ..Times::default() };
    let fetcher = Fetcher::new(None).expect("TLS can be set up");
    runtime.spawn(Keeper::new(book.clone(), fetcher, times, clock).run(CancellationToken::new()));
    runtime.spawn(
        Server::builder()
            .add_service(service.server())
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    runtime
}

/// The workload: it answers with the headers that it got.
async fn workload() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let echo = async |request: Request| {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in request.headers() {
            seen.entry(name.to_string())
                .or_default()
                .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        seen.insert(":path".to_owned(), vec![request.uri().to_string()]);
        Json(seen)
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echo)).await });
    address
}

fn clusters(socket: &Path, workload: SocketAddr) -> Value {
    let to = |address: Value| json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    let http2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    json!([
        {
            "name": "authz", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "authz", "endpoints": to(json!({"pipe": {"path": socket}}))},
            "typed_extension_protocol_options": http2,
        },
        {
            "name": "workload", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "workload", "endpoints": to(socket_address(workload))},
        },
    ])
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn ext_authz(raw: bool, timeout: Duration) -> Value {
    json!({"name": "envoy.filters.http.ext_authz", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "authz"}, "timeout": format!("{}s", timeout.as_secs_f64())},
        "include_peer_certificate": true,
        "include_tls_session": true,
        "encode_raw_headers": raw,
    }})
}

fn listener(
    name: &str,
    address: SocketAddr,
    asking: Option<&Value>,
    log: &Path,
    tls: Option<&Value>,
) -> Value {
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }});
    let filters: Vec<&Value> = asking.into_iter().chain([&router]).collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "max_request_headers_kb": 4096,
        "use_remote_address": true,
        "skip_xff_append": true,
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log,
            "log_format": {"json_format": {
                "path": "%REQ(:PATH)%",
                "decision": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%",
            }},
        }}],
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "workload"}}],
        }]},
        "http_filters": filters,
    });
    let mut chain = json!({"filters": [
        {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
    ]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls.clone();
    }
    json!({"name": name, "address": socket_address(address), "filter_chains": [chain]})
}

/// A certificate authority of the story's own, and what it certified.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    root: rcgen::Certificate,
    server: (PathBuf, PathBuf),
    root_file: PathBuf,
}

impl Authority {
    fn make(dir: &Path) -> Authority {
        let key = KeyPair::generate().expect("the kernel gives random bytes");
        let params = ca_params("Root of a story");
        let root = params.self_signed(&key).expect("the parameters make a certificate");
        let issuer = rcgen::Issuer::new(params, key);
        let root_file = dir.join("root.pem");
        write_private(&root_file, root.pem());
        let (certificate, key) = leaf(&issuer, &["spiffe://td/ns/shop/sa/store"]);
        let server = (dir.join("server.pem"), dir.join("server-key.pem"));
        write_private(&server.0, certificate.pem());
        write_private(&server.1, key.serialize_pem());
        Authority { issuer, root, server, root_file }
    }

    fn downstream(&self) -> Value {
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": {"filename": self.server.0}, "private_key": {"filename": self.server.1},
                }],
                "validation_context": {"trusted_ca": {"filename": self.root_file}},
            },
        }})
    }

    /// Connects to `address` with a certificate of those URI names.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        uris: &[&str],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let (certificate, key) = leaf(&self.issuer, uris);
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).expect("it is a root");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate belong together");
        let tcp = TcpStream::connect(address).await.expect("Envoy listens");
        let name = ServerName::try_from("Store.Test").expect("it is a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("Envoy takes the certificate")
    }
}

fn leaf(issuer: &rcgen::Issuer<'static, KeyPair>, uris: &[&str]) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("the kernel gives random bytes");
    let mut params = CertificateParams::new(vec!["store.test".to_owned()]).expect("it is a name");
    let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("it is ASCII"));
    params.subject_alt_names.extend(uris.iter().map(uri));
    (params.signed_by(&key, issuer).expect("the parameters make a certificate"), key)
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The values of a header that the workload got.
    pub(crate) fn got(&self, name: &str) -> Vec<String> {
        let seen: BTreeMap<String, Vec<String>> = serde_json::from_str(&self.body)
            .unwrap_or_else(|_| panic!("the workload did not answer: {self:?}"));
        seen.get(name).cloned().unwrap_or_default()
    }
}

/// Sends `GET path` with those header lines over a new connection.
pub(crate) async fn get(address: SocketAddr, path: &str, lines: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("Envoy listens");
    exchange(&mut stream, "GET", path, lines).await
}

/// Sends a request, and reads its answer. The connection can be used again.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    method: &str,
    path: &str,
    lines: &[(&str, &str)],
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: store.test\r\n");
    for (name, value) in lines {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes()).await.expect("Envoy reads");
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8_lossy(&bytes.drain(..at + 4).collect::<Vec<u8>>()).into_owned();
        }
        assert_ne!(stream.read_buf(&mut bytes).await.expect("Envoy answers"), 0, "Envoy hung up");
    };
    let mut answer = Answer {
        status: head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("the answer has a status"),
        head,
        body: String::new(),
    };
    let length: usize =
        answer.header("content-length").map_or(0, |text| text.parse().expect("it is a length"));
    while bytes.len() < length {
        assert_ne!(stream.read_buf(&mut bytes).await.expect("Envoy answers"), 0, "Envoy hung up");
    }
    answer.body = String::from_utf8_lossy(&bytes).into_owned();
    answer
}

/// An issuer of end users' tokens.
pub(crate) struct TokenIssuer {
    pair: EcdsaKeyPair,
    id: &'static str,
}

impl TokenIssuer {
    pub(crate) fn new(id: &'static str) -> TokenIssuer {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("the kernel gives random bytes");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("it was just made");
        TokenIssuer { pair, id }
    }

    pub(crate) fn jwks(&self) -> Value {
        let point = &self.pair.public_key().as_ref()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| BASE64_URL_SAFE_NO_PAD.encode(half));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": self.id, "x": x, "y": y}]})
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.id});
        let [header, claims] = [&header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature =
            self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("the kernel gives random bytes");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A place that publishes keys, until it is dropped.
pub(crate) struct KeyServer(tokio::task::JoinHandle<()>);

impl KeyServer {
    pub(crate) async fn start(address: SocketAddr, jwks: Value) -> KeyServer {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let pages = Router::new().route("/jwks", axum::routing::get(async move || Json(jwks)));
        KeyServer(tokio::spawn(async move { axum::serve(listener, pages).await.expect("it serves") }))
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
