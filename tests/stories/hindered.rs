//! A rotation that somebody holds up waits for them, says who it is and why, and goes on when it may; requests go on all the time.

use std::time::Duration;

use burgrave::proto::admin::Nothing;
use burgrave::proto::admin::step::What;
use time::OffsetDateTime;

use crate::mesh::Held;
use crate::mesh::Server;
use crate::mesh::Stream;
use crate::traffic::Traffic;
use crate::traffic::UNHINDERED;
use crate::traffic::moment;
use crate::traffic::quickly;

/// How soon somebody who is waited for is named.
const SOON: Duration = Duration::from_secs(10);
/// How long agents wait for a proxy before they say so, and some time for it to be told.
const PATIENCE: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_proxy_is_waited_for_by_name_until_it_answers() {
    let mut traffic = Traffic::start("slow", &[]).await;
    let slow = traffic.workload("slow").await;
    let proxy = Server::start(&slow, None).await;
    let before = traffic.operator.status().await;
    proxy.envoy.part().signal("STOP");
    traffic.rotate(quickly()).await;

    let waiting = traffic
        .waits_for("distribute", &slow.id.to_string(), SOON, |one| {
            one.why.contains("was sent the roots at") && one.why.contains("has not acknowledged them")
        })
        .await;
    assert_eq!((waiting.kind.as_str(), waiting.pod), ("agent", traffic.pod_of("slow")));
    assert_eq!(waiting.until, None, "it is connected, so it counts until it answers");
    traffic
        .waits_for("distribute", &slow.id.to_string(), PATIENCE, |one| {
            one.why.contains("proxy server has not answered for 15 s")
        })
        .await;
    traffic.nothing_signs_yet(&before).await;
    let refused = traffic.operator.order(What::Activate(Nothing {})).await.expect_err("somebody is missing");
    for part in
        ["cannot be activated: 1 of ", &slow.id.to_string(), "proxy server has not answered", "--force"]
    {
        assert!(refused.contains(part), "{refused}");
    }

    // Who comes meanwhile is given both roots, and is waited for no more than others who have them.
    let newcomer = traffic.workload("newcomer").await;
    let held = Held::by(&newcomer).await;
    assert_eq!((held.bundle.roots().len(), held.chain.certificates().len()), (2, 1));
    traffic.waits_for("distribute", &slow.id.to_string(), SOON, |_| true).await;

    // A CA that comes back is told again.
    traffic.ca.kill9();
    traffic.ca.restart().await;
    traffic
        .waits_for("distribute", &slow.id.to_string(), PATIENCE, |one| {
            one.why.contains("proxy server has not answered for 15 s")
        })
        .await;
    traffic.nothing_signs_yet(&before).await;

    proxy.envoy.part().signal("CONT");
    let after = traffic.operator.until_over(UNHINDERED).await;
    assert_ne!(after.active, before.active);
    assert_eq!(after.last.expect("it is over").outcome, "done");
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_died_is_waited_for_as_long_as_it_could_come_back() {
    let traffic = Traffic::start("died", &[]).await;
    let host = traffic.workload("host").await;
    let proxy = Server::start(&host, None).await;
    let before = traffic.operator.status().await;
    proxy.envoy.part().signal("STOP");
    traffic.rotate(quickly()).await;
    traffic.waits_for("distribute", &host.id.to_string(), SOON, |_| true).await;
    proxy.envoy.part().kill9();
    let died = OffsetDateTime::now_utc();
    traffic.waits_for("distribute", &host.id.to_string(), SOON, |_| true).await;
    traffic.nothing_signs_yet(&before).await;
    let after = traffic.operator.until_over(UNHINDERED).await;
    let activated = after.authorities.iter().find(|one| one.id == after.active);
    let activated = moment(activated.and_then(|one| one.activated_at.as_deref()).expect("it signs"));
    let waited = activated - died;
    assert!(waited > time::Duration::seconds(25) && waited < time::Duration::seconds(45), "{waited}");
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_roots_or_certificate_is_named_with_its_reason_and_without_what_it_quotes() {
    let traffic = Traffic::start("picky", &[]).await;
    let picky = traffic.workload("picky").await;
    let (id, socket) = (picky.id.to_string(), picky.socket());
    let mut leaves = Stream::subscribe_as("sidecar~10.0.0.8", &socket, "default").await;
    let first_leaf = leaves.take("default").await;
    let mut refuses = Stream::subscribe_as("sidecar~10.0.0.7", &socket, "ROOTCA").await;
    let first = refuses.take("ROOTCA").await;
    let mut also = Stream::subscribe(&socket, "ROOTCA").await;
    also.take("ROOTCA").await;
    let before = traffic.operator.status().await;
    traffic.rotate(quickly()).await;

    let quoted = format!(
        "cannot load trusted ca from tls_certificate {{ inline_bytes: \"{}\" }}",
        first_leaf.key_pem()
    );
    for stream in [&mut refuses, &mut also] {
        let pushed = stream.next(SOON).await.expect("the roots are pushed");
        assert_eq!(pushed.certificates().len(), 2);
        stream.ask(&["ROOTCA"], &first.version, &pushed.nonce, Some(&quoted)).await;
    }
    let why = "refused the roots: proxy sidecar~10.0.0.7: cannot load trusted ca from tls_certificate…";
    traffic.waits_for("distribute", &id, SOON, |one| one.why.starts_with(why)).await;
    traffic.nothing_signs_yet(&before).await;

    // The one comes back and takes them; the other one is still there.
    drop(refuses);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut takes = Stream::subscribe_as("sidecar~10.0.0.7", &socket, "ROOTCA").await;
    assert_eq!(takes.take("ROOTCA").await.certificates().len(), 2);
    traffic
        .waits_for("distribute", &id, SOON, |one| {
            one.why.starts_with("refused the roots: proxy without a name: cannot load trusted ca")
        })
        .await;
    traffic.nothing_signs_yet(&before).await;
    drop(also);

    // Another proxy does not take the new certificate, and quotes its key.
    let leaf = leaves.next(UNHINDERED).await.expect("the new certificate is pushed");
    let quoted =
        format!("Failed to load private key from <inline> {{ inline_bytes: \"{}\" }}", leaf.key_pem());
    leaves.ask(&["default"], &first_leaf.version, &leaf.nonce, Some(&quoted)).await;
    let why = format!(
        "has not moved away from `{}`: proxy sidecar~10.0.0.8: Failed to load private key from <inline>…",
        before.active
    );
    traffic.waits_for("reissue", &id, SOON, |one| one.why.starts_with(&why)).await;
    let report = traffic.operator.status().await;
    assert_eq!(report.bundle.roots.len(), 2, "the old root is needed");
    drop(leaves);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut leaves = Stream::subscribe_as("sidecar~10.0.0.8", &socket, "default").await;
    assert_eq!(leaves.take("default").await.version, leaf.version);

    assert_eq!(takes.take("ROOTCA").await.certificates().len(), 1, "it is the last one who was waited for");
    let after = traffic.operator.until_over(UNHINDERED).await;
    assert_ne!(after.active, before.active);
    let said = format!("{}{}{report:?}", traffic.ca.log(), picky.log());
    for line in first_leaf.key_pem().lines().chain(leaf.key_pem().lines()) {
        assert!(!said.contains(line), "what a refusal quotes was written down");
    }
    traffic.end().await;
}
