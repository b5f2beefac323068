//! Pure: does this leaf lead to a root that we trust?

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use webpki::EndEntityCert;
use webpki::ExtendedKeyUsageValidator;
use webpki::KeyPurposeId;
use webpki::KeyPurposeIdIter;

use crate::identity::SpiffeId;
use crate::x509::bundle::TrustBundle;
use crate::x509::certificate::Certificate;
use crate::x509::certificate::InvalidCertificate;
use crate::x509::pem;
use crate::x509::tbs::oid;

/// A leaf and the intermediates above it, leaf first, root left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateChain(Vec<Certificate>);

/// Why certificates are not a usable chain.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChain {
    /// There is no certificate at all.
    #[error("the chain is empty")]
    Empty,
    /// It is not PEM.
    #[error("the chain is not PEM: {0}")]
    Pem(#[from] pem::InvalidPem),
    /// One of the certificates cannot be read.
    #[error("certificate {position} of the chain: {source}")]
    Certificate {
        /// Which one, counted from 1.
        position: usize,
        /// What is wrong.
        source: InvalidCertificate,
    },
    /// The first certificate is a CA's: the chain is the wrong way round, or has no leaf.
    #[error("the chain does not begin with a leaf: its first certificate (`{0}`) is a CA's")]
    LeafNotFirst(String),
    /// The leaf has no single SPIFFE ID with a path.
    #[error("the leaf does not carry exactly one SPIFFE ID with a path: {0}")]
    Identity(String),
    /// The path to a root does not hold.
    #[error("the chain does not lead to a trusted root: {0}")]
    Path(String),
}

/// The purposes a SPIFFE leaf must serve when it lists any: both ends of TLS.
struct BothEndsOfTls;

impl ExtendedKeyUsageValidator for BothEndsOfTls {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let (mut listed, mut server, mut client) = (false, false, false);
        for purpose in purposes {
            let purpose = purpose?;
            listed = true;
            server |= purpose == KeyPurposeId::new(oid::SERVER_AUTH);
            client |= purpose == KeyPurposeId::new(oid::CLIENT_AUTH);
        }
        match !listed || (server && client) {
            true => Ok(()),
            false => Err(webpki::Error::UnsupportedCriticalExtension),
        }
    }
}

impl CertificateChain {
    /// Makes a chain of certificates, leaf first.
    ///
    /// # Errors
    /// If there is none, or the first is a CA's.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, InvalidChain> {
        match certificates.first() {
            None => Err(InvalidChain::Empty),
            Some(leaf) if leaf.facts().is_ca => {
                Err(InvalidChain::LeafNotFirst(leaf.facts().subject_text.clone()))
            }
            Some(_) => Ok(Self(certificates)),
        }
    }

    /// Reads a chain from PEM.
    ///
    /// # Errors
    /// If it is not PEM, a certificate in it cannot be read, or as [`CertificateChain::new`].
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidChain> {
        Self::from_ders(pem::certificates(text)?)
    }

    /// Reads a chain from DER certificates, leaf first.
    ///
    /// # Errors
    /// If one of them cannot be read, or as [`CertificateChain::new`].
    pub fn from_ders<'a>(ders: impl IntoIterator<Item = CertificateDer<'a>>) -> Result<Self, InvalidChain> {
        let parsed = ders.into_iter().enumerate().map(|(at, der)| {
            Certificate::from_der(der)
                .map_err(|source| InvalidChain::Certificate { position: at + 1, source })
        });
        Self::new(parsed.collect::<Result<_, _>>()?)
    }

    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        self.0.first().expect("a chain is never empty")
    }

    /// Leaf and intermediates, in order.
    pub fn certificates(&self) -> &[Certificate] {
        &self.0
    }

    /// The chain as PEM, leaf first.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(|one| pem::certificate(one.der())).collect()
    }

    /// The one SPIFFE ID of the leaf.
    ///
    /// # Errors
    /// If it has none, several, or one without a path.
    pub fn spiffe_id(&self) -> Result<SpiffeId, InvalidChain> {
        match self.leaf().facts().uris.as_slice() {
            [uri] => match uri.parse::<SpiffeId>() {
                Ok(id) if id.is_workload() => Ok(id),
                Ok(id) => Err(InvalidChain::Identity(format!("`{id}` has no path"))),
                Err(error) => Err(InvalidChain::Identity(error.to_string())),
            },
            uris => Err(InvalidChain::Identity(format!("it has {} URI names", uris.len()))),
        }
    }

    /// Checks the path from the leaf to a root of `bundle` at `now`, as a SPIFFE peer would
    /// (X509-SVID section 5), and returns the leaf's identity.
    ///
    /// # Errors
    /// If the path does not hold or the leaf is not an X509-SVID.
    pub fn verify(&self, bundle: &TrustBundle, now: OffsetDateTime) -> Result<SpiffeId, InvalidChain> {
        let path = |error: webpki::Error| InvalidChain::Path(error.to_string());
        let anchors = bundle
            .roots()
            .iter()
            .map(|root| webpki::anchor_from_trusted_cert(root.der()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(path)?;
        let intermediates: Vec<_> = self.0.iter().skip(1).map(|one| one.der().clone()).collect();
        let since_1970 = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        EndEntityCert::try_from(self.leaf().der())
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    webpki::ALL_VERIFICATION_ALGS,
                    &anchors,
                    &intermediates,
                    UnixTime::since_unix_epoch(Duration::from_secs(since_1970)),
                    BothEndsOfTls,
                    None,
                    None,
                )
                .map(|_| ())
            })
            .map_err(path)?;
        if self.leaf().facts().key_usage.is_some_and(|usage| usage.key_cert_sign || usage.crl_sign) {
            return Err(InvalidChain::Path(
                "the leaf's key usage allows signing certificates or revocation lists".to_owned(),
            ));
        }
        self.spiffe_id()
    }
}
