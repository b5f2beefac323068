//! One workload of the demo: its token, its agent, and what the agent holds.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::config::AgentConfig;
use crate::config::ConfigError;
use crate::config::RawAgent;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::roles::agent::Agent;
use crate::roles::quickstart::error::QuickstartError;
use crate::roles::quickstart::error::broken;
use crate::roles::quickstart::token_issuer::TokenIssuer;
use crate::sds::Identity;
use crate::sds::Secrets;
use crate::sds::Subscribers;
use crate::sds::Version;
use crate::sds::names;
use crate::tls;

/// Trust domain of everything that is shown.
pub(super) const TRUST_DOMAIN: &str = "quickstart.local";
/// Namespace of the workloads.
pub(super) const NAMESPACE: &str = "demo";
/// How long the first certificate, or a renewed one, may take to arrive.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// One workload's agent, from outside.
pub(super) struct Workload {
    pub(super) id: SpiffeId,
    pub(super) socket: PathBuf,
    secrets: watch::Receiver<Arc<Secrets>>,
    pub(super) renew: Arc<Notify>,
    subscribers: Subscribers,
}

impl Workload {
    pub(super) async fn start(
        directory: &Path,
        name: &str,
        ca: SocketAddr,
        domain: &TrustDomain,
        tokens: &TokenIssuer,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, QuickstartError> {
        let config = agent_config(directory, name, ca)?;
        write(&config.token_file, &token(tokens, name)?)?;
        let socket = config.socket.clone();
        let agent = Agent::start(config, Clock::system()).await?;
        let (secrets, renew, subscribers) = (agent.secrets(), agent.renew(), agent.subscribers());
        let serving = agent.serve(stop.clone());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "an agent ended");
            }
        });
        let id = SpiffeId::of_service_account(domain, NAMESPACE, name)
            .map_err(|error| broken("ca")(error.to_string()))?;
        Ok(Self { id, socket, secrets, renew, subscribers })
    }

    /// A TLS client that shows this workload's certificate of this moment, and talks to nobody but `peer`.
    pub(super) fn tls_to(&self, peer: &SpiffeId) -> Result<Arc<ClientConfig>, QuickstartError> {
        let held = self.secrets.borrow().clone();
        let (Some(identity), Some(trust)) = (&held.identity, &held.trust) else {
            return Err(broken("traffic")(format!("{} holds no certificate", self.id)));
        };
        let bundle = trust.bundle().clone();
        tls::spiffe_client(identity.chain(), identity.key(), bundle, peer.clone())
            .map(Arc::new)
            .map_err(|error| broken("traffic")(error.to_string()))
    }

    /// Waits for the first certificate.
    pub(super) async fn certified(&mut self) -> Result<(), QuickstartError> {
        let mut secrets = self.secrets.clone();
        let first = secrets.wait_for(|held| held.identity.is_some());
        match tokio::time::timeout(PATIENCE, first).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(broken("chain")(format!("{} got no certificate", self.id))),
        }
    }

    /// Waits until every proxy of this workload uses the certificate of this version.
    pub(super) async fn accepted(&self, version: &Version) -> Result<(), QuickstartError> {
        let answered = self.subscribers.have_answered(names::IDENTITY, version);
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(broken("traffic")(format!("a proxy of {} rejected its certificate", self.id))),
            Err(_) => Err(broken("traffic")(format!("a proxy of {} did not answer", self.id))),
        }
    }

    /// Asks for a new certificate and waits until it is published; returns it with the moment of that.
    pub(super) async fn rotated(&self) -> Result<(Identity, Stopwatch), QuickstartError> {
        let version = |held: &Secrets| held.identity.as_ref().map(|identity| identity.version().clone());
        let mut secrets = self.secrets.clone();
        let before = version(&secrets.borrow_and_update());
        self.renew.notify_one();
        let renewed = tokio::time::timeout(PATIENCE, secrets.wait_for(|held| version(held) != before)).await;
        let published = Stopwatch::start();
        match renewed {
            Ok(Ok(held)) => match &held.identity {
                Some(identity) => Ok((identity.clone(), published)),
                None => Err(broken("traffic")("a certificate was taken away".to_owned())),
            },
            _ => Err(broken("traffic")(format!("{} got no new certificate", self.id))),
        }
    }
}

pub(super) fn agent_config(directory: &Path, name: &str, ca: SocketAddr) -> Result<AgentConfig, ConfigError> {
    RawAgent {
        ca_address: Some(format!("https://{ca}")),
        ca_root_file: Some(directory.join("root-cert.pem")),
        token_file: Some(directory.join(format!("{name}.token"))),
        socket: Some(directory.join(format!("{name}.sock"))),
        admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..RawAgent::default()
    }
    .resolve()
}

pub(super) fn token(tokens: &TokenIssuer, account: &str) -> Result<String, QuickstartError> {
    tokens
        .token(NAMESPACE, account, Clock::system().now())
        .map_err(|_| broken("token")("it could not be signed".to_owned()))
}

/// Writes a file that only we can read: some of them are tokens.
pub(super) fn write(path: &Path, text: &str) -> Result<(), QuickstartError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| QuickstartError::Io { path: path.to_owned(), source })
}
