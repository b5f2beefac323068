//! Pure: what may happen to the authorities, and what follows from it?
//!
//! Steps that could strand a reader take a proof ([`Distributed`], [`Unneeded`]) that only `gate` makes, for exactly the
//! state it was made about. What is decided here is written to the store before anything is done about it.

use std::time::Duration;

use time::OffsetDateTime;

use crate::authority::gate::Distributed;
use crate::authority::gate::Unneeded;
use crate::authority::state::Authority;
use crate::authority::state::AuthorityId;
use crate::authority::state::Kind;
use crate::authority::state::Outcome;
use crate::authority::state::Past;
use crate::authority::state::Rotation;
use crate::authority::state::Stage;
use crate::authority::state::State;
use crate::x509::Certificate;

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new authority comes into the bundle.
    Prepare {
        /// It; its key is kept with the state.
        authority: Box<Authority>,
        /// How its rotation goes.
        terms: Terms,
    },
    /// The rotation under way is to go on by itself.
    Automate {
        /// Who says so.
        by: String,
    },
    /// The prepared authority signs from now on.
    Activate(Distributed),
    /// A retiring authority's root leaves the bundle.
    Retire(Unneeded),
    /// The keys of retired authorities are destroyed.
    Remove(Distributed),
    /// The prepared authority is withdrawn.
    Abort {
        /// Who says so.
        by: String,
    },
    /// The authority that signed before signs again.
    RollBack {
        /// Who says so.
        by: String,
    },
    /// An authority's key is not to be trusted any more.
    Taint {
        /// Which one.
        id: AuthorityId,
        /// Who says so.
        by: String,
        /// A new authority, for the case that one is needed.
        spare: Box<Authority>,
    },
    /// The roots beside those of the authorities are these.
    Extra(Vec<Certificate>),
}

/// How a rotation goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Why it begins.
    pub kind: Kind,
    /// Who orders it.
    pub by: String,
    /// Whether it goes on by itself.
    pub automatic: bool,
    /// Workloads move within this time.
    pub window: Duration,
}

/// What follows from a step, besides its being kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This set of roots is published.
    Publish {
        /// Its number.
        sequence: u64,
    },
    /// This authority signs.
    SwitchSigner(AuthorityId),
    /// This authority's key is destroyed.
    DestroyKey(AuthorityId),
    /// The rotation is over.
    Ended(Outcome),
}

/// Why a step is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is one already.
    #[error(
        "a rotation is under way: ordered by {by}, and in phase `{phase}`; watch it by `burgrave root rotate --watch`{way_out}"
    )]
    UnderWay {
        /// Who ordered it.
        by: String,
        /// Where it is.
        phase: &'static str,
        /// How it ends.
        way_out: &'static str,
    },
    /// There is none.
    #[error(
        "no rotation is under way; begin one by `burgrave root rotate`, or by `burgrave root prepare` to take each step by hand"
    )]
    NoRotation,
    /// Nothing is prepared.
    #[error("no authority is prepared; prepare one by `burgrave root prepare`")]
    NothingPrepared,
    /// It is too late to abort.
    #[error(
        "authority `{0}` signs already, so there is nothing to abort; the one before it signs again after `burgrave root rollback`"
    )]
    TooLateToAbort(AuthorityId),
    /// There is nothing to go back to.
    #[error("there is no authority to go back to: {0}")]
    NoWayBack(&'static str),
    /// Nothing is retiring under that name.
    #[error("authority `{0}` is not retiring; `burgrave root status` shows which is where")]
    NotRetiring(AuthorityId),
    /// Nothing is retired.
    #[error("no retired authority is left to remove")]
    NothingRetired,
    /// The evidence is about another state.
    #[error(
        "the authorities have changed since the evidence was gathered (step {shown}, now {present}); ask again"
    )]
    StaleEvidence {
        /// Which step the evidence is about.
        shown: u64,
        /// Which there is.
        present: u64,
    },
    /// The authority is not valid.
    #[error("authority `{id}` is valid from {from} to {to}, which is not now; abort, and prepare another")]
    NotValid {
        /// Which one.
        id: AuthorityId,
        /// From when it is.
        from: OffsetDateTime,
        /// Until when it is.
        to: OffsetDateTime,
    },
    /// It is there already.
    #[error("authority `{0}` is there already; a rotation needs a new key")]
    Known(AuthorityId),
    /// There is none of that name.
    #[error("there is no authority `{0}`; `burgrave root status` lists them")]
    Unknown(AuthorityId),
    /// It has been tainted before.
    #[error(
        "authority `{0}` is tainted; it may not sign again, and the rotation away from it goes on: watch it by `burgrave root rotate --watch`"
    )]
    Tainted(AuthorityId),
    /// What would come out is no sound state.
    #[error("that would leave the authorities in no sound state: {0}")]
    Unsound(String),
}

/// What to do when `event` happens to `state` at `now`.
///
/// # Errors
/// If it may not happen now; the state is as it was.
pub fn step(state: &State, event: Event, now: OffsetDateTime) -> Result<(State, Vec<Effect>), Refusal> {
    let mut next = state.clone();
    let mut effects = Vec::new();
    match event {
        Event::Prepare { authority, terms } => prepare(&mut next, *authority, terms, now)?,
        Event::Automate { by } => {
            let rotation = next.rotation.as_mut().ok_or(Refusal::NoRotation)?;
            (rotation.automatic, rotation.by) = (true, by);
        }
        Event::Activate(proof) => activate(&mut next, &proof, now, &mut effects)?,
        Event::Retire(proof) => retire(&mut next, &proof, now)?,
        Event::Remove(proof) => remove(&mut next, &proof, &mut effects)?,
        Event::Abort { by } => abort(&mut next, by, now, &mut effects)?,
        Event::RollBack { by } => roll_back(&mut next, by, now, &mut effects)?,
        Event::Taint { id, by, spare } => taint(&mut next, &id, by, *spare, now, &mut effects)?,
        Event::Extra(roots) => next.extra = roots,
    }
    end_if_over(&mut next, now, &mut effects);
    next.check().map_err(|why| Refusal::Unsound(why.to_string()))?;
    next.steps = state.steps.saturating_add(1);
    if next.bundle() != state.bundle() {
        next.sequence = state.sequence.saturating_add(1);
        effects.insert(0, Effect::Publish { sequence: next.sequence });
    }
    Ok((next, effects))
}

/// The phase of a rotation, in one word.
pub fn phase(state: &State) -> Option<&'static str> {
    state.rotation.as_ref()?;
    Some(match (state.prepared(), state.at(Stage::Retiring).next()) {
        (Some(_), _) => "distribute",
        (None, Some(_)) => "reissue",
        (None, None) => "withdraw",
    })
}

fn under_way(state: &State) -> Option<Refusal> {
    let rotation = state.rotation.as_ref()?;
    let way_out = match state.prepared() {
        Some(_) => ", or end it first by `burgrave root abort`",
        None if before(state).is_some() => ", or end it first by `burgrave root rollback`",
        None => "",
    };
    Some(Refusal::UnderWay { by: rotation.by.clone(), phase: phase(state).unwrap_or("withdraw"), way_out })
}

fn prepare(
    state: &mut State,
    authority: Authority,
    terms: Terms,
    now: OffsetDateTime,
) -> Result<(), Refusal> {
    if let Some(refusal) = under_way(state) {
        return Err(refusal);
    }
    enter(state, authority, now)?;
    state.rotation = Some(Rotation {
        kind: terms.kind,
        by: terms.by,
        automatic: terms.automatic,
        window: terms.window,
        began_at: now,
        activated_at: None,
        retired_at: None,
        rolled_back: false,
        forced: Vec::new(),
    });
    Ok(())
}

fn enter(state: &mut State, authority: Authority, now: OffsetDateTime) -> Result<(), Refusal> {
    if state.authority(&authority.id).is_some() {
        return Err(Refusal::Known(authority.id));
    }
    valid(&authority, now)?;
    state.authorities.push(Authority { stage: Stage::Prepared, ..authority });
    Ok(())
}

fn valid(authority: &Authority, now: OffsetDateTime) -> Result<(), Refusal> {
    let all = || authority.chain.iter().chain([&authority.root]);
    if all().all(|one| one.is_valid_at(now)) {
        return Ok(());
    }
    let from = all().map(|one| one.facts().not_before).max().unwrap_or(now);
    Err(Refusal::NotValid { id: authority.id.clone(), from, to: authority.not_after() })
}

fn is_about(state: &State, shown: u64) -> Result<(), Refusal> {
    match shown == state.steps {
        true => Ok(()),
        false => Err(Refusal::StaleEvidence { shown, present: state.steps }),
    }
}

fn activate(
    state: &mut State,
    proof: &Distributed,
    now: OffsetDateTime,
    effects: &mut Vec<Effect>,
) -> Result<(), Refusal> {
    let prepared = state.prepared().ok_or(Refusal::NothingPrepared)?;
    is_about(state, proof.steps())?;
    valid(prepared, now)?;
    let id = prepared.id.clone();
    switch(state, &id, now, effects);
    if let Some(rotation) = &mut state.rotation {
        rotation.activated_at = Some(now);
        rotation.forced.extend(proof.forced_by().map(|by| format!("activate, by {by}")));
    }
    Ok(())
}

/// Makes `id` the one that signs, and the one that did a retiring one.
fn switch(state: &mut State, id: &AuthorityId, now: OffsetDateTime, effects: &mut Vec<Effect>) {
    for one in &mut state.authorities {
        if one.id == *id {
            one.stage = Stage::Active;
            one.activated_at.get_or_insert(now);
            one.retiring_since = None;
        } else if one.stage == Stage::Active {
            one.stage = Stage::Retiring;
            one.retiring_since = Some(now);
        }
    }
    effects.push(Effect::SwitchSigner(id.clone()));
}

fn retire(state: &mut State, proof: &Unneeded, now: OffsetDateTime) -> Result<(), Refusal> {
    is_about(state, proof.steps())?;
    let id = proof.authority();
    let retiring = state.authorities.iter_mut().find(|one| one.id == *id && one.stage == Stage::Retiring);
    retiring.ok_or_else(|| Refusal::NotRetiring(id.clone()))?.stage = Stage::Retired;
    if let Some(rotation) = &mut state.rotation {
        rotation.retired_at = Some(now);
        rotation.forced.extend(proof.forced_by().map(|by| format!("retire {id}, by {by}")));
    }
    Ok(())
}

fn remove(state: &mut State, proof: &Distributed, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
    is_about(state, proof.steps())?;
    let before = effects.len();
    state.authorities.retain(|one| match one.stage {
        Stage::Retired => {
            effects.push(Effect::DestroyKey(one.id.clone()));
            false
        }
        Stage::Prepared | Stage::Active | Stage::Retiring => true,
    });
    if effects.len() == before {
        return Err(Refusal::NothingRetired);
    }
    if let Some(rotation) = &mut state.rotation {
        rotation.forced.extend(proof.forced_by().map(|by| format!("remove, by {by}")));
    }
    Ok(())
}

/// The prepared authority has signed nothing, so nobody can miss it.
fn abort(
    state: &mut State,
    by: String,
    now: OffsetDateTime,
    effects: &mut Vec<Effect>,
) -> Result<(), Refusal> {
    let rotation = state.rotation.clone().ok_or(Refusal::NoRotation)?;
    let Some(prepared) = state.prepared() else {
        return Err(Refusal::TooLateToAbort(state.active().id.clone()));
    };
    let id = prepared.id.clone();
    state.authorities.retain(|one| one.id != id);
    effects.push(Effect::DestroyKey(id.clone()));
    // In an emergency there may be others on their way out; they go on.
    if state.authorities.iter().all(|one| one.stage == Stage::Active) {
        let rotation = Rotation { by, ..rotation };
        state.rotation = None;
        state.remember(Past { rotation, outcome: Outcome::Aborted, ended_at: now, removed: vec![id] });
        effects.push(Effect::Ended(Outcome::Aborted));
    }
    Ok(())
}

fn roll_back(
    state: &mut State,
    by: String,
    now: OffsetDateTime,
    effects: &mut Vec<Effect>,
) -> Result<(), Refusal> {
    if state.rotation.is_none() {
        return Err(Refusal::NoRotation);
    }
    if state.prepared().is_some() {
        return Err(Refusal::NoWayBack("the prepared one has not signed yet; use `burgrave root abort`"));
    }
    let Some(back) = before(state) else {
        return Err(match state.at(Stage::Retiring).next() {
            Some(tainted) => Refusal::Tainted(tainted.id.clone()),
            None => {
                Refusal::NoWayBack("its root has left the bundle; prepare another by `burgrave root prepare`")
            }
        });
    };
    valid(back, now)?;
    let id = back.id.clone();
    switch(state, &id, now, effects);
    if let Some(rotation) = &mut state.rotation {
        rotation.rolled_back = !rotation.rolled_back;
        (rotation.by, rotation.activated_at) = (by, Some(now));
    }
    Ok(())
}

/// The retiring authority that signed last and may sign again.
fn before(state: &State) -> Option<&Authority> {
    let retiring = state.at(Stage::Retiring).filter(|one| one.tainted.is_none());
    retiring.max_by_key(|one| one.retiring_since)
}

/// Marks an authority, and sees to it that another one signs: the prepared one, the one before, or the spare.
fn taint(
    state: &mut State,
    id: &AuthorityId,
    by: String,
    spare: Authority,
    now: OffsetDateTime,
    effects: &mut Vec<Effect>,
) -> Result<(), Refusal> {
    let stage = state.authority(id).ok_or_else(|| Refusal::Unknown(id.clone()))?.stage;
    if stage == Stage::Prepared {
        return abort(state, by, now, effects);
    }
    for one in state.authorities.iter_mut().filter(|one| one.id == *id) {
        one.tainted.get_or_insert(now);
    }
    if stage == Stage::Active {
        match (state.prepared(), before(state).map(|one| one.id.clone())) {
            (Some(_), _) => {}
            (None, Some(before)) => switch(state, &before, now, effects),
            (None, None) => enter(state, spare, now)?,
        }
    }
    let rotation = state.rotation.get_or_insert_with(|| Rotation {
        kind: Kind::Emergency,
        by: by.clone(),
        automatic: true,
        window: Duration::ZERO,
        began_at: now,
        activated_at: None,
        retired_at: None,
        rolled_back: false,
        forced: Vec::new(),
    });
    (rotation.kind, rotation.automatic, rotation.window, rotation.by) =
        (Kind::Emergency, true, Duration::ZERO, by);
    Ok(())
}

/// A rotation is over when nothing is on its way in or out.
fn end_if_over(state: &mut State, now: OffsetDateTime, effects: &mut Vec<Effect>) {
    if state.authorities.iter().any(|one| one.stage != Stage::Active) {
        return;
    }
    let Some(rotation) = state.rotation.take() else { return };
    let outcome = if rotation.rolled_back { Outcome::RolledBack } else { Outcome::Done };
    let removed = effects.iter().filter_map(|effect| match effect {
        Effect::DestroyKey(id) => Some(id.clone()),
        Effect::Publish { .. } | Effect::SwitchSigner(_) | Effect::Ended(_) => None,
    });
    state.remember(Past { rotation, outcome, ended_at: now, removed: removed.collect() });
    effects.push(Effect::Ended(outcome));
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
