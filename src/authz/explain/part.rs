//! Pure: which part of a request does an atom ask about, is it known, and what does it say there?

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;

use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::facts::HttpFacts;
use crate::authz::explain::facts::is_secret;
use crate::authz::explain::truth::Truth;
use crate::authz::model::Atom;
use crate::authz::request::JWT_FILTER;
use crate::authz::request::PROPERTIES;
use crate::authz::request::Request;

/// The longest text of a request that is shown, in characters.
const LONGEST: usize = 200;

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Who is at the other end of mutual TLS.
    Peer,
    /// The other end of the socket.
    SourceIp,
    /// The client, as a trusted proxy tells it.
    RemoteIp,
    /// Our own address.
    DestinationIp,
    /// Our own port.
    DestinationPort,
    /// The server's name.
    Sni,
    /// The host.
    Host,
    /// The method.
    Method,
    /// The path.
    Path,
    /// A header, by its name.
    Header(Box<str>),
    /// A claim of the token, by the way to it; all claims if the way is empty.
    Claim(Box<[Box<str>]>),
    /// A custom property.
    Property(Box<[Box<str>]>),
    /// What another filter found out.
    Filter(Box<str>, Box<[Box<str>]>),
}

impl Part {
    /// What `atom` asks about.
    pub fn of(atom: &Atom) -> Self {
        match atom {
            Atom::Peer | Atom::PeerUri(_) | Atom::PeerIsWorkload => Self::Peer,
            Atom::SourceIp(_) => Self::SourceIp,
            Atom::RemoteIp(_) => Self::RemoteIp,
            Atom::DestinationIp(_) => Self::DestinationIp,
            Atom::DestinationPort(_) => Self::DestinationPort,
            Atom::Sni(_) => Self::Sni,
            Atom::Host(_) => Self::Host,
            Atom::Method(_) => Self::Method,
            Atom::Path(_) | Atom::PathTemplate(_) => Self::Path,
            Atom::Header { name, .. } => match &**name {
                "host" | ":authority" => Self::Host,
                ":method" => Self::Method,
                ":path" => Self::Path,
                _ => Self::Header(name.clone()),
            },
            Atom::Metadata { filter, path, .. } => match &**filter {
                // The first key is the one that all claims stand under.
                JWT_FILTER => Self::Claim(path.get(1..).unwrap_or_default().into()),
                PROPERTIES => Self::Property(path.clone()),
                _ => Self::Filter(filter.clone(), path.clone()),
            },
        }
    }

    /// Whether `facts` say something of it, if only that it is absent.
    pub fn is_known(&self, facts: &Facts) -> bool {
        let http = facts.http.as_ref();
        match self {
            Self::Peer => facts.peer.is_known(),
            Self::SourceIp => facts.source_ip.is_known(),
            Self::RemoteIp => facts.remote_ip.is_known(),
            Self::DestinationIp => facts.destination_ip.is_known(),
            Self::DestinationPort => facts.destination_port.is_known(),
            Self::Sni => facts.sni.is_known(),
            Self::Host => http.is_none_or(|http| http.host.is_known()),
            Self::Method => http.is_none_or(|http| http.method.is_known()),
            Self::Path => http.is_none_or(|http| http.path.is_known()),
            Self::Header(name) => http.is_none_or(|http| knows_header(http, name)),
            Self::Claim(_) => facts.claims.is_known(),
            Self::Property(_) => facts.properties.is_known(),
            Self::Filter(filter, _) => facts.filters.contains_key(&**filter),
        }
    }

    /// What `facts` say of it, in words; none if it is not known.
    pub fn said(&self, facts: &Facts) -> Option<String> {
        if !self.is_known(facts) {
            return None;
        }
        let http = facts.http.as_ref();
        let of_http = |pick: fn(&HttpFacts) -> &Fact<String>| match http {
            Some(http) => pick(http).known().map(|text| cut(text)),
            None => Some("a bare connection".to_owned()),
        };
        match self {
            Self::Peer => facts.peer.known().map(|peer| match peer {
                None => "plain text, or no verified certificate".to_owned(),
                Some(uris) if uris.is_empty() => "a certificate without a URI name".to_owned(),
                Some(uris) => cut(&uris.join(", ")),
            }),
            Self::SourceIp => address(&facts.source_ip),
            Self::RemoteIp => address(&facts.remote_ip),
            Self::DestinationIp => address(&facts.destination_ip),
            Self::DestinationPort => facts
                .destination_port
                .known()
                .map(|port| port.map_or_else(|| "none".to_owned(), |port| port.to_string())),
            Self::Sni => facts.sni.known().map(|name| match name.is_empty() {
                true => "none was asked for".to_owned(),
                false => cut(name),
            }),
            Self::Host => of_http(|http| &http.host),
            Self::Method => of_http(|http| &http.method),
            Self::Path => of_http(|http| &http.path),
            Self::Header(name) => Some(header(http, name)),
            Self::Claim(path) => Some(match facts.claims.known() {
                Some(Some(claims)) => found(claims.get(path.first().map_or("", |key| key)), path),
                _ => "no verified token".to_owned(),
            }),
            Self::Property(path) => {
                let properties = facts.properties.known();
                Some(found(properties.and_then(|all| all.get(path.first().map_or("", |key| key))), path))
            }
            Self::Filter(filter, path) => {
                let first = path.first().map_or("", |key| key);
                Some(found(facts.filters.get(&**filter).and_then(|found| found.get(first)), path))
            }
        }
    }
}

/// Whether `atom` holds for what is known, `request` being the one that is made of `facts`; the definition is [`Atom::holds`].
pub fn holds(atom: &Atom, facts: &Facts, request: &Request<'_>) -> Truth {
    match Part::of(atom).is_known(facts) {
        true => atom.holds(request).into(),
        false => Truth::Unknown,
    }
}

fn knows_header(http: &HttpFacts, name: &str) -> bool {
    let is_listed = http.headers.iter().any(|(known, _)| known == name);
    !http.unknown_headers.contains(name) && (is_listed || !http.may_have_more_headers)
}

fn header(http: Option<&HttpFacts>, name: &str) -> String {
    let lines = http.into_iter().flat_map(|http| &http.headers).filter(|(known, _)| known == name);
    let values: Vec<String> = lines.map(|(_, value)| cut(value)).collect();
    match values.as_slice() {
        [] => "not sent".to_owned(),
        _ if is_secret(name) => "sent (its value is not shown)".to_owned(),
        [one] => one.clone(),
        several => format!("{} lines: {}", several.len(), several.join(", ")),
    }
}

fn address(fact: &Fact<Option<IpAddr>>) -> Option<String> {
    fact.known().map(|address| match address {
        None => "none".to_owned(),
        Some(address) => address.to_canonical().to_string(),
    })
}

/// What stands at the end of `path`, of which `value` is what its first key leads to.
fn found(value: Option<&Value>, path: &[Box<str>]) -> String {
    let end = path.iter().skip(1).try_fold(value, |value, key| Some(value?.get(&**key)));
    match end.flatten() {
        None => "not there".to_owned(),
        Some(Value::String(text)) => cut(text),
        Some(Value::Array(list)) => cut(&format!("the list {}", Value::Array(list.clone()))),
        Some(other) => cut(&format!("{other}, which is no text and never matches")),
    }
}

/// `text`, if it is not too long, on one line.
fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// What stands for a character on a terminal, which it must not be able to command.
fn plain(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("peer"),
            Self::SourceIp => f.write_str("source address"),
            Self::RemoteIp => f.write_str("client address"),
            Self::DestinationIp => f.write_str("own address"),
            Self::DestinationPort => f.write_str("own port"),
            Self::Sni => f.write_str("sni"),
            Self::Host => f.write_str("host"),
            Self::Method => f.write_str("method"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Claim(path) if path.is_empty() => f.write_str("token"),
            Self::Claim(path) => write!(f, "claim `{}`", path.join(".")),
            Self::Property(path) => write!(f, "property `{}`", path.join(".")),
            Self::Filter(filter, path) => write!(f, "`{}` of filter {filter}", path.join(".")),
        }
    }
}
