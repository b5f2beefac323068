//! The CA's own TLS certificate, signed by itself: what a client's root file verifies.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use time::OffsetDateTime;

use crate::issuance::audit;
use crate::signer::Issuer;
use crate::signer::SignError;
use crate::x509::PrivateKey;
use crate::x509::der::Malformed;
use crate::x509::key::InvalidKey;
use crate::x509::serial;
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
    ///
    /// # Errors
    /// The first that is neither; an empty text if there is none at all.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut sorted = Self::default();
        for name in names {
            match ServerName::try_from(name) {
                Ok(ServerName::DnsName(_)) => sorted.dns.push(name.to_owned()),
                Ok(ServerName::IpAddress(address)) => sorted.ip.push(address.into()),
                Ok(_) | Err(_) => return Err(name.to_owned()),
            }
        }
        match sorted == Self::default() {
            true => Err(String::new()),
            false => Ok(sorted),
        }
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
    /// A peer would not take it, nor any leaf of ours.
    #[error(
        "certificates under `{issuer}` are rejected by peers: {cause}; look at its chain with `burgrave cert inspect`"
    )]
    Rejected {
        /// Subject of the signing certificate.
        issuer: String,
        /// What webpki says.
        cause: String,
    },
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
    let serial = serial::draw().map_err(|none| SignError(none.to_string()))?;
    let tbs = Leaf {
        serial: &serial,
        signature_algorithm: issuer.signer().signature_algorithm(),
        issuer: &issuer.certificate().facts().subject,
        issuer_key_id: Some(issuer.key_id()),
        not_before: (now - backdate).max(issuer.not_before()),
        not_after,
        spki: key.spki(),
        uris: &[],
        dns_names: &names.dns,
        ip_addresses: &names.ip,
        client_auth: false,
    }
    .to_der()?;
    audit::intended_for_ourselves(&serial, not_after);
    let signature = issuer.signer().sign(&tbs)?;
    let leaf = tbs::certificate(&tbs, issuer.signer().signature_algorithm(), &signature);
    let chain: Vec<_> = std::iter::once(CertificateDer::from(leaf))
        .chain(issuer.intermediates().iter().map(|one| one.der().clone()))
        .collect();
    check_path(&chain, issuer, now)?;
    Ok((CertifiedKey::new(chain, key.signing()), not_after))
}

/// Whether a peer with our roots would take a certificate of ours: name constraints, unknown critical extensions and weak
/// signatures above the leaf show only here.
fn check_path(
    chain: &[CertificateDer<'_>],
    issuer: &Issuer,
    now: OffsetDateTime,
) -> Result<(), ServingError> {
    let rejected = |error: webpki::Error| ServingError::Rejected {
        issuer: issuer.certificate().facts().subject_text.clone(),
        cause: error.to_string(),
    };
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(rejected(webpki::Error::UnknownIssuer));
    };
    let roots = issuer.bundle().roots().iter().map(|root| webpki::anchor_from_trusted_cert(root.der()));
    let anchors = roots.collect::<Result<Vec<_>, _>>().map_err(rejected)?;
    let seconds = Duration::from_secs(u64::try_from(now.unix_timestamp()).unwrap_or(0));
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(rejected)?;
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        intermediates,
        rustls_pki_types::UnixTime::since_unix_epoch(seconds),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )
    .map_err(rejected)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;
    use rcgen::GeneralSubtree;
    use rcgen::KeyPair;
    use rcgen::NameConstraints;
    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::clock::Clock;
    use crate::signer::FileSigner;
    use crate::x509::Certificate;
    use crate::x509::TrustBundle;

    fn ca(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params
    }

    /// An intermediate with these constraints, under a root of its own.
    fn issuer(constraints: Option<NameConstraints>) -> Arc<Issuer> {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = ca("a root").self_signed(&root_key).unwrap();
        let above = rcgen::Issuer::new(ca("a root"), root_key);
        let mut params = ca("an intermediate");
        params.name_constraints = constraints;
        let intermediate = params.signed_by(&key, &above).unwrap();
        let key = PrivateKey::from_der(PrivatePkcs8KeyDer::from(key.serialize_der()).into()).unwrap();
        let parse = |der: &CertificateDer<'static>| Certificate::from_der(der.clone()).unwrap();
        let bundle = TrustBundle::new(vec![parse(root.der())]).unwrap();
        let signer = Arc::new(FileSigner::new(&key).unwrap());
        let chain = vec![parse(intermediate.der())];
        Arc::new(Issuer::new(signer, chain, bundle, Clock::system().now()).unwrap())
    }

    fn serve(constraints: Option<NameConstraints>) -> Result<OffsetDateTime, ServingError> {
        let names = ServingNames::of(["localhost", "127.0.0.1"]).unwrap();
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        serving_certificate(&issuer(constraints), &names, minute, hour, Clock::system().now())
            .map(|(_, end)| end)
    }

    #[test]
    fn an_issuer_whose_certificates_peers_would_reject_is_found_out_before_it_serves() {
        serve(None).unwrap();
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example.com".to_owned())];
        let refused =
            serve(Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] })).unwrap_err();
        assert!(matches!(refused, ServingError::Rejected { .. }), "{refused}");
        assert!(refused.to_string().contains("an intermediate"), "{refused}");
    }
}
