//! Pure: which tokens are believed, and whether plain text may be spoken: is that otherwise, if these policies take the place of those?

use serde_json::Value;
use serde_json::json;

use crate::authz::Applied;
use crate::authz::JwtIssuer;
use crate::authz::Mtls;
use crate::authz::MtlsMode;

/// What changes besides decisions, each as it was and as it is.
#[derive(Debug, Default)]
pub(super) struct Terms {
    tokens: Option<(Vec<String>, Vec<String>)>,
    mtls: Option<(String, String)>,
}

impl Terms {
    /// What is otherwise in `new`.
    pub(super) fn between(old: &Applied, new: &Applied) -> Self {
        let (was, is) = (nameless(old), nameless(new));
        let tokens = (was != is).then(|| (told(&old.authentication, &is), told(&new.authentication, &was)));
        let (was, is) = (effective(&old.mtls), effective(&new.mtls));
        Self { tokens, mtls: (was != is).then(|| (of_mtls(&was), of_mtls(&is))) }
    }

    /// Whether nothing is.
    pub(super) fn is_same(&self) -> bool {
        self.tokens.is_none() && self.mtls.is_none()
    }

    /// In words, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((was, is)) = &self.tokens {
            let listed = |all: &[String]| match all {
                [] => "none".to_owned(),
                all => all.join("; "),
            };
            lines.push("  other tokens are believed".to_owned());
            lines.push(format!("    was: {}", listed(was)));
            lines.push(format!("    is:  {}", listed(is)));
        }
        if let Some((was, is)) = &self.mtls {
            lines.push("  mutual TLS is asked for otherwise".to_owned());
            lines.push(format!("    was: {was}"));
            lines.push(format!("    is:  {is}"));
        }
        lines
    }

    /// For machines: what has changed has `old` and `new`.
    pub(super) fn to_json(&self) -> (Value, Value) {
        let tokens = self.tokens.as_ref().map(|(old, new)| json!({ "old": old, "new": new }));
        let mtls = self.mtls.as_ref().map(|(old, new)| json!({ "old": old, "new": new }));
        (json!(tokens), json!(mtls))
    }
}

/// The issuers without the names of the objects that name them, which change nothing for a token.
fn nameless(applied: &Applied) -> Vec<JwtIssuer> {
    applied.authentication.iter().map(without_name).collect()
}

fn without_name(issuer: &JwtIssuer) -> JwtIssuer {
    let mut issuer = issuer.clone();
    issuer.by.name.clear();
    issuer.by.namespace.clear();
    issuer.index = 0;
    issuer
}

/// Issuers in words; of those that are not among `others`, with the object.
fn told(all: &[JwtIssuer], others: &[JwtIssuer]) -> Vec<String> {
    let each = all.iter().map(|one| match others.contains(&without_name(one)) {
        true => format!("those of {}", one.issuer),
        false => format!("those of {}, as rule {} of {} has it", one.issuer, one.index, one.by),
    });
    each.collect()
}

/// Without ports that ask what all others do.
fn effective(mtls: &Mtls) -> Mtls {
    let mut mtls = mtls.clone();
    let mode = mtls.mode;
    mtls.ports.retain(|_, of_port| *of_port != mode);
    mtls
}

fn of_mtls(mtls: &Mtls) -> String {
    let of_port = |(port, mode): (&u16, &MtlsMode)| format!("; port {port}: {}", mode.as_str());
    mtls.mode.as_str().to_owned() + &mtls.ports.iter().map(of_port).collect::<String>()
}
