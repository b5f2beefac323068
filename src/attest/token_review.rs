//! Asks the API server, so that a deleted pod or service account is refused at once. (TokenReview, authentication.k8s.io/v1)

use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authentication::v1::TokenReviewSpec;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use kube::Resource;
use kube::api::PostParams;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::attest::Attested;
use crate::attest::Attestor;
use crate::attest::Credentials;
use crate::attest::NotAttested;
use crate::attest::verdict;
use crate::clock::Clock;
use crate::k8s;

/// How long one review may take before the caller is told to come again.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many reviews may be under way.
const AT_ONCE: usize = 256;

/// What we must be allowed to do.
pub const REVIEW_TOKENS: k8s::Rule =
    k8s::Rule { group: "authentication.k8s.io", resource: "tokenreviews", verb: "create" };

/// Proves callers by the API server's TokenReview.
#[derive(Debug)]
pub struct TokenReviewAttestor {
    client: QuietClient,
    turns: Semaphore,
    audiences: Vec<String>,
    clock: Clock,
}

/// `kube::Client` has no `Debug`.
struct QuietClient(kube::Client);

impl std::fmt::Debug for QuietClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// The part of a TokenReview that the API server fills in.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: TokenReviewStatus,
}

impl TokenReviewAttestor {
    /// Reviews tokens with `client`; a token must be for one of `audiences`.
    pub fn new(client: kube::Client, audiences: Vec<String>, clock: Clock) -> Self {
        Self { client: QuietClient(client), turns: Semaphore::new(AT_ONCE), audiences, clock }
    }

    async fn review(&self, token: &str) -> Result<Attested, NotAttested> {
        if !verdict::is_token(token) {
            return Err(NotAttested::Malformed("it is not a JSON web token".to_owned()));
        }
        let late = |_| {
            let seconds = TIMEOUT.as_secs();
            NotAttested::Unavailable(format!(
                "the API server did not answer the TokenReview within {seconds} s"
            ))
        };
        let answer = tokio::time::timeout(TIMEOUT, self.ask(token)).await.map_err(late)??;
        let answer: Answer = serde_json::from_str(&answer).map_err(|_| {
            NotAttested::Unavailable("the API server's answer is not a TokenReview".to_owned())
        })?;
        verdict::of(answer.status, &self.audiences, token, self.clock.now())
    }

    /// The answer as text: kube writes one that it cannot read into the log, and this one repeats the token.
    async fn ask(&self, token: &str) -> Result<String, NotAttested> {
        let failed = |error: &dyn std::error::Error| NotAttested::Unavailable(error.to_string());
        // Whoever floods us with tokens waits in our queue, not in the API server's.
        let _turn = self.turns.acquire().await.map_err(|closed| failed(&closed))?;
        let question = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: Some(self.audiences.clone()) },
            ..TokenReview::default()
        };
        let body = serde_json::to_vec(&question).map_err(|error| failed(&error))?;
        let request = kube::core::Request::new(TokenReview::url_path(&(), None))
            .create(&PostParams::default(), body)
            .map_err(|error| failed(&error))?;
        self.client
            .0
            .request_text(request)
            .await
            .map_err(|error| NotAttested::Unavailable(k8s::unanswered(&error, "TokenReview", REVIEW_TOKENS)))
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
