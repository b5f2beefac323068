//! Policies as filters of Envoy, and an Envoy that takes them.
//!
//! What policies become is in `tests/golden/authz/`, each `NAME.yaml` beside its `NAME.envoy.yaml`; with UPDATE=1 it is written anew.

use crate::support::envoy::Envoy;
use crate::support::ports;
use crate::support::scratch;
use crate::support::tools;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use burgrave::authz::Mesh;
use burgrave::authz::Workload;
use burgrave::authz::apply;
use burgrave::authz::envoy::Chain;
use burgrave::authz::envoy::Layer;
use burgrave::authz::envoy::Options;
use burgrave::authz::envoy::Provider;
use burgrave::authz::envoy::Slot;
use burgrave::authz::envoy::compile;
use burgrave::authz::resource::from_yaml;
use ring::rand::SystemRandom;
use ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use ring::signature::EcdsaKeyPair;
use ring::signature::KeyPair;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

#[test]
fn policies_become_the_filters_that_are_written_down_and_envoy_takes_them() {
    let cases = cases();
    assert!(cases.len() >= 4, "{cases:?}");
    for case in cases {
        let text = std::fs::read_to_string(&case).expect("a golden can be read");
        for (layer, ending) in [(Layer::Requests, "envoy.yaml"), (Layer::Connections, "connections.yaml")] {
            let chain = compiled(&text, layer);
            let filters: Vec<Value> =
                chain.in_order().map(|filter| filter.to_json().expect("what is made is printed")).collect();
            let printed = serde_saphyr::to_string(&filters).expect("JSON can be written as YAML");
            let golden = case.with_extension(ending);
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&golden, &printed).expect("a golden can be written");
            }
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(printed, expected, "{} (UPDATE=1 writes it anew)", golden.display());
            validate(layer, &filters);
        }
    }
}

#[tokio::test]
async fn envoy_verifies_tokens_before_policies_ask_for_their_claims() {
    let key = Signer::new();
    let policies = json!({
        "apiVersion": "v1", "kind": "List", "items": [
            {
                "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
                "metadata": {"name": "issuer", "namespace": "shop"},
                "spec": {"jwtRules": [{"issuer": "https://issuer.example", "jwks": key.jwks().to_string()}]},
            },
            {
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": "readers", "namespace": "shop"},
                "spec": {"rules": [{
                    "from": [{"source": {"requestPrincipals": ["https://issuer.example/*"]}}],
                    "when": [{"key": "request.auth.claims[scope]", "values": ["read"]}],
                }]},
            },
        ],
    });
    let chain = compiled(&policies.to_string(), Layer::Requests);
    assert!(chain.at(Slot::Tokens).is_some(), "{chain:?}");
    let filters: Vec<Value> =
        chain.in_order().map(|filter| filter.to_json().expect("what is made is printed")).collect();
    let (dir, port) = (scratch("tokens"), ports::free());
    let envoy = Envoy::start("verifying-envoy", &bootstrap(Layer::Requests, port, &filters), &dir).await;
    envoy.ready(Duration::from_secs(60)).await;
    let good = json!({"iss": "https://issuer.example", "sub": "ann", "scope": "list read"});
    let with = |change: fn(&mut Value)| {
        let mut claims = good.clone();
        change(&mut claims);
        key.token(&claims)
    };
    for (what, token, expected) in [
        ("no token, which a policy asks for", None, 403),
        ("a good one", Some(key.token(&good)), 200),
        ("one without the scope", Some(with(|claims| claims["scope"] = "list".into())), 403),
        ("a scope that only begins alike", Some(with(|claims| claims["scope"] = "reader".into())), 403),
        ("one of another issuer", Some(with(|claims| claims["iss"] = "https://else.example".into())), 401),
        ("one that is over", Some(with(|claims| claims["exp"] = 1.into())), 401),
        ("one of another key", Some(Signer::new().token(&good)), 401),
        ("none at all", Some("not.a.token".to_owned()), 401),
    ] {
        assert_eq!(status(port, token.as_deref()).await, expected, "{what}");
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/authz");
    let entries = std::fs::read_dir(folder).expect("the goldens can be listed");
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    all.retain(|path| path.to_string_lossy().matches('.').count() == 1);
    all.sort();
    all
}

/// What the policies of a text become for a workload in `shop`.
fn compiled(text: &str, layer: Layer) -> Chain {
    let documents = from_yaml(text).expect("a golden is YAML");
    let resources: Vec<_> =
        documents.resources.into_iter().map(|one| one.expect("a golden is of our kinds")).collect();
    let workload = Workload { namespace: "shop".to_owned(), ..Workload::default() };
    let mesh = Mesh::of("cluster.local".parse().expect("it is a trust domain"));
    let applied = apply(&resources, &workload, &mesh);
    let provider =
        Provider { cluster: "opa".to_owned(), timeout: Duration::from_millis(250), fail_open: false };
    let options = Options {
        providers: BTreeMap::from([("opa".to_owned(), provider)]),
        issuers: applied.authentication,
        ..Options::default()
    };
    compile(applied.policies.iter().map(Arc::as_ref), layer, &options).expect("a golden can be compiled")
}

/// Asks Envoy itself whether it would start with these filters.
fn validate(layer: Layer, filters: &[Value]) {
    let dir = scratch("validate");
    let config = dir.join("envoy.json");
    std::fs::write(&config, bootstrap(layer, 0, filters).to_string()).expect("a scratch can be written");
    let output = Command::new(tools::envoy())
        .args(["--mode", "validate", "--log-level", "warning", "--config-path"])
        .arg(&config)
        .output()
        .expect("Envoy can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn bootstrap(layer: Layer, port: u16, filters: &[Value]) -> Value {
    let named = |name: &str, message: &str, mut config: Value| {
        config["@type"] = format!("type.googleapis.com/{message}").into();
        json!({"name": name, "typed_config": config})
    };
    let mut filters = filters.to_vec();
    let chain = match layer {
        Layer::Requests => {
            filters.push(named("router", "envoy.extensions.filters.http.router.v3.Router", json!({})));
            let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
            vec![named(
                "http",
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                json!({
                    "stat_prefix": "http",
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
                    "http_filters": filters,
                }),
            )]
        }
        Layer::Connections => {
            filters.push(named("echo", "envoy.extensions.filters.network.echo.v3.Echo", json!({})));
            filters
        }
    };
    json!({
        "node": {"id": "filters", "cluster": "stories"},
        "static_resources": {
            "clusters": [{"name": "opa", "type": "STATIC", "load_assignment": {"cluster_name": "opa"}}],
            "listeners": [{
                "name": "inbound",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": chain}],
            }],
        },
    })
}

/// The status of an answer to a request with that token.
async fn status(port: u16, token: Option<&str>) -> u16 {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET / HTTP/1.1\r\nhost: shop\r\n{token}connection: close\r\n\r\n");
    let mut stream =
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("Envoy listens");
    stream.write_all(request.as_bytes()).await.expect("a request can be sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("there is an answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status")
}

/// An issuer's key.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .expect("the kernel gives random bytes");
        Self(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random)
                .expect("it was just made"),
        )
    }

    fn jwks(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one",
            "x": part(&point[1..33]), "y": part(&point[33..])}]})
    }

    fn token(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "ES256", "kid": "one"})), part(claims));
        let signature =
            self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("the kernel gives random bytes");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}
