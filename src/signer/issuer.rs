//! Do this key, these certificates and these roots belong together? If so, they can issue.

use std::sync::Arc;

use ring::rand::SecureRandom;
use rustls_pki_types::SignatureVerificationAlgorithm;
use time::OffsetDateTime;

use crate::signer::SignError;
use crate::signer::Signer;
use crate::x509::Certificate;
use crate::x509::KeyAlgorithm;
use crate::x509::TrustBundle;
use crate::x509::certificate::ExtendedKeyUsage;
use crate::x509::key::public_bits;
use crate::x509::pem;
use crate::x509::tbs;

/// A signing key with its certificate, the intermediates above it, and the roots that are trusted.
#[derive(Debug)]
pub struct Issuer {
    signer: Arc<dyn Signer>,
    /// The signing certificate first; empty for a self-signed root that signs leaves itself.
    intermediates: Vec<Certificate>,
    /// The certificate whose key signs: the first intermediate, or the root.
    certificate: Certificate,
    /// The root that the signing certificate leads to.
    root: Certificate,
    bundle: TrustBundle,
    /// The bundle's digest, so that nobody has to compute it for each certificate.
    bundle_digest: String,
    /// What its authority is called.
    authority: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    key_id: Vec<u8>,
    /// What follows the leaf in an answer: intermediates one by one, then all roots as one text.
    pem_after_leaf: Vec<String>,
}

/// Why key, certificates and roots do not make an issuer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// No signing certificate.
    #[error("there is no signing certificate")]
    NoCertificate,
    /// The key is another one.
    #[error(
        "the private key does not belong to the signing certificate `{certificate}`; use the key that this certificate was issued for"
    )]
    KeyMismatch {
        /// Subject of the signing certificate.
        certificate: String,
    },
    /// A certificate above the leaves is not a CA's.
    #[error(
        "certificate `{certificate}` may not sign certificates (it needs basicConstraints CA:TRUE and keyUsage keyCertSign); use a CA certificate"
    )]
    NotACa {
        /// Its subject.
        certificate: String,
    },
    /// A certificate above the leaves limits what they may be used for.
    #[error(
        "certificate `{certificate}` limits what certificates below it may be used for (its extended key usage lacks serverAuth or clientAuth), so peers would reject them; have it issued without, or with both"
    )]
    Purpose {
        /// Its subject.
        certificate: String,
    },
    /// A link of the chain does not hold.
    #[error(
        "certificate `{certificate}` is not signed by `{issuer}`, which stands after it; put the chain in order, signing certificate first, and leave nothing out"
    )]
    BrokenLink {
        /// Subject of the lower certificate.
        certificate: String,
        /// Subject of the one after it.
        issuer: String,
    },
    /// No root of the bundle signed the chain's end.
    #[error(
        "none of the root certificates signed `{certificate}`, whose issuer is `{issuer}`; add that root to the bundle, or the missing intermediate to the chain"
    )]
    NoRoot {
        /// Subject of the chain's last certificate.
        certificate: String,
        /// The issuer that it names.
        issuer: String,
    },
    /// A path length constraint forbids this chain.
    #[error(
        "certificate `{certificate}` allows {allowed} CA certificates below it (pathLenConstraint), but the chain has {found}"
    )]
    PathLength {
        /// Its subject.
        certificate: String,
        /// What it allows.
        allowed: u32,
        /// What there is.
        found: usize,
    },
    /// A certificate of the chain is not valid now.
    #[error(
        "certificate `{certificate}` is valid from {not_before} to {not_after}, which is not now; renew it, or check this machine's clock"
    )]
    NotValidNow {
        /// Its subject.
        certificate: String,
        /// First moment of its validity.
        not_before: OffsetDateTime,
        /// Last moment of its validity.
        not_after: OffsetDateTime,
    },
}

impl Issuer {
    /// Joins a signer, its chain (signing certificate first) and the trusted roots, if they belong together
    /// at `now`. Roots that stand in the chain are taken out of it: peers have them already.
    ///
    /// # Errors
    /// If the key, a certificate, a link, a path length or a validity does not fit; each has its sentence.
    pub fn new(
        signer: Arc<dyn Signer>,
        chain: Vec<Certificate>,
        bundle: TrustBundle,
        now: OffsetDateTime,
    ) -> Result<Self, IssuerError> {
        let certificate = chain.first().ok_or(IssuerError::NoCertificate)?.clone();
        if certificate.facts().spki != signer.spki() {
            return Err(IssuerError::KeyMismatch { certificate: subject(&certificate) });
        }
        let intermediates: Vec<_> = chain.into_iter().filter(|one| !bundle.contains(one)).collect();
        check_links(&intermediates)?;
        let root = match intermediates.last() {
            None => &certificate,
            Some(last) => root_of(last, &bundle, now)?,
        };
        let path: Vec<_> = match intermediates.is_empty() {
            true => vec![root],
            false => intermediates.iter().chain([root]).collect(),
        };
        check_path(&path, now)?;
        let facts = || path.iter().map(|one| one.facts());
        let not_before = facts().map(|one| one.not_before).max().unwrap_or(now);
        let not_after = facts().map(|one| one.not_after).min().unwrap_or(now);
        let key_id = match &certificate.facts().subject_key_id {
            Some(id) => id.clone(),
            None => tbs::key_id(signer.spki()).map_err(|_| IssuerError::NoCertificate)?.to_vec(),
        };
        let pem_after_leaf =
            intermediates.iter().map(|one| pem::certificate(one.der())).chain([bundle.to_pem()]).collect();
        let root = root.clone();
        let (bundle_digest, authority) =
            (bundle.digest(), certificate.fingerprint().chars().take(16).collect());
        Ok(Self {
            bundle_digest,
            authority,
            signer,
            certificate,
            root,
            intermediates,
            bundle,
            not_before,
            not_after,
            key_id,
            pem_after_leaf,
        })
    }

    /// The same under the name of its authority, where that is not the beginning of the certificate's fingerprint.
    pub fn called(self, authority: &str) -> Self {
        Self { authority: authority.to_owned(), ..self }
    }

    /// What its authority is called.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The digest of the trusted roots.
    pub fn bundle_digest(&self) -> &str {
        &self.bundle_digest
    }

    /// The certificate whose key signs.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The root that the signing certificate leads to; itself, if it is self-signed.
    pub fn root(&self) -> &Certificate {
        &self.root
    }

    /// The certificates between a leaf and the root, signing certificate first.
    pub fn intermediates(&self) -> &[Certificate] {
        &self.intermediates
    }

    /// The roots that are trusted.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// What follows a leaf in an answer: intermediates one by one, then all roots as one text.
    pub fn pem_after_leaf(&self) -> &[String] {
        &self.pem_after_leaf
    }

    /// The beginning of the issuer's own life: the latest NotBefore on the path to its root.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The end of the issuer's own life: the first expiry on the path to its root.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// The identifier of the signing key: as its certificate has it, or computed where it has none.
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// The signer.
    pub fn signer(&self) -> &Arc<dyn Signer> {
        &self.signer
    }

    /// Really signs something and verifies it, to show that issuing would work at `now`. What is signed is
    /// random and begins with a text, so it can never be taken for a certificate.
    ///
    /// # Errors
    /// If the issuer has expired, or the signature cannot be made or does not verify.
    pub fn try_out(&self, now: OffsetDateTime) -> Result<(), SignError> {
        if now < self.not_before {
            let begin = self.not_before;
            let why =
                format!("the issuer's certificates are not valid before {begin}; check this machine's clock");
            return Err(SignError(why));
        }
        if self.not_after <= now {
            return Err(SignError(format!("the issuer's certificates expired at {}", self.not_after())));
        }
        let mut message = *b"burgrave readiness, not a certificate: ................";
        let random = message.last_chunk_mut::<16>().map_or(&mut [][..], |chunk| chunk);
        ring::rand::SystemRandom::new()
            .fill(random)
            .map_err(|_| SignError("the operating system gave no randomness".to_owned()))?;
        let signature = self.signer.sign(&message)?;
        let unverified = |_| SignError("its signature does not verify".to_owned());
        let key = public_bits(self.signer.spki()).map_err(unverified)?;
        verification(self.signer.key_algorithm())
            .verify_signature(key, &message, &signature)
            .map_err(|_| SignError("its signature does not verify".to_owned()))
    }
}

/// The root that signed `last`: of several, such as an old and a renewed certificate of one key, the one that is valid now
/// and lives longest.
fn root_of<'a>(
    last: &Certificate,
    bundle: &'a TrustBundle,
    now: OffsetDateTime,
) -> Result<&'a Certificate, IssuerError> {
    bundle
        .roots()
        .iter()
        .filter(|root| last.is_signed_by(root))
        .max_by_key(|root| (root.is_valid_at(now), root.facts().not_after))
        .ok_or_else(|| IssuerError::NoRoot {
            certificate: subject(last),
            issuer: last.facts().issuer_text.clone(),
        })
}

/// How signatures of each kind of key are verified; what `FileSigner` makes.
fn verification(algorithm: KeyAlgorithm) -> &'static dyn SignatureVerificationAlgorithm {
    match algorithm {
        KeyAlgorithm::P256 => webpki::ring::ECDSA_P256_SHA256,
        KeyAlgorithm::P384 => webpki::ring::ECDSA_P384_SHA384,
        KeyAlgorithm::Ed25519 => webpki::ring::ED25519,
        KeyAlgorithm::Rsa => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    }
}

/// RFC 5280 section 6 for the CA certificates alone, lowest first.
fn check_path(path: &[&Certificate], now: OffsetDateTime) -> Result<(), IssuerError> {
    for (below, one) in path.iter().enumerate() {
        let facts = one.facts();
        if !facts.is_ca || facts.key_usage.is_some_and(|usage| !usage.key_cert_sign) {
            return Err(IssuerError::NotACa { certificate: subject(one) });
        }
        let limits = |usage: &ExtendedKeyUsage| !(usage.any || usage.server_auth && usage.client_auth);
        if facts.extended_key_usage.as_ref().is_some_and(limits) {
            return Err(IssuerError::Purpose { certificate: subject(one) });
        }
        if !one.is_valid_at(now) {
            return Err(IssuerError::NotValidNow {
                certificate: subject(one),
                not_before: facts.not_before,
                not_after: facts.not_after,
            });
        }
        match facts.path_length {
            Some(allowed) if below > allowed as usize => {
                return Err(IssuerError::PathLength { certificate: subject(one), allowed, found: below });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Each certificate is signed by the one after it.
fn check_links(chain: &[Certificate]) -> Result<(), IssuerError> {
    for pair in chain.windows(2) {
        if let [lower, upper] = pair
            && !lower.is_signed_by(upper)
        {
            return Err(IssuerError::BrokenLink { certificate: subject(lower), issuer: subject(upper) });
        }
    }
    Ok(())
}

fn subject(certificate: &Certificate) -> String {
    match certificate.facts().subject_text.as_str() {
        "" => certificate.facts().serial.to_string(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::*;
    use crate::signer::FileSigner;
    use crate::x509::PrivateKey;
    use crate::x509::root;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

    fn self_signed() -> (PrivateKey, Certificate) {
        let key = PrivateKey::generate().unwrap();
        let domain = "td".parse().unwrap();
        let root = root::self_signed(&key, &domain, NOW, Duration::from_secs(3600)).unwrap();
        (key, root)
    }

    fn signer(key: &PrivateKey) -> Arc<dyn Signer> {
        Arc::new(FileSigner::new(key).unwrap())
    }

    #[test]
    fn a_self_signed_root_issues_by_itself_and_is_sent_once() {
        let (key, root) = self_signed();
        let bundle = TrustBundle::new(vec![root.clone()]).unwrap();
        let issuer = Issuer::new(signer(&key), vec![root.clone()], bundle, NOW).unwrap();
        assert_eq!(issuer.intermediates(), []);
        assert_eq!(issuer.pem_after_leaf(), [pem::certificate(root.der())]);
        assert_eq!(issuer.not_after(), root.facts().not_after);
        issuer.try_out(NOW).unwrap();
        assert!(issuer.try_out(NOW + Duration::from_secs(3600)).is_err());
    }

    #[test]
    fn a_foreign_key_a_foreign_root_and_an_expired_root_are_refused() {
        let ((key, root), (other_key, other_root)) = (self_signed(), self_signed());
        let bundle = TrustBundle::new(vec![root.clone()]).unwrap();
        let foreign_key = Issuer::new(signer(&other_key), vec![root.clone()], bundle.clone(), NOW);
        assert!(matches!(foreign_key, Err(IssuerError::KeyMismatch { .. })));
        let foreign_root = TrustBundle::new(vec![other_root]).unwrap();
        let unrooted = Issuer::new(signer(&key), vec![root.clone()], foreign_root, NOW);
        assert!(matches!(unrooted, Err(IssuerError::NoRoot { .. })));
        let late = NOW + Duration::from_secs(7200);
        let expired = Issuer::new(signer(&key), vec![root], bundle, late);
        assert!(matches!(expired, Err(IssuerError::NotValidNow { .. })));
    }
}
