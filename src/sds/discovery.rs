//! The wire of discovery, state of the world: drives one stream, whatever type of resource is on it. Turns the machine's effects
//! into messages and does nothing else.

use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::proto::envoy::Any;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::DiscoveryResponse;
use crate::sds::ear::Ear;
use crate::sds::metrics::SdsMetrics;
use crate::sds::redact::redact;
use crate::sds::subscribers::Entry;
use crate::sds::subscribers::Subscribers;
use crate::sds::subscription::Effect;
use crate::sds::subscription::Event;
use crate::sds::subscription::Offer;
use crate::sds::subscription::Request;
use crate::sds::subscription::Subscription;

/// Resources of one type, as they are at one moment.
pub trait Resources: Debug + Send + Sync + 'static {
    /// Type URL of each of them.
    const TYPE: &'static str;
    /// What people call one of them.
    const NOUN: &'static str;

    /// What can be asked for now, with the version of each.
    fn offer(&self) -> Offer;

    /// The resource called `name`, if there is one.
    fn resource(&self, name: &str) -> Option<Any>;
}

/// What the other end of a stream says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// What it calls itself. It is a name for people; nothing is granted by it.
    pub node: String,
    /// What it asks for.
    pub names: Vec<String>,
    /// The version that it says it holds; empty if none.
    pub version: String,
}

/// What one stream is served.
#[derive(Debug)]
pub struct Served<R> {
    /// The resources, as they change.
    pub resources: watch::Receiver<Arc<R>>,
    /// Who hears what happens on the stream.
    pub ear: Option<Box<dyn Ear>>,
}

/// Drives streams.
#[derive(Clone, Debug)]
pub struct Discovery {
    subscribers: Subscribers,
    metrics: SdsMetrics,
    /// Whether those who subscribe are agents, which speak for their proxies.
    to_agents: bool,
    stop: CancellationToken,
}

/// Responses, as gRPC takes them.
pub type Responses = ReceiverStream<Result<DiscoveryResponse, Status>>;

type Outgoing = mpsc::Sender<Result<DiscoveryResponse, Status>>;

impl Discovery {
    /// Drives streams until `stop` is cancelled, and keeps book of them in `subscribers`.
    pub fn new(subscribers: Subscribers, metrics: SdsMetrics, stop: CancellationToken) -> Self {
        Self { subscribers, metrics, to_agents: false, stop }
    }

    /// The same for agents, which speak for their proxies.
    #[must_use]
    pub fn to_agents(self) -> Self {
        Self { to_agents: true, ..self }
    }

    /// Serves one stream. `serve` is asked once for what it is served, when the other end has said who it is.
    pub fn stream<R: Resources>(
        &self,
        requests: Streaming<DiscoveryRequest>,
        serve: impl FnOnce(&Hello) -> Served<R> + Send + 'static,
    ) -> Response<Responses> {
        let (responses, stream) = mpsc::channel(4);
        // The task ends with its stream: each of the two notices when the other is gone.
        tokio::spawn(self.clone().drive(requests, responses, serve));
        Response::new(ReceiverStream::new(stream))
    }

    /// One answer, without a stream.
    ///
    /// # Errors
    /// If nothing of what is asked for is there, or another type is asked for.
    pub fn fetch<R: Resources>(
        current: &R,
        asked: &DiscoveryRequest,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        of_type::<R>(asked)?;
        let offer = current.offer();
        let names = &asked.resource_names;
        let known: Vec<_> =
            offer.iter().filter(|(name, _)| names.is_empty() || names.contains(name)).collect();
        let version = known.iter().map(|(_, version)| version.as_str()).collect::<Vec<_>>().join(",");
        let wanted = known.iter().map(|(name, _)| name.as_str());
        match known.is_empty() {
            true => Err(Status::not_found(format!("no {} that is asked for is here (yet)", R::NOUN))),
            false => Ok(Response::new(response(current, wanted, &version, String::new()))),
        }
    }

    /// Drives one stream until either side ends it.
    async fn drive<R: Resources>(
        self,
        requests: Streaming<DiscoveryRequest>,
        responses: Outgoing,
        serve: impl FnOnce(&Hello) -> Served<R> + Send,
    ) {
        let entry = self.subscribers.enter();
        self.metrics.opened();
        let end = self.converse(requests, &responses, &entry, serve).await;
        self.metrics.closed();
        tracing::debug!(error = end.as_ref().err().map(Status::message), "a discovery stream ended");
        if let Err(status) = end {
            // Whoever has hung up already does not want to know.
            let _ = responses.send(Err(status)).await;
        }
    }

    async fn converse<R: Resources>(
        &self,
        mut requests: Streaming<DiscoveryRequest>,
        responses: &Outgoing,
        entry: &Entry,
        serve: impl FnOnce(&Hello) -> Served<R> + Send,
    ) -> Result<(), Status> {
        let first = tokio::select! {
            () = self.stop.cancelled() => return Err(stopping()),
            () = responses.closed() => return Ok(()),
            message = requests.message() => message,
        };
        let Ok(Some(first)) = first else { return Ok(()) };
        of_type::<R>(&first)?;
        let Served { mut resources, ear } = serve(&hello(&first));
        let ear = ear.as_deref();
        // What is pushed is what was decided on, even if something newer comes in between.
        let mut current = resources.borrow_and_update().clone();
        let mut subscription = Subscription::new(current.offer());
        let mut event = Event::Requested(request(first, entry, ear));
        loop {
            let (next, effects) = subscription
                .step(event)
                .map_err(|refusal| Status::resource_exhausted(refusal.to_string()))?;
            subscription = next;
            entry.watches(subscription.names());
            for effect in effects {
                hear(&effect, ear);
                self.perform(effect, &*current, entry, responses).await;
            }
            event = tokio::select! {
                () = self.stop.cancelled() => return Err(stopping()),
                () = responses.closed() => return Ok(()),
                changed = resources.changed() => match changed {
                    Ok(()) => {
                        current = resources.borrow_and_update().clone();
                        Event::Offered(current.offer())
                    }
                    Err(_) => return Ok(()),
                },
                message = requests.message() => match message {
                    Ok(Some(message)) => {
                        of_type::<R>(&message)?;
                        Event::Requested(request(message, entry, ear))
                    }
                    Ok(None) | Err(_) => return Ok(()),
                },
            };
        }
    }

    async fn perform<R: Resources>(&self, effect: Effect, current: &R, entry: &Entry, responses: &Outgoing) {
        match effect {
            Effect::Push { name, version, nonce } => {
                let response = response(current, [name.as_str()], version.as_str(), nonce);
                tracing::debug!(resource = name, %version, "a {} is pushed", R::NOUN);
                self.metrics.pushed(&name);
                entry.pushed(&name);
                let _ = responses.send(Ok(response)).await;
            }
            Effect::Acknowledged { name, version } => {
                tracing::debug!(resource = name, %version, "a proxy uses a {}", R::NOUN);
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
                tracing::error!(
                    resource = name,
                    %version,
                    error,
                    "a proxy rejected a {} and goes on with the one it had",
                    R::NOUN
                );
                self.metrics.rejected(&name);
                entry.answered(&name, version, Some(error));
            }
            Effect::Unknown { name } => {
                tracing::info!(
                    resource = redact(&name),
                    "a proxy waits for a {} that is not served (yet)",
                    R::NOUN
                );
                self.metrics.unknown();
            }
            Effect::Stale { nonce } => {
                tracing::debug!(nonce = redact(&nonce), "a request answers no response of ours")
            }
        }
    }
}

/// A response with the named resources, as far as there are such.
fn response<'a, R: Resources>(
    current: &R,
    wanted: impl IntoIterator<Item = &'a str>,
    version: &str,
    nonce: String,
) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.to_owned(),
        resources: wanted.into_iter().filter_map(|name| current.resource(name)).collect(),
        type_url: R::TYPE.to_owned(),
        nonce,
        ..DiscoveryResponse::default()
    }
}

fn stopping() -> Status {
    Status::unavailable("the server is stopping; ask again")
}

/// Envoy leaves the type out of later requests on a stream of one type only.
fn of_type<R: Resources>(message: &DiscoveryRequest) -> Result<(), Status> {
    match message.type_url.is_empty() || message.type_url == R::TYPE {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!("only `{}` is served here", R::TYPE))),
    }
}

fn hello(message: &DiscoveryRequest) -> Hello {
    Hello {
        node: message.node.as_ref().map(|node| node.id.clone()).unwrap_or_default(),
        names: message.resource_names.clone(),
        version: message.version_info.clone(),
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
fn request(message: DiscoveryRequest, entry: &Entry, ear: Option<&dyn Ear>) -> Request {
    if let Some(node) = &message.node {
        entry.is_called(&node.id);
        if let Some(ear) = ear {
            ear.called(&node.id);
        }
    }
    Request {
        names: message.resource_names,
        version: message.version_info,
        nonce: message.response_nonce,
        error: message.error_detail.map(|detail| redact(&detail.message)),
    }
}
