//! Pure: which peers does a value of a policy stand for?
//!
//! Istio makes regexes of such values. Here they are what the values say, as beginnings, ends and parts of the SPIFFE ID; where
//! that cannot be exact, it stands for less than Istio's, never for more.

use crate::authz::model::Value;
use crate::authz::model::atom::Atom;
use crate::authz::model::pattern::Pattern;

const SCHEME: &str = "spiffe://";

/// A principal, without its scheme: `td/ns/shop/sa/web`, with a star at one end.
pub(crate) fn principal(value: &str) -> Value {
    match Pattern::of(value) {
        Pattern::Exact(value) => uri(Pattern::Exact(with_scheme(&value))),
        Pattern::Prefix(value) => uri(Pattern::Prefix(with_scheme(&value))),
        Pattern::Suffix(value) => Value::All(vec![
            (Atom::PeerUri(Pattern::Prefix(SCHEME.into())), true),
            (Atom::PeerUri(Pattern::Suffix(value)), true),
        ]),
        Pattern::NotEmpty | Pattern::Any | Pattern::Contains(_) => Value::Is(Atom::Peer),
    }
}

/// A principal in which a star is only a star.
pub(crate) fn exact_principal(value: &str) -> Value {
    uri(Pattern::Exact(with_scheme(value)))
}

/// A namespace, with a star.
pub(crate) fn namespace(value: &str) -> Result<Value, String> {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '*');
    if !value.chars().all(allowed) {
        return Err("no namespace is called so; only a-z, 0-9, `-`, `.` and one `*` are allowed".to_owned());
    }
    let part = |text: String| Atom::PeerUri(Pattern::Contains(text.into()));
    let Some((before, after)) = value.split_once('*') else {
        return Ok(Value::Is(part(format!("/ns/{value}/"))));
    };
    if after.contains('*') {
        return Err("only one `*` may stand in a namespace".to_owned());
    }
    let begins = part(format!("/ns/{before}"));
    if after.is_empty() {
        return Ok(Value::Is(begins));
    }
    let mut all = vec![(begins, true), (part(format!("{after}/sa/")), true)];
    // Where beginning and end overlap, a namespace that is too short for both would do.
    all.extend(overlaps(before, after).map(|short| (part(format!("/ns/{short}/")), false)));
    if "ns".ends_with(after) {
        // The end would be found in `/ns/` itself.
        all.push((part("/ns/sa/".to_owned()), false));
    }
    Ok(Value::All(all))
}

/// Texts that begin with the one and end with the other, and are shorter than both together.
fn overlaps<'a>(before: &'a str, after: &'a str) -> impl Iterator<Item = String> + 'a {
    (1..=before.len().min(after.len())).filter_map(move |length| {
        let end = before.get(before.len() - length..)?;
        let rest = after.strip_prefix(end)?;
        Some(format!("{before}{rest}"))
    })
}

/// A service account, `namespace/name`, or a name in the policy's own namespace; whatever its trust domain.
pub(crate) fn service_account(value: &str, own_namespace: &str) -> Result<Vec<Value>, String> {
    if value.contains('*') {
        return Err("a service account has no wildcards".to_owned());
    }
    let (namespace, name) = value.split_once('/').unwrap_or((own_namespace, value));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err("is no service account; write it as `namespace/name`, or as `name`".to_owned());
    }
    let id = format!("/ns/{namespace}/sa/{name}");
    Ok(vec![uri(Pattern::Contains(format!("{id}/").into())), uri(Pattern::Suffix(id.into()))])
}

/// A trust domain, with a star at one end.
pub(crate) fn trust_domain(value: &str) -> Result<Value, String> {
    let value = value.to_ascii_lowercase();
    let name = value.trim_matches('*');
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '_');
    if !name.chars().all(allowed) || value.len() > name.len() + 1 && value != "*" {
        return Err(
            "is no trust domain; only a-z, 0-9, `.`, `-`, `_` and one `*` at an end are allowed".to_owned()
        );
    }
    Ok(match Pattern::of(&value) {
        Pattern::Exact(value) => uri(Pattern::Prefix(format!("{SCHEME}{value}/").into())),
        Pattern::Prefix(value) => uri(Pattern::Prefix(with_scheme(&value))),
        Pattern::Suffix(value) => uri(Pattern::Contains(format!("{value}/ns/").into())),
        Pattern::NotEmpty | Pattern::Any | Pattern::Contains(_) => Value::Is(Atom::Peer),
    })
}

fn uri(pattern: Pattern) -> Value {
    Value::Is(Atom::PeerUri(pattern))
}

fn with_scheme(value: &str) -> Box<str> {
    format!("{SCHEME}{value}").into()
}
