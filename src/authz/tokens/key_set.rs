//! Pure: which keys does an issuer sign its tokens with? (JWKS, RFC 7517)

use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::PublicKeyUse;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::attest::jws;

/// The largest document that is read, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// The most keys that a document may hold.
pub(super) const MAX_KEYS: usize = 64;
/// How many keys are tried for a token that does not name its own.
const MAX_TRIED: usize = 8;

/// The keys of one issuer.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    key: DecodingKey,
    /// The key as it was published, but for what only its holder knows.
    published: Value,
}

/// Why a document is not taken for the keys of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKeySet {
    /// It is too large to be read.
    #[error("the key set has {0} bytes; at most {MAX_BYTES} are read")]
    TooLarge(usize),
    /// It is no JWKS document.
    #[error("the key set is not a JWKS document (RFC 7517): {0}")]
    Malformed(String),
    /// It has too many keys.
    #[error("the key set holds {0} keys; at most {MAX_KEYS} are read")]
    TooMany(usize),
    /// No key in it can be verified with.
    #[error(
        "the key set holds no usable key; it needs RSA (2048 bits or more), EC (P-256, P-384) or Ed25519 keys"
    )]
    NoUsableKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWKS document. Keys of kinds that are not known here, shared secrets among them, are passed over.
    ///
    /// # Errors
    /// If it is none, is beyond the bounds, or has no key that can be verified with.
    pub fn parse(text: &str) -> Result<Self, UnusableKeySet> {
        if text.len() > MAX_BYTES {
            return Err(UnusableKeySet::TooLarge(text.len()));
        }
        jws::use_ring();
        let document: Document =
            // Only where and of what kind: the answer may be something that is for nobody's log.
            serde_json::from_str(text).map_err(|error| {
                let (kind, line, column) = (error.classify(), error.line(), error.column());
                UnusableKeySet::Malformed(format!("{kind:?} at line {line}, column {column}"))
            })?;
        if document.keys.len() > MAX_KEYS {
            return Err(UnusableKeySet::TooMany(document.keys.len()));
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(Key::of).collect();
        match keys.is_empty() {
            true => Err(UnusableKeySet::NoUsableKey),
            false => Ok(Self(keys)),
        }
    }

    /// The keys as a JWKS document for others to verify by: none that was passed over, and nothing that only a key's holder knows.
    pub fn to_jwks(&self) -> String {
        let keys: Vec<&Value> = self.0.iter().map(|key| &key.published).collect();
        json!({ "keys": keys }).to_string()
    }

    /// The keys that a token of `algorithm` may be signed with, which names its key `id` or none.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| {
            key.key.family() == algorithm.family()
                && key.algorithm.is_none_or(|own| own == algorithm)
                // A key without a name is any key, as in Envoy.
                && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        };
        self.0.iter().filter(fits).take(MAX_TRIED).map(|key| &key.key)
    }
}

impl Key {
    fn of(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithm = match jwk.common.key_algorithm {
            Some(named) => Some(Algorithm::try_from(named).ok()?),
            None => None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        // A shared secret would let whoever reads the document sign.
        let is_public = key.family() != jsonwebtoken::AlgorithmFamily::Hmac;
        is_public.then(|| Self { id: jwk.common.key_id, algorithm, key, published: published(value) })
    }
}

/// What of a key is for everybody (RFC 7518, section 6).
fn published(key: Value) -> Value {
    let is_public = |name: &str| {
        matches!(
            name,
            "kty" | "use" | "alg" | "kid" | "crv" | "x" | "y" | "n" | "e" | "x5c" | "x5t" | "x5t#S256"
        )
    };
    match key {
        Value::Object(all) => Value::Object(all.into_iter().filter(|(name, _)| is_public(name)).collect()),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authz::tokens::test_support::Signer;

    #[test]
    fn a_document_without_a_usable_key_is_no_key_set() {
        for (text, said) in [
            ("", "not a JWKS document"),
            ("[]", "not a JWKS document"),
            (r#"{"keys": {}}"#, "not a JWKS document"),
            (r#"{"keys": []}"#, "no usable key"),
            (r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k"}]}"#, "no usable key"),
            (r#"{"keys": [{"kty": "strange"}, 7, null]}"#, "no usable key"),
        ] {
            let error = KeySet::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn bytes_and_keys_are_bounded() {
        let key = Signer::new("k").jwk();
        let many = |count: usize| json!({"keys": vec![key.clone(); count]}).to_string();
        assert!(KeySet::parse(&many(MAX_KEYS)).is_ok());
        assert_eq!(KeySet::parse(&many(MAX_KEYS + 1)).unwrap_err(), UnusableKeySet::TooMany(MAX_KEYS + 1));
        let large = format!("{}{}", many(1), " ".repeat(MAX_BYTES));
        assert!(matches!(KeySet::parse(&large), Err(UnusableKeySet::TooLarge(_))));
    }

    #[test]
    fn a_key_is_for_its_own_algorithm_use_and_name() {
        let with = |field: &str, value: &str| {
            let mut key = Signer::new("k").jwk();
            key[field] = json!(value);
            KeySet::parse(&json!({"keys": [key]}).to_string())
        };
        assert!(with("use", "enc").is_err());
        assert!(with("alg", "RSA-OAEP").is_err());
        let other = with("alg", "ES384").unwrap();
        assert_eq!(other.candidates(Some("k"), Algorithm::ES256).count(), 0);
        let set = with("use", "sig").unwrap();
        let count = |id, algorithm| set.candidates(id, algorithm).count();
        assert_eq!(count(Some("k"), Algorithm::ES256), 1);
        assert_eq!(count(None, Algorithm::ES256), 1);
        assert_eq!(count(Some("other"), Algorithm::ES256), 0);
        assert_eq!(count(Some("k"), Algorithm::RS256), 0);
        assert_eq!(count(Some("k"), Algorithm::HS256), 0);
    }
}
