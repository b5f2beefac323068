//! Listens to the CA: keeps a stream open for each of three names, hands on what is pushed, and answers for all proxies.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::Status;
use tonic::transport::Channel;

use crate::agent::backoff::Backoff;
use crate::agent::backoff::Ended;
use crate::agent::ca_client::CaClient;
use crate::agent::door::DoorError;
use crate::agent::heard::Heard;
use crate::agent::line::Line;
use crate::agent::line::Sight;
use crate::agent::metrics::AgentMetrics;
use crate::agent::report::Upward;
use crate::agent::verdict::Patience;
use crate::agent::word::Say;
use crate::authz::Enforcement;
use crate::authz::Extensions;
use crate::authz::MAX_RULEBOOK;
use crate::authz::RULEBOOK;
use crate::chance;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::DiscoveryResponse;
use crate::proto::envoy::ExtensionConfigDiscoveryServiceClient;
use crate::proto::envoy::Node;
use crate::proto::envoy::SecretDiscoveryServiceClient;
use crate::proto::envoy::Status as RpcStatus;
use crate::sds::Resources;
use crate::sds::SECRET_TYPE;
use crate::sds::Secrets;
use crate::sds::Subscribers;
use crate::sds::Version;
use crate::sds::names;

/// How often we look at what only time changes.
const LOOK: Duration = Duration::from_millis(500);
/// How long the CA may take to accept a stream: it asks the API server who we are.
const OPENING: Duration = Duration::from_secs(20);

/// The one who listens to the CA.
#[derive(Debug)]
pub struct Upstream {
    /// The way to the CA.
    pub ca: CaClient,
    /// What we are called there.
    pub node: String,
    /// What the CA says is told here.
    pub heard: watch::Sender<Heard>,
    /// What is published to the proxies.
    pub secrets: watch::Receiver<Arc<Secrets>>,
    /// The proxies.
    pub subscribers: Subscribers,
    /// How they stand to the policies.
    pub enforcement: Enforcement,
    /// How things stand is told here.
    pub upward: watch::Sender<Upward>,
    /// Tells the time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: AgentMetrics,
    /// How long each thing is waited for.
    pub patience: Patience,
}

/// What is listened for.
#[derive(Debug)]
struct Lines {
    trust: Line,
    issuer: Line,
    policies: Line,
}

/// Why there is no stream any more.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error("the CA ended the stream ({:?}): {}", .0.code(), .0.message())]
    Refused(Status),
    #[error("the CA ended the stream")]
    Over,
    #[error("the CA did not accept a stream within {} s", OPENING.as_secs())]
    Timeout,
}

impl Lines {
    fn new() -> Self {
        Self { trust: Line::trust(), issuer: Line::issuer(), policies: Line::policies() }
    }
}

impl End {
    fn kind(&self) -> Ended {
        match self {
            Self::Refused(status) if matches!(status.code(), Code::Unimplemented | Code::NotFound) => {
                Ended::Unknown
            }
            _ => Ended::Broken,
        }
    }
}

impl Upstream {
    /// A name for this instance of an agent: the host's, which is the pod's, and a tag by chance.
    pub async fn name() -> String {
        let host = tokio::fs::read_to_string("/proc/sys/kernel/hostname").await.unwrap_or_default();
        let host = if host.trim().is_empty() { "agent" } else { host.trim() };
        format!("{host}_{}", chance::tag())
    }

    /// Listens until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.listen() => {}
        }
        self.metrics.connected(false);
    }

    async fn listen(&self) {
        let (mut lines, mut backoff) = (Lines::new(), Backoff::default());
        loop {
            let opened = watch::Sender::new(None);
            let end = self.connected(&mut lines, &opened).await;
            let held = opened.borrow().as_ref().map_or(Duration::ZERO, Stopwatch::elapsed);
            let kind = end.kind();
            let (next, pause) = backoff.pause(kind, held, chance::draw());
            let is_known = self.upward.borrow().trouble.as_deref() == Some(end.to_string().as_str());
            backoff = next;
            self.metrics.connected(false);
            self.upward.send_modify(|upward| {
                upward.is_connected = false;
                upward.trouble = Some(end.to_string());
            });
            match kind {
                Ended::Unknown => {
                    // Roots and certificates come as they do without a stream, and if there is one again, it begins anew.
                    // Policies do not; those that were heard stay.
                    self.heard.send_modify(|heard| (heard.trust, heard.notice) = (None, None));
                    lines = Lines::new();
                    if !is_known {
                        tracing::info!(error = %end, "the CA has no stream of its roots for us; its answers and the root file tell them");
                    }
                }
                Ended::Broken if next.is_repeated() && is_known => {
                    tracing::debug!(error = %end, ?pause, "there is no stream from the CA");
                }
                Ended::Broken => {
                    tracing::warn!(error = %end, "there is no stream from the CA; what it told last stays, and it is tried again");
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// All streams over one connection, until one of them ends that every CA has.
    async fn connected(&self, lines: &mut Lines, opened: &watch::Sender<Option<Stopwatch>>) -> End {
        let Lines { trust, issuer, policies } = lines;
        let channel = match self.ca.door().connect().await {
            Ok(channel) => channel,
            Err(error) => return End::Door(error),
        };
        tokio::select! {
            end = self.keep(&channel, trust, opened) => end,
            end = self.keep(&channel, issuer, opened) => end,
            never = self.keep_asking(&channel, policies, opened) => match never {},
        }
    }

    /// Keeps a stream that not every CA has. Whatever ends it, the others go on.
    async fn keep_asking(
        &self,
        channel: &Channel,
        line: &mut Line,
        opened: &watch::Sender<Option<Stopwatch>>,
    ) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let since = Stopwatch::start();
            let end = self.keep(channel, line, opened).await;
            let kind = end.kind();
            let (next, pause) = backoff.pause(kind, since.elapsed(), chance::draw());
            backoff = next;
            if kind == Ended::Unknown {
                tracing::info!(error = %end, "the CA has no policies for us; those that were told last, if any, stay in force");
                *line = Line::policies();
            } else {
                let is_known =
                    self.upward.borrow().policies_trouble.as_deref() == Some(&*format!("{RULEBOOK}: {end}"));
                match is_known {
                    true => {
                        tracing::debug!(error = %end, ?pause, "there is no stream of policies from the CA")
                    }
                    false => {
                        tracing::warn!(error = %end, "there is no stream of policies from the CA; those that were told last stay in force");
                    }
                }
            }
            let wrong = format!("{RULEBOOK}: {end}");
            self.upward.send_modify(|upward| upward.policies_trouble = Some(wrong));
            tokio::time::sleep(pause).await;
        }
    }

    /// One stream after the other, as long as we are the ones who end them.
    async fn keep(
        &self,
        channel: &Channel,
        line: &mut Line,
        opened: &watch::Sender<Option<Stopwatch>>,
    ) -> End {
        loop {
            if let Err(end) = self.stream(channel.clone(), line, opened).await {
                return end;
            }
        }
    }

    async fn stream(
        &self,
        channel: Channel,
        line: &mut Line,
        opened: &watch::Sender<Option<Stopwatch>>,
    ) -> Result<(), End> {
        let (requests, outgoing) = mpsc::channel(4);
        let held = self.sight(|sight| line.opens(sight));
        let node = Some(Node { id: self.node.clone(), ..Node::default() });
        let first = DiscoveryRequest { node, ..request(line.name(), held, String::new(), None) };
        let mut call = tonic::Request::new(tokio_stream::StreamExt::chain(
            tokio_stream::once(first),
            ReceiverStream::new(outgoing),
        ));
        call.metadata_mut().insert("authorization", self.ca.door().bearer().await?);
        let answer = tokio::time::timeout(OPENING, open(channel, line.name(), call)).await;
        let mut responses = answer.map_err(|_| End::Timeout)?.map_err(End::Refused)?.into_inner();
        self.opened(line, opened);
        let (mut secrets, mut changes) = (self.secrets.clone(), self.subscribers.changes());
        let mut enforced = self.enforcement.changes();
        loop {
            let say = self.sight(|sight| line.say(sight));
            self.report(line);
            match say {
                Say::Nothing => {}
                Say::Answer { held, nonce, refusal } => {
                    self.answer(line, held, nonce, refusal, &requests).await;
                }
                Say::Reopen => return Ok(()),
            }
            let is_unsettled = line.is_unsettled();
            tokio::select! {
                message = responses.message() => {
                    let message = message.map_err(End::Refused)?.ok_or(End::Over)?;
                    let (at, now) = (self.clock.now(), self.subscribers.elapsed());
                    let mut heard = self.heard.borrow().clone();
                    match line.take(&message, &mut heard, at, now) {
                        Ok(()) => {
                            tracing::info!(resource = line.name(), version = message.version_info, "the CA has pushed");
                            self.heard.send_if_modified(|all| {
                                let before = std::mem::replace(all, heard);
                                before != *all
                            });
                        }
                        Err((error, say)) => {
                            tracing::error!(resource = line.name(), version = message.version_info, %error, "what the CA has pushed is not used");
                            if let Say::Answer { held, nonce, refusal } = say {
                                self.answer(line, held, nonce, refusal, &requests).await;
                            }
                        }
                    }
                }
                Ok(()) = secrets.changed(), if is_unsettled => {}
                () = changes.next(), if is_unsettled => {}
                Ok(()) = enforced.changed(), if is_unsettled && line.name() == RULEBOOK => {}
                () = tokio::time::sleep(LOOK), if is_unsettled => {}
            }
        }
    }

    async fn answer(
        &self,
        line: &Line,
        held: Option<Version>,
        nonce: String,
        refusal: Option<String>,
        requests: &mpsc::Sender<DiscoveryRequest>,
    ) {
        let resource = line.name();
        match &refusal {
            None => tracing::info!(
                resource,
                version = held.as_ref().map(Version::as_str),
                "all proxies use what the CA has pushed"
            ),
            Some(why) => {
                self.metrics.objected(resource, line.reason());
                tracing::warn!(
                    resource,
                    reason = why,
                    "the CA is told that not all proxies use what it has pushed"
                );
            }
        }
        // A stream that has ended says so by itself.
        let _ = requests.send(request(resource, held, nonce, refusal)).await;
    }

    fn opened(&self, line: &Line, opened: &watch::Sender<Option<Stopwatch>>) {
        if line.name() == RULEBOOK {
            self.upward.send_modify(|upward| upward.policies_trouble = None);
            return;
        }
        let is_first = opened.send_if_modified(|since| {
            let is_first = since.is_none();
            since.get_or_insert_with(Stopwatch::start);
            is_first
        });
        if is_first {
            tracing::info!(resource = line.name(), "the CA has accepted a stream");
            self.metrics.connected(true);
            self.upward.send_modify(|upward| {
                upward.is_connected = true;
                upward.trouble = None;
            });
        }
    }

    fn sight<T>(&self, look: impl FnOnce(&Sight<'_>) -> T) -> T {
        let secrets = self.secrets.borrow().clone();
        let stand =
            |name: &str, version: &Version| self.subscribers.stand(name, version, self.patience.silence);
        let enforced = self.enforcement.progress(self.patience.silence);
        let (now, patience) = (self.subscribers.elapsed(), &self.patience);
        look(&Sight { secrets: &secrets, stand: &stand, enforced: &enforced, now, patience })
    }

    fn report(&self, line: &Line) {
        let acknowledged = line.acknowledged().map(Version::to_string);
        let waits = line.waits_for().map(|what| format!("{}: {what}", line.name()));
        self.upward.send_if_modified(|upward| {
            let before = upward.clone();
            let prefix = format!("{}: ", line.name());
            upward.waits_for.retain(|known| !known.starts_with(&prefix));
            upward.waits_for.extend(waits);
            upward.waits_for.sort();
            match line.name() {
                names::TRUST => upward.bundle = acknowledged,
                RULEBOOK => upward.policies = acknowledged,
                _ => upward.authority = acknowledged,
            }
            *upward != before
        });
    }
}

fn request(name: &str, version: Option<Version>, nonce: String, refusal: Option<String>) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: vec![name.to_owned()],
        type_url: type_of(name).to_owned(),
        version_info: version.map(|version| version.to_string()).unwrap_or_default(),
        response_nonce: nonce,
        error_detail: refusal.map(|message| RpcStatus {
            code: Code::FailedPrecondition as i32,
            message,
            ..RpcStatus::default()
        }),
        ..DiscoveryRequest::default()
    }
}

fn type_of(name: &str) -> &'static str {
    match name {
        RULEBOOK => Extensions::TYPE,
        _ => SECRET_TYPE,
    }
}

/// Opens the stream that `name` is on.
async fn open(
    channel: Channel,
    name: &str,
    call: impl tonic::IntoStreamingRequest<Message = DiscoveryRequest> + Send,
) -> Result<tonic::Response<tonic::Streaming<DiscoveryResponse>>, Status> {
    match name {
        RULEBOOK => {
            ExtensionConfigDiscoveryServiceClient::new(channel)
                .max_decoding_message_size(MAX_RULEBOOK)
                .stream_extension_configs(call)
                .await
        }
        _ => SecretDiscoveryServiceClient::new(channel).stream_secrets(call).await,
    }
}
