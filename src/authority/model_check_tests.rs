//! What has to hold in the model at every moment, whatever has happened.

use std::sync::Arc;

use super::world::Leaf;
use super::world::View;
use super::world::Workload;
use super::world::World;
use crate::authority::machine::Effect;
use crate::authority::state::Stage;
use crate::authority::test_support::pool;

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) rule: &'static str,
    pub(super) what: String,
}

pub(super) const VERIFIES: &str = "every workload verifies every other one's leaf";
pub(super) const NEEDED: &str = "a root leaves the bundle only when no live leaf in use needs it";
pub(super) const SIGNS: &str = "only what the store says signs, and only while its root is trusted";
pub(super) const STORED: &str = "every step is in the store before it is acted on, one after the other";
pub(super) const NUMBERED: &str = "the bundle's number grows by one exactly when the roots change";
pub(super) const DESTROYED: &str =
    "a key is destroyed only when it signs no more and its root is not trusted";
pub(super) const SIGNED: &str = "abort removes no authority that has signed";
pub(super) const TAINTED: &str = "a tainted authority never signs again";
pub(super) const ENDS: &str = "once everybody is well, an automatic rotation ends";

impl World {
    pub(super) fn violate(&mut self, rule: &'static str, what: impl FnOnce(&Self) -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, what: what(self) });
        }
    }

    /// Who uses something that lives, and was not left behind in an emergency.
    fn counts(&self, workload: &Workload) -> bool {
        !workload.is_gone
            && !workload.awaits
            && workload.excused.is_none()
            && workload.leaves.iter().any(|leaf| self.lives(leaf))
    }

    pub(super) fn check(&mut self) {
        if !std::mem::take(&mut self.touched) {
            return;
        }
        for workload in &mut self.workloads {
            // Whoever was left behind counts again as soon as it has caught up.
            let caught_up = |since: &mut u64| {
                workload.bundles.iter().all(|one| one.steps >= *since)
                    && workload.leaves.iter().all(|one| one.steps >= *since)
            };
            workload.excused.take_if(caught_up);
        }
        // Plain loops: this is most of the time that all of it takes.
        let (stored, mut trusted, mut found) = (self.stored().mask, Vec::with_capacity(4), None);
        for one in &self.workloads {
            if self.counts(one) {
                for roots in &one.bundles {
                    if !trusted.contains(&roots.mask) {
                        trusted.push(roots.mask);
                    }
                }
            }
        }
        for (number, one) in self.workloads.iter().enumerate() {
            if !self.counts(one) {
                continue;
            }
            for leaf in &one.leaves {
                if !self.lives(leaf) {
                    continue;
                }
                if leaf.path & stored == 0 {
                    found = Some((NEEDED, number, *leaf));
                }
                for roots in &trusted {
                    if roots & leaf.path == 0 {
                        found = Some((VERIFIES, number, *leaf));
                    }
                }
            }
        }
        if let Some((rule, number, leaf)) = found {
            self.violate(rule, |world| {
                let bundles = world.workloads.iter().filter(|one| world.counts(one));
                let bundles: Vec<_> =
                    bundles.map(|one| one.bundles.iter().map(|one| one.mask).collect::<Vec<_>>()).collect();
                format!(
                    "w{number} uses {leaf:?}, trusted are {bundles:?}, in the store {:#b}",
                    world.stored().mask
                )
            });
        }
        let lost = self.replicas.iter().position(|one| {
            let kept = usize::try_from(one.held.steps()).ok().and_then(|steps| self.history.get(steps));
            !kept.is_some_and(|kept| Arc::ptr_eq(kept, &one.held))
        });
        if let Some(r) = lost {
            self.violate(STORED, |_| format!("replica {r} has taken over what is not in the store"));
        }
    }

    pub(super) fn check_signing(&mut self, leaf: &Leaf, held: &View) {
        let by = &pool().id(leaf.authority);
        let stage = held.state.authority(by).map(|one| one.stage);
        let root = pool().root(leaf.authority);
        let is_trusted = self.stored().state.bundle().contains(root);
        if stage != Some(Stage::Active) || !is_trusted {
            self.violate(SIGNS, |_| format!("{leaf:?}, which is {stage:?}, trusted: {is_trusted}"));
        }
    }

    pub(super) fn check_step(&mut self, before: &View, next: &View, effects: &[Effect]) {
        let (old, new) = (&before.state, &next.state);
        if new.check().is_err() || new.steps() != old.steps() + 1 {
            self.violate(STORED, |_| format!("step {} follows step {}", new.steps(), old.steps()));
        }
        let grown = u64::from(before.digest != next.digest);
        if new.sequence() != old.sequence() + grown {
            self.violate(NUMBERED, |_| format!("{} and then {}", old.sequence(), new.sequence()));
        }
        let active = new.active();
        if active.tainted.is_some() && old.active().id != active.id {
            self.violate(TAINTED, |_| format!("{} signs", active.id));
        }
        for effect in effects {
            let Effect::DestroyKey(id) = effect else { continue };
            let number = pool().number(id);
            let stage = old.authority(id).map(|one| one.stage);
            let is_kept = new.authority(id).is_some();
            let uses = |one: &Workload| {
                self.counts(one)
                    && one.leaves.iter().any(|leaf| {
                        leaf.authority == number && self.lives(leaf) && leaf.path & next.mask == 0
                    })
            };
            let is_used = self.workloads.iter().any(uses);
            let has_signed = self.signed & (1 << number) != 0;
            match stage {
                Some(Stage::Prepared) if has_signed => self.violate(SIGNED, |_| format!("{id} has signed")),
                Some(Stage::Active) => self.violate(SIGNED, |_| format!("{id} signs")),
                Some(Stage::Prepared | Stage::Retired) if !is_kept && !is_used => {}
                other => self.violate(DESTROYED, |_| format!("{id} is {other:?}, used: {is_used}")),
            }
        }
        let lost = before.mask & !next.mask;
        let stranded = self.workloads.iter().position(|one| {
            self.counts(one) && one.leaves.iter().any(|leaf| self.lives(leaf) && leaf.path & next.mask == 0)
        });
        if let Some(w) = stranded.filter(|_| lost != 0) {
            self.violate(NEEDED, |world| format!("w{w} uses {:?}", world.workloads[w].leaves));
        }
    }

    pub(super) fn check_ended(&mut self) {
        if self.stored().state.rotation().is_some() {
            self.violate(ENDS, |world| {
                let stages: Vec<_> = world
                    .stored()
                    .state
                    .authorities()
                    .iter()
                    .map(|one| (one.id.clone(), one.stage, one.tainted.is_some()))
                    .collect();
                format!("{stages:?}")
            });
        }
    }
}
