//! Which key is it? Private keys that never show themselves, and the kinds of public key we know.

use std::fmt;
use std::sync::Arc;

use rcgen::PublicKeyData;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroize;
use zeroize::Zeroizing;

use crate::x509::der::Malformed;
use crate::x509::der::Reader;
use crate::x509::der::tag;
use crate::x509::pem;

/// The kinds of public key a certificate of ours may hold or be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256: the default everywhere.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

impl KeyAlgorithm {
    /// The kind of key in a DER SubjectPublicKeyInfo; `None` if it is of no kind that we know.
    pub fn of_spki(spki: &[u8]) -> Option<Self> {
        let algorithm = Reader::new(spki).enter(tag::SEQUENCE).ok()?.expect(tag::SEQUENCE).ok()?;
        use rustls_pki_types::alg_id;
        [
            (alg_id::ECDSA_P256, Self::P256),
            (alg_id::ECDSA_P384, Self::P384),
            (alg_id::ED25519, Self::Ed25519),
            (alg_id::RSA_ENCRYPTION, Self::Rsa),
        ]
        .into_iter()
        .find(|(id, _)| id.as_ref() == algorithm.content)
        .map(|(_, kind)| kind)
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "ECDSA P-256",
            Self::P384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        })
    }
}

/// The public key's own bits in a DER SubjectPublicKeyInfo: for an elliptic curve, the point.
///
/// # Errors
/// If it is not a SubjectPublicKeyInfo.
pub fn public_bits(spki: &[u8]) -> Result<&[u8], Malformed> {
    let mut walk = Reader::new(spki).enter(tag::SEQUENCE)?;
    walk.expect(tag::SEQUENCE)?;
    // The first octet of a BIT STRING counts the bits that are not used; a key uses all.
    let (_, bits) = walk.expect(tag::BIT_STRING)?.content.split_first().ok_or(Malformed)?;
    Ok(bits)
}

/// A private key in memory. It is wiped when dropped and has no readable `Debug`.
pub struct PrivateKey {
    /// PKCS#8, PKCS#1 or SEC1, as it was given.
    der: PrivateKeyDer<'static>,
    signing: Arc<dyn SigningKey>,
    spki: Vec<u8>,
}

/// Why a private key cannot be used. Never quotes any of the key.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKey {
    /// There is no private key block, or it is broken.
    #[error(
        "no readable PEM private key in it (`PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY`, not encrypted)"
    )]
    Pem,
    /// A kind of key that ring cannot sign with.
    #[error(
        "its kind of key is not supported; use P-256 (best), P-384, Ed25519 or RSA of 2048 bits and more"
    )]
    Unsupported,
    /// The operating system gave no randomness.
    #[error("a new key could not be made: {0}")]
    Generate(#[from] rcgen::Error),
}

impl PrivateKey {
    /// Makes a new P-256 key.
    ///
    /// # Errors
    /// If the operating system gives no randomness.
    pub fn generate() -> Result<Self, InvalidKey> {
        let mut pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let der = PrivatePkcs8KeyDer::from(pair.serialize_der());
        pair.zeroize();
        Self::from_der(der.into())
    }

    /// Reads the first private key of a PEM text: PKCS#8, SEC1 or PKCS#1.
    ///
    /// # Errors
    /// If there is none, or it is of a kind that cannot sign.
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_der(PrivateKeyDer::from_pem_slice(text).map_err(|_| InvalidKey::Pem)?)
    }

    /// Takes a private key in DER.
    ///
    /// # Errors
    /// If it is of a kind that cannot sign.
    pub fn from_der(mut der: PrivateKeyDer<'static>) -> Result<Self, InvalidKey> {
        let read = rustls::crypto::ring::sign::any_supported_type(&der).ok();
        let public = |signing: Arc<dyn SigningKey>| Some((signing.public_key()?.to_vec(), signing));
        match read.and_then(public) {
            Some((spki, signing)) => Ok(Self { der, signing, spki }),
            None => {
                der.zeroize();
                Err(InvalidKey::Unsupported)
            }
        }
    }

    /// The public half: a DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key as something that signs.
    pub fn signing(&self) -> Arc<dyn SigningKey> {
        self.signing.clone()
    }

    /// The key in DER, to be kept in a store; the caller takes over the duty to keep it secret.
    pub fn secret_der(&self) -> &[u8] {
        self.der.secret_der()
    }

    /// A second handle on the key, as rustls wants it for a TLS end of our own.
    pub fn to_tls(&self) -> PrivateKeyDer<'static> {
        self.der.clone_key()
    }

    /// The key as PEM, for the one road by which it leaves: to the proxy it was made for.
    pub fn secret_pem(&self) -> Zeroizing<String> {
        let label = match self.der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem::block(label, self.der.secret_der())
    }

    /// A certification request for this key, in PEM. It names nobody: who the certificate is for
    /// is decided by the attestor alone.
    ///
    /// # Errors
    /// If signing fails.
    pub fn csr_pem(&self) -> Result<String, InvalidKey> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&RcgenKey(self))?.pem()?)
    }

    /// Signs a root certificate made of `params` with this key, for itself.
    pub(super) fn self_sign(&self, params: &rcgen::CertificateParams) -> Result<Vec<u8>, InvalidKey> {
        Ok(params.self_signed(&RcgenKey(self))?.der().to_vec())
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.der.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// Our key, as rcgen wants to see one.
struct RcgenKey<'a>(&'a PrivateKey);

impl rcgen::PublicKeyData for RcgenKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        public_bits(&self.0.spki).unwrap_or_default()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match KeyAlgorithm::of_spki(&self.0.spki) {
            Some(KeyAlgorithm::P384) => &rcgen::PKCS_ECDSA_P384_SHA384,
            Some(KeyAlgorithm::Ed25519) => &rcgen::PKCS_ED25519,
            Some(KeyAlgorithm::Rsa) => &rcgen::PKCS_RSA_SHA256,
            Some(KeyAlgorithm::P256) | None => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl rcgen::SigningKey for RcgenKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let scheme = match self.algorithm() {
            a if *a == rcgen::PKCS_ECDSA_P384_SHA384 => rustls::SignatureScheme::ECDSA_NISTP384_SHA384,
            a if *a == rcgen::PKCS_ED25519 => rustls::SignatureScheme::ED25519,
            a if *a == rcgen::PKCS_RSA_SHA256 => rustls::SignatureScheme::RSA_PKCS1_SHA256,
            _ => rustls::SignatureScheme::ECDSA_NISTP256_SHA256,
        };
        self.0
            .signing
            .choose_scheme(&[scheme])
            .and_then(|signer| signer.sign(message).ok())
            .ok_or(rcgen::Error::RemoteKeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown_by_debug() {
        let key = PrivateKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(…)");
    }

    #[test]
    fn a_key_reads_back_from_its_pem_and_from_sec1() {
        let key = PrivateKey::generate().unwrap();
        let again = PrivateKey::from_pem(key.secret_pem().as_bytes()).unwrap();
        assert_eq!(again.spki(), key.spki());
        assert_eq!(KeyAlgorithm::of_spki(key.spki()), Some(KeyAlgorithm::P256));
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_quoting_it() {
        let error =
            PrivateKey::from_pem(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
                .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
    }
}
