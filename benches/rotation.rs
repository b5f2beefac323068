//! How long does one order take to move 8,000 identities to a new root, over what it could take at best?
//!
//! At best everybody is told twice, of the new root and of the old one's end, and gets one certificate in between. So the
//! bound is two bare fan-outs and as many certificates at the pace of right before, all of it in one run:
//!
//! - a bare fan-out is one message of the same size to as many streams, each of which answers, by a service that does nothing else;
//! - the pace is that of the real `burgrave ca`, asked by the same callers over the same connections while they hold their
//!   streams;
//! - the rotation is what an operator at the socket sees: from the order until the watch tells that it is done.
//!
//! What is simulated: the agents. Each has a pod, a token, a key and a request of its own, holds both streams, says at once
//! that its proxies have new roots, and on word of another authority asks for a certificate at a random moment within the
//! window. They are tasks of this process, and fifty of them share a TLS connection, in the bare fan-out as well.
//!
//! The machine may be noisy, and CA and agents share it: only the ratio means something.

#![allow(missing_docs, reason = "a bench has no readers of its API")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench reads the real clock, and fails by panicking"
)]

#[path = "../tests/stories/ca.rs"]
mod ca;
#[path = "../tests/support/mod.rs"]
mod support;

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use burgrave::chance;
use burgrave::proto::admin::New;
use burgrave::proto::admin::ReadersRequest;
use burgrave::proto::admin::StatusRequest;
use burgrave::proto::admin::Step;
use burgrave::proto::admin::authorities_client::AuthoritiesClient;
use burgrave::proto::admin::step::What;
use burgrave::proto::envoy::Any;
use burgrave::proto::envoy::CertificateValidationContext;
use burgrave::proto::envoy::DataSource;
use burgrave::proto::envoy::DeltaDiscoveryRequest;
use burgrave::proto::envoy::DeltaDiscoveryResponse;
use burgrave::proto::envoy::DiscoveryRequest;
use burgrave::proto::envoy::DiscoveryResponse;
use burgrave::proto::envoy::Node;
use burgrave::proto::envoy::Secret;
use burgrave::proto::envoy::SecretDiscoveryService;
use burgrave::proto::envoy::SecretDiscoveryServiceClient;
use burgrave::proto::envoy::SecretDiscoveryServiceServer;
use burgrave::proto::envoy::SecretType;
use burgrave::proto::envoy::Specifier;
use burgrave::proto::istio::IstioCertificateRequest;
use burgrave::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use burgrave::rotation::report::Readers;
use burgrave::rotation::report::Report;
use burgrave::sds::Notice;
use burgrave::sds::SECRET_TYPE;
use burgrave::sds::names;
use burgrave::tls;
use burgrave::tls::HotCertificate;
use burgrave::x509::CertificateChain;
use burgrave::x509::PrivateKey;
use burgrave::x509::TrustBundle;
use burgrave::x509::root;
use futures_util::stream::Empty;
use hyper_util::rt::TokioIo;
use prost::Message;
use ring::signature::KeyPair;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use support::figure;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tonic::transport::Server;

const IDENTITIES: usize = 8000;
/// Two streams each, and room for requests: a connection takes 128.
const ON_A_CONNECTION: usize = 50;
/// Those who ask at once while the pace is measured.
const CALLERS: usize = 64;
/// Bare fan-outs; the first is not counted.
const FAN_OUTS: usize = 6;
/// When a run has failed.
const LIMIT: Duration = Duration::from_secs(240);
const ISSUER: &str = "bench";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let fan_out = runtime.block_on(bare_fan_out());
    figure("rotation_fan_out_ms", format!("{:.0}", fan_out * 1e3), "ms");
    runtime.block_on(rotation(fan_out));
}

// === a fan-out, and nothing else ===

/// Sends what there is to every stream, and counts what comes back.
struct Bare {
    message: watch::Receiver<DiscoveryResponse>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    count: AtomicUsize,
    all: Notify,
}

impl Heard {
    fn one(&self) {
        if (self.count.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(IDENTITIES) {
            self.all.notify_one();
        }
    }

    /// Waits until everybody has been heard `times` times.
    async fn answers_of_all(&self, times: usize) {
        let all = async {
            while self.count.load(Ordering::Relaxed) < times * IDENTITIES {
                self.all.notified().await;
            }
        };
        within("answers to a bare fan-out", all).await;
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Bare {
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaSecretsStream = Empty<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        requests: tonic::Request<tonic::Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamSecretsStream>, Status> {
        let (responses, stream) = mpsc::channel(4);
        let (mut message, heard, mut requests) =
            (self.message.clone(), self.heard.clone(), requests.into_inner());
        message.mark_unchanged();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = message.changed() => {
                        let next = message.borrow_and_update().clone();
                        if changed.is_err() || responses.send(Ok(next)).await.is_err() {
                            return;
                        }
                    }
                    request = requests.message() => match request {
                        Ok(Some(_)) => heard.one(),
                        _ => return,
                    },
                }
            }
        });
        Ok(tonic::Response::new(ReceiverStream::new(stream)))
    }

    async fn fetch_secrets(
        &self,
        _: tonic::Request<DiscoveryRequest>,
    ) -> Result<tonic::Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("it only streams"))
    }

    async fn delta_secrets(
        &self,
        _: tonic::Request<tonic::Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("it only streams"))
    }
}

/// Seconds from a message to the last of all answers.
async fn bare_fan_out() -> f64 {
    let (certificate, pem) = certified();
    let hot = HotCertificate::default();
    hot.swap(certificate);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a port");
    let address = listener.local_addr().expect("it listens");
    let connections = tls::incoming(listener, hot.server_config().expect("ring can do it"));
    let (message, told) = watch::channel(two_roots(0));
    let heard = Arc::new(Heard::default());
    let service = SecretDiscoveryServiceServer::new(Bare { message: told, heard: heard.clone() });
    let server = tokio::spawn(Server::builder().add_service(service).serve_with_incoming(connections));
    let channels = channels(address, &pem).await;
    let mut streams = JoinSet::new();
    for number in 0..IDENTITIES {
        let channel = channels[number / ON_A_CONNECTION].clone();
        streams.spawn(async move {
            let mut stream = Stream::open(channel, None, names::TRUST, number).await?;
            loop {
                let message = stream.next().await?;
                stream.acknowledge(message).await;
            }
            #[expect(unreachable_code, reason = "it says what the task ends with")]
            Ok::<(), Status>(())
        });
    }
    // Each says once what it wants.
    heard.answers_of_all(1).await;
    let mut times = Vec::new();
    let cpu = process_cpu_s(std::process::id());
    for round in 1..=FAN_OUTS {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        message.send_replace(two_roots(round));
        heard.answers_of_all(round + 1).await;
        times.push(begun.elapsed().as_secs_f64());
    }
    let cpu = (process_cpu_s(std::process::id()) - cpu) / FAN_OUTS as f64;
    assert_eq!(streams.len(), IDENTITIES);
    assert!(streams.try_join_next().is_none(), "a bare stream has ended");
    streams.shutdown().await;
    server.abort();
    times.remove(0);
    println!("bare fan-outs to {IDENTITIES} streams: {times:.3?} s; CPU: {cpu:.2} s each, both ends");
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A message as the CA sends it while two roots are trusted.
fn two_roots(version: usize) -> DiscoveryResponse {
    let bytes = two_roots_pem();
    let trusted_ca =
        Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..DataSource::default() });
    let context = CertificateValidationContext { trusted_ca, ..CertificateValidationContext::default() };
    let secret =
        Secret { name: names::TRUST.to_owned(), r#type: Some(SecretType::ValidationContext(context)) };
    DiscoveryResponse {
        version_info: format!("{version:064}"),
        resources: vec![Any { type_url: SECRET_TYPE.to_owned(), value: secret.encode_to_vec() }],
        type_url: SECRET_TYPE.to_owned(),
        nonce: version.to_string(),
        ..DiscoveryResponse::default()
    }
}

fn two_roots_pem() -> Vec<u8> {
    let domain = "cluster.local".parse().expect("it is a trust domain");
    let now = OffsetDateTime::now_utc();
    let root = || {
        let key = PrivateKey::generate().expect("there is randomness");
        root::self_signed(&key, &domain, now, Duration::from_secs(3600)).expect("a root can be made")
    };
    TrustBundle::new(vec![root(), root()]).expect("they are roots").to_pem().into_bytes()
}

/// A certificate for 127.0.0.1 that is its own root.
fn certified() -> (CertifiedKey, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("there is randomness");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let signing = rustls::crypto::ring::sign::any_supported_type(&key).expect("ring can sign with it");
    (CertifiedKey::new(vec![made.cert.der().clone()], signing), made.cert.pem())
}

// === streams and connections ===

/// One stream for one name, as an agent holds it.
struct Stream {
    name: &'static str,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: tonic::Streaming<DiscoveryResponse>,
}

impl Stream {
    async fn open(
        channel: Channel,
        bearer: Option<AsciiMetadataValue>,
        name: &'static str,
        number: usize,
    ) -> Result<Stream, Status> {
        let (requests, outgoing) = mpsc::channel(4);
        let node = Some(Node { id: format!("agent-{number}"), ..Node::default() });
        let first = DiscoveryRequest {
            node,
            resource_names: vec![name.to_owned()],
            type_url: SECRET_TYPE.to_owned(),
            ..DiscoveryRequest::default()
        };
        requests.try_send(first).expect("there is room for the first");
        let mut call = tonic::Request::new(ReceiverStream::new(outgoing));
        if let Some(bearer) = bearer {
            call.metadata_mut().insert("authorization", bearer);
        }
        let answer = SecretDiscoveryServiceClient::new(channel).stream_secrets(call).await?;
        Ok(Stream { name, requests, responses: answer.into_inner() })
    }

    async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        self.responses.message().await?.ok_or_else(|| Status::aborted("the stream has ended"))
    }

    async fn acknowledge(&self, message: DiscoveryResponse) {
        let answer = DiscoveryRequest {
            resource_names: vec![self.name.to_owned()],
            type_url: SECRET_TYPE.to_owned(),
            version_info: message.version_info,
            response_nonce: message.nonce,
            ..DiscoveryRequest::default()
        };
        // A stream that has ended says so by itself.
        let _ = self.requests.send(answer).await;
    }
}

/// As many connections as all identities need.
async fn channels(address: SocketAddr, root_pem: &str) -> Vec<Channel> {
    let tls = Arc::new(ca::trusting(root_pem, rustls::ALL_VERSIONS));
    let mut channels = Vec::new();
    for _ in 0..IDENTITIES.div_ceil(ON_A_CONNECTION) {
        let tls = tls.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let tls = tls.clone();
            async move { ca::connect(address, tls).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://burgrave.bench").connect_with_connector(connector).await;
        channels.push(channel.expect("it listens"));
    }
    channels
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited {} s for {what}", LIMIT.as_secs()),
    }
}

// === agents ===

/// One identity: an agent that speaks for proxies which take everything at once.
struct Agent {
    number: usize,
    channel: Channel,
    bearer: AsciiMetadataValue,
    csr: String,
    has: Mutex<Has>,
}

/// What an agent has now.
#[derive(Default)]
struct Has {
    chain: Vec<String>,
    /// The last message about the roots.
    roots: Option<DiscoveryResponse>,
    /// The authority that it has moved to.
    authority: String,
    /// When it last heard of roots; of that authority; and got a certificate of it.
    heard: Vec<(&'static str, Instant)>,
}

impl Agent {
    fn has<T>(&self, look: impl FnOnce(&mut Has) -> T) -> T {
        look(&mut self.has.lock().expect("nobody panics with it"))
    }

    /// A new certificate.
    async fn renew(&self) -> Result<(), Status> {
        let message = IstioCertificateRequest { csr: self.csr.clone(), ..IstioCertificateRequest::default() };
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        let answer =
            IstioCertificateServiceClient::new(self.channel.clone()).create_certificate(request).await?;
        self.has(|has| has.chain = answer.into_inner().cert_chain);
        Ok(())
    }

    /// Says at once that all its proxies have new roots.
    async fn hold_roots(&self) -> Result<(), Status> {
        let bearer = Some(self.bearer.clone());
        let mut stream = Stream::open(self.channel.clone(), bearer, names::TRUST, self.number).await?;
        loop {
            let message = stream.next().await?;
            self.has(|has| {
                has.roots = Some(message.clone());
                has.heard.push(("heard of roots", Instant::now()));
            });
            stream.acknowledge(message).await;
        }
    }

    /// Moves to another authority within the window, and says so.
    async fn hold_notice(&self) -> Result<(), Status> {
        let bearer = Some(self.bearer.clone());
        let mut stream = Stream::open(self.channel.clone(), bearer, names::ISSUER, self.number).await?;
        loop {
            let message = stream.next().await?;
            let before = self.has(|has| std::mem::replace(&mut has.authority, message.version_info.clone()));
            // Before the first notice it got a certificate of the authority that this one names.
            if !before.is_empty() && before != message.version_info {
                self.has(|has| has.heard.push(("heard of the authority", Instant::now())));
                let window = notice(&message).window;
                tokio::time::sleep(window.mul_f64(chance::draw())).await;
                self.has(|has| has.heard.push(("asked", Instant::now())));
                self.renew().await?;
                self.has(|has| has.heard.push(("was answered", Instant::now())));
            }
            stream.acknowledge(message).await;
        }
    }
}

fn notice(message: &DiscoveryResponse) -> Notice {
    match secret(message) {
        SecretType::GenericSecret(generic) => {
            Notice::from_json(&inline(generic.secret)).expect("it is a notice")
        }
        other => panic!("a notice is a generic secret, not {other:?}"),
    }
}

fn roots(message: &DiscoveryResponse) -> TrustBundle {
    match secret(message) {
        SecretType::ValidationContext(context) => {
            TrustBundle::from_pem(&inline(context.trusted_ca)).expect("they are roots")
        }
        other => panic!("roots are a validation context, not {other:?}"),
    }
}

fn secret(message: &DiscoveryResponse) -> SecretType {
    let secret = Secret::decode(message.resources[0].value.as_slice()).expect("it is a secret");
    secret.r#type.expect("it holds something")
}

fn inline(source: Option<DataSource>) -> Vec<u8> {
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => bytes,
        other => panic!("it is inline, not {other:?}"),
    }
}

/// Signs the agents' tokens.
struct Tokens(ring::signature::EcdsaKeyPair, ring::rand::SystemRandom);

impl Tokens {
    fn new() -> Tokens {
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 =
            ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("there is randomness");
        let pair = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random);
        Tokens(pair.expect("it was just made"), random)
    }

    fn key_set(&self) -> String {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y}]}).to_string()
    }

    /// The header's value for a pod of its own.
    fn bearer(&self, number: usize) -> AsciiMetadataValue {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({
            "iss": ISSUER, "aud": [ca::AUDIENCE], "exp": 4_000_000_000_i64,
            "sub": format!("system:serviceaccount:team-{}:app-{}", number % 40, number % 400),
            "kubernetes.io": {
                "pod": {"name": format!("app-{number}"), "uid": format!("00000000-0000-4000-8000-{number:012}")},
                "node": {"name": format!("node-{}", number % 200), "uid": format!("n{}", number % 200)},
            },
        });
        let signed = format!("{}.{}", part(json!({"alg": "ES256", "kid": "k"})), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(&self.1, signed.as_bytes()).expect("it signs"));
        format!("Bearer {signed}.{signature}").parse().expect("a token is ASCII")
    }
}

// === the rotation ===

async fn rotation(fan_out: f64) {
    let tokens = Tokens::new();
    let plan = ca::Plan::with_keys(ISSUER, &[]);
    support::write_private(&plan.dir().join("keys.json"), tokens.key_set());
    let ca = ca::Ca::of(plan).await;
    let channels = channels(ca.plan().api, ca.root_pem()).await;
    let agents: Vec<_> = (0..IDENTITIES)
        .map(|number| {
            let csr = PrivateKey::generate().and_then(|key| key.csr_pem()).expect("there is randomness");
            let (channel, bearer) = (channels[number / ON_A_CONNECTION].clone(), tokens.bearer(number));
            Arc::new(Agent { number, channel, bearer, csr, has: Mutex::default() })
        })
        .collect();
    renew_all(&agents).await;

    let mut streams = JoinSet::new();
    for agent in &agents {
        let (one, other) = (agent.clone(), agent.clone());
        streams.spawn(async move { one.hold_roots().await });
        streams.spawn(async move { other.hold_notice().await });
    }
    let mut operator = operator(&ca.plan().state_dir().join("admin.sock")).await;
    let before = everybody_is_here(&mut operator).await;

    let cpu = cpu_s(&ca);
    let took = renew_all(&agents).await;
    let per_s = IDENTITIES as f64 / took;
    println!("{IDENTITIES} certificates in {took:.2} s; {}", used(&ca, cpu));

    // What the storm has left behind is put away.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu, begun) = (cpu_s(&ca), Instant::now());
    agents.iter().for_each(|agent| agent.has(|has| has.heard.clear()));
    let (took, report) = rotate(&mut operator, took, &before).await;
    let cpu = used(&ca, cpu);
    timeline(&agents, begun);

    let last = report.last.clone().expect("it is the one that was watched");
    println!(
        "rotation: distribute {:.2} s, reissue {:.2} s, withdraw {:.2} s; {cpu}",
        last.distribute_s.unwrap_or_default(),
        last.reissue_s.unwrap_or_default(),
        last.withdraw_s.unwrap_or_default()
    );
    check(&agents, &before, &report, &mut streams);
    let bound = 2.0 * fan_out + IDENTITIES as f64 / per_s;
    figure("rotation_issuance_per_s", format!("{per_s:.0}"), "1/s");
    figure("rotation_8000_s", format!("{took:.2}"), "s");
    figure("rotation_over_bound", format!("{:.2}", took / bound), "ratio");
}

/// Seconds until each agent has a new certificate, [`CALLERS`] at a time.
async fn renew_all(agents: &[Arc<Agent>]) -> f64 {
    let (begun, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    // Neighbours share a connection; so they are taken from all over.
    let order: Arc<Vec<_>> = Arc::new(
        (0..ON_A_CONNECTION)
            .flat_map(|first| agents.iter().skip(first).step_by(ON_A_CONNECTION))
            .cloned()
            .collect(),
    );
    assert_eq!(order.len(), agents.len());
    for _ in 0..CALLERS {
        let (order, next) = (order.clone(), next.clone());
        callers.spawn(async move {
            while let Some(agent) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                agent.renew().await.expect("a good request is answered");
            }
        });
    }
    within("a certificate for each", callers.join_all()).await;
    begun.elapsed().as_secs_f64()
}

async fn operator(socket: &Path) -> AuthoritiesClient<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://burgrave.bench").connect_with_connector(connector).await;
    AuthoritiesClient::new(channel.expect("the CA serves its operators")).max_decoding_message_size(64 << 20)
}

/// Waits until the CA knows that each agent has the present roots, and has moved to the present authority.
async fn everybody_is_here(operator: &mut AuthoritiesClient<Channel>) -> Report {
    let here = async {
        loop {
            let readers = operator.readers(ReadersRequest {}).await.expect("the CA tells");
            let readers: Readers = serde_json::from_str(&readers.into_inner().json).expect("it is that");
            let ready = readers.readers.iter().filter(|one| one.is_current && one.connected);
            if ready.count() == IDENTITIES && readers.readers.len() == IDENTITIES {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    within("each agent's word", here).await;
    // Word of the authority comes right after that of the roots, and nothing tells of it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = operator.status(StatusRequest {}).await.expect("the CA tells").into_inner();
    serde_json::from_str(&report.json).expect("it is a report")
}

/// Seconds from the order until the watch says that it is done, and what it says then.
async fn rotate(operator: &mut AuthoritiesClient<Channel>, window: f64, before: &Report) -> (f64, Report) {
    let mut watch = operator.watch(StatusRequest {}).await.expect("the CA tells").into_inner();
    watch.message().await.expect("it begins with how things stand");
    let window_ms = (window * 1e3) as u64;
    let new = New { window_ms, ..New::default() };
    let step = Step { what: Some(What::Rotate(new)), ..Step::default() };
    let begun = Instant::now();
    operator.act(step).await.expect("it is ordered");
    let over = async {
        loop {
            let told = watch.message().await.expect("it goes on").expect("it has no end");
            let report: Report = serde_json::from_str(&told.json).expect("it is a report");
            if report.rotation.is_none() && report.last != before.last {
                return report;
            }
        }
    };
    let report = within("the rotation's end", over).await;
    (begun.elapsed().as_secs_f64(), report)
}

/// Without this no figure means anything.
fn check(agents: &[Arc<Agent>], before: &Report, after: &Report, streams: &mut JoinSet<Result<(), Status>>) {
    if let Some(ended) = streams.try_join_next() {
        panic!("a stream or a request has failed: {ended:?}");
    }
    assert_eq!(after.last.as_ref().map(|last| last.outcome.as_str()), Some("done"));
    assert_eq!(after.last.as_ref().map(|last| last.forced.len()), Some(0), "nothing was forced");
    assert_eq!(
        after.last.as_ref().map(|last| last.removed.as_slice()),
        Some([before.active.clone()].as_slice())
    );
    assert_ne!(after.active, before.active);
    assert_eq!(after.authorities.len(), 1);
    let bundle = TrustBundle::from_pem(after.bundle.pem.as_bytes()).expect("they are roots");
    assert_eq!(bundle.roots().len(), 1);
    assert_ne!(after.bundle.digest, before.bundle.digest);
    let now = OffsetDateTime::now_utc();
    for agent in agents {
        let (chain, told) = agent.has(|has| (has.chain.clone(), has.roots.clone()));
        let (_, shown) = chain.split_last().expect("there is a chain");
        let chain = CertificateChain::from_pem(shown.concat().as_bytes()).expect("it is a chain");
        if let Err(why) = chain.verify(&bundle, now) {
            panic!("agent {}: its leaf is not good under the new root alone: {why}", agent.number);
        }
        let told = told.expect("it was told of roots");
        assert_eq!(roots(&told), bundle, "agent {}", agent.number);
        assert_eq!(told.version_info, after.bundle.digest);
    }
}

/// When the first and the last agent did what, for whoever wants to know where the time goes.
fn timeline(agents: &[Arc<Agent>], begun: Instant) {
    let all: Vec<_> = agents.iter().map(|agent| agent.has(|has| has.heard.clone())).collect();
    for step in 0..all.iter().map(Vec::len).max().unwrap_or(0) {
        let mut of: Vec<_> = all.iter().filter_map(|heard| heard.get(step)).collect();
        of.sort_by_key(|(_, at)| *at);
        if let [(what, first), .., (_, last)] = of.as_slice() {
            let [first, last] = [first, last].map(|at| at.duration_since(begun).as_secs_f64());
            println!("  {} {what} from {first:.2} s to {last:.2} s", of.len());
        }
    }
}

/// What both processes have used since.
fn used(ca: &ca::Ca, since: [f64; 2]) -> String {
    let [of_ca, own] = cpu_s(ca);
    format!("CPU: CA {:.2} s, agents {:.2} s", of_ca - since[0], own - since[1])
}

/// Seconds of CPU that the CA and this process have used, to the kernel's tick of 10 ms.
fn cpu_s(ca: &ca::Ca) -> [f64; 2] {
    [ca.part().pid(), std::process::id()].map(process_cpu_s)
}

fn process_cpu_s(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name, in parentheses, may hold anything; what follows it are numbers.
    let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a tick count");
    (ticks(11) + ticks(12)) / 100.0
}
