//! Bytes in, signature out; and the issuer: a signer with the certificates that make it trusted.
//!
//! A [`Signer`] knows nothing of certificates, so that a key in a file today and one in a hardware
//! module tomorrow look the same to issuance.

mod cross;
mod file;
mod issuer;

use std::fmt;

pub use cross::NotCrossed;
pub use cross::cross_certificate;
pub use file::FileSigner;
pub use issuer::Issuer;
pub use issuer::IssuerError;

use crate::x509::KeyAlgorithm;

/// Something that signs bytes with one private key.
pub trait Signer: fmt::Debug + Send + Sync {
    /// Signs `message`: the hash is part of the algorithm.
    ///
    /// # Errors
    /// If the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// The public half: a DER SubjectPublicKeyInfo.
    fn spki(&self) -> &[u8];

    /// What kind of key signs.
    fn key_algorithm(&self) -> KeyAlgorithm;

    /// AlgorithmIdentifier of the signatures, as DER.
    fn signature_algorithm(&self) -> &'static [u8];

    /// Whether one signature takes so long that it belongs on a thread of its own.
    fn is_slow(&self) -> bool;
}

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the signing key could not be used: {0}")]
pub struct SignError(pub String);
