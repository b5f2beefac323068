//! Pure: which certificate may this caller have?

use std::time::Duration;

use crate::attest::Attested;
use crate::identity::InvalidSpiffeId;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::issuance::profile::LifetimeAboveMaximum;
use crate::issuance::profile::Profile;

/// What a caller may have. Made only by [`GrantPolicy::grant`], from an attested caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    spiffe_id: SpiffeId,
    lifetime: Duration,
}

/// Who gets what: the identity comes from the attestor, the lifetime from the profile, nothing from the CSR.
#[derive(Clone, Debug)]
pub struct GrantPolicy {
    trust_domain: TrustDomain,
    profile: Profile,
}

/// Why a proven caller gets nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// Its names do not make a SPIFFE ID.
    #[error("no SPIFFE ID can be made for the caller: {0}")]
    Identity(#[from] InvalidSpiffeId),
    /// It asks for an identity that is not its own.
    #[error(
        "the caller asks for another's identity (`ImpersonatedIdentity`), which is not supported; callers get their own"
    )]
    ForAnother,
    /// It asks for too long a life.
    #[error(transparent)]
    Lifetime(#[from] LifetimeAboveMaximum),
}

impl NotGranted {
    /// A short name for logs and metrics, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Identity(_) => "identity_impossible",
            Self::ForAnother => "for_another",
            Self::Lifetime(_) => "lifetime_above_maximum",
        }
    }
}

impl GrantPolicy {
    /// Grants identities in `trust_domain` for lifetimes of `profile`.
    pub fn new(trust_domain: TrustDomain, profile: Profile) -> Self {
        Self { trust_domain, profile }
    }

    /// What `caller`, who asks for a life of `seconds`, may have.
    ///
    /// # Errors
    /// If the lifetime is above the maximum.
    pub fn grant(&self, caller: &Attested, seconds: i64) -> Result<Grant, NotGranted> {
        let (namespace, account) = (caller.namespace(), caller.service_account());
        Ok(Grant {
            spiffe_id: SpiffeId::of_service_account(&self.trust_domain, namespace, account)?,
            lifetime: self.profile.lifetime(seconds)?,
        })
    }

    /// The times of the leaves.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }
}

impl Grant {
    /// The identity.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The lifetime from the moment of issue.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }
}
