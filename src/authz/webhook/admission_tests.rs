use serde_json::json;

use super::*;

fn policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "web", "namespace": "shop" }, "spec": spec,
    })
}

fn bad() -> Value {
    policy(&json!({ "rules": [{ "from": [{ "source": { "ipBlocks": ["10.0.0.0/33"] } }] }] }))
}

#[test]
fn what_can_be_read_is_let_in_without_a_word() {
    let good = policy(&json!({ "rules": [{ "to": [{ "operation": { "methods": ["GET"] } }] }] }));
    assert_eq!(admit(&good, None), Admission::granted());
}

#[test]
fn what_cannot_be_read_is_refused_with_the_path_of_the_field() {
    let refused = admit(&bad(), None).refused.unwrap();
    assert!(refused.contains("spec.rules[0].from[0].source.ipBlocks[0]"), "{refused}");
    assert!(refused.contains("`10.0.0.0/33`"), "{refused}");
}

#[test]
fn an_object_that_was_bad_before_is_let_in_as_long_as_it_means_the_same_or_when_it_goes() {
    let mut labelled = bad();
    labelled["metadata"]["labels"] = json!({ "team": "shop" });
    labelled["metadata"]["annotations"] = json!({ "kubectl.kubernetes.io/last-applied-configuration": "{}" });
    let let_in = admit(&labelled, Some(&bad()));
    assert_eq!(let_in.refused, None);
    assert!(let_in.warnings[0].contains("ipBlocks[0]"), "{:?}", let_in.warnings);
    let other = policy(&json!({ "rules": [{ "from": [{ "source": { "ipBlocks": ["10.0.0.0/8"] } }] }] }));
    assert!(admit(&bad(), Some(&other)).refused.is_some());
    let mut goes = bad();
    goes["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    assert_eq!(admit(&goes, Some(&other)).refused, None);
}

#[test]
fn a_name_that_is_yet_to_be_made_up_is_no_fault() {
    let mut object = policy(&json!({}));
    object["metadata"] = json!({ "generateName": "web-", "namespace": "shop" });
    assert_eq!(admit(&object, None).refused, None);
    object["metadata"] = json!({ "namespace": "shop" });
    assert!(admit(&object, None).refused.is_some());
}

#[test]
fn what_is_no_policy_is_refused() {
    assert!(admit(&json!({ "apiVersion": "v1", "kind": "Pod" }), None).refused.is_some());
    assert!(admit(&json!(null), None).refused.is_some());
}

#[test]
fn a_refusal_and_its_warnings_are_bounded_however_much_is_wrong() {
    let blocks: Vec<_> = (0..400).map(|at| format!("bad-{at}")).collect();
    let object = policy(&json!({ "rules": [{ "from": [{ "source": { "ipBlocks": blocks } }] }] }));
    let refused = admit(&object, None).refused.unwrap();
    assert!(refused.chars().count() <= MAX_MESSAGE, "{}", refused.len());
    assert!(refused.lines().count() <= MAX_FAULTS + 1, "{refused}");
    let let_in = admit(&object, Some(&object));
    assert!(let_in.warnings.len() <= MAX_WARNINGS, "{:?}", let_in.warnings);
    assert!(let_in.warnings.iter().all(|one| one.chars().count() <= MAX_WARNING));
}
