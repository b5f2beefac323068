//! Pure: how did the author of a policy write a value, which is an atom by now?

use crate::authz::model;
use crate::authz::model::Atom;
use crate::authz::model::Field;
use crate::authz::model::Pattern;
use crate::authz::model::PolicyName;
use crate::authz::model::Term;
use crate::authz::model::Value;

const SCHEME: &str = "spiffe://";

/// What a field's values are about, as far as they are written otherwise than they are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Principal,
    Namespace,
    Account,
    TrustDomain,
    Other,
}

/// The values of a field, each once.
pub fn values(term: &Term) -> Vec<String> {
    let kind = Kind::of(&term.field);
    let mut out: Vec<String> = Vec::with_capacity(term.values.len());
    for value in &term.values {
        let text = value_text(kind, value);
        if !out.contains(&text) {
            out.push(text);
        }
    }
    out
}

/// One value of a field.
pub fn value(field: &Field, value: &Value) -> String {
    value_text(Kind::of(field), value)
}

/// Where a field stands in its object: `rules[0].to[1].operation.paths`. `list` is `from`, `to` or `when`, `at` the place in it.
pub fn path(policy: &PolicyName, rule: usize, list: &str, at: usize, field: &Field) -> String {
    match (policy.kind, list, field) {
        (_, _, Field::Implied(why)) => format!("rules[{rule}] ({why})"),
        (model::Kind::AuthorizationPolicy, "from", _) => format!("rules[{rule}].from[{at}].source.{field}"),
        (model::Kind::AuthorizationPolicy, "to", _) => format!("rules[{rule}].to[{at}].operation.{field}"),
        (model::Kind::AuthorizationPolicy, _, _) => format!("rules[{rule}].{field}"),
        (_, "from", _) => format!("subjects[{at}].{field}"),
        (_, "to", _) => format!("role: rules[{at}].{field}"),
        _ => field.to_string(),
    }
}

impl Kind {
    fn of(field: &Field) -> Self {
        let name = match field {
            Field::List(name) => name,
            Field::Condition { key, .. } => &**key,
            Field::Implied(_) => return Self::Other,
        };
        match name {
            "principals" | "notPrincipals" | "source.principal" | "user" | "users" | "names" | "notNames" => {
                Self::Principal
            }
            "namespaces" | "notNamespaces" | "source.namespace" => Self::Namespace,
            "serviceAccounts" | "notServiceAccounts" | "source.serviceAccount" => Self::Account,
            "trustDomains" | "notTrustDomains" | "source.trustDomain" => Self::TrustDomain,
            _ => Self::Other,
        }
    }
}

fn value_text(kind: Kind, value: &Value) -> String {
    match value {
        Value::Is(atom) => atom_text(kind, atom),
        Value::All(all) => all_text(kind, all),
    }
}

fn atom_text(kind: Kind, atom: &Atom) -> String {
    let Atom::PeerUri(pattern) = atom else {
        return match atom {
            Atom::Peer if kind != Kind::Other => "*".to_owned(),
            other => other.to_string(),
        };
    };
    let written = match (kind, pattern) {
        (Kind::Principal, Pattern::Exact(uri)) => uri.strip_prefix(SCHEME).map(str::to_owned),
        (Kind::Principal, Pattern::Prefix(uri)) => uri.strip_prefix(SCHEME).map(|rest| format!("{rest}*")),
        (Kind::Namespace, Pattern::Contains(text)) => namespace(text),
        (Kind::Account, Pattern::Suffix(text)) => account(text),
        (Kind::Account, Pattern::Contains(text)) => text.strip_suffix('/').and_then(account),
        (Kind::TrustDomain, Pattern::Prefix(uri)) => {
            uri.strip_prefix(SCHEME).map(|rest| match rest.strip_suffix('/') {
                Some(exact) => exact.to_owned(),
                None => format!("{rest}*"),
            })
        }
        _ => None,
    };
    written.unwrap_or_else(|| atom.to_string())
}

/// `/ns/shop/` is `shop`, `/ns/shop` is `shop*`.
fn namespace(text: &str) -> Option<String> {
    let rest = text.strip_prefix("/ns/")?;
    Some(match rest.strip_suffix('/') {
        // A namespace that is called `ns`, where a star leaves it in doubt.
        Some(exact) => exact.strip_suffix("/sa").unwrap_or(exact).to_owned(),
        None => format!("{rest}*"),
    })
}

/// `/ns/shop/sa/web` is `shop/web`.
fn account(text: &str) -> Option<String> {
    let (namespace, account) = text.strip_prefix("/ns/")?.split_once("/sa/")?;
    Some(format!("{namespace}/{account}"))
}

fn all_text(kind: Kind, all: &[(Atom, bool)]) -> String {
    let met: Vec<&Atom> = all.iter().filter(|(_, expected)| *expected).map(|(atom, _)| atom).collect();
    let refused = || all.iter().filter(|(_, expected)| !*expected).map(|(atom, _)| atom);
    match (kind, met.as_slice()) {
        // `*suffix`; the other atom only says that it is a SPIFFE ID.
        (Kind::Principal, [Atom::PeerUri(Pattern::Prefix(scheme)), Atom::PeerUri(Pattern::Suffix(end))])
            if &**scheme == SCHEME =>
        {
            format!("*{end}")
        }
        (Kind::TrustDomain, [Atom::PeerIsWorkload, Atom::PeerUri(Pattern::Contains(end))]) => {
            format!("*{}", end.strip_suffix("/ns/").unwrap_or(end))
        }
        // Of names that have not the form of a workload's.
        (Kind::TrustDomain, [Atom::PeerUri(Pattern::Contains(end))]) => {
            format!("*{}", end.strip_suffix('/').unwrap_or(end))
        }
        (
            Kind::Namespace,
            [
                Atom::PeerIsWorkload,
                Atom::PeerUri(Pattern::Contains(start)),
                Atom::PeerUri(Pattern::Contains(end)),
            ]
            | [Atom::PeerUri(Pattern::Contains(start)), Atom::PeerUri(Pattern::Contains(end))],
        ) => {
            let start = start.strip_prefix("/ns/").unwrap_or(start);
            let end = end.strip_suffix("/sa/").or_else(|| end.strip_suffix('/')).unwrap_or(end);
            format!("{start}*{end}")
        }
        (
            Kind::Account,
            [Atom::PeerUri(Pattern::Prefix(_)), Atom::PeerUri(Pattern::Suffix(id) | Pattern::Contains(id))],
        ) => account(id.trim_end_matches('/')).unwrap_or_else(|| id.to_string()),
        (
            Kind::Account,
            [
                Atom::PeerUri(Pattern::Contains(of)),
                Atom::PeerUri(Pattern::Suffix(name) | Pattern::Contains(name)),
            ],
        ) => {
            let namespace = of.trim_start_matches("/ns/").trim_end_matches('/');
            format!("{namespace}/{}", name.trim_start_matches("/sa/").trim_end_matches('/'))
        }
        (
            _,
            [
                Atom::Metadata { path: one, value: issuer, .. },
                Atom::Metadata { path: two, value: subject, .. },
            ],
        ) if one.last().is_some_and(|key| &**key == "iss")
            && two.last().is_some_and(|key| &**key == "sub") =>
        {
            match (issuer, subject) {
                (Pattern::NotEmpty, Pattern::NotEmpty) => "*".to_owned(),
                _ => format!("{issuer}/{subject}"),
            }
        }
        _ => {
            let each = met.iter().map(|atom| atom_text(kind, atom));
            let texts: Vec<String> =
                each.chain(refused().map(|atom| format!("not {}", atom_text(kind, atom)))).collect();
            texts.join(" and ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authz::model::Shape;
    use crate::authz::resource::Resource;
    use crate::authz::resource::Spec;

    fn uri(pattern: Pattern) -> Value {
        Value::Is(Atom::PeerUri(pattern))
    }

    #[test]
    fn a_value_reads_as_its_author_wrote_it() {
        let claim = |name, value| (Atom::claim([name], Shape::Text, Pattern::of(value)), true);
        let peer = |pattern| (Atom::PeerUri(pattern), true);
        for (field, one, expected) in [
            ("principals", uri(Pattern::Exact("spiffe://td/ns/a/sa/b".into())), "td/ns/a/sa/b"),
            ("principals", uri(Pattern::Prefix("spiffe://td/ns/a/".into())), "td/ns/a/*"),
            ("principals", Value::Is(Atom::Peer), "*"),
            (
                "notPrincipals",
                Value::All(vec![peer(Pattern::Prefix(SCHEME.into())), peer(Pattern::Suffix("/sa/b".into()))]),
                "*/sa/b",
            ),
            ("namespaces", uri(Pattern::Contains("/ns/shop/".into())), "shop"),
            ("namespaces", uri(Pattern::Contains("/ns/shop".into())), "shop*"),
            ("serviceAccounts", uri(Pattern::Suffix("/ns/shop/sa/web".into())), "shop/web"),
            ("serviceAccounts", uri(Pattern::Contains("/ns/shop/sa/web/".into())), "shop/web"),
            ("trustDomains", uri(Pattern::Prefix("spiffe://td/".into())), "td"),
            (
                "trustDomains",
                Value::All(vec![(Atom::PeerIsWorkload, true), peer(Pattern::Contains(".org/ns/".into()))]),
                "*.org",
            ),
            ("requestPrincipals", Value::All(vec![claim("iss", "a"), claim("sub", "*")]), "a/*"),
            ("requestPrincipals", Value::All(vec![claim("iss", "*"), claim("sub", "*")]), "*"),
            ("paths", Value::Is(Atom::Path(Pattern::of("/a*"))), "/a*"),
        ] {
            assert_eq!(value(&Field::List(field), &one), expected, "{field} {one:?}");
        }
    }

    #[test]
    fn both_forms_of_a_service_account_are_one_value() {
        let term = Term {
            field: Field::List("serviceAccounts"),
            negated: false,
            values: vec![
                uri(Pattern::Suffix("/ns/shop/sa/web".into())),
                uri(Pattern::Contains("/ns/shop/sa/web/".into())),
            ],
        };
        assert_eq!(values(&term), ["shop/web"]);
    }

    #[test]
    fn what_is_lowered_reads_as_it_was_written_whether_it_lets_in_or_keeps_out() {
        for (field, text) in [
            ("principals", "td/ns/a/sa/b"),
            ("principals", "*/sa/b"),
            ("namespaces", "shop"),
            ("namespaces", "sh*"),
            ("namespaces", "*-prod"),
            ("namespaces", "a*b"),
            ("serviceAccounts", "shop/web"),
            ("trustDomains", "td"),
            ("trustDomains", "*.org"),
        ] {
            for action in ["ALLOW", "DENY"] {
                let object = json!({
                    "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                    "metadata": {"namespace": "shop", "name": "p"},
                    "spec": {"action": action, "rules": [{"from": [{"source": {field: [text]}}]}]},
                });
                let Spec::AuthorizationPolicy(lowered) = Resource::read(&object).unwrap().spec else {
                    panic!("it is another kind")
                };
                let term = &lowered.policy.rules[0].from[0].terms[0];
                assert_eq!(values(term), [text], "{action} {field}");
            }
        }
    }
}
