//! Two Envoys: one that requests come in at, and one that answers them, with mTLS between.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::process::Child;
use tokio::process::Command;

use crate::authz::bootstrap as policies;
use crate::clock::Stopwatch;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::roles::quickstart::error::QuickstartError;
use crate::roles::quickstart::traffic;
use crate::sds::bootstrap;

/// How long an Envoy may take to open its listener; a cold one needs a second.
const START: Duration = Duration::from_secs(20);
/// After so many requests the client's Envoy opens a new mTLS connection.
const REQUESTS_PER_CONNECTION: u32 = 10;

/// A running Envoy. It is killed when dropped.
#[derive(Debug)]
pub(super) struct Envoy {
    _process: Child,
    /// Where its one listener listens.
    pub(super) address: SocketAddr,
}

impl Envoy {
    /// Runs `binary` with `config` and waits until its listener is open.
    pub(super) async fn start(
        binary: &Path,
        name: &str,
        directory: &Path,
        config: &Value,
    ) -> Result<Self, QuickstartError> {
        let file = directory.join(format!("envoy-{name}.json"));
        let log = directory.join(format!("envoy-{name}.log"));
        let admin = directory.join(format!("envoy-{name}.admin"));
        let failed = |what: String| QuickstartError::Envoy { name: name.to_owned(), what };
        std::fs::write(&file, config.to_string()).map_err(|error| failed(error.to_string()))?;
        let log_file = std::fs::File::create(&log).map_err(|error| failed(error.to_string()))?;
        let mut process = Command::new(binary)
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("`{}`: {error}", binary.display())))?;
        let waited = Stopwatch::start();
        loop {
            if let Ok(Some(status)) = process.try_wait() {
                return Err(failed(format!("it ended with {status}; its log is {}", log.display())));
            }
            if let Some(address) = listener(&admin).await {
                return Ok(Self { _process: process, address });
            }
            if waited.elapsed() > START {
                let what =
                    format!("it has no listener after {} s; its log is {}", START.as_secs(), log.display());
                return Err(failed(what));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The address of the Envoy's listener, once it is live.
async fn listener(admin: &Path) -> Option<SocketAddr> {
    let address: SocketAddr = std::fs::read_to_string(admin).ok()?.trim().parse().ok()?;
    let info: Value = serde_json::from_str(&traffic::page(address, "/server_info").await?).ok()?;
    if info.get("state")? != "LIVE" {
        return None;
    }
    let listeners: Value =
        serde_json::from_str(&traffic::page(address, "/listeners?format=json").await?).ok()?;
    let socket = listeners.pointer("/listener_statuses/0/local_address/socket_address")?;
    format!("127.0.0.1:{}", socket.get("port_value")?).parse().ok()
}

/// The Envoy that answers: mTLS in, what policies let in, and the caller's identity in the answer.
pub(super) fn server(socket: &Path, trust_domain: &TrustDomain) -> Value {
    let answer = json!({
        "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{
                "match": {"prefix": "/"},
                "direct_response": {"status": 200, "body": {"inline_string": "hello\n"}},
                "response_headers_to_add": [
                    {"header": {"key": "x-caller", "value": "%DOWNSTREAM_PEER_URI_SAN%"}},
                ],
            }],
        }],
    });
    json!({
        "node": {"id": "quickstart-server", "cluster": "quickstart"},
        "admin": {"address": loopback()},
        "static_resources": {
            "clusters": [bootstrap::cluster(socket)],
            "listeners": [
                listener_of("inbound", &answer, policies::http_filters(), Some(&bootstrap::downstream(trust_domain))),
            ],
        },
    })
}

/// The Envoy that requests come in at: plain HTTP in, mTLS out to `server`, which must be `peer`.
pub(super) fn client(socket: &Path, server: SocketAddr, peer: &SpiffeId) -> Value {
    let route = json!({
        "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "server"}}],
        }],
    });
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "node": {"id": "quickstart-client", "cluster": "quickstart"},
        "admin": {"address": loopback()},
        "static_resources": {
            "clusters": [
                bootstrap::cluster(socket),
                {
                    "name": "server",
                    "type": "STATIC",
                    "connect_timeout": "2s",
                    "load_assignment": {
                        "cluster_name": "server",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                            "socket_address": {"address": "127.0.0.1", "port_value": server.port()},
                        }}}]}],
                    },
                    "typed_extension_protocol_options": {options: {
                        "@type": format!("type.googleapis.com/{options}"),
                        "common_http_protocol_options": {"max_requests_per_connection": REQUESTS_PER_CONNECTION},
                        "explicit_http_config": {"http_protocol_options": {}},
                    }},
                    "transport_socket": bootstrap::upstream(peer),
                },
            ],
            "listeners": [listener_of("outbound", &route, Vec::new(), None)],
        },
    })
}

/// A listener whose requests pass `filters` before they are routed.
fn listener_of(name: &str, routes: &Value, mut filters: Vec<Value>, transport: Option<&Value>) -> Value {
    filters.push(json!({
        "name": "router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let mut chain = json!({"filters": [{
        "name": "http",
        "typed_config": {
            "@type": format!("type.googleapis.com/{manager}"),
            "stat_prefix": name,
            "route_config": routes,
            // What policies compare is what the workload will see.
            "normalize_path": true,
            "merge_slashes": true,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
            "http_filters": filters,
        },
    }]});
    if let (Some(chain), Some(transport)) = (chain.as_object_mut(), transport) {
        chain.insert("transport_socket".to_owned(), transport.clone());
    }
    json!({"name": name, "address": loopback(), "filter_chains": [chain]})
}

/// A free port of the loopback interface, chosen by the kernel.
fn loopback() -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}})
}
