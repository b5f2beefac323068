//! A client for the API server, from a kubeconfig file or from inside a pod.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use kube::Config;
use kube::config::KubeConfigOptions;
use kube::config::Kubeconfig;

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
    /// The client could not be made of what was found.
    #[error("no Kubernetes client can be made: {0}")]
    Client(#[from] Box<kube::Error>),
}

/// Makes a client; nothing is asked of the API server yet.
///
/// # Errors
/// If no API server is known, or the kubeconfig or its certificates cannot be read.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        None => Config::infer().await.map_err(Box::new)?,
        Some(path) => {
            let unusable =
                |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unusable)?
        }
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(30));
    Ok(Client::try_from(config).map_err(Box::new)?)
}
