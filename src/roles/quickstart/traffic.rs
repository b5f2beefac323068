//! Requests all the time, with new connections all the time, counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How many clients there are.
const CLIENTS: usize = 4;
/// How many requests each sends on one connection.
const PER_CONNECTION: usize = 5;
/// How long one request may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// A breath between two requests, so that the machine is busy and not choked.
const BREATH: Duration = Duration::from_millis(1);

/// What the clients have seen.
#[derive(Debug, Default)]
pub(super) struct Counted {
    requests: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

/// Clients at work, until they are stopped.
#[derive(Debug)]
pub(super) struct Traffic {
    counted: Arc<Counted>,
    clients: JoinSet<()>,
    stop: CancellationToken,
}

impl Traffic {
    /// Sends requests to `target`, each of which must be answered with 200 and by naming `caller`.
    pub(super) fn start(target: SocketAddr, caller: &str) -> Self {
        let (counted, stop) = (Arc::new(Counted::default()), CancellationToken::new());
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (counted, stop, caller) = (counted.clone(), stop.clone(), caller.to_owned());
            clients.spawn(async move {
                while !stop.is_cancelled() {
                    one_connection(target, &caller, &counted).await;
                }
            });
        }
        Self { counted, clients, stop }
    }

    /// Requests until now.
    pub(super) fn requests(&self) -> u64 {
        self.counted.requests.load(Ordering::Relaxed)
    }

    /// Ends the traffic: requests, failures, and what the first failure was.
    pub(super) async fn finish(mut self) -> (u64, u64, Option<String>) {
        self.stop.cancel();
        while self.clients.join_next().await.is_some() {}
        let first = self.counted.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        (self.requests(), self.counted.failed.load(Ordering::Relaxed), first)
    }
}

async fn one_connection(target: SocketAddr, caller: &str, counted: &Counted) {
    let count = |outcome: Result<(), String>| {
        counted.requests.fetch_add(1, Ordering::Relaxed);
        if let Err(what) = outcome {
            counted.failed.fetch_add(1, Ordering::Relaxed);
            counted.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        }
    };
    let mut connection = match connect(target).await {
        Ok(connection) => connection,
        Err(error) => return count(Err(error)),
    };
    for _ in 0..PER_CONNECTION {
        let outcome = tokio::time::timeout(PATIENCE, expect_hello(&mut connection, caller))
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let failed = outcome.is_err();
        count(outcome);
        if failed {
            return;
        }
        tokio::time::sleep(BREATH).await;
    }
}

async fn expect_hello(connection: &mut SendRequest<Empty<Bytes>>, caller: &str) -> Result<(), String> {
    let answer = get(connection, "/").await?;
    let named = answer.headers().get("x-caller").and_then(|value| value.to_str().ok()).unwrap_or("");
    let (status, named) = (answer.status(), named.to_owned());
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    match status.is_success() && named == caller {
        true => Ok(()),
        false => Err(format!("{status}, caller `{named}`: {}", String::from_utf8_lossy(&body))),
    }
}

async fn connect(target: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = TcpStream::connect(target).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with its sender; what went wrong shows in the request.
    tokio::spawn(connection);
    Ok(sender)
}

async fn get(
    connection: &mut SendRequest<Empty<Bytes>>,
    path: &str,
) -> Result<hyper::Response<hyper::body::Incoming>, String> {
    let request = hyper::Request::get(path)
        .header("host", "quickstart")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    connection.ready().await.map_err(|error| error.to_string())?;
    connection.send_request(request).await.map_err(|error| error.to_string())
}

/// The status of an answer over plain HTTP, if there is one.
pub(super) async fn status(address: SocketAddr, path: &str) -> Option<u16> {
    let asked = async {
        let mut connection = connect(address).await.ok()?;
        Some(get(&mut connection, path).await.ok()?.status().as_u16())
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}

/// A page over plain HTTP, if there is one.
pub(super) async fn page(address: SocketAddr, path: &str) -> Option<String> {
    let fetched = async {
        let mut connection = connect(address).await.ok()?;
        let answer = get(&mut connection, path).await.ok()?;
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        String::from_utf8(body.to_vec()).ok()
    };
    tokio::time::timeout(PATIENCE, fetched).await.ok()?
}
