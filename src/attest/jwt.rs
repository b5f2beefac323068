//! Proves callers by the token issuer's published keys (JWKS, RFC 7517), where there is no API server to ask.
//!
//! A deleted pod or service account is not noticed before its token expires: in a cluster, prefer TokenReview.

use futures_util::future::BoxFuture;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::jwk::JwkSet;
use time::OffsetDateTime;

use crate::attest::Attested;
use crate::attest::Attestor;
use crate::attest::Credentials;
use crate::attest::NotAttested;
use crate::attest::claims::Claims;
use crate::attest::jws;
use crate::clock::Clock;

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKeySet {
    /// It is not a JWKS document.
    #[error("the key set is not a JWKS document (RFC 7517): {0}")]
    Malformed(#[from] serde_json::Error),
    /// There is no key in it that we can verify with.
    #[error(
        "the key set holds no usable key; it needs RSA, EC (P-256, P-384) or Ed25519 keys, each with a `kid`"
    )]
    NoUsableKey,
}

/// Proves callers by the signatures of one token issuer.
#[derive(Debug)]
pub struct JwtAttestor {
    keys: Vec<(String, DecodingKey)>,
    issuer: String,
    audiences: Vec<String>,
    clock: Clock,
}

impl JwtAttestor {
    /// Takes the issuer's name (`iss`), its keys as a JWKS document, and the audiences that tokens must be for.
    ///
    /// # Errors
    /// If the document is not a JWKS, or has no key that we can verify with.
    pub fn new(
        issuer: String,
        jwks: &str,
        audiences: Vec<String>,
        clock: Clock,
    ) -> Result<Self, InvalidKeySet> {
        jws::use_ring();
        let set: JwkSet = serde_json::from_str(jwks)?;
        let keys: Vec<_> = set
            .keys
            .iter()
            .filter_map(|jwk| Some((jwk.common.key_id.clone()?, DecodingKey::from_jwk(jwk).ok()?)))
            .collect();
        match keys.is_empty() {
            true => Err(InvalidKeySet::NoUsableKey),
            false => Ok(Self { keys, issuer, audiences, clock }),
        }
    }

    fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Attested, NotAttested> {
        let malformed = |error: jsonwebtoken::errors::Error| NotAttested::Malformed(error.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(malformed)?;
        let (_, key) = self
            .keys
            .iter()
            .find(|(id, _)| header.kid.as_ref() == Some(id))
            .ok_or(NotAttested::UnknownSigner)?;
        // Times and audiences are checked below, by our own clock and with our own reasons.
        let mut only_signature_and_issuer = Validation::new(header.alg);
        only_signature_and_issuer.validate_exp = false;
        only_signature_and_issuer.validate_aud = false;
        only_signature_and_issuer.set_required_spec_claims(&["iss", "exp", "sub"]);
        only_signature_and_issuer.set_issuer(&[&self.issuer]);
        let claims = jsonwebtoken::decode::<Claims>(token, key, &only_signature_and_issuer)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidSignature
                | jsonwebtoken::errors::ErrorKind::InvalidIssuer
                | jsonwebtoken::errors::ErrorKind::InvalidAlgorithm
                | jsonwebtoken::errors::ErrorKind::InvalidKeyFormat => NotAttested::UnknownSigner,
                _ => malformed(error),
            })?
            .claims;
        match claims.exp {
            Some(exp) if exp > now.unix_timestamp() => {}
            _ => return Err(NotAttested::Expired),
        }
        if claims.nbf.is_some_and(|nbf| nbf > now.unix_timestamp()) {
            return Err(NotAttested::Malformed("it is not valid yet".to_owned()));
        }
        let audiences = claims.aud.as_slice();
        if !audiences.iter().any(|one| self.audiences.contains(one)) {
            return Err(NotAttested::WrongAudience(format!("it is for {audiences:?}")));
        }
        claims.proven()
    }
}

impl Attestor for JwtAttestor {
    fn attest<'a>(&'a self, shown: &'a Credentials) -> BoxFuture<'a, Result<Attested, NotAttested>> {
        Box::pin(async move {
            match shown.token.as_deref() {
                None | Some("") => Err(NotAttested::NoToken),
                Some(token) => self.verify(token, self.clock.now()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;
    use crate::attest::test_support::Issuer;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

    fn attest(issuer: &Issuer, token: Option<String>) -> Result<Attested, NotAttested> {
        let (clock, _hand) = Clock::simulated(NOW);
        let attestor =
            JwtAttestor::new("here".to_owned(), &issuer.jwks(), vec!["istio-ca".to_owned()], clock).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(attestor.attest(&Credentials { token }))
    }

    fn header() -> serde_json::Value {
        json!({"alg": "ES256", "kid": "k"})
    }

    fn claims() -> serde_json::Value {
        json!({
            "iss": "here", "sub": "system:serviceaccount:shop:web", "aud": ["istio-ca"], "jti": "j1",
            "exp": NOW.unix_timestamp() + 60,
            "kubernetes.io": {"pod": {"name": "p", "uid": "u"}},
        })
    }

    #[test]
    fn a_good_token_proves_its_service_account_and_pod() {
        let issuer = Issuer::new();
        let caller = attest(&issuer, Some(issuer.token(header(), claims()))).unwrap();
        assert_eq!((caller.namespace(), caller.service_account()), ("shop", "web"));
        assert_eq!(caller.pod().map(|pod| pod.uid.as_str()), Some("u"));
        assert_eq!(caller.credential_id(), Some("JTI=j1"));
    }

    #[test]
    fn every_other_token_is_refused_with_its_own_reason() {
        let issuer = Issuer::new();
        let with = |key: &str, value: serde_json::Value| {
            let mut changed = claims();
            changed[key] = value;
            Some(issuer.token(header(), changed))
        };
        let good = issuer.token(header(), claims());
        let (signed, _) = good.rsplit_once('.').unwrap();
        let table = [
            ("no_token", None),
            ("no_token", Some(String::new())),
            ("token_malformed", Some("not.a.token".to_owned())),
            ("token_expired", with("exp", json!(NOW.unix_timestamp()))),
            ("token_malformed", with("nbf", json!(NOW.unix_timestamp() + 1))),
            ("wrong_audience", with("aud", json!(["other"]))),
            ("wrong_audience", with("aud", json!([]))),
            ("unknown_signer", with("iss", json!("there"))),
            ("unknown_signer", Some(Issuer::new().token(header(), claims()))),
            ("unknown_signer", Some(issuer.token(json!({"alg": "ES256", "kid": "other"}), claims()))),
            ("unknown_signer", Some(issuer.token(json!({"alg": "HS256", "kid": "k"}), claims()))),
            ("unknown_signer", Some(format!("{signed}.AAAA"))),
            ("not_a_service_account", with("sub", json!("alice"))),
        ];
        for (reason, token) in table {
            let refused = attest(&issuer, token.clone()).unwrap_err();
            assert_eq!(refused.reason(), reason, "{refused}");
        }
    }

    #[test]
    fn an_unsigned_token_is_never_taken() {
        let issuer = Issuer::new();
        for alg in ["none", "None", ""] {
            let token = issuer.token(json!({"alg": alg, "kid": "k"}), claims());
            assert!(attest(&issuer, Some(token)).is_err());
        }
    }
}
