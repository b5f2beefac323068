//! Bad policies are refused when they are written.
//!
//! ```text
//! API server → HTTPS (the CA's own certificate) → review → admission (what is wrong with it, by Resource::read) → review → API server
//! issuer's roots → configuration (are they in it?) → write by the version that was seen
//! ```
//!
//! `admission` is what `burgrave policy validate` says too. Nothing depends on the webhook: what is written while it is away is read all
//! the same, and what of it cannot be read only ever reduces access.

pub mod admission;
mod configuration;
mod keeper;
mod metrics;
pub mod review;
mod server;

pub use configuration::ENTRY;
pub use keeper::ConfigurationKeeper;
pub use metrics::AdmissionMetrics;
pub use server::PATH;
pub use server::Webhook;
