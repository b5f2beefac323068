//! Pure: at which values of a request does an answer turn? (the values at the edges of each atom)

use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value as Json;

use crate::authz::explain::facts::Fact;
use crate::authz::explain::facts::Facts;
use crate::authz::explain::part::Part;
use crate::authz::model::Atom;
use crate::authz::model::Cidr;
use crate::authz::model::Pattern;
use crate::authz::model::Shape;
use crate::authz::model::Template;
use crate::authz::model::Value;
use crate::authz::model::template::Segment;

/// What a part of a request is set to.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// The names of the peer's certificate; none for plain text.
    Peer(Option<Vec<String>>),
    /// An address.
    Address(Part, IpAddr),
    /// Our own port.
    Port(u16),
    /// The server's name, the host, the method or the path.
    Text(Part, String),
    /// The lines of a header; none if it is not sent.
    Header(Box<str>, Vec<String>),
    /// A claim, a property or what another filter found out; none if it is not there.
    Found(Part, Option<Json>),
}

impl Setting {
    /// Values at the edges of `value`. By the first, it holds, where that can be arranged.
    pub fn of(value: &Value) -> Vec<Self> {
        match value {
            Value::Is(atom) => of_atom(atom),
            Value::All(all) => {
                let mut settings: Vec<Self> = peer_of_all(all).into_iter().collect();
                settings.extend(all.iter().flat_map(|(atom, _)| of_atom(atom)));
                settings
            }
        }
    }

    /// What makes `value` hold, as far as that can be arranged.
    pub fn witness(value: &Value) -> Vec<Self> {
        match value {
            Value::Is(atom) => of_atom(atom).into_iter().take(1).collect(),
            Value::All(all) => match peer_of_all(all) {
                Some(peer) => vec![peer],
                None => {
                    let expected = all.iter().filter(|(_, expected)| *expected);
                    expected.flat_map(|(atom, _)| of_atom(atom).into_iter().take(1)).collect()
                }
            },
        }
    }

    /// Sets it.
    pub fn put(&self, facts: &mut Facts) {
        match self {
            Self::Peer(peer) => facts.peer = Fact::Known(peer.clone()),
            Self::Address(part, address) => {
                let fact = match part {
                    Part::SourceIp => &mut facts.source_ip,
                    Part::RemoteIp => &mut facts.remote_ip,
                    _ => &mut facts.destination_ip,
                };
                *fact = Fact::Known(Some(*address));
            }
            Self::Port(port) => facts.destination_port = Fact::Known(Some(*port)),
            Self::Text(Part::Sni, text) => facts.sni = Fact::Known(text.to_ascii_lowercase()),
            Self::Text(part, text) => {
                if let Some(http) = &mut facts.http {
                    let fact = match part {
                        Part::Host => &mut http.host,
                        Part::Method => &mut http.method,
                        _ => &mut http.path,
                    };
                    *fact = Fact::Known(text.clone());
                }
            }
            Self::Header(name, lines) => {
                if let Some(http) = &mut facts.http {
                    http.headers.retain(|(known, _)| **known != **name);
                    http.headers.extend(lines.iter().map(|line| (name.to_string(), line.clone())));
                }
            }
            Self::Found(part, value) => put_found(facts, part, value.as_ref()),
        }
    }
}

fn put_found(facts: &mut Facts, part: &Part, value: Option<&Json>) {
    match part {
        Part::Claim(path) => {
            let mut claims = facts.claims.known().cloned().flatten().unwrap_or_default();
            put_under(&mut claims, path, value);
            facts.claims = Fact::Known((!claims.is_empty()).then_some(claims));
        }
        Part::Property(path) => {
            let mut properties = facts.properties.known().cloned().unwrap_or_default();
            put_under(&mut properties, path, value);
            facts.properties = Fact::Known(properties);
        }
        Part::Filter(filter, path) => {
            let found = facts.filters.entry(filter.to_string()).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(found) = found {
                put_under(found, path, value);
            }
        }
        _ => {}
    }
}

fn put_under(map: &mut Map<String, Json>, path: &[Box<str>], value: Option<&Json>) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        match value {
            Some(value) => drop(map.insert(first.to_string(), value.clone())),
            None => drop(map.remove(&**first)),
        }
        return;
    }
    let inner = map.entry(first.to_string()).or_insert_with(|| Json::Object(Map::new()));
    if !inner.is_object() {
        *inner = Json::Object(Map::new());
    }
    if let Json::Object(inner) = inner {
        put_under(inner, rest, value);
    }
}

fn of_atom(atom: &Atom) -> Vec<Setting> {
    let part = Part::of(atom);
    match atom {
        Atom::Peer => {
            vec![Setting::Peer(Some(vec!["spiffe://td/ns/x/sa/x".to_owned()])), Setting::Peer(None)]
        }
        Atom::PeerIsWorkload => {
            let uris = ["spiffe://td/ns/x/sa/x", "spiffe://td/x", "https://td/ns/x/sa/x"];
            let each = uris.iter().map(|uri| Setting::Peer(Some(vec![(*uri).to_owned()])));
            each.chain([Setting::Peer(None)]).collect()
        }
        Atom::PeerUri(pattern) => {
            let uris = texts(pattern).into_iter().map(|text| Setting::Peer(Some(vec![uri(&text)])));
            uris.chain([Setting::Peer(None)]).collect()
        }
        Atom::SourceIp(block) | Atom::RemoteIp(block) | Atom::DestinationIp(block) => {
            addresses(block).into_iter().map(|address| Setting::Address(part.clone(), address)).collect()
        }
        Atom::DestinationPort(port) => {
            vec![*port, port.wrapping_add(1), port.wrapping_sub(1)].into_iter().map(Setting::Port).collect()
        }
        Atom::Sni(pattern) | Atom::Method(pattern) => {
            texts(pattern).into_iter().map(|text| Setting::Text(part.clone(), text)).collect()
        }
        Atom::Host(pattern) => {
            let plain = texts(pattern);
            let first = plain.first().cloned().unwrap_or_default();
            let others = [first.to_ascii_uppercase(), format!("{first}:8080")];
            plain.into_iter().chain(others).map(|text| Setting::Text(part.clone(), text)).collect()
        }
        Atom::Path(pattern) => {
            let plain: Vec<String> = texts(pattern).iter().map(|text| absolute(text)).collect();
            let first = plain.first().cloned().unwrap_or_default();
            let others = [format!("{first}?x=/"), format!("{first}/"), first.to_ascii_uppercase()];
            plain.into_iter().chain(others).map(|text| Setting::Text(part.clone(), text)).collect()
        }
        Atom::PathTemplate(template) => {
            paths(template).into_iter().map(|text| Setting::Text(part.clone(), text)).collect()
        }
        Atom::Header { value, .. } => of_header(&part, value),
        Atom::Metadata { shape, value, .. } => of_found(&part, *shape, value),
    }
}

fn of_header(part: &Part, value: &Pattern) -> Vec<Setting> {
    let Part::Header(name) = part else {
        return texts(value).into_iter().map(|text| Setting::Text(part.clone(), text)).collect();
    };
    let mut lines: Vec<Vec<String>> = texts(value).into_iter().map(|text| vec![text]).collect();
    let first = lines.first().and_then(|one| one.first()).cloned().unwrap_or_default();
    lines.push(Vec::new());
    lines.push(vec!["other".to_owned(), first.clone()]);
    lines.push(vec![format!("{first},other")]);
    lines.into_iter().map(|lines| Setting::Header(name.clone(), lines)).collect()
}

fn of_found(part: &Part, shape: Shape, value: &Pattern) -> Vec<Setting> {
    let as_shape = |text: String| match shape {
        Shape::Text => Json::String(text),
        Shape::List => Json::Array(vec![Json::from("other"), Json::String(text)]),
    };
    let mut values: Vec<Option<Json>> = texts(value).into_iter().map(|text| Some(as_shape(text))).collect();
    values.extend([None, Some(Json::from(1)), Some(Json::Array(Vec::new()))]);
    values.into_iter().map(|value| Setting::Found(part.clone(), value)).collect()
}

/// Texts at the edges of a pattern; it matches the first.
fn texts(pattern: &Pattern) -> Vec<String> {
    let shorter = |text: &str| text.chars().take(text.chars().count().saturating_sub(1)).collect::<String>();
    match pattern {
        Pattern::Exact(text) => vec![text.to_string(), format!("{text}x"), shorter(text)],
        Pattern::Prefix(text) => vec![format!("{text}x"), text.to_string(), shorter(text)],
        Pattern::Suffix(text) => vec![format!("x{text}"), text.to_string(), format!("{text}x")],
        Pattern::Contains(text) => vec![format!("x{text}x"), text.to_string(), shorter(text)],
        Pattern::NotEmpty | Pattern::Any => vec!["x".to_owned(), String::new()],
    }
}

/// A URI name with `text` in it.
fn uri(text: &str) -> String {
    let rest = text.trim_start_matches('x');
    match text {
        _ if text.starts_with("spiffe://") => text.to_owned(),
        // A part of one, which has been given something before and after it.
        _ if rest.starts_with("/ns/") => match rest.matches('/').count() {
            0..=3 => format!("spiffe://td{}/sa/x", rest.trim_end_matches('/')),
            _ => format!("spiffe://td{rest}"),
        },
        _ if rest.starts_with('/') => format!("spiffe://td/ns/x{rest}"),
        _ => format!("spiffe://td/ns/x/sa/{text}"),
    }
}

/// A peer for which several atoms about it hold together.
fn peer_of_all(all: &[(Atom, bool)]) -> Option<Setting> {
    let patterns: Vec<&Pattern> = all
        .iter()
        .filter(|(_, expected)| *expected)
        .filter_map(|(atom, _)| match atom {
            Atom::PeerUri(pattern) => Some(pattern),
            _ => None,
        })
        .collect();
    let uri = match patterns.as_slice() {
        [Pattern::Prefix(start), Pattern::Suffix(end)] => format!("{start}x{end}"),
        [Pattern::Contains(start), Pattern::Contains(end)] => format!("spiffe://td{start}x{end}x"),
        // The end of a trust domain.
        [Pattern::Contains(end)] if end.ends_with("/ns/") => format!("spiffe://x{end}x/sa/x"),
        _ => return None,
    };
    Some(Setting::Peer(Some(vec![uri])))
}

fn absolute(text: &str) -> String {
    match text.starts_with('/') {
        true => text.to_owned(),
        false => format!("/{text}"),
    }
}

fn addresses(block: &Cidr) -> Vec<IpAddr> {
    match block.address() {
        IpAddr::V4(first) => {
            let size = u32::MAX.checked_shr(u32::from(block.length())).unwrap_or(0);
            let bits = first.to_bits();
            let all = [bits, bits | size, bits.wrapping_sub(1), (bits | size).wrapping_add(1)];
            all.into_iter().map(|bits| IpAddr::V4(bits.into())).collect()
        }
        IpAddr::V6(first) => {
            let size = u128::MAX.checked_shr(u32::from(block.length())).unwrap_or(0);
            let bits = first.to_bits();
            let all = [bits, bits | size, bits.wrapping_sub(1), (bits | size).wrapping_add(1)];
            all.into_iter().map(|bits| IpAddr::V6(bits.into())).collect()
        }
    }
}

/// Paths at the edges of a template; it matches the first.
fn paths(template: &Template) -> Vec<String> {
    let with = |one: &str, rest: &str| {
        let parts = template.segments().iter().map(|segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::One => format!("/{one}"),
            Segment::Rest => format!("/{rest}"),
        });
        parts.collect::<String>()
    };
    let first = with("x", "x");
    let shorter = first.rsplit_once('/').map_or("/", |(start, _)| start).to_owned();
    [
        first.clone(),
        with("x", "x/y/z"),
        with("x", ""),
        with("", "x"),
        with("x/y", "x"),
        format!("{first}/"),
        shorter,
    ]
    .iter()
    .map(|path| absolute(path))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Facts {
        crate::authz::compare::draw::plain()
    }

    #[test]
    fn by_the_first_value_at_its_edges_an_atom_holds_and_by_some_other_it_does_not() {
        let pattern = |value: &str| Pattern::of(value);
        let atoms = [
            Atom::Peer,
            Atom::PeerIsWorkload,
            Atom::PeerUri(Pattern::Exact("spiffe://td/ns/a/sa/b".into())),
            Atom::PeerUri(Pattern::Contains("/ns/a/".into())),
            Atom::PeerUri(Pattern::Contains("/ns/a".into())),
            Atom::PeerUri(Pattern::Suffix("/ns/a/sa/b".into())),
            Atom::PeerUri(Pattern::Prefix("spiffe://td/".into())),
            Atom::SourceIp("10.0.0.0/8".parse().unwrap()),
            Atom::RemoteIp("2001:db8::/32".parse().unwrap()),
            Atom::DestinationIp("10.0.0.1".parse().unwrap()),
            Atom::DestinationPort(0),
            Atom::Sni(pattern("a.b")),
            Atom::Host(pattern("a.b*")),
            Atom::Method(pattern("GET")),
            Atom::Path(pattern("/a*")),
            Atom::Path(pattern("*.html")),
            Atom::PathTemplate(Template::parse("/a/{*}/b/{**}/c").unwrap()),
            Atom::Header { name: "x".into(), value: pattern("*") },
            Atom::claim(["a", "b"], Shape::List, pattern("v")),
            Atom::claim(["a"], Shape::Text, pattern("v")),
        ];
        for atom in atoms {
            let holds: Vec<bool> = of_atom(&atom)
                .iter()
                .map(|setting| {
                    let mut facts = base();
                    setting.put(&mut facts);
                    facts.ask(|request| atom.holds(request))
                })
                .collect();
            assert!(holds[0] && holds.contains(&false), "{atom:?} {holds:?} {:?}", of_atom(&atom));
        }
    }
}
