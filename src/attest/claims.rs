//! Pure: what does a service-account token say of itself? (Kubernetes bound tokens, RFC 7519)

use serde::Deserialize;

use crate::attest::Attested;
use crate::attest::Bound;
use crate::attest::NotAttested;

/// The claims of a Kubernetes service-account token that matter here. They prove nothing until the token's
/// signature has been verified.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) exp: Option<i64>,
    pub(super) nbf: Option<i64>,
    pub(super) aud: Audiences,
    pub(super) jti: Option<String>,
    #[serde(rename = "kubernetes.io")]
    pub(super) kubernetes: Option<KubernetesClaims>,
}

/// `aud` may be one text or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Audiences {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KubernetesClaims {
    pub(super) pod: Option<Reference>,
    pub(super) node: Option<Reference>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Reference {
    name: String,
    uid: String,
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Audiences {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl From<Reference> for Bound {
    fn from(found: Reference) -> Self {
        Self { name: found.name, uid: found.uid }
    }
}

/// Namespace and name in `system:serviceaccount:<namespace>:<name>`.
pub(super) fn service_account(username: &str) -> Result<(&str, &str), NotAttested> {
    username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains(':'))
        .ok_or_else(|| NotAttested::NotAServiceAccount(username.to_owned()))
}

impl Claims {
    /// The caller, once the signature over these claims has been verified.
    pub(super) fn proven(self) -> Result<Attested, NotAttested> {
        let (namespace, name) = service_account(&self.sub)?;
        let kubernetes = self.kubernetes.unwrap_or_default();
        Ok(Attested {
            namespace: namespace.to_owned(),
            service_account: name.to_owned(),
            pod: kubernetes.pod.map(Bound::from),
            node: kubernetes.node.map(Bound::from),
            credential_id: self.jti.map(|id| format!("JTI={id}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_service_account_name_is_one() {
        assert_eq!(service_account("system:serviceaccount:shop:web"), Ok(("shop", "web")));
        for other in [
            "",
            "alice",
            "system:serviceaccount:",
            "system:serviceaccount:shop",
            "system:serviceaccount::web",
            "system:serviceaccount:shop:",
            "system:serviceaccount:a:b:c",
            "system:node:n1",
        ] {
            assert!(service_account(other).is_err(), "{other}");
        }
    }

    #[test]
    fn audiences_come_as_one_text_or_several() {
        let one: Claims = serde_json::from_str(r#"{"aud":"a"}"#).unwrap();
        let many: Claims = serde_json::from_str(r#"{"aud":["a","b"]}"#).unwrap();
        assert_eq!(one.aud.as_slice(), ["a"]);
        assert_eq!(many.aud.as_slice(), ["a", "b"]);
    }
}
