//! A token issuer for unit tests: an `Attested` cannot be made without one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use ring::signature::EcdsaKeyPair;
use ring::signature::KeyPair;
use serde_json::json;

use crate::attest::JwtAttestor;
use crate::clock::Clock;

/// Signs tokens with a key of its own.
pub(crate) struct Issuer(EcdsaKeyPair);

impl Issuer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    pub(crate) fn jwks(&self) -> String {
        let point = &self.0.public_key().as_ref()[1..];
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y}]}).to_string()
    }

    pub(crate) fn token(&self, header: serde_json::Value, claims: serde_json::Value) -> String {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// An attestor, and a token that it takes for a service account.
pub(crate) fn attestor_and_token(namespace: &str, account: &str) -> (JwtAttestor, String) {
    let issuer = Issuer::new();
    let audiences = vec!["istio-ca".to_owned()];
    let attestor = JwtAttestor::new("here".to_owned(), &issuer.jwks(), audiences, Clock::system()).unwrap();
    let claims = json!({
        "iss": "here", "aud": ["istio-ca"], "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "exp": 4_000_000_000_i64,
    });
    (attestor, issuer.token(json!({"alg": "ES256", "kid": "k"}), claims))
}
