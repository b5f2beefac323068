//! Settings of `burgrave ca`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::config::duration::HumanDuration;
use crate::config::layers::ConfigError;
use crate::config::layers::over_file;
use crate::identity::TrustDomain;
use crate::issuance::InvalidProfile;
use crate::issuance::Profile;
use crate::issuance::ServingNames;

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

    /// Directory for a self-signed root, made at first start and kept (0700); needed unless --ca-dir is set
    #[arg(long, env = "BURGRAVE_STATE_DIR", value_name = "DIR", help_heading = "Root")]
    pub state_dir: Option<PathBuf>,
    /// Directory with a plugged-in CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem (Istio's `cacerts`)
    #[arg(long, env = "BURGRAVE_CA_DIR", value_name = "DIR", help_heading = "Root")]
    pub ca_dir: Option<PathBuf>,
    /// Life of a new self-signed root [default: 3650d]
    #[arg(long, env = "BURGRAVE_ROOT_LIFETIME", value_name = "DURATION", help_heading = "Root")]
    pub root_lifetime: Option<HumanDuration>,

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
    /// File to write the trusted roots to.
    pub bundle_file: Option<PathBuf>,
    /// Times of leaves.
    pub profile: Profile,
    /// Audiences that tokens must be for.
    pub audiences: Vec<String>,
    /// How callers are proven.
    pub attest_by: AttestBy,
    /// How long requests under way may take after SIGTERM.
    pub drain: Duration,
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
        let names = raw.serving_names.unwrap_or_else(|| vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        Ok(CaConfig {
            trust_domain: raw
                .trust_domain
                .as_deref()
                .unwrap_or("cluster.local")
                .parse()
                .map_err(|error| invalid("trust-domain", error))?,
            listen: raw.listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 15012))),
            admin_listen: raw.admin_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 15014))),
            serving_names: ServingNames::of(names.iter().map(String::as_str)).map_err(|name| {
                invalid("serving-names", format!("`{name}` is neither a DNS name nor an IP address"))
            })?,
            authority: authority(raw.state_dir, raw.ca_dir, root_lifetime)?,
            bundle_file: raw.bundle_file,
            profile,
            audiences: audiences(raw.token_audiences)?,
            attest_by: attest_by(raw.kubeconfig, raw.token_jwks, raw.token_issuer)?,
            drain: seconds(raw.drain, HumanDuration::seconds(10)),
        })
    }
}

fn invalid(setting: &'static str, what: impl ToString) -> ConfigError {
    ConfigError::Invalid { setting, what: what.to_string() }
}

fn authority(
    state_dir: Option<PathBuf>,
    ca_dir: Option<PathBuf>,
    lifetime: Duration,
) -> Result<Authority, ConfigError> {
    match (state_dir, ca_dir) {
        (Some(state_dir), None) => {
            Ok(Authority::SelfSigned { state_dir, lifetime })
        }
        (None, Some(directory)) => Ok(Authority::Plugged { directory }),
        (Some(_), Some(_)) => Err(ConfigError::Conflict(
            "`--state-dir` and `--ca-dir` are both set; keep the first for a self-signed root, or the second for your own"
                .to_owned(),
        )),
        (None, None) => Err(ConfigError::Missing {
            setting: "state-dir",
            hint: "set it to a directory for a self-signed root, or set --ca-dir to the directory of your own CA",
        }),
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
) -> Result<AttestBy, ConfigError> {
    match (kubeconfig, jwks, issuer) {
        (kubeconfig, None, None) => Ok(AttestBy::TokenReview { kubeconfig }),
        (None, Some(file), Some(issuer)) => Ok(AttestBy::Jwks { file, issuer }),
        (Some(_), Some(_), _) => Err(ConfigError::Conflict(
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

    #[test]
    fn a_state_directory_is_all_that_must_be_set() {
        let config = resolve(with_state()).unwrap();
        assert_eq!(config.trust_domain.as_str(), "cluster.local");
        assert_eq!(config.audiences, ["istio-ca"]);
        assert_eq!(config.listen.port(), 15012);
        assert!(config.admin_listen.ip().is_loopback());
    }

    #[test]
    fn what_is_missing_or_contradictory_is_said() {
        for (raw, said) in [
            (RawCa::default(), "`--state-dir` is not set"),
            (RawCa { ca_dir: Some("ca".into()), ..with_state() }, "are both set"),
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
