//! Why the CA did not start, or stopped.

use std::path::PathBuf;

use crate::admin;
use crate::attest::InvalidKeySet;
use crate::authority;
use crate::authz::tokens::UnusableRoots;
use crate::issuance::ServingError;
use crate::k8s;

/// Why the CA did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The self-signed root cannot be used.
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
    /// The plugged-in CA cannot be used.
    #[error(transparent)]
    Plugged(#[from] authority::PluggedError),
    /// No API server.
    #[error(transparent)]
    Connect(#[from] k8s::ConnectError),
    /// A rule is missing.
    #[error(transparent)]
    Denied(#[from] k8s::Denied),
    /// Whom it has certified cannot be kept.
    #[error(
        "the census in `{path}`: {source}; make room, or see to its permissions: without it no rotation could know whom to wait for"
    )]
    Census {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The operators' socket cannot be used.
    #[error("--admin-socket: {0}")]
    Socket(#[from] crate::agent::SocketError),
    /// The roots cannot be written.
    #[error("bundle file `{path}`: {source}")]
    BundleFile {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The key set cannot be read.
    #[error("key set `{path}`: {source}")]
    KeySetFile {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The key set cannot be used.
    #[error(transparent)]
    KeySet(#[from] InvalidKeySet),
    /// An address is taken.
    #[error(transparent)]
    Bind(#[from] admin::BindError),
    /// The CA cannot make a certificate for itself.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Token issuers could not be trusted.
    #[error(transparent)]
    TokenIssuers(#[from] UnusableRoots),
    /// A listener failed while serving.
    #[error("the listener failed: {0}")]
    Listener(#[from] std::io::Error),
    /// A part ended by itself.
    #[error("a part of the CA ended by itself; the log above has the reason, if it has one")]
    Ended,
    /// The gRPC server failed.
    #[error("the certificate service failed: {0}")]
    Server(#[from] tonic::transport::Error),
}
