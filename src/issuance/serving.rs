//! The CA's own TLS certificate, signed by itself: what a client's root file verifies.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::issuance::serial;
use crate::signer::Issuer;
use crate::signer::SignError;
use crate::x509::PrivateKey;
use crate::x509::der::Malformed;
use crate::x509::key::InvalidKey;
use crate::x509::tbs;
use crate::x509::tbs::Leaf;

/// The names that clients know the CA by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ip: Vec<IpAddr>,
}

impl ServingNames {
    /// Sorts names into DNS names and IP addresses.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sorted = Self::default();
        for name in names {
            match name.parse() {
                Ok(address) => sorted.ip.push(address),
                Err(_) => sorted.dns.push(name.to_owned()),
            }
        }
        sorted
    }
}

/// Why the CA has no certificate of its own.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// Its key could not be made.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Its issuer has expired.
    #[error("the issuer's certificates expired at {0}")]
    IssuerExpired(OffsetDateTime),
    /// The template failed.
    #[error("the CA's own certificate: {0}")]
    Template(#[from] Malformed),
}

/// Makes a new key and signs a serving certificate for it; returns it with the end of its life.
///
/// It carries no SPIFFE ID and only `serverAuth`, so no mesh peer takes it for a workload's.
///
/// # Errors
/// If there is no randomness, the issuer has expired, or signing fails.
pub fn serving_certificate(
    issuer: &Arc<Issuer>,
    names: &ServingNames,
    backdate: Duration,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<(CertifiedKey, OffsetDateTime), ServingError> {
    let end = issuer.not_after();
    if end <= now {
        return Err(ServingError::IssuerExpired(end));
    }
    let key = PrivateKey::generate()?;
    let not_after = (now + lifetime).min(end);
    let authority = issuer.certificate().facts();
    let tbs = Leaf {
        serial: &serial::draw().map_err(|none| SignError(none.to_string()))?,
        signature_algorithm: issuer.signer().signature_algorithm(),
        issuer: &authority.subject,
        issuer_key_id: authority.subject_key_id.as_deref(),
        not_before: (now - backdate).max(authority.not_before),
        not_after,
        spki: key.spki(),
        uris: &[],
        dns_names: &names.dns,
        ip_addresses: &names.ip,
        client_auth: false,
    }
    .to_der()?;
    let signature = issuer.signer().sign(&tbs)?;
    let leaf = tbs::certificate(&tbs, issuer.signer().signature_algorithm(), &signature);
    let chain = std::iter::once(CertificateDer::from(leaf))
        .chain(issuer.intermediates().iter().map(|one| one.der().clone()))
        .collect();
    Ok((CertifiedKey::new(chain, key.signing()), not_after))
}
