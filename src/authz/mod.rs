//! Policies to decisions: who may call what.
//!
//! ```text
//! YAML → resource → apply: which policies a workload has → model ─► decide ─► ext_authz, explanations, audit
//!                                                              └─► Envoy's RBAC
//! ```

mod apply;
pub mod bootstrap;
pub mod bridge;
mod decide;
mod enforcement;
pub mod envoy;
mod extensions;
mod files;
mod index;
mod jwt_issuer;
mod layer;
mod library;
mod lower;
mod matcher;
mod metrics;
pub mod model;
mod mtls;
mod old_objects;
mod parts;
mod peer_modes;
mod policy_set;
mod request;
pub mod resource;
mod rulebook;
mod workload;

pub use apply::Applied;
pub use apply::apply;
pub use decide::By;
pub use decide::Decision;
pub use decide::DryRun;
pub use decide::Effect;
pub use decide::Matches;
pub use decide::RuleRef;
pub use decide::walk;
pub use enforcement::Enforcement;
pub use enforcement::Progress;
pub use extensions::ExtensionService;
pub use files::Objects;
pub use files::PolicyFiles;
pub use index::Index;
pub use jwt_issuer::JwtIssuer;
pub use jwt_issuer::Keys;
pub use jwt_issuer::TokenPlace;
pub use library::Library;
pub use library::Told;
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
pub use workload::Mesh;
pub use workload::Proxy;
pub use workload::Workload;
