//! Pure: what is to be done next, if the evidence allows it? The leader asks this again and again.

use std::time::Duration;

use time::OffsetDateTime;

use crate::authority::gate;
use crate::authority::gate::Evidence;
use crate::authority::gate::Gate;
use crate::authority::machine::Event;
use crate::authority::state::Authority;
use crate::authority::state::Stage;
use crate::authority::state::State;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// There is evidence for this.
    Do(Event),
    /// The active authority has reached its age: a new one is to be prepared.
    Renew,
    /// There is not enough evidence yet.
    Wait(Gate),
    /// It is an operator's turn, or nothing is under way.
    Rest,
}

/// What is to be done next to `state`. `rotate_at_age` is the age at which an authority is replaced by itself, if it is.
pub fn advance(
    state: &State,
    evidence: &Evidence,
    rotate_at_age: Option<Duration>,
    now: OffsetDateTime,
) -> Next {
    let Some(rotation) = state.rotation() else {
        let is_due = |age| now >= scheduled_rotation_begins(state.active(), age);
        return if rotate_at_age.is_some_and(is_due) { Next::Renew } else { Next::Rest };
    };
    let proved = |proof: Result<Event, Gate>| proof.map_or_else(Next::Wait, Next::Do);
    // A key that is no longer trusted anywhere needs no operator to go.
    if state.prepared().is_none()
        && state.at(Stage::Retired).next().is_some()
        && let Ok(proof) = gate::distributed(state, evidence, now)
    {
        return Next::Do(Event::Remove(proof));
    }
    if !rotation.automatic {
        return Next::Rest;
    }
    if state.prepared().is_some() {
        return proved(gate::distributed(state, evidence, now).map(Event::Activate));
    }
    match state.at(Stage::Retiring).next() {
        Some(retiring) => proved(gate::unneeded(state, &retiring.id, evidence, now).map(Event::Retire)),
        None => proved(gate::distributed(state, evidence, now).map(Event::Remove)),
    }
}

/// The gate that `state` stands at, whoever opens it; `None` if nothing is under way.
pub fn present_gate(state: &State, evidence: &Evidence, now: OffsetDateTime) -> Option<Gate> {
    state.rotation()?;
    let retiring = state.at(Stage::Retiring).next();
    Some(match (state.prepared(), retiring) {
        (None, Some(retiring)) => gate::reissue(state, &retiring.id, evidence, now),
        _ => gate::distribution(state, evidence, now),
    })
}

/// When a rotation of `active` begins by itself: when it has signed for `age`.
pub fn scheduled_rotation_begins(active: &Authority, age: Duration) -> OffsetDateTime {
    active.activated_at.unwrap_or(active.prepared_at) + age
}

/// The longest life of leaves that a rotation at `age` never cuts short: whatever an authority with a life of `root` signs
/// before its successor takes over, `patience` after that age, still fits into its own life.
///
/// A leaf never outlives its issuer, so a longer one would be cut, and with ever shorter leaves workloads would come ever more often.
pub fn largest_leaf_lifetime_a_scheduled_rotation_never_cuts_short(
    root: Duration,
    age: Duration,
    patience: Duration,
) -> Duration {
    root.saturating_sub(age).saturating_sub(patience)
}

/// The time within which `holders` workloads move, so that they ask for at most `per_second` certificates a second.
pub fn window_that_asks_for_at_most(per_second: u32, holders: usize) -> Duration {
    let holders = u32::try_from(holders).unwrap_or(u32::MAX);
    Duration::from_secs(1).saturating_mul(holders) / per_second.max(1)
}

#[cfg(test)]
#[path = "advance_tests.rs"]
mod tests;
