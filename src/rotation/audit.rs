//! What was ordered, by whom, and what it changed: the audit trail of authorities.
//!
//! The target `audit` and its field names are a contract with those who keep the logs.

use crate::authority::Effect;
use crate::authority::State;

/// A step is in the store.
pub(super) fn taken(step: &str, by: &str, before: &State, after: &State, effects: &[Effect]) {
    tracing::info!(
        target: "audit",
        event = "rotation",
        step,
        by,
        bundle_before = before.sequence(),
        bundle_after = after.sequence(),
        signs_before = %before.active().id,
        signs_after = %after.active().id,
        effects = ?effects,
        forced = after.rotation().map(|one| one.forced.join("; ")).filter(|text| !text.is_empty()),
        "the authorities have changed"
    );
}

/// A step was refused.
pub(super) fn refused(step: &str, by: &str, error: &str) {
    tracing::warn!(target: "audit", event = "refused", step, by, error, "a step was refused");
}

/// The authorities were given out, encrypted.
pub(super) fn exported(by: &str) {
    tracing::warn!(target: "audit", event = "exported", by, "the authorities and their keys were exported, encrypted");
}
