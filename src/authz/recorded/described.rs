//! Pure: which request does a description mean, and what of it does not fit?
//!
//! A description is a JSON or YAML object, or the same as flags:
//!
//! ```yaml
//! protocol: http                  # or tcp: a bare connection, without method, path, host and headers
//! method: GET
//! path: /v1/items?page=2          # as sent; it is normalised as the proxy does
//! normalize: base                 # none, base, merge-slashes or decode-and-merge-slashes
//! host: api.shop.example:8080     # as sent; the port counts
//! headers: { x-tenant: blue, x-role: [reader, writer] }   # all of them; a list is one line each
//! from: shop/web                  # namespace/account, a whole SPIFFE ID, or null for plain text
//! source_ip: 10.1.2.3             # the other end of the socket
//! remote_ip: 203.0.113.9          # the client, as X-Forwarded-For tells it
//! destination_ip: 10.1.2.4
//! port: 8080                      # the workload's own port
//! sni: api.shop.example
//! claims: { iss: https://issuer, sub: alice }             # of a verified token, or null for none
//! properties: { tenant: blue }    # custom properties, all of them
//! filters: { envoy.filters.http.x: { key: value } }       # what other filters found out
//! ```
//!
//! What is not described is not known, but for headers: those that are not described are not sent.

use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value;

use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::facts::HttpFacts;
use crate::authz::path::Form;
use crate::authz::recorded::token;
use crate::authz::recorded::unread::Unread;
use crate::authz::recorded::unread::shown;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;

/// The fields of a description.
const FIELDS: [&str; 15] = [
    "protocol",
    "method",
    "path",
    "normalize",
    "host",
    "headers",
    "from",
    "source_ip",
    "remote_ip",
    "destination_ip",
    "port",
    "sni",
    "claims",
    "properties",
    "filters",
];

/// What somebody says of a request; each part may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Described {
    /// Whether it is a bare connection.
    pub is_tcp: bool,
    /// The method.
    pub method: Option<String>,
    /// The path as it was sent.
    pub path: Option<String>,
    /// What the proxy makes of it.
    pub form: Form,
    /// The host.
    pub host: Option<String>,
    /// Header lines, names in lower case.
    pub headers: Vec<Line>,
    /// The peer; `Some(None)` for plain text.
    pub peer: Option<Option<Vec<String>>>,
    /// The other end of the socket.
    pub source_ip: Option<IpAddr>,
    /// The client.
    pub remote_ip: Option<IpAddr>,
    /// The workload's address.
    pub destination_ip: Option<IpAddr>,
    /// The workload's port.
    pub port: Option<u16>,
    /// The server's name.
    pub sni: Option<String>,
    /// Claims; `Some(None)` for no token.
    pub claims: Option<Option<Map<String, Value>>>,
    /// Custom properties.
    pub properties: Option<Map<String, Value>>,
    /// What other filters found out.
    pub filters: Map<String, Value>,
}

/// A header line. Its `Debug` shows no value, for that may be a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// The header's name, in lower case.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

impl Line {
    /// Reads `name: value`.
    ///
    /// # Errors
    /// If there is no colon, or the name is none.
    pub fn parse(text: &str) -> Result<Self, Unread> {
        let (name, value) =
            text.split_once(':').ok_or_else(|| Unread::at("header", "it is written `name: value`"))?;
        Self::of(name, value)
    }

    /// A line of these.
    ///
    /// # Errors
    /// If `name` is none.
    pub fn of(name: &str, value: &str) -> Result<Self, Unread> {
        let name = name.trim();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Unread::at("header", format!("`{}` is no name of a header", shown(name))));
        }
        let value = value.trim_matches([' ', '\t']);
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Unread::at(format!("header {name}"), "its value has a control character in it"));
        }
        Ok(Self { name: name.to_ascii_lowercase(), value: value.to_owned() })
    }
}

/// The URI name that people mean: `namespace/account`, `domain/ns/…/sa/…`, or a whole SPIFFE ID.
///
/// # Errors
/// If it is none of these.
pub fn peer_uri(text: &str, trust_domain: &TrustDomain) -> Result<String, Unread> {
    let bad = || {
        Unread::at(
            "",
            format!(
                "`{}` names no peer; write `namespace/account`, `spiffe://domain/ns/namespace/sa/account`, or say that it is plain text",
                shown(text)
            ),
        )
    };
    if let Some(rest) = text.strip_prefix("spiffe://") {
        return if rest.is_empty() || rest.chars().any(char::is_control) {
            Err(bad())
        } else {
            Ok(text.to_owned())
        };
    }
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, account] => SpiffeId::of_service_account(trust_domain, namespace, account)
            .map(|id| id.to_string())
            .map_err(|_| bad()),
        [_, "ns", _, "sa", ..] => Ok(format!("spiffe://{text}")),
        _ => Err(bad()),
    }
}

impl Described {
    /// Reads a description.
    ///
    /// # Errors
    /// With the field that does not fit.
    pub fn read(value: &Value, trust_domain: &TrustDomain) -> Result<Self, Unread> {
        let object = value
            .as_object()
            .ok_or_else(|| Unread::at("", format!("a request is an object, not {}", kind(value))))?;
        if let Some(name) = object.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(Unread::unknown("", "a request", name, &FIELDS));
        }
        let fields = Fields(object);
        let described = Self {
            is_tcp: match fields.text("protocol")?.as_deref() {
                None | Some("http") => false,
                Some("tcp") => true,
                Some(other) => {
                    return Err(Unread::at(
                        "protocol",
                        format!("`{}` is neither `http` nor `tcp`", shown(other)),
                    ));
                }
            },
            method: fields.text("method")?,
            path: fields.text("path")?,
            form: match fields.text("normalize")? {
                None => Form::default(),
                Some(text) => text.parse().map_err(|_| {
                    Unread::at("normalize", format!("`{}` is no normalisation", shown(&text)))
                })?,
            },
            host: fields.text("host")?,
            headers: fields.headers()?,
            peer: fields.peer(trust_domain)?,
            source_ip: fields.address("source_ip")?,
            remote_ip: fields.address("remote_ip")?,
            destination_ip: fields.address("destination_ip")?,
            port: fields.port()?,
            sni: fields.text("sni")?,
            claims: match object.get("claims") {
                None => None,
                Some(Value::Null) => Some(None),
                Some(Value::Object(claims)) => Some(Some(token::as_passed_on(claims.clone()))),
                Some(other) => return Err(wrong("claims", "an object, or null for no token", other)),
            },
            properties: fields.object("properties")?,
            filters: fields.object("filters")?.unwrap_or_default(),
        };
        described.check()?;
        Ok(described)
    }

    /// Whether its parts go together.
    ///
    /// # Errors
    /// If a bare connection has a part of a request.
    pub fn check(&self) -> Result<(), Unread> {
        let of_http =
            [("method", self.method.is_some()), ("path", self.path.is_some()), ("host", self.host.is_some())];
        let headers = [("headers", !self.headers.is_empty())];
        match of_http.iter().chain(&headers).find(|(_, is_there)| *is_there) {
            Some((name, _)) if self.is_tcp => {
                Err(Unread::at(*name, "a bare connection (tcp) has none; leave it out, or say http"))
            }
            _ => Ok(()),
        }
    }

    /// The facts of a request of which only this is known.
    pub fn facts(self) -> Facts {
        self.onto(Facts { http: Some(HttpFacts::default()), ..Facts::default() })
    }

    /// `facts`, with what is described here in place of what they say of it.
    pub fn onto(self, mut facts: Facts) -> Facts {
        if self.is_tcp {
            facts.http = None;
        }
        let has_peer = self.peer.is_some();
        put(&mut facts.peer, self.peer);
        if has_peer && facts.peer == Fact::Known(None) {
            facts.remarks.retain(|remark| !remark.starts_with("who the peer was"));
        }
        put(&mut facts.source_ip, self.source_ip.map(Some));
        put(&mut facts.remote_ip, self.remote_ip.map(Some));
        put(&mut facts.destination_ip, self.destination_ip.map(Some));
        put(&mut facts.destination_port, self.port.map(Some));
        put(&mut facts.sni, self.sni.map(|name| name.to_ascii_lowercase()));
        put(&mut facts.claims, self.claims);
        put(&mut facts.properties, self.properties);
        facts.filters.extend(self.filters);
        if let Some(http) = &mut facts.http {
            put(&mut http.method, self.method);
            put(&mut http.host, self.host);
            if let Some(path) = self.path {
                http.path = Fact::Known(self.form.of(&path));
                http.sent = Some((path, self.form));
            }
            for line in self.headers {
                http.unknown_headers.remove(&line.name);
                match line.name.as_str() {
                    "host" => http.host = Fact::Known(line.value),
                    _ => http.headers.push((line.name, line.value)),
                }
            }
        }
        with_one_address(&mut facts);
        facts
    }
}

/// Where nothing tells of a proxy in between, the client is the other end of the socket.
fn with_one_address(facts: &mut Facts) {
    let is_forwarded = facts.http.as_ref().is_some_and(|http| {
        http.may_have_more_headers || http.headers.iter().any(|(name, _)| name == "x-forwarded-for")
    });
    if facts.remote_ip.is_known() || !facts.source_ip.is_known() {
        return;
    }
    match is_forwarded {
        false => facts.remote_ip = facts.source_ip,
        true => facts.remarks.push(
            "X-Forwarded-For is believed or not by the proxy's settings; say the client's address (`remote_ip`) that it makes of it"
                .to_owned(),
        ),
    }
}

fn put<T>(fact: &mut Fact<T>, value: Option<T>) {
    if let Some(value) = value {
        *fact = Fact::Known(value);
    }
}

/// What kind of value it is, in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn wrong(place: &str, expected: &str, found: &Value) -> Unread {
    Unread::at(place, format!("{expected} is meant, not {}", kind(found)))
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, Unread> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(name, "a text", other)),
        }
    }

    fn object(&self, name: &str) -> Result<Option<Map<String, Value>>, Unread> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object.clone())),
            Some(other) => Err(wrong(name, "an object", other)),
        }
    }

    fn address(&self, name: &str) -> Result<Option<IpAddr>, Unread> {
        let text = self.text(name)?;
        let parsed = text.map(|text| {
            text.parse().map_err(|_| Unread::at(name, format!("`{}` is no IP address", shown(&text))))
        });
        parsed.transpose()
    }

    fn port(&self) -> Result<Option<u16>, Unread> {
        match self.0.get("port") {
            None => Ok(None),
            Some(value) => {
                let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
                port.map(Some).ok_or_else(|| Unread::at("port", "a number from 0 to 65535 is meant"))
            }
        }
    }

    fn peer(&self, trust_domain: &TrustDomain) -> Result<Option<Option<Vec<String>>>, Unread> {
        let uri = |place: &str, value: &Value| match value {
            Value::String(text) => {
                peer_uri(text, trust_domain).map_err(|error| Unread { place: place.to_owned(), ..error })
            }
            other => Err(wrong(place, "a text", other)),
        };
        match self.0.get("from") {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::Array(list)) => {
                let each = list.iter().enumerate().map(|(at, value)| uri(&format!("from[{at}]"), value));
                Ok(Some(Some(each.collect::<Result<_, _>>()?)))
            }
            Some(value) => Ok(Some(Some(vec![uri("from", value)?]))),
        }
    }

    fn headers(&self) -> Result<Vec<Line>, Unread> {
        let mut lines = Vec::new();
        for (name, value) in self.object("headers")?.unwrap_or_default() {
            let place = format!("headers.{}", shown(&name));
            let values = match value {
                Value::Array(list) => list,
                one => vec![one],
            };
            for value in values {
                let Value::String(text) = value else {
                    return Err(wrong(&place, "a text or a list of texts", &value));
                };
                lines.push(Line::of(&name, &text).map_err(|error| Unread { place: place.clone(), ..error })?);
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Described, Unread> {
        Described::read(&value, &"td".parse().unwrap())
    }

    #[test]
    fn a_description_says_what_it_says_and_the_rest_is_not_known() {
        let facts = read(json!({
            "method": "GET", "path": "/a/../b?c", "host": "H", "headers": { "X-A": ["1", " 2 "] },
            "from": "shop/web", "source_ip": "10.0.0.1", "claims": { "scope": "a b" },
        }))
        .unwrap()
        .facts();
        assert_eq!(facts.peer, Fact::Known(Some(vec!["spiffe://td/ns/shop/sa/web".to_owned()])));
        assert_eq!((facts.sni.is_known(), facts.properties.is_known()), (false, false));
        assert_eq!(facts.remote_ip, facts.source_ip);
        assert_eq!(facts.claims.known().unwrap().as_ref().unwrap()["scope"], json!(["a", "b"]));
        let http = facts.http.unwrap();
        assert_eq!(http.path, Fact::Known("/b?c".to_owned()));
        let lines: Vec<_> =
            http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(lines, [("x-a", "1"), ("x-a", "2")]);
        assert!(!http.may_have_more_headers);
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_field() {
        for (value, said) in [
            (json!([]), "a request is an object, not a list"),
            (json!({ "metod": "GET" }), "`metod` is no field of a request; did you mean `method`?"),
            (json!({ "method": 1 }), "method: a text is meant, not a number"),
            (json!({ "headers": { "x": 1 } }), "headers.x: a text or a list of texts is meant, not a number"),
            (json!({ "headers": { "a b": "1" } }), "headers.a b: `a b` is no name of a header"),
            (json!({ "headers": { "x": "a\nb" } }), "headers.x: its value has a control character in it"),
            (json!({ "from": "web" }), "from: `web` names no peer; write `namespace/account`"),
            (json!({ "from": ["a/b", 1] }), "from[1]: a text is meant"),
            (json!({ "source_ip": "10.0.0" }), "source_ip: `10.0.0` is no IP address"),
            (json!({ "port": 65536 }), "port: a number from 0 to 65535 is meant"),
            (json!({ "claims": [] }), "claims: an object, or null for no token is meant, not a list"),
            (json!({ "protocol": "udp" }), "protocol: `udp` is neither `http` nor `tcp`"),
            (json!({ "protocol": "tcp", "method": "GET" }), "method: a bare connection (tcp) has none"),
            (json!({ "normalize": "all" }), "normalize: `all` is no normalisation"),
        ] {
            let error = read(value).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn a_client_behind_a_proxy_is_not_the_other_end_of_the_socket() {
        let facts = read(json!({ "source_ip": "10.0.0.1", "headers": { "x-forwarded-for": "9.9.9.9" } }))
            .unwrap()
            .facts();
        assert_eq!(facts.remote_ip, Fact::Unknown);
        assert!(facts.remarks[0].contains("X-Forwarded-For is believed or not"), "{:?}", facts.remarks);
    }

    #[test]
    fn a_peer_is_named_in_short_or_in_full() {
        let domain = "td".parse().unwrap();
        for (text, expected) in [
            ("shop/web", Some("spiffe://td/ns/shop/sa/web")),
            ("spiffe://x/y", Some("spiffe://x/y")),
            ("x/ns/a/sa/b", Some("spiffe://x/ns/a/sa/b")),
            ("web", None),
            ("a b/c", None),
            ("spiffe://", None),
            ("", None),
        ] {
            assert_eq!(peer_uri(text, &domain).ok().as_deref(), expected, "{text}");
        }
    }
}
