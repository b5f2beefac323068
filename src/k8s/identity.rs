//! Who is somebody to the API server, and how do they show it to others that ask it?

use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use http::HeaderValue;
use http::Request;
use http::Response;
use http::header::AUTHORIZATION;
use http_body_util::Empty;
use hyper::body::Bytes;
use kube::client::AuthError;
use kube::client::ConfigExt;
use tower::BoxError;
use tower::ServiceBuilder;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::k8s::client::ConnectError;
use crate::k8s::client::config;

/// The token of a kubeconfig's user, as kube's own client finds it: written there, in a file, or from a plugin. It is asked for
/// anew for each use, so that one which has run out is renewed.
#[derive(Clone)]
pub struct Identity(BoxCloneSyncService<Request<Empty<Bytes>>, Response<Empty<Bytes>>, BoxError>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Why there is no token to show.
#[derive(Debug, thiserror::Error)]
pub enum NoIdentity {
    /// The kubeconfig file cannot be used.
    #[error("kubeconfig `{path}` cannot be used: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is no kubeconfig.
    #[error(
        "nothing says who you are: {0}; give --kubeconfig, or a token by --token-file, which `kubectl create token NAME` makes"
    )]
    Nothing(String),
    /// The user shows no token, but something that only the API server can look at.
    #[error(
        "the kubeconfig's user has no token{0}, and only a token can be shown to the CA; make one by `kubectl create token NAME >FILE` for a service account that may rotate, and give --token-file FILE"
    )]
    NoToken(&'static str),
    /// The token cannot be had.
    #[error("the kubeconfig's user: {0}")]
    Unobtainable(String),
}

impl Identity {
    /// The user of `kubeconfig`, or of the one that is found in the environment.
    ///
    /// # Errors
    /// If there is none, or it has no token.
    pub async fn of(kubeconfig: Option<&Path>) -> Result<Self, NoIdentity> {
        let config = config(kubeconfig).await.map_err(|error| match error {
            ConnectError::Kubeconfig { path, source } => NoIdentity::Kubeconfig { path, source },
            ConnectError::NothingFound(source) => NoIdentity::Nothing(source.to_string()),
            other => NoIdentity::Nothing(other.to_string()),
        })?;
        let unobtainable = |error: kube::Error| {
            NoIdentity::Unobtainable(match &error {
                kube::Error::Auth(error) => of_plugin(error).unwrap_or_else(|| deepest(error)),
                other => deepest(other),
            })
        };
        let Some(layer) = config.auth_layer().map_err(unobtainable)? else {
            let user = &config.auth_info;
            let is_certificate = user.client_certificate.is_some()
                || user.client_certificate_data.is_some()
                || user.exec.is_some();
            return Err(NoIdentity::NoToken(if is_certificate { ", but a client certificate" } else { "" }));
        };
        // The layer puts the token on a request, which goes nowhere but comes back.
        let seen = tower::service_fn(|mut request: Request<Empty<Bytes>>| {
            let mut answer = Response::new(Empty::new());
            std::mem::swap(answer.headers_mut(), request.headers_mut());
            std::future::ready(Ok::<_, BoxError>(answer))
        });
        Ok(Self(BoxCloneSyncService::new(ServiceBuilder::new().layer(layer).service(seen))))
    }

    /// `Bearer …`, as it is now.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn bearer(&self) -> Result<HeaderValue, NoIdentity> {
        let answer = self.0.clone().oneshot(Request::new(Empty::new())).await;
        let mut answer = answer.map_err(|error| {
            let plugin = error.downcast_ref::<AuthError>().and_then(of_plugin);
            NoIdentity::Unobtainable(plugin.unwrap_or_else(|| deepest(error.as_ref())))
        })?;
        let mut shown = answer.headers_mut().remove(AUTHORIZATION).ok_or(NoIdentity::NoToken(""))?;
        if !shown.as_bytes().starts_with(b"Bearer ") {
            return Err(NoIdentity::NoToken(", but a password"));
        }
        shown.set_sensitive(true);
        Ok(shown)
    }
}

/// What a plugin that has failed said to people. What it said to us may hold a token, and kube's own words repeat it.
fn of_plugin(error: &AuthError) -> Option<String> {
    let AuthError::AuthExecRun { out, .. } = error else { return None };
    let said = String::from_utf8_lossy(&out.stderr).trim().replace('\n', " ");
    Some(match said.is_empty() {
        true => format!("its credential plugin failed ({})", out.status),
        false => format!("its credential plugin failed ({}): {said}", out.status),
    })
}

fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(deeper) = last.source() {
        last = deeper;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(name: &str, user: &str) -> Result<String, String> {
        let path = std::env::temp_dir().join(format!("burgrave-identity-{}-{name}", std::process::id()));
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'}}}}], \
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {user}}}]}}"
        );
        std::fs::write(&path, text).unwrap();
        let identity = Identity::of(Some(&path)).await;
        std::fs::remove_file(&path).unwrap();
        let shown = identity.map_err(|error| error.to_string())?.bearer().await;
        shown.map(|value| value.to_str().unwrap().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_token_is_shown_whether_it_is_written_there_in_a_file_or_made_by_a_plugin() {
        assert_eq!(shown("inline", "{token: abc}").await.unwrap(), "Bearer abc");
        let file = std::env::temp_dir().join(format!("burgrave-identity-{}-token", std::process::id()));
        std::fs::write(&file, "def").unwrap();
        let of_file = shown("file", &format!("{{tokenFile: '{}'}}", file.display())).await;
        std::fs::remove_file(&file).unwrap();
        assert_eq!(of_file.unwrap(), "Bearer def");
        let credential = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"ghi"}}"#;
        let plugin = format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: /bin/echo, args: ['{credential}'], interactiveMode: Never}}}}"
        );
        assert_eq!(shown("plugin", &plugin).await.unwrap(), "Bearer ghi");
    }

    #[tokio::test]
    async fn a_user_without_a_token_is_told_how_to_get_one() {
        let certificate =
            shown("certificate", "{client-certificate-data: YQ==, client-key-data: YQ==}").await;
        assert_eq!(
            certificate.unwrap_err(),
            "the kubeconfig's user has no token, but a client certificate, and only a token can be shown to the CA; make one by `kubectl create token NAME >FILE` for a service account that may rotate, and give --token-file FILE"
        );
        let password = shown("password", "{username: a, password: b}").await.unwrap_err();
        assert!(password.starts_with("the kubeconfig's user has no token, but a password"), "{password}");
        let plugin = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, args: ['-c', 'echo secret; echo no login >&2; exit 1'], interactiveMode: Never}}";
        let failed = shown("failing", plugin).await.unwrap_err();
        assert_eq!(failed, "the kubeconfig's user: its credential plugin failed (exit status: 1): no login");
    }
}
