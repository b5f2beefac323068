use std::sync::Arc;

use serde_json::Map;
use serde_json::json;
use time::OffsetDateTime;

use super::*;
use crate::authz::decide::Effect;
use crate::authz::enforced::Enforced;
use crate::authz::model::Action;
use crate::authz::model::Conjunction;
use crate::authz::model::Kind;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::policy_set::PolicySet;
use crate::authz::request::Http;
use crate::authz::request::Request;
use crate::authz::ruling::Doubts;
use crate::authz::ruling::rule_on;
use crate::authz::tally::Tally;
use crate::authz::tokens::BadToken;
use crate::authz::tokens::Keys;

fn set(policies: Vec<Policy>) -> PolicySet {
    PolicySet::new(policies.into_iter().map(Arc::new).collect())
}

fn everything(name: &str, action: Action, dry_run: bool) -> Policy {
    let always = || vec![Conjunction::default()];
    let rule = Rule { index: 2, from: always(), to: always(), when: Conjunction::default() };
    let name = PolicyName { kind: Kind::AuthorizationPolicy, namespace: "shop".into(), name: name.into() };
    Policy { name, action, dry_run, rules: vec![rule] }
}

fn ruling(policies: Vec<Policy>) -> Ruling {
    let enforced = Arc::new(Enforced::new(set(policies), Vec::new(), &Tally::default()));
    let request = Request { http: Some(Http::default()), ..Request::default() };
    rule_on(&enforced, &request, Doubts::default(), &[], OffsetDateTime::UNIX_EPOCH)
}

fn denied_part(response: &CheckResponse) -> (i32, &str, String) {
    let Some(HttpResponse::DeniedResponse(denied)) = &response.http_response else { panic!("{response:?}") };
    let headers: Vec<_> = denied.headers.iter().map(pair).collect();
    (denied.status.as_ref().unwrap().code, &denied.body, headers.join(" "))
}

fn ok_part(response: &CheckResponse) -> &OkHttpResponse {
    let Some(HttpResponse::OkResponse(ok)) = &response.http_response else { panic!("{response:?}") };
    ok
}

fn pair(option: &HeaderValueOption) -> String {
    let header = option.header.as_ref().unwrap();
    format!("{}={}", header.key, header.value)
}

#[test]
fn no_answer_is_ever_empty() {
    for (ruling, code) in [
        (ruling(vec![]), 0),
        (ruling(vec![everything("no", Action::Deny, false)]), 7),
        (Ruling::denied(Reason::NotReady), 7),
        (Ruling::denied(Reason::Malformed), 7),
        (Ruling::denied(Reason::UnknownAsker), 7),
        (Ruling::denied(Reason::Token(BadToken::Expired)), 16),
    ] {
        let response = answer(&ruling, Wording::default());
        assert_eq!(response.status.unwrap().code, code);
        assert!(response.http_response.is_some());
    }
}

#[test]
fn a_denial_says_why_in_a_word_and_names_no_policy_unless_told_to() {
    let denied = ruling(vec![everything("secret-plans", Action::Deny, false)]);
    let quiet = answer(&denied, Wording::default());
    let (status, body, headers) = denied_part(&quiet);
    assert_eq!((status, body), (403, "access denied: rule\n"));
    assert_eq!(headers, "x-authz-decision=denied x-authz-reason=rule");
    let open = answer(&denied, Wording { names_policies: true });
    assert_eq!(denied_part(&open).1, "access denied: rule (shop/secret-plans, rule 2)\n");
    let token = answer(&Ruling::denied(Reason::Token(BadToken::Expired)), Wording::default());
    let (status, body, headers) = denied_part(&token);
    assert_eq!((status, body), (401, "access denied: token_expired\n"));
    assert!(headers.contains("www-authenticate=Bearer"), "{headers}");
}

#[test]
fn access_logs_are_told_which_rule_decides_and_what_a_dry_run_says() {
    let ruling = ruling(vec![
        everything("no", Action::Deny, false),
        everything("trial", Action::Deny, true),
        everything("note", Action::Audit, false),
        Policy { rules: vec![], ..everything("trial-allow", Action::Allow, true) },
    ]);
    let metadata = answer(&ruling, Wording::default()).dynamic_metadata.unwrap();
    let mut said: Vec<_> =
        metadata.fields.iter().map(|(key, value)| (key.as_str(), value.kind.clone().unwrap())).collect();
    said.sort_by_key(|(key, _)| *key);
    let text = |text: &str| ProtoKind::StringValue(text.to_owned());
    assert_eq!(
        said,
        [
            ("audit", text("shop/note, rule 2")),
            ("decision", text("denied")),
            ("dry_run_allow", text("none")),
            ("dry_run_deny", text("shop/trial, rule 2")),
            ("policy", text("shop/no")),
            ("reason", text("rule")),
            ("rule", ProtoKind::NumberValue(2.0)),
        ]
    );
}

fn with_token(claims: serde_json::Value, issuer: Issuer, places: Vec<Place>) -> CheckResponse {
    let serde_json::Value::Object(claims) = claims else { panic!("claims are an object") };
    let token = Verified { claims, payload: "cGF5".into(), issuer: 0, places };
    let other = Issuer { payload_header: Some("x-other".into()), ..Issuer::new("other", Keys::None) };
    let enforced = Enforced::new(PolicySet::default(), vec![issuer, other], &Tally::default());
    let ruling = Ruling {
        effect: Effect::Allow,
        token: Some(token),
        enforced: Some(Arc::new(enforced)),
        ..Ruling::denied(Reason::NoAllowingPolicy)
    };
    answer(&ruling, Wording::default())
}

fn shop() -> Issuer {
    let claim = |header: &str, claim: &str| (header.into(), claim.into());
    Issuer {
        payload_header: Some("x-payload".into()),
        claim_headers: vec![
            claim("x-sub", "sub"),
            claim("x-deep", "a.b"),
            claim("x-dotted", "c.d"),
            claim("x-list", "list"),
            claim("x-bad", "bad"),
            claim("x-missing", "missing"),
            claim("x-age", "age"),
        ],
        ..Issuer::new("here", Keys::None)
    }
}

#[test]
fn claims_go_on_in_headers_and_what_a_client_sends_in_their_place_does_not() {
    let claims =
        json!({"sub": "alice", "a": {"b": true}, "c.d": "e", "list": [1], "bad": "a\r\nx: y", "age": 7});
    let response = with_token(claims, shop(), vec![]);
    let ok = ok_part(&response);
    let written: Vec<_> = ok.headers.iter().map(pair).collect();
    assert_eq!(
        written,
        [
            "x-authz-decision=allowed",
            "x-authz-reason=no_allowing_policy",
            "x-payload=cGF5",
            "x-sub=alice",
            "x-deep=true",
            "x-dotted=e",
            "x-age=7",
        ]
    );
    assert!(ok.headers.iter().all(|one| one.append_action == 2), "they take the place of what was sent");
    assert_eq!(ok.headers_to_remove, ["x-bad", "x-list", "x-missing", "x-other"]);
    let without = Ruling {
        effect: Effect::Allow,
        enforced: Some(Arc::new(Enforced::new(PolicySet::default(), vec![shop()], &Tally::default()))),
        ..Ruling::denied(Reason::NoAllowingPolicy)
    };
    let response = answer(&without, Wording::default());
    assert_eq!(ok_part(&response).headers_to_remove.len(), 8);
}

#[test]
fn a_token_goes_on_only_if_it_is_to() {
    let claims = || serde_json::Value::Object(Map::new());
    let places = || [Place::usual().to_vec(), vec![Place::Cookie("c".into())]].concat();
    let response = with_token(claims(), Issuer::new("here", Keys::None), places());
    let ok = ok_part(&response);
    assert_eq!(ok.headers_to_remove, ["authorization", "x-other"]);
    assert_eq!(ok.query_parameters_to_remove, ["access_token"]);
    let response =
        with_token(claims(), Issuer { forward: true, ..Issuer::new("here", Keys::None) }, places());
    let ok = ok_part(&response);
    assert_eq!(ok.headers_to_remove, ["x-other"]);
    assert_eq!(ok.query_parameters_to_remove, [""; 0]);
}
