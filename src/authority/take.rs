//! Takes the authority over at start: the one that is kept, or a new one if there never was any.

use std::time::Duration;

use time::OffsetDateTime;

use crate::authority::follow::Held;
use crate::authority::record::NoNewRoot;
use crate::authority::record::Record;
use crate::authority::record::UnfitRecord;
use crate::authority::store::Kept;
use crate::authority::store::Revision;
use crate::authority::store::Store;
use crate::authority::store::StoreError;
use crate::authority::store::Swap;
use crate::authority::witness::Contradiction;
use crate::authority::witness::Trusted;
use crate::authority::witness::Witness;
use crate::authority::witness::short;
use crate::authority::witness::weigh;
use crate::identity::TrustDomain;
use crate::k8s::Trouble;
use crate::signer::Issuer;

/// Why there is no authority to sign with.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A new root could not be made.
    #[error("a new root cannot be made: {0}")]
    New(#[from] NoNewRoot),
    /// What is kept cannot sign.
    #[error("{place}: the stored root cannot be used: {source}")]
    Unfit {
        /// Where it is kept.
        place: String,
        /// What is wrong with it.
        source: UnfitRecord,
    },
    /// Whether another root is trusted cannot be found out.
    #[error("{place} may be used only if no other root is trusted, and that cannot be found out: {source}")]
    Unknown {
        /// Where the authority is or would be kept.
        place: String,
        /// What went wrong.
        source: Trouble,
    },
    /// The store is empty, and yet a root is trusted.
    #[error(
        "{place} is gone or was never made, but workloads already trust root {} ({}); restore it from a copy. \
         If that root is another CA's, give us its key by --ca-dir, or publish elsewhere by --bundle-config-map and --signer-name. \
         To give that root up for a new one, which cuts every running workload off until it restarts, stop every replica, then {forget}, then start again",
        .why.trusted, .why.places
    )]
    Lost {
        /// Where it should be kept.
        place: String,
        /// What is trusted, and where.
        why: Contradiction,
        /// How to take that away.
        forget: String,
    },
    /// The root that is kept is not the one that is trusted.
    #[error(
        "{place} holds root {root}, which workloads do not trust, or not all of them: they trust {} ({}); restore the copy that holds a trusted root. \
         To move to root {root}, restore the old authority first, and bring this one by `burgrave root rotate --from`",
        .why.trusted, .why.places
    )]
    Stranger {
        /// Where it is kept.
        place: String,
        /// Its fingerprint, shortened.
        root: String,
        /// What is trusted, and where.
        why: Contradiction,
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

/// The authority that was taken over.
#[derive(Debug)]
pub struct Taken {
    /// It.
    pub held: Held,
    /// Where it comes from.
    pub origin: Origin,
    /// Its version in the store.
    pub revision: Revision,
}

/// What the store keeps, or a new root with a life of `lifetime` if nothing is kept and nothing trusted.
///
/// However many replicas do so at once, all end with the same root: of two that make one, the store takes the first.
///
/// # Errors
/// If the store fails, what is in it cannot be used, or another root is trusted. A damaged root is never replaced by a new
/// one: workloads trust the old one.
pub async fn take(
    store: &dyn Store,
    witness: &dyn Witness,
    trust_domain: &TrustDomain,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<Taken, AuthorityError> {
    if let Some(kept) = store.load().await? {
        return usable(store, witness, &kept, trust_domain, now).await;
    }
    let trusted = look(&store.place(), witness).await?;
    if let Err(why) = weigh(None, &trusted) {
        // Another replica may have made the root, and published it, between our two looks.
        return match store.load().await? {
            Some(kept) => usable(store, witness, &kept, trust_domain, now).await,
            None => Err(AuthorityError::Lost { place: store.place(), why, forget: witness.how_to_forget() }),
        };
    }
    let record = Record::new_root(trust_domain, lifetime, now)?;
    // In the store first: nothing is ever signed by a root that a crash could take away.
    match store.swap(None, &record).await? {
        Swap::Done(revision) => {
            let held = held(store, &record, trust_domain, now)?;
            Ok(Taken { held, origin: Origin::Made, revision })
        }
        Swap::Overtaken => match store.load().await? {
            Some(kept) => usable(store, witness, &kept, trust_domain, now).await,
            None => Err(AuthorityError::Store(StoreError::Damaged {
                place: store.place(),
                what: "it was there a moment ago, and is gone".to_owned(),
            })),
        },
    }
}

/// Whether `issuer`, which was read from `place`, may sign, given what is trusted.
///
/// # Errors
/// If another root is trusted and none of its own, or that cannot be found out.
pub async fn confirm(place: &str, witness: &dyn Witness, issuer: &Issuer) -> Result<(), AuthorityError> {
    let root = issuer.root().fingerprint();
    weigh(Some(&root), &look(place, witness).await?).map_err(|why| AuthorityError::Stranger {
        place: place.to_owned(),
        root: short(&root),
        why,
    })
}

async fn usable(
    store: &dyn Store,
    witness: &dyn Witness,
    kept: &Kept,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Taken, AuthorityError> {
    let held = held(store, &kept.record, trust_domain, now)?;
    confirm(&store.place(), witness, &held.issuer).await?;
    Ok(Taken { held, origin: Origin::Stored, revision: kept.revision.clone() })
}

async fn look(place: &str, witness: &dyn Witness) -> Result<Vec<Trusted>, AuthorityError> {
    witness.look().await.map_err(|source| AuthorityError::Unknown { place: place.to_owned(), source })
}

fn held(
    store: &dyn Store,
    record: &Record,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Held, AuthorityError> {
    Held::of(record, trust_domain, now)
        .map_err(|source| AuthorityError::Unfit { place: store.place(), source })
}
