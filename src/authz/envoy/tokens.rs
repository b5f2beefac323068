//! Pure: how does Envoy verify tokens, before policies ask for their claims?
//!
//! Each issuer is a provider of Envoy's JWT filter. As Istio has it, a request without a token passes and one whose token is not good is
//! refused; where a request has several, the first issuer whose token is good counts. The claims are written down where
//! [`crate::authz::model::Atom::claim`] looks for them; `scope` and `permission`, which have spaces between their parts, as lists.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::authz::envoy::config::Config;
use crate::authz::envoy::filter::Filter;
use crate::authz::envoy::filter::Slot;
use crate::authz::jwt_issuer::JwtIssuer;
use crate::authz::jwt_issuer::Keys;
use crate::authz::jwt_issuer::TokenPlace;
use crate::authz::request::JWT_PAYLOAD;
use crate::proto::envoy::DataSource;
use crate::proto::envoy::Specifier;
use crate::proto::filters::Duration;
use crate::proto::filters::Empty;
use crate::proto::filters::HttpUpstreamType;
use crate::proto::filters::HttpUri;
use crate::proto::filters::JwksSourceSpecifier;
use crate::proto::filters::JwtAuthentication;
use crate::proto::filters::JwtClaimToHeader;
use crate::proto::filters::JwtHeader;
use crate::proto::filters::JwtProvider;
use crate::proto::filters::JwtRequirement;
use crate::proto::filters::JwtRequirementOrList;
use crate::proto::filters::NormalizePayload;
use crate::proto::filters::PathSpecifier;
use crate::proto::filters::RemoteJwks;
use crate::proto::filters::RequirementRule;
use crate::proto::filters::RequirementType;
use crate::proto::filters::RequiresType;
use crate::proto::filters::RouteMatch;

/// A key that nobody holds, where there are none: Envoy refuses an issuer without keys, and no token is good then. It is a point of the
/// curve whose first coordinate is the SHA-256 of `nobody holds this key 0`, so nobody chose it to know its other half.
const NO_KEYS: &str = concat!(
    r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":"nobody","#,
    r#""x":"O_hQaSqqYydFcst4Vozo8EIpgyZ5K6Vmn01S8EUez1c","#,
    r#""y":"MQ7G8gubEFo4mHQ9kQizjvVcw_A3GDkPvTGptyyBc4o"}]}"#
);

/// Where Envoy gets the keys of an issuer whose object does not have them in it.
#[derive(Clone, PartialEq, Eq)]
pub enum Jwks {
    /// They were fetched already.
    Fetched(String),
    /// Envoy fetches them.
    Remote {
        /// From this address.
        address: String,
        /// Through this cluster of Envoy.
        cluster: String,
    },
}

impl std::fmt::Debug for Jwks {
    /// Without the keys: there are such that are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fetched(_) => f.write_str("Fetched(…)"),
            Self::Remote { address, cluster } => {
                f.debug_struct("Remote").field("address", address).field("cluster", cluster).finish()
            }
        }
    }
}

/// The filter that verifies the tokens of these issuers; `None` without issuers. `jwks` has the keys by issuer.
pub fn verifying(issuers: &[JwtIssuer], jwks: &BTreeMap<String, Jwks>) -> Option<Filter> {
    if issuers.is_empty() {
        return None;
    }
    let name = |place: usize| format!("issuer-{place}");
    let providers =
        issuers.iter().enumerate().map(|(place, issuer)| (name(place), provider(issuer, jwks))).collect();
    let is = |requires_type| JwtRequirement { requires_type: Some(requires_type) };
    let mut requirements: Vec<_> =
        (0..issuers.len()).map(|place| is(RequiresType::ProviderName(name(place)))).collect();
    requirements.push(is(RequiresType::AllowMissing(Empty::default())));
    let any = is(RequiresType::RequiresAny(JwtRequirementOrList { requirements }));
    let everywhere =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() };
    let rule =
        RequirementRule { r#match: Some(everywhere), requirement_type: Some(RequirementType::Requires(any)) };
    let config = JwtAuthentication { providers, rules: vec![rule], ..JwtAuthentication::default() };
    Some(Filter { slot: Slot::Tokens, config: Config::JwtAuthn(Box::new(config)) })
}

fn provider(issuer: &JwtIssuer, jwks: &BTreeMap<String, Jwks>) -> JwtProvider {
    let mut provider = JwtProvider {
        issuer: issuer.issuer.clone(),
        audiences: issuer.audiences.clone(),
        forward: issuer.is_forwarded,
        forward_payload_header: issuer.payload_header.clone().unwrap_or_default(),
        payload_in_metadata: JWT_PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: vec!["scope".to_owned(), "permission".to_owned()],
        }),
        jwks_source_specifier: Some(source(issuer, jwks)),
        ..JwtProvider::default()
    };
    for (header, claim) in &issuer.claim_headers {
        provider.claim_to_headers.push(JwtClaimToHeader {
            header_name: header.clone(),
            claim_name: claim.clone(),
            ..JwtClaimToHeader::default()
        });
    }
    for place in &issuer.places {
        match place {
            TokenPlace::Header { name, prefix } => {
                provider.from_headers.push(JwtHeader { name: name.clone(), value_prefix: prefix.clone() });
            }
            TokenPlace::Parameter(name) => provider.from_params.push(name.clone()),
            TokenPlace::Cookie(name) => provider.from_cookies.push(name.clone()),
        }
    }
    provider
}

fn source(issuer: &JwtIssuer, jwks: &BTreeMap<String, Jwks>) -> JwksSourceSpecifier {
    let local = |keys: &str| {
        let specifier = Some(Specifier::InlineString(keys.to_owned()));
        JwksSourceSpecifier::LocalJwks(DataSource { specifier, ..DataSource::default() })
    };
    match (&issuer.keys, jwks.get(&issuer.issuer)) {
        (Keys::Inline(keys), _) | (Keys::At(_) | Keys::Discovered, Some(Jwks::Fetched(keys))) => {
            local(if has_key(keys) { keys } else { NO_KEYS })
        }
        (Keys::At(_) | Keys::Discovered, Some(Jwks::Remote { address, cluster })) => {
            let timeout = Duration {
                seconds: i64::try_from(issuer.timeout.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(issuer.timeout.subsec_nanos()).unwrap_or_default(),
            };
            let uri = HttpUri {
                uri: address.clone(),
                timeout: Some(timeout),
                http_upstream_type: Some(HttpUpstreamType::Cluster(cluster.clone())),
            };
            JwksSourceSpecifier::RemoteJwks(RemoteJwks { http_uri: Some(uri), ..RemoteJwks::default() })
        }
        (Keys::At(_) | Keys::Discovered, None) | (Keys::None, _) => local(NO_KEYS),
    }
}

/// Whether there is a key in a JWKS that Envoy takes: it refuses the whole filter, and the tokens of all issuers, over a JWKS without
/// one.
fn has_key(jwks: &str) -> bool {
    let set: Value = serde_json::from_str(jwks).unwrap_or_default();
    let keys = set.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    keys.iter().any(|key| {
        let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        let length = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)).map_or(0, |bytes| bytes.len());
        // A key for something else than signatures is none.
        let signs = matches!(text("alg"), "" | "ES256" | "ES384" | "ES512" | "EdDSA")
            || text("alg").starts_with("RS")
            || text("alg").starts_with("PS");
        match (text("kty"), text("crv")) {
            _ if !signs || !matches!(text("use"), "" | "sig") => false,
            ("RSA", _) => length("n") >= 256 && length("e") > 0,
            ("EC", "P-256") => length("x") == 32 && length("y") == 32,
            ("EC", "P-384") => length("x") == 48 && length("y") == 48,
            ("EC", "P-521") => length("x") == 66 && length("y") == 66,
            ("OKP", "Ed25519") => length("x") == 32,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_the_key_of_an_issuer_without_keys() {
        assert!(has_key(NO_KEYS));
        let set: Value = serde_json::from_str(NO_KEYS).unwrap();
        let x = BASE64_URL_SAFE_NO_PAD.decode(set["keys"][0]["x"].as_str().unwrap()).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, b"nobody holds this key 0");
        assert_eq!(x, digest.as_ref());
    }

    #[test]
    fn a_set_without_a_key_that_envoy_takes_has_none() {
        for jwks in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#] {
            assert!(!has_key(jwks), "{jwks}");
        }
    }
}
