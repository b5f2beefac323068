//! Policies reach running Envoys: while requests flow, when parts are away, and when somebody refuses them.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use burgrave::authz::Extensions;
use burgrave::authz::bootstrap as filters;
use burgrave::authz::names;
use burgrave::proto::envoy::DiscoveryRequest;
use burgrave::proto::envoy::DiscoveryResponse;
use burgrave::proto::envoy::ExtensionConfigDiscoveryServiceClient;
use burgrave::proto::envoy::Node;
use burgrave::proto::envoy::Status;
use burgrave::sds::Resources;
use burgrave::sds::bootstrap;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::asking::KeyServer;
use crate::asking::TokenIssuer;
use crate::ca::Ca;
use crate::ca::until;
use crate::mesh::Held;
use crate::mesh::TRUST_DOMAIN;
use crate::mesh::Workload;
use crate::mesh::listener;
use crate::support::Scratch;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::Namespace;
use crate::support::envoy::Envoy;
use crate::support::figure;
use crate::support::ports;
use crate::support::scratch;

const LONG: Duration = Duration::from_secs(20);
const SWITCHES: usize = 100;

/// A CA with a directory of policies, a workload whose Envoy follows them, and somebody who calls it.
struct Mesh {
    namespace: Namespace,
    policies: Scratch,
    ca: Ca,
    store: Workload,
    envoy: Envoy,
    address: SocketAddr,
    connections: SocketAddr,
    caller: Arc<ClientConfig>,
    /// Who calls, as policies name it.
    principal: String,
}

impl Mesh {
    /// Starts all of it, with what stands in the policies' one file.
    async fn start(name: &str, policies: impl FnOnce(&Namespace, &str) -> String) -> Mesh {
        let api = ApiServer::shared().await;
        let namespace = api.namespace(name).await;
        let directory = scratch("policies");
        let principal = format!("{TRUST_DOMAIN}/ns/{}/sa/web", namespace.name);
        let text = policies(&namespace, &principal);
        std::fs::write(directory.join("all.yaml"), text).expect("a scratch can be written");
        let ca = Ca::start(api, &namespace, &[&format!("--policies={}", directory.display())]).await;
        let web = Workload::start(&ca, &namespace, "web", &[]).await;
        let store = Workload::start(&ca, &namespace, "store", &[]).await;
        let caller = Held::by(&web).await.client(&store.id);
        let (envoy, address, connections) = server(&store).await;
        Mesh { namespace, policies: directory, ca, store, envoy, address, connections, caller, principal }
    }

    /// Puts other policies in the place of those there are, in one step.
    fn put(&self, text: &str) {
        let aside = self.policies.join("all.new");
        std::fs::write(&aside, text).expect("a scratch can be written");
        std::fs::rename(aside, self.policies.join("all.yaml"))
            .expect("a file can be moved within a directory");
    }

    async fn conversation(&self) -> Conversation {
        Conversation::open(self.address, &self.caller).await
    }

    fn set(&self, deny: &[&str], allow: &[&str]) -> String {
        set(&self.namespace, deny, allow)
    }

    async fn state(&self) -> serde_json::Value {
        let (_, page) = self.store.page("/state").await.expect("the agent has a page");
        serde_json::from_str(&page).expect("its state is JSON")
    }
}

/// Policies that deny some paths, and allow some.
fn set(namespace: &Namespace, deny: &[&str], allow: &[&str]) -> String {
    let policy = |name: &str, action: &str, paths: &[&str]| {
        let object = json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": namespace.name},
            "spec": {"action": action, "rules": [{"to": [{"operation": {"paths": paths}}]}]},
        });
        format!("{object}\n---\n")
    };
    policy("closed", "DENY", deny) + &policy("open", "ALLOW", allow)
}

/// An Envoy beside `workload` that answers 200 to whom its policies let in, over mTLS; and echoes on another port.
pub(crate) async fn server(workload: &Workload) -> (Envoy, SocketAddr, SocketAddr) {
    let place = || SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
    let (address, connections) = (place(), place());
    let transport = bootstrap::downstream(&TRUST_DOMAIN.parse().expect("it is a trust domain"));
    let routes = json!([{
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "hello"}},
    }]);
    let mut inbound = listener("inbound", address, &routes, Some(&transport));
    let manager = &mut inbound["filter_chains"][0]["filters"][0]["typed_config"];
    let mut chain = filters::http_filters();
    chain.push(manager["http_filters"][0].clone());
    manager["http_filters"] = chain.into();
    manager["normalize_path"] = true.into();
    let mut chain = filters::network_filters();
    chain.push(json!({"name": "echo", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo",
    }}));
    let mut raw = listener("raw", connections, &routes, None);
    raw["filter_chains"][0]["filters"] = chain.into();
    let config = json!({
        "node": {"id": "server", "cluster": "stories"},
        "static_resources": {
            "clusters": [bootstrap::cluster(&workload.socket())],
            "listeners": [inbound, raw],
        },
    });
    let envoy = Envoy::start("server-envoy", &config, &workload.dir).await;
    envoy.ready(LONG).await;
    (envoy, address, connections)
}

/// Requests on one connection over mTLS.
pub(crate) struct Conversation(TlsStream<TcpStream>);

impl Conversation {
    pub(crate) async fn open(address: SocketAddr, tls: &Arc<ClientConfig>) -> Conversation {
        let stream = TcpStream::connect(address).await.expect("the Envoy listens");
        stream.set_nodelay(true).expect("a connection has options");
        let name = ServerName::from(address.ip());
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
        Conversation(stream.expect("the two trust each other"))
    }

    /// The status of the answer.
    pub(crate) async fn ask(&mut self, path: &str) -> u16 {
        self.ask_with(path, "").await
    }

    /// The same with further lines, each with its end.
    async fn ask_with(&mut self, path: &str, lines: &str) -> u16 {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
        let answer = tokio::time::timeout(LONG, async {
            self.0.write_all(request.as_bytes()).await.expect("the connection is open");
            let mut answer = Vec::new();
            loop {
                if let Some(status) = whole(&answer) {
                    return status;
                }
                let mut buffer = [0; 2048];
                let count = self.0.read(&mut buffer).await.expect("the connection is open");
                assert!(count > 0, "the connection was ended");
                answer.extend_from_slice(&buffer[..count]);
            }
        });
        answer.await.expect("the Envoy answers in time")
    }

    /// Asks until the status is this one, and tells when.
    pub(crate) async fn until(&mut self, path: &str, status: u16) -> Instant {
        let end = Instant::now() + LONG;
        loop {
            let found = self.ask(path).await;
            if found == status {
                return Instant::now();
            }
            assert!(Instant::now() < end, "{path}: {found} goes on, and {status} is waited for");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
}

/// The status of an answer that has come in full.
fn whole(answer: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    (body.len() >= length.parse().ok()?).then(|| head.split(' ').nth(1)?.parse().ok())?
}

/// A stream for one filter, of a proxy that says what the story wants.
struct Probe {
    node: String,
    name: &'static str,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Probe {
    async fn open(socket: &Path, node: &str, name: &'static str) -> Probe {
        let path = socket.to_owned();
        let endpoint = Endpoint::from_static("http://agent");
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel =
            endpoint.connect_with_connector(connector).await.expect("the agent serves on its socket");
        let (requests, outgoing) = mpsc::channel(16);
        let mut client = ExtensionConfigDiscoveryServiceClient::new(channel);
        let opened = client.stream_extension_configs(ReceiverStream::new(outgoing));
        let responses = opened.await.expect("the agent takes a stream").into_inner();
        let probe = Probe { node: node.to_owned(), name, requests, responses };
        probe.say("", "", None).await;
        probe
    }

    async fn say(&self, version: &str, nonce: &str, refusal: Option<&str>) {
        let request = DiscoveryRequest {
            node: Some(Node { id: self.node.clone(), ..Node::default() }),
            resource_names: vec![self.name.to_owned()],
            type_url: Extensions::TYPE.to_owned(),
            version_info: version.to_owned(),
            response_nonce: nonce.to_owned(),
            error_detail: refusal.map(|why| Status {
                code: 13,
                message: why.to_owned(),
                ..Status::default()
            }),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.expect("the stream is open");
    }

    async fn next(&mut self, limit: Duration) -> Option<DiscoveryResponse> {
        let response = tokio::time::timeout(limit, self.responses.message()).await.ok()?;
        Some(response.expect("the stream is not broken").expect("the stream goes on"))
    }

    /// The version of the next push, acknowledged.
    async fn take(&mut self) -> String {
        let pushed = self.next(LONG).await.unwrap_or_else(|| panic!("no {} was pushed", self.name));
        self.say(&pushed.version_info, &pushed.nonce, None).await;
        pushed.version_info
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_before_policies_are_told_and_a_changed_file_is_obeyed_on_an_open_connection() {
    let mesh = Mesh::start("told", |_, _| "this: [cannot be read".to_owned()).await;
    let mut conversation = mesh.conversation().await;
    assert_eq!(conversation.ask("/").await, 403);
    assert_eq!(mesh.state().await["policies"]["version"], serde_json::Value::Null);

    // Who may call is known by the certificate that the agent has got.
    let by_principal = |principal: &str| {
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "callers", "namespace": mesh.namespace.name},
            "spec": {"rules": [{"from": [{"source": {"principals": [principal]}}]}]},
        })
        .to_string()
    };
    mesh.put(&by_principal(&mesh.principal));
    conversation.until("/", 200).await;
    mesh.put(&by_principal(&format!("{}-not", mesh.principal)));
    conversation.until("/", 403).await;

    // From a push to its effect, by a proxy that is pushed to at the same time.
    mesh.put(&mesh.set(&["/no"], &["/*"]));
    conversation.until("/yes", 200).await;
    let socket = mesh.store.socket();
    let mut probes = Vec::new();
    for name in [names::TOKENS, names::ALLOW, names::DENY] {
        probes.push(Probe::open(&socket, "probe", name).await);
    }
    for probe in &mut probes {
        probe.take().await;
    }
    let mut deny = probes.pop().expect("there are three");
    let mut latencies = Vec::new();
    for round in 0..30 {
        let (path, status) = if round % 2 == 0 { ("/yes", 403) } else { ("/no", 403) };
        mesh.put(&mesh.set(&[path], &["/*"]));
        let pushed = deny.next(LONG).await.expect("it is pushed");
        let at = Instant::now();
        let obeyed = conversation.until(path, status).await;
        latencies.push(obeyed.duration_since(at).as_secs_f64() * 1e3);
        deny.say(&pushed.version_info, &pushed.nonce, None).await;
    }
    latencies.sort_by(f64::total_cmp);
    figure("policy_push_to_effect_ms", format!("{:.2}", latencies[latencies.len() / 2]), "ms");
    assert_eq!(mesh.envoy.stat("extension_config_discovery.http_filter.burgrave-deny.config_fail").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_decided_by_half_of_a_policy_set_while_sets_are_switched_under_load() {
    // Of the paths that callers ask for all the time, each is decided alike by both sets, and otherwise by half of each.
    let one = |namespace: &Namespace| set(namespace, &["/x", "/second"], &["/x", "/always", "/first"]);
    let two = |namespace: &Namespace| set(namespace, &["/z", "/first"], &["/z", "/always", "/second"]);
    let mesh = Mesh::start("switched", |namespace, _| one(namespace)).await;
    let mut witness = mesh.conversation().await;
    witness.until("/first", 200).await;

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for path in ["/x", "/z", "/always", "/x", "/z"] {
        let (stop, asked, mut conversation) = (stop.clone(), asked.clone(), mesh.conversation().await);
        callers.spawn(async move {
            let expected = if path == "/always" { 200 } else { 403 };
            let mut others = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                others += u64::from(conversation.ask(path).await != expected);
                asked.fetch_add(1, Ordering::Relaxed);
            }
            (path, others)
        });
    }
    for switch in 0..SWITCHES {
        let (text, path) = if switch % 2 == 0 {
            (two(&mesh.namespace), "/second")
        } else {
            (one(&mesh.namespace), "/first")
        };
        mesh.put(&text);
        witness.until(path, 200).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        let (path, others) = caller.expect("a caller does not fail");
        assert_eq!(others, 0, "{path} was decided by half of each set");
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 5000, "{asked} requests are no load");
    figure("policy_switches", SWITCHES, "switches");
    figure("policy_switch_requests", asked, "requests");
    figure("policy_switch_decided_by_half", 0, "requests");
    for name in [names::DENY, names::ALLOW] {
        let reloads = format!("extension_config_discovery.http_filter.{name}.config_reload");
        assert!(mesh.envoy.stat(&reloads).await > SWITCHES as u64, "{name} took part");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_keeps_what_it_had_and_is_named_and_the_others_go_on() {
    let mesh = Mesh::start("picky", |namespace, _| set(namespace, &["/no"], &["/first"])).await;
    let mut conversation = mesh.conversation().await;
    conversation.until("/first", 200).await;
    let socket = mesh.store.socket();
    let mut tokens = Probe::open(&socket, "picky", names::TOKENS).await;
    let mut deny = Probe::open(&socket, "picky", names::DENY).await;
    let mut allow = Probe::open(&socket, "picky", names::ALLOW).await;
    tokens.take().await;
    let (first_deny, first_allow) = (deny.take().await, allow.take().await);

    mesh.put(&mesh.set(&["/never"], &["/second"]));
    let covering = deny.take().await;
    let refused = allow.next(LONG).await.expect("it is pushed under cover");
    assert_ne!(covering, first_deny);
    allow.say(&first_allow, &refused.nonce, Some("not this one")).await;
    // Back to the set that it had, and there is no second attempt.
    assert_eq!((allow.take().await, deny.take().await), (first_allow, first_deny));
    assert!(allow.next(Duration::from_millis(1500)).await.is_none(), "a refusal loops");
    conversation.until("/second", 200).await;
    let state = mesh.state().await;
    assert_eq!(state["policies"]["refused"]["proxy"], "picky", "{state}");
    until("the CA to be told who refuses", LONG, async || {
        match mesh.ca.log().contains("proxy picky: not this one") {
            true => Ok(()),
            false => Err(mesh.store.agent.log_tail(5)),
        }
    })
    .await;

    // The next set is another matter, and once all have it, the CA is told so.
    mesh.put(&mesh.set(&["/never"], &["/third"]));
    deny.take().await;
    allow.take().await;
    deny.take().await;
    until("all to have it", LONG, async || {
        let state = mesh.state().await;
        let is_told = state["policies"]["version"] == state["upstream"]["policies"];
        if is_told && state["policies"]["accepted"] == true { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_stay_in_force_while_the_ca_or_the_agent_is_dead_and_are_followed_again_afterwards() {
    let mut mesh = Mesh::start("dead", |namespace, _| set(namespace, &["/no"], &["/first"])).await;
    let mut conversation = mesh.conversation().await;
    conversation.until("/first", 200).await;

    mesh.ca.kill9();
    mesh.put(&mesh.set(&["/no"], &["/second"]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((conversation.ask("/first").await, conversation.ask("/second").await), (200, 403));
    mesh.ca.restart().await;
    conversation.until("/second", 200).await;
    assert_eq!(conversation.ask("/first").await, 403);

    mesh.store.agent.kill9();
    assert_eq!((conversation.ask("/first").await, conversation.ask("/second").await), (403, 200));
    mesh.put(&mesh.set(&["/never"], &["/third"]));
    mesh.store.restart();
    conversation.until("/third", 200).await;
    assert_eq!((conversation.ask("/first").await, conversation.ask("/second").await), (403, 403));
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_connections_obey_when_they_are_opened() {
    let by_address = |namespace: &Namespace, action: &str| {
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "callers", "namespace": namespace.name},
            "spec": {"action": action, "rules": [{"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}]}]},
        })
        .to_string()
    };
    let mesh = Mesh::start("bare", |namespace, _| by_address(namespace, "DENY")).await;
    let echoes = async || {
        let exchange = async {
            let mut stream = TcpStream::connect(mesh.connections).await.ok()?;
            stream.write_all(b"x").await.ok()?;
            let mut answer = [0];
            stream.read_exact(&mut answer).await.ok()?;
            Some(answer == *b"x")
        };
        tokio::time::timeout(LONG, exchange).await.ok().flatten().unwrap_or(false)
    };
    assert!(!echoes().await);
    for (action, expected) in [("ALLOW", true), ("DENY", false)] {
        mesh.put(&by_address(&mesh.namespace, action));
        until("connections to be decided so", LONG, async || match echoes().await == expected {
            true => Ok(()),
            false => Err(mesh.state().await.to_string()),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_end_users_are_verified_by_what_is_delivered_and_by_keys_that_their_issuer_publishes() {
    let (joe, ann) = (TokenIssuer::new("joe"), TokenIssuer::new("ann"));
    let keys = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
    let mesh = Mesh::start("tokens", |namespace, _| {
        let object = |kind: &str, spec: serde_json::Value| {
            let metadata = json!({"name": "end-users", "namespace": namespace.name});
            let object =
                json!({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec});
            format!("{object}\n---\n")
        };
        let rules = json!([
            {"issuer": "joe", "jwks": joe.jwks().to_string()},
            {"issuer": "ann", "jwksUri": format!("http://{keys}/jwks")},
        ]);
        object("RequestAuthentication", json!({"jwtRules": rules}))
            + &object(
                "AuthorizationPolicy",
                json!({"rules": [
                    {"from": [{"source": {"requestPrincipals": ["joe/*", "ann/*"]}}], "to": [{"operation": {"paths": ["/mine"]}}]},
                    {"to": [{"operation": {"paths": ["/open"]}}]},
                ]}),
            )
    })
    .await;
    let mut conversation = mesh.conversation().await;
    conversation.until("/open", 200).await;
    let bearer = |token: String| format!("authorization: Bearer {token}\r\n");
    let of = |issuer: &TokenIssuer, name: &str| {
        bearer(issuer.token(&json!({"iss": name, "sub": "user", "exp": 4_102_444_800_i64})))
    };
    assert_eq!(conversation.ask("/mine").await, 403, "no token is none");
    assert_eq!(conversation.ask_with("/mine", &of(&joe, "joe")).await, 200);
    let forged = of(&TokenIssuer::new("joe"), "joe");
    assert_eq!(conversation.ask_with("/open", &forged).await, 401, "a bad token is worse than none");

    // The keys of the other issuer are not there yet, so no token of it is good.
    assert_eq!(conversation.ask_with("/mine", &of(&ann, "ann")).await, 401);
    let _server = KeyServer::start(keys, ann.jwks()).await;
    let end = Instant::now() + LONG * 2;
    while conversation.ask_with("/mine", &of(&ann, "ann")).await != 200 {
        assert!(Instant::now() < end, "the keys that the issuer publishes do not arrive");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(conversation.ask_with("/mine", &of(&joe, "joe")).await, 200);
}
