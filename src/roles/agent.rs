//! `burgrave agent`: renewal, the secret service on its socket, and its admin pages.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin;
use crate::admin::Admin;
use crate::agent;
use crate::agent::AgentMetrics;
use crate::agent::CaClient;
use crate::agent::Heard;
use crate::agent::HeldSocket;
use crate::agent::Patience;
use crate::agent::Publication;
use crate::agent::Renewal;
use crate::agent::Upstream;
use crate::agent::Upward;
use crate::authz::AuthorizationService;
use crate::authz::Enforcement;
use crate::authz::ExtensionService;
use crate::authz::Told;
use crate::authz::tokens::Fetcher;
use crate::authz::tokens::Keeper;
use crate::authz::tokens::KeyBook;
use crate::authz::tokens::Times;
use crate::authz::tokens::UnusableRoots;
use crate::clock::Clock;
use crate::config::AgentConfig;
use crate::roles::ext_authz::ExtAuthz;
use crate::sds::Discovery;
use crate::sds::SdsMetrics;
use crate::sds::SecretService;
use crate::sds::Secrets;
use crate::sds::Subscribers;
use crate::sds::names;
use crate::telemetry::Expiries;
use crate::telemetry::Expiring;
use crate::telemetry::Held;

/// How long streams may take to end after SIGTERM; each gets its last word at once.
const DRAIN: Duration = Duration::from_secs(2);

/// How often a silent proxy is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why the agent did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The socket cannot be used.
    #[error(transparent)]
    Socket(#[from] agent::SocketError),
    /// An address is taken.
    #[error(transparent)]
    Bind(#[from] admin::BindError),
    /// A listener failed while serving.
    #[error("the listener failed: {0}")]
    Listener(#[from] std::io::Error),
    /// Token issuers could not be trusted.
    #[error(transparent)]
    TokenIssuers(#[from] UnusableRoots),
    /// The gRPC server failed.
    #[error("the secret service failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// An agent that listens, and works once [`Agent::serve`] is called.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    clock: Clock,
    secrets: watch::Sender<Arc<Secrets>>,
    subscribers: Subscribers,
    policies: watch::Sender<Told>,
    renew: Arc<Notify>,
    socket: UnixListener,
    held_socket: HeldSocket,
    pages: TcpListener,
    patience: Patience,
}

impl Agent {
    /// Binds the socket and the admin address.
    ///
    /// # Errors
    /// If one of them cannot be bound.
    pub async fn start(config: AgentConfig, clock: Clock) -> Result<Self, AgentError> {
        let (socket, held_socket) = agent::bind_socket(&config.socket, config.socket_mode).await?;
        let pages = admin::bind(config.admin_listen, "--admin-listen").await?;
        Ok(Self {
            config,
            clock,
            secrets: watch::Sender::new(Arc::default()),
            subscribers: Subscribers::default(),
            policies: watch::Sender::new(None),
            renew: Arc::new(Notify::new()),
            socket,
            held_socket,
            pages,
            patience: Patience::default(),
        })
    }

    /// What the agent holds, as it changes.
    pub fn secrets(&self) -> watch::Receiver<Arc<Secrets>> {
        self.secrets.subscribe()
    }

    /// The proxies that are connected.
    pub fn subscribers(&self) -> Subscribers {
        self.subscribers.clone()
    }

    /// Tells the agent to renew now.
    pub fn renew(&self) -> Arc<Notify> {
        self.renew.clone()
    }

    /// Renews and serves until `stop` is cancelled.
    ///
    /// # Errors
    /// If a server fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), AgentError> {
        let mut registry = Registry::default();
        let held = {
            let secrets = self.secrets.subscribe();
            move || held(&secrets.borrow())
        };
        registry.register_collector(Box::new(Expiries::new(held, self.clock.clone())));
        let (metrics, sds_metrics) = (AgentMetrics::new(&mut registry), SdsMetrics::new(&mut registry));
        let ready = {
            let (secrets, clock) = (self.secrets.subscribe(), self.clock.clone());
            move || ready(&secrets.borrow(), &clock)
        };
        let enforcement = Enforcement::default();
        registry.register_collector(Box::new(enforcement.clone()));
        let (upward, told) = watch::channel(Upward::default());
        let state = {
            let (secrets, subscribers) = (self.secrets.subscribe(), self.subscribers.clone());
            let enforcement = enforcement.clone();
            let polite = self.patience.silence;
            move || {
                let policies = enforcement.progress(polite);
                agent::state(&secrets.borrow(), &subscribers.all(), &told.borrow(), &policies)
            }
        };
        tracing::info!(
            socket = %self.config.socket.display(),
            admin_address = %self.pages.local_addr()?,
            ca = %self.config.ca.uri(),
            "the agent serves"
        );
        let extensions = ExtensionService {
            enforcement: enforcement.clone(),
            discovery: Discovery::new(self.subscribers.clone(), sds_metrics.clone(), stop.clone()),
        };
        let sds =
            SecretService::new(self.secrets.subscribe(), self.subscribers.clone(), sds_metrics, stop.clone());
        let ext_authz = self.config.ext_authz.map(|config| ExtAuthz::new(config, &mut registry, &self.clock));
        let ext_authz = ext_authz.transpose()?;
        let (book, keeping) = match &ext_authz {
            Some(parts) => (parts.book(), None),
            None => keys(self.config.token_issuer_root_file.as_deref(), &self.clock, stop.clone()),
        };
        let ext_authz = ext_authz.map(|parts| parts.for_own(self.policies.subscribe(), stop.clone()));
        let (ext_authz, deciding) = ext_authz.unzip();
        let (root_file, changed_roots) = watch::channel(None);
        let roots = agent::watch_root_file(self.config.ca_root_file.clone(), root_file, stop.clone());
        let (hearing, heard) = watch::channel(Heard::default());
        let ca = CaClient::new(
            self.config.ca,
            self.config.ca_server_name,
            self.config.ca_root_file,
            self.config.token_file,
            self.config.leaf_lifetime,
        )
        .trusting(self.secrets.subscribe());
        let upstream = Upstream {
            ca: ca.clone(),
            node: Upstream::name().await,
            heard: hearing,
            secrets: self.secrets.subscribe(),
            subscribers: self.subscribers.clone(),
            enforcement: enforcement.clone(),
            upward,
            clock: self.clock.clone(),
            metrics: metrics.clone(),
            patience: self.patience,
        };
        let enforcing = agent::enforce(
            heard.clone(),
            enforcement.clone(),
            self.policies.clone(),
            book,
            self.clock.clone(),
        );
        let renewal = Renewal {
            ca,
            publication: Publication::new(self.secrets, self.subscribers),
            clock: self.clock,
            metrics,
            now: self.renew,
            root_file: changed_roots,
            heard,
        };
        let pages = Admin::new(registry, Arc::new(ready), Arc::new(state)).serve(self.pages, stop.clone());
        let api = Server::builder()
            // A frozen proxy must not be waited for whenever the roots change.
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_service(sds.server())
            .add_service(extensions.server())
            .add_optional_service(ext_authz.map(AuthorizationService::server))
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(self.socket),
                stop.clone().cancelled_owned(),
            );
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let served = async {
            tokio::try_join!(
                async { api.await.map_err(AgentError::from) },
                async { pages.await.map_err(AgentError::from) },
                async {
                    let policies = async {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = enforcing => {}
                            () = enforcement.tend() => {}
                        }
                    };
                    let deciding = OptionFuture::from(deciding);
                    let keeping = OptionFuture::from(keeping);
                    let (renewing, listening) = (renewal.run(stop.clone()), upstream.run(stop.clone()));
                    tokio::join!(renewing, listening, roots, policies, deciding, keeping);
                    Ok(())
                },
            )
        };
        let result = tokio::select! {
            served = served => served.map(|_| ()),
            () = drained => Ok(()),
        };
        drop(self.held_socket);
        result
    }
}

/// Where the keys of token issuers are looked up, and the work that keeps them fresh. Without roots to trust issuers by there is no
/// such work, and no token of theirs is good.
fn keys(
    root_file: Option<&Path>,
    clock: &Clock,
    stop: CancellationToken,
) -> (KeyBook, Option<impl Future<Output = ()> + Send + use<>>) {
    let book = KeyBook::default();
    match Fetcher::new(root_file) {
        Ok(fetcher) => {
            let keeper = Keeper::new(book.clone(), fetcher, Times::default(), clock.clone());
            (book, Some(keeper.run(stop)))
        }
        Err(error) => {
            tracing::warn!(%error, "keys that token issuers publish are not fetched; their tokens are refused");
            (book, None)
        }
    }
}

fn held(secrets: &Secrets) -> Held {
    let valid = secrets.identity.as_ref().map(|identity| identity.chain().leaf().facts().not_after);
    let leaf = valid.or(secrets.expired_at).map(|until| {
        let expiring = Expiring { kind: "leaf", id: names::IDENTITY.to_owned() };
        (expiring, until)
    });
    let roots = secrets.trust.iter().flat_map(|trust| trust.bundle().roots()).map(|root| {
        let id = root.fingerprint().chars().take(16).collect();
        (Expiring { kind: "root", id }, root.facts().not_after)
    });
    leaf.into_iter().chain(roots).collect()
}

fn ready(secrets: &Secrets, clock: &Clock) -> Result<(), String> {
    let until = secrets.identity.as_ref().map(|identity| identity.chain().leaf().facts().not_after);
    match until.or(secrets.expired_at) {
        None => Err("no certificate has been issued yet; the log says why".to_owned()),
        Some(until) if until > clock.now() => Ok(()),
        Some(until) => {
            Err(format!("the certificate expired at {until} and could not be renewed; the log says why"))
        }
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
