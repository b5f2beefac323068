//! A server certificate that can be swapped while connections come in.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;

/// The certificate that new connections get. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct HotCertificate(Arc<ArcSwapOption<CertifiedKey>>);

impl HotCertificate {
    /// Gives `certificate` to every handshake that begins from now on.
    pub fn swap(&self, certificate: CertifiedKey) {
        self.0.store(Some(Arc::new(certificate)));
    }

    /// A server of TLS 1.3 and 1.2 for HTTP/2 that shows this certificate and asks for none.
    ///
    /// # Errors
    /// If rustls does not take the combination, which does not happen with ring.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.config_for(b"h2")
    }

    /// The same for HTTP/1.1.
    ///
    /// # Errors
    /// As [`HotCertificate::server_config`].
    pub fn http1_server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.config_for(b"http/1.1")
    }

    fn config_for(&self, protocol: &[u8]) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for HotCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

#[cfg(test)]
pub(super) mod test_support {
    use rustls::ClientConfig;
    use rustls::RootCertStore;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::PrivateKeyDer;

    use super::*;

    /// A certificate for `localhost` that is its own root.
    pub(crate) fn certified() -> (CertifiedKey, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let signing = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let der = made.cert.der().clone();
        (CertifiedKey::new(vec![der.clone()], signing), der)
    }

    /// A client that trusts these.
    pub(crate) fn trusting(roots: &[&CertificateDer<'static>]) -> ClientConfig {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add((*root).clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth()
    }
}
