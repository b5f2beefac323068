//! Pure: which tokens does a value of a policy stand for?

use crate::authz::model::Value;
use crate::authz::model::atom::Atom;
use crate::authz::model::atom::Shape;
use crate::authz::model::pattern::Pattern;

/// A request principal: issuer and subject, parted by the last slash (istio: `model/generator.go`).
pub(crate) fn request_principal(value: &str) -> Value {
    let exact = |text: &str| Pattern::Exact(text.into());
    let (issuer, subject) = match value.rsplit_once('/') {
        None => match Pattern::of(value) {
            Pattern::Suffix(subject) => (Pattern::NotEmpty, Pattern::Suffix(subject)),
            Pattern::Prefix(issuer) => (Pattern::Prefix(issuer), Pattern::NotEmpty),
            Pattern::Exact(issuer) => (Pattern::Exact(issuer), exact("")),
            _ => (Pattern::NotEmpty, Pattern::NotEmpty),
        },
        // A star at the beginning counts, and then one at the end does not.
        Some((issuer, subject)) if issuer.starts_with('*') => (Pattern::of(issuer), exact(subject)),
        Some((issuer, subject)) => match subject.strip_suffix('*') {
            Some("") => (exact(issuer), Pattern::NotEmpty),
            Some(begin) => (exact(issuer), Pattern::Prefix(begin.into())),
            None => (exact(issuer), exact(subject)),
        },
    };
    let claim = |name: &str, pattern| (Atom::claim([name], Shape::Text, pattern), true);
    Value::All(vec![claim("iss", issuer), claim("sub", subject)])
}

/// A claim: a text, or a list that has the text in it.
pub(crate) fn claim(path: &[Box<str>], value: &str) -> Vec<Value> {
    let one = |shape| Value::Is(Atom::claim(path.iter().map(|key| &**key), shape, Pattern::of(value)));
    vec![one(Shape::Text), one(Shape::List)]
}

/// The way to a claim, from what stands behind `request.auth.claims`: `[a][b]`. What is nested wrongly is one name.
pub(crate) fn claim_path(brackets: &str) -> Option<Vec<Box<str>>> {
    let inner = brackets.strip_prefix('[')?.strip_suffix(']')?;
    let parts: Vec<Box<str>> = inner.split("][").map(Box::from).collect();
    let is_sound = parts.iter().all(|part| !part.is_empty() && !part.contains(['[', ']']));
    match (is_sound, inner.is_empty()) {
        (_, true) => None,
        (true, _) => Some(parts),
        (false, _) => Some(vec![inner.into()]),
    }
}

/// The one name in brackets: `[app]`.
pub(crate) fn bracketed(brackets: &str) -> Option<&str> {
    let inner = brackets.strip_prefix('[')?.strip_suffix(']')?;
    (!inner.is_empty()).then_some(inner)
}
