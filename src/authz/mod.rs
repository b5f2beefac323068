//! Policies to decisions: who may call what.
//!
//! ```text
//! YAML → resource → apply: which policies a workload has → model ─► decide ─► ext_authz, explanations, audit
//!                                                              └─► Envoy's RBAC
//! ```
#![doc = include_str!("SEMANTICS.md")]

mod apply;
mod audit;
pub mod bootstrap;
pub mod bridge;
mod callers;
pub mod check;
pub mod cluster;
pub mod compare;
mod courts;
mod damper;
mod decide;
mod enforce;
mod enforced;
mod enforcement;
pub mod envoy;
pub mod explain;
mod extensions;
mod files;
pub mod header_lines;
mod index;
mod joined;
mod judge;
mod jwt_issuer;
mod layer;
mod library;
mod lower;
mod matcher;
mod metrics;
mod migrate;
pub mod model;
mod mtls;
mod old_objects;
mod parts;
pub mod path;
mod peer_modes;
mod policy_set;
pub mod recorded;
mod request;
pub mod resource;
mod rulebook;
mod ruling;
mod service;
mod tally;
#[cfg(test)]
pub(crate) mod test_support;
pub mod tokens;
pub mod webhook;
mod workload;

pub use apply::Applied;
pub use apply::apply;
pub use audit::DecisionAudit;
pub use callers::Callers;
pub use courts::Courts;
pub use courts::Follow;
pub use decide::By;
pub use decide::Decision;
pub use decide::DryRun;
pub use decide::Effect;
pub use decide::Matches;
pub use decide::RuleRef;
pub use decide::walk;
pub use enforce::enforce;
pub use enforced::Enforced;
pub use enforcement::Enforcement;
pub use enforcement::Progress;
pub use extensions::ExtensionService;
pub use files::Objects;
pub use files::PolicyFiles;
pub use index::Index;
pub use judge::Judge;
pub use jwt_issuer::JwtIssuer;
pub use jwt_issuer::Keys;
pub use jwt_issuer::TokenPlace;
pub use library::Library;
pub use library::Told;
pub use lower::Lowered;
pub use migrate::Migration;
pub use migrate::Service;
pub use migrate::Unsaid;
pub use migrate::migrate;
pub use mtls::Mtls;
pub use mtls::MtlsMode;
pub use old_objects::missing_roles;
pub use parts::Compiled;
pub use parts::Extensions;
pub use parts::names;
pub use policy_set::Found;
pub use policy_set::PolicySet;
pub use request::Http;
pub use request::JWT_FILTER;
pub use request::JWT_PAYLOAD;
pub use request::PROPERTIES;
pub use request::Peer;
pub use request::Request;
pub use rulebook::Contents;
pub use rulebook::InvalidRulebook;
pub use rulebook::MAX_RULEBOOK;
pub use rulebook::RULEBOOK;
pub use rulebook::Rulebook;
pub use ruling::Decided;
pub use ruling::Doubts;
pub use ruling::Named;
pub use ruling::Reason;
pub use ruling::Ruling;
pub use service::About;
pub use service::AuthorizationService;
pub use service::Judges;
pub use tally::Counts;
pub use tally::Deed;
pub use tally::Tally;
pub use workload::Mesh;
pub use workload::Proxy;
pub use workload::Workload;

#[cfg(test)]
mod semantics_tests;
