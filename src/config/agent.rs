//! Settings of `burgrave agent`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tonic::transport::Endpoint;

use crate::config::duration::HumanDuration;
use crate::config::ext_authz::ExtAuthzConfig;
use crate::config::ext_authz::RawExtAuthz;
use crate::config::layers::ConfigError;
use crate::config::layers::over_file;

/// Settings of the agent as they are given; each may come from a flag, the environment or the file.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawAgent {
    /// YAML file with any of these settings, named as the flags are
    #[arg(long, env = "BURGRAVE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Address of the CA, as https://HOST:PORT
    #[arg(long, env = "BURGRAVE_CA_ADDRESS", value_name = "URL", help_heading = "CA")]
    pub ca_address: Option<String>,
    /// File with the root that the CA's own certificate leads to; read anew for each request
    /// [default: /var/run/secrets/istio/root-cert.pem]
    #[arg(long, env = "BURGRAVE_CA_ROOT_FILE", value_name = "FILE", help_heading = "CA")]
    pub ca_root_file: Option<PathBuf>,
    /// Name that the CA's own certificate must carry [default: the host of --ca-address]
    #[arg(long, env = "BURGRAVE_CA_SERVER_NAME", value_name = "NAME", help_heading = "CA")]
    pub ca_server_name: Option<String>,
    /// File with the service-account token; read anew for each request [default: /var/run/secrets/tokens/istio-token]
    #[arg(long, env = "BURGRAVE_TOKEN_FILE", value_name = "FILE", help_heading = "CA")]
    pub token_file: Option<PathBuf>,
    /// Life to ask for [default: the CA's own default]
    #[arg(long, env = "BURGRAVE_LEAF_LIFETIME", value_name = "DURATION", help_heading = "CA")]
    pub leaf_lifetime: Option<HumanDuration>,

    /// Unix socket that proxies get their secrets from, under the names `default` and `ROOTCA`
    /// [default: /var/run/secrets/workload-spiffe-uds/socket]
    #[arg(long, env = "BURGRAVE_SOCKET", value_name = "PATH", help_heading = "Secrets")]
    pub socket: Option<PathBuf>,
    /// Who may connect to the socket: 0600 our own user, 0660 our group too [default: 0600]
    #[arg(long, env = "BURGRAVE_SOCKET_MODE", value_name = "MODE", help_heading = "Secrets")]
    pub socket_mode: Option<String>,

    /// Answer Envoys that ask for each request whether it may come in (ext_authz, envoy.service.auth.v3.Authorization),
    /// on the agent's socket, by the policies of the workload. Before any policies are received, nothing comes in
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

    /// Address of /healthz, /readyz and /metrics (plain HTTP) [default: 127.0.0.1:15020]
    #[arg(long, env = "BURGRAVE_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
}

/// Facts that the agent is built from.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Address of the CA.
    pub ca: Endpoint,
    /// File with the CA's root.
    pub ca_root_file: PathBuf,
    /// Name of the CA, if it is not the address's host.
    pub ca_server_name: Option<String>,
    /// File with the token.
    pub token_file: PathBuf,
    /// Life to ask for; `None` leaves it to the CA.
    pub leaf_lifetime: Option<Duration>,
    /// Socket for proxies.
    pub socket: PathBuf,
    /// Its permission bits.
    pub socket_mode: u32,
    /// How proxies are answered that ask for each request; `None` if they are not.
    pub ext_authz: Option<ExtAuthzConfig>,
    /// The roots that token issuers are trusted by; `None` for those of the machine.
    pub token_issuer_root_file: Option<PathBuf>,
    /// Address of health, readiness and metrics.
    pub admin_listen: SocketAddr,
}

impl RawAgent {
    /// The facts, with the file and the defaults filled in.
    ///
    /// # Errors
    /// If a setting is missing, invalid or unknown.
    pub fn resolve(self) -> Result<AgentConfig, ConfigError> {
        let file = self.config.clone();
        let raw = over_file(self, file.as_deref())?;
        let path = |given: Option<PathBuf>, default: &str| given.unwrap_or_else(|| PathBuf::from(default));
        Ok(AgentConfig {
            ca: endpoint(raw.ca_address)?,
            ca_root_file: path(raw.ca_root_file, "/var/run/secrets/istio/root-cert.pem"),
            ca_server_name: raw.ca_server_name,
            token_file: path(raw.token_file, "/var/run/secrets/tokens/istio-token"),
            leaf_lifetime: raw.leaf_lifetime.map(|life| life.0),
            socket: path(raw.socket, "/var/run/secrets/workload-spiffe-uds/socket"),
            socket_mode: socket_mode(raw.socket_mode.as_deref())?,
            token_issuer_root_file: raw.token_issuer_root_file.clone(),
            ext_authz: RawExtAuthz {
                ext_authz: raw.ext_authz,
                audit_rate: raw.ext_authz_audit_rate,
                providers: raw.ext_authz_providers,
                trusted_hops: raw.ext_authz_trusted_hops,
                name_policies: raw.ext_authz_name_policies,
                root_file: raw.token_issuer_root_file,
            }
            .resolve()?,
            admin_listen: raw.admin_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 15020))),
        })
    }
}

fn endpoint(given: Option<String>) -> Result<Endpoint, ConfigError> {
    const SETTING: &str = "ca-address";
    let address = given.ok_or(ConfigError::Missing {
        setting: SETTING,
        hint: "give the CA's address, such as https://burgrave-ca.mesh.svc:15012",
    })?;
    let invalid = |what: String| ConfigError::Invalid { setting: SETTING, what };
    if !address.starts_with("https://") {
        // The token would go out in clear.
        return Err(invalid(format!("`{address}` does not begin with https://")));
    }
    let endpoint = Endpoint::from_shared(address.clone())
        .map_err(|error| invalid(format!("`{address}` is not an address: {error}")))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(5)).tcp_nodelay(true))
}

fn socket_mode(given: Option<&str>) -> Result<u32, ConfigError> {
    match given.map(|text| u32::from_str_radix(text, 8)) {
        None => Ok(0o600),
        Some(Ok(mode @ (0o600 | 0o660))) => Ok(mode),
        Some(_) => Err(ConfigError::Invalid {
            setting: "socket-mode",
            what: "the socket hands out private keys: its mode is 0600 or 0660".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ca() -> RawAgent {
        RawAgent { ca_address: Some("https://ca:15012".to_owned()), ..RawAgent::default() }
    }

    #[test]
    fn the_address_of_the_ca_is_all_that_must_be_set() {
        let config = with_ca().resolve().unwrap();
        assert_eq!(config.socket_mode, 0o600);
        assert_eq!(config.leaf_lifetime, None);
    }

    #[test]
    fn a_clear_address_and_an_open_socket_are_refused() {
        for (raw, said) in [
            (RawAgent::default(), "`--ca-address` is not set"),
            (RawAgent { ca_address: Some("http://ca".into()), ..with_ca() }, "does not begin with https://"),
            (RawAgent { ca_address: Some("https://".into()), ..with_ca() }, "is not an address"),
            (RawAgent { socket_mode: Some("0666".into()), ..with_ca() }, "0600 or 0660"),
            (RawAgent { socket_mode: Some("rw".into()), ..with_ca() }, "0600 or 0660"),
        ] {
            let refused = raw.resolve().unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
