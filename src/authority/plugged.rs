//! A root and intermediate that an operator brings, as files with Istio's `cacerts` names.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::authority::record::Parts;
use crate::authority::record::foreign_id;
use crate::authority::record::part::CERTIFICATE;
use crate::authority::record::part::CHAIN;
use crate::authority::record::part::KEY;
use crate::authority::record::part::ROOTS;
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

/// A plugged-in CA, read and found to belong together.
#[derive(Debug)]
pub struct Plugged {
    /// Its certificates, signing certificate first.
    pub chain: Vec<Certificate>,
    /// Its key.
    pub key: PrivateKey,
    /// It, ready to sign.
    pub issuer: Issuer,
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
    let mut files = Parts::new();
    for name in [CERTIFICATE, KEY, ROOTS, CHAIN] {
        files.insert(name.to_owned(), read(&directory.join(name))?);
    }
    Ok(plugged(&files, directory, trust_domain, now)?.issuer)
}

/// Reads the same files from memory; `directory` is where they come from, for the errors.
///
/// # Errors
/// As [`load_plugged`].
pub fn plugged(
    files: &Parts,
    directory: &Path,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Plugged, PluggedError> {
    let file = |name: &str| {
        let missing =
            || PluggedError::Io { path: directory.join(name), source: io::ErrorKind::NotFound.into() };
        files.get(name).ok_or_else(missing)
    };
    let certificate = certificates(file(CERTIFICATE)?, &directory.join(CERTIFICATE))?;
    if let Some(first) = certificate.first() {
        check_trust_domain(first, trust_domain, &directory.join(CERTIFICATE))?;
    }
    let no_key = |source| PluggedError::Key { path: directory.join(KEY), source };
    let key = PrivateKey::from_pem(file(KEY)?).map_err(no_key)?;
    let roots_path = directory.join(ROOTS);
    let bundle = TrustBundle::new(certificates(file(ROOTS)?, &roots_path)?)
        .map_err(|source| PluggedError::Roots { path: roots_path, source })?;
    let mut chain = certificate;
    for one in certificates(file(CHAIN)?, &directory.join(CHAIN))? {
        if !chain.contains(&one) {
            chain.push(one);
        }
    }
    let signer = FileSigner::new(&key).map_err(no_key)?;
    let issuer = Issuer::new(Arc::new(signer), chain, bundle, now).map_err(|error| match error {
        IssuerError::BrokenLink { .. } | IssuerError::NoRoot { .. } => {
            PluggedError::Chain(directory.to_owned(), error)
        }
        other => PluggedError::Issuer(directory.to_owned(), other),
    })?;
    let chain = match issuer.intermediates() {
        [] => vec![issuer.certificate().clone()],
        path => path.to_vec(),
    };
    Ok(Plugged { chain, key, issuer })
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

fn certificates(text: &[u8], path: &Path) -> Result<Vec<Certificate>, PluggedError> {
    let ders =
        pem::certificates(text).map_err(|source| PluggedError::Pem { path: path.to_owned(), source })?;
    ders.into_iter()
        .map(Certificate::from_der)
        .collect::<Result<_, _>>()
        .map_err(|source| PluggedError::Certificate { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PluggedError> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| PluggedError::Io { path: path.to_owned(), source })
}
