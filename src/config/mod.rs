//! Names of settings meet the flows' own types here, and nowhere else.
//!
//! Two stages: a raw struct, whose every field is optional, is filled from flags, environment and file; then it
//! becomes the facts that a role is built from, or a sentence that names the setting and the next step.
//! Flags win over the environment, the environment over the file, the file over the defaults.

mod agent;
mod ca;
mod duration;
mod environment;
mod ext_authz;
mod layers;
mod log;
mod quickstart;

pub use agent::AgentConfig;
pub use agent::RawAgent;
pub use ca::AttestBy;
pub use ca::Authority;
pub use ca::CaConfig;
pub use ca::ClusterConfig;
pub use ca::Election;
pub use ca::PolicyConfig;
pub use ca::PolicySource;
pub use ca::RawCa;
pub use ca::RotationConfig;
pub use ca::WebhookConfig;
pub use duration::HumanDuration;
pub use environment::Surroundings;
pub use environment::UnknownVariable;
pub use environment::check_environment;
pub use ext_authz::ExtAuthzConfig;
pub use layers::ConfigError;
pub use log::RawLog;
pub use quickstart::Output;
pub use quickstart::QuickstartConfig;
pub use quickstart::RawQuickstart;
