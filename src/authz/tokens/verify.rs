//! Pure: does a request carry a good token, and what does it say?
//!
//! As Envoy's JWT filter decides, with these differences, each of which only reduces access: a request with two different tokens is
//! refused, and audiences are compared letter by letter. A token without an end (`exp`) is good for ever, as there.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::Validation;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use serde_json::Map;
use serde_json::Value;
use time::OffsetDateTime;

use crate::authz::request::Http;
use crate::authz::tokens::issuer::Issuer;
use crate::authz::tokens::issuer::Keys;
use crate::authz::tokens::key_set::KeySet;
use crate::authz::tokens::place::Place;

/// The longest token that is read, in bytes.
pub(super) const MAX_LENGTH: usize = 16 * 1024;
/// How far the issuer's clock may be from ours, in seconds: as in Envoy.
const LEEWAY: f64 = 60.0;
/// Claims that are one text with several words, and are compared word by word.
const LISTS: [&str; 2] = ["scope", "permission"];

/// A token that is good.
#[derive(Clone, PartialEq)]
pub struct Verified {
    /// Its claims, as policies see them.
    pub claims: Map<String, Value>,
    /// Its payload, as base64url.
    pub payload: Box<str>,
    /// Whose it is: the place among the issuers.
    pub issuer: usize,
    /// Where it stood; several places, if it was sent more than once.
    pub places: Vec<Place>,
}

impl fmt::Debug for Verified {
    /// Without what the token says: that is its owner's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadToken {
    /// It is too long to be read.
    #[error("the token is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// It is no token.
    #[error("the token is not a signed JSON web token")]
    Malformed,
    /// There are two different ones.
    #[error("the request carries several tokens")]
    Several,
    /// No issuer of this name has tokens at that place.
    #[error("the token is of an issuer that the workload does not take tokens of")]
    UnknownIssuer,
    /// The keys of its issuer are not known, or too old.
    #[error("the keys of the token's issuer are not known; it may be away")]
    NoKeys,
    /// Its issuer has no such key.
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// It was not signed by its issuer.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// It is too old.
    #[error("the token has expired")]
    Expired,
    /// It is too new.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    WrongAudience,
}

impl BadToken {
    /// A short name for logs, metrics and headers, from a closed set.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::Malformed => "token_malformed",
            Self::Several => "several_tokens",
            Self::UnknownIssuer => "unknown_token_issuer",
            Self::NoKeys => "token_keys_unavailable",
            Self::UnknownKey => "unknown_token_key",
            Self::BadSignature => "bad_token_signature",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::WrongAudience => "wrong_token_audience",
        }
    }
}

/// The request's token, verified; `None` if it carries none where `issuers` have theirs.
///
/// # Errors
/// If it carries one that is not good.
pub fn verify(
    http: &Http<'_>,
    issuers: &[Issuer],
    now: OffsetDateTime,
) -> Result<Option<Verified>, BadToken> {
    let mut places: Vec<&Place> = issuers.iter().flat_map(|issuer| &issuer.places).collect();
    places.sort();
    places.dedup();
    let mut found: Option<(&str, Vec<Place>)> = None;
    for place in places {
        for token in place.tokens(http) {
            match &mut found {
                None => found = Some((token, vec![place.clone()])),
                Some((known, places)) if *known == token => places.push(place.clone()),
                Some(_) => return Err(BadToken::Several),
            }
        }
    }
    found.map(|(token, places)| verified(token, places, issuers, now)).transpose()
}

fn verified(
    token: &str,
    places: Vec<Place>,
    issuers: &[Issuer],
    now: OffsetDateTime,
) -> Result<Verified, BadToken> {
    if token.len() > MAX_LENGTH {
        return Err(BadToken::TooLong);
    }
    let unproven: Map<String, Value> = insecure_decode_claims(token).map_err(|_| BadToken::Malformed)?;
    let name = unproven.get("iss").and_then(Value::as_str).ok_or(BadToken::Malformed)?;
    // All places must be the issuer's own: what is sent to another's place is not for it to vouch for.
    let is_its =
        |issuer: &Issuer| *issuer.name == *name && places.iter().all(|one| issuer.places.contains(one));
    let mut refused = BadToken::UnknownIssuer;
    for (at, issuer) in issuers.iter().enumerate().filter(|(_, issuer)| is_its(issuer)) {
        match proven(token, issuer, now).and_then(|claims| on_time_and_for_us(claims, issuer, now)) {
            Ok(claims) => {
                let payload = token.split('.').nth(1).unwrap_or_default().into();
                return Ok(Verified { claims: in_lists(claims), payload, issuer: at, places });
            }
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

/// The claims, if one of the issuer's keys signed them.
fn proven(token: &str, issuer: &Issuer, now: OffsetDateTime) -> Result<Map<String, Value>, BadToken> {
    let keys: Arc<KeySet> = match &issuer.keys {
        Keys::Inline(keys) => keys.clone(),
        Keys::Published(published) => published.keys(now).ok_or(BadToken::NoKeys)?,
        Keys::None => return Err(BadToken::NoKeys),
    };
    let header = jsonwebtoken::decode_header(token).map_err(|_| BadToken::Malformed)?;
    if header.crit.is_some() {
        // RFC 7515 section 4.1.11: what is critical and not understood makes the token invalid.
        return Err(BadToken::Malformed);
    }
    let mut only_signature = Validation::new(header.alg);
    // Times, audiences and issuers are checked here, by our own clock and with our own reasons.
    only_signature.validate_exp = false;
    only_signature.validate_aud = false;
    only_signature.required_spec_claims.clear();
    let mut refused = BadToken::UnknownKey;
    for key in keys.candidates(header.kid.as_deref(), header.alg) {
        match jsonwebtoken::decode::<Map<String, Value>>(token, key, &only_signature) {
            Ok(proven) => return Ok(proven.claims),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {
                refused = BadToken::BadSignature;
            }
            Err(_) => return Err(BadToken::Malformed),
        }
    }
    if let (BadToken::UnknownKey, Keys::Published(published)) = (refused, &issuer.keys) {
        published.miss();
    }
    Err(refused)
}

fn on_time_and_for_us(
    claims: Map<String, Value>,
    issuer: &Issuer,
    now: OffsetDateTime,
) -> Result<Map<String, Value>, BadToken> {
    let moment = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(BadToken::Malformed),
    };
    let now = now.unix_timestamp() as f64;
    if moment("exp")?.is_some_and(|end| end + LEEWAY <= now) {
        return Err(BadToken::Expired);
    }
    if moment("nbf")?.is_some_and(|start| start - LEEWAY > now) {
        return Err(BadToken::NotYetValid);
    }
    let is_ours =
        |one: &Value| one.as_str().is_some_and(|one| issuer.audiences.iter().any(|own| **own == *one));
    let is_for_us = match claims.get("aud") {
        _ if issuer.audiences.is_empty() => true,
        Some(Value::Array(several)) => several.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    if is_for_us { Ok(claims) } else { Err(BadToken::WrongAudience) }
}

/// The claims with those that are several words made lists, as Envoy's JWT filter gives them to policies.
fn in_lists(mut claims: Map<String, Value>) -> Map<String, Value> {
    for name in LISTS {
        if let Some(claim) = claims.get_mut(name)
            && let Some(text) = claim.as_str()
        {
            *claim = text.split(' ').filter(|word| !word.is_empty()).collect();
        }
    }
    claims
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
