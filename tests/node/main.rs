//! Stories of a node: the real `burgrave` in pods that a real kubelet runs, with Services, DNS and rollouts.
//!
//! They need root, for the cluster lives in namespaces of its own; `tests/support/install node` makes its parts. A test's
//! name is a sentence that is true when it passes. Nothing is skipped: a part that is missing fails the story.

#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a story waits by the real clock, points at what it has just made, and fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod at_home;
mod harness;
mod pod_certificates;
mod policies;
mod rotation;
