//! The wire: `envoy.service.secret.v3.SecretDiscoveryService`. Turns the machine's effects into messages and does
//! nothing else.

use std::sync::Arc;

use futures_util::stream::Empty;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::proto::envoy::DeltaDiscoveryRequest;
use crate::proto::envoy::DeltaDiscoveryResponse;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::DiscoveryResponse;
use crate::proto::envoy::SecretDiscoveryService;
use crate::proto::envoy::SecretDiscoveryServiceServer;
use crate::sds::ear::Ear;
use crate::sds::encode;
use crate::sds::encode::SECRET_TYPE;
use crate::sds::metrics::SdsMetrics;
use crate::sds::redact::redact;
use crate::sds::secret::Secrets;
use crate::sds::subscribers::Entry;
use crate::sds::subscribers::Subscribers;
use crate::sds::subscription::Effect;
use crate::sds::subscription::Event;
use crate::sds::subscription::Request;
use crate::sds::subscription::Subscription;

/// Serves the latest of some secrets to every stream.
#[derive(Clone, Debug)]
pub struct SecretService {
    secrets: watch::Receiver<Arc<Secrets>>,
    subscribers: Subscribers,
    metrics: SdsMetrics,
    /// Whether those who subscribe are agents, which speak for their proxies.
    to_agents: bool,
    stop: CancellationToken,
}

type Responses = mpsc::Sender<Result<DiscoveryResponse, Status>>;

impl SecretService {
    /// Serves what `secrets` holds until `stop` is cancelled, and keeps book in `subscribers`.
    pub fn new(
        secrets: watch::Receiver<Arc<Secrets>>,
        subscribers: Subscribers,
        metrics: SdsMetrics,
        stop: CancellationToken,
    ) -> Self {
        Self { secrets, subscribers, metrics, to_agents: false, stop }
    }

    /// The same for agents, which speak for their proxies.
    pub fn to_agents(self) -> Self {
        Self { to_agents: true, ..self }
    }

    /// The gRPC service, ready to be added to a server.
    pub fn server(self) -> SecretDiscoveryServiceServer<Self> {
        SecretDiscoveryServiceServer::new(self)
    }

    /// Serves one stream; `ear` hears what happens on it.
    pub fn stream(
        &self,
        requests: Streaming<DiscoveryRequest>,
        ear: Option<Box<dyn Ear>>,
    ) -> Response<ReceiverStream<Result<DiscoveryResponse, Status>>> {
        let (responses, stream) = mpsc::channel(4);
        // The task ends with its stream: each of the two notices when the other is gone.
        tokio::spawn(self.clone().drive(requests, responses, ear));
        Response::new(ReceiverStream::new(stream))
    }

    /// Drives one stream until either side ends it.
    async fn drive(
        mut self,
        mut requests: Streaming<DiscoveryRequest>,
        responses: Responses,
        ear: Option<Box<dyn Ear>>,
    ) {
        let entry = self.subscribers.enter();
        self.metrics.opened();
        // What is pushed is what was decided on, even if something newer comes in between.
        let mut current = self.secrets.borrow_and_update().clone();
        let mut subscription = Subscription::new(current.offer());
        let end = loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => break Err(Status::unavailable("the server is stopping; ask again")),
                () = responses.closed() => break Ok(()),
                changed = self.secrets.changed() => match changed {
                    Ok(()) => {
                        current = self.secrets.borrow_and_update().clone();
                        Event::Offered(current.offer())
                    }
                    Err(_) => break Ok(()),
                },
                message = requests.message() => match message {
                    Ok(Some(message)) => match request(message, &entry, ear.as_deref()) {
                        Ok(request) => Event::Requested(request),
                        Err(refused) => break Err(refused),
                    },
                    Ok(None) | Err(_) => break Ok(()),
                },
            };
            let effects = match subscription.step(event) {
                Ok((next, effects)) => {
                    subscription = next;
                    effects
                }
                Err(refusal) => break Err(Status::resource_exhausted(refusal.to_string())),
            };
            entry.watches(subscription.names());
            for effect in effects {
                hear(&effect, ear.as_deref());
                self.perform(effect, &current, &entry, &responses).await;
            }
        };
        self.metrics.closed();
        tracing::debug!(error = end.as_ref().err().map(Status::message), "a discovery stream ended");
        if let Err(status) = end {
            // Whoever has hung up already does not want to know.
            let _ = responses.send(Err(status)).await;
        }
    }

    async fn perform(&self, effect: Effect, current: &Secrets, entry: &Entry, responses: &Responses) {
        match effect {
            Effect::Push { name, version, nonce } => {
                let response = encode::response(current, [name.as_str()], version.as_str(), nonce);
                tracing::debug!(resource = name, %version, "a secret is pushed");
                self.metrics.pushed(&name);
                entry.pushed(&name);
                let _ = responses.send(Ok(response)).await;
            }
            Effect::Acknowledged { name, version } => {
                tracing::debug!(resource = name, %version, "a proxy uses a secret");
                self.metrics.acknowledged(&name);
                entry.answered(&name, version, None);
            }
            // An agent that speaks for its proxies says "not yet" in the same words, and what it says is kept for operators.
            Effect::Rejected { name, version, error } if self.to_agents => {
                tracing::info!(resource = name, %version, error, "an agent has not moved yet");
                self.metrics.rejected(&name);
                entry.answered(&name, version, Some(error));
            }
            Effect::Rejected { name, version, error } => {
                tracing::error!(resource = name, %version, error, "a proxy rejected a secret and goes on with the one it had");
                self.metrics.rejected(&name);
                entry.answered(&name, version, Some(error));
            }
            Effect::Unknown { name } => {
                tracing::info!(
                    resource = redact(&name),
                    "a proxy waits for a secret that is not served (yet)"
                );
                self.metrics.unknown();
            }
            Effect::Stale { nonce } => {
                tracing::debug!(nonce = redact(&nonce), "a request answers no response of ours")
            }
        }
    }
}

/// Tells the ear what concerns it. Before the push goes out: its answer must not come first.
fn hear(effect: &Effect, ear: Option<&dyn Ear>) {
    let Some(ear) = ear else { return };
    match effect {
        Effect::Push { name, version, .. } => ear.pushed(name, version),
        Effect::Acknowledged { name, version } => ear.answered(name, version, Ok(())),
        Effect::Rejected { name, version, error } => ear.answered(name, version, Err(error)),
        Effect::Unknown { .. } | Effect::Stale { .. } => {}
    }
}

/// What the machine looks at in a message.
fn request(message: DiscoveryRequest, entry: &Entry, ear: Option<&dyn Ear>) -> Result<Request, Status> {
    // Envoy leaves the type out of later requests on a stream of one type only.
    if !message.type_url.is_empty() && message.type_url != SECRET_TYPE {
        return Err(Status::invalid_argument(format!("only `{SECRET_TYPE}` is served here")));
    }
    if let Some(node) = &message.node {
        entry.is_called(&node.id);
        if let Some(ear) = ear {
            ear.called(&node.id);
        }
    }
    Ok(Request {
        names: message.resource_names,
        version: message.version_info,
        nonce: message.response_nonce,
        error: message.error_detail.map(|detail| redact(&detail.message)),
    })
}

#[tonic::async_trait]
impl SecretDiscoveryService for SecretService {
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaSecretsStream = Empty<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        requests: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        Ok(self.stream(requests.into_inner(), None))
    }

    async fn fetch_secrets(
        &self,
        asked: tonic::Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let asked = asked.into_inner();
        if !asked.type_url.is_empty() && asked.type_url != SECRET_TYPE {
            return Err(Status::invalid_argument(format!("only `{SECRET_TYPE}` is served here")));
        }
        let secrets = self.secrets.borrow().clone();
        let offer = secrets.offer();
        let names = &asked.resource_names;
        let known: Vec<_> =
            offer.iter().filter(|(name, _)| names.is_empty() || names.contains(name)).collect();
        let version = known.iter().map(|(_, version)| version.as_str()).collect::<Vec<_>>().join(",");
        let wanted = known.iter().map(|(name, _)| name.as_str());
        match known.is_empty() {
            true => Err(Status::not_found("none of the secrets asked for is here (yet)")),
            false => Ok(Response::new(encode::response(&secrets, wanted, &version, String::new()))),
        }
    }

    async fn delta_secrets(
        &self,
        _: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("use StreamSecrets (api_type: GRPC)"))
    }
}
