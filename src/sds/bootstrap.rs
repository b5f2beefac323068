//! Pure: what an Envoy's configuration needs to take its secrets from our socket, and to be safe with them.
//!
//! The choices that are easy to forget, each seen to matter on a real Envoy: a SAN matcher beside the roots (without one,
//! roots that go missing let everybody in), no session resumption on servers (it outlives the client's certificate), TLS 1.3
//! upstream (the default stops at 1.2), the node only in the first message (it has 60 KB), a short back-off, and HTTP/2
//! keepalive (a frozen agent is not noticed without it).

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::sds::secret::names;

/// Name of the cluster that leads to our socket.
pub const CLUSTER: &str = "burgrave_sds";
const UPSTREAM_PROTOCOL: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The cluster that leads to the socket; it stands before all clusters that use secrets.
pub fn cluster(socket: &Path) -> Value {
    json!({
        "name": CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}],
        },
        "typed_extension_protocol_options": {
            UPSTREAM_PROTOCOL: {
                "@type": format!("type.googleapis.com/{UPSTREAM_PROTOCOL}"),
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}},
                },
            },
        },
    })
}

/// The transport socket of a listener: shows our certificate, and lets in who has one of `trust_domain`.
pub fn downstream(trust_domain: &TrustDomain) -> Value {
    let prefix = json!({"prefix": format!("{}/", SpiffeId::of_trust_domain(trust_domain))});
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
            "common_tls_context": common(&prefix),
        },
    })
}

/// The transport socket of a cluster: shows our certificate, and talks to nobody but `peer`.
pub fn upstream(peer: &SpiffeId) -> Value {
    let mut context = common(&json!({"exact": peer.to_string()}));
    if let Some(context) = context.as_object_mut() {
        context.insert("tls_params".to_owned(), json!({"tls_maximum_protocol_version": "TLSv1_3"}));
    }
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "max_session_keys": 0,
            "common_tls_context": context,
        },
    })
}

/// Where to ask for what our socket serves: the same words everywhere, for Envoy opens one stream for each distinct source.
pub fn source() -> Value {
    json!({
        "resource_api_version": "V3",
        "initial_fetch_timeout": "20s",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {
                "cluster_name": CLUSTER,
                "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"}},
            }}],
        },
    })
}

fn common(peer: &Value) -> Value {
    let source = source();
    json!({
        "tls_certificate_sds_secret_configs": [{"name": names::IDENTITY, "sds_config": source}],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}],
            },
            "validation_context_sds_secret_config": {"name": names::TRUST, "sds_config": source},
        },
    })
}
