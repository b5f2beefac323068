//! Pure: where does the API server keep each kind of policy?

use kube::core::ApiResource;
use kube::core::GroupVersionKind;

use crate::authz::resource::ResourceKind;

/// The resource of a kind, in the plural.
pub(super) fn plural(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::AuthorizationPolicy => "authorizationpolicies",
        ResourceKind::RequestAuthentication => "requestauthentications",
        ResourceKind::PeerAuthentication => "peerauthentications",
        ResourceKind::ServiceRole => "serviceroles",
        ResourceKind::ServiceRoleBinding => "servicerolebindings",
        ResourceKind::RbacConfig => "rbacconfigs",
        ResourceKind::ClusterRbacConfig => "clusterrbacconfigs",
    }
}

/// How the API server is asked for objects of a kind, in a version.
pub(super) fn api_resource(kind: ResourceKind, version: &str) -> ApiResource {
    let gvk = GroupVersionKind::gvk(kind.group(), version, kind.as_str());
    ApiResource::from_gvk_with_plural(&gvk, plural(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_plural_of_its_own_and_a_version() {
        let mut plurals: Vec<_> = ResourceKind::ALL.into_iter().map(plural).collect();
        plurals.sort_unstable();
        plurals.dedup();
        assert_eq!(plurals.len(), ResourceKind::ALL.len());
        for kind in ResourceKind::ALL {
            let first = kind.versions().first().unwrap();
            let resource = api_resource(kind, first);
            assert_eq!(resource.api_version, format!("{}/{first}", kind.group()));
            assert!(resource.plural.starts_with(&kind.as_str().to_lowercase()[..kind.as_str().len() - 1]));
        }
    }
}
