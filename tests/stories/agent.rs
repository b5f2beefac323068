//! The agent by itself: what it pushes and when, what it holds back, and what it never writes down.

use std::time::Duration;

use burgrave::proto::envoy::DiscoveryRequest;
use burgrave::sds;

use crate::ca::Ca;
use crate::ca::binary;
use crate::ca::until;
use crate::crafted::hierarchy;
use crate::mesh::Held;
use crate::mesh::Stream;
use crate::mesh::Workload;
use crate::support::apiserver::ApiServer;
use crate::support::part::NO_ENV;
use crate::support::part::Part;
use crate::support::scratch;

const SOON: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_answered_by_the_rules_of_xds() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("xds").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;

    // An unknown name does not hold back a known one.
    let mut stream = Stream::open(&web.socket()).await;
    stream.ask(&["file-root:system", "default"], "", "", None).await;
    let first = stream.next(Duration::from_secs(5)).await.expect("the known name is answered");
    stream.ask(&["file-root:system", "default"], &first.version, &first.nonce, None).await;
    assert!(stream.next(SOON).await.is_none(), "an ACK is not answered");

    // A client that comes back with the version is not sent it again; a renewal reaches it.
    let mut again = Stream::open(&web.socket()).await;
    again.ask(&["default"], &first.version, "", None).await;
    assert!(again.next(SOON).await.is_none(), "the client has that version");
    web.renew();
    let second = again.next(Duration::from_secs(5)).await.expect("a renewal is pushed");
    assert_ne!(second.version, first.version);
    assert_ne!(second.key_pem(), first.key_pem(), "each certificate has a key of its own");
    assert_eq!(stream.next(SOON).await.map(|pushed| pushed.version), Some(second.version.clone()));

    // A NACK does not loop, and what it quotes is not written down.
    let quoted =
        format!("bad tls_certificate {{ private_key {{ inline_bytes: \"{}\" }} }}", second.key_pem());
    again.ask(&["default"], &first.version, &second.nonce, Some(&quoted)).await;
    assert!(again.next(SOON).await.is_none(), "a NACK is not answered with the same");
    assert_eq!(web.metric("burgrave_sds_nacks_total{resource=\"default\"}").await, 1.0);
    let log = web.log();
    assert!(log.contains("a proxy rejected a secret"), "{log}");
    for line in second.key_pem().lines() {
        assert!(!log.contains(line), "what a NACK quotes was written down");
    }
    web.renew();
    assert!(again.next(Duration::from_secs(5)).await.is_some(), "the next version is tried");

    // Another type is refused.
    let mut wrong = sds::connect(&web.socket()).await.expect("the agent serves");
    let request = DiscoveryRequest { type_url: "type.googleapis.com/x.Y".to_owned(), ..Default::default() };
    let refused = wrong.fetch_secrets(request).await.expect_err("only secrets are served");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);

    // Without a stream: everything, or what is asked for.
    let mut client = sds::connect(&web.socket()).await.expect("the agent serves");
    let all =
        client.fetch_secrets(DiscoveryRequest::default()).await.expect("secrets are there").into_inner();
    assert_eq!(all.resources.len(), 2);
    let only = DiscoveryRequest { resource_names: vec!["ROOTCA".to_owned()], ..Default::default() };
    assert_eq!(client.fetch_secrets(only).await.expect("it is there").into_inner().resources.len(), 1);
    let none = DiscoveryRequest { resource_names: vec!["nothing".to_owned()], ..Default::default() };
    let refused = client.fetch_secrets(none).await.expect_err("there is no such secret");
    assert_eq!(refused.code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_in_an_answer_is_acknowledged_by_every_proxy_before_the_new_leaf_goes_out() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("roots-first").await;
    let (one, two) = (hierarchy(&[]), hierarchy(&[]));
    let mut ca = Ca::start(api, &namespace, &["--ca-dir", &one.path().display().to_string()]).await;

    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let mut leafs = Stream::subscribe(&web.socket(), "default").await;
    leafs.take("default").await;
    let mut roots = Stream::subscribe(&web.socket(), "ROOTCA").await;
    roots.take("ROOTCA").await;
    let mut slow = Stream::subscribe(&web.socket(), "ROOTCA").await;
    slow.take("ROOTCA").await;
    // The CA comes back with another hierarchy, at the same place.
    ca.kill9();
    for name in ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"] {
        std::fs::copy(two.path().join(name), one.path().join(name)).expect("a hierarchy can be replaced");
    }
    let root = std::fs::read(one.path().join("root-cert.pem")).expect("the new root is there");
    std::fs::write(web.dir.join("root.pem"), root).expect("a scratch can be written");
    ca.restart().await;
    web.renew();

    let new = roots.take("ROOTCA").await;
    let held_back = slow.next(Duration::from_secs(5)).await.expect("both streams get the new root");
    assert!(leafs.next(SOON).await.is_none(), "a proxy has not answered the new root yet");
    slow.ask(&["ROOTCA"], &held_back.version, &held_back.nonce, None).await;
    let leaf = leafs.take("default").await;
    assert!(leaf.at > new.at);
    assert_eq!(new.version, held_back.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_ca_tells_its_roots_by_its_stream_a_changed_root_file_adds_none_and_costs_nothing() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("root-file").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let mut leafs = Stream::subscribe(&web.socket(), "default").await;
    let leaf = leafs.take("default").await;
    let mut roots = Stream::subscribe(&web.socket(), "ROOTCA").await;
    let own = roots.take("ROOTCA").await;
    assert_eq!(own.certificates().len(), 1);
    until("the CA's stream", Duration::from_secs(10), async || {
        let log = web.log();
        if log.contains("the CA has pushed") { Ok(()) } else { Err(log) }
    })
    .await;
    // As a kubelet swaps a mounted ConfigMap: the file is another one at once.
    let publish = |content: &str| {
        std::fs::write(web.dir.join("aside"), content).expect("a scratch can be written");
        std::fs::rename(web.dir.join("aside"), web.dir.join("root.pem")).expect("a file can be renamed");
    };
    let other = crate::replicas::stranger().1;
    // More than the CA has, another one's alone, and none at all. The file is looked at every two seconds.
    for content in [&format!("{}{other}", ca.root_pem()), &other, "this is no bundle"] {
        publish(content);
        assert!(roots.next(Duration::from_secs(4)).await.is_none(), "the CA has not said so");
        assert!(leafs.next(SOON).await.is_none(), "nothing is asked of the CA for it");
    }
    assert!(web.log().contains("is no bundle"), "{}", web.log());

    // The CA is reached by the roots that are held, though the file does not verify it any more.
    web.renew();
    assert_ne!(leafs.take("default").await.version, leaf.version);
    assert!(roots.next(SOON).await.is_none(), "its answer carries no others either");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_at_half_their_life_and_an_outage_is_an_alarm_and_then_heals() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("renewal").await;
    let mut ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &["--leaf-lifetime=6s"]).await;
    let mut stream = Stream::subscribe(&web.socket(), "default").await;
    // The first may have come some time after it was issued; intervals are measured from the second on.
    stream.take("default").await;
    let mut last = stream.take("default").await;
    for _ in 0..2 {
        let next = stream.take("default").await;
        let pause = (next.at - last.at).as_secs_f64();
        assert!((1.5..4.5).contains(&pause), "renewed after {pause} s of 6");
        last = next;
    }
    ca.kill9();
    until("the last-chance alarm", Duration::from_secs(15), async || {
        match web.metric("burgrave_renewal_last_chance").await {
            1.0 => Ok(()),
            _ => Err(web.agent.log_tail(3)),
        }
    })
    .await;
    assert!(web.log().contains("the certificate is about to expire and cannot be renewed"));
    until("the agent not to be ready", Duration::from_secs(15), async || match web.page("/readyz").await {
        Some((503, why)) if why.contains("expired") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // A fresh proxy is not given a certificate that nobody would take.
    let mut late = Stream::subscribe(&web.socket(), "default").await;
    assert!(late.next(SOON).await.is_none(), "an expired certificate is served");
    ca.restart().await;
    // Pauses have grown to ten seconds.
    assert!(
        stream.next(Duration::from_secs(20)).await.is_some(),
        "it does not heal: {}",
        web.agent.log_tail(3)
    );
    web.until_ready().await;
    assert_eq!(web.metric("burgrave_renewal_last_chance").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_key_nor_token_is_ever_in_a_log() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("secrets").await;
    let ca = Ca::start(api, &namespace, &["--log-level=trace"]).await;
    let web = Workload::start(&ca, &namespace, "web", &["--log-level=trace"]).await;
    let held = Held::by(&web).await;
    web.renew();
    let renewed = Stream::subscribe(&web.socket(), "default").await.take("default").await;
    let token = std::fs::read_to_string(web.dir.join("token")).expect("the token is there");
    let (_, signature) = token.rsplit_once('.').expect("a token has three parts");
    for log in [web.log(), ca.log()] {
        assert!(log.contains("TRACE"), "the log is not that detailed");
        assert!(!log.contains(signature), "a token is in the log");
        for key in [held.key.secret_pem().as_str(), &renewed.key_pem()] {
            for line in key.lines().filter(|line| !line.starts_with("-----")) {
                assert!(!log.contains(line), "a key is in the log");
            }
        }
        assert!(!log.contains("PRIVATE KEY"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_is_refused_the_socket_and_a_killed_ones_socket_is_taken_over() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("socket").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let mut web = Workload::start(&ca, &namespace, "web", &[]).await;
    let dir = scratch("second");
    let arguments = [
        "agent".to_owned(),
        format!("--ca-address=https://{}", ca.plan().api),
        format!("--socket={}", web.socket().display()),
        "--admin-listen=127.0.0.1:0".to_owned(),
    ];
    let second = Part::spawn("second", &binary(), &arguments, NO_ENV, &dir.join("log"));
    assert_eq!(second.wait(Duration::from_secs(10)), Some(1));
    assert!(second.log().contains("another process serves on"), "{}", second.log());

    web.agent.kill9();
    assert!(web.socket().exists(), "a killed agent leaves its socket behind");
    web.restart();
    web.until_ready().await;
    Held::by(&web).await;

    web.agent.signal("TERM");
    assert_eq!(web.agent.wait(Duration::from_secs(10)), Some(0));
    assert!(!web.socket().exists(), "an agent that was stopped takes its socket away");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_socket_serves_is_told_in_words_and_a_fault_by_exit_code() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("inspect").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let inspect = |arguments: &[&str]| {
        let done = std::process::Command::new(binary()).args(["cert", "inspect"]).args(arguments).output();
        let done = done.expect("the program runs");
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = inspect(&["--sds", &web.socket().display().to_string()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&web.id.to_string()) && !said.contains("PRIVATE"), "{said}");

    // A leaf without the root that it was promised.
    let dir = scratch("inspect");
    let held = Held::by(&web).await;
    let other = Ca::start(api, &namespace, &[]).await;
    std::fs::write(dir.join("chain.pem"), held.chain.to_pem()).expect("a scratch can be written");
    std::fs::write(dir.join("roots.pem"), other.root_pem()).expect("a scratch can be written");
    let (chain, roots) = (dir.join("chain.pem"), dir.join("roots.pem"));
    let (code, said) = inspect(&[&chain.display().to_string(), "--roots", &roots.display().to_string()]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("does not lead to a trusted root"), "{said}");
    let (code, said) = inspect(&["/nonexistent"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`/nonexistent`"), "{said}");
}
