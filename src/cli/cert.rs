//! `burgrave cert`: looks at certificates, and says in words what they are and what is wrong with them.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::config::Output;
use crate::sds;
use crate::sds::names;
use crate::x509::Certificate;
use crate::x509::TrustBundle;
use crate::x509::describe;
use crate::x509::diagnose;
use crate::x509::diagnose::Problem;
use crate::x509::pem;

/// The exit code when there are certificates and something is wrong with them.
const SOMETHING_WRONG: u8 = 3;

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// Print a chain, or what an SDS socket serves, in words, and say what is wrong with it
    ///
    /// Examples:
    ///
    ///   burgrave cert inspect chain.pem --roots root-cert.pem
    ///   kubectl get configmap istio-ca-root-cert -o jsonpath='{.data.root-cert\.pem}' | burgrave cert inspect
    ///   burgrave cert inspect --sds /var/run/secrets/workload-spiffe-uds/socket
    ///
    /// The exit code is 0 if all is well, 3 if something is wrong with the certificates, 1 if there are none to look at.
    #[command(verbatim_doc_comment)]
    Inspect(Inspect),
}

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// PEM or DER file with a chain, leaf first, or with roots; `-` or nothing for standard input. Private keys in it are
    /// passed over
    #[arg(value_name = "FILE", conflicts_with = "sds")]
    file: Option<PathBuf>,
    /// Unix socket of an SDS server, ours or another; its `default` and `ROOTCA` are looked at
    #[arg(long, value_name = "SOCKET")]
    sds: Option<PathBuf>,
    /// Roots that the chain must lead to
    #[arg(long, value_name = "FILE", conflicts_with = "sds")]
    roots: Option<PathBuf>,
    /// `text` for people, `json` for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Certificates that belong together, and what is wrong with them.
struct Seen {
    name: String,
    certificates: Vec<Certificate>,
    problems: Vec<Problem>,
}

impl CertCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Inspect(what) = self;
        let now = Clock::system().now();
        let seen = match &what.sds {
            Some(socket) => of_socket(socket, now).await?,
            None => vec![of_file(what.file.as_deref(), what.roots.as_deref(), now)?],
        };
        match what.output {
            Output::Text => print_text(&seen, now),
            Output::Json => print_json(&seen),
        }
        match seen.iter().all(|one| one.problems.is_empty()) {
            true => Ok(ExitCode::SUCCESS),
            false => Ok(ExitCode::from(SOMETHING_WRONG)),
        }
    }
}

async fn of_socket(socket: &Path, now: OffsetDateTime) -> anyhow::Result<Vec<Seen>> {
    let served = async |name| -> anyhow::Result<Vec<Certificate>> {
        let pem = sds::served(socket, name)
            .await
            .map_err(|error| anyhow::anyhow!("`{}`: {error}", socket.display()))?;
        parse(&pem).map_err(|error| anyhow::anyhow!("`{}`, secret `{name}`: {error}", socket.display()))
    };
    let (chain, roots) = (served(names::IDENTITY).await?, served(names::TRUST).await?);
    let bundle = TrustBundle::new(roots.clone()).ok();
    Ok(vec![
        Seen {
            name: names::IDENTITY.to_owned(),
            problems: diagnose::chain(&chain, bundle.as_ref(), now),
            certificates: chain,
        },
        Seen { name: names::TRUST.to_owned(), problems: diagnose::roots(&roots, now), certificates: roots },
    ])
}

fn of_file(file: Option<&Path>, roots: Option<&Path>, now: OffsetDateTime) -> anyhow::Result<Seen> {
    let file = file.filter(|path| *path != Path::new("-"));
    let name = file.map_or("standard input".to_owned(), |path| path.display().to_string());
    let mut bytes = Vec::new();
    match file {
        Some(path) => bytes = std::fs::read(path).map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?,
        None => drop(std::io::stdin().read_to_end(&mut bytes).context("standard input cannot be read")?),
    }
    let certificates = parse(&bytes).map_err(|error| anyhow::anyhow!("`{name}`: {error}"))?;
    let bundle = match roots {
        None => None,
        Some(path) => {
            let text =
                std::fs::read(path).map_err(|error| anyhow::anyhow!("`{}`: {error}", path.display()))?;
            Some(
                TrustBundle::from_pem(&text)
                    .map_err(|error| anyhow::anyhow!("`{}`: {error}", path.display()))?,
            )
        }
    };
    let only_roots = certificates.iter().all(Certificate::is_self_signed);
    let problems = match (only_roots, &bundle) {
        (true, None) => diagnose::roots(&certificates, now),
        _ => diagnose::chain(&certificates, bundle.as_ref(), now),
    };
    Ok(Seen { name, certificates, problems })
}

fn parse(bytes: &[u8]) -> anyhow::Result<Vec<Certificate>> {
    let ders = match bytes.first() {
        None => bail!("it is empty"),
        // A DER certificate is a SEQUENCE; no PEM begins with `0`.
        Some(0x30) => vec![CertificateDer::from(bytes.to_vec())],
        Some(_) => pem::certificates(bytes)?,
    };
    let parsed = ders.into_iter().enumerate().map(|(at, der)| {
        Certificate::from_der(der).map_err(|error| anyhow::anyhow!("certificate {}: {error}", at + 1))
    });
    parsed.collect()
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn print_text(seen: &[Seen], now: OffsetDateTime) {
    for one in seen {
        println!("{}: {} certificate(s)", one.name, one.certificates.len());
        for (at, certificate) in one.certificates.iter().enumerate() {
            println!("\n{}. {}", at + 1, describe::line(certificate, now));
            print!("{}", describe::paragraph(certificate, now));
            for (_, problem) in one.problems.iter().filter(|(which, _)| *which == at) {
                println!("  WRONG       {} [{}]", problem.message, problem.rule);
            }
        }
        match one.problems.len() {
            0 => println!("\nNothing is wrong with it.\n"),
            count => println!("\n{count} thing(s) are wrong with it.\n"),
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn print_json(seen: &[Seen]) {
    let all: Vec<Value> = seen.iter().map(to_json).collect();
    println!("{}", Value::Array(all));
}

fn to_json(seen: &Seen) -> Value {
    let certificates: Vec<Value> = seen
        .certificates
        .iter()
        .enumerate()
        .map(|(at, certificate)| {
            let facts = certificate.facts();
            let problems: Vec<_> = seen
                .problems
                .iter()
                .filter(|(which, _)| *which == at)
                .map(|(_, problem)| json!({"rule": problem.rule, "message": problem.message}))
                .collect();
            json!({
                "serial": facts.serial.to_string(),
                "subject": facts.subject_text,
                "issuer": facts.issuer_text,
                "uris": facts.uris,
                "dns_names": facts.dns_names,
                "ip_addresses": facts.ip_addresses,
                "not_before": facts.not_before.unix_timestamp(),
                "not_after": facts.not_after.unix_timestamp(),
                "key": facts.key_algorithm.map(|kind| kind.to_string()),
                "is_ca": facts.is_ca,
                "sha256": certificate.fingerprint(),
                "problems": problems,
            })
        })
        .collect();
    json!({"name": seen.name, "ok": seen.problems.is_empty(), "certificates": certificates})
}
