//! Pure: what does the API server's answer to a TokenReview mean?
//!
//! The answer's audiences are checked again here: an API server that knows nothing of audiences leaves them
//! out, and would let any token of the cluster pass for ours.

use jsonwebtoken::dangerous::insecure_decode_claims;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::authentication::v1::UserInfo;
use time::OffsetDateTime;

use crate::attest::Attested;
use crate::attest::Bound;
use crate::attest::NotAttested;
use crate::attest::claims::Claims;
use crate::attest::claims::service_account;

/// The group of all service accounts.
const GROUP: &str = "system:serviceaccounts";
const EXTRA: &str = "authentication.kubernetes.io/";

/// The caller that `status` proves for one of `audiences`. What `token` says of itself serves only to give a
/// refusal its best reason.
pub(super) fn of(
    status: TokenReviewStatus,
    audiences: &[String],
    token: &str,
    now: OffsetDateTime,
) -> Result<Attested, NotAttested> {
    if status.authenticated != Some(true) {
        return Err(refusal(status.error.as_deref().unwrap_or(""), token, now));
    }
    let answered = status.audiences.unwrap_or_default();
    if !answered.iter().any(|audience| audiences.contains(audience)) {
        return Err(NotAttested::WrongAudience(format!(
            "the API server confirmed {answered:?}, and we ask for {audiences:?}"
        )));
    }
    let user = status.user.unwrap_or_default();
    let username = user.username.as_deref().unwrap_or("");
    let (namespace, name) = service_account(username)?;
    // Other authenticators of the API server may know a user who only looks like one.
    if !user.groups.as_ref().is_some_and(|groups| groups.iter().any(|group| group == GROUP)) {
        return Err(NotAttested::NotAServiceAccount(username.to_owned()));
    }
    Ok(Attested {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
        pod: bound(&user, "pod"),
        node: bound(&user, "node"),
        credential_id: extra(&user, "credential-id").map(str::to_owned),
    })
}

fn bound(user: &UserInfo, kind: &str) -> Option<Bound> {
    Some(Bound {
        name: extra(user, &format!("{kind}-name"))?.to_owned(),
        uid: extra(user, &format!("{kind}-uid"))?.to_owned(),
    })
}

fn extra<'a>(user: &'a UserInfo, key: &str) -> Option<&'a str> {
    let values = user.extra.as_ref()?.get(&format!("{EXTRA}{key}"))?;
    values.first().map(String::as_str)
}

/// Whether this could be a token at all, so that the API server need not be asked about noise.
pub(super) fn is_token(text: &str) -> bool {
    insecure_decode_claims::<Claims>(text).is_ok()
}

/// The reason behind a refusal: the API server's words where it has some, else what the token says of itself.
fn refusal(error: &str, token: &str, now: OffsetDateTime) -> NotAttested {
    let Ok(claims) = insecure_decode_claims::<Claims>(token) else {
        return NotAttested::Malformed("it is not a JSON web token".to_owned());
    };
    if error.contains("token audiences") || error.contains("target audiences") {
        return NotAttested::WrongAudience(format!("it is for {:?}", claims.aud.as_slice()));
    }
    if error.contains("token has expired") {
        return NotAttested::Expired;
    }
    if error.contains("serviceaccounts \"") || error.contains("service account UID") {
        return NotAttested::ServiceAccountGone;
    }
    if error.contains("pods \"") || error.contains("pod UID") || error.contains("token has been invalidated")
    {
        return match claims.kubernetes {
            Some(kubernetes) if kubernetes.pod.is_some() => NotAttested::PodGone,
            _ => NotAttested::ServiceAccountGone,
        };
    }
    match claims.exp {
        Some(exp) if exp <= now.unix_timestamp() => NotAttested::Expired,
        _ if claims.sub.is_empty() => NotAttested::Malformed("it has no subject".to_owned()),
        _ if error.is_empty() || error.contains("invalid bearer token") => NotAttested::UnknownSigner,
        _ => NotAttested::Refused(error.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

    fn token(pod: bool) -> String {
        let bound = if pod { json!({"pod": {"name": "p", "uid": "u"}}) } else { json!({}) };
        let claims = json!({
            "sub": "system:serviceaccount:shop:web", "aud": ["istio-ca"], "kubernetes.io": bound,
            "exp": NOW.unix_timestamp() + 60,
        });
        format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn authenticated(username: &str, audiences: Option<Vec<String>>) -> TokenReviewStatus {
        let extra = |value: &str| vec![value.to_owned()];
        TokenReviewStatus {
            authenticated: Some(true),
            audiences,
            error: None,
            user: Some(UserInfo {
                username: Some(username.to_owned()),
                groups: Some(vec![GROUP.to_owned()]),
                extra: Some(BTreeMap::from([
                    (format!("{EXTRA}pod-name"), extra("p")),
                    (format!("{EXTRA}pod-uid"), extra("u")),
                    (format!("{EXTRA}credential-id"), extra("JTI=1")),
                ])),
                ..UserInfo::default()
            }),
        }
    }

    fn verdict(status: TokenReviewStatus) -> Result<Attested, NotAttested> {
        of(status, &["istio-ca".to_owned()], &token(true), NOW)
    }

    #[test]
    fn a_confirmed_service_account_is_attested_with_its_pod() {
        let audiences = Some(vec!["istio-ca".to_owned()]);
        let caller = verdict(authenticated("system:serviceaccount:shop:web", audiences)).unwrap();
        assert_eq!((caller.namespace(), caller.service_account()), ("shop", "web"));
        assert_eq!(caller.pod().map(|pod| pod.name.as_str()), Some("p"));
        assert_eq!(caller.node(), None);
        assert_eq!(caller.credential_id(), Some("JTI=1"));
    }

    #[test]
    fn an_answer_without_our_audience_proves_nothing() {
        for audiences in [None, Some(vec![]), Some(vec!["other".to_owned()])] {
            let refused = verdict(authenticated("system:serviceaccount:shop:web", audiences)).unwrap_err();
            assert_eq!(refused.reason(), "wrong_audience");
        }
    }

    #[test]
    fn a_user_who_only_has_the_name_of_a_service_account_gets_nothing() {
        let audiences = Some(vec!["istio-ca".to_owned()]);
        let mut status = authenticated("system:serviceaccount:shop:web", audiences);
        status.user.as_mut().unwrap().groups = Some(vec!["system:authenticated".to_owned()]);
        assert_eq!(verdict(status).unwrap_err().reason(), "not_a_service_account");
    }

    #[test]
    fn a_user_that_is_no_service_account_gets_nothing() {
        let audiences = Some(vec!["istio-ca".to_owned()]);
        let refused = verdict(authenticated("system:node:n1", audiences)).unwrap_err();
        assert_eq!(refused.reason(), "not_a_service_account");
    }

    /// The texts are those of kube-apiserver 1.37.
    #[test]
    fn each_refusal_of_the_api_server_has_its_own_reason() {
        for (reason, pod, error) in [
            ("pod_gone", true, "[invalid bearer token, service account token has been invalidated]"),
            (
                "pod_gone",
                true,
                "[invalid bearer token, pod UID (a) does not match service account pod ref claim (b)]",
            ),
            ("service_account_gone", true, "[invalid bearer token, serviceaccounts \"web\" not found]"),
            (
                "service_account_gone",
                true,
                "[invalid bearer token, service account UID (a) does not match claim (b)]",
            ),
            (
                "service_account_gone",
                false,
                "[invalid bearer token, service account token has been invalidated]",
            ),
            ("token_expired", true, "[invalid bearer token, service account token has expired]"),
            (
                "wrong_audience",
                true,
                "[invalid bearer token, token audiences [\"a\"] is invalid for the target audiences [\"b\"]]",
            ),
            ("unknown_signer", true, "[invalid bearer token, invalid signature, no keys found]"),
            (
                "unknown_signer",
                true,
                "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]",
            ),
            ("unknown_signer", true, ""),
            ("token_refused", true, "a webhook had another opinion"),
        ] {
            for authenticated in [None, Some(false)] {
                let status = TokenReviewStatus {
                    authenticated,
                    error: Some(error.to_owned()),
                    ..TokenReviewStatus::default()
                };
                let refused = of(status, &["istio-ca".to_owned()], &token(pod), NOW).unwrap_err();
                assert_eq!(refused.reason(), reason, "{error}");
            }
        }
        let garbage = of(TokenReviewStatus::default(), &[], "garbage", NOW).unwrap_err();
        assert_eq!(garbage.reason(), "token_malformed");
    }
}
