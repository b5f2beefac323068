//! May we do that? Asked at start, so that a missing rule is a sentence and not a failed request at night; and what to say when
//! the API server does not answer a question.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReviewSpec;
use kube::Api;
use kube::Client;
use kube::api::PostParams;

/// How long the answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One thing that RBAC allows or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// API group.
    pub group: &'static str,
    /// Resource, in the plural.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
}

/// A rule that we lack, with the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "we may not `{verb}` `{resource}.{group}`; give the CA's service account a ClusterRole with apiGroups [{group}], resources [{resource}], verbs [{verb}], or bind it to `system:auth-delegator`"
)]
pub struct Denied {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
}

/// How the question went.
#[derive(Debug, thiserror::Error)]
pub enum PermissionCheck {
    /// The rule is missing.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The API server did not answer.
    #[error("the API server did not say within {} s what we may do", TIMEOUT.as_secs())]
    Silent,
    /// The API server could not be asked.
    #[error("the API server cannot be asked what we may do: {0}")]
    Unanswered(#[from] Box<kube::Error>),
}

/// Why the API server did not answer a question, in a sentence with a next step. Questions are objects of `kind`, such as
/// TokenReview, that are made by `rule`.
pub fn unanswered(error: &kube::Error, kind: &str, rule: Rule) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "the API server forbids {kind}s to us: {}; grant `{}` on `{}.{}`",
            status.message, rule.verb, rule.resource, rule.group
        ),
        kube::Error::Api(status) if status.code == 401 => format!(
            "the API server does not accept our own credentials: {}; check the CA's service account or kubeconfig",
            status.message
        ),
        // The display of transport errors stops at the first cause; the last one says what happened.
        other => {
            let mut cause: &dyn std::error::Error = other;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            format!("the API server cannot be asked for a {kind}: {cause}")
        }
    }
}

/// Asks the API server whether we may do what `rule` says.
///
/// # Errors
/// If we may not, or it cannot be asked.
pub async fn may(client: &Client, rule: Rule) -> Result<(), PermissionCheck> {
    let question = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(rule.group.to_owned()),
                resource: Some(rule.resource.to_owned()),
                verb: Some(rule.verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let (reviews, options) = (Api::<SelfSubjectAccessReview>::all(client.clone()), PostParams::default());
    let answer = tokio::time::timeout(TIMEOUT, reviews.create(&options, &question))
        .await
        .map_err(|_| PermissionCheck::Silent)?
        .map_err(Box::new)?;
    match answer.status.is_some_and(|status| status.allowed) {
        true => Ok(()),
        false => Err(Denied { group: rule.group, resource: rule.resource, verb: rule.verb }.into()),
    }
}
