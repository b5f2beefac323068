//! What is kept of an authority, and whether it can sign.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::signer::FileSigner;
use crate::signer::Issuer;
use crate::signer::IssuerError;
use crate::x509::Certificate;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;
use crate::x509::key::InvalidKey;
use crate::x509::root;

/// How far a new root's NotBefore lies back, so that leaves under it can be backdated too.
const ROOT_BACKDATE: Duration = Duration::from_secs(3600);

/// A signing root as it is kept, and the roots that are trusted.
#[derive(Debug)]
pub struct Record {
    /// The key that signs.
    pub key: PrivateKey,
    /// Its certificate, which is self-signed.
    pub certificate: Certificate,
    /// Every root that is trusted; the signing one among them.
    pub bundle: TrustBundle,
}

/// Why a record cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum UnfitRecord {
    /// The key cannot be used.
    #[error("its private key: {0}")]
    Key(#[from] InvalidKey),
    /// Its parts do not belong together.
    #[error("{0}")]
    Issuer(#[from] IssuerError),
    /// The signing root is not trusted.
    #[error(
        "its trusted roots (root-cert.pem) do not contain the signing root `{0}`; nobody would trust what it signs"
    )]
    Untrusted(String),
    /// The root is of another trust domain.
    #[error(
        "its root is for trust domain `{stored}`, and `{wanted}` was asked for; set --trust-domain to the one it was made for, or choose another store"
    )]
    TrustDomain {
        /// What the root says.
        stored: String,
        /// What the configuration says.
        wanted: TrustDomain,
    },
}

/// Why a new root could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NoNewRoot {
    /// Its key or certificate could not be made.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// Its key could not be made.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// It is no CA certificate.
    #[error(transparent)]
    Bundle(#[from] InvalidBundle),
}

impl Record {
    /// A new self-signed root of `trust_domain`, which alone is trusted.
    ///
    /// # Errors
    /// If there is no randomness, or the lifetime goes beyond what a certificate can say.
    pub fn new_root(
        trust_domain: &TrustDomain,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Self, NoNewRoot> {
        let key = PrivateKey::generate()?;
        let not_before = now.replace_nanosecond(0).unwrap_or(now) - ROOT_BACKDATE;
        let certificate = root::self_signed(&key, trust_domain, not_before, lifetime + ROOT_BACKDATE)?;
        let bundle = TrustBundle::new(vec![certificate.clone()])?;
        Ok(Self { key, certificate, bundle })
    }

    /// The issuer of this record.
    ///
    /// # Errors
    /// If it is of another trust domain, or its parts do not belong together at `now`.
    pub fn issuer(&self, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Issuer, UnfitRecord> {
        let uris = &self.certificate.facts().uris;
        if *uris != [SpiffeId::of_trust_domain(trust_domain).to_string()] {
            return Err(UnfitRecord::TrustDomain { stored: uris.join(" "), wanted: trust_domain.clone() });
        }
        if !self.bundle.contains(&self.certificate) {
            return Err(UnfitRecord::Untrusted(self.certificate.facts().subject_text.clone()));
        }
        let signer = Arc::new(FileSigner::new(&self.key)?);
        Ok(Issuer::new(signer, vec![self.certificate.clone()], self.bundle.clone(), now)?)
    }
}
