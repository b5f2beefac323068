//! Everything of the demo that runs, and the steps that show it.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::CaClient;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::config::HumanDuration;
use crate::config::QuickstartConfig;
use crate::config::RawCa;
use crate::identity::TrustDomain;
use crate::roles::ca::Ca;
use crate::roles::ca::CaError;
use crate::roles::quickstart::envoy;
use crate::roles::quickstart::envoy::Envoy;
use crate::roles::quickstart::error::QuickstartError;
use crate::roles::quickstart::error::broken;
use crate::roles::quickstart::operator;
use crate::roles::quickstart::policy::Policies;
use crate::roles::quickstart::probe;
use crate::roles::quickstart::report::Report;
use crate::roles::quickstart::token_issuer;
use crate::roles::quickstart::token_issuer::TokenIssuer;
use crate::roles::quickstart::traffic::Traffic;
use crate::roles::quickstart::workload::NAMESPACE;
use crate::roles::quickstart::workload::TRUST_DOMAIN;
use crate::roles::quickstart::workload::Workload;
use crate::roles::quickstart::workload::agent_config;
use crate::roles::quickstart::workload::token;
use crate::roles::quickstart::workload::write;
use crate::sds::Identity;
use crate::sds::Trust;
use crate::sds::names;
use crate::x509::PrivateKey;
use crate::x509::describe;

/// How long requests flow before, between and after rotations.
const BETWEEN: Duration = Duration::from_millis(150);

/// Life of the probe's certificate: it only asks for one and holds no stream, so a rotation of the root waits for its end.
const PROBE_LIFETIME: Duration = Duration::from_secs(5);

/// What requests and rotations came to.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) rotations: u32,
    pub(super) root_rotations: u32,
    pub(super) push_to_handshake_ms: Option<f64>,
}

/// Everything that runs, and what is needed to look at it.
pub(super) struct World {
    directory: PathBuf,
    domain: TrustDomain,
    ca: SocketAddr,
    tokens: TokenIssuer,
    client: Workload,
    server: Workload,
    policies: Policies,
}

impl World {
    pub(super) async fn start(
        directory: &Path,
        report: &Report,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, QuickstartError> {
        let took = Stopwatch::start();
        let domain: TrustDomain = TRUST_DOMAIN.parse().map_err(|error| broken("ca")(format!("{error}")))?;
        let tokens = TokenIssuer::new().map_err(|_| broken("token")("no randomness".to_owned()))?;
        write(&directory.join("jwks.json"), &tokens.jwks())?;
        let policies = Policies::make(directory, &domain)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let raw = RawCa {
            policies: Some(policies.directory().display().to_string()),
            trust_domain: Some(TRUST_DOMAIN.to_owned()),
            listen: Some(any),
            admin_listen: Some(any),
            state_dir: Some(directory.join("state")),
            bundle_file: Some(directory.join("root-cert.pem")),
            token_jwks: Some(directory.join("jwks.json")),
            token_issuer: Some(token_issuer::ISSUER.to_owned()),
            token_audiences: Some(vec![token_issuer::AUDIENCE.to_owned()]),
            // All clocks here are one.
            backdate: Some(HumanDuration::seconds(1)),
            ..RawCa::default()
        };
        let ca = Ca::start(raw.resolve()?, Clock::system()).await?;
        let address = ca.address().map_err(CaError::from)?;
        let serving = ca.serve(stop.clone());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the CA ended");
            }
        });
        report.step(
            "ca",
            took,
            &format!("a root was made and kept; the CA serves on {address}"),
            json!({"address": address}),
        );
        let mut world = Self {
            client: Workload::start(directory, "client", address, &domain, &tokens, stop, tasks).await?,
            server: Workload::start(directory, "server", address, &domain, &tokens, stop, tasks).await?,
            directory: directory.to_owned(),
            domain,
            ca: address,
            tokens,
            policies,
        };
        world.client.certified().await?;
        world.server.certified().await?;
        Ok(world)
    }

    pub(super) async fn show(
        &self,
        config: &QuickstartConfig,
        report: &Report,
        measured: &mut Measured,
    ) -> Result<(), QuickstartError> {
        self.show_issuance(report).await?;
        self.show_secrets(report).await?;
        match &config.envoy {
            None => {
                self.show_root_rotation(None, report, measured).await?;
                self.policies.show(&self.client.id, None, report).await
            }
            Some(binary) => self.show_envoys(binary, config.rotations, report, measured).await,
        }
    }

    /// Token, CSR and chain, one by one, for a third workload.
    async fn show_issuance(&self, report: &Report) -> Result<(), QuickstartError> {
        let now = Clock::system().now();
        let took = Stopwatch::start();
        let token = token(&self.tokens, "probe")?;
        let file = self.directory.join("probe.token");
        write(&file, &token)?;
        let account = format!("system:serviceaccount:{NAMESPACE}:probe");
        report.step(
            "token",
            took,
            &format!("for {account}, {} bytes, audience {}", token.len(), token_issuer::AUDIENCE),
            json!({"subject": account, "bytes": token.len()}),
        );

        let took = Stopwatch::start();
        let unmade = |error: &dyn std::error::Error| broken("csr")(error.to_string());
        let key = PrivateKey::generate().map_err(|error| unmade(&error))?;
        let csr = key.csr_pem().map_err(|error| unmade(&error))?;
        let text = format!("a P-256 key made here, its request has {} bytes and names nobody", csr.len());
        report.step("csr", took, &text, json!({"bytes": csr.len()}));

        let took = Stopwatch::start();
        let agent = agent_config(&self.directory, "probe", self.ca)?;
        let client =
            CaClient::new(agent.ca, agent.ca_server_name, agent.ca_root_file, file, Some(PROBE_LIFETIME));
        let answer = client.sign(csr).await.map_err(|error| broken("chain")(error.to_string()))?;
        let all = answer.chain.certificates().iter().chain(answer.bundle.roots());
        let words: Vec<_> = all.map(|one| describe::line(one, now)).collect();
        let unfit = |error: crate::sds::UnfitSecret| broken("chain")(error.to_string());
        let trust = Trust::new(answer.bundle, now).map_err(unfit)?;
        let identity = Identity::new(answer.chain, key, &trust, now).map_err(unfit)?;
        report.step("chain", took, &words.join("\n"), json!({"spiffe_id": identity.spiffe_id().to_string()}));
        Ok(())
    }

    /// A stream's first push, and the push of a renewal.
    async fn show_secrets(&self, report: &Report) -> Result<(), QuickstartError> {
        let took = Stopwatch::start();
        let mut stream =
            probe::Stream::open(&self.client.socket, names::IDENTITY).await.map_err(broken("sds"))?;
        let first = stream.next().await.map_err(broken("sds"))?;
        report.step(
            "sds",
            took,
            &format!("first push of `{}`, version {first}", names::IDENTITY),
            json!({"version": first}),
        );

        let took = Stopwatch::start();
        self.client.renew.notify_one();
        let second = stream.next().await.map_err(broken("renewal"))?;
        if first == second {
            return Err(broken("renewal")("the renewed certificate has the old version".to_owned()));
        }
        report.step(
            "renewal",
            took,
            &format!("new key, new certificate, pushed as version {second}"),
            json!({"version": second}),
        );
        Ok(())
    }

    /// Two Envoys in mTLS, with requests flowing while certificates rotate.
    async fn show_envoys(
        &self,
        binary: &Path,
        rotations: u32,
        report: &Report,
        measured: &mut Measured,
    ) -> Result<(), QuickstartError> {
        let took = Stopwatch::start();
        let config = envoy::server(&self.server.socket, &self.domain);
        let server = Envoy::start(binary, "server", &self.directory, &config).await?;
        let config = envoy::client(&self.client.socket, server.address, &self.server.id);
        let client = Envoy::start(binary, "client", &self.directory, &config).await?;
        report.step(
            "envoys",
            took,
            &format!("two are live: HTTP in at {}, mTLS to {}", client.address, server.address),
            json!({"client": client.address, "server": server.address}),
        );

        // Until the policies are here, nobody is let in.
        self.policies.wait_for(200, client.address).await?;
        let took = Stopwatch::start();
        let probe = self.client.tls_to(&self.server.id)?;
        let traffic = Traffic::start(client.address, &self.client.id.to_string());
        let mut latencies = Vec::new();
        tokio::time::sleep(BETWEEN).await;
        for _ in 0..rotations {
            let (renewed, _) = self.client.rotated().await?;
            self.client.accepted(renewed.version()).await?;
            let (renewed, pushed) = self.server.rotated().await?;
            let serial = &renewed.chain().leaf().facts().serial;
            let latency = probe::first_handshake_with(serial, server.address, probe.clone(), pushed)
                .await
                .map_err(broken("traffic"))?;
            latencies.push(latency);
            measured.rotations += 1;
            tokio::time::sleep(BETWEEN).await;
        }
        let leaves = (traffic.requests(), took);
        self.show_root_rotation(Some(&traffic), report, measured).await?;
        let (requests, failed, first_failure) = traffic.finish().await;
        (measured.requests, measured.failed) = (requests, failed);
        if requests == 0 || failed > 0 {
            let what = first_failure.unwrap_or_else(|| "no request was made".to_owned());
            return Err(broken("traffic")(format!(
                "{failed} of {requests} requests failed; the first: {what}"
            )));
        }
        latencies.sort_by(f64::total_cmp);
        let median = latencies.get(latencies.len() / 2).copied();
        measured.push_to_handshake_ms = median;
        report.step(
            "traffic",
            leaves.1,
            &format!(
                "{requests} requests, {failed} failed, over {rotations} rotations of the certificates on both sides and one of \
                 the root; push to first handshake {} (median)",
                median.map_or("not measured".to_owned(), |ms| format!("{ms:.1} ms"))
            ),
            json!({"requests": requests, "failed": failed, "rotations": rotations, "push_to_handshake_ms": median}),
        );
        self.policies.show(&self.client.id, Some(client.address), report).await
    }

    /// The root is rotated: by one order, as an operator gives it, on evidence that all proxies have it.
    async fn show_root_rotation(
        &self,
        traffic: Option<&Traffic>,
        report: &Report,
        measured: &mut Measured,
    ) -> Result<(), QuickstartError> {
        let took = Stopwatch::start();
        let socket = self.directory.join("state").join("admin.sock");
        let before = traffic.map_or(0, Traffic::requests);
        let rotated =
            operator::rotate_root(&socket, |progress| report.aside(&format!("{:>23} {progress}", "")))
                .await
                .map_err(broken("root"))?;
        measured.root_rotations += 1;
        let during = traffic.map_or(0, Traffic::requests) - before;
        let text = format!(
            "the root was rotated by one order: {} is gone, {} signs and alone is trusted{}",
            rotated.old,
            rotated.new,
            if traffic.is_some() { format!("; {during} requests meanwhile") } else { String::new() },
        );
        let facts = json!({
            "old": rotated.old, "new": rotated.new, "requests": during,
            "distribute_s": rotated.distribute_s, "reissue_s": rotated.reissue_s, "withdraw_s": rotated.withdraw_s,
        });
        report.step("root", took, &text, facts);
        Ok(())
    }

    pub(super) fn explain(&self, report: &Report) {
        let root = self.directory.join("root-cert.pem");
        report.aside(&format!(
            "\nIt stays until Ctrl-C. Point an Envoy at one of these sockets, under the names `{}` and `{}`:\n  {}\n  {}\n\
             Its configuration may look like the files envoy-*.json in {}.\n\
             The CA serves at https://{} (root: {}). Tokens: {}/*.token\n\
             Look at what is served:\n  burgrave cert inspect --sds {}\n\
             Rotate the root again, and watch it:\n  burgrave root rotate --socket {}\n\
             Change who may call the server, in {}, and ask why:\n  burgrave policy explain --help",
            names::IDENTITY,
            names::TRUST,
            self.client.socket.display(),
            self.server.socket.display(),
            self.directory.display(),
            self.ca,
            root.display(),
            self.directory.display(),
            self.client.socket.display(),
            self.directory.join("state").join("admin.sock").display(),
            self.policies.directory().join("callers.yaml").display(),
        ));
        for (name, config) in [
            ("server", envoy::server(&self.server.socket, &self.domain)),
            (
                "client",
                envoy::client(&self.client.socket, SocketAddr::from(([127, 0, 0, 1], 8443)), &self.server.id),
            ),
        ] {
            let file = self.directory.join(format!("envoy-{name}.json"));
            if !file.exists()
                && let Err(error) = write(&file, &config.to_string())
            {
                tracing::warn!(%error, "an example could not be written");
            }
        }
    }
}
