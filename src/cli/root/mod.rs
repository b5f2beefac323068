//! `burgrave root`: how the authorities stand, and their rotation.

mod bars;
mod breakage;
mod copy;
mod follow;
mod force;
mod orders;
mod plan;
mod progress;
mod status;
#[cfg(test)]
mod story_tests;

use std::path::PathBuf;
use std::pin::pin;

use clap::Args;
use clap::Subcommand;

use crate::cli::asked::Asked;
use crate::cli::console::Console;
use crate::cli::ending::Ending;
use crate::cli::reach::Heard;
use crate::cli::root::copy::Target;
use crate::cli::root::follow::Interrupt;
use crate::cli::root::orders::Brought;
use crate::cli::root::orders::Gated;
use crate::cli::root::orders::Past;
use crate::clock::Clock;
use crate::config::HumanDuration;
use crate::config::Output;
use crate::config::Surroundings;

/// What can be done with the root and its authorities.
///
/// An authority is a key and its certificates. It is prepared (its root is trusted, and it signs nothing), active (it signs),
/// retiring (it signs no more, and its root is still trusted), retired (its root is trusted no more), and then gone, key and all.
///
/// A rotation brings a new authority in and the old one out, and waits at three gates:
///
///   distribute  until every reader has acknowledged the roots with the new one; then the new authority signs
///   reissue     until every workload has a certificate of the new authority; then the old root leaves
///   withdraw    until every reader has acknowledged the roots without the old one; then the old key is destroyed
///
/// Which CA: one on this machine is reached by its Unix socket, as its user or as root. One elsewhere, by --address,
/// --root-file and a token for the cluster's API server, which says whether you may: verbs get, prepare, rotate, activate,
/// retire, abort, rollback, taint and export on `authorities` of the group `burgrave.dev`.
///
///   kubectl -n mesh port-forward service/burgrave-ca 15012 &
///   kubectl -n mesh get configmap istio-ca-root-cert -o jsonpath='{.data.root-cert\.pem}' >root.pem
///   burgrave root status --address https://localhost:15012 --server-name burgrave-ca.mesh.svc --root-file root.pem
///
/// Exit codes: 0 done; 1 an error; 3 refused, not over in time, or ended otherwise than ordered; 130 interrupted.
#[derive(Debug, Subcommand)]
pub(super) enum RootCommand {
    /// Show the authorities, what is trusted, who reads it, and how far a rotation is
    ///
    /// Examples:
    ///
    ///   burgrave root status
    ///   burgrave root status --output json | jq -r .active
    ///
    /// JSON: one object, the report.
    ///
    ///   at, trust_domain, place, can_rotate    when and where this is so, and whether it is rotated here
    ///   bundle       what is trusted: sequence, digest, roots (fingerprint, subject, expires_at, authority), pem
    ///   active       the id of the authority that signs
    ///   authorities  a list, oldest first: id, subject, stage (prepared, active, retiring, retired), tainted_at, root,
    ///                cross_signed, expires_at, prepared_at, activated_at, retiring_since, in_use_by, last_leaf_expires_at
    ///   rotation     null, or the one under way: kind (ordered, scheduled, emergency), by, automatic, rolled_back, window_s,
    ///                began_at, phase (distribute, reissue, withdraw), phases (name, state, done, total, took_s), waiting
    ///                (who, pod, node, kind, why, until; at most a hundred), waiting_total, forced, estimate
    ///   last         null, or the last that ended: kind, by, outcome (done, aborted, rolled back), began_at, ended_at, took_s,
    ///                distribute_s, reissue_s, withdraw_s, removed, forced
    ///   replicas     a list: name, sequence, signs_with
    ///   readers      how many there are, by kind: agent, client, pod, unheard
    ///   published, next_scheduled, troubles    where the roots are, when a rotation begins by itself, what is wrong
    #[command(verbatim_doc_comment)]
    Status(Look),
    /// Show what a rotation would do: each step, its gate, who is missing now, and an estimate; nothing is ordered
    ///
    /// Examples:
    ///
    ///   burgrave root plan
    ///   burgrave root plan --from ./new-ca
    ///
    /// With --from, the files are looked at on this machine; nothing of them is sent.
    ///
    /// JSON: the report of `burgrave root status`.
    #[command(verbatim_doc_comment)]
    Plan(Plan),
    /// Rotate: prepare a new authority, and take each further step as soon as there is evidence that nobody is cut off
    ///
    /// It is the CA that rotates; this only orders it and watches. After Ctrl-C, or when the connection is lost, it goes on there.
    /// If a rotation is under way already, it goes on by itself from now on, and is watched.
    ///
    /// Examples:
    ///
    ///   burgrave root rotate
    ///   burgrave root rotate --window 30m --timeout 2h
    ///   burgrave root rotate --from ./new-ca
    ///   burgrave root rotate --watch
    ///
    /// --force goes on without those who are waited for, after it has said who they are and what they lose: at once at the phase
    /// that a rotation under way stands at, and at later ones when readers have had 16 s to answer (in `reissue`, the window and
    /// 16 s). On a terminal it asks at each phase, unless --yes is given.
    ///
    /// JSON: the report of `burgrave root status`, one a line whenever it changes. In the last one `rotation` is null and `last`
    /// is the one that was watched.
    ///
    /// Exit codes: 0 the old key is gone; 1 an error; 3 refused, not over within --timeout, aborted or rolled back; 130 interrupted.
    #[command(verbatim_doc_comment)]
    Rotate(Box<Rotate>),
    /// Prepare a new authority: its root is trusted from now on, and it signs nothing; each further step is yours
    ///
    /// Examples:
    ///
    ///   burgrave root prepare --wait && burgrave root activate && burgrave root retire --wait
    ///   burgrave root prepare --from ./new-ca
    ///
    /// With --wait it ends when every reader has the new root: 0, or 3 if not within --timeout.
    ///
    /// JSON: the report of `burgrave root status`; with --wait, one a line whenever it changes.
    #[command(verbatim_doc_comment)]
    Prepare(Prepare),
    /// Let the prepared authority sign, if every reader has acknowledged its root
    ///
    /// Without evidence it is refused, with the list of those who are waited for (exit code 3). --wait waits for them, --force
    /// goes on without them: they refuse peers whose certificates lead to the new root.
    ///
    /// JSON: the report of `burgrave root status`; with --wait, one a line whenever it changes.
    #[command(verbatim_doc_comment)]
    Activate(GatedStep),
    /// Let the old root leave the bundle, if no workload needs it any more; its key is destroyed when readers have heard of it
    ///
    /// Without evidence it is refused, with the list of those who are waited for (exit code 3). --wait waits for them, --force
    /// goes on without them: peers refuse them until they have new certificates.
    ///
    /// JSON: the report of `burgrave root status`; with --wait, one a line whenever it changes.
    #[command(verbatim_doc_comment)]
    Retire(GatedStep),
    /// Withdraw the prepared authority, as long as it has signed nothing; nobody can miss it
    ///
    /// JSON: the report of `burgrave root status`.
    #[command(verbatim_doc_comment)]
    Abort(Look),
    /// Let the authority before the active one sign again, as long as its root is trusted
    ///
    /// The new one leaves then by the same gates: `burgrave root rotate --watch` shows it.
    ///
    /// JSON: the report of `burgrave root status`.
    #[command(verbatim_doc_comment)]
    Rollback(Look),
    /// Say that an authority's key is not to be trusted any more, and have all its certificates replaced now
    ///
    /// Another authority takes over as soon as the connected readers trust its root; all workloads are told to come for new
    /// certificates at once, and the tainted root leaves. Who is not connected is not waited for, and is cut off: they are named
    /// first. On a terminal it asks, unless --yes is given.
    ///
    /// Examples:
    ///
    ///   burgrave root taint
    ///   burgrave root taint 3f2a --yes --timeout 5m
    ///
    /// JSON and exit codes: as of `burgrave root rotate`.
    #[command(verbatim_doc_comment)]
    Taint(Taint),
    /// Write the authorities with their keys to a file, sealed with a passphrase (age, scrypt)
    ///
    /// Examples:
    ///
    ///   burgrave root export --file ca.age --passphrase-file passphrase
    ///
    /// The file is new, with mode 0600; nothing is overwritten. The passphrase is the only line of its file.
    ///
    /// JSON: one object: file, bytes.
    #[command(verbatim_doc_comment)]
    Export(Export),
    /// Restore the authorities from a sealed file to where nothing is kept; no CA needs to run
    ///
    /// Examples:
    ///
    ///   burgrave root import --file ca.age --passphrase-file passphrase --state-dir /var/lib/burgrave
    ///   burgrave root import --file ca.age --passphrase-file passphrase --authority-secret burgrave-authority --namespace mesh
    ///
    /// Where something is kept already, or a CA runs on the directory, it is refused (exit code 3, or 1).
    ///
    /// JSON: one object: place, sequence, digest, active, authorities (id, stage, subject), rotation (whether one was under way).
    #[command(verbatim_doc_comment)]
    Import(Import),
}

/// Nothing but which CA.
#[derive(Debug, Args)]
pub(super) struct Look {
    #[command(flatten)]
    asked: Asked,
}

/// What a plan is made for.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Directory with the new CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem [default: the CA makes a root]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// How a rotation goes.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// Time within which workloads move to the new authority [default: what suits their number]
    #[arg(long, value_name = "DURATION")]
    window: Option<HumanDuration>,
    /// Directory with the new CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem [default: the CA makes a root]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Have the old root certify the new one, and do not wait for the new root to reach those that are not connected
    #[arg(long)]
    cross_sign: bool,
    /// Stop watching after this time, with exit code 3; the rotation goes on
    #[arg(long, value_name = "DURATION")]
    timeout: Option<HumanDuration>,
    /// Go on without those who are waited for, after naming them
    #[arg(long)]
    force: bool,
    /// Do not ask before anything is forced
    #[arg(long, requires = "force")]
    yes: bool,
    /// Only order it, and do not watch
    #[arg(long, conflicts_with_all = ["timeout", "force"])]
    detach: bool,
    /// Only watch the rotation under way; if there is none, tell how the last one ended
    #[arg(long, conflicts_with_all = ["window", "from", "cross_sign", "force", "detach"])]
    watch: bool,
    #[command(flatten)]
    asked: Asked,
}

/// What is prepared.
#[derive(Debug, Args)]
pub(super) struct Prepare {
    /// Directory with the new CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem [default: the CA makes a root]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Have the old root certify the new one, and do not wait for the new root to reach those that are not connected
    #[arg(long)]
    cross_sign: bool,
    /// Wait until every reader has the new root
    #[arg(long)]
    wait: bool,
    /// Stop waiting after this time, with exit code 3
    #[arg(long, value_name = "DURATION", requires = "wait")]
    timeout: Option<HumanDuration>,
    #[command(flatten)]
    asked: Asked,
}

/// How a step is taken that needs evidence.
#[derive(Debug, Args)]
pub(super) struct GatedStep {
    /// Wait for the evidence, and then take the step
    #[arg(long)]
    wait: bool,
    /// Stop waiting after this time, with exit code 3; the step is not taken then
    #[arg(long, value_name = "DURATION", requires = "wait")]
    timeout: Option<HumanDuration>,
    /// Take the step without evidence, after naming those who break
    #[arg(long, conflicts_with = "wait")]
    force: bool,
    /// Do not ask before it is forced
    #[arg(long, requires = "force")]
    yes: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Which key is not to be trusted any more.
#[derive(Debug, Args)]
pub(super) struct Taint {
    /// The authority's id, or the beginning of it [default: the one that signs]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Stop watching after this time, with exit code 3; the replacement goes on
    #[arg(long, value_name = "DURATION")]
    timeout: Option<HumanDuration>,
    /// Do not wait for connected readers either that have had 16 s to answer; they are named first
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only order it, and do not watch
    #[arg(long, conflicts_with_all = ["timeout", "force"])]
    detach: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Where a copy goes.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// File to write; it must not be there yet
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// File with the passphrase, its only line
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    #[command(flatten)]
    asked: Asked,
}

/// Where a copy comes from, and where it goes.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// File that `burgrave root export` has written
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// File with the passphrase, its only line
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    /// State directory of a single process to restore to
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "authority_secret",
        conflicts_with = "authority_secret"
    )]
    state_dir: Option<PathBuf>,
    /// Kubernetes Secret to restore to, which replicas share
    #[arg(long, value_name = "NAME")]
    authority_secret: Option<String>,
    /// Namespace of the Secret [default: the pod's own, or the kubeconfig's]
    #[arg(long, value_name = "NAME", requires = "authority_secret")]
    namespace: Option<String>,
    /// Kubeconfig of the cluster [default: KUBECONFIG, ~/.kube/config, or the pod's own]
    #[arg(long, env = "BURGRAVE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// `text` for people, `json` for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl RootCommand {
    pub(super) async fn run(self, around: Surroundings) -> anyhow::Result<Ending> {
        // Until somebody watches, Ctrl-C ends the process as it ends others.
        let mut interrupt = pin!(async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let interrupt = interrupt.as_mut();
        match self {
            Self::Status(Look { asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                let heard = reach.status().await?;
                console.show(|| status::text(&heard.report), &heard.json);
                Ok(Ending::Done)
            }
            Self::Plan(Plan { from, asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                let Heard { json, report } = reach.status().await?;
                let brought = from.as_deref().map(|from| Brought::read(from, &report)).transpose()?;
                let (_, readers) = reach.readers().await?;
                let issuer = brought.as_ref().map(|brought| &brought.issuer);
                console.show(|| plan::text(&report, &readers, issuer, Clock::system().now()), &json);
                Ok(Ending::Done)
            }
            Self::Rotate(rotate) => {
                let (mut reach, mut console) = rotate.asked.resolve(around).await?;
                if rotate.watch {
                    return orders::watch(&mut reach, &mut console, rotate.timeout, interrupt).await;
                }
                let how = orders::Rotate {
                    window: rotate.window.map(|window| window.0),
                    from: rotate.from.as_deref(),
                    cross_sign: rotate.cross_sign,
                    timeout: rotate.timeout,
                    force: rotate.force,
                    yes: rotate.yes,
                    detach: rotate.detach,
                };
                orders::rotate(&mut reach, &mut console, how, interrupt).await
            }
            Self::Prepare(Prepare { from, cross_sign, wait, timeout, asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                let past = Past { wait, timeout, ..Past::default() };
                orders::prepare(&mut reach, &mut console, from.as_deref(), cross_sign, past, interrupt).await
            }
            Self::Activate(step) => step.run(Gated::Activate, around, interrupt).await,
            Self::Retire(step) => step.run(Gated::Retire, around, interrupt).await,
            Self::Abort(Look { asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                orders::abort(&mut reach, &mut console).await
            }
            Self::Rollback(Look { asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                orders::roll_back(&mut reach, &mut console).await
            }
            Self::Taint(Taint { id, timeout, force, yes, detach, asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                let how = orders::Rotate { timeout, force, yes, detach, ..orders::Rotate::default() };
                orders::taint(&mut reach, &mut console, id.as_deref(), how, interrupt).await
            }
            Self::Export(Export { file, passphrase_file, asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                copy::export(&mut reach, &mut console, &file, &passphrase_file).await
            }
            Self::Import(import) => {
                let mut console = Console::of_process(import.output, around);
                let target = match (import.state_dir, import.authority_secret) {
                    (_, Some(name)) => {
                        Target::Secret { name, namespace: import.namespace, kubeconfig: import.kubeconfig }
                    }
                    (directory, None) => Target::Directory(directory.unwrap_or_default()),
                };
                copy::import(&mut console, &import.file, &import.passphrase_file, target).await
            }
        }
    }
}

impl GatedStep {
    async fn run(
        self,
        which: Gated,
        around: Surroundings,
        interrupt: Interrupt<'_>,
    ) -> anyhow::Result<Ending> {
        let (mut reach, mut console) = self.asked.resolve(around).await?;
        let past = Past { wait: self.wait, timeout: self.timeout, force: self.force, yes: self.yes };
        orders::gated(&mut reach, &mut console, which, past, interrupt).await
    }
}
