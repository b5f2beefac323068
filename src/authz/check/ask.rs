//! Pure: what does Envoy ask about?
//!
//! A question that lacks what every question of Envoy has is malformed, and denied: there is nothing to be said of it. What policies
//! ask for beyond that and is not there matches nothing.
//!
//! With the filter's `encode_raw_headers` each header line comes for itself. Without it, lines of one name come joined with commas, and
//! bytes that are not UTF-8 as `!`; then a request is denied whose answer depends on where the joints are (`Doubts::joined_headers`).

use std::fmt;
use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value;

use crate::authz::check::malformed::MalformedCheck;
use crate::authz::check::metadata;
use crate::authz::check::peer;
use crate::authz::request::Http;
use crate::authz::request::Peer;
use crate::authz::request::Request;
use crate::authz::ruling::Doubts;
use crate::proto::envoy::AddressKind;
use crate::proto::envoy::CheckRequest;
use crate::proto::envoy::CheckedHttp;
use crate::proto::envoy::CheckedPeer;
use crate::proto::envoy::PortSpecifier;

/// How many proxies in front of ours are believed when they tell the client's address (`x-forwarded-for`): `xff_num_trusted_hops`
/// of a listener with `use_remote_address`. `None` if nobody said; then a request that tells one has an unknown client.
pub type Trusted = Option<u32>;

/// What is asked about: it owns what a [`Request`] borrows.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    http: Option<AskedHttp>,
    uris: Option<Vec<String>>,
    source_ip: Option<IpAddr>,
    remote_ip: Option<IpAddr>,
    destination_ip: Option<IpAddr>,
    destination_port: Option<u16>,
    sni: String,
    metadata: Map<String, Value>,
    doubts: Doubts,
}

#[derive(Clone, PartialEq)]
struct AskedHttp {
    id: String,
    method: String,
    path: String,
    host: String,
    lines: Vec<(String, String)>,
}

impl fmt::Debug for AskedHttp {
    /// Without the values of headers: tokens and cookies are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.lines.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = f.debug_struct("AskedHttp");
        shown.field("id", &self.id).field("method", &self.method).field("host", &self.host);
        shown.field("headers", &names).finish_non_exhaustive()
    }
}

impl Asked {
    /// Reads a question.
    ///
    /// # Errors
    /// If it lacks what every question of Envoy has, or that cannot be read.
    pub fn read(question: CheckRequest, trusted: Trusted) -> Result<Self, MalformedCheck> {
        let asked = question.attributes.ok_or(MalformedCheck::Missing("attributes"))?;
        let source = asked.source.ok_or(MalformedCheck::Missing("source"))?;
        let destination = asked.destination.ok_or(MalformedCheck::Missing("destination"))?;
        let (source_ip, _) = address(&source, "source.address")?;
        let (destination_ip, destination_port) = address(&destination, "destination.address")?;
        let http = asked.request.and_then(|request| request.http);
        let joined_headers = http.as_ref().is_some_and(|http| http.header_map.is_none());
        let http = http.map(AskedHttp::read).transpose()?;
        let told = http.as_ref().map_or_else(Vec::new, AskedHttp::forwarded_for);
        let remote_ip = client(source_ip, &told, trusted);
        let filters = asked.metadata_context.map(|found| found.filter_metadata).unwrap_or_default();
        Ok(Self {
            uris: peer::uris(&source.principal, &source.certificate)?,
            source_ip,
            remote_ip,
            destination_ip,
            destination_port,
            sni: asked.tls_session.map(|tls| tls.sni.to_ascii_lowercase()).unwrap_or_default(),
            metadata: metadata::of(filters, asked.context_extensions),
            doubts: Doubts { joined_headers, client_unknown: remote_ip.is_none() },
            http,
        })
    }

    /// What could not be told.
    pub fn doubts(&self) -> Doubts {
        self.doubts
    }

    /// The request's identifier, or an empty text.
    pub fn id(&self) -> &str {
        self.http.as_ref().map_or("", |http| &http.id)
    }

    /// Calls `then` with what is asked about.
    pub fn with<T>(&self, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let uris: Option<Vec<&str>> =
            self.uris.as_ref().map(|uris| uris.iter().map(String::as_str).collect());
        let lines: Vec<(&str, &str)> = self
            .http
            .iter()
            .flat_map(|http| &http.lines)
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        then(&Request {
            peer: uris.as_deref().map(|uris| Peer { uris }),
            source_ip: self.source_ip,
            remote_ip: self.remote_ip,
            destination_ip: self.destination_ip,
            destination_port: self.destination_port,
            sni: &self.sni,
            http: self.http.as_ref().map(|http| Http {
                method: &http.method,
                path: &http.path,
                host: &http.host,
                headers: &lines,
            }),
            metadata: Some(&self.metadata),
        })
    }
}

impl AskedHttp {
    fn read(http: CheckedHttp) -> Result<Self, MalformedCheck> {
        if http.method.is_empty() {
            return Err(MalformedCheck::Missing("request.http.method"));
        }
        let is_whole = http.path.starts_with('/')
            || (http.path == "*" && http.method == "OPTIONS")
            || (http.path.is_empty() && http.method == "CONNECT");
        // A fragment hides what stands behind it from whoever takes it off (CVE-2021-39156).
        if !is_whole || http.path.contains(|c: char| c.is_control() || c == '#') {
            return Err(MalformedCheck::Path);
        }
        let lines = match http.header_map {
            Some(raw) => {
                let line = |line: crate::proto::envoy::HeaderValue| {
                    let value = match line.raw_value.is_empty() {
                        true => line.value,
                        false => String::from_utf8_lossy(&line.raw_value).into_owned(),
                    };
                    (line.key.to_ascii_lowercase(), value)
                };
                raw.headers.into_iter().map(line).collect()
            }
            None => {
                let line = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
                http.headers.into_iter().map(line).collect::<Vec<_>>()
            }
        };
        // What the pseudo headers say stands in fields of its own.
        let lines = lines.into_iter().filter(|(name, _): &(String, String)| !name.starts_with(':')).collect();
        Ok(Self { id: http.id, method: http.method, path: http.path, host: http.host, lines })
    }

    /// Whom proxies in between tell that they act for, from the first to the last.
    fn forwarded_for(&self) -> Vec<&str> {
        let lines = self.lines.iter().filter(|(name, _)| name == "x-forwarded-for");
        lines.flat_map(|(_, value)| value.split(',')).map(str::trim).collect()
    }
}

/// Address and port of one end. A socket of the machine has neither.
fn address(peer: &CheckedPeer, name: &'static str) -> Result<(Option<IpAddr>, Option<u16>), MalformedCheck> {
    let malformed = MalformedCheck::Address(name);
    match peer.address.as_ref().and_then(|address| address.address.as_ref()) {
        None => Err(MalformedCheck::Missing(name)),
        Some(AddressKind::SocketAddress(socket)) => {
            let ip: IpAddr = socket.address.parse().map_err(|_| malformed)?;
            let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return Err(malformed) };
            let port = u16::try_from(port).map_err(|_| malformed)?;
            Ok((Some(ip.to_canonical()), Some(port)))
        }
        Some(AddressKind::Pipe(_) | AddressKind::EnvoyInternalAddress(_)) => Ok((None, None)),
    }
}

/// The client's address, as Envoy finds it with `use_remote_address`: it has written its own peer behind all that it was told.
fn client(peer: Option<IpAddr>, told: &[&str], trusted: Trusted) -> Option<IpAddr> {
    match (told.is_empty(), trusted) {
        (true, _) | (false, Some(0)) => peer,
        (false, None) => None,
        (false, Some(hops)) => {
            let (last, before) = told.split_last()?;
            let by_us: IpAddr = last.parse().ok()?;
            if Some(by_us.to_canonical()) != peer {
                // It is no listener of that kind, or the client wrote this: what is told is not to be believed.
                return None;
            }
            let at = usize::try_from(hops).ok().and_then(|hops| before.len().checked_sub(hops));
            match at.and_then(|at| before.get(at)) {
                Some(client) => client.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()),
                None => peer,
            }
        }
    }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
