//! The root is rotated while requests flow, and not one fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use burgrave::proto::admin::New;
use burgrave::proto::admin::Nothing;
use burgrave::proto::admin::StatusRequest;
use burgrave::proto::admin::Step;
use burgrave::proto::admin::Taint;
use burgrave::proto::admin::authorities_client::AuthoritiesClient;
use burgrave::proto::admin::step::What;
use burgrave::rotation::report::Report;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::ca::Ca;
use crate::ca::until;
use crate::mesh::Client;
use crate::mesh::Load;
use crate::mesh::Server;
use crate::mesh::Workload;
use crate::support::apiserver::ApiServer;
use crate::support::figure;

/// An operator at the Unix socket.
pub(crate) struct Operator {
    socket: PathBuf,
}

impl Operator {
    pub(crate) fn of(ca: &Ca) -> Operator {
        Operator { socket: ca.plan().state_dir().join("admin.sock") }
    }

    pub(crate) async fn client(&self) -> AuthoritiesClient<Channel> {
        let socket = self.socket.clone();
        let connect = |path: &Path| path.to_owned();
        let channel = until("the operators' socket", Duration::from_secs(20), async || {
            let path = connect(&socket);
            Endpoint::from_static("http://burgrave")
                .connect_with_connector(tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                }))
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        AuthoritiesClient::new(channel)
    }

    pub(crate) async fn order(&self, what: What) -> Result<Report, String> {
        let step = Step { what: Some(what), ..Step::default() };
        let answer = self.client().await.act(step).await.map_err(|status| status.message().to_owned())?;
        Ok(serde_json::from_str(&answer.into_inner().json).expect("it is a report"))
    }

    pub(crate) async fn status(&self) -> Report {
        let answer = self.client().await.status(StatusRequest {}).await.expect("the CA tells");
        serde_json::from_str(&answer.into_inner().json).expect("it is a report")
    }

    /// Waits until no rotation is under way.
    pub(crate) async fn until_over(&self, limit: Duration) -> Report {
        until("the rotation's end", limit, async || {
            let report = self.status().await;
            match &report.rotation {
                None => Ok(report),
                Some(one) => Err(format!("{} waits for {:#?}", one.phase, one.waiting)),
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_rotated_by_one_order_under_load_and_no_request_fails() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("rotated").await;
    let ca = Ca::start(api, &namespace, &[]).await;
    let web = Workload::start(&ca, &namespace, "web", &[]).await;
    let store = Workload::start(&ca, &namespace, "store", &[]).await;
    let server = Server::start(&store, None).await;
    let client = Client::start(&web, server.address, &store.id).await;
    let operator = Operator::of(&ca);
    let before = operator.status().await;
    let load = Load::start(client.address, &web.id, 8);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    let new = New { window_ms: 500, ..New::default() };
    operator.order(What::Rotate(new)).await.expect("it is ordered");
    let after = operator.until_over(Duration::from_secs(60)).await;
    figure("root_rotation_s", format!("{:.2}", begun.elapsed().as_secs_f64()), "s");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (requests, failures) = load.finish().await;
    assert_eq!(failures, BTreeMap::new());
    assert_ne!(before.active, after.active);
    assert_eq!(after.bundle.roots.len(), 1);
    println!("{requests} {after:#?}");
    let _ = (What::Activate(Nothing {}), Taint::default());
}
