//! How is an API server reached? By its address and its authority, with somebody's token.

use super::write_private;

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

/// What it takes to talk to an API server.
pub struct Access {
    pub(super) url: String,
    pub(super) ca_pem: String,
    pub(super) admin_token: String,
}

impl Access {
    /// Made for the calling runtime, so every test asks for its own.
    pub(super) fn client(&self, token: &str) -> kube::Client {
        // A second call finds a provider installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = kube::Config::new(self.url.parse().expect("our own address is a URI"));
        config.root_cert = Some(vec![der_of(&self.ca_pem)]);
        config.auth_info.token = Some(token.to_owned().into());
        config.connect_timeout = Some(Duration::from_secs(5));
        config.proxy_url = None;
        kube::Client::try_from(config).expect("a certificate authority and a token make a client")
    }

    /// A client that may do anything.
    pub(super) fn admin(&self) -> kube::Client {
        self.client(&self.admin_token)
    }

    /// Writes a kubeconfig that logs in with `token`.
    pub(super) fn write_kubeconfig(&self, path: &Path, token: &str) {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url,
                "certificate-authority-data": BASE64_STANDARD.encode(&self.ca_pem),
            }}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        });
        write_private(path, config.to_string());
    }
}

/// The last certificate of the API server's file: its leaf comes first, the authority that signed it second.
pub(super) fn ca_of(pem: &str) -> Result<String, String> {
    let complete = pem.matches("-----END CERTIFICATE-----").count() >= 2;
    let start = pem.rfind("-----BEGIN CERTIFICATE-----").filter(|_| complete);
    start
        .and_then(|start| pem.get(start..))
        .map(str::to_owned)
        .ok_or_else(|| "two certificates are not there yet".to_owned())
}

fn der_of(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64_STANDARD.decode(text).expect("a PEM block holds base64")
}
