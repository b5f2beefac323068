//! What an operator types.

mod asked;
mod bundle;
mod cert;
mod console;
mod ending;
mod install;
mod policy;
mod proxy;
mod reach;
mod root;
#[cfg(test)]
mod test_support;
mod words;

use std::process::ExitCode;

use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;

use crate::clock::Clock;
use crate::config::RawAgent;
use crate::config::RawCa;
use crate::config::RawLog;
use crate::config::RawQuickstart;
use crate::config::Surroundings;
use crate::config::check_environment;
use crate::roles;
use crate::telemetry;

/// A workload certificate authority and SDS secret service.
///
/// A Kubernetes service-account token becomes a SPIFFE certificate, the certificate reaches Envoy over SDS, and both are
/// renewed while traffic flows.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    log: RawLog,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve certificates: Istio's CA API for CSRs that a service-account token vouches for
    ///
    /// Example, with a self-signed root and the API server of the current kubeconfig:
    ///
    ///   burgrave ca --state-dir /var/lib/burgrave --trust-domain cluster.local
    ///
    /// In a cluster, as deploy/ runs it: replicas share a root in a Secret, and the leader publishes it and signs pod
    /// certificates:
    ///
    ///   burgrave ca --authority-secret burgrave-authority --lease burgrave-ca --serving-names burgrave-ca.mesh.svc
    #[command(verbatim_doc_comment)]
    Ca(Box<RawCa>),
    /// Serve secrets to the proxies beside it: make keys, have them certified, renew them, push them over SDS
    ///
    /// SIGHUP asks for a new certificate now. Example:
    ///
    ///   burgrave agent --ca-address https://burgrave-ca.mesh.svc:15012 --socket /var/run/burgrave/sds
    #[command(verbatim_doc_comment)]
    Agent(Box<RawAgent>),
    /// Show all of it on this machine: no cluster, no root rights, no configuration
    ///
    /// A token, a CSR, a chain, the first push of a secret, a renewal, and, if there is an Envoy, two of them in mTLS with
    /// requests flowing while certificates rotate. The exit code is 0 only if all of it held.
    Quickstart(RawQuickstart),
    /// Look at the authorities of a running CA, and rotate the root
    #[command(subcommand)]
    Root(Box<root::RootCommand>),
    /// Look at what is trusted
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Look at those who read the roots: which they have, and whose certificates
    #[command(subcommand)]
    Proxy(proxy::ProxyCommand),
    /// Ask who may call what: explain, test, compare and validate policies
    Policy(policy::PolicyArguments),
    /// Look at certificates
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Look at an installation
    #[command(subcommand)]
    Install(install::InstallCommand),
}

/// Runs the command line of this process.
///
/// # Errors
/// Whatever the role or command says; its display is a whole sentence.
pub fn run() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let root = Arguments::command();
    let pairs = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let around = Surroundings::of(pairs.clone());
    check_environment(pairs, &known_variables(&root))?;
    let (level, audit) = match arguments.command {
        Command::Ca(_) => ("info", true),
        Command::Agent(_) => ("info", false),
        Command::Quickstart(_)
        | Command::Root(_)
        | Command::Bundle(_)
        | Command::Proxy(_)
        | Command::Policy(_)
        | Command::Cert(_)
        | Command::Install(_) => ("error", false),
    };
    let level = arguments.log.log_level.as_deref().unwrap_or(level);
    telemetry::init_log(arguments.log.log_format.into(), level, audit)?;
    // One provider for everything that does not name its own; it is installed only here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Ca(raw) => {
                let stop = roles::on_signal()?;
                let ca = tokio::select! {
                    started = roles::ca::Ca::start(raw.resolve()?, Clock::system()) => started?,
                    // A start may wait for an API server that is away.
                    () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
                };
                ca.serve(stop).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Agent(raw) => {
                let stop = roles::on_signal()?;
                let agent = roles::agent::Agent::start(raw.resolve()?, Clock::system()).await?;
                roles::renew_on_hangup(agent.renew())?;
                agent.serve(stop).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Root(command) => Ok(command.run(around).await?.into()),
            Command::Bundle(command) => Ok(command.run(around).await?.into()),
            Command::Proxy(command) => Ok(command.run(around).await?.into()),
            Command::Policy(command) => Ok(command.run(around).await),
            Command::Cert(command) => command.run().await,
            Command::Install(command) => command.run().await,
            Command::Quickstart(raw) => {
                let stop = roles::on_signal()?;
                roles::quickstart::run(raw.resolve(std::env::var_os("PATH"))?, stop).await?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

/// Every environment variable that some command reads.
fn known_variables(command: &clap::Command) -> Vec<&str> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    own.chain(command.get_subcommands().flat_map(known_variables)).collect()
}
