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

/// A namespace, with a star. `lets_in` says whether whoever is of it is let in by that, or kept out.
pub(crate) fn namespace(value: &str, lets_in: bool) -> Result<Vec<Value>, String> {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '*');
    if !value.chars().all(allowed) {
        return Err("no namespace is called so; only a-z, 0-9, `-`, `.` and one `*` are allowed".to_owned());
    }
    let part = |text: String| Atom::PeerUri(Pattern::Contains(text.into()));
    let Some((before, after)) = value.split_once('*') else {
        return Ok(vec![Value::Is(part(format!("/ns/{value}/")))]);
    };
    if after.contains('*') {
        return Err("only one `*` may stand in a namespace".to_owned());
    }
    let begins = part(format!("/ns/{before}"));
    if after.is_empty() {
        return Ok(vec![Value::Is(begins)]);
    }
    let mut all =
        vec![(Atom::PeerIsWorkload, true), (begins.clone(), true), (part(format!("{after}/sa/")), true)];
    // Where beginning and end overlap, a namespace that is too short for both would do.
    all.extend(overlaps(before, after).map(|short| (part(format!("/ns/{short}/")), false)));
    let mut values = Vec::new();
    if "ns".ends_with(after) {
        // The end would be found in `/ns/` itself, and that is then no namespace; but for one that is called so.
        all.push((part("/ns/sa/".to_owned()), false));
        if "ns".starts_with(before) && before.len() + after.len() <= 2 {
            values.push(Value::Is(part("/ns/ns/sa/".to_owned())));
        }
    }
    values.push(Value::All(all));
    if !lets_in {
        // Of other names Istio takes whatever follows the namespace; and rather one too many.
        let other = [(Atom::PeerIsWorkload, false), (begins, true), (part(format!("{after}/")), true)];
        values.push(Value::All(other.into()));
    }
    Ok(values)
}

/// Texts that begin with the one and end with the other, and are shorter than both together.
fn overlaps<'a>(before: &'a str, after: &'a str) -> impl Iterator<Item = String> + 'a {
    (1..=before.len().min(after.len())).filter_map(move |length| {
        let end = before.get(before.len() - length..)?;
        let rest = after.strip_prefix(end)?;
        Some(format!("{before}{rest}"))
    })
}

/// A service account, `namespace/name`, or a name in the policy's own namespace; whatever its trust domain. `lets_in` says whether
/// whoever is it is let in by that, or kept out.
pub(crate) fn service_account(value: &str, own_namespace: &str, lets_in: bool) -> Result<Vec<Value>, String> {
    if value.contains('*') {
        return Err("a service account has no wildcards".to_owned());
    }
    let (namespace, name) = value.split_once('/').unwrap_or((own_namespace, value));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err("is no service account; write it as `namespace/name`, or as `name`".to_owned());
    }
    let peer = |pattern| (Atom::PeerUri(pattern), true);
    let begins = |text: &str| Atom::PeerUri(Pattern::Prefix(text.into()));
    if !lets_in {
        // Whatever stands between the two, as in Istio; and rather one too many.
        let of = || peer(Pattern::Contains(format!("/ns/{namespace}/").into()));
        let ends =
            [Pattern::Suffix(format!("/sa/{name}").into()), Pattern::Contains(format!("/sa/{name}/").into())];
        return Ok(ends.into_iter().map(|end| Value::All(vec![of(), peer(end)])).collect());
    }
    let id = format!("/ns/{namespace}/sa/{name}");
    let ends = [Pattern::Contains(format!("{id}/").into()), Pattern::Suffix(id.into())];
    // Of some trust domain, at least.
    let of_a_domain = || [(begins(SCHEME), true), (begins("spiffe:///"), false)];
    Ok(ends
        .into_iter()
        .map(|end| Value::All(of_a_domain().into_iter().chain([peer(end)]).collect()))
        .collect())
}

/// A trust domain, with a star at one end. `lets_in` says whether whoever is of it is let in by that, or kept out.
pub(crate) fn trust_domain(value: &str, lets_in: bool) -> Result<Vec<Value>, String> {
    let value = value.to_ascii_lowercase();
    let name = value.trim_matches('*');
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '_');
    if !name.chars().all(allowed) || value.len() > name.len() + 1 && value != "*" {
        return Err(
            "is no trust domain; only a-z, 0-9, `.`, `-`, `_` and one `*` at an end are allowed".to_owned()
        );
    }
    Ok(match Pattern::of(&value) {
        Pattern::Exact(value) => vec![uri(Pattern::Prefix(format!("{SCHEME}{value}/").into()))],
        Pattern::Prefix(value) => vec![uri(Pattern::Prefix(with_scheme(&value)))],
        Pattern::Suffix(value) if lets_in => vec![ends_domain(&value)],
        // Of other names nobody can tell where the domain ends, so none of them is spared.
        Pattern::Suffix(value) => vec![
            ends_domain(&value),
            Value::All(vec![
                (Atom::PeerIsWorkload, false),
                (Atom::PeerUri(Pattern::Contains(format!("{value}/").into())), true),
            ]),
        ],
        Pattern::NotEmpty | Pattern::Any | Pattern::Contains(_) => vec![Value::Is(Atom::Peer)],
    })
}

/// A trust domain with such an end. Inside another domain's names anything may stand that its authority likes, so the end is looked for
/// only in names that have the form of a workload's, where it can stand in one place.
fn ends_domain(end: &str) -> Value {
    let mut all = vec![
        (Atom::PeerIsWorkload, true),
        (Atom::PeerUri(Pattern::Contains(format!("{end}/ns/").into())), true),
    ];
    if "ns".ends_with(end) {
        // But for one: the namespace may be called `ns`.
        all.push((Atom::PeerUri(Pattern::Contains("/ns/ns/".into())), false));
    }
    Value::All(all)
}

fn uri(pattern: Pattern) -> Value {
    Value::Is(Atom::PeerUri(pattern))
}

fn with_scheme(value: &str) -> Box<str> {
    format!("{SCHEME}{value}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::request::Peer;
    use crate::authz::request::Request;

    fn holds(value: &Value, uri: &str) -> bool {
        value.holds(&Request { peer: Some(Peer { uris: &[uri] }), ..Request::default() })
    }

    fn of_domain(value: &str, lets_in: bool, uri: &str) -> bool {
        trust_domain(value, lets_in).unwrap().iter().any(|value| holds(value, uri))
    }

    #[test]
    fn no_authority_can_pass_for_another_trust_domain_by_what_it_writes_behind_its_own() {
        assert!(of_domain("*.prod", true, "spiffe://eu.prod/ns/shop/sa/web"));
        for uri in [
            "spiffe://evil/x.prod/ns/shop/sa/web",
            "spiffe://evil/ns/x.prod/ns/shop/sa/web",
            "spiffe://evil/ns/shop/sa/x.prod/ns/a",
            "spiffe://evil/ns/x.prod/sa/web",
            "https://eu.prod/ns/shop/sa/web",
        ] {
            assert!(!of_domain("*.prod", true, uri), "{uri}");
        }
        assert!(of_domain("*ns", true, "spiffe://dns/ns/shop/sa/web"));
        assert!(!of_domain("*ns", true, "spiffe://td/ns/ns/sa/web"));
        assert!(!of_domain("*s", true, "spiffe://td/ns/ns/sa/web"));
        assert!(!of_domain("prod", true, "spiffe://prod.evil/ns/shop/sa/web"));
    }

    #[test]
    fn who_is_kept_out_by_a_trust_domain_is_so_whatever_the_form_of_its_name() {
        for uri in
            ["spiffe://eu.evil/ns/shop/sa/web", "spiffe://eu.evil/database/writer", "spiffe://eu.evil/"]
        {
            assert!(of_domain("*.evil", false, uri), "{uri}");
        }
        assert!(!of_domain("*.evil", false, "spiffe://eu.good/ns/x.evil/sa/web"));
    }

    #[test]
    fn a_namespace_with_a_star_is_what_it_says_at_both_ends() {
        for (value, namespace, expected) in [
            ("ab*bc", "abbc", true),
            ("ab*bc", "abxbc", true),
            ("ab*bc", "abc", false),
            ("*-prod", "shop-prod", true),
            ("*-prod", "shop-prod2", false),
            ("*s", "sa", false),
            ("*ns", "sa", false),
            ("*ns", "dns", true),
            ("*ns", "ns", true),
            ("n*s", "ns", true),
            ("ns*ns", "ns", false),
            ("shop*", "shop-eu", true),
            ("shop*", "eshop", false),
            ("*", "any", true),
        ] {
            let uri = format!("spiffe://td/ns/{namespace}/sa/web");
            let any = |lets_in: bool| {
                super::namespace(value, lets_in).unwrap().iter().any(|value| holds(value, &uri))
            };
            assert_eq!(any(true), expected, "{value} {namespace}");
            assert!(any(false) || !expected, "{value} keeps out fewer than it would let in");
        }
    }

    #[test]
    fn what_keeps_out_takes_in_all_forms_that_istio_takes_in_and_what_lets_in_none_that_it_does_not() {
        let any = |values: Vec<Value>, uri: &str| values.iter().any(|value| holds(value, uri));
        let account = |lets_in, uri: &str| any(service_account("shop/web", "other", lets_in).unwrap(), uri);
        for (uri, lets_in, keeps_out) in [
            ("spiffe://td/ns/shop/sa/web", true, true),
            ("spiffe://td/ns/shop/sa/web/x", true, true),
            ("spiffe://td/ns/shop/eu/sa/web", false, true),
            ("https://x/ns/shop/sa/web", false, true),
            ("spiffe:///ns/shop/sa/web", false, true),
            ("spiffe://td/ns/shop/sa/web2", false, false),
            ("spiffe://td/ns/shop2/sa/web", false, false),
        ] {
            assert_eq!((account(true, uri), account(false, uri)), (lets_in, keeps_out), "{uri}");
        }
        let prod = |lets_in, uri: &str| any(namespace("*-prod", lets_in).unwrap(), uri);
        assert_eq!(
            (prod(true, "spiffe://td/ns/eu-prod/pod/x"), prod(false, "spiffe://td/ns/eu-prod/pod/x")),
            (false, true)
        );
        let mixed = |uri: &str| any(namespace("a*b", true).unwrap(), uri);
        assert!(!mixed("spiffe://evilb/sa/ns/ax/sa/w"));
        assert!(mixed("spiffe://td/ns/axb/sa/w"));
    }
}
