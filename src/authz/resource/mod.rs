//! Pure: which objects do people write, and what of them cannot be read?
//!
//! Objects come from Kubernetes or from files, and are read alike. What is wrong with one is told with its path, and what is then
//! done; it only ever reduces access.

pub(crate) mod authorization_policy;
pub(crate) mod binding;
pub(crate) mod fault;
pub(crate) mod id;
pub(crate) mod object;
pub(crate) mod peer_authentication;
pub(crate) mod place;
pub(crate) mod rbac_config;
pub(crate) mod request_authentication;
pub(crate) mod role;
pub(crate) mod selection;
mod yaml;

pub use crate::authz::resource::authorization_policy::AuthorizationPolicy;
pub use crate::authz::resource::authorization_policy::Clause;
pub use crate::authz::resource::authorization_policy::Condition;
pub use crate::authz::resource::authorization_policy::List;
pub use crate::authz::resource::authorization_policy::Rule;
pub use crate::authz::resource::binding::RoleOf;
pub use crate::authz::resource::binding::ServiceRoleBinding;
pub use crate::authz::resource::binding::Subject;
pub use crate::authz::resource::fault::Fault;
pub use crate::authz::resource::fault::Severity;
pub use crate::authz::resource::id::ResourceId;
pub use crate::authz::resource::id::ResourceKind;
pub use crate::authz::resource::object::Resource;
pub use crate::authz::resource::object::Spec;
pub use crate::authz::resource::object::Unreadable;
pub use crate::authz::resource::peer_authentication::PeerAuthentication;
pub use crate::authz::resource::rbac_config::Extent;
pub use crate::authz::resource::rbac_config::RbacConfig;
pub use crate::authz::resource::rbac_config::RbacMode;
pub use crate::authz::resource::request_authentication::RequestAuthentication;
pub use crate::authz::resource::role::AccessRule;
pub use crate::authz::resource::role::ServiceRole;
pub use crate::authz::resource::selection::Selection;
pub use crate::authz::resource::selection::Selector;
pub use crate::authz::resource::selection::Target;
pub use crate::authz::resource::selection::TargetKind;
pub use crate::authz::resource::yaml::Documents;
pub use crate::authz::resource::yaml::InvalidYaml;
pub use crate::authz::resource::yaml::from_yaml;

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
