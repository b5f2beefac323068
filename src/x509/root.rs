//! What does a new self-signed root look like?

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::identity::SpiffeId;
use crate::identity::TrustDomain;
use crate::x509::certificate::Certificate;
use crate::x509::certificate::InvalidCertificate;
use crate::x509::certificate::hex;
use crate::x509::key::InvalidKey;
use crate::x509::key::PrivateKey;
use crate::x509::serial;
use crate::x509::tbs::key_id;

/// Why a root could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Making or using the key failed.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// A part of the certificate could not be expressed.
    #[error("the root certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What was made does not read back.
    #[error("the root certificate that was made does not read back: {0}")]
    Unreadable(#[from] InvalidCertificate),
    /// The operating system gave no randomness.
    #[error(transparent)]
    Randomness(#[from] serial::NoRandomness),
}

/// Makes a self-signed root for `trust_domain`, valid from `not_before` for `lifetime`.
///
/// It is an X509-SVID of the trust domain itself, may sign certificates and revocation lists,
/// and has a name of its own, so that two roots are never mistaken for one another by name.
///
/// # Errors
/// If there is no randomness, or the lifetime goes beyond what a certificate can say.
pub fn self_signed(
    key: &PrivateKey,
    trust_domain: &TrustDomain,
    not_before: OffsetDateTime,
    lifetime: Duration,
) -> Result<Certificate, RootError> {
    let key_id = key_id(key.spki()).map_err(|_| InvalidKey::Unsupported)?;
    let serial = serial::draw()?;

    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::OrganizationName, trust_domain.as_str());
    let short_id = hex(key_id.first_chunk::<4>().map_or(&[][..], |id| id));
    name.push(rcgen::DnType::CommonName, format!("burgrave root {short_id}"));

    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(rcgen::SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = not_before;
    params.not_after = not_before + lifetime;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(key_id.to_vec());
    params.use_authority_key_identifier_extension = false;
    let id = SpiffeId::of_trust_domain(trust_domain).to_string();
    params.subject_alt_names = vec![rcgen::SanType::URI(id.try_into()?)];

    let der = key.self_sign(&params)?;
    Ok(Certificate::from_der(CertificateDer::from(der))?)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::x509::lint;

    #[test]
    fn a_new_root_is_a_signing_certificate_of_its_trust_domain() {
        let key = PrivateKey::generate().unwrap();
        let domain = "cluster.local".parse().unwrap();
        let at = datetime!(2030-01-01 0:00 UTC);
        let root = self_signed(&key, &domain, at, Duration::from_secs(3600)).unwrap();
        assert_eq!(lint::signing(&root), []);
        assert!(root.is_self_signed());
        let facts = root.facts();
        assert_eq!(facts.uris, ["spiffe://cluster.local"]);
        assert_eq!(facts.not_after, datetime!(2030-01-01 1:00 UTC));
        assert_eq!(facts.spki, key.spki());
        assert_eq!(facts.key_algorithm, Some(crate::x509::KeyAlgorithm::P256));
        assert!(facts.names_critical.is_some());
    }
}
