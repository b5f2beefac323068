//! Answers the API server over HTTPS: a listener of its own, with the CA's own certificate, which may be swapped at any moment.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::body::to_bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;
use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::authz::webhook::metrics::AdmissionMetrics;
use crate::authz::webhook::review;
use crate::tls;
use crate::tls::Accepted;

/// Where reviews are posted to.
pub const PATH: &str = "/policies/validate";
/// The largest review that is read. The API server takes objects of three megabytes, and a review has the new and the old one.
const LARGEST: usize = 8 << 20;
/// How many connections may be open: API servers are few, and each opens few.
const CONNECTIONS: usize = 64;
/// How many are read at a time; more wait, as each may take so much memory and a core.
const AT_ONCE: usize = 8;
/// For how long they wait. The API server itself does not wait for longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the webhook is made of. Clones share it.
#[derive(Clone, Debug)]
pub struct Webhook {
    metrics: AdmissionMetrics,
    places: Arc<Semaphore>,
}

impl Webhook {
    /// A webhook that counts there.
    pub fn new(metrics: AdmissionMetrics) -> Self {
        Self { metrics, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Answers on `listener` until `stop` is cancelled.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        config: Arc<ServerConfig>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let address = listener.local_addr()?;
        let listener = Shaken { connections: tls::incoming_up_to(CONNECTIONS, listener, config), address };
        let pages = Router::new().route(PATH, post(validate)).with_state(self);
        axum::serve(listener, pages).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

async fn validate(State(webhook): State<Webhook>, body: Body) -> Response {
    // Whoever sends slowly takes nobody's place.
    let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST)).await else {
        webhook.metrics.count("malformed");
        return (StatusCode::PAYLOAD_TOO_LARGE, "the review is too large, or too slow\n").into_response();
    };
    let Ok(Ok(_place)) = tokio::time::timeout(PATIENCE, webhook.places.clone().acquire_owned()).await else {
        webhook.metrics.count("busy");
        return (StatusCode::SERVICE_UNAVAILABLE, "too many reviews are under way\n").into_response();
    };
    // A large one takes a while, and would hold up everything else that runs on this thread.
    let answered = tokio::task::spawn_blocking(move || review::answer(&body)).await;
    match answered {
        Ok(Ok(answered)) => {
            let (question, outcome) = (&answered.question, answered.outcome());
            webhook.metrics.count(outcome);
            if let Some(why) = &answered.admission.refused {
                tracing::info!(
                    kind = question.kind.kind,
                    namespace = question.namespace,
                    name = question.name,
                    reason = why,
                    "a policy is refused at admission"
                );
            }
            Json(answered.to_json()).into_response()
        }
        Ok(Err(no_question)) => {
            webhook.metrics.count("malformed");
            tracing::debug!(error = %no_question, "something other than a review was posted to the webhook");
            (StatusCode::BAD_REQUEST, format!("{no_question}\n")).into_response()
        }
        Err(_) => {
            webhook.metrics.count("failed");
            (StatusCode::INTERNAL_SERVER_ERROR, "the review failed\n").into_response()
        }
    }
}

/// Connections that have shaken hands.
struct Shaken {
    connections: ReceiverStream<io::Result<Accepted>>,
    address: SocketAddr,
}

impl Listener for Shaken {
    type Io = Accepted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.connections.next().await {
                Some(Ok(connection)) => return (connection, self.address),
                Some(Err(error)) => tracing::debug!(%error, "a connection of the webhook failed"),
                // It ends with the process alone.
                None => match std::future::pending::<Infallible>().await {},
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
