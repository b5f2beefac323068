//! What operators and kubelets ask a running process over plain HTTP: is it alive, is it ready, what does it count, and how
//! do things stand.

use std::fmt;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether a process can do its work now: `Ok`, or a sentence that says why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// How things stand, as JSON for people and scripts. Nothing secret is in it.
pub type State = Arc<dyn Fn() -> Value + Send + Sync>;

/// The pages `/healthz`, `/readyz`, `/metrics` and `/state`.
#[derive(Clone)]
pub struct Admin {
    registry: Arc<Registry>,
    ready: Readiness,
    state: State,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

impl Admin {
    /// Serves what `registry` counts, and what `ready` and `state` say.
    pub fn new(registry: Registry, ready: Readiness, state: State) -> Self {
        Self { registry: Arc::new(registry), ready, state }
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let pages = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/state", get(state))
            .with_state(self);
        axum::serve(listener, pages).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

/// Binds an address for the pages.
///
/// # Errors
/// If it cannot be bound; the sentence names it.
pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, flag, source })
}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another with {flag}")]
pub struct BindError {
    address: SocketAddr,
    flag: &'static str,
    source: std::io::Error,
}

async fn readyz(extract::State(admin): extract::State<Admin>) -> impl IntoResponse {
    match (admin.ready)() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(mut why) => {
            // Writing to a string cannot fail.
            let _ = writeln!(why);
            (StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}

async fn state(extract::State(admin): extract::State<Admin>) -> impl IntoResponse {
    Json((admin.state)())
}

async fn metrics(extract::State(admin): extract::State<Admin>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => (
            StatusCode::OK,
            [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(fmt::Error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain")],
            "the metrics could not be written\n".to_owned(),
        ),
    }
}
