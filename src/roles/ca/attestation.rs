//! How callers are proven, and whether that still works.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::task::JoinSet;

use crate::attest::Attestor;
use crate::attest::JwtAttestor;
use crate::attest::REVIEW_TOKENS;
use crate::attest::TokenReviewAttestor;
use crate::clock::Clock;
use crate::config::AttestBy;
use crate::config::CaConfig;
use crate::k8s;
use crate::k8s::PermissionCheck;
use crate::roles::ca::complaints::Complaints;
use crate::roles::ca::complaints::Part;
use crate::roles::ca::error::CaError;

/// How soon an answer that was not yes is asked for again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often we ask whether we still may do what we may.
const NOW_AND_THEN: Duration = Duration::from_secs(30);

/// The attestor that is configured; `client` is there if it is needed.
pub(super) async fn attestor(
    config: &CaConfig,
    client: Option<&Client>,
    clock: &Clock,
    complaints: &Complaints,
    background: &mut JoinSet<()>,
) -> Result<Arc<dyn Attestor>, CaError> {
    let audiences = config.audiences.clone();
    match (&config.attest_by, client) {
        (AttestBy::Jwks { file, issuer }, _) => {
            let keys = std::fs::read_to_string(file)
                .map_err(|source| CaError::KeySetFile { path: file.clone(), source })?;
            Ok(Arc::new(JwtAttestor::new(issuer.clone(), &keys, audiences, clock.clone())?))
        }
        (AttestBy::TokenReview { kubeconfig }, client) => {
            let client = match client {
                Some(client) => client.clone(),
                None => k8s::connect(kubeconfig.as_deref()).await?,
            };
            match k8s::may(&client, REVIEW_TOKENS).await {
                Err(PermissionCheck::Denied(denied)) => return Err(denied.into()),
                Ok(()) => {}
                Err(unanswered) => complaints.set(Part::Callers, Some(unanswered.to_string())),
            }
            background.spawn(keep_asking(client.clone(), complaints.clone()));
            Ok(Arc::new(TokenReviewAttestor::new(client, audiences, clock.clone())))
        }
    }
}

/// Asks again and again whether we may review tokens: soon while the answer was never yes, now and then afterwards, as a
/// rule that was there can be taken away. An API server that is only away for a while does not make us unready: callers
/// are told to come again, and another CA could not do better.
async fn keep_asking(client: Client, complaints: Complaints) {
    loop {
        let is_well = complaints.about(Part::Callers).is_none();
        tokio::time::sleep(if is_well { NOW_AND_THEN } else { AGAIN }).await;
        match k8s::may(&client, REVIEW_TOKENS).await {
            Ok(()) => complaints.set(Part::Callers, None),
            Err(PermissionCheck::Denied(denied)) => complaints.set(Part::Callers, Some(denied.to_string())),
            Err(unanswered) if !is_well => complaints.set(Part::Callers, Some(unanswered.to_string())),
            Err(unanswered) => tracing::debug!(error = %unanswered, "the API server is away"),
        }
    }
}
