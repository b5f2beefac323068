//! `burgrave bundle`: which roots are trusted, and are they those of a file?

mod compare;

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;

use crate::cli::asked::Asked;
use crate::cli::bundle::compare::Difference;
use crate::cli::ending::Ending;
use crate::config::Surroundings;
use crate::x509::TrustBundle;

/// What can be done with what is trusted.
#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Show the roots that are trusted: number and digest of the bundle, and each root with the authority it belongs to
    ///
    /// Examples:
    ///
    ///   burgrave bundle show
    ///   burgrave bundle show --output json | jq -r .pem >root-cert.pem
    ///
    /// The number grows with each change. The digest names the set of roots; proxies have it as version of `ROOTCA`.
    ///
    /// JSON: one object: sequence, digest, roots (a list: fingerprint, subject, expires_at, authority or null), pem.
    ///
    /// Exit codes: 0 done; 1 an error; 3 refused.
    #[command(verbatim_doc_comment)]
    Show(Show),
    /// Compare a file of roots with what is trusted: which are missing in it, and which are surplus
    ///
    /// Examples:
    ///
    ///   burgrave bundle diff /etc/envoy/root-cert.pem
    ///   kubectl -n shop get configmap istio-ca-root-cert -o jsonpath='{.data.root-cert\.pem}' | burgrave bundle diff -
    ///
    /// JSON: one object.
    ///
    ///   same       true if the exit code is 0
    ///   sequence   the number of the bundle that the file was compared with
    ///   digest     its digest
    ///   missing    roots that are trusted and not in the file: fingerprint, subject, expires_at, authority or null
    ///   surplus    roots in the file that are not trusted: fingerprint, subject, expires_at
    ///
    /// Exit codes: 0 the same roots, in whatever order; 1 an error; 3 they differ.
    #[command(verbatim_doc_comment)]
    Diff(Diff),
}

/// Nothing but which CA.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    asked: Asked,
}

/// What is compared.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// PEM file with roots; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    asked: Asked,
}

impl BundleCommand {
    pub(super) async fn run(self, around: Surroundings) -> anyhow::Result<Ending> {
        match self {
            Self::Show(Show { asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                let heard = reach.status().await?;
                let json: serde_json::Value = serde_json::from_str(&heard.json)?;
                let json = json.get("bundle").map(ToString::to_string).unwrap_or_default();
                console.show(|| compare::text(&heard.report), &json);
                Ok(Ending::Done)
            }
            Self::Diff(Diff { file, asked }) => {
                let (mut reach, mut console) = asked.resolve(around).await?;
                let held = read(&file)?;
                let heard = reach.status().await?;
                let difference = Difference::of(&heard.report.bundle, &held);
                console.show(|| difference.to_text(&heard.report.at), &difference.to_json().to_string());
                Ok(if difference.is_none() { Ending::Done } else { Ending::NotDone })
            }
        }
    }
}

fn read(file: &Path) -> anyhow::Result<TrustBundle> {
    let mut text = Vec::new();
    let name = match file == Path::new("-") {
        true => {
            std::io::stdin()
                .read_to_end(&mut text)
                .map_err(|error| anyhow::anyhow!("standard input cannot be read: {error}"))?;
            "standard input".to_owned()
        }
        false => {
            text = std::fs::read(file).map_err(|error| anyhow::anyhow!("`{}`: {error}", file.display()))?;
            format!("`{}`", file.display())
        }
    };
    TrustBundle::from_pem(&text).map_err(|error| anyhow::anyhow!("{name}: {error}"))
}
