//! Takes each step as soon as there is evidence for it; only where this process leads, or is alone.

use std::time::Duration;

use crate::authority;
use crate::authority::Event;
use crate::authority::Gate;
use crate::authority::Kind;
use crate::authority::Next;
use crate::authority::Refusal;
use crate::authority::Step;
use crate::rotation::bulletin::pause_that_leaves_the_time_to_others;
use crate::rotation::orders::Orders;

/// What is done at the most so often: evidence may change a thousand times a second.
const PAUSE: Duration = Duration::from_millis(50);
/// Time passes without a change of anything, and certificates expire.
const TICK: Duration = Duration::from_secs(1);
/// The pause after the store has failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Who orders what nobody has ordered.
const BY_ITSELF: &str = "burgrave, by age";

/// Says why no step can be taken; whoever conducts no more has nothing to say.
struct Complaint<F: Fn(Option<String>)>(F);

impl<F: Fn(Option<String>)> Drop for Complaint<F> {
    fn drop(&mut self) {
        (self.0)(None);
    }
}

/// Conducts rotations for as long as it is polled. What keeps it from doing so goes to `complain`.
pub async fn conduct(orders: Orders, complain: impl Fn(Option<String>)) {
    let complaint = Complaint(complain);
    let mut held = orders.sources.in_force.watch();
    let mut census = orders.sources.census.changes();
    let mut others = orders.sources.others.clone();
    // What was changed by hand is looked for whenever something has changed, and not all the time.
    let mut looked_at = None;
    loop {
        let mut pause = PAUSE;
        let failed = step(&orders, &mut looked_at, &mut pause).await.err();
        if failed.is_some() {
            pause = pause.max(AGAIN);
        }
        (complaint.0)(failed.map(|error| format!("a step of the rotation cannot be taken: {error}")));
        tokio::time::sleep(pause).await;
        tokio::select! {
            changed = held.changed() => if changed.is_err() { return },
            _ = census.changed() => {}
            _ = others.changed() => {}
            () = tokio::time::sleep(TICK) => {}
        }
        held.mark_unchanged();
        census.mark_unchanged();
        others.mark_unchanged();
    }
}

/// One look, and what follows from it; says in `pause` how soon to look again.
async fn step(orders: &Orders, looked_at: &mut Option<u64>, pause: &mut Duration) -> Result<(), String> {
    let held = orders.sources.in_force.held();
    let now = orders.sources.clock.now();
    // Nothing is under way, and nothing is due: most of the time, at no cost.
    let rotate_at_age = orders.rotate_at_age;
    let is_quiet = held.state.rotation().is_none()
        && rotate_at_age
            .is_none_or(|age| now < authority::scheduled_rotation_begins(held.state.active(), age));
    match is_quiet {
        true if *looked_at == Some(held.state.sequence()) => Ok(()),
        true => {
            let tidied = orders.keeper.tidy().await.map_err(|error| error.to_string());
            if tidied.is_ok() {
                *looked_at = Some(held.state.sequence());
            }
            tidied
        }
        false => {
            let next = orders.sources.judge(&held, |evidence| {
                *pause = pause_that_leaves_the_time_to_others(evidence.readers.len(), PAUSE);
                authority::advance(&held.state, evidence, rotate_at_age, now)
            });
            match next {
                Next::Do(event) => take(orders, &held.state, event).await,
                Next::Renew => orders.renew(BY_ITSELF, Kind::Scheduled).await,
                Next::Wait(gate) => {
                    *pause = pause_until_all_could_have_answered(gate.waits_for()).max(*pause);
                    tell(&gate);
                    Ok(())
                }
                Next::Rest => Ok(()),
            }
        }
    }
}

/// How soon so many could all have answered, if they are faster than any seen so far; no look before that finds the gate open.
/// Whoever stops to count by themselves is found after a second at the latest.
fn pause_until_all_could_have_answered(waits_for: usize) -> Duration {
    (Duration::from_micros(20) * u32::try_from(waits_for).unwrap_or(u32::MAX)).min(TICK)
}

/// Takes a step that was decided on `state`, and on no other.
async fn take(orders: &Orders, state: &authority::State, event: Event) -> Result<(), String> {
    let name = match event {
        Event::Activate(_) => "activate",
        Event::Retire(_) => "retire",
        Event::Remove(_) => "remove",
        _ => "step",
    };
    let choose = |present: &authority::State| match present.steps() == state.steps() {
        true => Ok(Step::from(event.clone())),
        false => Err(Refusal::StaleEvidence { shown: state.steps(), present: present.steps() }),
    };
    let by = state.rotation().map_or(BY_ITSELF, |one| one.by.as_str());
    match orders.take(name, by, choose).await {
        Ok(_) => Ok(()),
        // Somebody else was faster, and the watch is about to say how it stands.
        Err(error) if error.is_stale() => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn tell(gate: &Gate) {
    let first = gate.waiting.first();
    tracing::debug!(
        done = gate.done(),
        total = gate.total,
        waits_for = first.map(|one| one.who.as_str()),
        why = first.map(|one| one.why.as_str()),
        "the rotation waits"
    );
}
