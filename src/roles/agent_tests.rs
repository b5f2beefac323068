//! An agent between a CA of our own making and proxies that say what the story wants.

use std::path::PathBuf;
use std::sync::Arc;

use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::agent::test_support::Authority;
use crate::authz::Applied;
use crate::config::RawAgent;
use crate::proto::envoy::AuthorizationClient;
use crate::proto::envoy::CheckRequest;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::DiscoveryResponse;
use crate::proto::envoy::Node;
use crate::proto::envoy::Secret;
use crate::proto::envoy::SecretType;
use crate::proto::envoy::Specifier;
use crate::proto::envoy::Status;
use crate::sds;
use crate::sds::SECRET_TYPE;
use crate::x509::CertificateChain;
use crate::x509::TrustBundle;

#[path = "agent_test_support.rs"]
mod fake_ca;

use fake_ca::FakeCa;

const LONG: Duration = Duration::from_secs(10);
const PATIENCE: Patience = Patience {
    start: Duration::from_millis(200),
    start_seen: Duration::from_millis(200),
    own: Duration::from_millis(700),
    silence: Duration::from_millis(1500),
};

fn authority() -> Arc<Authority> {
    Arc::new(Authority::at(Clock::system().now() - Duration::from_secs(60)))
}

/// A running agent.
struct Story {
    dir: PathBuf,
    secrets: watch::Receiver<Arc<Secrets>>,
    policies: watch::Sender<Told>,
    renew: Arc<Notify>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), AgentError>>,
}

impl Story {
    async fn start(ca: &FakeCa) -> Self {
        let dir = std::env::temp_dir().join(format!("burgrave-upstream-{}", crate::chance::tag()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("token"), "a.b.c").unwrap();
        std::fs::write(dir.join("root.pem"), ca.serves.bundle().to_pem()).unwrap();
        let config = RawAgent {
            ca_address: Some(format!("https://localhost:{}", ca.address.port())),
            ca_root_file: Some(dir.join("root.pem")),
            token_file: Some(dir.join("token")),
            socket: Some(dir.join("sds")),
            admin_listen: Some("127.0.0.1:0".parse().unwrap()),
            ext_authz: Some(true),
            ..RawAgent::default()
        };
        let mut agent = Agent::start(config.resolve().unwrap(), Clock::system()).await.unwrap();
        agent.patience = PATIENCE;
        let (secrets, renew, stop) = (agent.secrets(), agent.renew(), CancellationToken::new());
        let policies = agent.policies.clone();
        let serving = tokio::spawn(agent.serve(stop.clone()));
        let mut story = Self { dir, secrets, policies, renew, stop, serving };
        story.until("a certificate", |secrets| secrets.identity.is_some() && secrets.trust.is_some()).await;
        story
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Secrets) -> bool) {
        let waited = tokio::time::timeout(LONG, self.secrets.wait_for(|secrets| is_so(secrets))).await;
        assert!(matches!(waited, Ok(Ok(_))), "there is not {what}");
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        std::fs::remove_dir_all(self.dir).unwrap();
    }
}

/// Waits until the CA has this answer to `name`: what was refused, or nothing.
async fn told(ca: &FakeCa, name: &str, version: &str, refusal: Option<&str>) {
    let waited = tokio::time::timeout(LONG, async {
        loop {
            if let Some(answer) = ca.answer(name)
                && answer.version.as_str() == version
                && match (&answer.refusal, refusal) {
                    (None, None) => true,
                    (Some(why), Some(part)) => why.contains(part),
                    _ => false,
                }
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "the CA was told {:?} and not {refusal:?}", ca.answer(name));
}

/// One stream of a proxy.
struct Proxy {
    node: &'static str,
    name: &'static str,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: tonic::Streaming<DiscoveryResponse>,
}

impl Proxy {
    async fn subscribe(story: &Story, node: &'static str, name: &'static str) -> Self {
        let mut client = sds::connect(&story.dir.join("sds")).await.unwrap();
        let (requests, outgoing) = mpsc::channel(4);
        let responses = client.stream_secrets(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let proxy = Self { node, name, requests, responses };
        proxy.say("", "", None).await;
        proxy
    }

    async fn say(&self, version: &str, nonce: &str, refusal: Option<&str>) {
        let request = DiscoveryRequest {
            node: Some(Node { id: self.node.to_owned(), ..Node::default() }),
            resource_names: vec![self.name.to_owned()],
            type_url: SECRET_TYPE.to_owned(),
            version_info: version.to_owned(),
            response_nonce: nonce.to_owned(),
            error_detail: refusal.map(|why| Status { message: why.to_owned(), ..Status::default() }),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> DiscoveryResponse {
        tokio::time::timeout(LONG, self.responses.message()).await.unwrap().unwrap().unwrap()
    }

    /// The PEM of the next push, acknowledged.
    async fn take(&mut self) -> Vec<u8> {
        let pushed = self.next().await;
        self.say(&pushed.version_info, &pushed.nonce, None).await;
        pem(&pushed)
    }

    async fn roots(&mut self) -> usize {
        TrustBundle::from_pem(&self.take().await).unwrap().roots().len()
    }
}

fn pem(pushed: &DiscoveryResponse) -> Vec<u8> {
    let secret = Secret::decode(pushed.resources[0].value.as_slice()).unwrap();
    let source = match secret.r#type.unwrap() {
        SecretType::ValidationContext(found) => found.trusted_ca,
        SecretType::TlsCertificate(found) => found.certificate_chain,
        other => panic!("{other:?}"),
    };
    match source.unwrap().specifier.unwrap() {
        Specifier::InlineBytes(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_is_told_what_all_proxies_use_who_is_silent_and_who_refuses() {
    let (one, two) = (authority(), authority());
    let ca = FakeCa::start(&one, true).await;
    let story = Story::start(&ca).await;
    let mut web = Proxy::subscribe(&story, "web", names::TRUST).await;
    let mut db = Proxy::subscribe(&story, "db", names::TRUST).await;
    assert_eq!((web.roots().await, db.roots().await), (1, 1));
    told(&ca, names::TRUST, one.trust().version().as_str(), None).await;
    told(&ca, names::ISSUER, one.notice(Duration::ZERO).version().as_str(), None).await;
    assert_eq!(ca.subscribers.count(), 2);

    let both = one.with(&two);
    ca.tell_roots(both.clone());
    assert_eq!(web.roots().await, 2);
    let held_back = db.next().await;
    told(&ca, names::TRUST, both.version().as_str(), Some("proxy db has not answered for 1 s")).await;
    db.say(&held_back.version_info, &held_back.nonce, None).await;
    told(&ca, names::TRUST, both.version().as_str(), None).await;

    let other = two.with(&one);
    ca.tell_roots(other.clone());
    let pushed = db.next().await;
    let quoting = "bad { private_key: x }";
    db.say(&held_back.version_info, &pushed.nonce, Some(quoting)).await;
    web.take().await;
    told(&ca, names::TRUST, other.version().as_str(), Some("proxy db: bad…")).await;
    // One that is gone for good is forgotten only after half a minute.
    drop(db);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(ca.answer(names::TRUST).unwrap().refusal.is_some());
    let mut db = Proxy::subscribe(&story, "db", names::TRUST).await;
    assert_eq!(db.roots().await, 2);
    told(&ca, names::TRUST, other.version().as_str(), None).await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_moves_to_the_authority_that_the_ca_names_past_a_late_replica_and_out_of_the_old_roots() {
    let (one, two) = (authority(), authority());
    let ca = FakeCa::start(&one, true).await;
    let mut story = Story::start(&ca).await;
    let mut roots = Proxy::subscribe(&story, "web", names::TRUST).await;
    let mut leafs = Proxy::subscribe(&story, "web", names::IDENTITY).await;
    assert_eq!(roots.roots().await, 1);
    leafs.take().await;
    ca.tell_roots(one.with(&two));
    assert_eq!(roots.roots().await, 2);
    // The replica that signs has not heard of it.
    let before = ca.requests();
    ca.tell_issuer(&two, Duration::ZERO);
    let notice = two.notice(Duration::ZERO);
    told(&ca, names::ISSUER, notice.version().as_str(), Some("asks for a certificate of this authority"))
        .await;
    assert!(ca.requests() > before, "it has asked");
    ca.sign_by(&two);
    let chain = CertificateChain::from_pem(&leafs.take().await).unwrap();
    assert!(notice.covers(chain.leaf()), "a leaf of the old authority was pushed again");
    told(&ca, names::ISSUER, notice.version().as_str(), None).await;
    ca.tell_roots(two.trust());
    assert_eq!(roots.roots().await, 1);
    told(&ca, names::TRUST, two.trust().version().as_str(), None).await;
    // The root file is only what the CA is verified by, and a renewal by a late replica takes nobody back.
    std::fs::write(story.dir.join("root.pem"), one.with(&two).bundle().to_pem()).unwrap();
    ca.sign_by(&one);
    let asked = ca.requests();
    story.renew.notify_one();
    while ca.requests() == asked {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    story.until("the bundle", |secrets| secrets.trust.as_ref() == Some(&two.trust())).await;
    assert_eq!(story.secrets.borrow().identity.as_ref().map(|held| held.chain()), Some(&chain));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_do_not_cover_our_leaf_wait_for_one_that_they_cover() {
    let (one, two) = (authority(), authority());
    let ca = FakeCa::start(&one, true).await;
    let story = Story::start(&ca).await;
    let mut roots = Proxy::subscribe(&story, "web", names::TRUST).await;
    let mut leafs = Proxy::subscribe(&story, "web", names::IDENTITY).await;
    assert_eq!(roots.roots().await, 1);
    leafs.take().await;
    ca.tell_roots(two.trust());
    assert_eq!(roots.roots().await, 2, "old and new meanwhile");
    told(&ca, names::TRUST, two.trust().version().as_str(), Some("before it uses them alone")).await;
    ca.sign_by(&two);
    let chain = CertificateChain::from_pem(&leafs.take().await).unwrap();
    assert!(chain.verify(two.trust().bundle(), Clock::system().now()).is_ok());
    assert_eq!(roots.roots().await, 1);
    told(&ca, names::TRUST, two.trust().version().as_str(), None).await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_comes_back_hears_at_once_what_is_in_use_and_a_late_root_file_locks_nobody_out() {
    let (one, two) = (authority(), authority());
    let ca = FakeCa::start(&one, true).await;
    let story = Story::start(&ca).await;
    let mut roots = Proxy::subscribe(&story, "web", names::TRUST).await;
    assert_eq!(roots.roots().await, 1);
    let both = one.with(&two);
    ca.tell_roots(both.clone());
    assert_eq!(roots.roots().await, 2);
    told(&ca, names::TRUST, both.version().as_str(), None).await;
    // It comes back with a certificate that the root file does not verify.
    let ca = ca.restart(&two, true).await;
    told(&ca, names::TRUST, both.version().as_str(), None).await;
    told(&ca, names::ISSUER, one.notice(Duration::ZERO).version().as_str(), None).await;
    let asked = ca.requests();
    story.renew.notify_one();
    while ca.requests() == asked {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_without_a_stream_is_served_from_as_before() {
    let (one, two) = (authority(), authority());
    let ca = FakeCa::start(&one, false).await;
    let story = Story::start(&ca).await;
    let mut roots = Proxy::subscribe(&story, "web", names::TRUST).await;
    assert_eq!(roots.roots().await, 1);
    std::fs::write(story.dir.join("root.pem"), one.with(&two).bundle().to_pem()).unwrap();
    assert_eq!(roots.roots().await, 2, "the root file is followed");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_to_decide_says_no_until_it_has_policies_and_to_what_makes_no_sense() {
    let ca = FakeCa::start(&authority(), true).await;
    let story = Story::start(&ca).await;
    let socket = story.dir.join("sds");
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move {
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                tokio::net::UnixStream::connect(socket).await?,
            ))
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://agent");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let mut client = AuthorizationClient::new(channel);
    let mut ask = async |question: CheckRequest| {
        let status = client.check(question).await.unwrap().into_inner().status.unwrap();
        (status.code, status.message)
    };
    let connection = crate::authz::test_support::connection;
    assert_eq!(ask(connection()).await, (7, "policies_not_received".to_owned()));
    story.policies.send_replace(Some(Arc::new(Applied::default())));
    let told = tokio::time::timeout(LONG, async {
        while ask(connection()).await.0 != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(told.await.is_ok(), "the agent does not follow its policies");
    assert_eq!(ask(CheckRequest::default()).await, (7, "malformed_check".to_owned()));
    story.end().await;
}
