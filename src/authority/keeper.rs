//! Writes what the machine decides: load, step, compare-and-swap, and only then act on it.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::authority::follow::Follower;
use crate::authority::machine::Effect;
use crate::authority::machine::Event;
use crate::authority::machine::Refusal;
use crate::authority::machine::step;
use crate::authority::record::NewAuthority;
use crate::authority::record::Record;
use crate::authority::record::kept_precisely;
use crate::authority::state::AuthorityId;
use crate::authority::state::State;
use crate::authority::store::Kept;
use crate::authority::store::Store;
use crate::authority::store::StoreError;
use crate::authority::store::Swap;
use crate::x509::PrivateKey;

/// How often a step is tried again when somebody else was faster.
const ATTEMPTS: u32 = 16;

/// Steps of one store. Clones share it.
#[derive(Clone)]
pub struct Keeper {
    store: Arc<dyn Store>,
    follower: Follower,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// It may not be taken.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed: whether the step was taken is not known, and a look will tell.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no record.
    #[error("{0} is gone; restore it from a copy first")]
    Gone(String),
    /// Others were faster each time.
    #[error("{0} is being changed by others all the time; try again")]
    Busy(String),
    /// What would be kept could not sign.
    #[error("what would be kept could not sign: {0}")]
    Unfit(String),
}

/// A step to be taken, with the key of the authority that comes in by it.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happens.
    pub event: Event,
    /// The key, if an authority comes in.
    pub key: Option<(AuthorityId, Arc<PrivateKey>)>,
}

impl From<Event> for Step {
    fn from(event: Event) -> Self {
        Self { event, key: None }
    }
}

impl Step {
    /// A step by which `new` comes in.
    pub fn with(
        new: NewAuthority,
        event: impl FnOnce(Box<crate::authority::state::Authority>) -> Event,
    ) -> Self {
        let key = (new.authority.id.clone(), Arc::new(new.key));
        Self { event: event(Box::new(new.authority)), key: Some(key) }
    }
}

impl Keeper {
    /// Keeps in `store`; what is kept is taken over by `follower`.
    pub fn new(store: Arc<dyn Store>, follower: Follower) -> Self {
        Self { store, follower }
    }

    /// Where it is kept.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// What is kept now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn load(&self) -> Result<Kept, KeeperError> {
        self.store.load().await?.ok_or_else(|| KeeperError::Gone(self.store.place()))
    }

    /// Takes the step that `choose` finds for what is kept, once it is in the store. Returns the state before it and after it,
    /// and what follows.
    ///
    /// # Errors
    /// If it is refused, or cannot be kept.
    pub async fn take(
        &self,
        choose: impl Fn(&State) -> Result<Step, Refusal>,
        now: OffsetDateTime,
    ) -> Result<(State, State, Vec<Effect>), KeeperError> {
        let now = kept_precisely(now);
        for _ in 0..ATTEMPTS {
            let Kept { record, revision } = self.load().await?;
            let Step { event, key } = choose(&record.state)?;
            let (state, effects) = step(&record.state, event, now)?;
            let next = record.stepped(state, key);
            // A CA that could not sign afterwards does not go there.
            next.issuer(&self.follower.trust_domain, now)
                .map_err(|error| KeeperError::Unfit(error.to_string()))?;
            if let Swap::Done(revision) = self.store.swap(Some(&revision), &next).await? {
                let (before, after) = (record.state, next.state.clone());
                self.follower.take(&Kept { record: next, revision }, &self.store.place());
                return Ok((before, after, effects));
            }
        }
        Err(KeeperError::Busy(self.store.place()))
    }

    /// Writes the state of a record again that was changed by hand, so that its number stands in it.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn tidy(&self) -> Result<(), KeeperError> {
        let Kept { record, revision } = self.load().await?;
        if !record.is_edited() || record.state.active().id != self.follower.in_force.held().state.active().id
        {
            return Ok(());
        }
        let tidy: Record = record.stepped(record.state.clone(), None);
        if let Swap::Done(revision) = self.store.swap(Some(&revision), &tidy).await? {
            self.follower.take(&Kept { record: tidy, revision }, &self.store.place());
        }
        Ok(())
    }
}
