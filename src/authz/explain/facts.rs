//! Pure: what is known of a request that somebody asks about, and what is not?
//!
//! A line of an access log says a path and an address, and not who the peer was. What is not known is kept apart from what is known
//! to be absent, so that nobody is told a decision that hangs on it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value;

use crate::authz::path::Form;
use crate::authz::request::Http;
use crate::authz::request::JWT_FILTER;
use crate::authz::request::JWT_PAYLOAD;
use crate::authz::request::PROPERTIES;
use crate::authz::request::Peer;
use crate::authz::request::Request;

/// Something that is known, or is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is this.
    Known(T),
    /// Nobody has said.
    #[default]
    Unknown,
}

/// What is known of a request or connection. Where an address or a port is known to be `None`, there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// URI names of the peer's verified certificate; known to be `None` for plain text.
    pub peer: Fact<Option<Vec<String>>>,
    /// The other end of the socket.
    pub source_ip: Fact<Option<IpAddr>>,
    /// The client, as a trusted proxy tells it.
    pub remote_ip: Fact<Option<IpAddr>>,
    /// The workload's own address.
    pub destination_ip: Fact<Option<IpAddr>>,
    /// The workload's own port.
    pub destination_port: Fact<Option<u16>>,
    /// The server's name that was asked for, in lower case; known to be empty if none was.
    pub sni: Fact<String>,
    /// The HTTP request; none for a bare connection.
    pub http: Option<HttpFacts>,
    /// Claims of a verified token; known to be `None` where there was none.
    pub claims: Fact<Option<Map<String, Value>>>,
    /// Custom properties, all of them.
    pub properties: Fact<Map<String, Value>>,
    /// What other filters found out, by filter; of those that are not named nothing is known.
    pub filters: Map<String, Value>,
    /// What whoever reads the decision ought to know about these facts.
    pub remarks: Vec<String>,
}

/// What is known of an HTTP request.
#[derive(Clone, Default, PartialEq)]
pub struct HttpFacts {
    /// The method.
    pub method: Fact<String>,
    /// The path as the policy is to see it, with its query.
    pub path: Fact<String>,
    /// How the path was sent, and the form it was then given, if that was done here.
    pub sent: Option<(String, Form)>,
    /// The host.
    pub host: Fact<String>,
    /// The header lines that are known, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The headers that were sent and whose values are not known.
    pub unknown_headers: BTreeSet<String>,
    /// Whether there may be others.
    pub may_have_more_headers: bool,
}

/// Headers whose values are never shown.
const SECRET: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

/// Whether values of this header are never shown.
pub fn is_secret(header: &str) -> bool {
    SECRET.contains(&header)
}

impl<T> Fact<T> {
    /// It, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown => None,
        }
    }

    /// Whether it is.
    pub fn is_known(&self) -> bool {
        self.known().is_some()
    }
}

impl<T> From<Option<T>> for Fact<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Self::Known)
    }
}

impl Facts {
    /// Everything that is known of `request`, which is all that is asked for.
    pub fn of(request: &Request<'_>) -> Self {
        let found = |filter: &str| request.metadata.and_then(|all| all.get(filter));
        let claims = found(JWT_FILTER).and_then(|found| found.get(JWT_PAYLOAD)).and_then(Value::as_object);
        let properties = found(PROPERTIES).and_then(Value::as_object).cloned().unwrap_or_default();
        let others = request.metadata.into_iter().flatten();
        Self {
            peer: Fact::Known(request.peer.map(|peer| peer.uris.iter().map(|&uri| uri.to_owned()).collect())),
            source_ip: Fact::Known(request.source_ip),
            remote_ip: Fact::Known(request.remote_ip),
            destination_ip: Fact::Known(request.destination_ip),
            destination_port: Fact::Known(request.destination_port),
            sni: Fact::Known(request.sni.to_owned()),
            http: request.http.map(|http| HttpFacts {
                method: Fact::Known(http.method.to_owned()),
                path: Fact::Known(http.path.to_owned()),
                sent: None,
                host: Fact::Known(http.host.to_owned()),
                headers: http
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_string()))
                    .collect(),
                unknown_headers: BTreeSet::new(),
                may_have_more_headers: false,
            }),
            claims: Fact::Known(claims.cloned()),
            properties: Fact::Known(properties),
            filters: others
                .filter(|(filter, _)| *filter != JWT_FILTER && *filter != PROPERTIES)
                .map(|(filter, found)| (filter.clone(), found.clone()))
                .collect(),
            remarks: Vec::new(),
        }
    }

    /// Asks something of the request that these facts are of. What is not known looks as if it were absent there.
    pub fn ask<T>(&self, question: impl FnOnce(&Request<'_>) -> T) -> T {
        let uris: Vec<&str> = match &self.peer {
            Fact::Known(Some(uris)) => uris.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let lines: Vec<(&str, &str)> = match &self.http {
            Some(http) => http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            None => Vec::new(),
        };
        let text = |fact: &'_ Fact<String>| fact.known().cloned().unwrap_or_default();
        let (method, path, host) = match &self.http {
            Some(http) => (text(&http.method), text(&http.path), text(&http.host)),
            None => Default::default(),
        };
        let metadata = self.metadata();
        question(&Request {
            peer: matches!(self.peer, Fact::Known(Some(_))).then_some(Peer { uris: &uris }),
            source_ip: self.source_ip.known().copied().flatten(),
            remote_ip: self.remote_ip.known().copied().flatten(),
            destination_ip: self.destination_ip.known().copied().flatten(),
            destination_port: self.destination_port.known().copied().flatten(),
            sni: self.sni.known().map_or("", String::as_str),
            http: self.http.is_some().then_some(Http {
                method: &method,
                path: &path,
                host: &host,
                headers: &lines,
            }),
            metadata: Some(&metadata),
        })
    }

    fn metadata(&self) -> Map<String, Value> {
        let mut all = self.filters.clone();
        if let Fact::Known(Some(claims)) = &self.claims {
            let payload = Map::from_iter([(JWT_PAYLOAD.to_owned(), Value::Object(claims.clone()))]);
            all.insert(JWT_FILTER.to_owned(), Value::Object(payload));
        }
        if let Fact::Known(properties) = &self.properties {
            all.insert(PROPERTIES.to_owned(), Value::Object(properties.clone()));
        }
        all
    }
}

impl fmt::Debug for HttpFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): &(String, String)| match is_secret(name) {
            true => format!("{name}: …"),
            false => format!("{name}: {value}"),
        };
        f.debug_struct("HttpFacts")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("host", &self.host)
            .field("headers", &self.headers.iter().map(shown).collect::<Vec<_>>())
            .field("unknown_headers", &self.unknown_headers)
            .field("may_have_more_headers", &self.may_have_more_headers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_in_what_is_printed_of_a_request() {
        let headers = vec![("authorization".to_owned(), "Bearer abc".to_owned())];
        let facts = Facts { http: Some(HttpFacts { headers, ..HttpFacts::default() }), ..Facts::default() };
        assert!(!format!("{facts:?}").contains("abc"));
    }

    #[test]
    fn all_that_is_known_of_a_request_asks_as_the_request_does() {
        let metadata = serde_json::json!({
            JWT_FILTER: { JWT_PAYLOAD: { "iss": "a" } }, PROPERTIES: { "p": "q" }, "envoy.filters.x": { "k": "v" },
        });
        let request = Request {
            peer: Some(Peer { uris: &["spiffe://td/ns/a/sa/b"] }),
            http: Some(Http { method: "GET", path: "/a?b", host: "h", headers: &[("x", "1"), ("x", "2")] }),
            destination_port: Some(80),
            metadata: metadata.as_object(),
            ..Request::default()
        };
        let facts = Facts::of(&request);
        facts.ask(|again| {
            assert_eq!(again.peer.map(|peer| peer.uris), request.peer.map(|peer| peer.uris));
            assert_eq!(
                again.http.map(|http| (http.path, http.headers)),
                Some(("/a?b", &[("x", "1"), ("x", "2")][..]))
            );
            assert_eq!(again.metadata, request.metadata);
            assert_eq!(again.destination_port, Some(80));
        });
    }
}
