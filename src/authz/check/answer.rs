//! Pure: what is Envoy told?
//!
//! Every answer says in so many words that it is yes or no: an empty one would let the request in.

use serde_json::Value;

use crate::authz::decide::RuleRef;
use crate::authz::ruling::Named;
use crate::authz::ruling::Reason;
use crate::authz::ruling::Ruling;
use crate::authz::tokens::Issuer;
use crate::authz::tokens::Place;
use crate::authz::tokens::Verified;
use crate::proto::envoy::CheckResponse;
use crate::proto::envoy::DeniedHttpResponse;
use crate::proto::envoy::HeaderAppendAction;
use crate::proto::envoy::HeaderValue;
use crate::proto::envoy::HeaderValueOption;
use crate::proto::envoy::HttpResponse;
use crate::proto::envoy::HttpStatus;
use crate::proto::envoy::OkHttpResponse;
use crate::proto::envoy::ProtoKind;
use crate::proto::envoy::ProtoStruct;
use crate::proto::envoy::ProtoValue;
use crate::proto::envoy::Status;

/// The header that says what was decided: to the workload if it is yes, to the client if it is no.
pub const DECISION: &str = "x-authz-decision";
/// The header that says why, in a word.
pub const REASON: &str = "x-authz-reason";

const PERMISSION_DENIED: i32 = 7;
const UNAUTHENTICATED: i32 = 16;
/// The longest claim that goes on in a header, in bytes.
const MAX_CLAIM: usize = 4096;

/// How much clients are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wording {
    /// Whether a client that is denied is told the name of the policy that denies.
    pub names_policies: bool,
}

/// The answer that a ruling is.
pub fn answer(ruling: &Ruling, wording: Wording) -> CheckResponse {
    let (code, http) = match ruling.is_allowed() {
        true => (0, HttpResponse::OkResponse(allowed(ruling))),
        false => {
            let (code, denied) = denied(ruling, wording);
            (code, HttpResponse::DeniedResponse(denied))
        }
    };
    CheckResponse {
        status: Some(Status { code, message: ruling.reason.as_str().to_owned(), details: Vec::new() }),
        dynamic_metadata: Some(metadata(ruling)),
        http_response: Some(http),
    }
}

fn denied(ruling: &Ruling, wording: Wording) -> (i32, DeniedHttpResponse) {
    let reason = ruling.reason.as_str();
    let mut headers = vec![header(DECISION, "denied"), header(REASON, reason)];
    let (code, status) = match ruling.reason {
        Reason::Token(_) => {
            headers.push(header("www-authenticate", r#"Bearer error="invalid_token""#));
            (UNAUTHENTICATED, 401)
        }
        _ => (PERMISSION_DENIED, 403),
    };
    let by = ruling.rule().filter(|_| wording.names_policies).map(|named| format!(" ({})", words(&named)));
    let body = format!("access denied: {reason}{}\n", by.unwrap_or_default());
    (code, DeniedHttpResponse { status: Some(HttpStatus { code: status }), headers, body })
}

/// What goes on to the workload. What a client sends under the names of headers that we write is not among it: it is overwritten, or
/// taken away where there is nothing to write.
fn allowed(ruling: &Ruling) -> OkHttpResponse {
    let mut answer = OkHttpResponse {
        headers: vec![header(DECISION, "allowed"), header(REASON, ruling.reason.as_str())],
        ..OkHttpResponse::default()
    };
    let issuers = ruling.enforced.as_ref().map_or(&[][..], |enforced| enforced.issuers());
    if let Some(token) = &ruling.token
        && let Some(issuer) = issuers.get(token.issuer)
    {
        answer.headers.extend(handed_on(token, issuer));
        if !issuer.forward {
            take_away(&token.places, &mut answer);
        }
    }
    answer.headers_to_remove.extend(issuers.iter().flat_map(Issuer::handed_on).map(str::to_owned));
    answer.headers_to_remove.sort();
    answer.headers_to_remove.dedup();
    // Envoy takes away after it has written.
    let written = |name: &String| {
        answer.headers.iter().any(|one| one.header.as_ref().is_some_and(|one| one.key == *name))
    };
    answer.headers_to_remove.retain(|name| !written(name));
    answer
}

/// The payload and the claims of a token in the headers that its issuer's rule names.
fn handed_on(token: &Verified, issuer: &Issuer) -> Vec<HeaderValueOption> {
    let payload = issuer.payload_header.iter().map(|name| header(name, &token.payload));
    let claims = issuer.claim_headers.iter().filter_map(|(name, claim)| {
        let mut value = token.claims.get(&**claim);
        if value.is_none() {
            let mut path = claim.split('.');
            value = path.next().and_then(|first| token.claims.get(first));
            value = path.fold(value, |value, key| value?.as_object()?.get(key));
        }
        Some(header(name, &text(value?)?))
    });
    payload.chain(claims).collect()
}

/// A claim as a header can hold it. Lists and objects, and what could begin a line of its own, it cannot.
fn text(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (text.len() <= MAX_CLAIM && !text.contains(char::is_control)).then_some(text)
}

/// Has the token taken out of the request. A cookie stays: its header holds others.
fn take_away(places: &[Place], answer: &mut OkHttpResponse) {
    for place in places {
        match place {
            Place::Header { name, .. } => answer.headers_to_remove.push(name.to_string()),
            Place::Parameter(name) => answer.query_parameters_to_remove.push(name.to_string()),
            Place::Cookie(_) => {}
        }
    }
}

fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

/// For access logs, under `envoy.filters.http.ext_authz`: who decided, and what policies in dry run would have.
fn metadata(ruling: &Ruling) -> ProtoStruct {
    let decision = if ruling.is_allowed() { "allowed" } else { "denied" };
    let mut fields = vec![("decision", text_value(decision)), ("reason", text_value(ruling.reason.as_str()))];
    if let Some(named) = ruling.rule() {
        fields.push(("policy", text_value(&named.policy.to_string())));
        let rule = u32::try_from(named.rule).unwrap_or(u32::MAX);
        fields.push(("rule", ProtoValue { kind: Some(ProtoKind::NumberValue(rule.into())) }));
    }
    if let Some(decided) = &ruling.decided {
        let named =
            |rule: RuleRef| text_value(&decided.named(rule).map(|named| words(&named)).unwrap_or_default());
        let dry_run = decided.decision.dry_run;
        fields.extend(decided.decision.audit.map(|rule| ("audit", named(rule))));
        fields.extend(dry_run.deny.map(|rule| ("dry_run_deny", named(rule))));
        fields.extend(
            dry_run.allow.map(|rule| ("dry_run_allow", rule.map_or_else(|| text_value("none"), named))),
        );
    }
    ProtoStruct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

fn text_value(text: &str) -> ProtoValue {
    ProtoValue { kind: Some(ProtoKind::StringValue(text.to_owned())) }
}

fn words(named: &Named<'_>) -> String {
    format!("{}, rule {}", named.policy, named.rule)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
