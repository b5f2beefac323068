//! Kubernetes plumbing with no opinions: a client, and what it may do.

mod client;
mod permission;

pub use client::ConnectError;
pub use client::connect;
pub use permission::Denied;
pub use permission::PermissionCheck;
pub use permission::Rule;
pub use permission::may;
