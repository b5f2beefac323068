//! What is asked: requests and connections, made so that they lie at the edges of what policies ask for.

use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use burgrave::authz::Http;
use burgrave::authz::JWT_FILTER;
use burgrave::authz::JWT_PAYLOAD;
use burgrave::authz::PROPERTIES;
use burgrave::authz::Peer;
use burgrave::authz::Request;
use burgrave::authz::header_lines;
use prost::Message;
use prost_types::value::Kind;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::dice::Dice;
use super::identities::Identities;
use super::identities::Identity;
use super::stage::CLAIMS;
use super::stage::Door;
use super::stage::PROPERTY_HEADERS;
use super::stage::SET;

pub(crate) const PATHS: [&str; 42] = [
    "/",
    "/a",
    "/a/b",
    "/a/b/",
    "//a",
    "/a//b",
    "/a/./b",
    "/a/../b",
    "/a%2Fb",
    "/a%2fb",
    "/%61/b",
    "/a/b;x=1",
    "/a;y/b",
    "/A/B",
    "/a\\b",
    "/a/b?x=1",
    "/a?/b",
    "/?",
    "/a/b??",
    "/x.html?q",
    "/x?y=.html",
    "/v/1/x",
    "/v//x",
    "/v/1/2/x",
    "/v/",
    "/v",
    "/v/1/x/",
    "/v/1/x?y",
    "/v/%2F/x",
    "/a*b",
    "/v/*/x",
    "/a/b%3Fx",
    "/v/1/2/",
    "/a/b%00",
    "/a/b%",
    "/a/b+c",
    "/a/b/c/d/e",
    "/v/a/v/a/x",
    "/a.b/c~d_e-f",
    "/a:b@c",
    "/v/1/a//x",
    "/ab",
];
pub(crate) const HOSTS: [&str; 9] = [
    "svc.test",
    "SVC.test",
    "svc.test:80",
    "svc.test:8080",
    "svc.test.",
    "other.test",
    "svc",
    "127.0.0.1:80",
    "[::1]",
];
pub(crate) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
pub(crate) const HEADERS: [&str; 8] =
    ["x-h", "x-k", "x-absent", "cookie", "authorization", "accept", "user-agent", "x-forwarded-host"];
pub(crate) const VALUES: [&str; 14] =
    ["a", "b", "a,b", "a, b", "b,a", "", " a ", "A", "aa", "ab", "a\tb", "*", "a=1; b=2", "\u{e4}"];
pub(crate) const SNIS: [&str; 4] = ["a.test", "b.a.test", "A.Test", "xn--a.test"];
pub(crate) const FORWARDED: [&str; 6] =
    ["9.9.9.9", "10.1.2.3", "127.0.0.1", "2001:db8::1", "::1", "255.255.255.255"];
pub(crate) const CLAIM_NAMES: [&str; 6] = ["iss", "sub", "aud", "groups", "nested", "absent"];
pub(crate) const CLAIM_VALUES: [&str; 10] =
    ["issuer", "subject", "issuer/a", "a", "b", "", "5", "true", "a\nb", "\u{e4}*"];

/// One who calls: over which door, as whom, from where.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) door: Door,
    pub(crate) identity: Identity,
    pub(crate) sni: Option<String>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

/// All that is known of a request or connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    peer: Option<Vec<String>>,
    source: Option<IpAddr>,
    remote: Option<IpAddr>,
    destination: Option<IpAddr>,
    port: u16,
    sni: String,
    http: Option<Sent>,
    metadata: Map<String, Value>,
}

/// An HTTP request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) method: String,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    forwarded: Option<String>,
}

impl Caller {
    pub(crate) fn make(dice: &mut Dice, identities: &Identities, is_http: bool) -> Self {
        let door = *dice.pick(&[Door::Plain, Door::Tls, Door::Tls, Door::Tls, Door::Unverified]);
        let door = if !is_http && door == Door::Unverified { Door::Tls } else { door };
        let identity = match door {
            Door::Unverified if dice.percent(60) => identities.stranger.clone(),
            // Half of them as the first, whom policies ask for most.
            _ if dice.percent(30) => identities.trusted[1].clone(),
            _ => dice.pick(&identities.trusted).clone(),
        };
        let sni = (door != Door::Plain && dice.percent(75)).then(|| (*dice.pick(&SNIS)).to_owned());
        let (source, destination) = match dice.below(5) {
            0 => ("::1", "::1"),
            1 => ("127.0.0.1", "127.0.0.1"),
            2 => ("127.0.0.1", "127.0.0.2"),
            3 => ("127.0.0.3", "127.0.0.1"),
            _ => ("127.9.9.9", "127.0.0.1"),
        };
        let address = |text: &str| text.parse().expect("it is an address");
        Self { door, identity, sni, source: address(source), destination: address(destination) }
    }

    /// What Envoy knows of a connection of this caller.
    pub(crate) fn connection(&self, port: u16) -> Asked {
        let is_verified = self.door != Door::Plain && self.identity.is_trusted;
        Asked {
            peer: self.identity.uris.clone().filter(|_| is_verified),
            source: Some(self.source),
            remote: Some(self.source),
            destination: Some(self.destination),
            port,
            sni: self.sni.clone().unwrap_or_default().to_ascii_lowercase(),
            http: None,
            metadata: Map::new(),
        }
    }

    /// A request over a connection of this caller.
    pub(crate) fn request(&self, port: u16, dice: &mut Dice) -> Asked {
        let mut asked = self.connection(port);
        let forwarded = dice.percent(40).then(|| (*dice.pick(&FORWARDED)).to_owned());
        if let Some(address) = &forwarded {
            asked.remote = address.parse().ok();
        }
        let mut headers = Vec::new();
        for _ in 0..dice.below(4) {
            headers.push(((*dice.pick(&HEADERS)).to_owned(), (*dice.pick(&VALUES)).to_owned()));
        }
        headers.retain(|(name, _)| name != "x-absent");
        asked.http = Some(Sent {
            method: if dice.percent(50) { "GET".to_owned() } else { (*dice.pick(&METHODS)).to_owned() },
            path: path(dice),
            host: (*dice.pick(&HOSTS)).to_owned(),
            headers,
            forwarded,
        });
        if dice.percent(50) {
            let claims = json!({JWT_PAYLOAD: claims(dice)});
            asked.metadata.insert(JWT_FILTER.to_owned(), claims);
        }
        let mut properties = Map::new();
        for (key, _) in PROPERTY_HEADERS {
            if dice.percent(40) {
                properties.insert(key.to_owned(), claim(dice));
            }
        }
        if !properties.is_empty() {
            asked.metadata.insert(PROPERTIES.to_owned(), properties.into());
        }
        asked
    }
}

/// One of the paths, or one put together.
fn path(dice: &mut Dice) -> String {
    if dice.percent(60) {
        return (*dice.pick(&PATHS)).to_owned();
    }
    const PARTS: [&str; 14] =
        ["a", "b", "v", "1", "", ".", "..", "%2F", "%61", "A", "x", "*", "a;x", "b.html"];
    let mut path = String::new();
    for _ in 0..dice.from(1, 5) {
        path = path + "/" + *dice.pick(&PARTS);
    }
    if dice.percent(15) {
        path += *dice.pick(&["?", "?a", "?/v/1/x", "?a?b"]);
    }
    path
}

fn claims(dice: &mut Dice) -> Value {
    let mut claims = Map::new();
    for name in CLAIM_NAMES {
        if name == "absent" || dice.percent(40) {
            continue;
        }
        let value = match name {
            "nested" if dice.percent(80) => json!({"sub": claim(dice), "deep": {"aud": claim(dice)}}),
            _ => claim(dice),
        };
        claims.insert(name.to_owned(), value);
    }
    claims.into()
}

fn claim(dice: &mut Dice) -> Value {
    let text = |dice: &mut Dice| json!(*dice.pick(&CLAIM_VALUES));
    match dice.below(10) {
        0 => json!(5),
        1 => json!(true),
        2 => Value::Null,
        3..=5 => {
            let count = dice.below(4);
            let mut list: Vec<Value> = (0..count).map(|_| text(dice)).collect();
            if dice.percent(20) {
                list.push(json!(5));
            }
            list.into()
        }
        _ => text(dice),
    }
}

impl Asked {
    /// The same as the evaluator takes it.
    pub(crate) fn with<T>(&self, decide: impl FnOnce(&Request<'_>) -> T) -> T {
        let uris: Option<Vec<&str>> =
            self.peer.as_ref().map(|uris| uris.iter().map(String::as_str).collect());
        let sent = self.http.iter().flat_map(|http| &http.headers).map(pair);
        let seen = header_lines::as_seen(sent);
        let headers: Vec<(&str, &str)> = seen.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = Request {
            peer: uris.as_ref().map(|uris| Peer { uris }),
            source_ip: self.source,
            remote_ip: self.remote,
            destination_ip: self.destination,
            destination_port: Some(self.port),
            sni: &self.sni,
            http: self.http.as_ref().map(|http| Http {
                method: &http.method,
                path: &http.path,
                host: &http.host,
                headers: &headers,
            }),
            metadata: Some(&self.metadata),
        };
        decide(&request)
    }

    /// The request's bytes, for the set of that name.
    pub(crate) fn bytes(&self, set: &str) -> Vec<u8> {
        let http = self.http.as_ref().expect("only requests are sent");
        let mut text =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\n{SET}: {set}\r\n", http.method, http.path, http.host);
        for (name, value) in &http.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(address) = &http.forwarded {
            text += &format!("x-forwarded-for: {address}\r\n");
        }
        if let Some(claims) = self.metadata.get(JWT_FILTER).and_then(|found| found.get(JWT_PAYLOAD)) {
            text += &format!("{CLAIMS}: {}\r\n", encoded(claims));
        }
        for (key, header) in PROPERTY_HEADERS {
            if let Some(value) = self.metadata.get(PROPERTIES).and_then(|found| found.get(key)) {
                text += &format!("{header}: {}\r\n", encoded(value));
            }
        }
        (text + "\r\n").into_bytes()
    }

    pub(crate) fn is_head(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.method == "HEAD")
    }
}

fn pair(header: &(String, String)) -> (&str, &str) {
    (&header.0, &header.1)
}

/// A value as the filter takes it that makes metadata of headers.
fn encoded(value: &Value) -> String {
    BASE64_STANDARD.encode(message(value).encode_to_vec())
}

fn message(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().expect("the numbers here are small")),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(list) => {
            Kind::ListValue(prost_types::ListValue { values: list.iter().map(message).collect() })
        }
        Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.iter().map(|(key, value)| (key.clone(), message(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}
