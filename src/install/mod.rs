//! What is missing in a cluster? Compares what is there with `deploy/`, before and after it is applied.
//!
//! ```text
//! deploy/ (embedded) ─┐
//!                     ├─ look (reads, and decides nothing) ─► facts ─► platform, objects, running, published ─► report
//! API server ─────────┘
//! ```
//!
//! It reads what the viewer's role in `deploy/` allows, and no Secret. What it may not look at is a finding too.

mod decide;
mod expected;
mod facts;
mod findings;
mod look;
mod objects;
mod platform;
mod published;
mod rules;
mod running;

#[cfg(test)]
mod test_support;

pub use expected::NAMESPACE;
pub use expected::Subject;
pub use findings::Finding;
pub use findings::Report;
pub use findings::State;
pub use rules::Permission;

use kube::Client;
use time::OffsetDateTime;

/// What there is to say of the cluster that `client` reaches, with the authority in `namespace`.
pub async fn check(client: &Client, namespace: &str, now: OffsetDateTime) -> Report {
    decide::report(&look::look(client, namespace).await, now)
}
