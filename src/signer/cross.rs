//! One root certifies the key of another, for readers who know only the one.

use rustls_pki_types::CertificateDer;

use crate::signer::SignError;
use crate::signer::Signer;
use crate::x509::Certificate;
use crate::x509::certificate::InvalidCertificate;
use crate::x509::der::Malformed;
use crate::x509::serial;
use crate::x509::tbs;

/// Why there is no cross-certificate.
#[derive(Debug, thiserror::Error)]
pub enum NotCrossed {
    /// One of the two does not sign leaves as a root, or the key is another one.
    #[error(
        "only a self-signed root that signs leaves itself can be certified by another one; leave --cross-sign out"
    )]
    NotRoots,
    /// The key cannot be used.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// There was no randomness.
    #[error(transparent)]
    Randomness(#[from] serial::NoRandomness),
    /// A key is not well-formed.
    #[error("a public key is not well-formed DER")]
    Key(#[from] Malformed),
    /// What was made does not read back.
    #[error("the cross-certificate that was made does not read back: {0}")]
    Unreadable(#[from] InvalidCertificate),
}

/// Certifies the key of the root `new` by the root `old`, whose key is `signer`: with the name, the key and the life of `new`, as
/// long as `old` lives that long. Names are copied byte for byte, and the issuer is named by its key alone, so that peers may take
/// either way.
///
/// # Errors
/// If one of them is no root, or signing fails.
pub fn cross_certificate(
    new: &Certificate,
    old: &Certificate,
    signer: &dyn Signer,
) -> Result<Certificate, NotCrossed> {
    if !new.is_self_signed() || !old.is_self_signed() || old.facts().spki != signer.spki() {
        return Err(NotCrossed::NotRoots);
    }
    let id = |one: &Certificate| match &one.facts().subject_key_id {
        Some(id) => Ok(id.clone()),
        None => tbs::key_id(&one.facts().spki).map(|id| id.to_vec()),
    };
    let (of, by) = (new.facts(), old.facts());
    let tbs = tbs::Cross {
        serial: &serial::draw()?,
        signature_algorithm: signer.signature_algorithm(),
        issuer: &by.subject,
        issuer_key_id: &id(old)?,
        subject: &of.subject,
        subject_key_id: &id(new)?,
        not_before: of.not_before.max(by.not_before),
        not_after: of.not_after.min(by.not_after),
        spki: &of.spki,
        uris: &of.uris,
    }
    .to_der();
    let der = tbs::certificate(&tbs, signer.signature_algorithm(), &signer.sign(&tbs)?);
    Ok(Certificate::from_der(CertificateDer::from(der))?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;
    use crate::signer::FileSigner;
    use crate::x509::PrivateKey;
    use crate::x509::lint;
    use crate::x509::root;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

    fn root() -> (PrivateKey, Certificate) {
        let (key, domain) = (PrivateKey::generate().unwrap(), "td".parse().unwrap());
        let certificate = root::self_signed(&key, &domain, NOW, Duration::from_secs(3600)).unwrap();
        (key, certificate)
    }

    #[test]
    fn whoever_knows_the_old_root_can_verify_the_new_one_s_key() {
        let ((old_key, old), (new_key, new)) = (root(), root());
        let signer = FileSigner::new(&old_key).unwrap();
        let cross = cross_certificate(&new, &old, &signer).unwrap();
        assert!(cross.is_signed_by(&old) && !cross.is_signed_by(&new));
        assert_eq!((&cross.facts().subject, &cross.facts().spki), (&new.facts().subject, &new.facts().spki));
        assert_eq!(lint::signing(&cross), []);
        let foreign = FileSigner::new(&new_key).unwrap();
        assert!(matches!(cross_certificate(&new, &old, &foreign), Err(NotCrossed::NotRoots)));
        assert!(matches!(cross_certificate(&cross, &old, &signer), Err(NotCrossed::NotRoots)));
    }
}
