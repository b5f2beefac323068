//! The CA's own end of SDS: agents subscribe to the roots and to word of the authority, and what they acknowledge is evidence.
//!
//! Who opens a stream is proven as for a certificate, and no private key is ever on it.

use std::sync::Arc;

use futures_util::stream::Empty;
use tokio::sync::watch;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::attest::Attested;
use crate::attest::Attestor;
use crate::attest::Credentials;
use crate::attest::NotAttested;
use crate::authority::Held;
use crate::census::Caller;
use crate::census::Census;
use crate::census::Stream;
use crate::census::Word;
use crate::clock::Clock;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::issuance::bearer_token;
use crate::proto::envoy::DeltaDiscoveryRequest;
use crate::proto::envoy::DeltaDiscoveryResponse;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::DiscoveryResponse;
use crate::proto::envoy::SecretDiscoveryService;
use crate::proto::envoy::SecretDiscoveryServiceServer;
use crate::sds::Ear;
use crate::sds::Notice;
use crate::sds::Responses;
use crate::sds::SecretService;
use crate::sds::Secrets;
use crate::sds::Trust;
use crate::sds::Version;
use crate::sds::names;

/// Serves agents.
#[derive(Clone, Debug)]
pub struct AgentService {
    /// Serves the stream itself.
    pub secrets: SecretService,
    /// Proves who opens it.
    pub attestor: Arc<dyn Attestor>,
    /// Trust domain of their identities.
    pub trust_domain: TrustDomain,
    /// Keeps what they acknowledge.
    pub census: Census,
}

impl AgentService {
    /// The gRPC service, ready to be added to a server.
    pub fn server(self) -> SecretDiscoveryServiceServer<Self> {
        SecretDiscoveryServiceServer::new(self)
    }

    /// Proves who opens a stream.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        if let Some(why) = self.census.fenced() {
            return Err(Status::unavailable(why));
        }
        let credentials = Credentials { token: bearer_token(request.metadata()) };
        let attested = self.attestor.attest(&credentials).await.map_err(|why| {
            tracing::info!(reason = why.reason(), error = %why, "a stream is refused");
            match why {
                NotAttested::Unavailable(_) => {
                    Status::unavailable("the caller cannot be authenticated at the moment")
                }
                _ => Status::unauthenticated("request authenticate failure; the CA's log has the reason"),
            }
        })?;
        let (namespace, account) = (attested.namespace(), attested.service_account());
        let id = SpiffeId::of_service_account(&self.trust_domain, namespace, account)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        Ok(caller(&attested, id.to_string()))
    }
}

fn caller(attested: &Attested, spiffe_id: String) -> Caller {
    let pod = attested.pod().map(|pod| (format!("{}/{}", attested.namespace(), pod.name), pod.uid.clone()));
    Caller { spiffe_id, pod, node: attested.node().map(|node| node.name.clone()), by_files: false }
}

/// Writes down what an agent acknowledges.
#[derive(Debug)]
struct Listener(Stream);

impl Ear for Listener {
    fn called(&self, node: &str) {
        self.0.called(node);
    }

    fn pushed(&self, name: &str, version: &Version) {
        if let Some(word) = word(name, version) {
            self.0.sent(&word);
        }
    }

    fn answered(&self, name: &str, version: &Version, answer: Result<(), &str>) {
        if let Some(word) = word(name, version) {
            self.0.answered(&word, answer);
        }
    }
}

fn word(name: &str, version: &Version) -> Option<Word> {
    match name {
        names::TRUST => Some(Word::Roots(version.to_string())),
        names::ISSUER => Some(Word::Authority(version.to_string())),
        _ => None,
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for AgentService {
    type StreamSecretsStream = Responses;
    type DeltaSecretsStream = Empty<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        requests: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let caller = self.caller(&requests).await?;
        let listener = Listener(self.census.opened(&caller));
        Ok(self.secrets.stream(requests.into_inner(), Some(Box::new(listener))))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("use StreamSecrets"))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("use StreamSecrets"))
    }
}

/// Keeps `secrets` what agents have to be told, as `held` changes: the roots, and who signs. Ends with its source.
pub async fn announce(mut held: watch::Receiver<Held>, secrets: watch::Sender<Arc<Secrets>>, clock: Clock) {
    loop {
        let now = held.borrow_and_update().clone();
        secrets.send_replace(Arc::new(announcement(&now, &clock)));
        if held.changed().await.is_err() {
            return;
        }
    }
}

/// What agents have to be told.
pub fn announcement(held: &Held, clock: &Clock) -> Secrets {
    let trust = match Trust::new(held.issuer.bundle().clone(), clock.now()) {
        Ok(trust) => Some(trust),
        Err(error) => {
            tracing::error!(%error, "the roots are not sent to agents");
            None
        }
    };
    let active = held.state.active();
    let notice = Notice {
        authority: active.id.to_string(),
        certificate: active.certificate().clone(),
        window: held.state.rotation().map_or(std::time::Duration::ZERO, |one| one.window),
    };
    Secrets { trust, notice: Some(notice), ..Secrets::default() }
}
