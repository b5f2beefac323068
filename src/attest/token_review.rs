//! Asks the API server, so that a deleted pod or service account is refused at once. (TokenReview, authentication.k8s.io/v1)

use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authentication::v1::TokenReviewSpec;
use kube::Api;
use kube::api::PostParams;

use crate::attest::Attested;
use crate::attest::Attestor;
use crate::attest::Credentials;
use crate::attest::NotAttested;
use crate::attest::verdict;
use crate::clock::Clock;

/// How long one review may take before the caller is told to come again.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Proves callers by the API server's TokenReview.
#[derive(Debug)]
pub struct TokenReviewAttestor {
    reviews: ReviewApi,
    audiences: Vec<String>,
    clock: Clock,
}

/// `kube::Api` prints its whole client; we do not.
struct ReviewApi(Api<TokenReview>);

impl std::fmt::Debug for ReviewApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenReviews")
    }
}

impl TokenReviewAttestor {
    /// Reviews tokens with `client`; a token must be for one of `audiences`.
    pub fn new(client: kube::Client, audiences: Vec<String>, clock: Clock) -> Self {
        Self { reviews: ReviewApi(Api::all(client)), audiences, clock }
    }

    async fn review(&self, token: &str) -> Result<Attested, NotAttested> {
        let question = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(self.audiences.clone()) },
            ..TokenReview::default()
        };
        let options = PostParams::default();
        let answer = tokio::time::timeout(TIMEOUT, self.reviews.0.create(&options, &question))
            .await
            .map_err(|_| {
                NotAttested::Unavailable(format!(
                    "the API server did not answer the TokenReview within {} s",
                    TIMEOUT.as_secs()
                ))
            })?
            .map_err(|error| NotAttested::Unavailable(unavailable(&error)))?;
        verdict::of(answer.status.unwrap_or_default(), &self.audiences, token, self.clock.now())
    }
}

impl Attestor for TokenReviewAttestor {
    fn attest<'a>(&'a self, shown: &'a Credentials) -> BoxFuture<'a, Result<Attested, NotAttested>> {
        Box::pin(async move {
            match shown.token.as_deref() {
                None | Some("") => Err(NotAttested::NoToken),
                Some(token) => self.review(token).await,
            }
        })
    }
}

/// What went wrong on the way to the API server, in a sentence with a next step.
fn unavailable(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "the API server forbids TokenReviews to us: {}; grant `create` on `tokenreviews.authentication.k8s.io`",
            status.message
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
            format!("the API server cannot be asked for a TokenReview: {cause}")
        }
    }
}
