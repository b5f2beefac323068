//! Policies to decisions: who may call what.
//!
//! ```text
//! YAML → resource → apply: which policies a workload has → model ─► decide ─► ext_authz, explanations, audit
//!                                                              └─► Envoy's RBAC
//! ```

mod apply;
mod audit;
mod callers;
pub mod check;
mod courts;
mod damper;
mod decide;
mod enforced;
mod enforcement;
mod index;
mod joined;
mod judge;
mod jwt_issuer;
mod layer;
mod library;
mod lower;
mod matcher;
mod migrate;
pub mod model;
mod mtls;
mod old_objects;
mod peer_modes;
mod policy_set;
mod request;
pub mod resource;
mod ruling;
mod service;
mod tally;
#[cfg(test)]
pub(crate) mod test_support;
pub mod tokens;
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
pub use enforced::Enforced;
pub use enforcement::enforce;
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
pub use policy_set::Found;
pub use policy_set::PolicySet;
pub use request::Http;
pub use request::JWT_FILTER;
pub use request::JWT_PAYLOAD;
pub use request::PROPERTIES;
pub use request::Peer;
pub use request::Request;
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
