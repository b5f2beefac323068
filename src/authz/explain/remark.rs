//! Pure: a value was missed by a hair: by which?

use crate::authz::explain::facts::Facts;
use crate::authz::explain::part::Part;
use crate::authz::model::Atom;
use crate::authz::model::Pattern;
use crate::authz::model::Term;
use crate::authz::model::Value;
use crate::authz::request::Request;

/// Why a term that does not hold looks as if it should; at most one reason.
pub(super) fn on_miss(term: &Term, facts: &Facts, request: &Request<'_>) -> Option<String> {
    if term.negated {
        return None;
    }
    term.values.iter().flat_map(Value::atoms).find_map(|atom| of_atom(atom, facts, request))
}

fn of_atom(atom: &Atom, facts: &Facts, request: &Request<'_>) -> Option<String> {
    let http = request.http.as_ref();
    match atom {
        Atom::Peer | Atom::PeerUri(_) | Atom::PeerIsWorkload if request.peer.is_none() => {
            Some("who calls in plain text has no identity".to_owned())
        }
        Atom::PeerUri(pattern) => request.peer?.uris.iter().find_map(|uri| of_peer(pattern, uri)),
        Atom::Path(pattern) => of_path(pattern, http?.path, http?.bare_path()),
        Atom::PathTemplate(template) => {
            let path = http?.bare_path();
            let other = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
            template.matches(&other).then(|| slash_at_end(path))
        }
        Atom::Host(pattern) => of_host(pattern, http?.host),
        Atom::Method(pattern) => {
            let upper = http?.method.to_ascii_uppercase();
            (pattern.matches(&upper)).then(|| "methods are compared with their case".to_owned())
        }
        Atom::Header { name, value } => of_header(name, value, request),
        Atom::SourceIp(block) => (Some(request.remote_ip?) != request.source_ip && block.contains(request.remote_ip?))
            .then(|| {
                "the client's address (X-Forwarded-For) is in it, and `ipBlocks` asks for the other end of the socket; \
                 `remoteIpBlocks` asks for the client's"
                    .to_owned()
            }),
        Atom::RemoteIp(block) => (request.remote_ip != Some(request.source_ip?) && block.contains(request.source_ip?))
            .then(|| {
                "the other end of the socket is in it, and `remoteIpBlocks` asks for the client's address \
                 (X-Forwarded-For); `ipBlocks` asks for the other end"
                    .to_owned()
            }),
        Atom::Metadata { .. } => of_found(atom, facts),
        Atom::Peer
        | Atom::PeerIsWorkload
        | Atom::DestinationIp(_)
        | Atom::DestinationPort(_)
        | Atom::Sni(_) => None,
    }
}

fn of_peer(pattern: &Pattern, uri: &str) -> Option<String> {
    let Pattern::Exact(wanted) = pattern else { return None };
    if wanted.starts_with("spiffe://spiffe://") {
        return Some("a principal is written without `spiffe://`".to_owned());
    }
    if wanted.eq_ignore_ascii_case(uri) {
        return Some("identities are compared with their case".to_owned());
    }
    let apart = |uri: &str| {
        let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        Some((domain.to_owned(), path.to_owned()))
    };
    let ((wanted_domain, wanted_path), (domain, path)) = (apart(wanted)?, apart(uri)?);
    (wanted_path == path && wanted_domain != domain).then(|| {
        format!("it is of trust domain `{domain}`, not `{wanted_domain}`; an alias would make them one (`--alias`)")
    })
}

fn slash_at_end(path: &str) -> String {
    match path.ends_with('/') {
        true => "the slash at the end makes it another path".to_owned(),
        false => "without a slash at the end it is another path".to_owned(),
    }
}

fn of_path(pattern: &Pattern, whole: &str, bare: &str) -> Option<String> {
    if bare != whole && pattern.matches(whole) {
        return Some("the query does not count".to_owned());
    }
    if let Pattern::Exact(wanted) | Pattern::Prefix(wanted) = pattern {
        if wanted.contains('?') {
            return Some("a query in a policy never matches: the query does not count".to_owned());
        }
        if wanted.contains('*') {
            return Some(
                "a `*` in the middle is a star and nothing else; a template (`{*}`, `{**}`) is what is meant"
                    .to_owned(),
            );
        }
    }
    if let Pattern::Suffix(wanted) = pattern
        && wanted.ends_with('*')
    {
        return Some("with a `*` at both ends, the second is a star and nothing else".to_owned());
    }
    let other = bare.strip_suffix('/').map_or_else(|| format!("{bare}/"), str::to_owned);
    if pattern.matches(&other) {
        return Some(slash_at_end(bare));
    }
    if pattern.in_lower_case().matches(&bare.to_ascii_lowercase()) {
        return Some("paths are compared with their case".to_owned());
    }
    let once: Vec<&str> = bare.split('/').filter(|part| !part.is_empty()).collect();
    if bare.contains("//") && pattern.matches(&format!("/{}", once.join("/"))) {
        return Some(
            "several slashes are not one, unless the proxy merges them (`--normalize merge-slashes`)"
                .to_owned(),
        );
    }
    None
}

fn of_host(pattern: &Pattern, host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let (name, port) = host.rsplit_once(':')?;
    (port.bytes().all(|byte| byte.is_ascii_digit()) && pattern.matches(name))
        .then(|| format!("the port counts: `{name}` is not `{host}`; `{name}:*` would match it"))
}

fn of_header(name: &str, value: &Pattern, request: &Request<'_>) -> Option<String> {
    let http = request.http.as_ref()?;
    let lines: Vec<&str> = http.values(name).collect();
    if lines.len() > 1 && value.matches(&lines.join(",")) {
        return Some("several lines of a header are compared one by one".to_owned());
    }
    let lower = value.in_lower_case();
    lines
        .iter()
        .any(|line| lower.matches(&line.to_ascii_lowercase()))
        .then(|| "values of headers are compared with their case".to_owned())
}

fn of_found(atom: &Atom, facts: &Facts) -> Option<String> {
    match Part::of(atom) {
        Part::Claim(_) if facts.claims.known().is_some_and(Option::is_none) => Some(
            "a token counts once it is verified, by a RequestAuthentication that applies here".to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::authz::model::Cidr;
    use crate::authz::model::Field;
    use crate::authz::model::Template;
    use crate::authz::request::Http;
    use crate::authz::request::Peer;

    use super::*;

    #[test]
    fn who_missed_by_a_hair_is_told_by_which() {
        let path = |value: &str| Atom::Path(Pattern::of(value));
        let template = |value: &str| Atom::PathTemplate(Template::parse(value).unwrap());
        let block = |value: &str| value.parse::<Cidr>().unwrap();
        let uri = |value: &str| Atom::PeerUri(Pattern::of(value));
        let header = |value: &str| Atom::Header { name: "x".into(), value: Pattern::of(value) };
        for (atom, expected) in [
            (path("/A/b"), Some("compared with their case")),
            (path("/a/b/"), Some("without a slash at the end")),
            (path("*q"), Some("the query does not count")),
            (path("/a/b?q"), Some("the query does not count")),
            (path("/a/*/c"), Some("a `*` in the middle")),
            (path("/z"), None),
            (template("/a/{*}/"), Some("without a slash at the end")),
            (Atom::Host(Pattern::of("web")), Some("`web` is not `web:8080`; `web:*` would match")),
            (Atom::Method(Pattern::of("GET")), Some("with their case")),
            (header("1,2"), Some("one by one")),
            (header("A"), None),
            (uri("spiffe://spiffe://td/ns/a/sa/b"), Some("without `spiffe://`")),
            (uri("spiffe://old/ns/a/sa/b"), Some("of trust domain `td`, not `old`")),
            (uri("spiffe://td/ns/a/sa/c"), None),
            (Atom::SourceIp(block("9.0.0.0/8")), Some("`remoteIpBlocks` asks for the client's")),
            (Atom::RemoteIp(block("10.0.0.0/8")), Some("`ipBlocks` asks for the other end")),
        ] {
            let request = Request {
                peer: Some(Peer { uris: &["spiffe://td/ns/a/sa/b"] }),
                source_ip: "10.0.0.1".parse().ok(),
                remote_ip: "9.0.0.1".parse().ok(),
                http: Some(Http {
                    method: "get",
                    path: "/a/b?q",
                    host: "web:8080",
                    headers: &[("x", "1"), ("x", "2")],
                }),
                ..Request::default()
            };
            let term =
                Term { field: Field::List("f"), negated: false, values: vec![Value::Is(atom.clone())] };
            let said = on_miss(&term, &Facts::of(&request), &request);
            match expected {
                None => assert_eq!(said, None, "{atom:?}"),
                Some(part) => {
                    let said = said.unwrap_or_else(|| panic!("nothing is said of {atom:?}"));
                    assert!(said.contains(part), "{said}");
                }
            }
        }
    }
}
