//! A rotation waits for whoever cannot be asked until they are back, or until nothing that they have is valid any more.

use std::time::Duration;

use burgrave::proto::admin::New;
use burgrave::proto::admin::Nothing;
use burgrave::proto::admin::step::What;
use time::OffsetDateTime;

use crate::mesh::Held;
use crate::mesh::Server;
use crate::traffic::Traffic;
use crate::traffic::UNHINDERED;
use crate::traffic::leaves_of;
use crate::traffic::moment;
use crate::traffic::quickly;

/// How soon somebody who is waited for is named.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_killed_beside_a_running_proxy_is_waited_for_until_it_is_back() {
    let mut traffic = Traffic::start("away", &[]).await;
    let mut away = traffic.workload("away").await;
    let _proxy = Server::start(&away, None).await;
    let leaf = Held::by(&away).await.chain.leaf().facts().not_after;
    let before = traffic.operator.status().await;
    let killed = OffsetDateTime::now_utc();
    away.agent.kill9();
    traffic.rotate(quickly()).await;

    let waiting = traffic
        .waits_for("distribute", &away.id.to_string(), SOON, |one| {
            one.why.starts_with("is disconnected since ")
        })
        .await;
    assert_eq!((waiting.kind.as_str(), waiting.pod), ("agent", traffic.pod_of("away")));
    assert!(waiting.why.contains("it counts until it comes back or its certificate expires"));
    let until = moment(&waiting.until.expect("its certificate expires"));
    assert!((until - leaf).abs() <= time::Duration::minutes(3), "{until} is not the end of {leaf}");
    let day = killed.date().to_string();
    assert!(waiting.why.contains(&day), "{} does not say when", waiting.why);
    tokio::time::sleep(Duration::from_secs(2)).await;
    traffic.nothing_signs_yet(&before).await;

    away.restart();
    let after = traffic.operator.until_over(UNHINDERED).await;
    assert_ne!(after.active, before.active);
    let held = Held::by(&away).await;
    assert_eq!(held.bundle.roots().len(), 1);
    held.chain.verify(&held.bundle, OffsetDateTime::now_utc()).expect("it has moved too");

    // Killed after it has said that its proxies trust both, one holds up nothing until its certificate matters; here it is the
    // one whose proxy answers all the requests.
    traffic.operator.order(What::Prepare(quickly())).await.expect("an authority can be prepared");
    traffic
        .when("everybody to have the root", SOON, |one| {
            one.rotation.as_ref().is_some_and(|one| one.waiting.is_empty())
        })
        .await;
    traffic.store.agent.kill9();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let activated = traffic.operator.order(What::Activate(Nothing {})).await.expect("everybody has the root");
    traffic
        .waits_for("reissue", &traffic.store.id.to_string(), SOON, |one| {
            one.why.starts_with(&format!("has a certificate of `{}`, and cannot be asked", after.active))
        })
        .await;
    traffic.rotate(New::default()).await;
    // What it verifies the CA by is brought to it, as a mounted file would be.
    std::fs::write(traffic.store.dir.join("root.pem"), &after.bundle.pem).expect("a scratch can be written");
    traffic.store.restart();
    assert_eq!(traffic.operator.until_over(UNHINDERED).await.active, activated.active);
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_for_good_counts_until_their_certificate_has_expired_unless_an_operator_says_otherwise() {
    let options = leaves_of(12);
    let traffic = Traffic::start("gone", &options.each_ref().map(String::as_str)).await;
    let (gone, lost) = (traffic.workload("gone").await, traffic.workload("lost").await);
    gone.agent.kill9();
    let before = traffic.operator.status().await;
    traffic.rotate(quickly()).await;
    let waiting = traffic.waits_for("distribute", &gone.id.to_string(), SOON, |_| true).await;
    let until = moment(&waiting.until.expect("its certificate expires"));
    assert!(until - OffsetDateTime::now_utc() < time::Duration::seconds(14));
    let after = traffic.operator.until_over(UNHINDERED).await;
    let activated = after.authorities.iter().find(|one| one.id == after.active);
    let activated = activated.and_then(|one| one.activated_at.as_deref()).expect("it has signed");
    assert!(moment(activated) >= until, "activated at {activated}, and it counted until {until}");
    assert_ne!(after.active, before.active);
    assert_eq!(after.last.expect("it is over").forced, Vec::<String>::new());

    // An operator who knows better.
    lost.agent.kill9();
    traffic.operator.order(What::Prepare(quickly())).await.expect("an authority can be prepared");
    traffic.waits_for("distribute", &lost.id.to_string(), SOON, |_| true).await;
    let refused = traffic.operator.order(What::Activate(Nothing {})).await.expect_err("somebody is missing");
    assert!(refused.contains(&lost.id.to_string()) && refused.contains("--force"), "{refused}");
    let forced = traffic.force(What::Activate(Nothing {})).await.expect("it was said by name");
    let rotation = forced.rotation.expect("it goes on");
    assert_eq!(rotation.phase, "reissue");
    let by = format!("activate, by the story (uid {})", own_uid());
    assert_eq!(rotation.forced, std::slice::from_ref(&by));
    let audited = traffic.audited("activate").pop().expect("it is in the trail");
    assert_eq!(audited["forced"], by.as_str());
    assert_eq!(audited["by"], by.trim_start_matches("activate, by "));
    let refusals = traffic.ca.audit("refused");
    let refusal = refusals.last().expect("that it was refused is in the trail too");
    assert_eq!((&refusal["step"], &refusal["error"]), (&"activate".into(), &refused.as_str().into()));
    // Its old certificate counts all the same.
    let until = traffic
        .waits_for("reissue", &lost.id.to_string(), SOON, |one| one.why.contains("cannot be asked"))
        .await
        .until;
    traffic.rotate(New::default()).await;
    let over = traffic.operator.until_over(UNHINDERED).await.last.expect("it is over");
    assert_eq!((over.outcome.as_str(), over.forced), ("done", vec![by]));
    assert!(moment(&over.ended_at) >= moment(&until.expect("its certificate expires")));
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_asks_for_certificates_counts_until_the_next_answer_and_their_old_leaf_until_it_expires() {
    let options = leaves_of(12);
    let traffic = Traffic::start("unheard", &options.each_ref().map(String::as_str)).await;
    let legacy = traffic.unheard("legacy").await;
    let first = legacy.ask(&traffic.ca).await;
    assert_eq!(first.roots.len(), 1);
    let before = traffic.operator.status().await;
    assert_eq!(before.readers.get("client"), Some(&1), "{before:#?}");
    traffic.rotate(quickly()).await;

    let waiting = traffic.waits_for("distribute", &legacy.id, SOON, |_| true).await;
    assert_eq!((waiting.kind.as_str(), waiting.pod), ("client", traffic.pod_of("legacy")));
    assert!(waiting.why.contains("hears of new roots only with its next certificate"), "{}", waiting.why);
    let until = moment(&waiting.until.expect("its leaf expires"));
    assert!(until >= first.expires() && until <= first.expires() + time::Duration::seconds(2));

    // The next answer carries both roots, and is still signed by the old one.
    let second = legacy.ask(&traffic.ca).await;
    assert_eq!(second.roots.len(), 2);
    assert!(second.chain.leaf().is_signed_by(&first.roots[0]));
    let waiting =
        traffic.waits_for("reissue", &legacy.id, SOON, |one| one.why.contains("and cannot be asked")).await;
    assert!(waiting.why.contains(&before.active), "{}", waiting.why);
    let third = legacy.ask(&traffic.ca).await;
    assert!(!third.chain.leaf().is_signed_by(&first.roots[0]), "the new one signs");
    // The one before may still be in use.
    let report = traffic.when("the old root to go", UNHINDERED, |one| one.bundle.roots.len() == 1).await;
    let (at, end) = (moment(&report.at), second.expires());
    assert!(at > end, "the old root went at {at}, and a leaf of it lived until {end}");
    assert!(at < end + time::Duration::seconds(5), "the old root went only at {at}, long after {end}");
    let after = traffic.operator.until_over(UNHINDERED).await;
    assert_eq!(after.last.expect("it is over").forced, Vec::<String>::new());
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_killed_in_the_middle_knows_afterwards_where_it_was_and_whom_it_waits_for() {
    let options = leaves_of(30);
    let mut traffic = Traffic::start("killed-midway", &options.each_ref().map(String::as_str)).await;
    let mut away = traffic.workload("away").await;
    let legacy = traffic.unheard("legacy").await;
    let before = traffic.operator.status().await;
    away.agent.kill9();
    let ordered = traffic.rotate(quickly()).await;
    let heard = legacy.ask(&traffic.ca).await;
    assert_eq!(heard.roots.len(), 2);
    let known = traffic.waits_for("distribute", &away.id.to_string(), SOON, |_| true).await;

    traffic.ca.kill9();
    traffic.ca.restart().await;
    let again = traffic.waits_for("distribute", &away.id.to_string(), SOON, |_| true).await;
    assert_eq!((&again.who, &again.pod, &again.until), (&known.who, &known.pod, &known.until));
    traffic.nothing_signs_yet(&before).await;
    let report = traffic.operator.status().await;
    let (then, now) = (ordered.rotation.expect("it was ordered"), report.rotation.expect("it goes on"));
    assert_eq!((then.began_at, then.by, then.kind), (now.began_at, now.by, now.kind));
    assert_eq!(report.bundle, ordered.bundle);
    away.restart();

    let is_meant = |why: &str| why.contains(&before.active) && why.contains("cannot be asked");
    let known = traffic.waits_for("reissue", &legacy.id, UNHINDERED, |one| is_meant(&one.why)).await;
    traffic.ca.kill9();
    traffic.ca.restart().await;
    let again = traffic.waits_for("reissue", &legacy.id, SOON, |one| is_meant(&one.why)).await;
    assert_eq!(again.until, known.until);
    let after = traffic.operator.until_over(UNHINDERED).await;
    let retired = moment(&after.last.expect("it is over").ended_at);
    assert!(retired > heard.expires(), "over at {retired}, and a leaf of the old one lived longer");
    let held = Held::by(&traffic.store).await;
    held.chain.verify(&held.bundle, OffsetDateTime::now_utc()).expect("the workloads have moved");
    assert_eq!(held.bundle.roots().len(), 1);
    traffic.end().await;
}

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").expect("we are there").uid()
}
