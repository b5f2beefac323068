//! `burgrave ca`: the certificate service, its own certificate, its admin pages, and what it does for its cluster.

mod attestation;
mod cluster;
mod complaints;
mod error;
mod policies;
mod root;
mod rotation;
mod serving;
mod standing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin;
use crate::admin::Admin;
use crate::agent;
use crate::agent::HeldSocket;
use crate::attest::Attestor;
use crate::authority::InForce;
use crate::authz::AuthorizationService;
use crate::authz::webhook::AdmissionMetrics;
use crate::authz::webhook::Webhook;
use crate::census::Census;
use crate::clock::Clock;
use crate::config::CaConfig;
use crate::config::PolicyConfig;
use crate::issuance::CertificateService;
use crate::issuance::GrantPolicy;
use crate::issuance::IssuanceMetrics;
use crate::issuance::Pipeline;
use crate::roles::ca::cluster::Cluster;
use crate::roles::ca::cluster::Signing;
use crate::roles::ca::complaints::Complaints;
pub use crate::roles::ca::error::CaError;
use crate::roles::ca::root::Kept;
use crate::roles::ca::rotation::Rotation;
use crate::roles::ca::serving::Serving;
use crate::roles::ca::standing::Standing;
use crate::roles::ext_authz::ExtAuthz;
use crate::roles::ext_authz::NoPolicies;
use crate::rotation::AdminService;
use crate::rotation::Door;
use crate::rotation::PolicyService;
use crate::rotation::RotationMetrics;
use crate::sds::Discovery;
use crate::sds::SdsMetrics;
use crate::sds::Subscribers;
use crate::telemetry::Expiries;
use crate::tls;
use crate::tls::HotCertificate;

/// How long one request may take, from its first byte to its answer.
const REQUEST: Duration = Duration::from_secs(20);
/// How long a connection may live before its client is asked to open another; strangers cannot hold them for ever. Agents prove
/// themselves anew with each, so a mesh of thousands must not do so all the time.
const CONNECTION: Duration = Duration::from_secs(3600);

/// Permission bits of the operators' socket.
const OPERATORS_ONLY: u32 = 0o600;

/// A CA that listens, and serves once [`Ca::serve`] is called.
pub struct Ca {
    config: CaConfig,
    clock: Clock,
    in_force: InForce,
    kept: Kept,
    cluster: Option<Cluster>,
    attestor: Arc<dyn Attestor>,
    complaints: Complaints,
    census: Census,
    api: TcpListener,
    operators: Option<(UnixListener, HeldSocket)>,
    pages: TcpListener,
    /// Where the API server asks whether policies may be written.
    webhook: Option<TcpListener>,
    background: JoinSet<()>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Ca {
    /// Loads or makes the root, asks the API server whether we may review tokens, and binds both addresses.
    ///
    /// # Errors
    /// If any of it fails. An API server that does not say what we may do is not an error: the CA starts and is not ready.
    pub async fn start(config: CaConfig, clock: Clock) -> Result<Self, CaError> {
        let cluster = Cluster::reach(&config).await?;
        let (held, kept) = root::load(&config, cluster.as_ref(), &clock).await?;
        if let Some(path) = &config.bundle_file {
            root::write_bundle(path, &held.issuer.bundle().to_pem())?;
        }
        let complaints = Complaints::default();
        let mut background = JoinSet::new();
        let api = admin::bind(config.listen, "--listen").await?;
        let pages = admin::bind(config.admin_listen, "--admin-listen").await?;
        let webhook = match config.policies.as_ref().and_then(PolicyConfig::webhook) {
            Some(webhook) => Some(admin::bind(webhook.listen, "--webhook-listen").await?),
            None => None,
        };
        let client = cluster.as_ref().map(|cluster| &cluster.client);
        let attestor = attestation::attestor(&config, client, &clock, &complaints, &mut background).await?;
        let in_force = InForce::new(held);
        let census = match config.state_dir() {
            None => Census::in_memory(clock.clone()),
            Some(directory) => Census::in_directory(directory, clock.clone())
                .map_err(|source| CaError::Census { path: directory.to_owned(), source })?,
        };
        let operators = match &config.admin_socket {
            None => None,
            Some(path) => Some(agent::bind_socket(path, OPERATORS_ONLY).await?),
        };
        Ok(Self {
            config,
            clock,
            in_force,
            kept,
            cluster,
            attestor,
            complaints,
            census,
            api,
            operators,
            pages,
            webhook,
            background,
        })
    }

    /// The address of the certificate service.
    ///
    /// # Errors
    /// If the operating system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.api.local_addr()
    }

    /// Serves until `stop` is cancelled; then finishes what is under way, within the configured time.
    ///
    /// # Errors
    /// If a server fails.
    pub async fn serve(mut self, stop: CancellationToken) -> Result<(), CaError> {
        let mut registry = Registry::default();
        let metrics = IssuanceMetrics::new(&mut registry);
        let issuer = self.in_force.issuer();
        let certificate = HotCertificate::default();
        let serving = Serving {
            certificate: certificate.clone(),
            names: self.config.serving_names.clone(),
            backdate: self.config.profile.backdate(),
            issuer: self.in_force.serving(),
            clock: self.clock.clone(),
        };
        let first_end = watch::Sender::new(serving.renew()?);
        let serving_end = first_end.subscribe();
        self.background.spawn(serving.keep_fresh(first_end));
        if let Some(path) = self.config.bundle_file.clone() {
            self.background.spawn(root::keep_bundle_file(path, issuer.clone()));
        }
        let pipeline = Arc::new(Pipeline::new(
            self.attestor.clone(),
            GrantPolicy::new(self.config.trust_domain.clone(), self.config.profile),
            issuer.clone(),
            self.census.clone(),
            self.clock.clone(),
            metrics,
        ));
        let follower = root::follower(&self.config, &self.clock, &self.in_force, &self.complaints);
        let shared = self.kept.shared().map(|store| (follower.clone(), store));
        let signing =
            Signing { issuer: &issuer, follower: shared.as_ref(), census: &self.census, clock: &self.clock };
        let (controllers, campaign) =
            match self.cluster.as_ref().and_then(|cluster| {
                cluster.control(&signing, &mut registry, &mut self.background, stop.clone())
            }) {
                Some((controllers, campaign)) => (Some(controllers), Some(campaign)),
                None => (None, None),
            };
        let parts = rotation::Parts {
            config: &self.config,
            follower: &follower,
            store: self.kept.store(),
            latest: cluster::latest(shared.as_ref()),
            census: &self.census,
            cluster: self.cluster.as_ref().zip(controllers.as_ref()),
            complaints: &self.complaints,
            clock: &self.clock,
        };
        let rotation = Rotation::new(&parts, &mut self.background);
        let sds_metrics = SdsMetrics::new(&mut registry);
        let agents = rotation.agents(
            &parts,
            self.attestor.clone(),
            sds_metrics.clone(),
            &mut self.background,
            stop.clone(),
        );
        let followed = controllers.as_ref().and_then(|controllers| controllers.policies.as_ref());
        let source = policies::source(&self.config, followed, &mut registry, &mut self.background);
        let policies = source.as_ref().map(|source| {
            let discovery = Discovery::new(Subscribers::default(), sds_metrics, stop.clone());
            policies::service(source, &agents, discovery)
        });
        let operators_over_tls = rotation.admin_over_tls(self.cluster.as_ref());
        let operators = operators(self.operators, &rotation, stop.clone())?;
        let standing = Standing {
            rotation: rotation.view.clone(),
            issuer,
            serving_end,
            complaints: self.complaints.clone(),
            controllers,
            clock: self.clock.clone(),
        };
        if let Some((follower, store)) = shared {
            self.background.spawn(follower.run(store));
        }
        let ext_authz = self.config.ext_authz.clone();
        let ext_authz =
            ext_authz.map(|config| ExtAuthz::new(config, &mut registry, &self.clock)).transpose()?;
        let ext_authz = ext_authz.map(|parts| {
            let source = source.map_or_else(|| Arc::new(NoPolicies) as _, |source| source.proxies);
            let (service, deciding) = parts.for_callers(source, self.attestor.clone(), stop.clone());
            self.background.spawn(deciding);
            service
        });
        tracing::info!(
            address = %self.api.local_addr()?,
            admin_address = %self.pages.local_addr()?,
            trust_domain = %self.config.trust_domain,
            "the CA serves"
        );
        let webhook = Webhook::new(AdmissionMetrics::new(&mut registry));
        let webhook_config = certificate.http1_server_config()?;
        let pages = pages(registry, &standing, self.clock.clone()).serve(self.pages, stop.clone());
        let connections = tls::incoming(self.api, certificate.server_config()?);
        let api = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .max_concurrent_streams(Some(128))
            .timeout(REQUEST)
            .max_connection_age(CONNECTION)
            .max_connection_age_grace(REQUEST)
            .add_service(CertificateService::server(pipeline))
            .add_service(agents.server())
            .add_optional_service(policies.map(PolicyService::server))
            .add_optional_service(ext_authz.map(AuthorizationService::server))
            .add_optional_service(operators_over_tls.map(AdminService::server))
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(self.config.drain).await;
        };
        // Each ends by itself only if something is wrong.
        let asked_to = |()| if stop.is_cancelled() { Ok(()) } else { Err(CaError::Ended) };
        let served = async {
            tokio::try_join!(
                async { api.await.map_err(CaError::from).and_then(asked_to) },
                async { pages.await.map_err(CaError::from).and_then(asked_to) },
                async { operators.await.and_then(asked_to) },
                async {
                    match self.webhook {
                        Some(listener) => webhook.serve(listener, webhook_config, stop.clone()).await?,
                        None => stop.cancelled().await,
                    }
                    asked_to(())
                },
                async {
                    match campaign {
                        Some(campaign) => campaign.await,
                        None => stop.cancelled().await,
                    }
                    asked_to(())
                },
            )
        };
        let background = async {
            // Who works for the leader ends with the campaign; everybody else works for as long as we serve, and without
            // them we would fail in a day and not know.
            while self.background.join_next().await.is_some() && stop.is_cancelled() {}
            if stop.is_cancelled() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            served = served => served.map(|_| ()),
            () = background => Err(CaError::Ended),
            () = drained => {
                tracing::warn!("connections were still open when the time for draining ended");
                Ok(())
            }
        }
    }
}

/// What operators call on the Unix socket, until `stop` is cancelled; at once done where there is none.
fn operators(
    socket: Option<(UnixListener, HeldSocket)>,
    rotation: &Rotation,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<(), CaError>> + Send + use<>, CaError> {
    let service = match &socket {
        None => None,
        // We have just made it, so its owner is who we are.
        Some((_, held)) => Some(rotation.admin(Door::Socket { uid: held.owner()? })),
    };
    Ok(async move {
        let Some(((listener, _held), service)) = socket.zip(service) else {
            stop.cancelled().await;
            return Ok(());
        };
        let served = Server::builder()
            .max_concurrent_streams(Some(128))
            .add_service(service.server())
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned());
        served.await.map_err(CaError::from)
    })
}

fn pages(mut registry: Registry, standing: &Standing, clock: Clock) -> Admin {
    let (held, ready, state) = (standing.clone(), standing.clone(), standing.clone());
    registry.register_collector(Box::new(Expiries::new(move || held.held(), clock)));
    registry.register_collector(Box::new(standing.clone()));
    registry.register_collector(Box::new(RotationMetrics(standing.rotation.clone())));
    Admin::new(registry, Arc::new(move || ready.ready()), Arc::new(move || state.state()))
}
