//! Accepts TCP connections, shakes hands beside the accept loop, and hands the good ones on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many may be under way at once.
const HANDSHAKES: usize = 512;
/// File descriptors that are kept for everything but connections: the API server, admin pages, the store.
const KEPT: usize = 128;
/// The pause after the kernel could not accept, for want of file descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection that has shaken hands, and its place among those that may be open.
#[derive(Debug)]
pub struct Accepted {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

/// Connections of `listener` that have shaken hands. The listener is closed when the stream is dropped.
pub fn incoming(listener: TcpListener, config: Arc<ServerConfig>) -> ReceiverStream<io::Result<Accepted>> {
    let (ready, stream) = mpsc::channel(64);
    tokio::spawn(accept(listener, TlsAcceptor::from(config), ready));
    ReceiverStream::new(stream)
}

/// How many files this process may have open, and so how many connections; more wait in the kernel's queue.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(1024).min(Semaphore::MAX_PERMITS)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<io::Result<Accepted>>) {
    let places = Arc::new(Semaphore::new(open_files().saturating_sub(KEPT).max(KEPT)));
    let mut handshakes = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = ready.closed() => return,
            Some(_) = handshakes.join_next() => continue,
            place = places.clone().acquire_owned(), if handshakes.len() < HANDSHAKES => place,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let connection = match accepted {
            Ok((connection, _)) => connection,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // With Nagle's algorithm each small answer would wait some 40 ms for the peer's acknowledgement.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let handshake = acceptor.accept(connection);
        let ready = ready.clone();
        handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE, handshake).await {
                // A server that is gone does not want the connection any more.
                Ok(Ok(stream)) => drop(ready.send(Ok(Accepted { stream, _place: place })).await),
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        });
    }
}

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
