//! A TLS client that knows its peer by SPIFFE ID, as mesh proxies do, and not by host name.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

use crate::identity::SpiffeId;
use crate::x509::CertificateChain;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;

/// A client that shows `chain` and `key`, trusts `bundle`, and talks to nobody but `peer`. It never resumes a session,
/// so each handshake shows the peer's certificate of that moment.
///
/// # Errors
/// If key and chain are not usable for TLS.
pub fn spiffe_client(
    chain: &CertificateChain,
    key: &PrivateKey,
    bundle: TrustBundle,
    peer: SpiffeId,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(KnownById { bundle, peer, provider: provider.clone() });
    let certificates = chain.certificates().iter().map(|one| one.der().clone()).collect();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(certificates, key.to_tls())?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
struct KnownById {
    bundle: TrustBundle,
    peer: SpiffeId,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for KnownById {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = |why: String| rustls::Error::General(why);
        let now = i64::try_from(now.as_secs())
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or_else(|| refused("the clock is beyond what a certificate can say".to_owned()))?;
        let shown = CertificateChain::from_ders([leaf].into_iter().chain(intermediates).cloned())
            .and_then(|chain| chain.verify(&self.bundle, now))
            .map_err(|error| refused(error.to_string()))?;
        match shown == self.peer {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(refused(format!("the peer is `{shown}`, not `{}`", self.peer))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
