//! A root and intermediate that an operator brings, as files with Istio's `cacerts` names.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::signer::FileSigner;
use crate::signer::Issuer;
use crate::signer::IssuerError;
use crate::x509::Certificate;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::bundle::InvalidBundle;
use crate::x509::certificate::InvalidCertificate;
use crate::x509::key::InvalidKey;
use crate::x509::pem;
use crate::x509::pem::InvalidPem;

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOTS: &str = "root-cert.pem";
const CHAIN: &str = "cert-chain.pem";

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluggedError {
    /// A file cannot be read.
    #[error("`{path}`: {source}; a plugged-in CA needs {CERTIFICATE}, {KEY}, {ROOTS} and {CHAIN}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is not PEM.
    #[error("`{path}`: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidPem,
    },
    /// A certificate in it cannot be read.
    #[error("`{path}`: {source}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidCertificate,
    },
    /// It is not a usable private key.
    #[error("`{path}`: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidKey,
    },
    /// The roots are no bundle.
    #[error("`{path}`: {source}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidBundle,
    },
    /// The signing certificate is another trust domain's.
    #[error(
        "`{path}` carries the SPIFFE ID `{found}`, and the trust domain's is `{expected}`; set --trust-domain to the one it was made for"
    )]
    TrustDomain {
        /// The file.
        path: PathBuf,
        /// What it carries.
        found: String,
        /// What it should carry, if any.
        expected: String,
    },
    /// The chain does not begin with the signing certificate, and is not above it either.
    #[error("`{0}/{CHAIN}` does not lead from `{CERTIFICATE}` to `{ROOTS}`: {1}")]
    Chain(PathBuf, IssuerError),
    /// The parts do not belong together.
    #[error("the CA files in `{0}` do not belong together: {1}")]
    Issuer(PathBuf, IssuerError),
}

/// Reads `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and `cert-chain.pem` from `directory`.
///
/// The chain may begin with the signing certificate or with the one above it, and may end with the root, as the
/// tools in use write it in all these ways.
///
/// # Errors
/// If a file is missing or unreadable, or key, certificates and roots do not belong together; each with a sentence.
pub fn load_plugged(
    directory: &Path,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Issuer, PluggedError> {
    let certificate = read_certificates(&directory.join(CERTIFICATE))?;
    if let Some(first) = certificate.first() {
        check_trust_domain(first, trust_domain, &directory.join(CERTIFICATE))?;
    }
    let key = read_key(&directory.join(KEY))?;
    let roots_path = directory.join(ROOTS);
    let bundle = TrustBundle::new(read_certificates(&roots_path)?)
        .map_err(|source| PluggedError::Roots { path: roots_path, source })?;
    let mut chain = certificate;
    for one in read_certificates(&directory.join(CHAIN))? {
        if !chain.contains(&one) {
            chain.push(one);
        }
    }
    let signer =
        FileSigner::new(&key).map_err(|source| PluggedError::Key { path: directory.join(KEY), source })?;
    Issuer::new(Arc::new(signer), chain, bundle, now).map_err(|error| match error {
        IssuerError::BrokenLink { .. } | IssuerError::NoRoot { .. } => {
            PluggedError::Chain(directory.to_owned(), error)
        }
        other => PluggedError::Issuer(directory.to_owned(), other),
    })
}

/// A signing certificate that carries a SPIFFE ID carries that of its trust domain.
fn check_trust_domain(one: &Certificate, wanted: &TrustDomain, path: &Path) -> Result<(), PluggedError> {
    let expected = SpiffeId::of_trust_domain(wanted).to_string();
    match foreign_id(one, wanted) {
        None => Ok(()),
        Some(other) => {
            Err(PluggedError::TrustDomain { path: path.to_owned(), found: other.to_owned(), expected })
        }
    }
}

/// A SPIFFE ID in a signing certificate that is not its trust domain's own, if there is one.
pub(super) fn foreign_id<'a>(one: &'a Certificate, wanted: &TrustDomain) -> Option<&'a str> {
    let expected = SpiffeId::of_trust_domain(wanted).to_string();
    let mut ids = one.facts().uris.iter().filter(|uri| uri.to_ascii_lowercase().starts_with("spiffe:"));
    ids.find(|uri| **uri != expected).map(String::as_str)
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, PluggedError> {
    let text = read(path)?;
    let ders =
        pem::certificates(&text).map_err(|source| PluggedError::Pem { path: path.to_owned(), source })?;
    ders.into_iter()
        .map(Certificate::from_der)
        .collect::<Result<_, _>>()
        .map_err(|source| PluggedError::Certificate { path: path.to_owned(), source })
}

fn read_key(path: &Path) -> Result<PrivateKey, PluggedError> {
    let text = read(path)?;
    PrivateKey::from_pem(&text).map_err(|source| PluggedError::Key { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PluggedError> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| PluggedError::Io { path: path.to_owned(), source })
}
