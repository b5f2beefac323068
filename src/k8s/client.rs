//! A client for the API server, from a kubeconfig file or from inside a pod.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use hyper_rustls::FixedServerNameResolver;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioTimer;
use kube::Client;
use kube::Config;
use kube::client::ConfigExt;
use kube::config::KubeConfigOptions;
use kube::config::Kubeconfig;
use rustls_pki_types::ServerName;
use tower::BoxError;
use tower::ServiceBuilder;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the other end is asked whether it is there while requests are under way, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig file named by the operator cannot be used.
    #[error("kubeconfig `{path}` cannot be used: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Neither a kubeconfig nor a pod's service account was found.
    #[error(
        "no Kubernetes API server is known: {0}; run in a pod, set --kubeconfig, or verify tokens by --token-jwks"
    )]
    NothingFound(#[from] Box<kube::config::InferConfigError>),
    /// A proxy is asked for.
    #[error("the kubeconfig asks for the proxy `{0}`, which is not supported; reach the API server directly")]
    Proxy(String),
    /// The client could not be made of what was found.
    #[error("no Kubernetes client can be made: {0}")]
    Client(#[from] Box<kube::Error>),
}

/// Makes a client; nothing is asked of the API server yet.
///
/// # Errors
/// If no API server is known, or the kubeconfig or its certificates cannot be read.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let mut config = config(kubeconfig).await?;
    if let Some(proxy) = &config.proxy_url {
        return Err(ConnectError::Proxy(proxy.to_string()));
    }
    config.connect_timeout = Some(CONNECT);
    Ok(over_http2(&config).map_err(Box::new)?)
}

/// What the named kubeconfig says, or the one that is found in the environment.
pub(super) async fn config(kubeconfig: Option<&Path>) -> Result<Config, ConnectError> {
    let Some(path) = kubeconfig else { return Ok(Config::infer().await.map_err(Box::new)?) };
    let unusable = |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let file = Kubeconfig::read_from(path).map_err(unusable)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unusable)
}

/// A client that sends all requests over one HTTP/2 connection where the API server speaks it, and notices within
/// seconds when the other end has gone silent. The one that `kube` makes by itself speaks HTTP/1.1, on a connection for
/// each request that is under way.
fn over_http2(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    let tls = match config.tls_server_name.clone().map(ServerName::try_from) {
        None => tls,
        Some(Ok(name)) => tls.with_server_name_resolver(FixedServerNameResolver::new(name)),
        Some(Err(error)) => return Err(kube::Error::Service(Box::new(error))),
    };
    let connector = tls.enable_http1().enable_http2().wrap_connector(tcp);
    let client = hyper_util::client::legacy::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}
