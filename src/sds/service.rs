//! `envoy.service.secret.v3.SecretDiscoveryService`: secrets on discovery streams.

use std::sync::Arc;

use futures_util::stream::Empty;
use tokio::sync::watch;
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
use crate::sds::discovery::Discovery;
use crate::sds::discovery::Responses;
use crate::sds::discovery::Served;
use crate::sds::ear::Ear;
use crate::sds::metrics::SdsMetrics;
use crate::sds::secret::Secrets;
use crate::sds::subscribers::Subscribers;

/// Serves the latest of some secrets to every stream.
#[derive(Clone, Debug)]
pub struct SecretService {
    secrets: watch::Receiver<Arc<Secrets>>,
    discovery: Discovery,
}

impl SecretService {
    /// Serves what `secrets` holds until `stop` is cancelled, and keeps book in `subscribers`.
    pub fn new(
        secrets: watch::Receiver<Arc<Secrets>>,
        subscribers: Subscribers,
        metrics: SdsMetrics,
        stop: CancellationToken,
    ) -> Self {
        Self { secrets, discovery: Discovery::new(subscribers, metrics, stop) }
    }

    /// The same for agents, which speak for their proxies.
    pub fn to_agents(self) -> Self {
        Self { discovery: self.discovery.to_agents(), ..self }
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
    ) -> Response<Responses> {
        let resources = self.secrets.clone();
        self.discovery.stream(requests, move |_| Served { resources, ear })
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for SecretService {
    type StreamSecretsStream = Responses;
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
        let secrets = self.secrets.borrow().clone();
        Discovery::fetch(&*secrets, asked.get_ref())
    }

    async fn delta_secrets(
        &self,
        _: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("use StreamSecrets (api_type: GRPC)"))
    }
}
