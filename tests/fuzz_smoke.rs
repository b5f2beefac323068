//! The fuzz targets on stable: good inputs, mutated some thousand times each with a fixed seed. A find is kept as a case here.

#[path = "../fuzz/targets.rs"]
mod targets;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burgrave::authority;
use burgrave::proto::envoy::Address;
use burgrave::proto::envoy::AddressKind;
use burgrave::proto::envoy::AttributeContext;
use burgrave::proto::envoy::CheckRequest;
use burgrave::proto::envoy::CheckedHttp;
use burgrave::proto::envoy::CheckedPeer;
use burgrave::proto::envoy::CheckedRequest;
use burgrave::proto::envoy::HeaderMap;
use burgrave::proto::envoy::HeaderValue;
use burgrave::proto::envoy::PortSpecifier;
use burgrave::proto::envoy::SocketAddress;
use burgrave::x509::PrivateKey;
use burgrave::x509::root;
use prost::Message;
use time::OffsetDateTime;

const ROUNDS: usize = 4000;

/// By the age crate, version 0.12.1, with a work factor of 2 and the passphrase of the fuzz target.
const SEALED: &str = "\
-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCB4MmZHakNwYUFJQjVtV0Iv
TEh6K1l3IDIKcUhGM21nOEcrbzZVZnhTeStIOTRkR1JSUXJWb3V3NUNrRUJsTHI0
a090SQotLS0gcS8xeGhWczdrMXowelRVdURrWkVwSW1iK0dWL0pNZ1hDdERMUUw5
d3pjVQp5x8DD1ZW/SWrg+fPnEFaaWTNNaKQOIHXKx8/zssAG3Wo9/xQkqPOELyZK
75HnDNwWHsE7l5ChO2oqmFk7lwT+pkE+7qQ0YY41x1LRpMFu4tC4/4qWh/t5lcnO
QIvicl8OZs1E1KtjyrC2HY6NgYPTYCBy8XFE+3eRxPnIH6RwxzvhQ7j/4VPO/Hr1
Fb7wleTVwdVwfpejm2IcimE=
-----END AGE ENCRYPTED FILE-----
";

/// A small generator with a fixed seed, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }

    /// The input with up to four things done to it.
    fn mutate(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.roll(4) {
            let at = self.roll(bytes.len());
            match self.roll(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.roll(256) as u8),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => {
                    let piece: Vec<u8> = bytes.iter().skip(at).take(self.roll(32)).copied().collect();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.roll(8);
                    }
                }
            }
        }
        bytes
    }
}

fn storm(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    storm_of(ROUNDS, target, seeds);
}

fn storm_of(rounds: usize, target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for seed in seeds {
        target(seed);
        for _ in 0..rounds {
            target(&dice.mutate(seed));
        }
    }
    for _ in 0..rounds {
        let length = dice.roll(200);
        let noise: Vec<u8> = (0..length).map(|_| dice.roll(256) as u8).collect();
        target(&noise);
    }
}

#[test]
fn no_request_makes_the_csr_reader_panic() {
    let pem = PrivateKey::generate().unwrap().csr_pem().unwrap();
    let der = burgrave::x509::pem::csr(pem.as_bytes()).unwrap().to_vec();
    storm(targets::csr, &[der, pem.into_bytes()]);
}

#[test]
fn no_certificate_makes_its_reader_panic() {
    let key = PrivateKey::generate().unwrap();
    let domain = "td".parse().unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let root = root::self_signed(&key, &domain, OffsetDateTime::UNIX_EPOCH, hour).unwrap();
    let pem = burgrave::x509::pem::certificate(root.der());
    storm(targets::certificate, &[root.der().to_vec(), pem.into_bytes()]);
}

#[test]
fn no_text_makes_the_readers_of_texts_panic() {
    storm(targets::spiffe_id, &[b"spiffe://cluster.local/ns/shop/sa/web".to_vec()]);
    storm(targets::message, &["Failed to load <inline> \u{e4} {inline_bytes: \"MIG\"}".as_bytes().to_vec()]);
}

#[test]
fn no_sequence_of_requests_makes_a_subscription_panic() {
    storm(targets::subscription, &[vec![0, 255, 1, 0, 1, 3, 0, 0, 1, 3, 1, 1, 0, 255, 2, 0, 2, 3, 1, 2]]);
}

#[test]
fn no_text_makes_the_reader_of_sealed_authorities_panic() {
    let opened = authority::open_within(SEALED, "correct horse battery", 2).unwrap();
    assert_eq!(opened.into_keys().collect::<Vec<_>>(), ["root-cert.pem", "seed"]);
    let body: String = SEALED.lines().filter(|line| !line.starts_with("-----")).collect();
    storm(targets::sealed, &[SEALED.as_bytes().to_vec(), STANDARD.decode(body).unwrap()]);
}

#[test]
fn no_path_is_decided_on_otherwise_than_by_walking_through_its_templates() {
    let seeds = [
        "/a/b?x=1\n/a/{*}\n/a/*\n*/b\n/{**}\n/a/{**}/b\n*\n/a/b",
        "/store//cart\n/store/{**}/cart\n/store/{*}/cart\n/store/",
        "/v/%2F/x\n/v/{*}/x\n/v/{*}/{**}",
    ];
    storm(targets::paths, &seeds.map(|seed| seed.as_bytes().to_vec()));
}

#[test]
fn no_text_makes_the_reader_of_policies_panic_or_allow_what_it_cannot_read() {
    // Each is read, applied and migrated, which takes a while.
    storm_of(ROUNDS / 4, targets::policy, &[POLICY.into(), AUTHENTICATION.into(), ROLES.into()]);
}

const POLICY: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, annotations: {istio.io/dry-run: 'false'}}
spec:
  selector: {matchLabels: {app: web}}
  action: ALLOW
  rules:
  - from:
    - source: {principals: [cluster.local/ns/a/sa/b, '*/sa/c'], notNamespaces: [a*b], ipBlocks: [10.0.0.0/8]}
    - source: {serviceAccounts: [a/b], trustDomains: ['*.d'], requestPrincipals: ['iss/*']}
    to:
    - operation: {hosts: ['*.test'], ports: ['80'], methods: [GET], paths: ['/a/{*}/{**}', /b*]}
    when:
    - {key: 'request.auth.claims[a][b]', values: [x], notValues: [y]}
    - {key: 'experimental.envoy.filters.a[b]', values: ['[x]']}
";

const AUTHENTICATION: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: security.istio.io/v1
  kind: RequestAuthentication
  metadata: {name: a}
  spec: {jwtRules: [{issuer: 'https://a', audiences: [b], fromHeaders: [{name: c, prefix: 'd '}], timeout: 1m5s}]}
- apiVersion: security.istio.io/v1beta1
  kind: PeerAuthentication
  metadata: {name: a}
  spec: {selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}, portLevelMtls: {'80': {mode: DISABLE}}}
";

const ROLES: &str = "\
apiVersion: rbac.istio.io/v1alpha1
kind: ClusterRbacConfig
metadata: {name: default}
spec: {mode: ON_WITH_EXCLUSION, exclusion: {namespaces: [a], services: [b]}}
---
apiVersion: rbac.istio.io/v1alpha1
kind: ServiceRole
metadata: {name: a}
spec: {rules: [{services: ['*'], paths: [/a*], ports: [80], constraints: [{key: b, values: [c]}]}]}
---
apiVersion: rbac.istio.io/v1alpha1
kind: ServiceRoleBinding
metadata: {name: b}
spec:
  subjects: [{user: a, not_names: [b], properties: {source.ip: 10.0.0.1, c: d}}, {user: '*'}]
  roleRef: {kind: ServiceRole, name: a}
";

/// A question that is answered with yes.
fn question() -> CheckRequest {
    let socket = SocketAddress {
        address: "192.0.2.1".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(8080)),
        ..SocketAddress::default()
    };
    let address = Address { address: Some(AddressKind::SocketAddress(socket)) };
    let source = CheckedPeer {
        address: Some(address.clone()),
        principal: "spiffe://td/in".to_owned(),
        ..CheckedPeer::default()
    };
    let line = |key: &str, value: &[u8]| HeaderValue {
        key: key.to_owned(),
        raw_value: value.to_vec(),
        value: String::new(),
    };
    let http = CheckedHttp {
        method: "GET".to_owned(),
        path: "/in?a=b".to_owned(),
        host: "h".to_owned(),
        header_map: Some(HeaderMap {
            headers: vec![line("x-a", b"b"), line("x-forwarded-for", b"203.0.113.9,192.0.2.1")],
        }),
        ..CheckedHttp::default()
    };
    let attributes = AttributeContext {
        source: Some(source),
        destination: Some(CheckedPeer { address: Some(address), ..CheckedPeer::default() }),
        request: Some(CheckedRequest { http: Some(http), time: None }),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

#[test]
fn no_question_of_a_proxy_is_let_in_by_accident() {
    let with_raw_lines = question();
    let mut joined = question();
    if let Some(http) = joined.attributes.as_mut().and_then(|all| all.request.as_mut()?.http.as_mut()) {
        http.header_map = None;
        http.headers.insert("x-a".to_owned(), "b,c".to_owned());
    }
    let seeds = [with_raw_lines, joined].map(|question| question.encode_to_vec());
    assert!(
        seeds.iter().all(|seed| targets::is_let_in(seed)),
        "a storm on what is refused anyway shows nothing"
    );
    storm(targets::check_request, &seeds);
}

#[test]
fn no_token_is_good_that_its_issuer_has_not_signed() {
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let header = part(r#"{"alg":"ES256","kid":"k"}"#);
    let token = format!("{header}.{}.{}", part(r#"{"iss":"joe","scope":"a b"}"#), part(&"s".repeat(64)));
    let keys = r#"{"keys":[{"kty":"RSA","kid":"r","n":"AQAB","e":"AQAB"}]}"#;
    storm(targets::token, &[token.into_bytes(), keys.as_bytes().to_vec()]);
}

#[test]
fn no_text_makes_the_readers_of_requests_panic() {
    let seeds = [
        "curl -sX POST 'http://api:8080/a/../b?c' -H 'X-A: b' -d \"d\" --json $'{\\x41}' -b c=d",
        "curl -H 'Authorization: Bearer e30.eyJpc3MiOiJhIn0.c2ln' https://[::1]:81/%2e%2E//x",
        "[2026-10-01T12:00:00.000Z] \"GET /v1?x HTTP/1.1\" 403 - rbac_access_denied_matched_policy[none] - \"-\" 0 19 0 - \"9.9.9.9\" \"a\" \"b\" \"c:80\" \"-\" d - [::1]:80 10.0.0.9:5 e f",
        r#"{"method":"GET","path":"/a","response_code":403,"downstream_remote_address":"9.9.9.9:0","downstream_peer_uri_san":"spiffe://td/a"}"#,
        r#"{"from":["shop/web"],"method":"GET","path":"/a","headers":{"x":["1","2"]},"claims":{"scope":"a b"},"port":80,"source_ip":"::1"}"#,
        r#"{"workload":"shop/api","cases":[{"name":"a","request":{"from":null},"expect":"deny"}]}"#,
    ];
    storm(targets::requests, &seeds.map(|seed| seed.as_bytes().to_vec()));
}
