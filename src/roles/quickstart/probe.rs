//! Watches what a running Envoy really shows, handshake by handshake, and what an agent really pushes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::clock::Stopwatch;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::DiscoveryResponse;
use crate::sds;
use crate::sds::SECRET_TYPE;
use crate::x509::Certificate;
use crate::x509::SerialNumber;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shakes hands with `address` again and again until it shows the certificate with `serial`; returns how long that took
/// since `since`, in milliseconds.
pub(super) async fn first_handshake_with(
    serial: &SerialNumber,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    since: Stopwatch,
) -> Result<f64, String> {
    let connector = TlsConnector::from(config);
    while since.elapsed() < PATIENCE {
        let shown = shown(&connector, address).await?;
        if shown.facts().serial == *serial {
            return Ok(since.elapsed_ms());
        }
    }
    Err(format!("the new certificate {serial} is not shown after {} s", PATIENCE.as_secs()))
}

async fn shown(connector: &TlsConnector, address: SocketAddr) -> Result<Certificate, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let name = ServerName::from(address.ip());
    let connection = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    let (_, session) = connection.get_ref();
    let leaf =
        session.peer_certificates().and_then(|chain| chain.first()).ok_or("no certificate was shown")?;
    Certificate::from_der(leaf.clone()).map_err(|error| error.to_string())
}

/// A discovery stream as an Envoy opens one.
#[derive(Debug)]
pub(super) struct Stream {
    name: String,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Stream {
    /// Subscribes to `name` on the agent's socket.
    pub(super) async fn open(socket: &Path, name: &str) -> Result<Self, String> {
        let mut client = sds::connect(socket).await.map_err(|error| error.to_string())?;
        let (requests, outgoing) = mpsc::channel(4);
        let first = DiscoveryRequest {
            resource_names: vec![name.to_owned()],
            type_url: SECRET_TYPE.to_owned(),
            ..DiscoveryRequest::default()
        };
        requests.send(first).await.map_err(|error| error.to_string())?;
        let responses = client
            .stream_secrets(ReceiverStream::new(outgoing))
            .await
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        Ok(Self { name: name.to_owned(), requests, responses })
    }

    /// Waits for the next push and acknowledges it; returns its version.
    pub(super) async fn next(&mut self) -> Result<String, String> {
        let response = tokio::time::timeout(PATIENCE, self.responses.message())
            .await
            .map_err(|_| format!("nothing was pushed within {} s", PATIENCE.as_secs()))?
            .map_err(|status| status.message().to_owned())?
            .ok_or("the agent ended the stream")?;
        let ack = DiscoveryRequest {
            resource_names: vec![self.name.clone()],
            type_url: SECRET_TYPE.to_owned(),
            version_info: response.version_info.clone(),
            response_nonce: response.nonce,
            ..DiscoveryRequest::default()
        };
        self.requests.send(ack).await.map_err(|error| error.to_string())?;
        Ok(response.version_info)
    }
}
