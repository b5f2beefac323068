//! Sets of policies that differ in what they ask, and requests that nearly or really match.

use std::sync::Arc;

use burgrave::authz::Http;
use burgrave::authz::Peer;
use burgrave::authz::Request;
use burgrave::authz::model::Action;
use burgrave::authz::model::Atom;
use burgrave::authz::model::Conjunction;
use burgrave::authz::model::Field;
use burgrave::authz::model::Kind;
use burgrave::authz::model::Pattern;
use burgrave::authz::model::Policy;
use burgrave::authz::model::PolicyName;
use burgrave::authz::model::Rule;
use burgrave::authz::model::Shape as ValueShape;
use burgrave::authz::model::Template;
use burgrave::authz::model::Term;
use burgrave::authz::model::Value;
use serde_json::Map;
use serde_json::json;

/// What the policies of a set ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Principal,
    PrincipalPrefix,
    Namespace,
    Cidr,
    Port,
    Path,
    PathPrefix,
    HostSuffix,
    Template,
    Header,
    RequestPrincipal,
    MethodAndPrincipal,
    NotPath,
    /// Namespace, methods, path prefix, an excluded path and a header, with few distinct values for most of them.
    Mix,
    /// Every policy's wildcards hold for every request, and none matches.
    AllWildcards,
    /// No policy asks for anything, each only excludes, and none matches.
    AllNot,
}

pub const ALL: [Shape; 16] = [
    Shape::Principal,
    Shape::PrincipalPrefix,
    Shape::Namespace,
    Shape::Cidr,
    Shape::Port,
    Shape::Path,
    Shape::PathPrefix,
    Shape::HostSuffix,
    Shape::Template,
    Shape::Header,
    Shape::RequestPrincipal,
    Shape::MethodAndPrincipal,
    Shape::NotPath,
    Shape::Mix,
    Shape::AllWildcards,
    Shape::AllNot,
];

impl Shape {
    pub fn is_adversarial(self) -> bool {
        matches!(self, Self::AllWildcards | Self::AllNot)
    }

    /// A set of policies with one rule each.
    pub fn policies(self, count: usize) -> Vec<Arc<Policy>> {
        (0..count).map(|at| Arc::new(policy(at, self.terms(at)))).collect()
    }

    /// Terms of `from`, of `to` and of `when`.
    fn terms(self, at: usize) -> [Vec<Term>; 3] {
        let from = |atom| [vec![is(atom)], vec![], vec![]];
        let to = |atom| [vec![], vec![is(atom)], vec![]];
        match self {
            Self::Principal => from(Atom::PeerUri(Pattern::Exact(uri(at).into()))),
            Self::PrincipalPrefix => {
                from(Atom::PeerUri(Pattern::Prefix(format!("spiffe://td/ns/n{at}/").into())))
            }
            Self::Namespace => from(namespace(at)),
            Self::Cidr => from(Atom::SourceIp(
                format!("{}.{}.{}.0/24", 10 + at / 65536, at / 256 % 256, at % 256)
                    .parse()
                    .expect("it is a block"),
            )),
            Self::Port => to(Atom::DestinationPort(u16::try_from(at % 60_000).expect("it is a port"))),
            Self::Path => to(Atom::Path(Pattern::Exact(format!("/api/v1/item-{at}").into()))),
            Self::PathPrefix => to(path_prefix(at)),
            Self::HostSuffix => to(Atom::Host(Pattern::Suffix(format!(".h{at}.example").into()))),
            Self::Template => {
                let text = format!("/api/{{*}}/item-{at}/{{**}}");
                to(Atom::PathTemplate(Template::parse(&text).expect("it is a template")))
            }
            Self::Header => [vec![], vec![], vec![is(header("x-tenant", &format!("t{at}")))]],
            Self::RequestPrincipal => {
                let claim = |name, text: String| {
                    (Atom::claim([name], ValueShape::Text, Pattern::Exact(text.into())), true)
                };
                let all = Value::All(vec![claim("iss", "issuer".into()), claim("sub", format!("s{at}"))]);
                [
                    vec![Term { field: Field::List("requestPrincipals"), negated: false, values: vec![all] }],
                    vec![],
                    vec![],
                ]
            }
            Self::MethodAndPrincipal => {
                let method = Atom::Method(Pattern::Exact("GET".into()));
                [vec![is(Atom::PeerUri(Pattern::Exact(uri(at).into())))], vec![is(method)], vec![]]
            }
            Self::NotPath => {
                let path = Atom::Path(Pattern::Exact(format!("/admin-{}", at % 7).into()));
                [vec![is(Atom::PeerUri(Pattern::Exact(uri(at).into())))], vec![is_not(vec![path])], vec![]]
            }
            Self::Mix => {
                let methods = ["GET", "POST"].map(|name| Atom::Method(Pattern::Exact(name.into())));
                let admin = Atom::Path(Pattern::Exact("/api/admin".into()));
                [
                    vec![is(namespace(at % 97))],
                    vec![any(methods.into()), is(path_prefix(at)), is_not(vec![admin])],
                    vec![is(header("x-tier", ["gold", "silver"][at % 2]))],
                ]
            }
            Self::AllWildcards => {
                let path = PATH.get(..1 + at % PATH.len()).expect("it is ASCII");
                [
                    vec![is(Atom::Peer)],
                    vec![is(Atom::Path(Pattern::Prefix(path.into()))), is(Atom::Method(Pattern::NotEmpty))],
                    vec![is_not(vec![header("x-env", "prod")])],
                ]
            }
            Self::AllNot => {
                let path = Atom::Path(Pattern::Exact(format!("/x-{at}").into()));
                [
                    vec![is_not(vec![Atom::PeerUri(Pattern::Prefix(
                        format!("spiffe://td/ns/{}", at % 3).into(),
                    ))])],
                    vec![is_not(vec![path])],
                    vec![is_not(vec![header("x-env", "prod")])],
                ]
            }
        }
    }
}

const PATH: &str = "/api/v1/item-1/a/rather/long/path/of/some/depth";

fn uri(at: usize) -> String {
    format!("spiffe://td/ns/n{}/sa/account-{at}", at % 500)
}

fn namespace(at: usize) -> Atom {
    Atom::PeerUri(Pattern::Contains(format!("/ns/n{at}/").into()))
}

fn path_prefix(at: usize) -> Atom {
    Atom::Path(Pattern::Prefix(format!("/svc-{at}/").into()))
}

fn header(name: &str, value: &str) -> Atom {
    Atom::Header { name: name.into(), value: Pattern::Exact(value.into()) }
}

fn is(atom: Atom) -> Term {
    any(vec![atom])
}

fn any(atoms: Vec<Atom>) -> Term {
    Term { field: Field::List("any"), negated: false, values: atoms.into_iter().map(Value::Is).collect() }
}

fn is_not(atoms: Vec<Atom>) -> Term {
    Term { negated: true, ..any(atoms) }
}

fn policy(at: usize, [from, to, when]: [Vec<Term>; 3]) -> Policy {
    let all = |terms| Conjunction { index: 0, terms };
    Policy {
        name: PolicyName {
            kind: Kind::AuthorizationPolicy,
            namespace: "shop".into(),
            name: format!("p{at:06}").into(),
        },
        action: Action::Allow,
        dry_run: false,
        rules: vec![Rule { index: 0, from: vec![all(from)], to: vec![all(to)], when: all(when) }],
    }
}

/// What one request says, to be asked about without copies.
pub struct Asked {
    uri: String,
    path: String,
    host: String,
    tenant: String,
    source: std::net::IpAddr,
    port: u16,
    claims: Map<String, serde_json::Value>,
}

impl Asked {
    /// The request that policy `at` of each set is about; where there is no such policy, one that none matches.
    pub fn of(shape: Shape, at: usize) -> Self {
        let path = match shape {
            Shape::Path => format!("/api/v1/item-{at}"),
            Shape::Template => format!("/api/v1/item-{at}/x/y"),
            Shape::AllWildcards | Shape::AllNot => PATH.to_owned(),
            _ => format!("/svc-{at}/list/of/things"),
        };
        let uri = match shape {
            Shape::Namespace | Shape::PrincipalPrefix => format!("spiffe://td/ns/n{at}/sa/account"),
            Shape::Mix => format!("spiffe://td/ns/n{}/sa/account", at % 97),
            _ => uri(at),
        };
        let claims =
            json!({burgrave::authz::JWT_FILTER: {"payload": {"iss": "issuer", "sub": format!("s{at}")}}});
        Self {
            uri,
            path,
            host: format!("www.h{at}.example"),
            tenant: format!("t{at}"),
            source: format!("{}.{}.{}.9", 10 + at / 65536 % 200, at / 256 % 256, at % 256)
                .parse()
                .expect("an address"),
            port: u16::try_from(at % 65_536).expect("it is a port"),
            claims: claims.as_object().expect("it is an object").clone(),
        }
    }

    pub fn ask<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers = [
            ("accept", "*/*"),
            ("user-agent", "curl/8.1"),
            ("x-request-id", "0f6c2a7e-1a0b-4f7e-9d0a-2f1f6f2b7c11"),
            ("x-env", "prod"),
            ("x-tier", "gold"),
            ("x-tenant", self.tenant.as_str()),
        ];
        let uris = [self.uri.as_str()];
        ask(&Request {
            peer: Some(Peer { uris: &uris }),
            source_ip: Some(self.source),
            remote_ip: Some(self.source),
            destination_ip: Some(self.source),
            destination_port: Some(self.port),
            sni: "",
            http: Some(Http { method: "GET", path: &self.path, host: &self.host, headers: &headers }),
            metadata: Some(&self.claims),
        })
    }
}
