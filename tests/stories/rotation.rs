//! The root is rotated by one command while requests flow, and not one fails; however often the CA is killed meanwhile.
//!
//! `ROTATION_REQUESTS` says how many requests have to pass; CI has a short form of the same stories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use burgrave::rotation::report::Past;
use burgrave::rotation::report::Report;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::ca::Ca;
use crate::ca::until;
use crate::mesh::Client;
use crate::mesh::Load;
use crate::mesh::Server;
use crate::mesh::Workload;
use crate::operator::Operator;
use crate::operator::end;
use crate::support::apiserver::ApiServer;
use crate::support::figure;

/// How many requests have to pass in CI.
const SHORT: u64 = 5_000;
/// The commands' bound on a rotation.
const PATIENCE: &str = "--timeout=120s";

fn wanted_requests() -> u64 {
    std::env::var("ROTATION_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(SHORT)
}

/// Three Envoys with an agent each: a server, a client with new mTLS connections all the time, and one that keeps its own.
struct Mesh {
    web: Workload,
    keeper: Workload,
    _store: Workload,
    server: Server,
    client: Client,
    pooled: Client,
}

impl Mesh {
    async fn start(ca: &Ca, namespace: &crate::support::apiserver::Namespace) -> Mesh {
        let web = Workload::start(ca, namespace, "web", &[]).await;
        let keeper = Workload::start(ca, namespace, "keeper", &[]).await;
        let store = Workload::start(ca, namespace, "store", &[]).await;
        let server = Server::start(&store, None).await;
        let client = Client::start(&web, server.address, &store.id).await;
        let pooled = Client::pooling(&keeper, server.address, &store.id, None).await;
        Mesh { web, keeper, _store: store, server, client, pooled }
    }

    fn load(&self) -> [Load; 2] {
        [
            Load::start(self.client.address, &self.web.id, 6),
            Load::start(self.pooled.address, &self.keeper.id, 2),
        ]
    }

    /// How many mTLS handshakes the two clients have made.
    async fn handshakes(&self) -> [u64; 2] {
        let stat = "cluster.server.ssl.handshake";
        [self.client.envoy.stat(stat).await, self.pooled.envoy.stat(stat).await]
    }
}

async fn until_requests(loads: &[Load; 2], count: u64) {
    while loads.iter().map(Load::requests).sum::<u64>() < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ends the load; how many requests there were. Not one may have failed.
async fn finish(loads: [Load; 2]) -> u64 {
    let mut requests = 0;
    for load in loads {
        let (count, failures) = load.finish().await;
        assert_eq!(failures, BTreeMap::new());
        requests += count;
    }
    requests
}

/// Only the new root is trusted, everybody has it, and all leaves are under it.
async fn is_over(operator: &Operator, before: &Report) -> Past {
    let after = operator.status().await;
    assert_eq!(after.rotation, None);
    assert_ne!(after.active, before.active);
    assert_eq!(after.bundle.roots.len(), 1);
    assert!(after.bundle.sequence >= before.bundle.sequence + 2);
    // Agents whose CA was just killed come back within some seconds.
    let readers = until("all agents to be connected", Duration::from_secs(20), async || {
        let readers = operator.readers().await;
        let is_here = readers.readers.iter().all(|one| one.connected);
        if is_here { Ok(readers) } else { Err(format!("{readers:#?}")) }
    })
    .await;
    for reader in &readers.readers {
        assert!(reader.is_current, "{reader:#?}");
        assert_eq!(reader.leaves.len(), 1, "{reader:#?}");
        assert_eq!(reader.leaves[0].authority, after.active, "{reader:#?}");
    }
    let last = after.last.expect("it is remembered");
    assert_eq!((last.outcome.as_str(), last.removed.as_slice()), ("done", &[before.active.clone()][..]));
    assert_eq!(last.forced, Vec::<String>::new());
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_rotates_the_root_under_three_envoys_and_no_request_fails() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("rotated").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let mesh = Mesh::start(&ca, &namespace).await;
    let operator = Operator::of(&ca);
    let before = operator.status().await;
    let wanted = wanted_requests();
    let loads = mesh.load();
    // A connection of our own through the pooled client is open from before to after.
    let kept = KeptAlive::open(mesh.pooled.address).await;
    until_requests(&loads, wanted / 4).await;
    let handshakes = mesh.handshakes().await;

    // Long enough that half of the requests fall into it.
    let window = format!("--window={}s", (wanted / 4000).max(1));
    let said = operator.types(&["root", "rotate", &window, PATIENCE, "--output=json"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let told: Vec<Report> = said.documents();
    assert!(told.len() >= 4, "{} documents are no progress", told.len());

    until_requests(&loads, wanted).await;
    let [new, kept_open] = mesh.handshakes().await;
    assert!(new > handshakes[0] + 100, "{new} handshakes: there were no new connections");
    assert!(kept_open <= handshakes[1] + 4, "{kept_open}: the pool was not kept");
    kept.serves_still().await;
    let requests = finish(loads).await;
    let last = is_over(&operator, &before).await;
    for envoy in [&mesh.server.envoy, &mesh.client.envoy, &mesh.pooled.envoy] {
        assert_eq!(envoy.stat("sds.default.update_rejected").await, 0);
        assert_eq!(envoy.stat("sds.ROOTCA.update_rejected").await, 0);
    }
    figure("root_rotation_requests", requests, "requests");
    figure("root_rotation_failed", 0, "requests");
    figure("root_rotation_s", format!("{:.2}", last.took_s), "s");
    for (name, took) in [
        ("root_rotation_distribute_s", last.distribute_s),
        ("root_rotation_reissue_s", last.reissue_s),
        ("root_rotation_withdraw_s", last.withdraw_s),
    ] {
        figure(name, format!("{:.2}", took.expect("it was reached")), "s");
    }
    let trail = ca.audit("rotation");
    let steps: Vec<_> = trail.iter().map(|event| crate::ca::text(event, "step").to_owned()).collect();
    assert_eq!(steps, ["rotate", "activate", "retire", "remove"]);
    assert!(trail.iter().all(|event| crate::ca::text(event, "by").contains("uid ")), "{trail:?}");
}

/// One connection that is used now and then.
struct KeptAlive(TcpStream);

impl KeptAlive {
    async fn open(address: std::net::SocketAddr) -> KeptAlive {
        let mut kept = KeptAlive(TcpStream::connect(address).await.expect("the Envoy listens"));
        kept.ask().await;
        kept
    }

    async fn serves_still(mut self) {
        self.ask().await;
    }

    async fn ask(&mut self) {
        self.0.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is open");
        let mut answer = vec![0; 4096];
        let length = self.0.read(&mut answer).await.expect("it is open");
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_killed_at_every_step_of_a_rotation_goes_on_with_it_and_no_request_fails() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("killed").await;
    let mut ca = Ca::start(api, &namespace, &[]).await;
    let mesh = Mesh::start(&ca, &namespace).await;
    let operator = Operator::of(&ca);
    let before = operator.status().await;
    let loads = mesh.load();
    until_requests(&loads, 500).await;

    let watching = operator.begins(&["root", "rotate", "--window=1s", PATIENCE, "--output=json"]);
    let mut kills = Vec::new();
    for step in ["rotate", "activate", "retire", "remove"] {
        until_step(&ca, step).await;
        // The step is in the store, and hardly anything was done about it.
        ca.kill9();
        kills.push(step);
        ca.restart().await;
    }
    let said = end(watching).await;
    assert_eq!(said.code, 0, "{said:?}");
    until_requests(&loads, wanted_requests() / 2).await;
    let requests = finish(loads).await;
    let last = is_over(&operator, &before).await;
    figure("root_rotation_killed_requests", requests, "requests");
    figure("root_rotation_killed_failed", 0, "requests");
    figure("root_rotation_killed_times", kills.len(), "kills");
    figure("root_rotation_killed_s", format!("{:.2}", last.took_s), "s");
}

/// Waits until the CA has written down that it has taken that step; looks all the time.
async fn until_step(ca: &Ca, step: &str) {
    let end = std::time::Instant::now() + Duration::from_secs(90);
    let needle = format!("\"event\":\"rotation\",\"step\":\"{step}\"");
    while !ca.log().contains(&needle) {
        assert!(std::time::Instant::now() < end, "`{step}` was not taken:\n{}", ca.part().log_tail(20));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_killed_at_any_moment_of_a_rotation_goes_on_with_it() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("any-moment").await;
    let mut ca = Ca::start(api, &namespace, &[]).await;
    let mesh = Mesh::start(&ca, &namespace).await;
    let operator = Operator::of(&ca);
    let before = operator.status().await;
    let loads = mesh.load();
    let done = Arc::new(AtomicBool::new(false));
    let watching = operator.begins(&["root", "rotate", "--window=2s", PATIENCE, "--output=json"]);
    let watched = tokio::spawn({
        let done = done.clone();
        async move {
            let said = end(watching).await;
            done.store(true, Ordering::Relaxed);
            said
        }
    });
    let mut kills = 0;
    while !done.load(Ordering::Relaxed) {
        // Not in step with anything.
        tokio::time::sleep(Duration::from_millis(700 + 370 * (kills % 5))).await;
        ca.kill9();
        ca.restart().await;
        kills += 1;
        // A CA that never lives long enough to hear its agents cannot get on; agents wait up to five seconds.
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    let said = watched.await.expect("it does not panic");
    assert_eq!(said.code, 0, "{said:?}");
    finish(loads).await;
    is_over(&operator, &before).await;
    assert!(kills >= 1);
}
