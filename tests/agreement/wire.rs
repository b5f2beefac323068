//! Requests byte by byte, so that nothing in between puts them right.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// A stream of bytes, in the clear or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// Whom to call, from where, and how.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) source: IpAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The name that is asked for, with TLS.
    pub(crate) sni: Option<String>,
    /// The protocols that are asked for, with TLS.
    pub(crate) alpn: Option<String>,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Answer {
    /// A header's value; Envoy writes `-` for what is not there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        found.filter(|value| !value.is_empty() && *value != "-")
    }
}

impl Wire {
    pub(crate) async fn open(way: &Way) -> std::io::Result<Self> {
        let socket = match way.source {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(way.source, 0))?;
        let stream = socket.connect(way.destination).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &way.tls {
            None => Box::new(stream),
            Some(tls) => {
                let mut tls = ClientConfig::clone(tls);
                tls.alpn_protocols = way.alpn.iter().map(|name| name.clone().into_bytes()).collect();
                tls.enable_sni = way.sni.is_some();
                let name = way.sni.as_deref().unwrap_or("nobody.test").to_owned();
                let name = ServerName::try_from(name).expect("the stories ask for good names");
                Box::new(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?)
            }
        };
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends a request and reads the answer, which has no body if it is to `HEAD`.
    pub(crate) async fn ask(&mut self, request: &[u8], is_head: bool) -> std::io::Result<Answer> {
        self.send(request).await?;
        self.answer(is_head).await
    }

    /// Whether something comes back, as from an echo, before the connection ends. It is a whole line, for Envoy waits for some bytes
    /// to see that they are no TLS.
    pub(crate) async fn echoes(&mut self) -> bool {
        let mut back = [0];
        let sent = self.send(b"does it come back?\n").await;
        sent.is_ok() && matches!(self.stream.read(&mut back).await, Ok(1))
    }

    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn answer(&mut self, is_head: bool) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers: Vec<_> =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
        let body = if is_head { 0 } else { length };
        while self.read.len() < end + body {
            self.more().await?;
        }
        self.read.drain(..end + body);
        Ok(Answer { status: status.unwrap_or(0), headers })
    }

    async fn more(&mut self) -> std::io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
