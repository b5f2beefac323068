//! Answers proxies that ask, for each request, whether it may come in (Envoy's ext_authz).
//!
//! Whatever goes wrong on our side is answered with no, and not with an error: what a proxy does about errors is for its operator to
//! set, and may be to let everything in.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::attest::Attested;
use crate::attest::NotAttested;
use crate::authz::audit::DecisionAudit;
use crate::authz::callers::Callers;
use crate::authz::check::Asked;
use crate::authz::check::Trusted;
use crate::authz::check::Wording;
use crate::authz::check::answer;
use crate::authz::judge::Judge;
use crate::authz::ruling::Reason;
use crate::authz::ruling::Ruling;
use crate::issuance::bearer_token;
use crate::proto::envoy::Authorization;
use crate::proto::envoy::AuthorizationServer;
use crate::proto::envoy::CheckRequest;
use crate::proto::envoy::CheckResponse;

/// The largest question that is read, in bytes. A proxy gets an error for a larger one.
const MAX_QUESTION: usize = 1024 * 1024;

/// Answers questions.
#[derive(Clone, Debug)]
pub struct AuthorizationService {
    /// Which workload is asked about.
    pub about: About,
    /// Writes and counts what was decided.
    pub audit: DecisionAudit,
    /// Which proxies are believed when they tell the client's address.
    pub trusted: Trusted,
    /// How much clients are told.
    pub wording: Wording,
}

/// Which workload is asked about.
#[derive(Clone, Debug)]
pub enum About {
    /// The one beside us: on a socket of its own node, which only its proxy can reach.
    Own(Judge),
    /// The caller's own, and no other: who asks is proven by their token.
    Callers {
        /// Proves them.
        callers: Callers,
        /// Finds their workload.
        judges: Arc<dyn Judges>,
    },
}

/// Knows who judges for a workload.
pub trait Judges: fmt::Debug + Send + Sync {
    /// The judge for the workload of that caller; `None` if it is not known which that is.
    fn of<'a>(&'a self, caller: &'a Attested) -> BoxFuture<'a, Option<Judge>>;
}

/// Why there is no judge for a caller.
#[derive(Debug, thiserror::Error)]
enum NoJudge {
    #[error(transparent)]
    NotAttested(#[from] NotAttested),
    #[error("the workload of service account `{namespace}/{account}` is not known")]
    NoWorkload { namespace: String, account: String },
}

impl AuthorizationService {
    /// The gRPC service, ready to be added to a server.
    pub fn server(self) -> AuthorizationServer<Self> {
        AuthorizationServer::new(self).max_decoding_message_size(MAX_QUESTION)
    }

    async fn judge(&self, metadata: &MetadataMap) -> Result<Judge, NoJudge> {
        match &self.about {
            About::Own(judge) => Ok(judge.clone()),
            About::Callers { callers, judges } => {
                let caller = callers.caller(bearer_token(metadata)).await?;
                let unknown = || NoJudge::NoWorkload {
                    namespace: caller.namespace().to_owned(),
                    account: caller.service_account().to_owned(),
                };
                judges.of(&caller).await.ok_or_else(unknown)
            }
        }
    }

    fn refuse(&self, reason: Reason, why: &dyn std::error::Error) -> CheckResponse {
        let ruling = Ruling::denied(reason);
        self.audit.record_unasked(&ruling, why);
        answer(&ruling, self.wording)
    }

    async fn ruled(&self, metadata: &MetadataMap, question: CheckRequest) -> CheckResponse {
        let judge = match self.judge(metadata).await {
            Ok(judge) => judge,
            Err(why) => return self.refuse(Reason::UnknownAsker, &why),
        };
        let asked = match Asked::read(question, self.trusted) {
            Ok(asked) => asked,
            Err(why) => return self.refuse(Reason::Malformed, &why),
        };
        asked.with(|request| {
            let ruling = judge.rule_in_doubt(request, asked.doubts());
            self.audit.record(&ruling, request, asked.id());
            answer(&ruling, self.wording)
        })
    }
}

#[tonic::async_trait]
impl Authorization for AuthorizationService {
    async fn check(&self, question: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let (metadata, _, question) = question.into_parts();
        Ok(Response::new(self.ruled(&metadata, question).await))
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
