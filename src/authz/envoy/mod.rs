//! Pure: how is Envoy told the same? The policies of a workload, as filters that an Envoy runs.
//!
//! ```text
//! policies → rules of Envoy (side, rule) → filters in order (chain) → lint → messages, or JSON for files
//! ```
//!
//! Envoy has to decide as [`crate::authz::PolicySet::decide`] does, and a story of the tests holds the two against each other.

mod chain;
mod config;
mod custom;
mod filter;
mod json;
mod lint;
mod peers;
mod rule;
mod side;
mod text;
mod tokens;

pub use chain::Chain;
pub use chain::Options;
pub use chain::Peers;
pub use chain::Refusal;
pub use chain::compile;
pub use config::Config;
pub use custom::Provider;
pub use filter::Filter;
pub use filter::Layer;
pub use filter::Slot;
pub use json::Unprintable;
pub use lint::Unsound;
pub use lint::filter as lint;
pub use rule::Unspeakable;
pub use tokens::Jwks;
pub use tokens::verifying;

#[cfg(test)]
#[path = "envoy_tests.rs"]
mod tests;
