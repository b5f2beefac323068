//! Gets the keys that an issuer publishes.
//!
//! Redirects are not followed: the policy says where the keys are, and nobody else. Nothing of an answer is shown in an error, as
//! whoever may write a policy must not read with our eyes what they cannot reach themselves.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::Request;
use hyper::StatusCode;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::header::ACCEPT;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioTimer;
use rustls::ClientConfig;
use rustls::RootCertStore;
use serde::Deserialize;

use crate::authz::tokens::issuer::CONFIGURATION;
use crate::authz::tokens::key_set::KeySet;
use crate::authz::tokens::key_set::MAX_BYTES;
use crate::authz::tokens::key_set::UnusableKeySet;
use crate::x509::pem;

/// How long a connection, and the whole of it, may take.
const CONNECT: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(10);

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URI is none that can be fetched.
    #[error("it is not an http or https URI; correct `jwksUri`")]
    Uri,
    /// There is no way there.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no answer within {} s", WHOLE.as_secs())]
    Slow,
    /// It answers something else.
    #[error(
        "the answer is {0} and not 200; redirects are not followed, so `jwksUri` must be where the keys are"
    )]
    Status(StatusCode),
    /// The answer breaks off, or is too large.
    #[error("the answer cannot be read, or has more than {MAX_BYTES} bytes")]
    Body,
    /// It is not the issuer's configuration.
    #[error("the answer is not the OpenID configuration of that issuer with a `jwks_uri`; set `jwksUri`")]
    Configuration,
    /// The answer is no key set.
    #[error(transparent)]
    Keys(#[from] UnusableKeySet),
}

/// Why there are no roots to trust issuers by.
#[derive(Debug, thiserror::Error)]
pub enum UnusableRoots {
    /// The file cannot be read.
    #[error("file of token issuers' roots `{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// There are no roots in the file.
    #[error("file of token issuers' roots `{0}` holds no certificate that can be a root; it must be PEM")]
    Empty(PathBuf),
    /// TLS cannot be set up.
    #[error("TLS towards token issuers cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What an issuer tells of itself.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

/// Fetches key sets. Clones share connections.
#[derive(Clone, Debug)]
pub struct Fetcher(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Fetcher {
    /// Trusts the roots of the machine, or those in a PEM file and no others.
    ///
    /// # Errors
    /// If the file has none. A machine without roots is no error: issuers can then be reached by http only.
    pub fn new(root_file: Option<&Path>) -> Result<Self, UnusableRoots> {
        let roots = match root_file {
            Some(path) => of_file(path)?,
            None => of_machine(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        // Issuers are asked seldom, and a connection that is kept may be to an address that they have left.
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self(client))
    }

    /// Fetches the key set at `uri`, or the one that is named there, if it is where an issuer tells its OpenID configuration.
    ///
    /// # Errors
    /// If there is none to be had.
    pub async fn fetch(&self, uri: &str) -> Result<KeySet, FetchError> {
        tokio::time::timeout(WHOLE, self.keys(uri)).await.map_err(|_| FetchError::Slow)?
    }

    async fn keys(&self, uri: &str) -> Result<KeySet, FetchError> {
        let mut text = self.get(uri).await?;
        if let Some(issuer) = uri.strip_suffix(CONFIGURATION) {
            let told: Configuration = serde_json::from_str(&text).map_err(|_| FetchError::Configuration)?;
            // OpenID Connect Discovery 1.0, section 4.3: it must be the configuration of this issuer.
            if told.issuer.trim_end_matches('/') != issuer {
                return Err(FetchError::Configuration);
            }
            // Who is believed over TLS cannot send us to where anybody could answer.
            if issuer.starts_with("https://") && !told.jwks_uri.starts_with("https://") {
                return Err(FetchError::Configuration);
            }
            text = self.get(&told.jwks_uri).await?;
        }
        Ok(KeySet::parse(&text)?)
    }

    async fn get(&self, uri: &str) -> Result<String, FetchError> {
        let uri: Uri = uri.parse().map_err(|_| FetchError::Uri)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(FetchError::Uri);
        }
        let request = Request::get(uri).header(ACCEPT, "application/json, application/jwk-set+json");
        let request = request.body(Empty::new()).map_err(|_| FetchError::Uri)?;
        let unreachable = |error| FetchError::Unreachable(last_cause(&error));
        let answer = self.0.request(request).await.map_err(unreachable)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body =
            Limited::new(answer.into_body(), MAX_BYTES).collect().await.map_err(|_| FetchError::Body)?;
        String::from_utf8(body.to_bytes().to_vec()).map_err(|_| FetchError::Body)
    }
}

fn last_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(deeper) = last.source() {
        last = deeper;
    }
    last.to_string()
}

fn of_file(path: &Path) -> Result<RootCertStore, UnusableRoots> {
    let text = std::fs::read(path).map_err(|source| UnusableRoots::File { path: path.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(pem::certificates(&text).unwrap_or_default());
    match added {
        0 => Err(UnusableRoots::Empty(path.to_owned())),
        _ => Ok(roots),
    }
}

fn of_machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(
            "this machine has no roots of the web's CAs, so token issuers cannot be reached by https"
        );
    }
    roots
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::authz::tokens::test_support::Signer;

    /// Answers once with these bytes.
    async fn answer(bytes: Vec<u8>) -> Result<KeySet, FetchError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let uri = format!("http://{}/keys", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let _ = stream.write_all(&bytes).await;
        });
        let fetched = Fetcher::new(None).unwrap().fetch(&uri).await;
        served.await.unwrap();
        fetched
    }

    fn of(head: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn only_a_plain_answer_with_keys_is_taken() {
        let jwks = Signer::new("k").jwks();
        assert!(answer(of("200 OK", &jwks)).await.is_ok());
        for (said, bytes) in [
            ("302", of("302 Found\r\nLocation: http://127.0.0.1:1/secret", "")),
            ("500", of("500 No", &jwks)),
            ("no usable key", of("200 OK", r#"{"keys": []}"#)),
            ("cannot be read", of("200 OK", &" ".repeat(MAX_BYTES + 1))),
            ("cannot be read", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{".to_vec()),
        ] {
            let error = answer(bytes).await.unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[tokio::test]
    async fn a_uri_that_is_none_is_not_tried() {
        for uri in ["", "/keys", "file:///etc/passwd", "ftp://a/b", "http://", "nonsense"] {
            let error = Fetcher::new(None).unwrap().fetch(uri).await.unwrap_err();
            assert!(matches!(error, FetchError::Uri | FetchError::Unreachable(_)), "{uri}: {error}");
        }
    }

    #[test]
    fn a_file_of_roots_without_roots_is_refused() {
        let path = std::env::temp_dir().join(format!("burgrave-no-roots-{}", std::process::id()));
        std::fs::write(&path, "nothing").unwrap();
        assert!(matches!(Fetcher::new(Some(&path)), Err(UnusableRoots::Empty(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Fetcher::new(Some(&path)), Err(UnusableRoots::File { .. })));
    }
}
