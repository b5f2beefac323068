//! Orders to a CA as the protocol has them, for stories that need no command line between.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use burgrave::proto::admin::StatusRequest;
use burgrave::proto::admin::Step;
use burgrave::proto::admin::authorities_client::AuthoritiesClient;
use burgrave::proto::admin::step::What;
use burgrave::rotation::report::Report;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::ca::Ca;
use crate::ca::until;

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
