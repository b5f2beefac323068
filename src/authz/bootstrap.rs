//! Pure: what an Envoy's configuration needs to have its policies delivered, and to let nobody in before they are.

use serde_json::Value;
use serde_json::json;

use crate::authz::parts::names;
use crate::sds::bootstrap::source;

const HTTP_RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const NETWORK_RBAC: &str = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";
const HTTP_JWT: &str = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";

/// The HTTP filters, in order; they stand before all others that answer, and before the router. The connection manager beside
/// them has to normalise paths as the policies expect.
pub fn http_filters() -> Vec<Value> {
    vec![
        filter(names::TOKENS, HTTP_RBAC, &[HTTP_JWT, HTTP_RBAC], &json!({})),
        filter(names::DENY, HTTP_RBAC, &[HTTP_RBAC], &json!({})),
        filter(names::ALLOW, HTTP_RBAC, &[HTTP_RBAC], &json!({})),
    ]
}

/// The network filters, in order, for listeners that do not speak HTTP; they stand before the proxy's own.
pub fn network_filters() -> Vec<Value> {
    let more = json!({"stat_prefix": "burgrave_default_"});
    vec![
        filter(names::NETWORK_DENY, NETWORK_RBAC, &[NETWORK_RBAC], &more),
        filter(names::NETWORK_ALLOW, NETWORK_RBAC, &[NETWORK_RBAC], &more),
    ]
}

/// A filter that denies everything until another is delivered, and does not hold up the listener.
fn filter(name: &str, closed: &str, types: &[&str], more: &Value) -> Value {
    // Rules that allow, and of which there are none, match nobody.
    let mut default = json!({"@type": closed, "rules": {"action": "ALLOW"}});
    if let (Some(default), Some(more)) = (default.as_object_mut(), more.as_object()) {
        default.extend(more.clone());
    }
    json!({
        "name": name,
        "config_discovery": {
            "config_source": source(),
            "type_urls": types,
            "apply_default_config_without_warming": true,
            "default_config": default,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_denies_everything_until_it_is_told() {
        for one in http_filters().iter().chain(&network_filters()) {
            let at = |path: &str| one.pointer(&format!("/config_discovery{path}")).unwrap().clone();
            assert_eq!(at("/default_config/rules"), json!({"action": "ALLOW"}), "{one}");
            assert_eq!(at("/apply_default_config_without_warming"), true);
            let types = at("/type_urls");
            assert!(types.as_array().unwrap().contains(&at("/default_config/@type")), "{one}");
            // Envoy opens a stream for each distinct source.
            assert_eq!(at("/config_source"), source());
        }
    }
}
