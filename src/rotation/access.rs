//! Who may order what: on the Unix socket the user that runs the CA, and root; over TLS whom Kubernetes allows it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authentication::v1::TokenReviewSpec;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::authorization::v1::SubjectAccessReviewSpec;
use kube::Client;
use kube::Resource;
use kube::api::PostParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::attest::REVIEW_TOKENS;
use crate::k8s;

/// The API group and the resource that Kubernetes RBAC grants verbs on.
pub const GROUP: &str = "burgrave.dev";
/// See [`GROUP`].
pub const RESOURCE: &str = "authorities";
/// What we must be allowed to do to know what operators may, besides reviewing their tokens.
const REVIEW_ACCESS: k8s::Rule =
    k8s::Rule { group: "authorization.k8s.io", resource: "subjectaccessreviews", verb: "create" };
/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many may be under way: whoever floods us waits in our queue.
const AT_ONCE: usize = 16;

/// Asks Kubernetes who somebody is, and what they may.
pub struct Guard {
    client: Client,
    turns: Semaphore,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

#[derive(Deserialize)]
struct Reviewed {
    #[serde(default)]
    status: k8s_openapi::api::authentication::v1::TokenReviewStatus,
}

#[derive(Deserialize)]
struct Allowed {
    #[serde(default)]
    status: k8s_openapi::api::authorization::v1::SubjectAccessReviewStatus,
}

impl Guard {
    /// Asks by `client`.
    pub fn new(client: Client) -> Self {
        Self { client, turns: Semaphore::new(AT_ONCE) }
    }

    /// Who shows this token, if they may do `verb`.
    ///
    /// # Errors
    /// If they may not, are nobody, or it cannot be found out.
    pub async fn admit(&self, token: Option<&str>, verb: &str) -> Result<String, Status> {
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(Status::unauthenticated(
                "a bearer token is needed: that of your kubeconfig, or one from `kubectl create token`",
            ));
        };
        let _turn = self.turns.acquire().await.map_err(|_| Status::unavailable("the CA is stopping"))?;
        let user = self.review(token).await?;
        let name = user.username.clone().unwrap_or_default();
        match self.may(user, verb).await? {
            true => Ok(name),
            false => Err(Status::permission_denied(format!(
                "`{name}` may not `{verb}` {RESOURCE}.{GROUP}; it takes a ClusterRole with apiGroups [{GROUP}], resources [{RESOURCE}], verbs [{verb}], as in deploy/22-rbac-operator.yaml"
            ))),
        }
    }

    async fn review(&self, token: &str) -> Result<UserInfo, Status> {
        // Without an audience it is the API server's own: what a kubeconfig's token is for.
        let question = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let path = TokenReview::url_path(&(), None);
        let answer: Result<Reviewed, _> = self.ask(&path, &question, "TokenReview", REVIEW_TOKENS).await;
        // Whoever is told this may be anybody.
        let answer = answer.map_err(|_| {
            Status::unavailable("it cannot be found out at the moment who calls; the log of the CA says why")
        })?;
        match (answer.status.authenticated, answer.status.user) {
            (Some(true), Some(user)) => Ok(user),
            _ => Err(Status::unauthenticated("the API server does not know the token; it may have expired")),
        }
    }

    async fn may(&self, user: UserInfo, verb: &str) -> Result<bool, Status> {
        let extra = user.extra.unwrap_or_default();
        let question = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra: Some(extra.into_iter().collect::<BTreeMap<_, _>>()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some(RESOURCE.to_owned()),
                    verb: Some(verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let path = SubjectAccessReview::url_path(&(), None);
        let answer: Allowed = self
            .ask(&path, &question, "SubjectAccessReview", REVIEW_ACCESS)
            .await
            .map_err(Status::unavailable)?;
        Ok(answer.status.allowed)
    }

    /// As text, and read here: kube writes what it cannot read into the log, and a review repeats the token.
    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl serde::Serialize,
        kind: &str,
        rule: k8s::Rule,
    ) -> Result<T, String> {
        let failed = |error: String| {
            tracing::warn!(error, "an operator cannot be admitted at the moment");
            error
        };
        let late = || format!("the API server did not answer the {kind} within {} s", TIMEOUT.as_secs());
        let body = serde_json::to_vec(question).map_err(|error| failed(error.to_string()))?;
        let request = kube::core::Request::new(path)
            .create(&PostParams::default(), body)
            .map_err(|error| failed(error.to_string()))?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.request_text(request))
            .await
            .map_err(|_| failed(late()))?
            .map_err(|error| failed(k8s::unanswered(&error, kind, rule)))?;
        serde_json::from_str(&answer).map_err(|_| failed(format!("the API server's answer is not a {kind}")))
    }
}
