//! How the CA is reached, and what we show it.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Certificate as TlsRoot;
use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;
use zeroize::Zeroizing;

use crate::agent::roots::union;
use crate::sds::Secrets;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;

/// How often the CA is asked on a silent connection whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the CA is, what it is verified by, and what we show it. Files are read anew for each connection.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) endpoint: Endpoint,
    pub(super) server_name: Option<String>,
    pub(super) root_file: PathBuf,
    pub(super) token_file: PathBuf,
    /// The roots that we hold verify the CA too.
    pub(super) held: Option<watch::Receiver<Arc<Secrets>>>,
}

/// Why there is no way to the CA.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
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
}

impl Door {
    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Channel, DoorError> {
        let mut tls = ClientTlsConfig::new().ca_certificate(TlsRoot::from_pem(self.roots().await?.to_pem()));
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name.clone());
        }
        let endpoint = self
            .endpoint
            .clone()
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tls_config(tls)
            .map_err(|error| self.unreachable(&error))?;
        endpoint.connect().await.map_err(|error| self.unreachable(&error))
    }

    /// The value of `authorization`.
    pub(super) async fn bearer(&self) -> Result<AsciiMetadataValue, DoorError> {
        let text = tokio::fs::read_to_string(&self.token_file)
            .await
            .map(Zeroizing::new)
            .map_err(|source| DoorError::Token { path: self.token_file.clone(), source })?;
        let not_a_token = || DoorError::NotAToken(self.token_file.clone());
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(not_a_token());
        }
        let mut value: AsciiMetadataValue = format!("Bearer {token}").parse().map_err(|_| not_a_token())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The file's roots and those that we hold: a file that is late, or gone, does not lock us out.
    async fn roots(&self) -> Result<TrustBundle, DoorError> {
        let held = self.held.as_ref().and_then(|held| held.borrow().trust.clone());
        match (read_roots(&self.root_file).await, held) {
            (Ok(file), Some(held)) => Ok(union(&file, held.bundle())),
            (Ok(file), None) => Ok(file),
            (Err(error), Some(held)) => {
                tracing::warn!(%error, "the CA is verified by the roots of the trust bundle alone");
                Ok(held.bundle().clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> DoorError {
        let mut last = error;
        while let Some(deeper) = last.source() {
            last = deeper;
        }
        DoorError::Connect { address: self.endpoint.uri().to_string(), cause: last.to_string() }
    }
}

async fn read_roots(path: &Path) -> Result<TrustBundle, DoorError> {
    let text =
        tokio::fs::read(path).await.map_err(|source| DoorError::Root { path: path.to_owned(), source })?;
    TrustBundle::from_pem(&text).map_err(|source| DoorError::NotRoots { path: path.to_owned(), source })
}
