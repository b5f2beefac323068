//! Pure: what is a field or a key of a condition about, and what do its values stand for?

use crate::authz::lower::domains::Domains;
use crate::authz::lower::identity;
use crate::authz::lower::token;
use crate::authz::model::Value;
use crate::authz::model::atom::Atom;
use crate::authz::model::atom::Shape;
use crate::authz::model::cidr::Cidr;
use crate::authz::model::pattern::Pattern;
use crate::authz::model::template::Template;
use crate::authz::request::PROPERTIES;
use crate::authz::resource::place::plain;
use crate::authz::resource::place::shown;

/// How much is told of what is wrong with a value, in characters.
const SHOWN: usize = 300;
/// The longest name of a header, in bytes.
const MAX_HEADER: usize = 256;

/// What a policy may ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Principal,
    Namespace,
    ServiceAccount,
    TrustDomain,
    SourceIp,
    RemoteIp,
    RequestPrincipal,
    Claim(Vec<Box<str>>),
    Header(Box<str>),
    Host,
    Method,
    Path,
    DestinationIp,
    DestinationPort,
    Sni,
    Metadata {
        filter: Box<str>,
        key: Box<str>,
    },
    /// The one principal of an old subject.
    User,
    /// A path of an old rule: they have no templates.
    PlainPath,
    /// A custom property or constraint of old objects.
    Property(Box<str>),
}

/// What the values of a policy are read by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The policy's namespace.
    pub(crate) namespace: &'a str,
    /// The trust domains that are one.
    pub(crate) domains: &'a Domains,
    /// Whether somebody is let in by being one of the values, or kept out.
    pub(crate) lets_in: bool,
}

impl Attribute {
    /// Of a field of a source or operation, and whether the field excludes.
    pub(crate) fn of_list(name: &str) -> Option<(Self, bool)> {
        let negated = name.starts_with("not");
        Some(match name {
            "principals" | "notPrincipals" => (Self::Principal, negated),
            "requestPrincipals" | "notRequestPrincipals" => (Self::RequestPrincipal, negated),
            "namespaces" | "notNamespaces" => (Self::Namespace, negated),
            "serviceAccounts" | "notServiceAccounts" => (Self::ServiceAccount, negated),
            "trustDomains" | "notTrustDomains" => (Self::TrustDomain, negated),
            "ipBlocks" | "notIpBlocks" => (Self::SourceIp, negated),
            "remoteIpBlocks" | "notRemoteIpBlocks" => (Self::RemoteIp, negated),
            "hosts" | "notHosts" => (Self::Host, negated),
            "ports" | "notPorts" => (Self::DestinationPort, negated),
            "methods" | "notMethods" => (Self::Method, negated),
            "paths" | "notPaths" => (Self::Path, negated),
            _ => return None,
        })
    }

    /// Of a condition's key.
    ///
    /// # Errors
    /// What is wrong with the key.
    pub(crate) fn of_key(key: &str) -> Result<Self, String> {
        Ok(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::Namespace,
            "source.principal" => Self::Principal,
            "source.serviceAccount" => Self::ServiceAccount,
            "source.trustDomain" => Self::TrustDomain,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Claim(vec!["aud".into()]),
            "request.auth.presenter" => Self::Claim(vec!["azp".into()]),
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::Sni,
            _ => return Self::of_bracketed_key(key),
        })
    }

    fn of_bracketed_key(key: &str) -> Result<Self, String> {
        let refused = |what: &str| Err(format!("key `{}`: {what}", shown(key)));
        let unknown = "unknown attribute; known are source.ip, source.namespace, source.principal, source.serviceAccount, source.trustDomain, remote.ip, request.headers[…], request.auth.principal, request.auth.audiences, request.auth.presenter, request.auth.claims[…], destination.ip, destination.port, connection.sni and experimental.envoy.filters.…[…]";
        if let Some(brackets) = key.strip_prefix("request.auth.claims") {
            return match token::claim_path(brackets) {
                Some(path) => Ok(Self::Claim(path)),
                None => refused("name the claim, as in `request.auth.claims[groups]`"),
            };
        }
        if let Some(brackets) = key.strip_prefix("request.headers") {
            let name = brackets.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
            return match is_header(name) {
                true => Ok(Self::Header(name.to_ascii_lowercase().into())),
                false => refused("name the header, as in `request.headers[x-tenant]`"),
            };
        }
        if let Some(rest) = key.strip_prefix("experimental.envoy.filters.") {
            let parts = rest.strip_suffix(']').and_then(|rest| rest.split_once('['));
            return match parts {
                Some((filter, key)) if !filter.is_empty() && !key.is_empty() => {
                    Ok(Self::Metadata { filter: format!("envoy.filters.{filter}").into(), key: key.into() })
                }
                _ => refused("name filter and key, as in `experimental.envoy.filters.http.rbac[tenant]`"),
            };
        }
        match key.split(['[', '.']).nth(1) {
            Some("namespace") if key == "destination.namespace" => {
                refused("a policy is for workloads of its own namespace already; leave it out")
            }
            Some("labels") if key.starts_with("destination.labels[") => {
                refused("use the policy's `selector` instead")
            }
            Some("name") if key == "destination.name" => refused("use the policy's `selector` instead"),
            Some("user") if key == "destination.user" => refused("use the policy's `selector` instead"),
            _ => refused(unknown),
        }
    }

    /// Whether it is proven by mutual TLS or by a token, which is not known yet where somebody else is asked.
    pub(crate) fn is_identity(&self) -> bool {
        match self {
            Self::Principal
            | Self::Namespace
            | Self::ServiceAccount
            | Self::TrustDomain
            | Self::RequestPrincipal
            | Self::User
            | Self::Claim(_) => true,
            Self::SourceIp
            | Self::RemoteIp
            | Self::Header(_)
            | Self::Host
            | Self::Method
            | Self::Path
            | Self::DestinationIp
            | Self::DestinationPort
            | Self::Sni
            | Self::PlainPath
            | Self::Property(_)
            | Self::Metadata { .. } => false,
        }
    }

    /// What a value stands for: any of these.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub(crate) fn values(&self, value: &str, context: Context<'_>) -> Result<Vec<Value>, String> {
        let is = |atom| Ok(vec![Value::Is(atom)]);
        let refused = |error: &dyn std::fmt::Display| plain(&error.to_string(), SHOWN);
        let block = |value: &str| value.parse::<Cidr>().map_err(|error| refused(&error));
        let named = |problem: String| format!("`{}`: {problem}", shown(value));
        match self {
            Self::Principal => {
                Ok(context.domains.principals(value).iter().map(|one| identity::principal(one)).collect())
            }
            Self::Namespace => identity::namespace(value, context.lets_in).map_err(named),
            Self::ServiceAccount => {
                identity::service_account(value, context.namespace, context.lets_in).map_err(named)
            }
            Self::TrustDomain => {
                let all = context.domains.domains(value);
                let read: Result<Vec<_>, _> =
                    all.iter().map(|one| identity::trust_domain(one, context.lets_in)).collect();
                read.map(|values| values.into_iter().flatten().collect()).map_err(named)
            }
            Self::RequestPrincipal => Ok(vec![token::request_principal(value)]),
            Self::Claim(path) => Ok(token::claim(path, value)),
            Self::SourceIp => is(Atom::SourceIp(block(value)?)),
            Self::RemoteIp => is(Atom::RemoteIp(block(value)?)),
            Self::DestinationIp => is(Atom::DestinationIp(block(value)?)),
            Self::DestinationPort => is(Atom::DestinationPort(port(value)?)),
            Self::Sni => is(Atom::Sni(Pattern::of(value).in_lower_case())),
            Self::Host => is(Atom::Host(Pattern::of(value).in_lower_case())),
            Self::Method => is(Atom::Method(Pattern::of(value))),
            Self::Path if Template::is_meant(value) => {
                is(Atom::PathTemplate(Template::parse(value).map_err(|error| refused(&error))?))
            }
            Self::Path | Self::PlainPath => is(Atom::Path(Pattern::of(value))),
            Self::User => {
                let principals = context.domains.principals(value);
                Ok(principals.iter().map(|one| identity::exact_principal(one)).collect())
            }
            Self::Property(key) => is(Atom::Metadata {
                filter: PROPERTIES.into(),
                path: [key.clone()].into(),
                shape: Shape::Text,
                value: Pattern::of(value),
            }),
            Self::Header(name) => {
                // Any header of that name will do, one without a value too.
                let value = if value == "*" { Pattern::Any } else { Pattern::of(value) };
                is(Atom::Header { name: name.clone(), value })
            }
            Self::Metadata { filter, key } => {
                let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                let (shape, value) = inner.map_or((Shape::Text, value), |inner| (Shape::List, inner));
                let path = [key.clone()].into();
                is(Atom::Metadata { filter: filter.clone(), path, shape, value: Pattern::of(value) })
            }
        }
    }

    /// What of a value may not mean what its author thinks.
    pub(crate) fn doubt(&self, value: &str) -> Option<String> {
        let inner = value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value);
        let star =
            format!("`{}`: only one `*` at an end is a wildcard, the other stands for itself", shown(value));
        match self {
            Self::TrustDomain if value.contains('*') && value != "*" => Some(format!(
                "`{}`: a value with a `*` is not looked up among the other names of the mesh",
                shown(value)
            )),
            Self::Namespace | Self::ServiceAccount | Self::TrustDomain => None,
            Self::SourceIp | Self::RemoteIp | Self::DestinationIp | Self::DestinationPort => None,
            Self::Path if Template::is_meant(value) => None,
            Self::User if value.contains('*') => {
                Some(format!("`{}`: `*` is no wildcard in a user; use `names`", shown(value)))
            }
            _ if inner.contains('*') => Some(star),
            Self::Principal | Self::User if value.starts_with("spiffe://") => {
                Some(format!("`{}`: `spiffe://` is put before the value; leave it out", shown(value)))
            }
            Self::Path | Self::PlainPath if !value.starts_with(['/', '*']) => {
                Some(format!("`{}`: paths begin with `/`", shown(value)))
            }
            Self::Method if value.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                Some(format!("`{}`: methods are told apart by case, and are in upper case", shown(value)))
            }
            _ => None,
        }
    }
}

fn is_header(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = name.strip_prefix(':').unwrap_or(name);
    (1..=MAX_HEADER).contains(&name.len()) && name.bytes().all(token)
}

fn port(value: &str) -> Result<u16, String> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let port = is_number.then(|| value.parse().ok()).flatten();
    port.ok_or_else(|| format!("`{}` is not a port; write a number from 0 to 65535", shown(value)))
}
