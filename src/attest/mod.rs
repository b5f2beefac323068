//! Who is asking? A bearer token goes in; a proven Kubernetes identity, or the reason against it, comes out. Where a
//! kubelet asks for a pod, a live pod stands in the token's place ([`ClaimedPod::attest`]).
//!
//! [`Attested`] is evidence: its fields are private and only this folder makes one, so whatever was granted
//! to a caller was proven first.

mod claims;
pub(crate) mod jws;
mod jwt;
mod pod;
#[cfg(test)]
pub(crate) mod test_support;
mod token_review;
mod verdict;

use std::fmt;

use futures_util::future::BoxFuture;

pub use jwt::InvalidKeySet;
pub use jwt::JwtAttestor;
pub use pod::ApiPod;
pub use pod::ClaimedPod;
pub use pod::LivePod;
pub use pod::NotThatPod;
pub use token_review::REVIEW_TOKENS;
pub use token_review::TokenReviewAttestor;

/// What a caller shows. It has no readable `Debug`, as whoever reads the token can be the caller.
pub struct Credentials {
    /// The bearer token, if one came.
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Credentials").field("token", &token).finish()
    }
}

/// A proven caller: a Kubernetes service account, and the pod its token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    namespace: String,
    service_account: String,
    pod: Option<Bound>,
    node: Option<Bound>,
    credential_id: Option<String>,
}

/// An object that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl Attested {
    /// The service account's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account's name.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The pod the token is bound to, if it is bound to one.
    pub fn pod(&self) -> Option<&Bound> {
        self.pod.as_ref()
    }

    /// The node that pod runs on, if the cluster says so.
    pub fn node(&self) -> Option<&Bound> {
        self.node.as_ref()
    }

    /// The token's own identifier (`JTI=…`), which is safe to write down.
    pub fn credential_id(&self) -> Option<&str> {
        self.credential_id.as_deref()
    }
}

/// Why a caller is not who they might be. The reasons are for our log and metrics; outside, all of them but
/// [`NotAttested::Unavailable`] look the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAttested {
    /// No token came.
    #[error("the request carries no bearer token; send gRPC metadata `authorization: Bearer <token>`")]
    NoToken,
    /// The token is not for us.
    #[error("the token is not for this service: {0}; project one with the audience that the CA is set to")]
    WrongAudience(String),
    /// The token is too old.
    #[error("the token has expired; the client must read its token file again for each request")]
    Expired,
    /// The pod the token is bound to is gone.
    #[error("the pod that the token is bound to no longer exists")]
    PodGone,
    /// The service account is gone, or was made anew under the same name.
    #[error("the service account of the token no longer exists")]
    ServiceAccountGone,
    /// Signed by nobody we know: another cluster, or forged.
    #[error(
        "the token is not signed by this cluster's service-account issuer; it is of another cluster, or forged"
    )]
    UnknownSigner,
    /// Not a token at all.
    #[error("the token is not a service-account token: {0}")]
    Malformed(String),
    /// A proven user that is not a service account.
    #[error("`{0}` is not a service account; only service accounts get workload certificates")]
    NotAServiceAccount(String),
    /// It was refused, and the API server does not say more.
    #[error("the API server refused the token: {0}")]
    Refused(String),
    /// The attestor could not find out.
    #[error("{0}")]
    Unavailable(String),
}

impl NotAttested {
    /// A short name for logs and metrics, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::WrongAudience(_) => "wrong_audience",
            Self::Expired => "token_expired",
            Self::PodGone => "pod_gone",
            Self::ServiceAccountGone => "service_account_gone",
            Self::UnknownSigner => "unknown_signer",
            Self::Malformed(_) => "token_malformed",
            Self::NotAServiceAccount(_) => "not_a_service_account",
            Self::Refused(_) => "token_refused",
            Self::Unavailable(_) => "attestor_unavailable",
        }
    }
}

/// Something that proves callers.
pub trait Attestor: fmt::Debug + Send + Sync {
    /// Finds out who shows these credentials.
    ///
    /// # Errors
    /// If they prove nothing, or it cannot be found out now.
    fn attest<'a>(&'a self, shown: &'a Credentials) -> BoxFuture<'a, Result<Attested, NotAttested>>;
}
