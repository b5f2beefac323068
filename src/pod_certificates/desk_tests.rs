use serde_json::json;

use super::*;

const NONE: Duration = Duration::ZERO;

fn desk() -> Desk {
    let mut desk = Desk::new("example.org/workload".to_owned());
    desk.pods_begin();
    desk.pods_complete();
    desk
}

fn object(uid: &str, version: &str, pod: &str) -> PodCertificateRequest {
    let object = json!({
        "metadata": {
            "name": format!("req-{uid}"), "namespace": "shop", "uid": uid, "resourceVersion": version,
            "creationTimestamp": "2030-01-01T00:00:00Z",
        },
        "spec": {
            "signerName": "example.org/workload", "podName": pod, "podUID": "u1", "serviceAccountName": "web",
            "serviceAccountUID": "a1", "nodeName": "n1", "nodeUID": "m1", "stubPKCS10Request": "AQID",
        },
    });
    serde_json::from_value(object).unwrap()
}

fn settled(uid: &str) -> PodCertificateRequest {
    let mut object = serde_json::to_value(object(uid, "9", "web-0")).unwrap();
    let at = "2030-01-01T00:00:00Z";
    object["status"] = json!({"conditions": [
        {"type": "Issued", "status": "True", "reason": "R", "message": "", "lastTransitionTime": at},
    ]});
    serde_json::from_value(object).unwrap()
}

fn pod(name: &str) -> ApiPod {
    let pod = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": "u1"},
        "spec": {"serviceAccountName": "web", "nodeName": "n1"},
    });
    serde_json::from_value(pod).unwrap()
}

fn absent() -> Hindrance {
    Hindrance::PodAbsent("shop/web-0".to_owned())
}

#[test]
fn nothing_is_worked_on_before_the_first_list_of_pods_is_complete() {
    let mut desk = Desk::new("example.org/workload".to_owned());
    desk.request_there(object("r1", "1", "web-0"));
    desk.pods_begin();
    desk.pod_there(pod("web-0"));
    assert_eq!((desk.next(NONE, 9), desk.wakes_at(9)), (None, None));
    desk.pods_complete();
    let job = desk.next(NONE, 9).unwrap();
    assert_eq!((job.request.name.as_str(), job.pod), ("req-r1", Some(pod("web-0").into())));
}

#[test]
fn what_is_known_of_pods_counts_only_while_their_watch_gets_on() {
    let mut desk = desk();
    desk.pod_there(pod("web-0"));
    let seen = |desk: &mut Desk, uid: &str| {
        desk.request_there(object(uid, "1", "web-0"));
        desk.next(NONE, 9).map(|job| job.pod.is_some())
    };
    assert_eq!(seen(&mut desk, "r1"), Some(true));
    desk.troubles.watch_failed(Watch::Pods, "it hangs".to_owned());
    assert_eq!(seen(&mut desk, "r2"), Some(false));
    desk.troubles.watch_gets_on(Watch::Pods);
    desk.pods_begin();
    assert_eq!(seen(&mut desk, "r3"), Some(false));
    desk.pod_there(pod("web-0"));
    desk.pods_complete();
    assert_eq!(seen(&mut desk, "r4"), Some(true));
}

#[test]
fn an_answered_request_is_forgotten_by_whoever_answered_it() {
    let mut desk = desk();
    desk.request_there(object("r1", "1", "web-0"));
    desk.request_there(object("r2", "1", "web-0"));
    let job = desk.next(NONE, 9).unwrap();
    desk.finished(&job, NONE);
    desk.request_there(settled("r2"));
    assert_eq!((desk.next(NONE, 9), desk.standing().pending), (None, 0));
}

#[test]
fn a_list_that_shows_nothing_new_does_not_end_a_pause_and_what_it_lacks_is_gone() {
    let mut desk = desk();
    desk.request_there(object("r1", "1", "web-0"));
    desk.request_there(object("r2", "1", "web-0"));
    while let Some(job) = desk.next(NONE, 9) {
        desk.hindered(&job, &Hindrance::Signer("no key".to_owned()), NONE, 1.0);
    }
    desk.requests_begin();
    desk.request_there(object("r1", "1", "web-0"));
    assert_eq!(desk.next(NONE, 9), None);
    desk.requests_complete();
    assert_eq!(desk.standing().pending, 1);
    desk.request_there(object("r1", "2", "web-0"));
    assert_eq!(desk.next(NONE, 9).map(|job| job.request.version.clone()).as_deref(), Some("2"));
}

#[test]
fn a_request_for_an_absent_pod_wakes_when_that_pod_comes() {
    let mut desk = desk();
    desk.request_there(object("r1", "1", "web-0"));
    let job = desk.next(NONE, 9).unwrap();
    assert!(!desk.hindered(&job, &absent(), NONE, 1.0));
    desk.pod_there(pod("web-1"));
    assert_eq!((desk.next(NONE, 9), desk.wakes_at(9)), (None, None));
    desk.pod_there(pod("web-0"));
    assert!(desk.next(NONE, 9).is_some_and(|job| job.pod.is_some()));
}

#[test]
fn a_pod_that_came_while_it_was_asked_for_is_not_missed() {
    let mut desk = desk();
    desk.request_there(object("r1", "1", "web-0"));
    let job = desk.next(NONE, 9).unwrap();
    desk.pod_there(pod("web-0"));
    desk.hindered(&job, &absent(), NONE, 1.0);
    let at = desk.wakes_at(9).expect("it is tried again");
    assert!(desk.next(at, 9).is_some_and(|job| job.pod.is_some()));
}

#[test]
fn a_request_that_is_gone_leaves_nothing_behind() {
    let mut desk = desk();
    desk.request_there(object("r1", "1", "web-0"));
    desk.request_there(object("r2", "1", "web-1"));
    let (one, other) = (desk.next(NONE, 9).unwrap(), desk.next(NONE, 9).unwrap());
    desk.hindered(&one, &absent(), NONE, 1.0);
    assert!(desk.hindered(&other, &Hindrance::Signer("no key".to_owned()), NONE, 1.0));
    assert_eq!(desk.standing().trouble.as_deref(), Some("signing failed: no key"));
    desk.request_gone("r1");
    desk.request_gone("r2");
    assert_eq!(desk.standing(), Standing::default());
    assert!(desk.waiting_for.is_empty());
    // One that goes while it is worked on brings no trouble back.
    desk.request_there(object("r3", "1", "web-0"));
    let job = desk.next(NONE, 9).unwrap();
    desk.request_gone("r3");
    assert!(!desk.hindered(&job, &Hindrance::Signer("no key".to_owned()), NONE, 1.0));
    assert_eq!(desk.standing(), Standing::default());
}

#[test]
fn another_issuer_wakes_all_that_waits() {
    let mut desk = desk();
    for uid in ["r1", "r2"] {
        desk.request_there(object(uid, "1", "web-0"));
        let job = desk.next(NONE, 9).unwrap();
        desk.hindered(&job, &Hindrance::Defect("odd".to_owned()), NONE, 1.0);
    }
    assert_eq!(desk.next(NONE, 9), None);
    desk.issuer_changed();
    assert!(desk.next(NONE, 9).is_some() && desk.next(NONE, 9).is_some());
}
