use std::time::Duration;

use proptest::prelude::*;
use time::macros::datetime;

use super::*;
use crate::attest::ApiPod;
use crate::attest::ClaimedPod;
use crate::issuance::Profile;
use crate::signer::SignError;

const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);

fn profile() -> PodProfile {
    PodProfile::new(Profile::new(Duration::from_secs(60), HOUR, 24 * HOUR).unwrap()).unwrap()
}

fn request() -> PodRequest {
    PodRequest {
        name: "req-1".to_owned(),
        uid: "r1".to_owned(),
        version: "1".to_owned(),
        created: NOW,
        pod: ClaimedPod {
            namespace: "shop".to_owned(),
            name: "web-0".to_owned(),
            uid: "u1".to_owned(),
            service_account: "web".to_owned(),
            node: "n1".to_owned(),
        },
        stub: vec![1],
        max_expiration: 2 * HOUR,
        annotation_keys: Vec::new(),
    }
}

fn live(uid: &str, account: &str, node: &str, is_terminating: bool) -> LivePod {
    let deleted = is_terminating.then_some("2030-01-01T00:00:00Z");
    let pod = serde_json::json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": uid, "deletionTimestamp": deleted},
        "spec": {"serviceAccountName": account, "nodeName": node},
    });
    serde_json::from_value::<ApiPod>(pod).unwrap().into()
}

fn good() -> LivePod {
    live("u1", "web", "n1", false)
}

fn ask(request: &PodRequest, look: Look<'_>) -> Result<Issue, No> {
    let profile = profile();
    let terms = Terms { profile: &profile, issuer_valid: (NOW - HOUR, NOW + 1000 * HOUR), now: NOW };
    decide(request, look, &terms)
}

fn denied(result: Result<Issue, No>) -> Denial {
    match result {
        Err(No::Deny(denial)) => denial,
        other => panic!("it is not denied: {other:?}"),
    }
}

#[test]
fn a_request_that_the_live_pod_bears_out_is_issued_to_its_account() {
    for look in [Look::Watched(Some(&good())), Look::Fresh(Some(&good()))] {
        let issue = ask(&request(), look).unwrap();
        assert_eq!((issue.caller.namespace(), issue.caller.service_account()), ("shop", "web"));
        assert_eq!(issue.seconds, 7200 - 60);
    }
}

#[test]
fn what_the_watch_shows_never_denies_but_asks_for_a_fresh_look() {
    let others = [
        None,
        Some(live("u2", "web", "n1", false)),
        Some(live("u1", "other", "n1", false)),
        Some(live("u1", "web", "n2", false)),
        Some(live("u1", "web", "n1", true)),
    ];
    for other in others {
        let looked = ask(&request(), Look::Watched(other.as_ref()));
        assert!(matches!(looked, Err(No::LookAfresh)), "{other:?}: {looked:?}");
    }
}

#[test]
fn a_fresh_look_denies_a_pod_that_is_another_and_lets_an_absent_one_wait() {
    for (reason, label, other) in [
        ("PodMismatch", "pod_uid", live("u2", "web", "n1", false)),
        ("PodMismatch", "pod_service_account", live("u1", "other", "n1", false)),
        ("PodMismatch", "pod_node", live("u1", "web", "n2", false)),
        ("PodMismatch", "pod_node", live("u1", "web", "", false)),
    ] {
        let denial = denied(ask(&request(), Look::Fresh(Some(&other))));
        assert_eq!((denial.reason, denial.label), (reason, label));
    }
    // What may still pass is not denied: that would be final.
    let ends = ask(&request(), Look::Fresh(Some(&live("u1", "web", "n1", true))));
    assert!(matches!(ends, Err(No::Wait(Hindrance::PodEnds(_)))), "{ends:?}");
    let absent = ask(&request(), Look::Fresh(None));
    assert!(matches!(absent, Err(No::Wait(Hindrance::PodAbsent(_)))), "{absent:?}");
}

#[test]
fn annotations_are_denied_and_an_old_kubelet_waits_without_a_look_at_the_pod() {
    let keys = vec!["example.org/a".to_owned(), "example.org/b".to_owned()];
    let annotated = PodRequest { annotation_keys: keys, ..request() };
    let denial = denied(ask(&annotated, Look::Watched(None)));
    assert_eq!(denial.reason, "InvalidUnverifiedUserAnnotations");
    assert!(denial.message.contains("`example.org/a`, `example.org/b`"), "{}", denial.message);
    let old = PodRequest { stub: Vec::new(), ..request() };
    let waits = ask(&old, Look::Watched(None));
    assert!(matches!(waits, Err(No::Wait(Hindrance::OldKubelet(_)))), "{waits:?}");
}

#[test]
fn an_issuer_near_its_end_lets_even_a_good_request_wait() {
    let profile = profile();
    let terms = Terms { profile: &profile, issuer_valid: (NOW - HOUR, NOW + HOUR / 2), now: NOW };
    let waits = decide(&request(), Look::Watched(Some(&good())), &terms);
    assert!(matches!(waits, Err(No::Wait(Hindrance::IssuerEnds(_)))), "{waits:?}");
}

#[test]
fn a_refusal_is_a_denial_only_where_the_same_request_will_never_do() {
    use crate::x509::der::Malformed;
    let invalid = || "a//b".parse::<crate::identity::SpiffeId>().unwrap_err();
    for (expected, refused) in [
        ("UnsupportedKeyType", Refused::Csr(InvalidCsr::Algorithm)),
        ("InvalidStubRequest", Refused::Csr(InvalidCsr::Signature)),
        ("InvalidStubRequest", Refused::Csr(InvalidCsr::WantsToBeACa)),
        ("InvalidStubRequest", Refused::Csr(InvalidCsr::Malformed)),
        ("InvalidStubRequest", Refused::Prepare(NotPrepared::Key(Malformed))),
        ("NoIdentity", Refused::Grant(NotGranted::Identity(invalid()))),
        ("issuer_expired", Refused::Prepare(NotPrepared::IssuerExpired(NOW))),
        ("issuer_not_yet_valid", Refused::Prepare(NotPrepared::IssuerNotYetValid(NOW))),
        ("signer", Refused::Sign(SignError("gone".to_owned()))),
        ("defect", Refused::Prepare(NotPrepared::Lint("broken"))),
        ("defect", Refused::Grant(NotGranted::ForAnother)),
    ] {
        let found = match refusal(&refused) {
            No::Deny(denial) => denial.reason,
            No::Wait(hindrance) => hindrance.reason(),
            No::LookAfresh => "look afresh",
        };
        assert_eq!(found, expected, "{refused}");
    }
}

#[test]
fn a_key_that_is_not_ours_is_denied_with_those_that_are_in_the_kubelet_s_words() {
    let No::Deny(denial) = refusal(&Refused::Csr(InvalidCsr::Algorithm)) else { panic!("it is denied") };
    for word in ["ECDSAP256", "ECDSAP384", "ED25519", "RSA3072", "RSA4096", "keyType"] {
        assert!(denial.message.contains(word), "{}", denial.message);
    }
    assert!(!denial.message.contains("521"), "{}", denial.message);
}

proptest! {
    #[test]
    fn a_denial_s_message_is_bounded_and_of_one_line_whatever_the_keys(
        keys in proptest::collection::vec(any::<String>(), 1..=4), times in 1_usize..1000,
    ) {
        let keys = keys.into_iter().map(|key| key.repeat(times).chars().take(20_000).collect()).collect();
        let denial = denied(ask(&PodRequest { annotation_keys: keys, ..request() }, Look::Watched(None)));
        prop_assert!(denial.message.chars().count() <= MAX_MESSAGE);
        prop_assert!(!denial.message.chars().any(char::is_control));
        prop_assert!(denial.message.ends_with("volume source"), "{}", denial.message);
    }
}
