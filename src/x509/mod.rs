//! Certificates as data: keys, requests, certificates, chains and bundles.
//!
//! `rcgen`, `x509-parser`, `webpki` and `ring` stay behind this door. What comes in from elsewhere is
//! parsed once, here, into values that cannot be half right; what goes out is a template of bytes
//! (`tbs`) in which the issuer's name and the subject's key are copied, never re-encoded.

pub mod bundle;
pub mod certificate;
pub mod chain;
pub mod csr;
pub mod der;
pub mod describe;
pub mod diagnose;
pub mod key;
pub mod lint;
pub mod pem;
pub mod root;
pub mod serial;
pub mod tbs;

pub use bundle::TrustBundle;
pub use certificate::Certificate;
pub use certificate::SerialNumber;
pub use chain::CertificateChain;
pub use csr::Csr;
pub use csr::VerifiedCsr;
pub use key::KeyAlgorithm;
pub use key::PrivateKey;
