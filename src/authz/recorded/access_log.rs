//! Pure: which request does a line of an access log record, and what was decided then?
//!
//! Two formats are read, Istio's own: the text that `accessLogFormat` is by default, and the same as JSON
//! (`accessLogEncoding: JSON`, or Envoy's `json_format` with these keys):
//!
//! | text, field | JSON key | is |
//! |---|---|---|
//! | 2 | `method`, `path`, `protocol` | method; path, normalised already; whether it was HTTP |
//! | 12 to 14 | `x_forwarded_for`, `user_agent`, `request_id` | the headers of these names |
//! | 15 | `authority` | host |
//! | 19 | `downstream_local_address` | our own address and port |
//! | 20 | `downstream_remote_address` | the client's address, X-Forwarded-For considered |
//! | 21 | `requested_server_name` | the server's name |
//! | 3, 5 | `response_code`, `response_code_details` | what was decided |
//! | none | `downstream_direct_remote_address` | the other end of the socket |
//! | none | `downstream_peer_uri_san` | who the peer was; the default format does not say it |
//!
//! `-` stands for what was not there. All other headers, the claims of a token and properties are not known.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;

use serde_json::Map;
use serde_json::Value;

use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::facts::HttpFacts;
use crate::authz::recorded::unread::MAX_LENGTH;
use crate::authz::recorded::unread::Unread;
use crate::authz::recorded::unread::shown;

/// How many fields the text has.
const FIELDS: usize = 22;

/// A line that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// What it says of the request.
    pub facts: Facts,
    /// What was decided; none if it does not say.
    pub outcome: Option<Outcome>,
}

/// What was decided, as an access log says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was passed on.
    Allowed,
    /// A policy denied it: by Envoy's name for the rule, none if no rule allowed it.
    Denied(Option<String>),
}

/// A line's texts, by what they are; `None` for `-`.
struct Texts<'a> {
    method: Option<&'a str>,
    path: Option<&'a str>,
    is_http: bool,
    code: Option<&'a str>,
    details: Option<&'a str>,
    /// What is known of a header: its value, or that it was not sent.
    headers: Vec<(&'static str, Option<&'a str>)>,
    authority: Option<&'a str>,
    local: Option<&'a str>,
    remote: Option<&'a str>,
    direct: Option<&'a str>,
    /// Whether the format says it at all.
    server_name: Fact<Option<&'a str>>,
    peer: Fact<Option<&'a str>>,
}

/// Reads a line.
///
/// # Errors
/// If it is of neither format.
pub fn read(line: &str) -> Result<Logged, Unread> {
    if line.len() > MAX_LENGTH {
        return Err(Unread::at("", format!("a line of an access log has at most {MAX_LENGTH} bytes")));
    }
    let line = line.trim();
    match line.starts_with('{') {
        true => {
            let object: Map<String, Value> = serde_json::from_str(line)
                .map_err(|error| Unread::at("", format!("the line is no JSON object: {error}")))?;
            let texts = Flat::of(&object);
            texts.texts()?.logged()
        }
        false => of_text(&fields(line)?)?.logged(),
    }
}

/// The fields of a text line: bare words, and what stands in quotes or brackets.
fn fields(line: &str) -> Result<Vec<&str>, Unread> {
    // `kubectl logs` and others may put something before the line.
    let start = line.find('[').ok_or_else(|| {
        Unread::at(
            "",
            "the line is neither a JSON object nor Istio's default text, which begins with `[2026-…]`",
        )
    })?;
    let mut rest = line.get(start..).unwrap_or_default();
    let mut fields = Vec::with_capacity(FIELDS);
    while !rest.is_empty() {
        let close = match rest.as_bytes().first() {
            Some(b'[') if fields.is_empty() => Some(']'),
            Some(b'"') => Some('"'),
            _ => None,
        };
        let (field, after) = match close {
            Some(close) => {
                let inner = rest.get(1..).unwrap_or_default();
                inner.split_once(close).ok_or_else(|| {
                    Unread::at(format!("field {}", fields.len() + 1), format!("a `{close}` is missing"))
                })?
            }
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        fields.push(field);
        rest = after.trim_start();
    }
    Ok(fields)
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty() && *text != "-")
}

fn of_text<'a>(fields: &[&'a str]) -> Result<Texts<'a>, Unread> {
    let &[
        _,
        request,
        code,
        _,
        details,
        _,
        _,
        _,
        _,
        _,
        _,
        forwarded,
        agent,
        id,
        authority,
        _,
        _,
        _,
        local,
        remote,
        name,
        _,
    ] = fields
    else {
        return Err(Unread::at(
            "",
            format!("the line has {} fields, and Istio's default text has {FIELDS}", fields.len()),
        ));
    };
    let (method, rest) = request.split_once(' ').unwrap_or((request, ""));
    // A path may have a space in it; the protocol has none.
    let (path, protocol) = rest.rsplit_once(' ').unwrap_or((rest, ""));
    Ok(Texts {
        method: some(method),
        path: some(path),
        is_http: some(protocol).is_some() || some(method).is_some(),
        code: some(code),
        details: some(details),
        headers: vec![
            ("x-forwarded-for", some(forwarded)),
            ("user-agent", some(agent)),
            ("x-request-id", some(id)),
        ],
        authority: some(authority),
        local: some(local),
        remote: some(remote),
        direct: None,
        server_name: Fact::Known(some(name)),
        peer: Fact::Unknown,
    })
}

/// A JSON line, with its numbers as texts.
struct Flat(Map<String, Value>);

impl Flat {
    fn of(object: &Map<String, Value>) -> Self {
        let text = |value: &Value| match value {
            Value::Number(number) => Value::String(number.to_string()),
            other => other.clone(),
        };
        Self(object.iter().map(|(key, value)| (key.clone(), text(value))).collect())
    }

    /// What stands under a key, and whether the format has the key.
    fn fact(&self, key: &str) -> Result<Fact<Option<&str>>, Unread> {
        match self.0.get(key) {
            None => Ok(Fact::Unknown),
            Some(Value::Null) => Ok(Fact::Known(None)),
            Some(Value::String(text)) => Ok(Fact::Known(some(text))),
            Some(_) => Err(Unread::at(key, "a text is meant")),
        }
    }

    fn get(&self, key: &str) -> Result<Option<&str>, Unread> {
        Ok(self.fact(key)?.known().copied().flatten())
    }

    fn texts(&self) -> Result<Texts<'_>, Unread> {
        const MEANT: [&str; 4] = ["method", "path", "authority", "downstream_remote_address"];
        if !MEANT.iter().any(|key| self.0.contains_key(*key)) {
            return Err(Unread::at(
                "",
                format!("the line has none of the keys that say what a request is: {}", MEANT.join(", ")),
            ));
        }
        let mut headers = Vec::new();
        for (key, name) in [
            ("x_forwarded_for", "x-forwarded-for"),
            ("user_agent", "user-agent"),
            ("request_id", "x-request-id"),
        ] {
            if let Fact::Known(value) = self.fact(key)? {
                headers.push((name, value));
            }
        }
        Ok(Texts {
            method: self.get("method")?,
            path: self.get("path")?,
            is_http: self.get("method")?.is_some() || self.get("path")?.is_some(),
            code: self.get("response_code")?,
            details: self.get("response_code_details")?,
            headers,
            authority: self.get("authority")?,
            local: self.get("downstream_local_address")?,
            remote: self.get("downstream_remote_address")?,
            direct: self.get("downstream_direct_remote_address")?,
            server_name: self.fact("requested_server_name")?,
            peer: self.fact("downstream_peer_uri_san")?,
        })
    }
}

impl Texts<'_> {
    fn logged(self) -> Result<Logged, Unread> {
        let (local, remote, direct) = (
            address("downstream local address", self.local)?,
            address("downstream remote address", self.remote)?,
            address("downstream direct remote address", self.direct)?,
        );
        let is_forwarded =
            self.headers.iter().any(|(name, value)| *name == "x-forwarded-for" && value.is_some());
        let mut facts = Facts {
            peer: match self.peer {
                Fact::Known(Some(uris)) => Fact::Known(Some(uris.split(',').map(str::to_owned).collect())),
                // A peer without a certificate, and one whose certificate has no URI, look alike.
                Fact::Known(None) | Fact::Unknown => Fact::Unknown,
            },
            remote_ip: remote.map(|(address, _)| Some(address)).into(),
            source_ip: match (direct, remote) {
                (Some((address, _)), _) => Fact::Known(Some(address)),
                (None, Some((address, _))) if !is_forwarded => Fact::Known(Some(address)),
                _ => Fact::Unknown,
            },
            destination_ip: local.map(|(address, _)| Some(address)).into(),
            destination_port: local.map(|(_, port)| Some(port)).into(),
            sni: match self.server_name {
                Fact::Known(name) => Fact::Known(name.unwrap_or_default().to_ascii_lowercase()),
                Fact::Unknown => Fact::Unknown,
            },
            http: self.is_http.then(|| self.http()),
            ..Facts::default()
        };
        if !facts.peer.is_known() {
            facts.remarks.push("who the peer was is not in the line; say it if it is known".to_owned());
        }
        Ok(Logged { facts, outcome: self.outcome() })
    }

    fn http(&self) -> HttpFacts {
        let known = |text: Option<&str>| text.map(str::to_owned).into();
        let sent = |(name, value): &(&str, Option<&str>)| Some(((*name).to_owned(), (*value)?.to_owned()));
        HttpFacts {
            method: known(self.method),
            path: known(self.path),
            sent: None,
            host: known(self.authority),
            headers: self.headers.iter().filter_map(sent).collect(),
            // A header with `-` counts as one that may have been sent, which is never wrong.
            unknown_headers: BTreeSet::new(),
            may_have_more_headers: true,
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        const DENIED: &str = "rbac_access_denied_matched_policy[";
        let (code, details) = (self.code?, self.details.unwrap_or_default());
        if let Some(rest) = details.strip_prefix(DENIED) {
            let rule = rest.strip_suffix(']').unwrap_or(rest);
            return Some(Outcome::Denied((rule != "none").then(|| rule.to_owned())));
        }
        match code {
            "403" | "401" | "0" => None,
            _ if details == "via_upstream" => Some(Outcome::Allowed),
            _ => None,
        }
    }
}

/// `10.0.0.1:80`, `[::1]:80`, or an address alone, which has port 0.
fn address(place: &str, text: Option<&str>) -> Result<Option<(IpAddr, u16)>, Unread> {
    let Some(text) = text else { return Ok(None) };
    let whole = text.parse::<SocketAddr>().map(|both| (both.ip(), both.port()));
    let read = whole.or_else(|_| text.parse::<IpAddr>().map(|address| (address, 0)));
    read.map(Some).map_err(|_| Unread::at(place, format!("`{}` is no address", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[2026-10-01T12:00:00.000Z] \"GET /v1/items?page=2 HTTP/1.1\" 403 - \
        rbac_access_denied_matched_policy[none] - \"-\" 0 19 0 - \"-\" \"curl/8.5.0\" \
        \"aa-bb\" \"api.shop:8080\" \"-\" inbound|8080|| - 10.0.0.4:8080 10.0.0.9:51234 \
        outbound_.8080_._.api.shop.svc.cluster.local default";

    fn known<T>(value: T) -> Fact<T> {
        Fact::Known(value)
    }

    #[test]
    fn a_line_of_istios_default_text_says_what_it_says() {
        let logged = read(TEXT).unwrap();
        assert_eq!(logged.outcome, Some(Outcome::Denied(None)));
        let facts = logged.facts;
        assert_eq!(facts.peer, Fact::Unknown);
        assert_eq!(facts.remote_ip, known("10.0.0.9".parse().ok()));
        assert_eq!(facts.source_ip, facts.remote_ip);
        assert_eq!(
            (facts.destination_ip, facts.destination_port),
            (known("10.0.0.4".parse().ok()), known(Some(8080)))
        );
        assert_eq!(facts.sni, known("outbound_.8080_._.api.shop.svc.cluster.local".to_owned()));
        assert_eq!(facts.claims, Fact::Unknown);
        let http = facts.http.unwrap();
        assert_eq!(http.method, known("GET".to_owned()));
        assert_eq!(http.path, known("/v1/items?page=2".to_owned()));
        assert_eq!(http.host, known("api.shop:8080".to_owned()));
        assert!(http.may_have_more_headers);
        assert_eq!(http.headers.len(), 2);
        assert_eq!(
            read(&format!("web-7c9f istio-proxy {TEXT}\n")).unwrap().outcome,
            Some(Outcome::Denied(None))
        );
    }

    #[test]
    fn a_line_of_json_says_the_same_and_who_the_peer_was_if_it_is_told_to() {
        let line = r#"{"method":"GET","path":"/a","authority":"h","response_code":200,"response_code_details":"via_upstream",
            "x_forwarded_for":"9.9.9.9","downstream_remote_address":"9.9.9.9:0","downstream_local_address":"[::1]:80",
            "requested_server_name":null,"downstream_peer_uri_san":"spiffe://td/ns/a/sa/b"}"#;
        let logged = read(line).unwrap();
        assert_eq!(logged.outcome, Some(Outcome::Allowed));
        assert_eq!(logged.facts.peer, known(Some(vec!["spiffe://td/ns/a/sa/b".to_owned()])));
        assert_eq!(logged.facts.source_ip, Fact::Unknown);
        assert_eq!(logged.facts.remote_ip, known("9.9.9.9".parse().ok()));
        assert_eq!(logged.facts.sni, known(String::new()));
        assert_eq!(logged.facts.destination_port, known(Some(80)));
    }

    #[test]
    fn a_connection_has_no_request_in_its_line() {
        let line = "[2026-10-01T12:00:00.000Z] \"- - -\" 0 - rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]] \
            - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" inbound|27017|| - 10.0.0.4:27017 10.0.0.9:5 - -";
        let logged = read(line).unwrap();
        assert_eq!(logged.facts.http, None);
        assert_eq!(logged.outcome, Some(Outcome::Denied(Some("ns[a]-policy[b]-rule[0]".to_owned()))));
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        for (line, said) in [
            ("", "neither a JSON object nor Istio's default text"),
            ("[a] \"b", "field 2: a `\"` is missing"),
            ("[a] b", "the line has 2 fields, and Istio's default text has 22"),
            ("{", "the line is no JSON object"),
            ("{\"a\":1}", "none of the keys"),
            ("{\"method\":{}}", "method: a text is meant"),
            (
                "{\"path\":\"/\",\"downstream_remote_address\":\"x\"}",
                "downstream remote address: `x` is no address",
            ),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
