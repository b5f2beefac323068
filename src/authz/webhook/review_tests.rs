use super::*;

fn review(operation: &str, object: &str) -> String {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u-1","operation":"{operation}","kind":{{"group":"security.istio.io","version":"v1","kind":"AuthorizationPolicy"}},"namespace":"shop","name":"web","object":{object},"oldObject":null}}}}"#
    )
}

fn policy(blocks: &str) -> String {
    format!(
        r#"{{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{{"name":"web","namespace":"shop"}},"spec":{{"rules":[{{"from":[{{"source":{{"ipBlocks":["{blocks}"]}}}}]}}]}}}}"#
    )
}

#[test]
fn an_answer_repeats_the_question_s_name_and_says_yes_or_no() {
    let yes = answer(review("CREATE", &policy("10.0.0.0/8")).as_bytes()).unwrap();
    assert_eq!(
        yes.to_json(),
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": { "uid": "u-1", "allowed": true },
        })
    );
    assert_eq!((yes.outcome(), yes.question.kind.kind.as_str()), ("granted", "AuthorizationPolicy"));
    let no = answer(review("CREATE", &policy("10.0.0.0/33")).as_bytes()).unwrap();
    let response = &no.to_json()["response"];
    assert_eq!((no.outcome(), &response["allowed"]), ("refused", &json!(false)));
    assert_eq!(response["status"]["code"], 422);
    assert!(response["status"]["message"].as_str().unwrap().contains("ipBlocks[0]"), "{response}");
}

#[test]
fn what_is_deleted_is_not_looked_at() {
    let deleted = answer(review("DELETE", "null").as_bytes()).unwrap();
    assert_eq!(deleted.outcome(), "granted");
}

#[test]
fn an_object_too_deep_to_be_read_is_refused_and_does_not_silence_us() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let refused = answer(review("CREATE", &deep).as_bytes()).unwrap();
    assert_eq!(refused.outcome(), "unreadable");
    assert_eq!(refused.to_json()["response"]["allowed"], false);
    let none = answer(review("CREATE", "null").as_bytes()).unwrap();
    assert_eq!(none.outcome(), "unreadable");
}

#[test]
fn what_is_no_question_is_told_apart() {
    for (body, said) in [
        ("", "is no AdmissionReview"),
        ("{}", "the body is of ``"),
        (r#"{"apiVersion":"admission.k8s.io/v1beta1"}"#, "`admission.k8s.io/v1beta1`"),
        (r#"{"apiVersion":"admission.k8s.io/v1"}"#, "has no request"),
        (r#"{"apiVersion":"admission.k8s.io/v1","request":{}}"#, "is no AdmissionReview"),
    ] {
        let refused = answer(body.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}
