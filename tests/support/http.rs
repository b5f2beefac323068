//! One plain HTTP request, and the body of its answer.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::ToSocketAddrs;
use tokio::time::timeout;

/// The body of an answer of status 200 to `GET path`; anything else, ten seconds of silence too, is an error.
pub async fn get(address: impl ToSocketAddrs, path: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(Duration::from_secs(10), exchange)
        .await
        .map_err(|_| "no answer within ten seconds".to_owned())?;
    body(&answer.map_err(|error| error.to_string())?)
}

/// The body of an HTTP/1.1 answer, if its status is 200.
fn body(answer: &[u8]) -> Result<String, String> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut short")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(format!("{status}: {}", body.trim()));
    }
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        joined(body)
    } else {
        Ok(body.to_owned())
    }
}

/// The chunks of a chunked body, put together.
fn joined(mut chunks: &str) -> Result<String, String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").ok_or("the answer was cut short")?;
        let size =
            usize::from_str_radix(size, 16).map_err(|_| format!("`{size}` is not the size of a chunk"))?;
        if size == 0 {
            return Ok(body);
        }
        body += rest.get(..size).ok_or("the answer was cut short")?;
        chunks = rest.get(size + 2..).ok_or("the answer was cut short")?;
    }
}
