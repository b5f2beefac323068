//! What operators order, and what they see: one place for every road that leads here.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::authority;
use crate::authority::AuthorityId;
use crate::authority::Distributed;
use crate::authority::Effect;
use crate::authority::Event;
use crate::authority::Keeper;
use crate::authority::KeeperError;
use crate::authority::Kind;
use crate::authority::NewAuthority;
use crate::authority::Parts;
use crate::authority::Refusal;
use crate::authority::Stage;
use crate::authority::State;
use crate::authority::Step;
use crate::authority::Terms;
use crate::authority::Unneeded;
use crate::identity::TrustDomain;
use crate::rotation::audit;
use crate::rotation::known::Sources;
use crate::rotation::report::Readers;
use crate::rotation::report::Report;
use crate::rotation::telling;
use crate::rotation::telling::Circumstances;

/// The shortest time within which workloads move, unless an operator says otherwise.
const SHORTEST_WINDOW: Duration = Duration::from_secs(2);

/// Says what is wrong with this process.
pub type Troubles = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Takes orders. Clones share all of it.
#[derive(Clone)]
pub struct Orders {
    /// Writes what is decided.
    pub keeper: Keeper,
    /// What is known.
    pub sources: Sources,
    /// Trust domain of new roots.
    pub trust_domain: TrustDomain,
    /// Life of a new root.
    pub root_lifetime: Duration,
    /// The age at which an authority is replaced by itself.
    pub rotate_at_age: Option<Duration>,
    /// How many certificates a second workloads ask for at most when they move.
    pub reissue_per_second: u32,
    /// What is wrong with this process.
    pub troubles: Troubles,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("keeper", &self.keeper).finish_non_exhaustive()
    }
}

/// What was ordered.
#[derive(Debug)]
pub enum Order {
    /// Prepare a new authority.
    Prepare(NewOrder),
    /// Prepare one, if none is under way, and take every step by itself.
    Rotate(NewOrder),
    /// The prepared authority signs.
    Activate,
    /// The retiring one's root leaves the bundle.
    Retire,
    /// Withdraw the prepared one.
    Abort,
    /// The one before signs again.
    RollBack,
    /// A key is not to be trusted any more; the active one's if none is named.
    Taint(Option<AuthorityId>),
}

impl Order {
    /// Its name, as verb and in the audit trail.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "prepare",
            Self::Rotate(_) => "rotate",
            Self::Activate => "activate",
            Self::Retire => "retire",
            Self::Abort => "abort",
            Self::RollBack => "rollback",
            Self::Taint(_) => "taint",
        }
    }
}

/// What a new authority is to be.
#[derive(Default)]
pub struct NewOrder {
    /// Files of a plugged-in CA; none to have one made.
    pub files: HashMap<String, Zeroizing<Vec<u8>>>,
    /// Whether the present root certifies the new one.
    pub cross_sign: bool,
    /// Time within which workloads move; `None` for what suits their number.
    pub window: Option<Duration>,
}

impl fmt::Debug for NewOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One of the files is a key.
        let files: Vec<_> = self.files.keys().collect();
        f.debug_struct("NewOrder")
            .field("files", &files)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// It cannot be done now.
    #[error("{0}")]
    NotNow(String),
    /// It can never be done so.
    #[error("{0}")]
    Never(String),
    /// The store failed.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

impl NotDone {
    /// Whether somebody else was faster.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Self::Keeper(KeeperError::Refused(Refusal::StaleEvidence { .. })))
    }
}

impl Orders {
    /// Carries an order out, for `by`. With `force`, without evidence.
    ///
    /// # Errors
    /// If it cannot be done, with a sentence that says why, whom it waits for, and what to do.
    pub async fn act(&self, order: Order, by: &str, force: bool) -> Result<(), NotDone> {
        let name = order.name();
        let result = self.carry_out(order, by, force).await;
        if let Err(error) = &result {
            audit::refused(name, by, &error.to_string());
        }
        result
    }

    async fn carry_out(&self, order: Order, by: &str, force: bool) -> Result<(), NotDone> {
        let by_whom = || by.to_owned();
        match order {
            Order::Prepare(new) => self.begin(new, by, Kind::Ordered, false).await,
            Order::Rotate(new) => {
                let state = self.keeper.load().await?.record.state;
                match state.rotation() {
                    None => self.begin(new, by, Kind::Ordered, true).await,
                    Some(_) if force && authority::phase(&state) == Some("withdraw") => {
                        let proof = Distributed::forced(&state, by);
                        self.take("remove", by, |_| Ok(Event::Remove(proof.clone()).into())).await.map(drop)
                    }
                    Some(rotation) if rotation.automatic => Ok(()),
                    Some(_) => {
                        let automate = |_: &State| Ok(Event::Automate { by: by_whom() }.into());
                        self.take("rotate", by, automate).await.map(drop)
                    }
                }
            }
            Order::Activate => self.activate(by, force).await,
            Order::Retire => self.retire(by, force).await,
            Order::Abort => {
                self.take("abort", by, |_| Ok(Event::Abort { by: by_whom() }.into())).await.map(drop)
            }
            Order::RollBack => {
                self.take("rollback", by, |_| Ok(Event::RollBack { by: by_whom() }.into())).await.map(drop)
            }
            Order::Taint(id) => self.taint(id, by).await,
        }
    }

    /// Begins a rotation that nobody has ordered.
    pub(super) async fn renew(&self, by: &str, kind: Kind) -> Result<(), String> {
        self.begin(NewOrder::default(), by, kind, true).await.map_err(|error| error.to_string())
    }

    async fn begin(&self, new: NewOrder, by: &str, kind: Kind, automatic: bool) -> Result<(), NotDone> {
        let kept = self.keeper.load().await?;
        let window = new.window.unwrap_or_else(|| self.window());
        let cross_sign = new.cross_sign;
        let mut made = self.make(new)?;
        if cross_sign {
            made = made.crossed(&kept.record).map_err(|error| NotDone::Never(error.to_string()))?;
        }
        let terms = Terms { kind, by: by.to_owned(), automatic, window };
        let step = Step::with(made, |authority| Event::Prepare { authority, terms });
        let name = if automatic { "rotate" } else { "prepare" };
        self.take(name, by, |_| Ok(step.clone())).await.map(drop)
    }

    fn make(&self, new: NewOrder) -> Result<NewAuthority, NotDone> {
        let now = self.sources.clock.now();
        if new.files.is_empty() {
            return NewAuthority::make(&self.trust_domain, self.root_lifetime, now)
                .map_err(|error| NotDone::NotNow(format!("a new authority cannot be made: {error}")));
        }
        let files: Parts = new.files.into_iter().collect();
        let plugged = authority::plugged(&files, Path::new("."), &self.trust_domain, now)
            .map_err(|error| NotDone::Never(error.to_string()))?;
        let root = plugged.issuer.root().clone();
        Ok(NewAuthority::brought(plugged.chain, root, plugged.key, now))
    }

    async fn activate(&self, by: &str, force: bool) -> Result<(), NotDone> {
        let held = self.sources.in_force.held();
        let now = self.sources.clock.now();
        let found = self.sources.judge(&held, |evidence| authority::distributed(&held.state, evidence, now));
        let proof = match (force, found) {
            (_, Ok(proof)) => proof,
            (true, Err(_)) => Distributed::forced(&held.state, by),
            (false, Err(gate)) => {
                let Some(prepared) = held.state.prepared() else {
                    return Err(KeeperError::Refused(Refusal::NothingPrepared).into());
                };
                let what = format!("authority `{}` cannot be activated", prepared.id);
                return Err(NotDone::NotNow(telling::closed(&what, &gate)));
            }
        };
        self.take("activate", by, |_| Ok(Event::Activate(proof.clone()).into())).await.map(drop)
    }

    async fn retire(&self, by: &str, force: bool) -> Result<(), NotDone> {
        let held = self.sources.in_force.held();
        let Some(retiring) = held.state.at(Stage::Retiring).next() else {
            return Err(match held.state.rotation() {
                None => KeeperError::Refused(Refusal::NoRotation).into(),
                Some(_) => NotDone::NotNow(
                    "nothing is retiring; an authority retires once another one is active (burgrave root activate)"
                        .to_owned(),
                ),
            });
        };
        let now = self.sources.clock.now();
        let found = self
            .sources
            .judge(&held, |evidence| authority::unneeded(&held.state, &retiring.id, evidence, now));
        let proof = match (force, found) {
            (_, Ok(proof)) => proof,
            (true, Err(_)) => Unneeded::forced(&held.state, &retiring.id, by),
            (false, Err(gate)) => {
                let what = format!("authority `{}` cannot be retired", retiring.id);
                return Err(NotDone::NotNow(telling::closed(&what, &gate)));
            }
        };
        self.take("retire", by, |_| Ok(Event::Retire(proof.clone()).into())).await.map(drop)
    }

    async fn taint(&self, id: Option<AuthorityId>, by: &str) -> Result<(), NotDone> {
        let spare = self.make(NewOrder::default())?;
        let key = Some((spare.authority.id.clone(), Arc::new(spare.key)));
        let choose = |state: &State| {
            let id = id.clone().unwrap_or_else(|| state.active().id.clone());
            let spare = Box::new(spare.authority.clone());
            Ok(Step { event: Event::Taint { id, by: by.to_owned(), spare }, key: key.clone() })
        };
        self.take("taint", by, choose).await.map(drop)
    }

    /// Takes a step and writes it down.
    pub(super) async fn take(
        &self,
        name: &str,
        by: &str,
        choose: impl Fn(&State) -> Result<Step, Refusal>,
    ) -> Result<Vec<Effect>, NotDone> {
        let (before, after, effects) = self.keeper.take(choose, self.sources.clock.now()).await?;
        audit::taken(name, by, &before, &after, &effects);
        Ok(effects)
    }

    /// The time within which as many workloads as there are may move without storming anybody.
    fn window(&self) -> Duration {
        let holders = crate::rotation::merge::holders(&self.sources.known()).len();
        authority::window_that_asks_for_at_most(self.reissue_per_second, holders).max(SHORTEST_WINDOW)
    }

    /// The authorities and their keys, encrypted with a passphrase, for `by`.
    ///
    /// # Errors
    /// If they cannot be read, or the passphrase is not fit.
    pub async fn export(&self, passphrase: Zeroizing<String>, by: &str) -> Result<String, NotDone> {
        let parts = self.keeper.load().await?.record.to_parts();
        // It takes half a second of work and a quarter of a gigabyte, on purpose.
        let sealed = tokio::task::spawn_blocking(move || authority::seal(&parts, &passphrase)).await;
        let sealed = sealed.map_err(|error| NotDone::NotNow(error.to_string()))?;
        let sealed = sealed.map_err(|error| NotDone::Never(error.to_string()))?;
        audit::exported(by);
        Ok(sealed)
    }
}

/// What operators see, also where nothing can be ordered. Clones share all of it.
#[derive(Clone)]
pub struct View {
    /// What is known.
    pub sources: Sources,
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// Where the authorities are kept, in words.
    pub place: String,
    /// Whether steps can be taken here.
    pub can_rotate: bool,
    /// The age at which an authority is replaced by itself.
    pub rotate_at_age: Option<Duration>,
    /// What is wrong with this process.
    pub troubles: Troubles,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("place", &self.place).finish_non_exhaustive()
    }
}

impl View {
    /// How things stand.
    pub fn report(&self) -> Report {
        let held = self.sources.in_force.held();
        let is_idle = held.state.rotation().is_none();
        let about = Circumstances {
            trust_domain: self.trust_domain.to_string(),
            place: self.place.clone(),
            can_rotate: self.can_rotate,
            next_scheduled: self
                .rotate_at_age
                .filter(|_| is_idle)
                .map(|age| authority::scheduled_rotation_begins(held.state.active(), age)),
            troubles: (self.troubles)(),
        };
        let now = self.sources.clock.now();
        self.sources.judge(&held, |evidence| telling::report(&held.state, evidence, &about, now))
    }

    /// Who reads the roots and has which certificates.
    pub fn readers(&self) -> Readers {
        let held = self.sources.in_force.held();
        telling::readers(&held.state, &self.sources.known(), self.sources.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_brings_is_not_printed() {
        let files = [("ca-key.pem".to_owned(), Zeroizing::new(b"a secret".to_vec()))].into();
        let order = Order::Rotate(NewOrder { files, ..NewOrder::default() });
        let printed = format!("{order:?}");
        assert!(printed.contains("ca-key.pem"), "{printed}");
        assert!(!printed.contains("a secret") && !printed.contains("97, 32"), "{printed}");
    }
}
