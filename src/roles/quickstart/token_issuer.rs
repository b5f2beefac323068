//! A token issuer on this machine, standing in for a cluster's: tokens of the same shape, verified by its published keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use ring::signature::EcdsaKeyPair;
use ring::signature::KeyPair;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;

/// `iss` of its tokens.
pub(super) const ISSUER: &str = "https://quickstart.local";
/// Audience of its tokens.
pub(super) const AUDIENCE: &str = "istio-ca";
const KEY_ID: &str = "quickstart";
/// Life of a token, in seconds: a month, as nobody renews them for agents that are kept.
const LIFETIME: i64 = 30 * 24 * 3600;

/// Signs tokens with a key of its own.
pub(super) struct TokenIssuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl TokenIssuer {
    /// Makes a key.
    pub(super) fn new() -> Result<Self, ring::error::Unspecified> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random)?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random)?;
        Ok(Self { key, random })
    }

    /// The published keys.
    pub(super) fn jwks(&self) -> String {
        // An uncompressed point: one byte, then both coordinates.
        let point = self.key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID, "x": x, "y": y}]})
            .to_string()
    }

    /// A token for a service account, bound to a pod that does not exist.
    pub(super) fn token(
        &self,
        namespace: &str,
        account: &str,
        now: OffsetDateTime,
    ) -> Result<String, ring::error::Unspecified> {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "kid": KEY_ID});
        let now = now.unix_timestamp();
        let claims = json!({
            "iss": ISSUER, "aud": [AUDIENCE], "iat": now, "nbf": now, "exp": now + LIFETIME,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": format!("uid-of-{account}")},
                "pod": {"name": format!("{account}-0"), "uid": format!("uid-of-{account}-0")},
            },
        });
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
