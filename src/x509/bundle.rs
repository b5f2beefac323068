//! Pure: which roots are trusted?

use ring::digest;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::x509::certificate::Certificate;
use crate::x509::certificate::InvalidCertificate;
use crate::x509::certificate::hex;
use crate::x509::pem;

/// One or more CA certificates that a trust domain is verified by. Never empty: Envoy takes an empty
/// validation context for "no verification", so an empty bundle must not exist as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle(Vec<Certificate>);

/// Why something is not a trust bundle.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// There is no certificate in it.
    #[error("the trust bundle is empty; nothing could be verified with it")]
    Empty,
    /// It is not PEM.
    #[error("the trust bundle is not PEM: {0}")]
    Pem(#[from] pem::InvalidPem),
    /// A certificate in it cannot be read.
    #[error("the trust bundle's certificate {position}: {source}")]
    Certificate {
        /// Which one, counted from 1.
        position: usize,
        /// What is wrong.
        source: InvalidCertificate,
    },
    /// A certificate in it is not a CA's.
    #[error(
        "the trust bundle's certificate {position} (`{subject}`) is not a CA certificate; only roots belong in a bundle"
    )]
    NotACa {
        /// Which one, counted from 1.
        position: usize,
        /// Its subject.
        subject: String,
    },
}

impl TrustBundle {
    /// Makes a bundle of CA certificates; repeated ones are kept once.
    ///
    /// # Errors
    /// If there is none, or one of them is not a CA's.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, InvalidBundle> {
        if certificates.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        let mut roots: Vec<Certificate> = Vec::with_capacity(certificates.len());
        for (at, root) in certificates.into_iter().enumerate() {
            let facts = root.facts();
            if !facts.is_ca || facts.key_usage.is_some_and(|usage| !usage.key_cert_sign) {
                return Err(InvalidBundle::NotACa { position: at + 1, subject: facts.subject_text.clone() });
            }
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        Ok(Self(roots))
    }

    /// Reads a bundle from PEM.
    ///
    /// # Errors
    /// If it is not PEM, a certificate in it cannot be read, or as [`TrustBundle::new`].
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidBundle> {
        Self::from_ders(pem::certificates(text)?)
    }

    /// Reads a bundle from DER certificates.
    ///
    /// # Errors
    /// If one of them cannot be read, or as [`TrustBundle::new`].
    pub fn from_ders<'a>(ders: impl IntoIterator<Item = CertificateDer<'a>>) -> Result<Self, InvalidBundle> {
        let parsed = ders.into_iter().enumerate().map(|(at, der)| {
            Certificate::from_der(der)
                .map_err(|source| InvalidBundle::Certificate { position: at + 1, source })
        });
        Self::new(parsed.collect::<Result<_, _>>()?)
    }

    /// The roots, in the order they were given.
    pub fn roots(&self) -> &[Certificate] {
        &self.0
    }

    /// Whether `certificate` itself is one of the roots.
    pub fn contains(&self, certificate: &Certificate) -> bool {
        self.0.contains(certificate)
    }

    /// The bundle as PEM, one block a root.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(|root| pem::certificate(root.der())).collect()
    }

    /// Names this set of roots: the same roots in the same order have the same digest, anywhere. In hex.
    pub fn digest(&self) -> String {
        let mut digest = digest::Context::new(&digest::SHA256);
        for root in &self.0 {
            digest.update(&(root.der().len() as u64).to_be_bytes());
            digest.update(root.der());
        }
        hex(digest.finish().as_ref().first_chunk::<16>().map_or(&[][..], |half| half))
    }

    /// Whether at least one of its roots is valid at `now`.
    pub fn is_usable_at(&self, now: OffsetDateTime) -> bool {
        self.0.iter().any(|root| root.is_valid_at(now))
    }
}
