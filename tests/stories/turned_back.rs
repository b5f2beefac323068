//! A rotation that is not to be, or must not wait: aborted, turned back, or ordered because a key is known to others.

use std::time::Duration;
use std::time::Instant;

use burgrave::proto::admin::New;
use burgrave::proto::admin::Nothing;
use burgrave::proto::admin::Taint;
use burgrave::proto::admin::step::What;
use burgrave::rotation::report::Report;
use burgrave::x509::Certificate;
use time::OffsetDateTime;

use crate::ca::until;
use crate::mesh::Held;
use crate::mesh::Server;
use crate::mesh::Stream;
use crate::mesh::request_over_tls;
use crate::support::figure;
use crate::traffic::Traffic;
use crate::traffic::UNHINDERED;
use crate::traffic::certificates;
use crate::traffic::quickly;

const SOON: Duration = Duration::from_secs(10);

/// How many roots an Envoy verifies its peers by.
async fn roots_in(server: &Server) -> usize {
    let page = server.envoy.certs().await;
    let all = page["certificates"].as_array().expect("Envoy lists its certificates").iter();
    all.filter_map(|one| one["ca_cert"].as_array()).map(Vec::len).max().unwrap_or_default()
}

fn root(report: &Report) -> Certificate {
    certificates(&report.bundle.pem).remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_aborted_at_every_stage_before_the_new_authority_signs_and_not_after() {
    let traffic = Traffic::start("aborted", &[]).await;
    let before = traffic.operator.status().await;
    let abort = async || traffic.operator.order(What::Abort(Nothing {})).await;
    let none = abort().await.expect_err("there is nothing to abort");
    assert!(none.contains("no rotation is under way; begin one by `burgrave root rotate`"), "{none}");

    // As soon as it is prepared; and when everybody has the root.
    for waits in [false, true] {
        let mut roots = Stream::subscribe(&traffic.store.socket(), "ROOTCA").await;
        let original = roots.take("ROOTCA").await;
        let prepared = traffic.operator.order(What::Prepare(quickly())).await.expect("it is prepared");
        assert_eq!(prepared.bundle.roots.len(), 2);
        if waits {
            assert_eq!(roots.take("ROOTCA").await.certificates().len(), 2);
            traffic
                .when("everybody to have it", SOON, |one| {
                    one.rotation.as_ref().is_some_and(|one| one.waiting.is_empty())
                })
                .await;
            assert_eq!(roots_in(&traffic.server).await, 2);
        }
        let aborted = abort().await.expect("nothing was signed by it");
        assert_eq!(aborted.bundle.sequence, prepared.bundle.sequence + 1);
        assert_eq!(aborted.bundle.digest, before.bundle.digest);
        if waits {
            assert_eq!(roots.take("ROOTCA").await.version, original.version);
        }
    }

    // While a proxy does not answer.
    let mut stuck = Stream::subscribe(&traffic.web.socket(), "ROOTCA").await;
    stuck.take("ROOTCA").await;
    traffic.rotate(quickly()).await;
    let pushed = stuck.next(SOON).await.expect("the roots are pushed");
    assert_eq!(pushed.certificates().len(), 2);
    traffic.waits_for("distribute", &traffic.web.id.to_string(), SOON, |_| true).await;
    until("Envoy to have both roots", SOON, async || match roots_in(&traffic.server).await {
        2 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    let aborted = abort().await.expect("nothing was signed by it");
    assert_eq!(
        (aborted.active.as_str(), aborted.bundle.digest.as_str()),
        (before.active.as_str(), before.bundle.digest.as_str())
    );
    assert_eq!(aborted.bundle.sequence, before.bundle.sequence + 6);
    assert_eq!(aborted.authorities.len(), 1);
    assert_eq!(aborted.last.expect("it is over").outcome, "aborted");
    assert_eq!(traffic.audited("abort").len(), 3);
    stuck.ask(&["ROOTCA"], &pushed.version, &pushed.nonce, None).await;
    assert_eq!(stuck.take("ROOTCA").await.certificates().len(), 1);
    until("Envoy to have the one root again", SOON, async || match roots_in(&traffic.server).await {
        1 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    drop(stuck);

    // The next one goes through, and once it signs there is another way.
    let activated = traffic.activate(New { window_ms: 60_000, ..New::default() }).await;
    let refused = abort().await.expect_err("it has signed");
    assert_eq!(
        refused,
        format!(
            "authority `{}` signs already, so there is nothing to abort; the one before it signs again after `burgrave root rollback`",
            activated.active
        )
    );
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_it_has_signed_an_authority_is_turned_back_and_the_workloads_come_back_to_the_old_one() {
    let traffic = Traffic::start("turned-back", &[]).await;
    let before = traffic.operator.status().await;
    let old = root(&before);
    let is_by_old = async |wanted: bool| match traffic.shown().await.is_signed_by(&old) {
        found if found == wanted => Ok(()),
        _ => Err("the server shows one of the other".to_owned()),
    };
    let early = traffic.operator.order(What::RollBack(Nothing {})).await.expect_err("there is nothing");
    assert!(early.contains("no rotation is under way"), "{early}");
    // Somebody has a certificate of the old one for a day, so it does not end by itself.
    let legacy = traffic.unheard("legacy").await;
    traffic.operator.order(What::Prepare(quickly())).await.expect("it is prepared");
    let early = traffic.operator.order(What::RollBack(Nothing {})).await.expect_err("it has not signed");
    assert!(early.contains("the prepared one has not signed yet; use `burgrave root abort`"), "{early}");
    legacy.ask(&traffic.ca).await;
    traffic.rotate(quickly()).await;
    traffic.waits_for("reissue", &legacy.id, UNHINDERED, |_| true).await;
    until("the server to move", SOON, async || is_by_old(false).await).await;

    let back = traffic.operator.order(What::RollBack(Nothing {})).await.expect("both are trusted");
    assert_eq!(back.active, before.active);
    assert_eq!(back.bundle.roots.len(), 2);
    // Its certificate is good, and the root that it has beside it goes with the next answer.
    traffic.waits_for("withdraw", &legacy.id, UNHINDERED, |_| true).await;
    assert_eq!(legacy.ask(&traffic.ca).await.roots, std::slice::from_ref(&old));
    let after = traffic.operator.until_over(UNHINDERED).await;
    let last = after.last.expect("it is over");
    assert_eq!((last.outcome.as_str(), last.removed.len()), ("rolled back", 1));
    assert_eq!((after.active, after.bundle.digest), (before.active, before.bundle.digest));
    assert_eq!(after.bundle.sequence, before.bundle.sequence + 2);
    assert_eq!(after.authorities.len(), 1);
    is_by_old(true).await.expect("who has said that it moved has moved");
    assert_eq!(roots_in(&traffic.server).await, 1);
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tainted_key_is_replaced_at_once_and_nobody_is_waited_for_who_cannot_be_asked() {
    let traffic = Traffic::start("tainted", &[]).await;
    let mut away = traffic.workload("away").await;
    let _proxy = Server::start(&away, None).await;
    let legacy = traffic.unheard("legacy").await;
    legacy.ask(&traffic.ca).await;
    away.agent.kill9();
    let before = traffic.operator.status().await;
    let old = root(&before);
    assert_eq!(before.readers.values().sum::<usize>(), 4, "{before:#?}");

    let begun = Instant::now();
    let ordered = traffic.operator.order(What::Taint(Taint::default())).await.expect("it is ordered");
    assert!(ordered.authorities[0].tainted_at.is_some());
    let rotation = ordered.rotation.expect("it begins at once");
    assert_eq!((rotation.kind.as_str(), rotation.window_s), ("emergency", 0.0));
    traffic
        .when("the old root to go", UNHINDERED, |one| {
            one.bundle.roots.iter().all(|root| root.fingerprint != old.fingerprint())
        })
        .await;
    let took = begun.elapsed();
    let after = traffic.operator.until_over(UNHINDERED).await;
    figure("taint_to_last_leaf_s", format!("{:.2}", took.as_secs_f64()), "s");

    assert_ne!(after.active, before.active);
    let last = after.last.expect("it is over");
    assert_eq!((last.kind.as_str(), last.outcome.as_str()), ("emergency", "done"));
    assert_eq!(last.removed, std::slice::from_ref(&before.active));
    let shown = traffic.shown().await;
    assert!(!shown.is_signed_by(&old));
    for workload in [&traffic.web, &traffic.store] {
        let held = Held::by(workload).await;
        assert!(!held.bundle.contains(&old));
        held.chain.verify(&held.bundle, OffsetDateTime::now_utc()).expect("it has moved");
    }
    assert_eq!(traffic.audited("taint").len(), 1);
    // Who was away comes back to the new one; what it verifies the CA by is brought to it, as a mounted file would be.
    std::fs::write(away.dir.join("root.pem"), &after.bundle.pem).expect("a scratch can be written");
    away.restart();
    away.until_ready().await;
    let held = Held::by(&away).await;
    held.chain.verify(&held.bundle, OffsetDateTime::now_utc()).expect("it has moved");
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_proxy_holds_up_an_emergency_until_an_operator_gives_it_up() {
    let traffic = Traffic::start("tainted-frozen", &[]).await;
    let host = traffic.workload("host").await;
    let proxy = Server::start(&host, None).await;
    let before = traffic.operator.status().await;
    let old = root(&before);
    proxy.envoy.part().signal("STOP");
    traffic.operator.order(What::Taint(Taint::default())).await.expect("it is ordered");
    traffic.waits_for("distribute", &host.id.to_string(), SOON, |_| true).await;
    traffic.force(What::Activate(Nothing {})).await.expect("it was said by name");
    traffic.waits_for("reissue", &host.id.to_string(), SOON, |_| true).await;
    let retired = traffic.force(What::Retire(Nothing {})).await.expect("it was said by name");
    assert!(retired.bundle.roots.iter().all(|root| root.fingerprint != old.fingerprint()));
    assert_eq!(retired.rotation.expect("the key is still there").forced.len(), 2);
    assert_eq!(traffic.audited("retire").len(), 1);
    traffic.waits_for("withdraw", &host.id.to_string(), SOON, |_| true).await;
    let removed = traffic.force(What::Rotate(New::default())).await.expect("so was this");
    assert_eq!(removed.rotation, None);
    let last = removed.last.expect("it is over");
    assert_eq!((last.kind.as_str(), last.outcome.as_str(), last.forced.len()), ("emergency", "done", 3));
    // It wakes up to the new root and a new certificate.
    proxy.envoy.part().signal("CONT");
    let probe = Held::by(&traffic.web).await.client(&host.id);
    until("the proxy to have moved", SOON, async || {
        match request_over_tls(proxy.address, probe.clone()).await {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_authority_that_is_tainted_before_the_old_one_is_gone_gives_way_to_it() {
    let traffic = Traffic::start("tainted-midway", &[]).await;
    let before = traffic.operator.status().await;
    let prepared = traffic.operator.order(What::Prepare(quickly())).await.expect("it is prepared");
    let new = prepared.authorities.iter().find(|one| one.stage == "prepared").expect("it is there");
    let taint = |authority: &str| What::Taint(Taint { authority: authority.to_owned() });
    let unknown = traffic.operator.order(taint("0123456789abcdef")).await.expect_err("there is none");
    assert!(unknown.contains("there is no authority `0123456789abcdef`"), "{unknown}");
    let ended = traffic.operator.order(taint(&new.id)).await.expect("it has signed nothing");
    assert_eq!(ended.last.expect("it is over").outcome, "aborted");
    assert_eq!(ended.bundle.digest, before.bundle.digest);

    let legacy = traffic.unheard("legacy").await;
    legacy.ask(&traffic.ca).await;
    traffic.operator.order(What::Prepare(quickly())).await.expect("it is prepared");
    legacy.ask(&traffic.ca).await;
    traffic.rotate(quickly()).await;
    let report = traffic.when("the activation", UNHINDERED, |one| one.active != before.active).await;
    let tainted = traffic.operator.order(taint(&report.active)).await.expect("the old one is trusted");
    assert_eq!(tainted.active, before.active);
    let refused = traffic.operator.order(What::RollBack(Nothing {})).await.expect_err("it may not sign");
    let because = format!("authority `{}` is tainted; it may not sign again", report.active);
    assert!(refused.starts_with(&because) && refused.contains("rotate --watch"), "{refused}");
    let after = traffic.operator.until_over(UNHINDERED).await;
    assert_eq!((after.active, after.bundle.digest), (before.active, before.bundle.digest));
    assert_eq!(after.last.expect("it is over").removed, [report.active]);
    traffic.end().await;
}
