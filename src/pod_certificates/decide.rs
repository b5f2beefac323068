//! Pure: does this request get a certificate, a denial, or does it wait?

use time::OffsetDateTime;

use crate::attest::Attested;
use crate::attest::ClaimedPod;
use crate::attest::LivePod;
use crate::attest::NotThatPod;
use crate::issuance::NotGranted;
use crate::issuance::NotPrepared;
use crate::issuance::Refused;
use crate::pod_certificates::hindrance::Hindrance;
use crate::pod_certificates::request::PodRequest;
use crate::pod_certificates::times::PodProfile;
use crate::signer::Issuer;
use crate::x509::csr::InvalidCsr;

/// The longest message of a denial, in characters.
const MAX_MESSAGE: usize = 1024;

/// What is known of a request's pod.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look<'a> {
    /// What the watch of pods has shown, which may lag behind.
    Watched(Option<&'a LivePod>),
    /// What the API server said when it was asked just now.
    Fresh(Option<&'a LivePod>),
}

/// Under which conditions there are certificates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// How long they live.
    pub(super) profile: &'a PodProfile,
    /// From when to when the issuer is valid.
    pub(super) issuer_valid: (OffsetDateTime, OffsetDateTime),
    /// The time.
    pub(super) now: OffsetDateTime,
}

/// A certificate is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Issue {
    /// Whose.
    pub(super) caller: Attested,
    /// For how many seconds from now.
    pub(super) seconds: i64,
}

/// Why a request gets no certificate now.
#[derive(Debug)]
pub(super) enum No {
    /// Nor ever.
    Deny(Denial),
    /// It waits.
    Wait(Hindrance),
    /// The pod has to be read freshly first: what the watch has shown speaks against the request, and may be old.
    LookAfresh,
}

/// A denial, as it is written into the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub(super) struct Denial {
    /// The condition's reason. The first two are Kubernetes' own words.
    pub(super) reason: &'static str,
    /// What is wrong and what to do, of at most a thousand characters and without control characters.
    pub(super) message: String,
    /// A short name for logs and metrics, from a closed set.
    pub(super) label: &'static str,
}

impl<'a> Terms<'a> {
    /// The terms under `issuer` at `now`.
    pub(super) fn under(issuer: &Issuer, profile: &'a PodProfile, now: OffsetDateTime) -> Self {
        Self { profile, issuer_valid: (issuer.not_before(), issuer.not_after()), now }
    }
}

impl Denial {
    fn new(reason: &'static str, label: &'static str, message: &str) -> Self {
        let message = message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
        Self { reason, message: message.take(MAX_MESSAGE).collect(), label }
    }
}

/// What becomes of `request`. Whether its key is one of ours shows when its signature is verified: see [`refusal`].
///
/// # Errors
/// If it gets no certificate now.
pub(super) fn decide(request: &PodRequest, look: Look<'_>, terms: &Terms<'_>) -> Result<Issue, No> {
    acceptable(request)?;
    let caller = attest(request, look)?;
    let seconds = terms.profile.life(request.max_expiration, terms.issuer_valid, terms.now)?;
    Ok(Issue { caller, seconds })
}

/// What can be said against a request without looking at anything else.
fn acceptable(request: &PodRequest) -> Result<(), No> {
    // Not denied, which would be final: the same pod gets its certificate once its kubelet is a newer one.
    if request.stub.is_empty() {
        return Err(Hindrance::OldKubelet(request.full_name()).into());
    }
    if request.annotation_keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = request.annotation_keys.iter().map(|key| format!("`{}`", short(key))).collect();
    let message = format!(
        "this signer understands no user annotations, and these are not to be ignored: {}; take them out of the pod's podCertificate volume source",
        keys.join(", ")
    );
    Err(Denial::new("InvalidUnverifiedUserAnnotations", "user_annotations", &message).into())
}

fn short(key: &str) -> String {
    key.chars().take(128).collect()
}

fn attest(request: &PodRequest, look: Look<'_>) -> Result<Attested, No> {
    let pod = &request.pod;
    match look {
        Look::Watched(live) => live.and_then(|live| pod.attest(live).ok()).ok_or(No::LookAfresh),
        Look::Fresh(Some(live)) => pod.attest(live).map_err(|why| mismatch(pod, &why)),
        // Nobody waits for a denial of a pod that is gone: its request is removed with it. And a pod that is about to come
        // must not be denied for good.
        Look::Fresh(None) => Err(Hindrance::PodAbsent(format!("{}/{}", pod.namespace, pod.name)).into()),
    }
}

fn mismatch(pod: &ClaimedPod, why: &NotThatPod) -> No {
    match why {
        // Its containers may run on for a while with what they have; a denial would freeze all of their volume.
        NotThatPod::Terminating(_) => Hindrance::PodEnds(format!("{}/{}", pod.namespace, pod.name)).into(),
        NotThatPod::Uid(_) | NotThatPod::ServiceAccount(_) | NotThatPod::Node(_) => {
            Denial::new("PodMismatch", why.reason(), &why.to_string()).into()
        }
    }
}

/// What a refusal by the steps of issuance means for the request.
pub(super) fn refusal(refused: &Refused) -> No {
    match refused {
        Refused::Csr(InvalidCsr::Algorithm) => No::Deny(Denial::new(
            "UnsupportedKeyType",
            refused.reason(),
            "this signer issues for keyType ECDSAP256, ECDSAP384, ED25519, RSA3072 and RSA4096, and the request's key is of another; set one of these in the pod's podCertificate volume source, ECDSAP256 if in doubt",
        )),
        Refused::Csr(_) | Refused::Prepare(NotPrepared::Key(_)) => {
            No::Deny(Denial::new("InvalidStubRequest", refused.reason(), &refused.to_string()))
        }
        Refused::Grant(NotGranted::Identity(_)) => {
            No::Deny(Denial::new("NoIdentity", refused.reason(), &refused.to_string()))
        }
        Refused::Prepare(NotPrepared::IssuerExpired(end)) => Hindrance::IssuerExpired(*end).into(),
        Refused::Prepare(NotPrepared::IssuerNotYetValid(begin)) => {
            Hindrance::IssuerNotYetValid(*begin).into()
        }
        Refused::Sign(error) => Hindrance::Signer(error.to_string()).into(),
        Refused::Prepare(NotPrepared::Lint(_)) | Refused::Grant(_) | Refused::Attest(_) => {
            Hindrance::Defect(refused.to_string()).into()
        }
    }
}

impl From<Denial> for No {
    fn from(denial: Denial) -> Self {
        Self::Deny(denial)
    }
}

impl From<Hindrance> for No {
    fn from(hindrance: Hindrance) -> Self {
        Self::Wait(hindrance)
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
