//! Who calls: clients with all sorts of certificates, and the server they call.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::SanType;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;

/// URI names that peers have and policies ask for.
pub(crate) const URIS: [&str; 10] = [
    "spiffe://cluster.local/ns/shop/sa/web",
    "spiffe://cluster.local/ns/shop/sa/web2",
    "spiffe://cluster.local/ns/shop2/sa/web",
    "spiffe://cluster.local/ns/Shop/sa/web",
    "spiffe://cluster.local/ns/shop/sa/web/",
    "spiffe://old.domain/ns/shop/sa/web",
    "spiffe://cluster.local/ns/sa/sa/ns",
    "spiffe://cluster.local.evil/ns/shop/sa/web",
    "https://cluster.local/ns/shop/sa/web",
    "spiffe://cluster.local/ns/shop/sa/a,spiffe://cluster.local/ns/shop/sa/b",
];

/// A client's certificate, if it has one, and what it proves.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The URI names; `None` without a certificate.
    pub(crate) uris: Option<Vec<String>>,
    /// Whether it is of the CA that is trusted.
    pub(crate) is_trusted: bool,
    pub(crate) tls: Arc<ClientConfig>,
}

/// All who call, and the files that their Envoy needs.
pub(crate) struct Identities {
    /// Of the CA that is trusted; the first has no certificate.
    pub(crate) trusted: Vec<Identity>,
    /// Of a CA that nobody knows, with a name that policies ask for.
    pub(crate) stranger: Identity,
    pub(crate) root: String,
    pub(crate) server: String,
    pub(crate) server_key: String,
}

impl Identities {
    pub(crate) fn make() -> Self {
        let (root, issuer) = authority("those who call");
        let (_, other) = authority("somebody else");
        let uri = |uri: &str| SanType::URI(uri.try_into().expect("a URI is ASCII"));
        let dns = |name: &str| SanType::DnsName(name.try_into().expect("a name is ASCII"));
        let mut names: Vec<Vec<SanType>> = URIS.iter().map(|one| vec![uri(one)]).collect();
        names.push(vec![uri(URIS[0]), uri(URIS[5])]);
        names.push(vec![uri(URIS[6]), uri(URIS[1]), dns("web.shop")]);
        names.push(vec![dns("web.shop"), dns("spiffe.cluster.local")]);
        names.push(vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))]);
        names.push(vec![]);
        let mut trusted = vec![Identity { uris: None, is_trusted: true, tls: client(None) }];
        trusted.extend(names.into_iter().map(|names| identity(names, &issuer, true)));
        let (server, server_key) = leaf(vec![dns("a.test")], &issuer);
        Self {
            trusted,
            stranger: identity(vec![uri(URIS[0])], &other, false),
            root,
            server: server.pem(),
            server_key: server_key.serialize_pem(),
        }
    }
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let params = crate::crafted::ca_params(name);
    let key = KeyPair::generate().expect("the kernel gives random bytes");
    let certificate = params.self_signed(&key).expect("the parameters make a certificate");
    (certificate.pem(), Issuer::new(params, key))
}

fn leaf(names: Vec<SanType>, issuer: &Issuer<'_, KeyPair>) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::default();
    // A subject that reads like a name: what asks for URI names must not find it.
    params.distinguished_name.push(DnType::CommonName, URIS[0]);
    params.subject_alt_names = names;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("the kernel gives random bytes");
    let certificate = params.signed_by(&key, issuer).expect("the parameters make a certificate");
    (certificate, key)
}

fn identity(names: Vec<SanType>, issuer: &Issuer<'_, KeyPair>, is_trusted: bool) -> Identity {
    let uris = names.iter().filter_map(|name| match name {
        SanType::URI(uri) => Some(uri.to_string()),
        _ => None,
    });
    let uris = Some(uris.collect());
    let (certificate, key) = leaf(names, issuer);
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen writes PKCS#8");
    Identity { uris, is_trusted, tls: client(Some((certificate.der().clone(), key))) }
}

fn client(certificate: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whoever));
    let mut config = match certificate {
        Some((certificate, key)) => {
            builder.with_client_auth_cert(vec![certificate], key).expect("the key fits the certificate")
        }
        None => builder.with_no_client_auth(),
    };
    // Each connection shows its certificate itself.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Who the server is does not matter here.
#[derive(Debug)]
struct Whoever;

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
