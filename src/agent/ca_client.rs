//! Asks the CA for a certificate, as any agent of Istio does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::transport::Endpoint;

use crate::agent::door::Door;
use crate::agent::door::DoorError;
use crate::proto::istio::IstioCertificateRequest;
use crate::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use crate::sds::Secrets;
use crate::x509::CertificateChain;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;
use crate::x509::chain::InvalidChain;

/// How long one request may take, connection included.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the CA is, and what we show it.
#[derive(Clone, Debug)]
pub struct CaClient {
    door: Door,
    lifetime: Option<Duration>,
}

/// What the CA gave.
#[derive(Debug)]
pub struct Answer {
    /// Leaf and intermediates.
    pub chain: CertificateChain,
    /// The roots that it says are trusted.
    pub bundle: TrustBundle,
}

/// Why the CA gave nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub enum CaClientError {
    /// There is no way to it.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The CA refused.
    #[error("the CA refused ({code:?}): {message}")]
    Refused {
        /// The gRPC code.
        code: tonic::Code,
        /// Its words.
        message: String,
    },
    /// The CA did not answer in time.
    #[error("the CA did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The answer has fewer than two elements.
    #[error("the CA's answer has {0} elements; a leaf and at least one root are needed")]
    TooShort(usize),
    /// The answer's chain is no chain.
    #[error("the CA's answer: {0}")]
    Chain(#[from] InvalidChain),
    /// The answer's last element is no bundle.
    #[error("the CA's answer: {0}")]
    Bundle(#[from] InvalidBundle),
}

impl CaClient {
    /// A client of the CA at `endpoint` (`https://…`), which is verified by the roots in `root_file` under `server_name`, or
    /// the endpoint's own host; it shows the token in `token_file` and asks for `lifetime`, or the CA's default. Both files are read anew for
    /// each request.
    pub fn new(
        endpoint: Endpoint,
        server_name: Option<String>,
        root_file: PathBuf,
        token_file: PathBuf,
        lifetime: Option<Duration>,
    ) -> Self {
        Self { door: Door { endpoint, server_name, root_file, token_file, held: None }, lifetime }
    }

    /// Has the CA be verified by the roots that we hold, too.
    pub fn trusting(mut self, held: watch::Receiver<Arc<Secrets>>) -> Self {
        self.door.held = Some(held);
        self
    }

    /// The way to the same CA, for whoever has something else to say to it.
    pub(super) fn door(&self) -> Door {
        self.door.clone()
    }

    /// Has `csr_pem` signed.
    ///
    /// # Errors
    /// If a file cannot be read, the CA cannot be reached or refuses, or its answer is no chain and bundle.
    pub async fn sign(&self, csr_pem: String) -> Result<Answer, CaClientError> {
        tokio::time::timeout(TIMEOUT, self.ask(csr_pem)).await.unwrap_or(Err(CaClientError::Timeout))
    }

    async fn ask(&self, csr_pem: String) -> Result<Answer, CaClientError> {
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: csr_pem,
            validity_duration: self
                .lifetime
                .map_or(0, |life| i64::try_from(life.as_secs()).unwrap_or(i64::MAX)),
            metadata: None,
        });
        request.metadata_mut().insert("authorization", self.door.bearer().await?);
        // A new connection each time: renewals are rare, and a new root file is then in use at once.
        let channel = self.door.connect().await?;
        let answer = IstioCertificateServiceClient::new(channel)
            .create_certificate(request)
            .await
            .map_err(|status| CaClientError::Refused {
                code: status.code(),
                message: status.message().to_owned(),
            })?
            .into_inner()
            .cert_chain;
        match answer.split_last() {
            Some((roots, chain)) if !chain.is_empty() => Ok(Answer {
                chain: CertificateChain::from_pem(chain.join("\n").as_bytes())?,
                bundle: TrustBundle::from_pem(roots.as_bytes())?,
            }),
            _ => Err(CaClientError::TooShort(answer.len())),
        }
    }
}
