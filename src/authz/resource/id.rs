//! Pure: which objects are there, and what are they called?

use std::fmt;

/// The kinds of objects that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// `security.istio.io/v1` and `v1beta1`.
    AuthorizationPolicy,
    /// `security.istio.io/v1` and `v1beta1`.
    RequestAuthentication,
    /// `security.istio.io/v1` and `v1beta1`.
    PeerAuthentication,
    /// `rbac.istio.io/v1alpha1`.
    ServiceRole,
    /// `rbac.istio.io/v1alpha1`.
    ServiceRoleBinding,
    /// `rbac.istio.io/v1alpha1`.
    RbacConfig,
    /// `rbac.istio.io/v1alpha1`; there is one for the cluster.
    ClusterRbacConfig,
}

/// Which object it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its namespace; empty for what belongs to the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AuthorizationPolicy,
        Self::RequestAuthentication,
        Self::PeerAuthentication,
        Self::ServiceRole,
        Self::ServiceRoleBinding,
        Self::RbacConfig,
        Self::ClusterRbacConfig,
    ];

    /// As the object says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::ServiceRole => "ServiceRole",
            Self::ServiceRoleBinding => "ServiceRoleBinding",
            Self::RbacConfig => "RbacConfig",
            Self::ClusterRbacConfig => "ClusterRbacConfig",
        }
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::AuthorizationPolicy | Self::RequestAuthentication | Self::PeerAuthentication => {
                "security.istio.io"
            }
            Self::ServiceRole | Self::ServiceRoleBinding | Self::RbacConfig | Self::ClusterRbacConfig => {
                "rbac.istio.io"
            }
        }
    }

    /// The versions of it that are read, the preferred one first.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Self::AuthorizationPolicy | Self::RequestAuthentication | Self::PeerAuthentication => {
                &["v1", "v1beta1"]
            }
            Self::ServiceRole | Self::ServiceRoleBinding | Self::RbacConfig | Self::ClusterRbacConfig => {
                &["v1alpha1"]
            }
        }
    }

    /// Whether its objects stand in namespaces.
    pub fn is_namespaced(self) -> bool {
        self != Self::ClusterRbacConfig
    }
}

impl fmt::Display for ResourceId {
    /// `Kind namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => write!(f, "{} {}", self.kind.as_str(), self.name),
            false => write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name),
        }
    }
}
