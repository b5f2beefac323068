//! Where a new authority comes from: from age alone, from files that an operator brings, with the old root's word for it.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use burgrave::proto::admin::New;
use burgrave::x509::Certificate;
use burgrave::x509::CertificateChain;
use burgrave::x509::TrustBundle;
use rcgen::KeyPair;
use time::OffsetDateTime;

use crate::ca::Plan;
use crate::crafted::Hierarchy;
use crate::crafted::ca_params;
use crate::crafted::hierarchy;
use crate::mesh::Held;
use crate::support::scratch;
use crate::support::tools;
use crate::traffic::Answer;
use crate::traffic::Traffic;
use crate::traffic::UNHINDERED;
use crate::traffic::certificates;
use crate::traffic::leaves_of;
use crate::traffic::moment;
use crate::traffic::quickly;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_has_come_of_age_is_replaced_by_itself() {
    let leaves = leaves_of(20);
    let mut options: Vec<_> = leaves.iter().map(String::as_str).collect();
    options.extend(["--root-lifetime=5m", "--rotate-at-age=15s"]);
    let traffic = Traffic::start("of-age", &options).await;
    let before = traffic.operator.status().await;
    let due = moment(before.next_scheduled.as_deref().expect("it says when"));
    let after = traffic.when("a rotation by itself", UNHINDERED, |one| one.last.is_some()).await;
    let last = after.last.expect("it is over");
    assert_eq!(
        (last.kind.as_str(), last.by.as_str(), last.outcome.as_str()),
        ("scheduled", "burgrave, by age", "done")
    );
    assert_ne!(before.active, after.active);
    let began = moment(&last.began_at);
    assert!(began >= due && began < due + time::Duration::seconds(5), "{began} is not {due}");
    assert_eq!(last.removed, [before.active]);
    traffic.end().await;
}

#[test]
fn an_age_at_which_leaves_would_be_cut_short_is_refused_with_the_times() {
    let plan = Plan::without_callers(&[
        "--root-lifetime=10h",
        "--rotate-at-age=9h",
        "--leaf-lifetime=1h",
        "--max-leaf-lifetime=1h",
    ]);
    let (code, said) = plan.run_to_its_end();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains(
            "`--rotate-at-age`: at the age of 32400 s an authority with a life of 36000 s has too little of it left for leaves of 3600 s, when its successor may take as long to be trusted; lower it, or raise --root-lifetime"
        ),
        "{said}"
    );
}

/// The files of a plugged-in CA, as they are sent.
fn files(made: &Hierarchy) -> New {
    let names = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];
    let files: HashMap<_, _> =
        names.map(|name| (name.to_owned(), made.read(name).into_bytes())).into_iter().collect();
    New { files, ..quickly() }
}

fn bundle(of: &[&Certificate]) -> TrustBundle {
    TrustBundle::new(of.iter().map(|&one| one.clone()).collect()).expect("roots make a bundle")
}

/// Whether `openssl`, too, verifies the chain when it knows nothing but `root`.
fn openssl_verifies(chain: &CertificateChain, root: &Certificate) -> Result<(), String> {
    let dir = scratch("verify");
    let write = |name: &str, of: &[&Certificate]| {
        let text: String = of.iter().map(|one| burgrave::x509::pem::certificate(one.der())).collect();
        let path = dir.join(name);
        std::fs::write(&path, text).expect("a scratch can be written");
        path.display().to_string()
    };
    let above: Vec<_> = chain.certificates().iter().skip(1).collect();
    let (root, leaf) = (write("root", &[root]), write("leaf", &[chain.leaf()]));
    let mut arguments = vec!["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", &root];
    let untrusted = write("above", &above);
    if !above.is_empty() {
        arguments.extend(["-untrusted", &untrusted]);
    }
    let output = Command::new(tools::openssl()).args(arguments).arg(leaf).output();
    let output = output.expect("openssl can be run");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn verifies(answer: &Answer, root: &Certificate) {
    let chain = &answer.chain;
    chain.verify(&bundle(&[root]), OffsetDateTime::now_utc()).expect("we verify it");
    openssl_verifies(chain, root).expect("openssl verifies it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_and_intermediates_that_are_brought_as_files_come_in_and_only_a_new_root_changes_the_bundle() {
    let traffic = Traffic::start("brought", &[]).await;
    let before = traffic.operator.status().await;
    let mut made = hierarchy(&[]);
    let root = certificates(&made.read("root-cert.pem")).remove(0);

    let mut broken = files(&made);
    broken.files.remove("ca-key.pem");
    let order = |new| burgrave::proto::admin::step::What::Rotate(new);
    let refused = traffic.operator.order(order(broken)).await.expect_err("there is no key");
    assert!(refused.contains("ca-key.pem"), "{refused}");

    let refused = traffic.operator.order(order(New { cross_sign: true, ..files(&made) })).await;
    let refused = refused.expect_err("its root does not sign leaves");
    assert!(refused.contains("leave --cross-sign out"), "{refused}");
    assert_eq!(traffic.operator.status().await.bundle, before.bundle, "nothing has happened");

    traffic.rotate(files(&made)).await;
    let first = traffic.operator.until_over(UNHINDERED).await;
    assert_eq!(first.bundle.sequence, before.bundle.sequence + 2, "one root came, and one went");
    assert_eq!(first.bundle.roots[0].fingerprint, root.fingerprint());
    let shown = traffic.shown().await;
    let issuer = certificates(&made.read("ca-cert.pem")).remove(0);
    assert!(shown.is_signed_by(&issuer));
    let somebody = traffic.unheard("somebody").await;
    verifies(&somebody.ask(&traffic.ca).await, &root);

    // Another intermediate with a key of its own; the bundle is as it was, and nobody has to hear of it.
    second_intermediate(&mut made);
    traffic.rotate(files(&made)).await;
    let second = traffic.operator.until_over(UNHINDERED).await;
    assert_eq!(
        (second.bundle.sequence, second.bundle.digest, second.bundle.pem),
        (first.bundle.sequence, first.bundle.digest, first.bundle.pem)
    );
    assert_ne!(second.active, first.active);
    let last = second.last.expect("it is over");
    assert_eq!((last.outcome.as_str(), last.forced.len()), ("done", 0));
    assert_eq!(last.removed, [first.active]);
    let answer = somebody.ask(&traffic.ca).await;
    let issuer = certificates(&made.read("ca-cert.pem")).remove(0);
    assert!(answer.chain.leaf().is_signed_by(&issuer));
    verifies(&answer, &root);
    crate::ca::until("the workloads to move", SOON, async || {
        match traffic.shown().await.is_signed_by(&issuer) {
            true => Ok(()),
            false => Err("the server shows one of the intermediate before".to_owned()),
        }
    })
    .await;
    traffic.end().await;
}

/// Puts an intermediate with a new key in the place of the one that is there, by the same root.
fn second_intermediate(made: &mut Hierarchy) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("there is randomness");
    let root_key = KeyPair::from_pem(&made.read("offline/root-key.pem")).expect("certs/make writes PKCS#8");
    let root = rcgen::Issuer::from_ca_cert_pem(&made.read("root-cert.pem"), root_key).expect("it is a root");
    let certificate = ca_params("Second issuing CA").signed_by(&key, &root).expect("it can be signed").pem();
    made.write("ca-key.pem", &key.serialize_pem());
    made.write("ca-cert.pem", &certificate);
    made.write("cert-chain.pem", &certificate);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_signed_root_signs_without_waiting_for_who_cannot_be_asked_and_they_verify_its_leaves() {
    let options = leaves_of(25);
    let traffic = Traffic::start("crossed", &options.each_ref().map(String::as_str)).await;
    let legacy = traffic.unheard("legacy").await;
    let known = legacy.ask(&traffic.ca).await;
    let old = known.roots[0].clone();
    let before = traffic.operator.status().await;
    traffic.rotate(New { cross_sign: true, ..quickly() }).await;
    // It has only the old root, and nobody waits for it to hear of the new one before that signs.
    let report = traffic.when("the activation", SOON, |one| one.active != before.active).await;
    assert!(report.authorities.iter().any(|one| one.id == report.active && one.cross_signed));
    let new = certificates(&report.bundle.pem).into_iter().find(|one| *one != old).expect("two are trusted");
    let waiting = traffic.waits_for("reissue", &legacy.id, UNHINDERED, |_| true).await;
    assert!(waiting.why.contains("cannot be asked"), "{}", waiting.why);

    // Whatever the new one signs is good for those who know either root.
    let somebody = traffic.unheard("somebody").await;
    let answer = somebody.ask(&traffic.ca).await;
    assert_eq!(answer.chain.certificates().len(), 2);
    assert!(answer.chain.leaf().is_signed_by(&new));
    for root in [&old, &new] {
        verifies(&answer, root);
    }
    let moved = Held::by(&traffic.store).await.chain;
    moved.verify(&bundle(&[&old]), OffsetDateTime::now_utc()).expect("so are the workloads'");
    known
        .chain
        .verify(&bundle(&[&old, &new]), OffsetDateTime::now_utc())
        .expect("and theirs is for the others");

    let after = traffic.operator.until_over(UNHINDERED).await;
    assert_eq!(after.bundle.roots.len(), 1);
    let last = after.last.expect("it is over");
    assert_eq!((last.outcome.as_str(), last.forced.len()), ("done", 0));
    assert!(moment(&last.ended_at) > known.expires(), "their old leaf was waited for");
    // With the old root the certificate between goes.
    let answer = somebody.ask(&traffic.ca).await;
    assert_eq!(answer.chain.certificates().len(), 1);
    verifies(&answer, &new);
    traffic.end().await;
}
