//! Kubernetes plumbing with no opinions: a client, what it may do, what changes, and who of several leads.
//!
//! `election` decides who leads and `leader` runs for it; the pair knows nothing of what a leader does.

mod client;
pub mod election;
mod identity;
mod leader;
pub mod mirror;
mod permission;
pub mod queue;
mod trouble;
mod watch;

pub use client::ConnectError;
pub use client::connect;
pub use election::Timing;
pub use identity::Identity;
pub use identity::NoIdentity;
pub use leader::Candidacy;
pub use leader::Leadership;
pub use permission::Denied;
pub use permission::PermissionCheck;
pub use permission::Rule;
pub use permission::may;
pub use permission::unanswered;
pub use trouble::Trouble;
pub use trouble::moment;
pub use watch::Seen;
pub use watch::named;
pub use watch::watch;
pub use watch::watch_labelled;

/// The labels of every object that we make, by which people find them.
pub fn labels() -> std::collections::BTreeMap<String, String> {
    [("app.kubernetes.io/managed-by", "burgrave")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
