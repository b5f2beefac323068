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

/// How long a handshake may take, and the client's first word after it.
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
    incoming_up_to(open_files().saturating_sub(KEPT).max(KEPT), listener, config)
}

/// The same for a listener beside the main one, with at most `most` connections open at a time.
pub fn incoming_up_to(
    most: usize,
    listener: TcpListener,
    config: Arc<ServerConfig>,
) -> ReceiverStream<io::Result<Accepted>> {
    let (ready, stream) = mpsc::channel(64);
    tokio::spawn(accept(listener, TlsAcceptor::from(config), ready, most));
    ReceiverStream::new(stream)
}

/// How many files this process may have open, and so how many connections; more wait in the kernel's queue.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(1024).min(Semaphore::MAX_PERMITS)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<io::Result<Accepted>>,
    most: usize,
) {
    let places = Arc::new(Semaphore::new(most));
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
        let handshake = greeted(acceptor.accept(connection));
        let ready = ready.clone();
        handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE, handshake).await {
                // A server that is gone does not want the connection any more.
                Ok(Ok(stream)) => drop(ready.send(Ok(Accepted { stream, _place: place })).await),
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake, or the first word after it, took too long"),
            }
        });
    }
}

/// Waits for the handshake and for the client to begin: HTTP/2 clients speak first, and whoever never does would hold a
/// place for as long as a connection may live.
async fn greeted(
    handshake: impl Future<Output = io::Result<TlsStream<TcpStream>>>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = handshake.await?;
    let (connection, session) = stream.get_ref();
    // If it has read something already, it wants no more for now.
    if session.wants_read() {
        connection.readable().await?;
    }
    Ok(stream)
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rustls_pki_types::ServerName;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio_rustls::TlsConnector;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::tls::HotCertificate;
    use crate::tls::hot::test_support::certified;
    use crate::tls::hot::test_support::trusting;

    #[tokio::test]
    async fn a_new_certificate_is_shown_to_the_next_connection_and_open_ones_go_on() {
        let hot = HotCertificate::default();
        let ((first, first_der), (second, second_der)) = (certified(), certified());
        hot.swap(first);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = incoming(listener, hot.server_config().unwrap());
        let connector = TlsConnector::from(Arc::new(trusting(&[&first_der, &second_der])));
        let connect = async || {
            let tcp = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, tcp).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            stream
        };
        let mut old = connect().await;
        let mut served = connections.next().await.unwrap().unwrap();
        assert_eq!(old.get_ref().1.peer_certificates().unwrap()[0], first_der);
        hot.swap(second);
        let new = connect().await;
        assert_eq!(new.get_ref().1.peer_certificates().unwrap()[0], second_der);
        let mut word = [0; 1];
        served.read_exact(&mut word).await.unwrap();
        served.write_all(b"y").await.unwrap();
        served.flush().await.unwrap();
        old.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"y");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_after_the_handshake_is_let_go() {
        let hot = HotCertificate::default();
        let (certificate, der) = certified();
        hot.swap(certificate);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = incoming(listener, hot.server_config().unwrap());
        let connector = TlsConnector::from(Arc::new(trusting(&[&der])));
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut silent = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        let mut word = [0; 1];
        let ended = silent.read(&mut word).await;
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
        assert!(tokio::time::timeout(Duration::from_secs(1), connections.next()).await.is_err());
    }
}
