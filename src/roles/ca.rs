//! `burgrave ca`: the certificate service, its own certificate, and its admin pages.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus_client::registry::Registry;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin;
use crate::admin::Admin;
use crate::attest::Attestor;
use crate::attest::InvalidKeySet;
use crate::attest::JwtAttestor;
use crate::attest::TokenReviewAttestor;
use crate::authority;
use crate::authority::EmbeddedStore;
use crate::clock::Clock;
use crate::config::AttestBy;
use crate::config::Authority;
use crate::config::CaConfig;
use crate::issuance::CertificateService;
use crate::issuance::GrantPolicy;
use crate::issuance::IssuanceMetrics;
use crate::issuance::Pipeline;
use crate::issuance::ServingError;
use crate::issuance::ServingNames;
use crate::issuance::serving_certificate;
use crate::k8s;
use crate::k8s::PermissionCheck;
use crate::signer::Issuer;
use crate::telemetry::Expiries;
use crate::telemetry::Expiring;
use crate::tls;
use crate::tls::HotCertificate;

/// Life of the CA's own certificate; it is replaced at half of it.
const SERVING_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How soon something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often we ask whether we still may do what we may.
const NOW_AND_THEN: Duration = Duration::from_secs(30);
/// How long one request may take, from its first byte to its answer.
const REQUEST: Duration = Duration::from_secs(20);
/// How long a connection may live before its client is asked to open another; strangers cannot hold them for ever.
const CONNECTION: Duration = Duration::from_secs(600);
/// What we must be allowed to do.
const REVIEW_TOKENS: k8s::Rule =
    k8s::Rule { group: "authentication.k8s.io", resource: "tokenreviews", verb: "create" };

/// Why the CA did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] authority::StoreError),
    /// The self-signed root cannot be used.
    #[error(transparent)]
    SelfSigned(#[from] authority::AuthorityError),
    /// The plugged-in CA cannot be used.
    #[error(transparent)]
    Plugged(#[from] authority::PluggedError),
    /// No API server.
    #[error(transparent)]
    Connect(#[from] k8s::ConnectError),
    /// A rule is missing.
    #[error(transparent)]
    Denied(#[from] k8s::Denied),
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

/// What callers are proven by, as a fact about the process: `None` while all is well.
type Complaint = Arc<Mutex<Option<String>>>;

/// A CA that listens, and serves once [`Ca::serve`] is called.
#[derive(Debug)]
pub struct Ca {
    config: CaConfig,
    clock: Clock,
    issuer: watch::Sender<Arc<Issuer>>,
    attestor: Arc<dyn Attestor>,
    complaint: Complaint,
    /// Keeps the store's lock for as long as the CA runs.
    _store: Option<EmbeddedStore>,
    api: TcpListener,
    pages: TcpListener,
    background: JoinSet<()>,
}

impl Ca {
    /// Loads or makes the root, asks the API server whether we may review tokens, and binds both addresses.
    ///
    /// # Errors
    /// If any of it fails; an API server that does not answer is not an error: the CA starts and is not ready.
    pub async fn start(config: CaConfig, clock: Clock) -> Result<Self, CaError> {
        let now = clock.now();
        let (store, issuer) = match &config.authority {
            Authority::Plugged { directory } => {
                (None, authority::load_plugged(directory, &config.trust_domain, now)?)
            }
            Authority::SelfSigned { state_dir, lifetime } => {
                let (store, issuer, origin) =
                    authority::self_signed(state_dir, &config.trust_domain, *lifetime, now)?;
                tracing::info!(?origin, state_dir = %state_dir.display(), "the root is self-signed");
                (Some(store), issuer)
            }
        };
        tracing::info!(
            root = %issuer.bundle().roots().iter().map(|root| root.fingerprint()).collect::<Vec<_>>().join(" "),
            signs = issuer.certificate().facts().subject_text,
            expires_at = %issuer.not_after(),
            "the authority is loaded"
        );
        if let Some(path) = &config.bundle_file {
            write_bundle(path, &issuer.bundle().to_pem())?;
        }
        let complaint = Complaint::default();
        let mut background = JoinSet::new();
        let api = admin::bind(config.listen, "--listen").await?;
        let pages = admin::bind(config.admin_listen, "--admin-listen").await?;
        let attestor = attestor(&config, &clock, &complaint, &mut background).await?;
        let issuer = watch::Sender::new(Arc::new(issuer));
        Ok(Self { config, clock, issuer, attestor, complaint, _store: store, api, pages, background })
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
        let certificate = HotCertificate::default();
        let serving = Serving {
            certificate: certificate.clone(),
            names: self.config.serving_names.clone(),
            backdate: self.config.profile.backdate(),
            issuer: self.issuer.subscribe(),
            clock: self.clock.clone(),
        };
        let first_end = watch::Sender::new(serving.renew()?);
        let (serving_end, serving_ends) = (first_end.subscribe(), first_end.subscribe());
        self.background.spawn(serving.keep_fresh(first_end));
        let held = {
            let issuer = self.issuer.subscribe();
            move || held(&issuer.borrow(), *serving_end.borrow())
        };
        registry.register_collector(Box::new(Expiries::new(held, self.clock.clone())));

        let pipeline = Arc::new(Pipeline::new(
            self.attestor.clone(),
            GrantPolicy::new(self.config.trust_domain.clone(), self.config.profile),
            self.issuer.subscribe(),
            self.clock.clone(),
            metrics,
        ));
        let ready = {
            let (issuer, clock, complaint) =
                (self.issuer.subscribe(), self.clock.clone(), self.complaint.clone());
            move || {
                let now = clock.now();
                let issuer = issuer.borrow().clone();
                issuer.try_out(now).map_err(|error| error.to_string())?;
                let serving_end = *serving_ends.borrow();
                if serving_end <= now {
                    return Err(format!(
                        "the CA's own certificate expired at {serving_end}; the log says why"
                    ));
                }
                complaint.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
            }
        };
        tracing::info!(
            address = %self.api.local_addr()?,
            admin_address = %self.pages.local_addr()?,
            trust_domain = %self.config.trust_domain,
            "the CA serves"
        );
        let pages = Admin::new(registry, Arc::new(ready)).serve(self.pages, stop.clone());
        let connections = tls::incoming(self.api, certificate.server_config()?);
        let api = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .max_concurrent_streams(Some(128))
            .timeout(REQUEST)
            .max_connection_age(CONNECTION)
            .max_connection_age_grace(REQUEST)
            .add_service(CertificateService::server(pipeline))
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(self.config.drain).await;
        };
        // Each ends by itself only if something is wrong.
        let asked_to = |()| if stop.is_cancelled() { Ok(()) } else { Err(CaError::Ended) };
        let served = async {
            tokio::try_join!(async { api.await.map_err(CaError::from).and_then(asked_to) }, async {
                pages.await.map_err(CaError::from).and_then(asked_to)
            },)
        };
        tokio::select! {
            served = served => served.map(|_| ()),
            // It renews the CA's own certificate; without it we would fail in a day and not know.
            Some(_) = self.background.join_next() => Err(CaError::Ended),
            () = drained => {
                tracing::warn!("connections were still open when the time for draining ended");
                Ok(())
            }
        }
    }
}

/// Writes beside the file and moves it into place, so that no reader finds half of it.
fn write_bundle(path: &Path, pem: &str) -> Result<(), CaError> {
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&aside, pem)
        .and_then(|()| std::fs::rename(&aside, path))
        .map_err(|source| CaError::BundleFile { path: path.to_owned(), source })
}

async fn attestor(
    config: &CaConfig,
    clock: &Clock,
    complaint: &Complaint,
    background: &mut JoinSet<()>,
) -> Result<Arc<dyn Attestor>, CaError> {
    let audiences = config.audiences.clone();
    match &config.attest_by {
        AttestBy::Jwks { file, issuer } => {
            let keys = std::fs::read_to_string(file)
                .map_err(|source| CaError::KeySetFile { path: file.clone(), source })?;
            Ok(Arc::new(JwtAttestor::new(issuer.clone(), &keys, audiences, clock.clone())?))
        }
        AttestBy::TokenReview { kubeconfig } => {
            let client = k8s::connect(kubeconfig.as_deref()).await?;
            match k8s::may(&client, REVIEW_TOKENS).await {
                Err(PermissionCheck::Denied(denied)) => return Err(denied.into()),
                Ok(()) => {}
                Err(unanswered) => complain(complaint, Some(unanswered.to_string())),
            }
            background.spawn(keep_asking(client.clone(), complaint.clone()));
            Ok(Arc::new(TokenReviewAttestor::new(client, audiences, clock.clone())))
        }
    }
}

/// Asks again and again whether we may review tokens: soon while the answer was never yes, now and then afterwards, as a
/// rule that was there can be taken away. An API server that is only away for a while does not make us unready: callers
/// are told to come again, and another CA could not do better.
async fn keep_asking(client: kube::Client, complaint: Complaint) {
    loop {
        let is_well = complaint.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        tokio::time::sleep(if is_well { NOW_AND_THEN } else { AGAIN }).await;
        match k8s::may(&client, REVIEW_TOKENS).await {
            Ok(()) => complain(&complaint, None),
            Err(PermissionCheck::Denied(denied)) => complain(&complaint, Some(denied.to_string())),
            Err(unanswered) if !is_well => complain(&complaint, Some(unanswered.to_string())),
            Err(unanswered) => tracing::debug!(error = %unanswered, "the API server is away"),
        }
    }
}

fn complain(complaint: &Complaint, now: Option<String>) {
    let mut held = complaint.lock().unwrap_or_else(PoisonError::into_inner);
    if *held != now {
        match &now {
            Some(error) => tracing::warn!(error, "the CA is not ready"),
            None => tracing::info!("the CA is ready"),
        }
        *held = now;
    }
}

fn held(issuer: &Issuer, serving_end: OffsetDateTime) -> Vec<(Expiring, OffsetDateTime)> {
    let one = |kind, certificate: &crate::x509::Certificate| {
        let id = certificate.fingerprint().chars().take(16).collect();
        (Expiring { kind, id }, certificate.facts().not_after)
    };
    let roots = issuer.bundle().roots().iter().map(|root| one("root", root));
    let issuers = issuer.intermediates().iter().map(|issuer| one("issuer", issuer));
    let serving = (Expiring { kind: "serving", id: "ca".to_owned() }, serving_end);
    roots.chain(issuers).chain([serving]).collect()
}

/// The CA's own certificate, kept fresh.
struct Serving {
    certificate: HotCertificate,
    names: ServingNames,
    backdate: Duration,
    issuer: watch::Receiver<Arc<Issuer>>,
    clock: Clock,
}

impl Serving {
    fn renew(&self) -> Result<OffsetDateTime, ServingError> {
        let issuer = self.issuer.borrow().clone();
        let now = self.clock.now();
        let (certificate, end) =
            serving_certificate(&issuer, &self.names, self.backdate, SERVING_LIFETIME, now)?;
        self.certificate.swap(certificate);
        tracing::info!(expires_at = %end, "the CA's own certificate is new");
        Ok(end)
    }

    /// Renews at half of its life, and at once when the issuer changes.
    async fn keep_fresh(mut self, end: watch::Sender<OffsetDateTime>) {
        loop {
            let now = self.clock.now();
            // With an issuer near its end the halves become ever shorter; they need not become a storm.
            let half: OffsetDateTime = now + (*end.borrow() - now) / 2;
            let due = half.max(now + AGAIN);
            let changed = tokio::select! {
                () = self.clock.sleep_until(due) => Ok(()),
                changed = self.issuer.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            match self.renew() {
                Ok(renewed) => drop(end.send_replace(renewed)),
                Err(error) => {
                    tracing::error!(%error, "the CA's own certificate could not be renewed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
