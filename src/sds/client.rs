//! The other end: what does an SDS server on a socket serve? For people who look, and for the quickstart.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::proto::envoy::DataSource;
use crate::proto::envoy::DiscoveryRequest;
use crate::proto::envoy::Secret;
use crate::proto::envoy::SecretDiscoveryServiceClient;
use crate::proto::envoy::SecretType;
use crate::proto::envoy::Specifier;
use crate::sds::encode::SECRET_TYPE;

/// How long a secret may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a socket tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on it.
    #[error("nobody serves on that socket: {0}")]
    Connect(tonic::transport::Error),
    /// The server refused.
    #[error("the server refused: {0}")]
    Refused(String),
    /// Nothing came.
    #[error("the server sent no `{name}` within {} s; it has none yet, or does not know the name", PATIENCE.as_secs())]
    Silence {
        /// The name.
        name: String,
    },
    /// What came cannot be read.
    #[error("what the server sent as `{0}` is not a secret with inline certificates")]
    Unreadable(String),
}

/// Connects to the SDS server on a Unix socket.
///
/// # Errors
/// If nobody serves there.
pub async fn connect(
    socket: &Path,
) -> Result<SecretDiscoveryServiceClient<Channel>, tonic::transport::Error> {
    let path = socket.to_owned();
    // The address is never looked up: the connector goes to the socket.
    let channel = Endpoint::from_static("http://sds")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await?;
    Ok(SecretDiscoveryServiceClient::new(channel))
}

/// The certificates of the secret called `name`, as the server streams them to a proxy. A private key in it is not looked at.
///
/// # Errors
/// If nobody serves there, nothing comes, or it holds no certificates.
pub async fn served(socket: &Path, name: &str) -> Result<Vec<u8>, ClientError> {
    let silence = |_| ClientError::Silence { name: name.to_owned() };
    tokio::time::timeout(PATIENCE, ask(socket, name)).await.map_err(silence)?
}

async fn ask(socket: &Path, name: &str) -> Result<Vec<u8>, ClientError> {
    let mut client = connect(socket).await.map_err(ClientError::Connect)?;
    let request = DiscoveryRequest {
        resource_names: vec![name.to_owned()],
        type_url: SECRET_TYPE.to_owned(),
        ..DiscoveryRequest::default()
    };
    // The stream of requests stays open until we have the answer, or some servers would end theirs.
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let refused = |status: tonic::Status| ClientError::Refused(status.message().to_owned());
    let mut responses = client.stream_secrets(requests).await.map_err(refused)?.into_inner();
    let silence = || ClientError::Silence { name: name.to_owned() };
    let response = responses.message().await.map_err(refused)?.ok_or_else(silence)?;
    response
        .resources
        .iter()
        .filter_map(|any| Secret::decode(any.value.as_slice()).ok())
        .filter(|secret| secret.name == name)
        .find_map(|secret| certificates(secret.r#type?))
        .ok_or_else(|| ClientError::Unreadable(name.to_owned()))
}

fn certificates(secret: SecretType) -> Option<Vec<u8>> {
    let source: DataSource = match secret {
        SecretType::TlsCertificate(found) => found.certificate_chain?,
        SecretType::ValidationContext(found) => found.trusted_ca?,
        SecretType::SessionTicketKeys(_) | SecretType::GenericSecret(_) => return None,
    };
    match source.specifier? {
        Specifier::InlineBytes(bytes) => Some(bytes),
        Specifier::InlineString(text) => Some(text.into_bytes()),
        Specifier::Filename(_) | Specifier::EnvironmentVariable(_) => None,
    }
}
