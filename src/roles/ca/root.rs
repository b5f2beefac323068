//! Loads the authority at start, from wherever it is kept, and follows it where it can change.

use std::future::Future;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::authority;
use crate::authority::AuthorityError;
use crate::authority::EmbeddedStore;
use crate::authority::Follower;
use crate::authority::Held;
use crate::authority::InForce;
use crate::authority::KubernetesStore;
use crate::authority::Newest;
use crate::authority::NoWitness;
use crate::authority::Store;
use crate::authority::StoreError;
use crate::authority::Taken;
use crate::authority::Witness;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::config::Authority;
use crate::config::CaConfig;
use crate::k8s::Trouble;
use crate::roles::ca::cluster::Cluster;
use crate::roles::ca::complaints::Complaints;
use crate::roles::ca::complaints::Part;
use crate::roles::ca::error::CaError;
use crate::signer::Issuer;

/// For how long a start waits for an API server that is away, before it fails and leaves the waiting to whoever restarts it.
const PATIENCE: Duration = Duration::from_secs(40);
/// The pause between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// What is kept open, or followed, while the CA runs.
#[derive(Debug)]
pub(super) enum Kept {
    /// Files that were read once.
    Files,
    /// A file of this process alone; its lock is held for as long as this is.
    Embedded(Arc<EmbeddedStore>),
    /// A Secret that may change.
    Shared(Arc<KubernetesStore>),
}

/// The authorities to begin with, and where they are kept.
pub(super) async fn load(
    config: &CaConfig,
    cluster: Option<&Cluster>,
    clock: &Clock,
) -> Result<(Held, Kept), CaError> {
    let witness: Box<dyn Witness> = match cluster {
        Some(cluster) => Box::new(cluster.survey()),
        None => Box::new(NoWitness),
    };
    let (held, kept) = match &config.authority {
        Authority::Plugged { directory } => {
            let issuer = authority::load_plugged(directory, &config.trust_domain, clock.now())?;
            let place = format!("directory `{}`", directory.display());
            patiently(async || authority::confirm(&place, witness.as_ref(), &issuer).await).await?;
            (Held::of_files(issuer), Kept::Files)
        }
        Authority::SelfSigned { state_dir, lifetime } => {
            let store = EmbeddedStore::new(state_dir);
            let held = take(&store, witness.as_ref(), config, *lifetime, clock).await?;
            (held, Kept::Embedded(Arc::new(store)))
        }
        Authority::Shared { secret, lifetime } => {
            // It cannot be without a cluster; `config` sees to that, and no root is better than a wrong one.
            let cluster = cluster.ok_or(CaError::Ended)?;
            let store = cluster.store(secret);
            let held = take(&store, witness.as_ref(), config, *lifetime, clock).await?;
            (held, Kept::Shared(Arc::new(store)))
        }
    };
    let issuer = &held.issuer;
    tracing::info!(
        root = %issuer.bundle().roots().iter().map(|root| root.fingerprint()).collect::<Vec<_>>().join(" "),
        signs = issuer.certificate().facts().subject_text,
        expires_at = %issuer.not_after(),
        "the authority is loaded"
    );
    Ok((held, kept))
}

async fn take(
    store: &dyn Store,
    witness: &dyn Witness,
    config: &CaConfig,
    lifetime: Duration,
    clock: &Clock,
) -> Result<Held, AuthorityError> {
    let attempt = async || authority::take(store, witness, &config.trust_domain, lifetime, clock.now()).await;
    let Taken { held, origin, .. } = patiently(attempt).await?;
    tracing::info!(?origin, place = store.place(), "the root is self-signed");
    Ok(held)
}

/// Tries again while the API server is only away.
async fn patiently<T, F: Future<Output = Result<T, AuthorityError>>>(
    attempt: impl Fn() -> F,
) -> Result<T, AuthorityError> {
    let began = Stopwatch::start();
    loop {
        match attempt().await {
            Err(error) if is_passing(&error) && began.elapsed() < PATIENCE => {
                tracing::warn!(%error, "the authority cannot be loaded yet");
                tokio::time::sleep(AGAIN).await;
            }
            other => return other,
        }
    }
}

fn is_passing(error: &AuthorityError) -> bool {
    let passing = |trouble: &Trouble| !(trouble.is_forbidden() || trouble.is_absent() || trouble.is_final());
    match error {
        AuthorityError::Store(StoreError::Api { source, .. }) | AuthorityError::Unknown { source, .. } => {
            passing(source)
        }
        _ => false,
    }
}

impl Kept {
    /// The store, where there is one.
    pub(super) fn store(&self) -> Option<Arc<dyn Store>> {
        match self {
            Self::Files => None,
            Self::Embedded(store) => Some(store.clone()),
            Self::Shared(store) => Some(store.clone()),
        }
    }

    /// The store that others may change.
    pub(super) fn shared(&self) -> Option<KubernetesStore> {
        match self {
            Self::Files | Self::Embedded(_) => None,
            Self::Shared(store) => Some(KubernetesStore::clone(store)),
        }
    }
}

/// Who takes over what is kept.
pub(super) fn follower(
    config: &CaConfig,
    clock: &Clock,
    in_force: &InForce,
    complaints: &Complaints,
) -> Follower {
    let complaints = complaints.clone();
    Follower {
        trust_domain: config.trust_domain.clone(),
        clock: clock.clone(),
        in_force: in_force.clone(),
        newest: Newest::default(),
        complain: Arc::new(move |wrong| complaints.set(Part::Authority, wrong)),
    }
}

/// Writes the trusted roots to `path` at each change.
pub(super) async fn keep_bundle_file(path: PathBuf, mut issuer: watch::Receiver<Arc<Issuer>>) {
    while issuer.changed().await.is_ok() {
        loop {
            let bundle = issuer.borrow_and_update().bundle().to_pem();
            let Err(error) = write_bundle(&path, &bundle) else { break };
            tracing::error!(%error, "the bundle file is out of date");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Writes beside the file and moves it into place, so that no reader finds half of it.
pub(super) fn write_bundle(path: &Path, pem: &str) -> Result<(), CaError> {
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&aside, pem)
        .and_then(|()| std::fs::rename(&aside, path))
        .map_err(|source| CaError::BundleFile { path: path.to_owned(), source })
}
