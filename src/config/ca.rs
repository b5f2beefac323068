//! Settings of `burgrave ca`.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::authority::largest_leaf_lifetime_a_scheduled_rotation_never_cuts_short;
use crate::authz::Mesh;
use crate::config::duration::HumanDuration;
use crate::config::ext_authz::ExtAuthzConfig;
use crate::config::ext_authz::RawExtAuthz;
use crate::config::layers::ConfigError;
use crate::config::layers::over_file;
use crate::distribution::Names;
use crate::identity::TrustDomain;
use crate::issuance::InvalidProfile;
use crate::issuance::Profile;
use crate::issuance::ServingNames;
use crate::k8s::Timing;
use crate::pod_certificates::PodProfile;
use crate::pod_certificates::TooShortForPods;

/// Settings of the CA as they are given; each may come from a flag, the environment or the file.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawCa {
    /// YAML file with any of these settings, named as the flags are
    #[arg(long, env = "BURGRAVE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Trust domain of every identity: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT [default: cluster.local]
    #[arg(long, env = "BURGRAVE_TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: Option<String>,

    /// Address of the certificate service (gRPC over TLS) [default: 0.0.0.0:15012]
    #[arg(long, env = "BURGRAVE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of /healthz, /readyz and /metrics (plain HTTP) [default: 127.0.0.1:15014]
    #[arg(long, env = "BURGRAVE_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// DNS names and IP addresses in the CA's own certificate, as clients know it; comma-separated
    /// [default: localhost,127.0.0.1]
    #[arg(long, env = "BURGRAVE_SERVING_NAMES", value_name = "NAMES", value_delimiter = ',')]
    pub serving_names: Option<Vec<String>>,

    /// Kubernetes Secret for a self-signed root that all replicas share, made at first start and never made anew while
    /// another root is trusted
    #[arg(long, env = "BURGRAVE_AUTHORITY_SECRET", value_name = "NAME", help_heading = "Root")]
    pub authority_secret: Option<String>,
    /// Directory for a self-signed root of a single process, made at first start and kept (0700)
    #[arg(long, env = "BURGRAVE_STATE_DIR", value_name = "DIR", help_heading = "Root")]
    pub state_dir: Option<PathBuf>,
    /// Directory with a plugged-in CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem (Istio's `cacerts`)
    #[arg(long, env = "BURGRAVE_CA_DIR", value_name = "DIR", help_heading = "Root")]
    pub ca_dir: Option<PathBuf>,
    /// Life of a new self-signed root [default: 3650d]
    #[arg(long, env = "BURGRAVE_ROOT_LIFETIME", value_name = "DURATION", help_heading = "Root")]
    pub root_lifetime: Option<HumanDuration>,

    /// Replace the signing authority by itself when it has signed for so long; without it, only by `burgrave root rotate`
    #[arg(long, env = "BURGRAVE_ROTATE_AT_AGE", value_name = "DURATION", help_heading = "Root")]
    pub rotate_at_age: Option<HumanDuration>,
    /// How many certificates a second workloads ask for at most when they move to a new authority [default: 100]
    #[arg(long, env = "BURGRAVE_REISSUE_PER_SECOND", value_name = "N", help_heading = "Root")]
    pub reissue_per_second: Option<u32>,
    /// How long mounted files take to follow the published roots; a rotation waits so long for those who read files
    /// [default: 2m]
    #[arg(long, env = "BURGRAVE_BUNDLE_REFRESH", value_name = "DURATION", help_heading = "Root")]
    pub bundle_refresh: Option<HumanDuration>,
    /// Unix socket for `burgrave root`, `bundle` and `proxy`, open to the user that runs the CA and to root
    /// [default: admin.sock in --state-dir; without a --state-dir there is none]
    #[arg(long, env = "BURGRAVE_ADMIN_SOCKET", value_name = "PATH", help_heading = "Root")]
    pub admin_socket: Option<PathBuf>,

    /// File to write the trusted roots to at start, as PEM: what clients need to know this CA by
    #[arg(long, env = "BURGRAVE_BUNDLE_FILE", value_name = "FILE", help_heading = "Root")]
    pub bundle_file: Option<PathBuf>,

    /// Life of a leaf whose request asks for none [default: 24h]
    #[arg(long, env = "BURGRAVE_LEAF_LIFETIME", value_name = "DURATION", help_heading = "Leaves")]
    pub leaf_lifetime: Option<HumanDuration>,
    /// Longest life a request may ask for; above it the request is refused, not shortened [default: 24h]
    #[arg(long, env = "BURGRAVE_MAX_LEAF_LIFETIME", value_name = "DURATION", help_heading = "Leaves")]
    pub max_leaf_lifetime: Option<HumanDuration>,
    /// How far a leaf's NotBefore lies back, for peers whose clocks are late [default: 2m]
    #[arg(long, env = "BURGRAVE_BACKDATE", value_name = "DURATION", help_heading = "Leaves")]
    pub backdate: Option<HumanDuration>,

    /// Audiences that tokens must be for; one of them suffices; comma-separated [default: istio-ca]
    #[arg(
        long,
        env = "BURGRAVE_TOKEN_AUDIENCES",
        value_name = "NAMES",
        value_delimiter = ',',
        help_heading = "Callers"
    )]
    pub token_audiences: Option<Vec<String>>,
    /// Kubeconfig of the API server that reviews tokens [default: the pod's own, or ~/.kube/config]
    #[arg(long, env = "BURGRAVE_KUBECONFIG", value_name = "FILE", help_heading = "Callers")]
    pub kubeconfig: Option<PathBuf>,
    /// Verify tokens by this JWKS file instead of the API server. Deleted pods and accounts are then noticed only when
    /// their tokens expire
    #[arg(long, env = "BURGRAVE_TOKEN_JWKS", value_name = "FILE", help_heading = "Callers")]
    pub token_jwks: Option<PathBuf>,
    /// Issuer (`iss`) of tokens verified by --token-jwks
    #[arg(long, env = "BURGRAVE_TOKEN_ISSUER", value_name = "URL", help_heading = "Callers")]
    pub token_issuer: Option<String>,

    /// Namespace of the Secret and the Lease [default: the pod's own, or the kubeconfig's]
    #[arg(long, env = "BURGRAVE_NAMESPACE", value_name = "NAME", help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// Kubernetes Lease by which replicas elect the one that publishes the roots to every namespace and signs pod
    /// certificates. Without it nothing is published
    #[arg(long, env = "BURGRAVE_LEASE", value_name = "NAME", help_heading = "Cluster")]
    pub lease: Option<String>,
    /// How long a leader that has gone silent is waited for; it stops acting after two thirds of that [default: 15s]
    #[arg(long, env = "BURGRAVE_LEASE_DURATION", value_name = "DURATION", help_heading = "Cluster")]
    pub lease_duration: Option<HumanDuration>,
    /// This replica's name in the Lease [default: burgrave]
    #[arg(long, env = "BURGRAVE_REPLICA_NAME", value_name = "NAME", help_heading = "Cluster")]
    pub replica_name: Option<String>,
    /// ConfigMap that carries the roots in every namespace, under the key root-cert.pem [default: istio-ca-root-cert]
    #[arg(long, env = "BURGRAVE_BUNDLE_CONFIG_MAP", value_name = "NAME", help_heading = "Cluster")]
    pub bundle_config_map: Option<String>,
    /// Signer of pod certificates, and of the ClusterTrustBundle that carries the roots [default: burgrave.dev/workload]
    #[arg(long, env = "BURGRAVE_SIGNER_NAME", value_name = "DOMAIN/NAME", help_heading = "Cluster")]
    pub signer_name: Option<String>,

    /// Where policies come from: `cluster` follows AuthorizationPolicy, RequestAuthentication and PeerAuthentication of
    /// security.istio.io, and ServiceRole, ServiceRoleBinding and ClusterRbacConfig of rbac.istio.io, and has the leader write
    /// into the status of each what is wrong with it and how many workloads it applies to; takes --lease. A directory with policies
    /// as YAML files is looked at for changes, for a CA without a cluster: agents are told those that apply to their service
    /// account's namespace and select no labels. `off` reads none [default: off]
    #[arg(long, env = "BURGRAVE_POLICIES", value_name = "cluster|DIR|off", help_heading = "Policies")]
    pub policies: Option<String>,
    /// Namespace whose policies apply to all namespaces [default: istio-system]
    #[arg(long, env = "BURGRAVE_ROOT_NAMESPACE", value_name = "NAME", help_heading = "Policies")]
    pub root_namespace: Option<String>,
    /// Other names of the trust domain that policies may use, with `*` at one end or none; comma-separated
    #[arg(
        long,
        env = "BURGRAVE_TRUST_DOMAIN_ALIASES",
        value_name = "NAMES",
        value_delimiter = ',',
        help_heading = "Policies"
    )]
    pub trust_domain_aliases: Option<Vec<String>>,
    /// Domain of the cluster's services, as roles name them: NAME.NAMESPACE.svc.DOMAIN [default: cluster.local]
    #[arg(long, env = "BURGRAVE_CLUSTER_DOMAIN", value_name = "DOMAIN", help_heading = "Policies")]
    pub cluster_domain: Option<String>,
    /// Address on which the API server asks whether a policy may be written (HTTPS, with the CA's own certificate). Without it bad
    /// policies are let in; what cannot be read of them only ever reduces access, and their status says so
    #[arg(long, env = "BURGRAVE_WEBHOOK_LISTEN", value_name = "ADDRESS", help_heading = "Policies")]
    pub webhook_listen: Option<SocketAddr>,
    /// ValidatingWebhookConfiguration that leads the API server there; the leader keeps the roots in it fresh
    /// [default: burgrave-policies]
    #[arg(long, env = "BURGRAVE_WEBHOOK_CONFIGURATION", value_name = "NAME", help_heading = "Policies")]
    pub webhook_configuration: Option<String>,
    /// Answer Envoys that ask for each request whether it may come in (ext_authz, envoy.service.auth.v3.Authorization),
    /// on --listen to callers who show a service-account token, by the policies of the caller's own workload. Before any policies are received, nothing comes in
    #[arg(
        long,
        env = "BURGRAVE_EXT_AUTHZ",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Decisions"
    )]
    pub ext_authz: Option<bool>,
    /// Share of what is allowed that is written to the audit trail, from 0 to 1; denials always are, or where they come in masses and are
    /// alike, are counted [default: 0]
    #[arg(long, env = "BURGRAVE_EXT_AUTHZ_AUDIT_RATE", value_name = "SHARE", help_heading = "Decisions")]
    pub ext_authz_audit_rate: Option<f64>,
    /// Providers of CUSTOM policies that are this one, or that the proxy asks as well; what matches a CUSTOM policy of any other
    /// is denied; comma-separated
    #[arg(
        long,
        env = "BURGRAVE_EXT_AUTHZ_PROVIDERS",
        value_name = "NAMES",
        value_delimiter = ',',
        help_heading = "Decisions"
    )]
    pub ext_authz_providers: Option<Vec<String>>,
    /// Proxies in front that are believed when they tell the client's address (xff_num_trusted_hops of a listener with
    /// use_remote_address). Without it, a request with x-forwarded-for is denied where policies ask for the client's address
    #[arg(long, env = "BURGRAVE_EXT_AUTHZ_TRUSTED_HOPS", value_name = "COUNT", help_heading = "Decisions")]
    pub ext_authz_trusted_hops: Option<u32>,
    /// Tell clients that are denied the name of the policy that denies them
    #[arg(
        long,
        env = "BURGRAVE_EXT_AUTHZ_NAME_POLICIES",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Decisions"
    )]
    pub ext_authz_name_policies: Option<bool>,
    /// PEM file of the roots that issuers of end users' tokens are trusted by when their keys are fetched [default: the roots of
    /// this machine]
    #[arg(long, env = "BURGRAVE_TOKEN_ISSUER_ROOT_FILE", value_name = "FILE", help_heading = "Decisions")]
    pub token_issuer_root_file: Option<PathBuf>,

    /// How long requests under way may take to finish after SIGTERM [default: 10s]
    #[arg(long, env = "BURGRAVE_DRAIN", value_name = "DURATION")]
    pub drain: Option<HumanDuration>,
}

/// Facts that the CA is built from.
#[derive(Clone, Debug)]
pub struct CaConfig {
    /// Trust domain of every identity.
    pub trust_domain: TrustDomain,
    /// Address of the certificate service.
    pub listen: SocketAddr,
    /// Address of health, readiness and metrics.
    pub admin_listen: SocketAddr,
    /// Names in the CA's own certificate.
    pub serving_names: ServingNames,
    /// Where the signing root comes from.
    pub authority: Authority,
    /// How authorities are rotated.
    pub rotation: RotationConfig,
    /// Unix socket for operators.
    pub admin_socket: Option<PathBuf>,
    /// File to write the trusted roots to.
    pub bundle_file: Option<PathBuf>,
    /// Times of leaves.
    pub profile: Profile,
    /// Audiences that tokens must be for.
    pub audiences: Vec<String>,
    /// How callers are proven.
    pub attest_by: AttestBy,
    /// What it does for its cluster.
    pub cluster: ClusterConfig,
    /// Which policies it follows; `None` for none.
    pub policies: Option<PolicyConfig>,
    /// How proxies are answered that ask for each request; `None` if they are not.
    pub ext_authz: Option<ExtAuthzConfig>,
    /// How long requests under way may take after SIGTERM.
    pub drain: Duration,
}

/// How authorities are rotated.
#[derive(Clone, Copy, Debug)]
pub struct RotationConfig {
    /// Life of a new root.
    pub root_lifetime: Duration,
    /// The age at which an authority is replaced by itself.
    pub at_age: Option<Duration>,
    /// How many certificates a second workloads ask for at most when they move.
    pub reissue_per_second: u32,
    /// How long mounted files take to follow what is published.
    pub refresh: Duration,
}

impl CaConfig {
    /// The directory that this process keeps its state in, if it has one.
    pub fn state_dir(&self) -> Option<&Path> {
        match &self.authority {
            Authority::SelfSigned { state_dir, .. } => Some(state_dir),
            Authority::Shared { .. } | Authority::Plugged { .. } => None,
        }
    }

    /// Whether other processes may keep the same authorities.
    pub fn is_shared(&self) -> bool {
        matches!(self.authority, Authority::Shared { .. })
    }
}

/// What the CA does for its cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Kubeconfig of the API server; `None` for what is found in the environment.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of Secret and Lease; `None` for the pod's own.
    pub namespace: Option<String>,
    /// What the published objects are called.
    pub names: Names,
    /// How a leader is found; `None` if nothing is led.
    pub election: Option<Election>,
}

/// Which policies are followed.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// What holds for the whole mesh.
    pub mesh: Mesh,
    /// Where they come from.
    pub source: PolicySource,
}

/// Where policies come from.
#[derive(Clone, Debug)]
pub enum PolicySource {
    /// The API server.
    Cluster {
        /// The domain of the cluster's services.
        domain: String,
        /// How bad policies are refused; `None` if they are not.
        webhook: Option<WebhookConfig>,
    },
    /// Files in a directory.
    Files(PathBuf),
}

impl PolicyConfig {
    /// How bad policies are refused, if they are.
    pub fn webhook(&self) -> Option<&WebhookConfig> {
        match &self.source {
            PolicySource::Cluster { webhook, .. } => webhook.as_ref(),
            PolicySource::Files(_) => None,
        }
    }
}

/// How bad policies are refused.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Where the API server asks.
    pub listen: SocketAddr,
    /// The `ValidatingWebhookConfiguration` that leads it there.
    pub configuration: String,
}

/// How a leader is found.
#[derive(Clone, Debug)]
pub struct Election {
    /// The Lease.
    pub lease: String,
    /// This replica's name, to which chance adds something.
    pub replica: String,
    /// How long a hold lasts.
    pub timing: Timing,
    /// Times of the pod certificates that the leader signs, or why it signs none.
    pub pods: Result<PodProfile, TooShortForPods>,
}

/// Where the signing root comes from.
#[derive(Clone, Debug)]
pub enum Authority {
    /// A self-signed root in a state directory.
    SelfSigned {
        /// The directory.
        state_dir: PathBuf,
        /// Life of a new root.
        lifetime: Duration,
    },
    /// A self-signed root in a Secret.
    Shared {
        /// The Secret's name.
        secret: String,
        /// Life of a new root.
        lifetime: Duration,
    },
    /// Files that an operator brings.
    Plugged {
        /// Their directory.
        directory: PathBuf,
    },
}

/// How callers are proven.
#[derive(Clone, Debug)]
pub enum AttestBy {
    /// By the API server's TokenReview.
    TokenReview {
        /// Kubeconfig file, or what is found in the environment.
        kubeconfig: Option<PathBuf>,
    },
    /// By the token issuer's published keys.
    Jwks {
        /// The JWKS file.
        file: PathBuf,
        /// The issuer's name.
        issuer: String,
    },
}

impl RawCa {
    /// The facts, with the file and the defaults filled in.
    ///
    /// # Errors
    /// If a setting is missing, invalid, unknown, or contradicts another one.
    pub fn resolve(self) -> Result<CaConfig, ConfigError> {
        let file = self.config.clone();
        let raw = over_file(self, file.as_deref())?;
        let seconds = |given: Option<HumanDuration>, default: HumanDuration| given.unwrap_or(default).0;
        let profile = Profile::new(
            seconds(raw.backdate, HumanDuration::minutes(2)),
            seconds(raw.leaf_lifetime, HumanDuration::hours(24)),
            seconds(raw.max_leaf_lifetime, HumanDuration::hours(24)),
        )
        .map_err(|error| {
            let setting = match error {
                InvalidProfile::Backdate(_) => "backdate",
                InvalidProfile::DefaultAboveMaximum { .. } | InvalidProfile::Zero => "leaf-lifetime",
            };
            invalid(setting, error)
        })?;
        let root_lifetime = seconds(raw.root_lifetime, HumanDuration::hours(3650 * 24));
        if root_lifetime.is_zero() {
            return Err(invalid("root-lifetime", "a root must live for some time"));
        }
        for (setting, name) in [
            ("namespace", &raw.namespace),
            ("authority-secret", &raw.authority_secret),
            ("lease", &raw.lease),
            ("bundle-config-map", &raw.bundle_config_map),
            ("root-namespace", &raw.root_namespace),
            ("cluster-domain", &raw.cluster_domain),
            ("webhook-configuration", &raw.webhook_configuration),
        ] {
            object_name(setting, name.as_deref())?;
        }
        if raw.lease.is_some() && raw.state_dir.is_some() {
            return Err(ConfigError::Conflict(
                "`--lease` and `--state-dir` are both set: each replica would have a root of its own; share one by --authority-secret"
                    .to_owned(),
            ));
        }
        let rotation = RotationConfig {
            root_lifetime,
            at_age: rotate_at_age(raw.rotate_at_age, root_lifetime, &profile)?,
            reissue_per_second: raw.reissue_per_second.unwrap_or(100),
            refresh: seconds(raw.bundle_refresh, HumanDuration::minutes(2)),
        };
        if rotation.reissue_per_second == 0 {
            return Err(invalid("reissue-per-second", "at least one certificate a second must be allowed"));
        }
        let admin_socket =
            raw.admin_socket.or_else(|| raw.state_dir.as_ref().map(|directory| directory.join("admin.sock")));
        let in_cluster = raw.lease.is_some() || raw.authority_secret.is_some();
        let names = raw.serving_names.unwrap_or_else(|| vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let trust_domain: TrustDomain = raw
            .trust_domain
            .as_deref()
            .unwrap_or("cluster.local")
            .parse()
            .map_err(|error| invalid("trust-domain", error))?;
        let mesh = Mesh {
            trust_domain: trust_domain.clone(),
            aliases: raw.trust_domain_aliases.unwrap_or_default(),
            root_namespace: raw.root_namespace.unwrap_or_else(|| "istio-system".to_owned()),
        };
        let webhook = raw.webhook_listen.map(|listen| WebhookConfig {
            listen,
            configuration: raw.webhook_configuration.unwrap_or_else(|| "burgrave-policies".to_owned()),
        });
        let domain = raw.cluster_domain.unwrap_or_else(|| "cluster.local".to_owned());
        let policies = policies(raw.policies, raw.lease.is_some(), domain, webhook)?
            .map(|source| PolicyConfig { mesh, source });
        Ok(CaConfig {
            trust_domain,
            policies,
            listen: raw.listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 15012))),
            admin_listen: raw.admin_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 15014))),
            serving_names: ServingNames::of(names.iter().map(String::as_str)).map_err(|name| {
                invalid("serving-names", format!("`{name}` is neither a DNS name nor an IP address"))
            })?,
            authority: authority(raw.authority_secret, raw.state_dir, raw.ca_dir, root_lifetime)?,
            cluster: ClusterConfig {
                kubeconfig: raw.kubeconfig.clone(),
                namespace: raw.namespace,
                names: names_of(raw.bundle_config_map, raw.signer_name)?,
                election: election(raw.lease, raw.replica_name, raw.lease_duration, &profile)?,
            },
            rotation,
            admin_socket,
            bundle_file: raw.bundle_file,
            profile,
            audiences: audiences(raw.token_audiences)?,
            attest_by: attest_by(raw.kubeconfig, raw.token_jwks, raw.token_issuer, in_cluster)?,
            ext_authz: RawExtAuthz {
                ext_authz: raw.ext_authz,
                audit_rate: raw.ext_authz_audit_rate,
                providers: raw.ext_authz_providers,
                trusted_hops: raw.ext_authz_trusted_hops,
                name_policies: raw.ext_authz_name_policies,
                root_file: raw.token_issuer_root_file,
            }
            .resolve()?,
            drain: seconds(raw.drain, HumanDuration::seconds(10)),
        })
    }
}

fn invalid(setting: &'static str, what: impl ToString) -> ConfigError {
    ConfigError::Invalid { setting, what: what.to_string() }
}

/// An authority must be replaced early enough that no leaf is cut short: the evidence for its successor may take as long as the
/// longest leaf lives.
fn rotate_at_age(
    given: Option<HumanDuration>,
    root_lifetime: Duration,
    profile: &Profile,
) -> Result<Option<Duration>, ConfigError> {
    let Some(HumanDuration(age)) = given else { return Ok(None) };
    let longest = profile.max_lifetime();
    let fits = largest_leaf_lifetime_a_scheduled_rotation_never_cuts_short(root_lifetime, age, longest);
    if age.is_zero() || longest > fits {
        return Err(invalid(
            "rotate-at-age",
            format!(
                "at the age of {} s an authority with a life of {} s has too little of it left for leaves of {} s, when its successor may take as long to be trusted; lower it, or raise --root-lifetime",
                age.as_secs(),
                root_lifetime.as_secs(),
                longest.as_secs()
            ),
        ));
    }
    Ok(Some(age))
}

fn authority(
    secret: Option<String>,
    state_dir: Option<PathBuf>,
    ca_dir: Option<PathBuf>,
    lifetime: Duration,
) -> Result<Authority, ConfigError> {
    match (secret, state_dir, ca_dir) {
        (Some(secret), None, None) => Ok(Authority::Shared { secret, lifetime }),
        (None, Some(state_dir), None) => Ok(Authority::SelfSigned { state_dir, lifetime }),
        (None, None, Some(directory)) => Ok(Authority::Plugged { directory }),
        (None, None, None) => Err(ConfigError::Missing {
            setting: "state-dir",
            hint: "set it to a directory for a self-signed root, or --authority-secret to a Secret for one that replicas share, or --ca-dir to the directory of your own CA",
        }),
        _ => Err(ConfigError::Conflict(
            "more than one of `--authority-secret`, `--state-dir` and `--ca-dir` is set; keep the first for a self-signed root that replicas share, the second for one of a single process, or the third for your own"
                .to_owned(),
        )),
    }
}

fn policies(
    given: Option<String>,
    has_lease: bool,
    domain: String,
    webhook: Option<WebhookConfig>,
) -> Result<Option<PolicySource>, ConfigError> {
    let source = match (given.as_deref(), has_lease) {
        (None | Some("off"), _) => None,
        (Some("cluster"), true) => return Ok(Some(PolicySource::Cluster { domain, webhook })),
        (Some("cluster"), false) => {
            return Err(ConfigError::Missing {
                setting: "lease",
                hint: "it takes one to agree on who writes the statuses of policies; name one, or set --policies=off",
            });
        }
        (Some(directory), _) => Some(PolicySource::Files(PathBuf::from(directory))),
    };
    match webhook {
        Some(_) => Err(invalid(
            "webhook-listen",
            "the API server asks about policies of its own; set --policies=cluster",
        )),
        None => Ok(source),
    }
}

fn names_of(config_map: Option<String>, signer: Option<String>) -> Result<Names, ConfigError> {
    let signer = signer.unwrap_or_else(|| "burgrave.dev/workload".to_owned());
    match signer.split_once('/') {
        Some((domain, name)) if domain.contains('.') && !name.is_empty() && !name.contains('/') => {}
        _ => {
            return Err(invalid(
                "signer-name",
                format!(
                    "`{signer}` is not DOMAIN/NAME with a domain that has a dot, such as burgrave.dev/workload"
                ),
            ));
        }
    }
    Ok(Names { config_map: config_map.unwrap_or_else(|| "istio-ca-root-cert".to_owned()), signer })
}

fn election(
    lease: Option<String>,
    replica: Option<String>,
    duration: Option<HumanDuration>,
    profile: &Profile,
) -> Result<Option<Election>, ConfigError> {
    let Some(lease) = lease else { return Ok(None) };
    let duration = duration.unwrap_or(HumanDuration::seconds(15)).0;
    if duration < Duration::from_secs(3) || duration > Duration::from_secs(600) {
        return Err(invalid(
            "lease-duration",
            "it must be from 3s to 10m: shorter ones are lost by chance, and longer ones leave nobody in charge for as long",
        ));
    }
    let replica = replica.unwrap_or_else(|| "burgrave".to_owned());
    let pods = PodProfile::new(*profile);
    Ok(Some(Election { lease, replica, timing: Timing::new(duration), pods }))
}

/// A name that Kubernetes takes for an object: a DNS label or subdomain (RFC 1123).
fn object_name(setting: &'static str, name: Option<&str>) -> Result<(), ConfigError> {
    let is_fit = |name: &str| {
        let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        name.len() <= 253
            && name.starts_with(is_end)
            && name.ends_with(is_end)
            && name.chars().all(|c| is_end(c) || c == '-' || c == '.')
    };
    match name {
        Some(name) if !is_fit(name) => Err(invalid(
            setting,
            format!(
                "`{name}` is no name of a Kubernetes object: it has small letters, digits, `-` and `.`, and begins and ends with one of the first two"
            ),
        )),
        _ => Ok(()),
    }
}

fn audiences(given: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let audiences = given.unwrap_or_else(|| vec!["istio-ca".to_owned()]);
    match audiences.is_empty() || audiences.iter().any(String::is_empty) {
        // Without an audience any token of the cluster would do.
        true => Err(invalid(
            "token-audiences",
            "an audience is empty; name those that your clients' tokens are for",
        )),
        false => Ok(audiences),
    }
}

fn attest_by(
    kubeconfig: Option<PathBuf>,
    jwks: Option<PathBuf>,
    issuer: Option<String>,
    in_cluster: bool,
) -> Result<AttestBy, ConfigError> {
    match (kubeconfig, jwks, issuer) {
        (kubeconfig, None, None) => Ok(AttestBy::TokenReview { kubeconfig }),
        (None, Some(file), Some(issuer)) => Ok(AttestBy::Jwks { file, issuer }),
        // The API server is needed for more than tokens.
        (Some(_), Some(file), Some(issuer)) if in_cluster => Ok(AttestBy::Jwks { file, issuer }),
        (Some(_), Some(_), Some(_)) => Err(ConfigError::Conflict(
            "`--kubeconfig` and `--token-jwks` are both set; tokens are verified by one of them".to_owned(),
        )),
        (_, Some(_), None) => Err(ConfigError::Missing {
            setting: "token-issuer",
            hint: "name the issuer (`iss`) of the tokens",
        }),
        (_, None, Some(_)) => {
            Err(ConfigError::Missing { setting: "token-jwks", hint: "give the file with the issuer's keys" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(raw: RawCa) -> Result<CaConfig, String> {
        raw.resolve().map_err(|error| error.to_string())
    }

    fn with_state() -> RawCa {
        RawCa { state_dir: Some(PathBuf::from("state")), ..RawCa::default() }
    }

    fn with_lease() -> RawCa {
        RawCa { lease: Some("ca".to_owned()), authority_secret: Some("ca".to_owned()), ..RawCa::default() }
    }

    #[test]
    fn a_state_directory_is_all_that_must_be_set() {
        let config = resolve(with_state()).unwrap();
        assert_eq!(config.trust_domain.as_str(), "cluster.local");
        assert_eq!(config.audiences, ["istio-ca"]);
        assert_eq!(config.listen.port(), 15012);
        assert!(config.admin_listen.ip().is_loopback());
    }

    #[test]
    fn leaves_too_short_for_pods_are_no_reason_not_to_start() {
        let short = RawCa {
            leaf_lifetime: Some(HumanDuration::minutes(10)),
            max_leaf_lifetime: Some(HumanDuration::minutes(30)),
            ..with_lease()
        };
        let pods = |raw: RawCa| resolve(raw).unwrap().cluster.election.unwrap().pods;
        assert!(pods(with_lease()).is_ok());
        assert!(pods(short).unwrap_err().to_string().contains("--max-leaf-lifetime"));
    }

    #[test]
    fn what_is_missing_or_contradictory_is_said() {
        for (raw, said) in [
            (RawCa::default(), "`--state-dir` is not set"),
            (RawCa { ca_dir: Some("ca".into()), ..with_state() }, "more than one of"),
            (RawCa { authority_secret: Some("ca".into()), ..with_state() }, "more than one of"),
            (RawCa { signer_name: Some("workload".into()), ..with_state() }, "is not DOMAIN/NAME"),
            (RawCa { lease: Some("ca".into()), ..with_state() }, "`--lease` and `--state-dir` are both set"),
            (RawCa { namespace: Some(String::new()), ..with_lease() }, "`--namespace`: `` is no name"),
            (RawCa { bundle_config_map: Some("Roots".into()), ..with_lease() }, "`Roots` is no name"),
            (
                RawCa {
                    kubeconfig: Some("k".into()),
                    token_jwks: Some("k".into()),
                    token_issuer: Some("i".into()),
                    ..with_state()
                },
                "are both set; tokens are verified by one",
            ),
            (RawCa { policies: Some("cluster".into()), ..with_state() }, "`--lease` is not set"),
            (RawCa { webhook_listen: Some(([0; 4], 1).into()), ..with_lease() }, "set --policies=cluster"),
            (RawCa { root_namespace: Some("Mesh".into()), ..with_lease() }, "`Mesh` is no name"),
            (RawCa { lease_duration: Some(HumanDuration::seconds(1)), ..with_lease() }, "`--lease-duration`"),
            (RawCa { token_jwks: Some("k".into()), ..with_state() }, "`--token-issuer` is not set"),
            (RawCa { token_issuer: Some("i".into()), ..with_state() }, "`--token-jwks` is not set"),
            (
                RawCa { trust_domain: Some("a/b".into()), ..with_state() },
                "`--trust-domain`: trust domain `a/b`",
            ),
            (RawCa { token_audiences: Some(vec![]), ..with_state() }, "an audience is empty"),
            (RawCa { root_lifetime: Some(HumanDuration::hours(0)), ..with_state() }, "`--root-lifetime`"),
            (RawCa { backdate: Some(HumanDuration::hours(2)), ..with_state() }, "`--backdate`"),
            (RawCa { serving_names: Some(vec!["ca:15012".into()]), ..with_state() }, "`ca:15012` is neither"),
            (RawCa { serving_names: Some(vec![]), ..with_state() }, "`--serving-names`"),
            (RawCa { leaf_lifetime: Some(HumanDuration::hours(25)), ..with_state() }, "above the maximum"),
        ] {
            let refused = resolve(raw).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
