//! What is killed, hangs or goes away costs time and never trust: the root stays, and what failed heals by itself.

use crate::ca::AUDIENCE;
use crate::ca::Ca;
use crate::ca::Plan;
use crate::ca::connect;
use crate::ca::events;
use crate::ca::text;
use crate::ca::trusting;
use crate::ca::until;
use crate::crafted;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::ISSUER;
use crate::support::apiserver::Namespace;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use burgrave::x509::CertificateChain;
use burgrave::x509::TrustBundle;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::sync::MutexGuard;
use tokio::sync::OnceCell;
use tokio::time::sleep;
use tonic::Code;

/// A namespace with the account `web`, and a token of it.
async fn caller(api: &ApiServer, name: &str) -> (Namespace, String) {
    let namespace = api.namespace(name).await;
    namespace.service_account("web").await;
    let token = namespace.token("web", None, AUDIENCE, 3600).await;
    (namespace, token)
}

// === the CA is killed ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_killed_under_load_comes_back_with_its_root_and_its_clients_go_on() {
    let (namespace, token) = caller(ApiServer::shared().await, "killed").await;
    let mut ca = Ca::start(ApiServer::shared().await, &namespace, &[]).await;
    let (done, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, token) = (ca.client().clone(), token.clone());
            let (done, answers) = (done.clone(), answers.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    match client.create(Some(&token), &crafted::csr(), 600).await {
                        Ok(answer) => answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer),
                        Err(_) => sleep(Duration::from_millis(20)).await,
                    }
                }
            })
        })
        .collect();
    let count = || answers.lock().unwrap_or_else(PoisonError::into_inner).len();
    for _ in 0..4 {
        let before = count();
        until("thirty certificates more", Duration::from_secs(20), async || {
            (count() >= before + 30).then_some(()).ok_or_else(|| format!("{} were issued", count() - before))
        })
        .await;
        ca.kill9();
        ca.restart().await;
    }
    let before = count();
    until("the same clients to go on", Duration::from_secs(20), async || {
        (count() >= before + 30).then_some(()).ok_or_else(|| format!("{} were issued", count() - before))
    })
    .await;
    done.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("a client does not panic");
    }

    assert_eq!(ca.plan().roots_loaded().len(), 5);
    assert_eq!(ca.plan().roots_loaded().into_iter().collect::<BTreeSet<_>>().len(), 1, "the root changed");
    let intended: BTreeSet<_> =
        ca.audit("intended").iter().map(|event| text(event, "serial").to_owned()).collect();
    for answer in answers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let chain = CertificateChain::from_pem(answer[0].as_bytes()).expect("an answer is PEM");
        chain.verify(&ca.bundle(), OffsetDateTime::now_utc()).expect("every leaf leads to the one root");
        assert_eq!(answer.last().map(String::as_str), Some(ca.root_pem()));
        let serial = chain.leaf().facts().serial.to_string();
        assert!(intended.contains(&serial), "{serial} was issued, and its intent is not on record");
    }
}

/// The first start's own steps are milliseconds, so it is killed at many moments; from time to time just when its first
/// file appears.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_the_first_start_was_killed_the_next_one_has_one_root_for_good() {
    let api = ApiServer::shared().await;
    let (namespace, token) = caller(api, "first-start").await;
    let account = api.issuer_account(&namespace).await;

    // How long a whole start takes here and now; its root alone is the last file to change.
    let whole = Plan::with_account(api, &account, &[]);
    let started = Instant::now();
    let part = whole.spawn();
    until("a first root", Duration::from_secs(40), async || {
        whole.roots_loaded().pop().ok_or_else(|| part.log_tail(5))
    })
    .await;
    let length = started.elapsed();
    drop(part);

    const MOMENTS: u32 = 24;
    let (mut none_yet, mut there_already) = (0, 0);
    for moment in 0..MOMENTS {
        let plan = Plan::with_account(api, &account, &[]);
        let killed = plan.spawn();
        match moment % 3 {
            0 => kill_once_there_is(&plan.state_dir(), killed.pid()),
            // The last of these comes when the root is surely there.
            _ => {
                sleep(length * moment / (MOMENTS - 2)).await;
                killed.signal("KILL");
            }
        }
        assert_eq!(killed.wait(Duration::from_secs(5)), Some(137), "{}", killed.log());
        let kept = plan.roots_loaded();

        let part = plan.spawn();
        plan.until_ready(&part).await;
        let made = origin(&plan);
        *(if made == "Made" { &mut none_yet } else { &mut there_already }) += 1;
        let root = plan.roots_loaded().pop().expect("a CA that is ready has a root");
        assert!(
            kept.iter().all(|earlier| *earlier == root),
            "moment {moment}: the root that was loaded first is gone"
        );
        assert_eq!(serving_root(&plan, &token).await, root, "moment {moment}");
        part.kill9();

        let part = plan.spawn();
        plan.until_ready(&part).await;
        assert_eq!(
            plan.roots_loaded().pop(),
            Some(root),
            "moment {moment}: a root that had signed was replaced"
        );
        assert_eq!(origin(&plan), "Stored", "moment {moment}");
        part.signal("KILL");
    }
    assert!(
        none_yet > 0 && there_already > 0,
        "{none_yet} kills before there was a root, {there_already} after"
    );
}

/// Whether the last start made its root or found it.
fn origin(plan: &Plan) -> String {
    let all = events(&plan.log());
    let last = all.iter().rfind(|event| text(event, "message") == "the root is self-signed");
    text(last.expect("the CA says where its root comes from"), "origin").to_owned()
}

/// Has a certificate issued, and returns the fingerprint of the root in the answer.
async fn serving_root(plan: &Plan, token: &str) -> String {
    let answer =
        plan.client().create(Some(token), &crafted::csr(), 600).await.expect("a CA that is ready issues");
    let root = answer.last().expect("an answer is not empty");
    assert_eq!(*root, plan.root_pem());
    let root = TrustBundle::from_pem(root.as_bytes()).expect("the last element is a bundle");
    let leaf = CertificateChain::from_pem(answer[0].as_bytes()).expect("an answer is PEM");
    leaf.verify(&root, OffsetDateTime::now_utc()).expect("the leaf is signed by the root beside it");
    root.roots()[0].fingerprint()
}

/// Kills the process as soon as a file in the directory has anything in it: a shell that spins sees that sooner than we
/// could.
fn kill_once_there_is(state_dir: &Path, pid: u32) {
    let script =
        "while kill -0 \"$1\"; do for f in \"$0\"/*; do [ -s \"$f\" ] && kill -9 \"$1\" && exit; done; done";
    let killed = Command::new("sh").args(["-c", script]).arg(state_dir).arg(pid.to_string()).status();
    assert!(killed.is_ok_and(|status| status.success()), "the CA ended before its store was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_ca_on_the_same_state_directory_is_refused_and_the_first_goes_on() {
    let api = ApiServer::shared().await;
    let (namespace, token) = caller(api, "two").await;
    let first = Ca::start(api, &namespace, &[]).await;
    let state = first.plan().state_dir().display().to_string();
    let second = Plan::without_callers(&["--state-dir", &state]);
    let (code, said) = second.run_to_its_end();
    assert_eq!(code, 1, "{said}");
    let sentence = format!(
        "burgrave: store `{state}/authority.redb` is in use by another process; each CA needs a --state-dir of its own"
    );
    assert_eq!(said.trim_end(), sentence);
    first.create(Some(&token), &crafted::csr(), 60).await.expect("the first CA goes on");
}

// === the API server goes away ===

/// An API server that is stopped and hung by one story after another.
struct Fragile {
    api: ApiServer,
    whole: bool,
}

async fn fragile() -> MutexGuard<'static, Fragile> {
    static ONE: OnceCell<tokio::sync::Mutex<Fragile>> = OnceCell::const_new();
    let start = async || tokio::sync::Mutex::new(Fragile { api: ApiServer::start().await, whole: true });
    let mut one = ONE.get_or_init(start).await.lock().await;
    if !one.whole {
        // A story before this one failed while it was away.
        one.api.start_apiserver().await;
    }
    one.whole = false;
    one
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_api_server_the_ca_refuses_with_a_reason_and_heals_without_a_restart() {
    let mut fragile = fragile().await;
    let (namespace, token) = caller(&fragile.api, "away").await;
    let ca = Ca::start(&fragile.api, &namespace, &[]).await;
    let csr = crafted::csr();
    ca.create(Some(&token), &csr, 60).await.expect("all is well before");
    let issued = ca.issued().await;

    fragile.api.stop_apiserver().await;
    for attempt in 1..=3 {
        let began = Instant::now();
        let status = ca.create(Some(&token), &csr, 60).await.expect_err("nobody can say who is asking");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(began.elapsed() < Duration::from_secs(6), "the answer took {:?}", began.elapsed());
        let refusals = ca.audit("refused");
        let last = refusals.last().expect("a refusal is written down");
        assert_eq!(text(last, "reason"), "attestor_unavailable");
        assert!(text(last, "error").contains("the API server cannot be asked for a TokenReview"), "{last}");
        assert!(status.message().contains(text(last, "request_id")), "{status}");
        assert!(!status.message().contains("API server"), "{status}");
        assert_eq!(ca.refused("attestor_unavailable").await, f64::from(attempt));
    }
    // No token at all is refused without asking anybody.
    let status = ca.create(None, &csr, 60).await.expect_err("there is no token");
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert_eq!(ca.issued().await, issued);
    // Readiness is that of the signer: agents are told `unavailable`, and come again by themselves.
    assert_eq!(ca.plan().page("/readyz").await, Some((200, "ok\n".to_owned())));

    fragile.api.start_apiserver().await;
    until("issuance to heal", Duration::from_secs(5), async || {
        ca.create(Some(&token), &csr, 60).await.map(drop).map_err(|status| status.to_string())
    })
    .await;
    assert_eq!(ca.plan().roots_loaded().len(), 1, "it was not started again");
    fragile.whole = true;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_api_server_costs_ten_seconds_at_most_and_not_the_request_that_waits_through_a_shutdown() {
    let mut fragile = fragile().await;
    let (namespace, token) = caller(&fragile.api, "hanging").await;
    let unseen = namespace.token("web", None, AUDIENCE, 3600).await;
    let ca = Ca::start(&fragile.api, &namespace, &["--drain", "20s"]).await;
    let csr = crafted::csr();
    ca.create(Some(&token), &csr, 60).await.expect("all is well before");

    fragile.api.signal_apiserver("STOP");
    // The first waits on a connection that has gone silent, the second on one that cannot be made.
    for _ in 0..2 {
        let began = Instant::now();
        let status = ca.create(Some(&token), &csr, 60).await.expect_err("nobody can say who is asking");
        let took = began.elapsed();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(took < Duration::from_secs(13), "the answer took {took:?}");
        let refusals = ca.audit("refused");
        let last = refusals.last().expect("a refusal is written down");
        assert_eq!(text(last, "reason"), "attestor_unavailable");
        assert!(text(last, "error").contains("TokenReview"), "{last}");
    }

    // A request that waits for the API server is under way when the CA is told to stop.
    let under_way = tokio::spawn({
        let (client, csr) = (ca.client().clone(), csr.clone());
        async move { client.create(Some(&unseen), &csr, 60).await }
    });
    sleep(Duration::from_millis(500)).await;
    ca.part().signal("TERM");
    until("the CA to take no new work", Duration::from_secs(5), async || {
        let tls = Arc::new(trusting(ca.root_pem(), rustls::ALL_VERSIONS));
        connect(ca.plan().api, tls).await.map_or(Ok(()), |_| Err("a new connection was taken".to_owned()))
    })
    .await;
    assert!(ca.part().running(), "it did not wait for the request under way:\n{}", ca.log());
    fragile.api.signal_apiserver("CONT");
    let answer = under_way.await.expect("a client does not panic");
    assert!(answer.is_ok(), "the request under way was cut off: {answer:?}\n{}", ca.log());
    assert_eq!(ca.part().wait(Duration::from_secs(5)), Some(0), "{}", ca.log());
    fragile.whole = true;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_starts_before_its_api_server_is_not_ready_until_that_is_there() {
    let mut fragile = fragile().await;
    let (namespace, token) = caller(&fragile.api, "early").await;
    let plan = Plan::new(&fragile.api, &namespace, &[]).await;
    fragile.api.stop_apiserver().await;

    let part = plan.spawn();
    let why = until("the CA's pages", Duration::from_secs(20), async || {
        plan.page("/readyz").await.ok_or_else(|| part.log_tail(5))
    })
    .await;
    assert_eq!(why.0, 503, "{why:?}");
    assert!(why.1.contains("the API server cannot be asked what we may do"), "{why:?}");
    assert_eq!(plan.page("/healthz").await.map(|page| page.0), Some(200), "not ready is not dead");
    let status = plan.client().create(Some(&token), &crafted::csr(), 60).await;
    assert_eq!(status.map_err(|status| status.code()), Err(Code::Unavailable));

    fragile.api.start_apiserver().await;
    plan.until_ready(&part).await;
    let answer = plan.client().create(Some(&token), &crafted::csr(), 60).await;
    answer.expect("a CA that is ready issues");
    assert_eq!(plan.roots_loaded().len(), 1, "it was not started again");
    fragile.whole = true;
}

// === the start and the end ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_may_not_review_tokens_ends_the_start_with_the_missing_rule() {
    let api = ApiServer::shared().await;
    let (namespace, _) = caller(api, "powerless").await;
    let powerless = namespace.token("web", None, ISSUER, 3600).await;
    let (code, said) = Plan::with_account(api, &powerless, &[]).run_to_its_end();
    assert_eq!(code, 1, "{said}");
    let sentence = said.lines().last().unwrap_or_default();
    assert!(sentence.contains("we may not `create` `tokenreviews.authentication.k8s.io`"), "{said}");
    assert!(
        sentence.contains("apiGroups [authentication.k8s.io], resources [tokenreviews], verbs [create]"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_ca_stops_at_once_with_exit_code_0_even_while_clients_are_connected() {
    let api = ApiServer::shared().await;
    let (namespace, token) = caller(api, "idle").await;
    for signal in ["TERM", "INT"] {
        let ca = Ca::start(api, &namespace, &["--drain", "30s"]).await;
        // A client that keeps its connection, and two strangers that say nothing.
        ca.create(Some(&token), &crafted::csr(), 60).await.expect("a good request is answered");
        let _stranger = TcpStream::connect(ca.plan().api).await.expect("the CA serves");
        let _scraper = TcpStream::connect(ca.plan().pages).await.expect("the CA serves");
        ca.part().signal(signal);
        assert_eq!(ca.part().wait(Duration::from_secs(5)), Some(0), "{signal}: {}", ca.log());
        assert!(ca.log().contains(&format!("\"signal\":\"SIG{signal}\"")), "{}", ca.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_holds_a_ca_that_was_told_to_stop_for_longer_than_its_time_to_drain() {
    let api = ApiServer::shared().await;
    let (namespace, _) = caller(api, "silent").await;
    let ca = Ca::start(api, &namespace, &["--drain", "2s"]).await;
    // It has shaken hands, and never says what it wants.
    let tls = Arc::new(trusting(ca.root_pem(), rustls::ALL_VERSIONS));
    let _silent = connect(ca.plan().api, tls).await.expect("the CA serves");
    ca.part().signal("TERM");
    assert_eq!(ca.part().wait(Duration::from_secs(5)), Some(0), "{}", ca.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_is_taken_away_while_the_ca_runs_makes_it_unready_with_the_rules_name() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("taken-away").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let bindings = kube::Api::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>::all(api.admin());
    let name = format!("burgrave-ca-{}", namespace.name);
    bindings.delete(&name, &kube::api::DeleteParams::default()).await.expect("the binding is there");
    // The CA asks again every half minute.
    until("the CA to be unready", Duration::from_secs(60), async || match ca.plan().page("/readyz").await {
        Some((503, why)) if why.contains("we may not `create` `tokenreviews.authentication.k8s.io`") => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
}
