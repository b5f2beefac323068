//! The Envoy that decides: many sets of policies at once, each behind a header that no policy looks at, or behind a port or a
//! protocol's name of its own for connections. New sets come in by files, while it runs.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use burgrave::authz::JWT_FILTER;
use burgrave::authz::PROPERTIES;
use burgrave::authz::envoy::Chain;
use burgrave::authz::envoy::Config;
use burgrave::authz::envoy::Filter;
use burgrave::authz::envoy::Layer;
use burgrave::authz::envoy::Slot;
use burgrave::proto::envoy::Any;
use burgrave::proto::envoy::DiscoveryResponse;
use burgrave::proto::filters::HeaderMatchSpecifier;
use burgrave::proto::filters::HeaderMatcher;
use burgrave::proto::filters::MatchPattern;
use burgrave::proto::filters::RbacPerRoute;
use burgrave::proto::filters::StringMatcher;
use burgrave::proto::filters::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3::DirectResponseAction;
use envoy_types::pb::envoy::config::route::v3::Route;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::RouteMatch;
use envoy_types::pb::envoy::config::route::v3::VirtualHost;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use prost::Message;
use prost::Name;
use serde_json::Value;
use serde_json::json;

use super::identities::Identities;
use crate::support::Scratch;
use crate::support::envoy::Envoy;
use crate::support::ports;
use crate::support::scratch;
use crate::support::write_private;

/// How many sets of policies for connections there are at once.
pub(crate) const CONNECTION_SETS: usize = 12;

/// The header that says which set decides.
pub(crate) const SET: &str = "x-set";
/// The header that becomes the claims of a token.
pub(crate) const CLAIMS: &str = "x-claims";
/// Headers that become custom properties, by their keys.
pub(crate) const PROPERTY_HEADERS: [(&str, &str); 2] = [("tier", "x-tier"), ("team", "x-team")];

const START: Duration = Duration::from_secs(60);
const RBAC: [Slot; 5] = [Slot::Custom(0), Slot::Custom(1), Slot::Audit, Slot::Deny, Slot::Allow];
const DECIDING: [Slot; 2] = [Slot::Deny, Slot::Allow];

/// How sets come to Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are printed for files.
    Json,
    /// As they are sent.
    Messages,
}

/// Where one may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// In the clear.
    Plain,
    /// With TLS; certificates are verified if there is one.
    Tls,
    /// With TLS; certificates are taken from anybody, and believed if they can be verified.
    Unverified,
}

/// The ports of its listeners.
struct Ports {
    plain: u16,
    tls: u16,
    unverified: u16,
    /// One for each set of policies for connections.
    connections: Vec<u16>,
    connections_tls: u16,
}

pub(crate) struct Stage {
    envoy: Envoy,
    dir: Scratch,
    form: Form,
    round: usize,
    ports: Ports,
}

impl Stage {
    pub(crate) async fn start(identities: &Identities, form: Form) -> Self {
        let dir = scratch("agreement");
        let ports = Ports {
            plain: ports::free(),
            tls: ports::free(),
            unverified: ports::free(),
            connections: (0..CONNECTION_SETS).map(|_| ports::free()).collect(),
            connections_tls: ports::free(),
        };
        // It reads them when it starts.
        publish(&dir, form, ROUTES, &routes(form, 0, &[]));
        publish_extensions(&dir, form, 0, &[]);
        let config = bootstrap(&dir, form, &ports, identities);
        let envoy = Envoy::start("deciding-envoy", &config, &dir).await;
        envoy.ready(START).await;
        Self { envoy, dir, form, round: 0, ports }
    }

    /// Puts new sets in the place of all there were, and waits until they decide.
    pub(crate) async fn load(&mut self, requests: &[Chain], connections: &[Chain]) {
        assert!(connections.len() <= CONNECTION_SETS, "there is no room for {} sets", connections.len());
        self.round += 1;
        publish(&self.dir, self.form, ROUTES, &routes(self.form, self.round, requests));
        publish_extensions(&self.dir, self.form, self.round, connections);
        let version = self.round.to_string();
        let until = std::time::Instant::now() + START;
        while !self.has(&version).await {
            let log = self.envoy.part().log();
            let refused = log.lines().find(|line| line.contains("rejected"));
            assert!(refused.is_none(), "Envoy refused the sets of round {}: {refused:?}", self.round);
            assert!(std::time::Instant::now() < until, "Envoy did not take round {}", self.round);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether all that is loaded is of this round.
    async fn has(&self, version: &str) -> bool {
        let mut seen = 0;
        let is_text = |name: &str| name.ends_with(".version_text");
        let text = self.envoy.admin("/stats?filter=version_text").await;
        for line in text.lines() {
            let Some((name, value)) = line.split_once(": ") else { continue };
            if !is_text(name) {
                continue;
            }
            if value.trim_matches('"') != version {
                return false;
            }
            seen += 1;
        }
        seen >= 3
    }

    /// The name of the set of that place, for [`SET`].
    pub(crate) fn set(&self, place: usize) -> String {
        format!("{}-{place}", self.round)
    }

    /// Where requests are decided on.
    pub(crate) fn port(&self, door: Door) -> u16 {
        match door {
            Door::Plain => self.ports.plain,
            Door::Tls => self.ports.tls,
            Door::Unverified => self.ports.unverified,
        }
    }

    /// Where connections are decided on, by the set of that place.
    pub(crate) fn port_of_connections(&self, place: usize, is_tls: bool) -> u16 {
        if is_tls { self.ports.connections_tls } else { self.ports.connections[place] }
    }

    pub(crate) fn log(&self) -> String {
        self.envoy.part().log_tail(30)
    }
}

/// The protocol's name by which a TLS connection says which set decides.
pub(crate) fn protocol(place: usize) -> String {
    format!("set-{place}")
}

// === the files that change ===

const ROUTES: &str = "routes";

fn file(dir: &Path, form: Form, name: &str) -> std::path::PathBuf {
    dir.join(match form {
        Form::Json => format!("{name}.json"),
        Form::Messages => format!("{name}.pb"),
    })
}

/// In one step, for Envoy looks when a file is moved into its place.
fn publish(dir: &Path, form: Form, name: &str, response: &[u8]) {
    let made = dir.join(format!("{name}.new"));
    write_private(&made, response);
    std::fs::rename(&made, file(dir, form, name)).expect("a file can be moved within a scratch");
}

fn response(round: usize, type_url: &str, resources: Resources) -> Vec<u8> {
    let version_info = round.to_string();
    match resources {
        Resources::Json(resources) => {
            json!({"version_info": version_info, "resources": resources}).to_string().into_bytes()
        }
        Resources::Messages(resources) => {
            let type_url = type_url.to_owned();
            DiscoveryResponse { version_info, type_url, resources, ..DiscoveryResponse::default() }
                .encode_to_vec()
        }
    }
}

enum Resources {
    Json(Vec<Value>),
    Messages(Vec<Any>),
}

/// A route for each set, with its filters in the place of those that let everything through.
fn routes(form: Form, round: usize, sets: &[Chain]) -> Vec<u8> {
    let name = |place: usize| format!("{round}-{place}");
    let resources = match form {
        Form::Json => {
            let each = sets.iter().enumerate().map(|(place, chain)| {
                let filters = chain.in_order().filter(|filter| RBAC.contains(&filter.slot)).map(per_route);
                json!({
                    "match": {"prefix": "/", "headers": [{"name": SET, "string_match": {"exact": name(place)}}]},
                    "direct_response": {"status": 200},
                    "typed_per_filter_config": serde_json::Map::from_iter(filters),
                })
            });
            Resources::Json(vec![json!({
                "@type": RouteConfiguration::type_url(),
                "name": ROUTES,
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": each.collect::<Vec<_>>()}],
            })])
        }
        Form::Messages => {
            let each = sets.iter().enumerate().map(|(place, chain)| route(&name(place), chain));
            let all = VirtualHost {
                name: "all".to_owned(),
                domains: vec!["*".to_owned()],
                routes: each.collect(),
                ..VirtualHost::default()
            };
            let config = RouteConfiguration {
                name: ROUTES.to_owned(),
                virtual_hosts: vec![all],
                ..RouteConfiguration::default()
            };
            Resources::Messages(vec![packed(&config)])
        }
    };
    response(round, &RouteConfiguration::type_url(), resources)
}

/// A filter as a route has it, printed.
fn per_route(filter: &Filter) -> (String, Value) {
    let mut printed = filter.to_json().expect("what is made is printed");
    let mut rbac = printed["typed_config"].take();
    rbac.as_object_mut().expect("a message is an object").shift_remove("@type");
    (filter.name(), json!({"@type": RbacPerRoute::type_url(), "rbac": rbac}))
}

fn route(name: &str, chain: &Chain) -> Route {
    let is_set = HeaderMatcher {
        name: SET.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            ignore_case: false,
            match_pattern: Some(MatchPattern::Exact(name.to_owned())),
        })),
        ..HeaderMatcher::default()
    };
    let filters = chain.in_order().filter_map(|filter| match &filter.config {
        Config::HttpRbac(rbac) => {
            Some((filter.name(), packed(&RbacPerRoute { rbac: Some(HttpRbacOf::clone(rbac)) })))
        }
        _ => None,
    });
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            headers: vec![is_set],
            ..RouteMatch::default()
        }),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 200, ..Default::default() })),
        typed_per_filter_config: HashMap::from_iter(filters),
        ..Route::default()
    }
}

type HttpRbacOf = burgrave::proto::filters::HttpRbac;

fn packed<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Writes the filters of each set for connections, each into a file of its own: Envoy takes one extension from a file.
fn publish_extensions(dir: &Path, form: Form, round: usize, sets: &[Chain]) {
    for (place, slot) in (0..CONNECTION_SETS).flat_map(|place| DECIDING.map(|slot| (place, slot))) {
        let filter = sets.get(place).and_then(|chain| chain.at(slot)).cloned();
        let filter = filter.unwrap_or_else(|| Filter::open(Layer::Connections, slot));
        let name = resource(place, slot);
        let resources = match form {
            Form::Json => {
                let config = filter.to_json().expect("what is made is printed")["typed_config"].take();
                let extension = json!({
                    "@type": TypedExtensionConfig::type_url(), "name": name, "typed_config": config,
                });
                Resources::Json(vec![extension])
            }
            Form::Messages => {
                let typed_config = Some(filter.to_any());
                Resources::Messages(vec![packed(&TypedExtensionConfig { name: name.clone(), typed_config })])
            }
        };
        let response = response(round, &TypedExtensionConfig::type_url(), resources);
        publish(dir, form, &name, &response);
    }
}

fn resource(place: usize, slot: Slot) -> String {
    format!("{place}-{}", slot.name())
}

// === what stays ===

fn bootstrap(dir: &Path, form: Form, ports: &Ports, identities: &Identities) -> Value {
    let source = |name: &str| {
        json!({
            "resource_api_version": "V3",
            "path_config_source": {"path": file(dir, form, name)},
        })
    };
    let requests = |port: u16, tls: Option<&str>| {
        let mut chain = json!({"filters": [http(&source(ROUTES))]});
        if let Some(verification) = tls {
            chain["transport_socket"] = downstream(identities, verification);
        }
        listener(port, vec![chain])
    };
    let connections = |place: usize| {
        let of = |slot: Slot| {
            json!({
                "name": resource(place, slot),
                "config_discovery": {
                    "config_source": source(&resource(place, slot)),
                    "type_urls": [burgrave::proto::filters::NetworkRbac::type_url()],
                },
            })
        };
        let mut filters = DECIDING.map(of).to_vec();
        filters.push(named("echo", "envoy.extensions.filters.network.echo.v3.Echo", json!({})));
        json!({"filters": filters})
    };
    let mut listeners = vec![
        requests(ports.plain, None),
        requests(ports.tls, Some("VERIFY_TRUST_CHAIN")),
        requests(ports.unverified, Some("ACCEPT_UNTRUSTED")),
    ];
    listeners.extend(
        ports.connections.iter().enumerate().map(|(place, port)| listener(*port, vec![connections(place)])),
    );
    let by_protocol = (0..CONNECTION_SETS).map(|place| {
        let mut chain = connections(place);
        chain["filter_chain_match"] = json!({"application_protocols": [protocol(place)]});
        chain["transport_socket"] = downstream(identities, "VERIFY_TRUST_CHAIN");
        chain
    });
    listeners.push(listener(ports.connections_tls, by_protocol.collect()));
    json!({
        "node": {"id": "agreement", "cluster": "stories"},
        "static_resources": {"listeners": listeners},
    })
}

fn named(name: &str, message: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/{message}").into();
    json!({"name": name, "typed_config": config})
}

/// On IPv4 and IPv6 at once, so that callers over IPv4 come in as IPv4-mapped addresses.
fn listener(port: u16, chains: Vec<Value>) -> Value {
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "::", "port_value": port, "ipv4_compat": true}},
        "listener_filters": [named(
            "tls",
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            json!({}),
        )],
        "filter_chains": chains,
    })
}

fn downstream(identities: &Identities, verification: &str) -> Value {
    named(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({
            "require_client_certificate": false,
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": {"inline_string": identities.server},
                    "private_key": {"inline_string": identities.server_key},
                }],
                "validation_context": {
                    "trusted_ca": {"inline_string": identities.root},
                    "trust_chain_verification": verification,
                },
            },
        }),
    )
}

/// The filters before those that are tested give them metadata; the answer tells what they wrote down.
fn http(routes: &Value) -> Value {
    let mut rules = vec![to_metadata(CLAIMS, JWT_FILTER, burgrave::authz::JWT_PAYLOAD)];
    rules.extend(PROPERTY_HEADERS.map(|(key, header)| to_metadata(header, PROPERTIES, key)));
    let mut filters = vec![named(
        "metadata",
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        json!({"request_rules": rules}),
    )];
    for slot in RBAC {
        // A route replaces all of it but the prefix of its metadata.
        let mut open = Filter::open(Layer::Requests, slot);
        if let Config::HttpRbac(config) = &mut open.config {
            config.shadow_rules_stat_prefix = shadow_prefix(slot).to_owned();
        }
        filters.push(open.to_json().expect("what is made is printed"));
    }
    filters.push(named("router", "envoy.extensions.filters.http.router.v3.Router", json!({})));
    let told = |header: &str, value: &str| {
        json!({
            "header": {"key": header, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        })
    };
    let of_rbac = |key: &str| format!("%DYNAMIC_METADATA(envoy.filters.http.rbac:{key})%");
    named(
        "http",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "http",
            "use_remote_address": true,
            "xff_num_trusted_hops": 1,
            "rds": {"config_source": routes, "route_config_name": ROUTES},
            "http_filters": filters,
            "local_reply_config": {"mappers": [{
                "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": {
                    "default_value": 100, "runtime_key": "any.status",
                }}}},
                "headers_to_add": [
                    told("x-details", "%RESPONSE_CODE_DETAILS%"),
                    told("x-audit", "%DYNAMIC_METADATA(envoy.common:access_log_hint)%"),
                    told("x-allow", &of_rbac("burgrave_allow_enforced_effective_policy_id")),
                    told("x-dry-deny", &of_rbac("istio_dry_run_deny_shadow_effective_policy_id")),
                    told("x-dry-deny-is", &of_rbac("istio_dry_run_deny_shadow_engine_result")),
                    told("x-dry-allow", &of_rbac("istio_dry_run_allow_shadow_effective_policy_id")),
                    told("x-dry-allow-is", &of_rbac("istio_dry_run_allow_shadow_engine_result")),
                    told("x-custom-0", &of_rbac("istio_ext_authz_0_shadow_effective_policy_id")),
                    told("x-custom-1", &of_rbac("istio_ext_authz_1_shadow_effective_policy_id")),
                ],
            }]},
        }),
    )
}

fn to_metadata(header: &str, filter: &str, key: &str) -> Value {
    json!({
        "header": header,
        "on_header_present": {
            "metadata_namespace": filter, "key": key, "type": "PROTOBUF_VALUE", "encode": "BASE64",
        },
        "remove": true,
    })
}

fn shadow_prefix(slot: Slot) -> &'static str {
    match slot {
        Slot::Custom(0) => "istio_ext_authz_0_",
        Slot::Custom(_) => "istio_ext_authz_1_",
        Slot::Deny => "istio_dry_run_deny_",
        Slot::Allow => "istio_dry_run_allow_",
        Slot::Tokens | Slot::Audit | Slot::Ask(_) => "",
    }
}
