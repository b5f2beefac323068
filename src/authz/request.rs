//! Pure: what is known of a request or connection, when it is decided on?
//!
//! All of it is borrowed, so that asking costs no copy. What is not known matches nothing that is asked for, and everything that is
//! excluded (`notPaths` and the like), as in Envoy; identities are the exception, see [`crate::authz::model`].

use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value;

/// Where the claims of a verified token stand in [`Request::metadata`], as Envoy's JWT filter puts them.
pub const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
/// Under this key of it.
pub const JWT_PAYLOAD: &str = "payload";
/// Where custom properties stand in [`Request::metadata`]: a filter before the RBAC filter writes them, or the embedding program.
pub const PROPERTIES: &str = "envoy.filters.http.rbac";

/// A request, or a connection of which only that much is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Who is at the other end of mutual TLS; `None` for plain text, and for TLS without a verified client certificate.
    pub peer: Option<Peer<'a>>,
    /// Address of the socket's other end.
    pub source_ip: Option<IpAddr>,
    /// Address of the client, if a proxy in between told it and is believed; the same as `source_ip` otherwise.
    pub remote_ip: Option<IpAddr>,
    /// Our own address.
    pub destination_ip: Option<IpAddr>,
    /// Our own port: the workload's, not the service's.
    pub destination_port: Option<u16>,
    /// The server's name that the client asked for, in lower case; empty if it asked for none.
    pub sni: &'a str,
    /// The HTTP request; `None` for a bare connection.
    pub http: Option<Http<'a>>,
    /// What filters before this one found out, by filter: claims of a verified token ([`JWT_FILTER`]), custom properties
    /// ([`PROPERTIES`]).
    pub metadata: Option<&'a Map<String, Value>>,
}

/// A peer whose certificate was verified.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// All URI names of its certificate. SPIFFE allows exactly one; where there are several, any of them counts, as in Envoy.
    pub uris: &'a [&'a str],
}

/// An HTTP request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Http<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The path as the policy is to see it: normalised, if the proxy does so; a query and a fragment may follow and do not count.
    pub path: &'a str,
    /// The host (`:authority`), as sent, with its port.
    pub host: &'a str,
    /// Header lines, names in lower case, one for each line that was sent.
    pub headers: &'a [(&'a str, &'a str)],
}

impl<'a> Http<'a> {
    /// The path without query and fragment.
    pub fn bare_path(&self) -> &'a str {
        // Bytes are looked through faster than characters, and none of these two is part of another.
        let end = self.path.bytes().position(|byte| matches!(byte, b'?' | b'#'));
        end.and_then(|end| self.path.get(..end)).unwrap_or(self.path)
    }

    /// The values of header `name`, which is in lower case. `host` is another name for `:authority`.
    pub fn values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        let of_request = match name {
            ":authority" | "host" => Some(self.host),
            ":method" => Some(self.method),
            ":path" => Some(self.path),
            _ => None,
        };
        let lines = self.headers.iter().filter(move |(known, _)| *known == name && of_request.is_none());
        of_request.into_iter().chain(lines.map(|(_, value)| value.trim_matches([' ', '\t'])))
    }
}

impl<'a> Request<'a> {
    /// What stands under `path` of what `filter` found out.
    pub fn found(&self, filter: &str, path: &[Box<str>]) -> Option<&'a Value> {
        let mut value = self.metadata?.get(filter)?;
        for key in path {
            value = value.as_object()?.get(&**key)?;
        }
        Some(value)
    }
}
