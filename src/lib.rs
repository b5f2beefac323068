//! wip
pub mod admin;
pub mod agent;
pub mod attest;
pub mod authority;
pub mod cli;
pub mod clock;
pub mod config;
pub mod identity;
pub mod issuance;
pub mod k8s;
pub mod proto;
pub mod roles;
pub mod sds;
pub mod signer;
pub mod telemetry;
pub mod tls;
pub mod x509;
