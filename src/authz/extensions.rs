//! `envoy.service.extension.v3.ExtensionConfigDiscoveryService`: the filters of each proxy on discovery streams.

use futures_util::stream::Empty;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::authz::enforcement::Enforcement;
use crate::proto::envoy::DeltaDiscoveryRequest;
use crate::proto::envoy::DeltaDiscoveryResponse;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::DiscoveryResponse;
use crate::proto::envoy::ExtensionConfigDiscoveryService;
use crate::proto::envoy::ExtensionConfigDiscoveryServiceServer;
use crate::sds::Discovery;
use crate::sds::Responses;

/// Serves each proxy the filters that it is to have now.
#[derive(Clone, Debug)]
pub struct ExtensionService {
    /// Which these are.
    pub enforcement: Enforcement,
    /// Drives streams.
    pub discovery: Discovery,
}

impl ExtensionService {
    /// The gRPC service, ready to be added to a server.
    pub fn server(self) -> ExtensionConfigDiscoveryServiceServer<Self> {
        ExtensionConfigDiscoveryServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl ExtensionConfigDiscoveryService for ExtensionService {
    type StreamExtensionConfigsStream = Responses;
    type DeltaExtensionConfigsStream = Empty<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_extension_configs(
        &self,
        requests: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamExtensionConfigsStream>, Status> {
        let enforcement = self.enforcement.clone();
        Ok(self.discovery.stream(requests.into_inner(), move |hello| enforcement.serve(hello)))
    }

    async fn delta_extension_configs(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaExtensionConfigsStream>, Status> {
        // A resource that is taken away there makes Envoy answer 500 to everything; here there is no such thing.
        Err(Status::unimplemented("use StreamExtensionConfigs (api_type: GRPC)"))
    }

    async fn fetch_extension_configs(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("use StreamExtensionConfigs (api_type: GRPC)"))
    }
}
