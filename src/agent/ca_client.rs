//! Asks the CA for a certificate, as any agent of Istio does.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Certificate as TlsRoot;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;
use zeroize::Zeroizing;

use crate::proto::istio::IstioCertificateRequest;
use crate::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use crate::x509::CertificateChain;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;
use crate::x509::chain::InvalidChain;

/// How long one request may take, connection included.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the CA is, and what we show it.
#[derive(Clone, Debug)]
pub struct CaClient {
    endpoint: Endpoint,
    server_name: Option<String>,
    root_file: PathBuf,
    token_file: PathBuf,
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
    /// The token file cannot be read.
    #[error(
        "token file `{path}`: {source}; project a service-account token with the CA's audience to that path"
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The token file does not hold a token.
    #[error("token file `{0}` does not hold a token")]
    NotAToken(PathBuf),
    /// The root file cannot be read.
    #[error("root file `{path}`: {source}; it must hold the root that the CA's own certificate leads to")]
    Root {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The root file holds no roots.
    #[error("root file `{path}`: {source}")]
    NotRoots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidBundle,
    },
    /// The CA cannot be reached, or is not who it should be.
    #[error("the CA at {address} cannot be reached: {cause}")]
    Connect {
        /// Its address.
        address: String,
        /// The last cause.
        cause: String,
    },
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
        Self { endpoint, server_name, root_file, token_file, lifetime }
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
        request.metadata_mut().insert("authorization", self.bearer().await?);
        // A new connection each time: renewals are rare, and a new root file is then in use at once.
        let channel = self.tls().await?.connect().await.map_err(|error| self.unreachable(&error))?;
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

    async fn bearer(&self) -> Result<AsciiMetadataValue, CaClientError> {
        let text = tokio::fs::read_to_string(&self.token_file)
            .await
            .map(Zeroizing::new)
            .map_err(|source| CaClientError::Token { path: self.token_file.clone(), source })?;
        let not_a_token = || CaClientError::NotAToken(self.token_file.clone());
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(not_a_token());
        }
        let mut value: AsciiMetadataValue = format!("Bearer {token}").parse().map_err(|_| not_a_token())?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn tls(&self) -> Result<Endpoint, CaClientError> {
        let roots = read_roots(&self.root_file).await?;
        let mut tls = ClientTlsConfig::new().ca_certificate(TlsRoot::from_pem(roots.to_pem()));
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name.clone());
        }
        self.endpoint.clone().tls_config(tls).map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> CaClientError {
        let mut last = error;
        while let Some(deeper) = last.source() {
            last = deeper;
        }
        CaClientError::Connect { address: self.endpoint.uri().to_string(), cause: last.to_string() }
    }
}

async fn read_roots(path: &Path) -> Result<TrustBundle, CaClientError> {
    let text = tokio::fs::read(path)
        .await
        .map_err(|source| CaClientError::Root { path: path.to_owned(), source })?;
    TrustBundle::from_pem(&text).map_err(|source| CaClientError::NotRoots { path: path.to_owned(), source })
}
