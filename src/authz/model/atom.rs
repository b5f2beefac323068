//! Pure: the smallest things a policy asks about a request, each either so or not.

use std::fmt;

use crate::authz::model::cidr::Cidr;
use crate::authz::model::pattern::Pattern;
use crate::authz::model::template::Template;
use crate::authz::request::JWT_FILTER;
use crate::authz::request::JWT_PAYLOAD;
use crate::authz::request::Request;

/// One question. [`Atom::holds`] is what it means; everything faster has to agree with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// The peer showed a certificate, and it was verified.
    Peer,
    /// One of the URI names of the peer's verified certificate is such a text, with its `spiffe://`.
    PeerUri(Pattern),
    /// One of these names has the form of a workload's: `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, none of the three empty and nothing
    /// more. Parts of a name that are looked for inside it can only be told apart by this.
    PeerIsWorkload,
    /// The other end of the socket has such an address.
    SourceIp(Cidr),
    /// The client has such an address, as a trusted proxy tells it.
    RemoteIp(Cidr),
    /// We have such an address.
    DestinationIp(Cidr),
    /// It came in on this port.
    DestinationPort(u16),
    /// The client asked for such a server's name (in lower case).
    Sni(Pattern),
    /// The host is such a text, whatever its case; the pattern is in lower case.
    Host(Pattern),
    /// The method is such a text.
    Method(Pattern),
    /// The path without its query is such a text.
    Path(Pattern),
    /// The path without its query fits such a template.
    PathTemplate(Template),
    /// One of the lines of this header has such a value.
    Header {
        /// Its name, in lower case.
        name: Box<str>,
        /// Its value.
        value: Pattern,
    },
    /// A filter found out such a value: claims of a token, custom properties.
    Metadata {
        /// The filter's name.
        filter: Box<str>,
        /// The way to the value.
        path: Box<[Box<str>]>,
        /// What kind of value it is.
        shape: Shape,
        /// The text.
        value: Pattern,
    },
}

/// What kind of value a text is looked for in. Numbers, truth values and objects never match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// The value is a text.
    Text,
    /// The value is a list, and one of its texts is meant.
    List,
}

impl Atom {
    /// The text under a claim of the token, where the claim may be nested.
    pub fn claim<'a>(path: impl IntoIterator<Item = &'a str>, shape: Shape, value: Pattern) -> Self {
        let path = std::iter::once(JWT_PAYLOAD).chain(path).map(Box::from).collect();
        Self::Metadata { filter: JWT_FILTER.into(), path, shape, value }
    }

    /// Whether it is so. This is the definition; it looks at nothing but its own part of the request.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        let http = request.http.as_ref();
        match self {
            Self::Peer => request.peer.is_some(),
            Self::PeerUri(value) => {
                request.peer.is_some_and(|peer| peer.uris.iter().any(|uri| value.matches(uri)))
            }
            Self::PeerIsWorkload => {
                request.peer.is_some_and(|peer| peer.uris.iter().any(|uri| is_workload(uri)))
            }
            Self::SourceIp(block) => request.source_ip.is_some_and(|address| block.contains(address)),
            Self::RemoteIp(block) => request.remote_ip.is_some_and(|address| block.contains(address)),
            Self::DestinationIp(block) => {
                request.destination_ip.is_some_and(|address| block.contains(address))
            }
            Self::DestinationPort(port) => request.destination_port == Some(*port),
            Self::Sni(value) => value.matches(request.sni),
            Self::Host(value) => http.is_some_and(|http| value.matches(&http.host.to_ascii_lowercase())),
            Self::Method(value) => http.is_some_and(|http| value.matches(http.method)),
            Self::Path(value) => http.is_some_and(|http| value.matches(http.bare_path())),
            Self::PathTemplate(template) => http.is_some_and(|http| template.matches(http.bare_path())),
            Self::Header { name, value } => {
                http.is_some_and(|http| http.values(name).any(|line| value.matches(line)))
            }
            Self::Metadata { filter, path, shape, value } => match (shape, request.found(filter, path)) {
                (Shape::Text, Some(serde_json::Value::String(text))) => value.matches(text),
                (Shape::List, Some(serde_json::Value::Array(list))) => {
                    list.iter().any(|one| one.as_str().is_some_and(|text| value.matches(text)))
                }
                _ => false,
            },
        }
    }

    /// Whether it can only be asked of an HTTP request: on a bare connection there is no answer, not even no.
    pub fn is_http_only(&self) -> bool {
        match self {
            Self::Host(_) | Self::Method(_) | Self::Path(_) | Self::PathTemplate(_) | Self::Header { .. } => {
                true
            }
            Self::Metadata { filter, .. } => &**filter == JWT_FILTER,
            Self::Peer
            | Self::PeerUri(_)
            | Self::PeerIsWorkload
            | Self::SourceIp(_)
            | Self::RemoteIp(_)
            | Self::DestinationIp(_)
            | Self::DestinationPort(_)
            | Self::Sni(_) => false,
        }
    }

    /// Whether it asks who the peer is, as mutual TLS proves it.
    pub fn is_of_peer(&self) -> bool {
        matches!(self, Self::Peer | Self::PeerUri(_) | Self::PeerIsWorkload)
    }
}

/// Whether a URI has the form of a workload's SPIFFE ID, as Istio writes them.
pub(crate) fn is_workload(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    let mut parts = rest.split('/');
    let mut next = || parts.next().unwrap_or_default();
    let (domain, ns, namespace, sa, account) = (next(), next(), next(), next(), next());
    let has_all = ![domain, namespace, account].contains(&"");
    has_all && ns == "ns" && sa == "sa" && parts.next().is_none()
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("any authenticated peer"),
            Self::PeerIsWorkload => f.write_str("a workload's SPIFFE ID"),
            Self::PeerUri(value)
            | Self::Sni(value)
            | Self::Host(value)
            | Self::Method(value)
            | Self::Path(value)
            | Self::Header { value, .. }
            | Self::Metadata { value, .. } => value.fmt(f),
            Self::PathTemplate(template) => template.fmt(f),
            Self::SourceIp(block) | Self::RemoteIp(block) | Self::DestinationIp(block) => block.fmt(f),
            Self::DestinationPort(port) => port.fmt(f),
        }
    }
}
