//! The CA tells each agent the policies of its workload, and nobody else's. Who asks is proven as for a certificate.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::stream::Empty;
use tokio::sync::watch;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::authz::Rulebook;
use crate::census::Caller;
use crate::proto::envoy::DeltaDiscoveryRequest;
use crate::proto::envoy::DeltaDiscoveryResponse;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::DiscoveryResponse;
use crate::proto::envoy::ExtensionConfigDiscoveryService;
use crate::proto::envoy::ExtensionConfigDiscoveryServiceServer;
use crate::rotation::stream::AgentService;
use crate::sds::Discovery;
use crate::sds::Responses;
use crate::sds::Served;

/// Knows which policies apply to whom.
pub trait Rulebooks: Debug + Send + Sync {
    /// What applies to the caller's workload, as it changes; `None` for as long as that is not known.
    fn of(&self, caller: &Caller) -> watch::Receiver<Arc<Option<Rulebook>>>;
}

/// Serves policies to agents.
#[derive(Clone, Debug)]
pub struct PolicyService {
    /// Knows callers.
    pub agents: AgentService,
    /// Knows policies.
    pub source: Arc<dyn Rulebooks>,
    /// Drives streams.
    pub discovery: Discovery,
}

impl PolicyService {
    /// The gRPC service, ready to be added to a server.
    pub fn server(self) -> ExtensionConfigDiscoveryServiceServer<Self> {
        ExtensionConfigDiscoveryServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl ExtensionConfigDiscoveryService for PolicyService {
    type StreamExtensionConfigsStream = Responses;
    type DeltaExtensionConfigsStream = Empty<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_extension_configs(
        &self,
        requests: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamExtensionConfigsStream>, Status> {
        let caller = self.agents.caller(&requests).await?;
        let resources = self.source.of(&caller);
        Ok(self.discovery.stream(requests.into_inner(), move |_| Served { resources, ear: None }))
    }

    async fn delta_extension_configs(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaExtensionConfigsStream>, Status> {
        Err(Status::unimplemented("use StreamExtensionConfigs"))
    }

    async fn fetch_extension_configs(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("use StreamExtensionConfigs"))
    }
}
