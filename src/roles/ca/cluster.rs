//! What the CA does for the cluster it runs in: shares its root, follows policies, runs for leader, and, as the leader, publishes trust.

use std::future::Future;
use std::sync::Arc;

use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::authority::Follower;
use crate::authority::KubernetesStore;
use crate::authz::Library;
use crate::authz::cluster::Directory;
use crate::authz::cluster::Notice;
use crate::authz::cluster::Policies;
use crate::authz::cluster::PolicyMetrics;
use crate::authz::webhook::ConfigurationKeeper;
use crate::census::Census;
use crate::chance;
use crate::clock::Clock;
use crate::config::Authority;
use crate::config::CaConfig;
use crate::config::ClusterConfig;
use crate::config::PolicyConfig;
use crate::config::PolicySource;
use crate::distribution::Distribution;
use crate::distribution::DistributionMetrics;
use crate::distribution::Latest;
use crate::distribution::Publisher;
use crate::distribution::ROOT_ANNOTATION;
use crate::distribution::Survey;
use crate::identity::TrustDomain;
use crate::k8s;
use crate::k8s::Candidacy;
use crate::k8s::Leadership;
use crate::pod_certificates::Board;
use crate::pod_certificates::PodCertificateMetrics;
use crate::pod_certificates::PodCertificates;
use crate::roles::ca::error::CaError;
use crate::rotation::Exchange;
use crate::signer::Issuer;

/// The cluster, as this process reaches it.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    namespace: String,
    config: ClusterConfig,
    policies: Option<PolicyConfig>,
    trust_domain: TrustDomain,
    /// A name that no other process has: a pod's container that is started again is another one under the same pod's name.
    replica: String,
}

/// What the work for the cluster is done with.
#[derive(Clone, Copy)]
pub(super) struct Signing<'a> {
    pub(super) issuer: &'a watch::Receiver<Arc<Issuer>>,
    /// Where the authority is kept, if others may change it.
    pub(super) follower: Option<&'a (Follower, KubernetesStore)>,
    pub(super) census: &'a Census,
    pub(super) clock: &'a Clock,
}

/// What runs for the cluster, as others see it.
#[derive(Clone, Debug)]
pub(super) struct Controllers {
    pub(super) leadership: Leadership,
    pub(super) distribution: Distribution,
    pub(super) pod_certificates: Board,
    pub(super) policies: Option<Followed>,
}

/// The policies of the cluster, as others see them.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    /// What applies to each workload.
    pub(super) known: Library,
    /// Which workload each pod is.
    pub(super) directory: Directory,
    pub(super) notice: Notice,
    /// What is wrong with the webhook's configuration.
    pub(super) webhook: watch::Receiver<Option<String>>,
}

impl Cluster {
    /// Reaches the API server, if anything of the configuration needs it.
    pub(super) async fn reach(config: &CaConfig) -> Result<Option<Self>, CaError> {
        let is_shared = matches!(config.authority, Authority::Shared { .. });
        if !is_shared && config.cluster.election.is_none() {
            return Ok(None);
        }
        let client = k8s::connect(config.cluster.kubeconfig.as_deref()).await?;
        let namespace = match &config.cluster.namespace {
            Some(namespace) => namespace.clone(),
            None => client.default_namespace().to_owned(),
        };
        let trust_domain = config.trust_domain.clone();
        let pod = config.cluster.election.as_ref().map_or("burgrave", |election| election.replica.as_str());
        let replica = format!("{pod}_{}", chance::tag());
        let policies = config.policies.clone();
        Ok(Some(Self { client, namespace, config: config.cluster.clone(), policies, trust_domain, replica }))
    }

    /// This process's name.
    pub(super) fn replica(&self) -> &str {
        &self.replica
    }

    /// The exchange with other replicas.
    pub(super) fn exchange(&self, leadership: &Leadership, latest: Latest, clock: &Clock) -> Exchange {
        Exchange {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            replica: self.replica.clone(),
            clock: clock.clone(),
            leadership: leadership.clone(),
            latest,
        }
    }

    pub(super) fn store(&self, secret: &str) -> KubernetesStore {
        KubernetesStore::new(self.client.clone(), &self.namespace, secret)
    }

    pub(super) fn survey(&self) -> Survey {
        let lease = self.config.election.as_ref().map(|election| election.lease.clone());
        Survey {
            client: self.client.clone(),
            names: self.config.names.clone(),
            lease: lease.map(|lease| (self.namespace.clone(), lease)),
        }
    }

    /// Runs for leader, and has `background` do the leader's work whenever this process leads. The future gives the office
    /// back when `stop` is cancelled.
    pub(super) fn control(
        &self,
        signing: &Signing<'_>,
        registry: &mut Registry,
        background: &mut JoinSet<()>,
        stop: CancellationToken,
    ) -> Option<(Controllers, impl Future<Output = ()> + Send + use<>)> {
        let election = self.config.election.as_ref()?;
        let Signing { issuer, follower, census, clock } = *signing;
        let annotations = {
            let issuer = issuer.clone();
            move || {
                let root = issuer.borrow().root().fingerprint();
                [(ROOT_ANNOTATION.to_owned(), root)].into()
            }
        };
        let (leadership, campaign) = Candidacy {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            lease: election.lease.clone(),
            name: self.replica.clone(),
            timing: election.timing,
            annotations: Arc::new(annotations),
            clock: clock.clone(),
        }
        .run(stop);
        let (status, distribution) = watch::channel(None);
        let publisher = Publisher {
            client: self.client.clone(),
            names: self.config.names.clone(),
            issuer: issuer.clone(),
            leadership: leadership.clone(),
            status,
            metrics: DistributionMetrics::new(registry, distribution.clone()),
            latest: latest(follower),
        };
        let pod_certificates = Board::default();
        match &election.pods {
            Ok(profile) => {
                let signer = PodCertificates {
                    client: self.client.clone(),
                    signer_name: self.config.names.signer.clone(),
                    trust_domain: self.trust_domain.clone(),
                    profile: *profile,
                    issuer: issuer.clone(),
                    leadership: leadership.clone(),
                    census: census.clone(),
                    clock: clock.clone(),
                    metrics: PodCertificateMetrics::new(registry),
                    board: pod_certificates.clone(),
                };
                background.spawn(leadership.clone().while_leading(move || signer.clone().run()));
            }
            Err(why) => tracing::warn!(error = %why, "no pod certificates are signed"),
        }
        background.spawn(leadership.clone().while_leading(move || publisher.clone().run()));
        let policies = self
            .policies
            .as_ref()
            .and_then(|config| self.follow(config, signing, &leadership, registry, background));
        Some((Controllers { leadership, distribution, pod_certificates, policies }, campaign))
    }

    /// Follows the policies of the cluster, on every replica, and on the leader keeps the webhook's configuration fresh.
    fn follow(
        &self,
        config: &PolicyConfig,
        signing: &Signing<'_>,
        leadership: &Leadership,
        registry: &mut Registry,
        background: &mut JoinSet<()>,
    ) -> Option<Followed> {
        let PolicySource::Cluster { domain, webhook } = &config.source else { return None };
        let (directory, notice) = (Directory::new(domain), Notice::default());
        let known = Library::new(config.mesh.clone());
        let policies = Policies {
            client: self.client.clone(),
            known: known.clone(),
            directory: directory.clone(),
            mesh: config.mesh.clone(),
            leadership: leadership.clone(),
            clock: signing.clock.clone(),
            metrics: PolicyMetrics::new(registry, &notice, signing.clock),
            notice: notice.clone(),
        };
        background.spawn(policies.run());
        let (trouble, wrong_with_webhook) = watch::channel(None);
        if let Some(config) = webhook {
            let keeper = ConfigurationKeeper {
                client: self.client.clone(),
                name: config.configuration.clone(),
                namespace: self.namespace.clone(),
                issuer: signing.issuer.clone(),
                leadership: leadership.clone(),
                latest: latest(signing.follower),
                trouble,
            };
            background.spawn(leadership.clone().while_leading(move || keeper.clone().run()));
        }
        Some(Followed { known, directory, notice, webhook: wrong_with_webhook })
    }
}

/// How to make sure that the issuer in use is the latest there is. Files that were read once have no later one.
pub(super) fn latest(follower: Option<&(Follower, KubernetesStore)>) -> Latest {
    let follower = follower.cloned();
    Arc::new(move || {
        let follower = follower.clone();
        Box::pin(async move {
            match follower {
                Some((follower, store)) => follower.look(&store).await.map_err(|error| error.to_string()),
                None => Ok(()),
            }
        })
    })
}
