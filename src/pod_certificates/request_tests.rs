use serde_json::Value;
use serde_json::json;
use time::macros::datetime;

use super::*;

fn object() -> Value {
    json!({
        "metadata": {
            "name": "req-1", "namespace": "shop", "uid": "r1", "resourceVersion": "7",
            "creationTimestamp": "2030-01-01T00:00:00Z",
        },
        "spec": {
            "signerName": "example.org/workload", "podName": "web-0", "podUID": "u1", "serviceAccountName": "web",
            "serviceAccountUID": "a1", "nodeName": "n1", "nodeUID": "m1", "maxExpirationSeconds": 7200,
            "stubPKCS10Request": "AQID",
        },
    })
}

fn read(object: &Value) -> Reading {
    let object = serde_json::from_value(object.clone()).unwrap();
    PodRequest::read(object, "example.org/workload")
}

#[test]
fn a_request_of_ours_is_read() {
    let Reading::Pending(request) = read(&object()) else { panic!("it is to be answered") };
    assert_eq!(request.full_name(), "shop/req-1");
    assert_eq!((request.uid.as_str(), request.version.as_str()), ("r1", "7"));
    assert_eq!(request.created, datetime!(2030-01-01 0:00 UTC));
    assert_eq!(request.max_expiration, Duration::from_secs(7200));
    assert_eq!(request.stub, [1, 2, 3]);
    let pod = ClaimedPod {
        namespace: "shop".to_owned(),
        name: "web-0".to_owned(),
        uid: "u1".to_owned(),
        service_account: "web".to_owned(),
        node: "n1".to_owned(),
    };
    assert_eq!(request.pod, pod);
}

#[test]
fn what_has_any_condition_or_is_being_deleted_is_settled() {
    for kind in ["Issued", "Denied", "Failed"] {
        let mut settled = object();
        let at = "2030-01-01T00:00:00Z";
        settled["status"] = json!({"conditions": [
            {"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": at},
        ]});
        assert_eq!(read(&settled), Reading::Settled, "{kind}");
    }
    let mut deleted = object();
    deleted["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    assert_eq!(read(&deleted), Reading::Settled);
    let mut untouched = object();
    untouched["status"] = json!({"conditions": []});
    assert!(matches!(read(&untouched), Reading::Pending(_)));
}

#[test]
fn another_signer_s_request_is_not_ours() {
    for name in ["example.org/other", "example.org/workload2", "example.org", ""] {
        let mut other = object();
        other["spec"]["signerName"] = name.into();
        assert_eq!(read(&other), Reading::NotOurs, "{name}");
    }
}

#[test]
fn what_no_object_lacks_is_named_when_it_is_missing() {
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        let mut without = object();
        without["metadata"].as_object_mut().unwrap().remove(field);
        assert!(matches!(read(&without), Reading::Malformed(what) if what.contains(field)), "{field}");
    }
    for seconds in [i32::MIN, 0, 3599, 7_862_401, i32::MAX] {
        let mut odd = object();
        odd["spec"]["maxExpirationSeconds"] = seconds.into();
        assert!(matches!(read(&odd), Reading::Malformed(_)), "{seconds}");
    }
}

#[test]
fn a_life_that_is_not_asked_for_is_the_api_server_s_default() {
    let mut silent = object();
    silent["spec"].as_object_mut().unwrap().remove("maxExpirationSeconds");
    let Reading::Pending(request) = read(&silent) else { panic!("it is to be answered") };
    assert_eq!(request.max_expiration, Duration::from_secs(86_400));
}

#[test]
fn of_many_annotations_only_the_first_keys_are_kept() {
    let mut noisy = object();
    let many: serde_json::Map<_, _> =
        (0..1000).map(|number| (format!("example.org/k{number:04}"), json!("v"))).collect();
    noisy["spec"]["unverifiedUserAnnotations"] = many.into();
    let Reading::Pending(request) = read(&noisy) else { panic!("it is to be answered") };
    assert_eq!(request.annotation_keys.len(), KEYS);
    assert_eq!(request.annotation_keys[0], "example.org/k0000");
}
