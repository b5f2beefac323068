//! Pure: may this secret be served, and which version of it is that?
//!
//! Envoy acknowledges much that it should refuse: an expired leaf, a validation context without roots (which then lets
//! everybody in). So what is served is checked here, and what cannot be checked does not become a value of these types.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::identity::SpiffeId;
use crate::sds::notice::Notice;
use crate::sds::subscription::Offer;
use crate::sds::version::Version;
use crate::x509::CertificateChain;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::chain::InvalidChain;

/// The names that Istio's proxies ask for. A name stands for one type of secret, always.
pub mod names {
    /// The workload's certificate and key.
    pub const IDENTITY: &str = "default";
    /// The roots that peers are verified by.
    pub const TRUST: &str = "ROOTCA";
    /// Which authority leaves ought to be signed by: what the CA tells agents, and no proxy asks for.
    pub const ISSUER: &str = "burgrave.dev/issuer";
}

/// A workload's certificate and key, fit to be served when it was made.
#[derive(Clone, Debug)]
pub struct Identity {
    chain: CertificateChain,
    key: Arc<PrivateKey>,
    spiffe_id: SpiffeId,
    version: Version,
}

/// A trust bundle, fit to be served when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    bundle: TrustBundle,
    version: Version,
}

/// What a workload has at one moment. Either part may still be missing.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Its certificate and key.
    pub identity: Option<Identity>,
    /// The roots its peers are verified by.
    pub trust: Option<Trust>,
    /// Which authority leaves ought to be signed by. Only the CA says so.
    pub notice: Option<Notice>,
    /// When the last certificate expired, if it could not be renewed and is served no more.
    pub expired_at: Option<OffsetDateTime>,
}

/// Why a secret must not be served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitSecret {
    /// The key belongs to another certificate.
    #[error("the certificate is not for the key that was made for it")]
    KeyMismatch,
    /// Its chain does not hold.
    #[error(transparent)]
    Chain(#[from] InvalidChain),
    /// No root in the bundle is valid now.
    #[error("none of the trust bundle's roots is valid at {0}")]
    NoValidRoot(OffsetDateTime),
}

impl Identity {
    /// Joins chain and key, if the key is the leaf's, and the chain is a valid X509-SVID under `trust` at `now`.
    ///
    /// # Errors
    /// If one of these does not hold.
    pub fn new(
        chain: CertificateChain,
        key: PrivateKey,
        trust: &Trust,
        now: OffsetDateTime,
    ) -> Result<Self, UnfitSecret> {
        if chain.leaf().facts().spki != key.spki() {
            return Err(UnfitSecret::KeyMismatch);
        }
        let spiffe_id = chain.verify(&trust.bundle, now)?;
        let version = Version::of(names::IDENTITY, chain.certificates().iter().map(|one| one.der().as_ref()));
        Ok(Self { chain, key: Arc::new(key), spiffe_id, version })
    }

    /// The chain.
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    /// The key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Who it is.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }
}

impl Trust {
    /// Takes a bundle, if at least one of its roots is valid at `now`.
    ///
    /// # Errors
    /// If none is: every handshake would fail.
    pub fn new(bundle: TrustBundle, now: OffsetDateTime) -> Result<Self, UnfitSecret> {
        if !bundle.is_usable_at(now) {
            return Err(UnfitSecret::NoValidRoot(now));
        }
        let version = Version::from(bundle.digest().as_str());
        Ok(Self { bundle, version })
    }

    /// The bundle.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }
}

impl Secrets {
    /// What can be asked for now, with the version of each.
    pub fn offer(&self) -> Offer {
        let identity = self.identity.iter().map(|held| (names::IDENTITY.to_owned(), held.version.clone()));
        let trust = self.trust.iter().map(|held| (names::TRUST.to_owned(), held.version.clone()));
        let notice = self.notice.iter().map(|held| (names::ISSUER.to_owned(), held.version()));
        identity.chain(trust).chain(notice).collect()
    }
}
