//! The operator of the demo: orders a rotation of the root on the socket, and watches it.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use crate::proto::admin::New;
use crate::proto::admin::StatusRequest;
use crate::proto::admin::Step;
use crate::proto::admin::authorities_client::AuthoritiesClient;
use crate::proto::admin::step::What;
use crate::rotation::report::Report;

/// How long it may take: the probe's certificate has to run out first.
const PATIENCE: Duration = Duration::from_secs(40);
/// Workloads move within this time; there are two.
const WINDOW_MS: u64 = 500;

/// A rotation that has ended well.
pub(super) struct Rotated {
    pub(super) old: String,
    pub(super) new: String,
    pub(super) distribute_s: Option<f64>,
    pub(super) reissue_s: Option<f64>,
    pub(super) withdraw_s: Option<f64>,
}

/// Orders a rotation at `socket`, and tells `progress` of each change until it is over.
pub(super) async fn rotate_root(socket: &Path, progress: impl Fn(&str)) -> Result<Rotated, String> {
    tokio::time::timeout(PATIENCE, rotate(socket, progress))
        .await
        .unwrap_or_else(|_| Err(format!("it is not over after {} s", PATIENCE.as_secs())))
}

async fn rotate(socket: &Path, progress: impl Fn(&str)) -> Result<Rotated, String> {
    let path = socket.to_owned();
    // The address is never looked up: the connector goes to the socket.
    let channel = Endpoint::from_static("http://burgrave")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|error| format!("nobody serves operators: {error}"))?;
    let mut client = AuthoritiesClient::new(channel);
    let said = |status: tonic::Status| status.message().to_owned();
    let read = |json: &str| serde_json::from_str::<Report>(json).map_err(|error| error.to_string());
    let before = read(&client.status(StatusRequest {}).await.map_err(said)?.into_inner().json)?;
    let new = New { window_ms: WINDOW_MS, ..New::default() };
    let step = Step { by: "quickstart".to_owned(), force: false, what: Some(What::Rotate(new)) };
    client.act(step).await.map_err(said)?;
    let mut changes = client.watch(StatusRequest {}).await.map_err(said)?.into_inner();
    let mut told = String::new();
    while let Some(change) = changes.message().await.map_err(said)? {
        let report = read(&change.json)?;
        let Some(rotation) = &report.rotation else { return ended(&before, report) };
        let line = line(rotation);
        if line != told {
            progress(&line);
            told = line;
        }
    }
    Err("the CA has hung up".to_owned())
}

fn line(rotation: &crate::rotation::report::Rotation) -> String {
    let present = rotation.phases.iter().find(|phase| phase.state == "now");
    let counts = present.map(|phase| format!("{} of {}", phase.done, phase.total)).unwrap_or_default();
    let waits = rotation.waiting.first().map(|one| format!(", waits for {}", one.who)).unwrap_or_default();
    format!("{:<10} {counts}{waits}", rotation.phase)
}

fn ended(before: &Report, report: Report) -> Result<Rotated, String> {
    let Some(last) =
        report.last.filter(|last| last.outcome == "done" && last.removed.contains(&before.active))
    else {
        return Err(format!("it did not end with the old root removed; {} signs", report.active));
    };
    match report.bundle.roots.as_slice() {
        [root] if root.authority.as_ref() == Some(&report.active) => Ok(Rotated {
            old: before.active.clone(),
            new: report.active,
            distribute_s: last.distribute_s,
            reissue_s: last.reissue_s,
            withdraw_s: last.withdraw_s,
        }),
        roots => Err(format!("{} roots are trusted at the end", roots.len())),
    }
}
