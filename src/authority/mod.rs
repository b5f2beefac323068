//! Which root signs?
//!
//! Either a self-signed one, made at first start and kept in an embedded store in the state directory, or one plugged
//! in from files. Both end as an [`Issuer`], which exists only if key, certificates and roots
//! belong together.

mod plugged;
mod state_dir;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use plugged::PluggedError;
pub use plugged::load_plugged;
pub use state_dir::StateDirError;
pub use state_dir::open_state_dir;
pub use store::EmbeddedStore;
pub use store::StoreError;
pub use store::StoredRoot;
use time::OffsetDateTime;

use crate::identity::TrustDomain;
use crate::signer::FileSigner;
use crate::signer::Issuer;
use crate::signer::IssuerError;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;
use crate::x509::key::InvalidKey;
use crate::x509::root;

/// How far a new root's NotBefore lies back, so that leaves under it can be backdated too.
const ROOT_BACKDATE: Duration = Duration::from_secs(3600);

/// Why there is no self-signed authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A new root could not be made.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// The stored key cannot be used.
    #[error("the stored root's private key: {0}")]
    Key(#[from] InvalidKey),
    /// The stored root is not a CA certificate.
    #[error("the stored root: {0}")]
    Bundle(#[from] InvalidBundle),
    /// What is stored does not belong together.
    #[error("the stored root: {0}")]
    Issuer(#[from] IssuerError),
    /// The stored root is of another trust domain.
    #[error(
        "the stored root is for trust domain `{stored}`, and `{wanted}` was asked for; use another --state-dir, or the trust domain it was made for"
    )]
    TrustDomain {
        /// What the root says.
        stored: String,
        /// What the configuration says.
        wanted: TrustDomain,
    },
}

/// Whether the root was there or has just been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was in the store.
    Stored,
    /// It was made and stored now.
    Made,
}

/// The self-signed authority kept in `directory`, made at first start with a life of `lifetime`. The store stays locked for
/// as long as it is held.
///
/// # Errors
/// If the store fails, or what is in it cannot be used. A damaged root is never replaced by a new one: workloads
/// trust the old one.
pub fn self_signed(
    directory: &Path,
    trust_domain: &TrustDomain,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<(EmbeddedStore, Issuer, Origin), AuthorityError> {
    let (store, origin) = loop {
        if let Some(store) = EmbeddedStore::open(directory)? {
            break (store, Origin::Stored);
        }
        let key = PrivateKey::generate()?;
        let not_before = now.replace_nanosecond(0).unwrap_or(now) - ROOT_BACKDATE;
        let certificate = root::self_signed(&key, trust_domain, not_before, lifetime + ROOT_BACKDATE)?;
        // In the store first: nothing is ever signed by a root that a crash could take away.
        if let Some(store) = EmbeddedStore::create(directory, &StoredRoot { key, certificate })? {
            break (store, Origin::Made);
        }
    };
    let stored = store.root()?;
    let wanted = format!("spiffe://{trust_domain}");
    if stored.certificate.facts().uris != [wanted] {
        return Err(AuthorityError::TrustDomain {
            stored: stored.certificate.facts().uris.join(" "),
            wanted: trust_domain.clone(),
        });
    }
    let signer = Arc::new(FileSigner::new(&stored.key)?);
    let bundle = TrustBundle::new(vec![stored.certificate.clone()])?;
    let issuer = Issuer::new(signer, vec![stored.certificate], bundle, now)?;
    Ok((store, issuer, origin))
}
