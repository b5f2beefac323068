use time::macros::datetime;

use super::*;

const EARLY: OffsetDateTime = datetime!(2030-01-01 0:00:00.5 UTC);
const LATE: OffsetDateTime = datetime!(2030-01-02 0:00 UTC);

fn fault(path: &str, severity: Severity) -> Fault {
    Fault {
        path: path.to_owned(),
        severity,
        problem: "`x` is no port".to_owned(),
        effect: "dropped".to_owned(),
    }
}

fn object() -> Value {
    json!({ "apiVersion": "security.istio.io/v1", "metadata": { "resourceVersion": "7", "name": "a" } })
}

/// The object once that status was applied.
fn applied_to(mut object: Value, wanted: &Wanted, now: OffsetDateTime) -> Value {
    let patch = Held::by(&object).patch(&json!({}), "AuthorizationPolicy", wanted, now);
    object["status"] = patch["status"].clone();
    object
}

#[test]
fn a_status_says_what_is_wrong_where_and_what_is_done_about_it() {
    let error = fault("spec.rules[0].to[0].operation.ports[1]", Severity::Error);
    let warning = fault("spec.rules[1]", Severity::Warning);
    for (faults, status, reason, message) in [
        (vec![], "True", "Accepted", "all of it is understood"),
        (vec![warning.clone()], "True", "AcceptedWithWarnings", "spec.rules[1]: `x` is no port; dropped"),
        (
            vec![warning, error],
            "False",
            "Faulty",
            "spec.rules[0].to[0].operation.ports[1]: `x` is no port; dropped",
        ),
    ] {
        let written = applied_to(object(), &Wanted::of(3, &faults, Some(2)), EARLY);
        let condition = &written["status"]["conditions"][0];
        assert_eq!(
            (&condition["type"], &condition["status"], &condition["reason"], &condition["message"]),
            (&json!("Accepted"), &json!(status), &json!(reason), &json!(message))
        );
        assert_eq!(written["status"]["observedGeneration"], 3);
        assert_eq!(written["status"]["conditions"][1]["message"], "it applies to 2 workloads");
        assert_eq!(condition["lastTransitionTime"], "2030-01-01T00:00:00Z");
    }
}

#[test]
fn a_status_that_is_as_wanted_lacks_nothing_and_each_difference_is_seen() {
    let wanted = Wanted::of(3, &[], Some(2));
    assert_eq!(Held::by(&object()).lacks(&wanted), Some(Lack::Much));
    let held = Held::by(&applied_to(object(), &wanted, EARLY));
    assert_eq!(held.lacks(&wanted), None);
    assert_eq!(held.lacks(&Wanted::of(3, &[], None)), None, "what is not known is not missing");
    assert_eq!(held.lacks(&Wanted::of(3, &[], Some(4))), Some(Lack::Count));
    assert_eq!(held.lacks(&Wanted::of(3, &[], Some(0))), Some(Lack::Much));
    assert_eq!(held.lacks(&Wanted::of(4, &[], Some(2))), Some(Lack::Much));
    let warned = [fault("spec", Severity::Warning)];
    assert_eq!(held.lacks(&Wanted::of(3, &warned, Some(2))), Some(Lack::Much));
}

#[test]
fn a_condition_that_stays_as_it_stood_keeps_its_time() {
    let first = applied_to(object(), &Wanted::of(3, &[], Some(2)), EARLY);
    let second = applied_to(first, &Wanted::of(4, &[fault("spec", Severity::Error)], Some(3)), LATE);
    let times = ["/status/conditions/0", "/status/conditions/1"]
        .map(|at| second.pointer(at).unwrap()["lastTransitionTime"].clone());
    assert_eq!(times, ["2030-01-02T00:00:00Z", "2030-01-01T00:00:00Z"]);
}

#[test]
fn what_others_say_stays_and_is_not_made_ours_where_the_api_server_keeps_it_apart() {
    let theirs = json!({ "type": "ZtunnelAccepted", "status": "True" });
    let mut object = object();
    object["status"] = json!({ "conditions": [theirs] });
    let kinds = |object: &Value| {
        let written = applied_to(object.clone(), &Wanted::of(1, &[], None), EARLY);
        let conditions = written["status"]["conditions"].as_array().unwrap().clone();
        conditions.iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    object["metadata"]["managedFields"] = json!([{ "fieldsV1": { "f:status": { "f:conditions": {} } } }]);
    assert_eq!(kinds(&object), ["ZtunnelAccepted", "Accepted"]);
    let apart = json!({ "k:{\"type\":\"ZtunnelAccepted\"}": { ".": {} } });
    object["metadata"]["managedFields"] = json!([{ "fieldsV1": { "f:status": { "f:conditions": apart } } }]);
    assert_eq!(kinds(&object), ["Accepted"]);
}

#[test]
fn a_leader_that_has_not_counted_yet_keeps_the_number_of_the_one_before() {
    let first = applied_to(object(), &Wanted::of(3, &[], Some(2)), EARLY);
    let second = applied_to(first, &Wanted::of(4, &[], None), LATE);
    assert_eq!(second["status"]["conditions"][1]["message"], "it applies to 2 workloads");
    assert_eq!(second["status"]["conditions"][1]["observedGeneration"], 3);
    assert_eq!(second["status"]["conditions"][0]["observedGeneration"], 4);
}

#[test]
fn a_thousand_faults_or_one_that_is_a_book_are_told_within_bounds() {
    let many: Vec<_> = (0..1000).map(|at| fault(&format!("spec.rules[{at}]"), Severity::Error)).collect();
    let all: Vec<_> = many.iter().collect();
    assert!(told(&all).ends_with("\nand 990 more"), "{}", told(&all));
    let book = Fault { problem: "é".repeat(100_000), ..fault("spec", Severity::Error) };
    let text = told(&[&book]);
    assert!(text.len() <= MAX_MESSAGE && text.starts_with("spec: é"), "{}", text.len());
    assert!(told(&[&book, &book]).ends_with("\nand 1 more"));
    assert!(told(&[]).is_empty());
}
