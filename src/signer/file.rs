//! A signer whose key lies in memory, read from a file or a store.

use rustls::SignatureScheme;
use rustls::sign::Signer as TlsSigner;

use crate::signer::SignError;
use crate::signer::Signer;
use crate::x509::KeyAlgorithm;
use crate::x509::PrivateKey;
use crate::x509::key::InvalidKey;

/// AlgorithmIdentifiers as DER (RFC 5758 section 3.2, RFC 8410 section 3, RFC 4055 section 5).
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
const RSA_SHA256: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0];

/// Signs with a key in memory.
#[derive(Debug)]
pub struct FileSigner {
    signer: Box<dyn TlsSigner>,
    spki: Vec<u8>,
    algorithm: KeyAlgorithm,
}

impl FileSigner {
    /// Takes a key for signing.
    ///
    /// # Errors
    /// If it is of a kind that cannot sign certificates.
    pub fn new(key: &PrivateKey) -> Result<Self, InvalidKey> {
        let algorithm = KeyAlgorithm::of_spki(key.spki()).ok_or(InvalidKey::Unsupported)?;
        let scheme = match algorithm {
            KeyAlgorithm::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            KeyAlgorithm::P384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            KeyAlgorithm::Ed25519 => SignatureScheme::ED25519,
            KeyAlgorithm::Rsa => SignatureScheme::RSA_PKCS1_SHA256,
        };
        let signer = key.signing().choose_scheme(&[scheme]).ok_or(InvalidKey::Unsupported)?;
        Ok(Self { signer, spki: key.spki().to_vec(), algorithm })
    }
}

impl Signer for FileSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.signer.sign(message).map_err(|error| SignError(error.to_string()))
    }

    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn key_algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn signature_algorithm(&self) -> &'static [u8] {
        match self.algorithm {
            KeyAlgorithm::P256 => ECDSA_SHA256,
            KeyAlgorithm::P384 => ECDSA_SHA384,
            KeyAlgorithm::Ed25519 => ED25519,
            KeyAlgorithm::Rsa => RSA_SHA256,
        }
    }

    fn is_slow(&self) -> bool {
        // P-256 and Ed25519 take about 20 µs; P-384 and RSA take 400 µs and more with ring.
        matches!(self.algorithm, KeyAlgorithm::P384 | KeyAlgorithm::Rsa)
    }
}
