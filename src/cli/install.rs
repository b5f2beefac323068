//! `burgrave install`: says what is missing in a cluster, and what to do about it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;

use crate::clock::Clock;
use crate::config::Output;
use crate::install;
use crate::k8s;

/// The exit code when the cluster was asked, and something has to be put right.
const SOMETHING_MISSING: u8 = 3;

/// What can be done with an installation.
#[derive(Debug, Subcommand)]
pub(super) enum InstallCommand {
    /// Say what is missing in a cluster, object by object, with the fix for each
    ///
    /// It compares the cluster with deploy/, which this program carries: before deploy/ is applied it says what the
    /// cluster lacks, and afterwards whether every right, binding and replica is there and the roots have reached every
    /// namespace. It reads what the role `burgrave-viewer` allows, and no Secret. It looks for the names that deploy/ has:
    /// where the CA runs with another --lease, --bundle-config-map or --signer-name, it tells these as missing.
    ///
    /// Examples:
    ///
    ///   burgrave install check
    ///   burgrave install check --namespace mesh --output json
    ///
    /// The exit code is 0 if nothing has to be put right, 3 if something has to be or cannot be looked at, 1 if no API
    /// server is known to ask.
    ///
    /// JSON: one object.
    ///
    ///   ok          true if the exit code is 0
    ///   namespace   where the authority was looked for
    ///   findings    a list, in the order in which it is best put right; each has
    ///     state       ok; warning (does not change the exit code); missing; differs; not-ready; cannot-look
    ///     kind        kind of what it is about; also APIServer, APIResource, and Node, Pod with the name `all`
    ///     namespace   its namespace, or null
    ///     name        its name
    ///     says        a sentence; may be empty if the state is ok
    ///     permission  null, or the one that is missing: group, resource, name (null for any), verb
    ///     fix         what to do, or null
    #[command(verbatim_doc_comment)]
    Check(Check),
}

/// Where to look.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Namespace of the authority
    #[arg(long, value_name = "NAME", default_value = install::NAMESPACE)]
    namespace: String,
    /// Kubeconfig of the cluster [default: KUBECONFIG, ~/.kube/config, or the pod's own]
    #[arg(long, env = "BURGRAVE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// `text` for people, `json` for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl InstallCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Check(check) = self;
        let client = k8s::connect(check.kubeconfig.as_deref()).await?;
        let report = install::check(&client, &check.namespace, Clock::system().now()).await;
        let said = match check.output {
            Output::Text => report.to_text(),
            Output::Json => format!("{}\n", report.to_json()),
        };
        // Whoever reads may have seen enough; the exit code says the rest.
        let _ = std::io::stdout().write_all(said.as_bytes());
        Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(SOMETHING_MISSING) })
    }
}
