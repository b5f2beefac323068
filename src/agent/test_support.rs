//! An authority of one's own, for tests.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::sds::Identity;
use crate::sds::Notice;
use crate::sds::Trust;
use crate::signer::FileSigner;
use crate::signer::Signer;
use crate::x509::Certificate;
use crate::x509::CertificateChain;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::root;
use crate::x509::serial;
use crate::x509::tbs;
use crate::x509::tbs::Leaf;
use crate::x509::tbs::key_id;

pub(crate) const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
const LIFE: Duration = Duration::from_secs(10 * 24 * 3600);

/// A key that signs, with its root.
pub(crate) struct Authority {
    key: PrivateKey,
    pub(crate) root: Certificate,
    signer: Arc<FileSigner>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::at(NOW)
    }

    pub(crate) fn at(now: OffsetDateTime) -> Self {
        let key = PrivateKey::generate().unwrap();
        let root = root::self_signed(&key, &"td".parse().unwrap(), now, LIFE).unwrap();
        let signer = Arc::new(FileSigner::new(&key).unwrap());
        Self { key, root, signer }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(vec![self.root.clone()]).unwrap()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::new(self.bundle(), self.root.facts().not_before).unwrap()
    }

    /// The roots of both, ours first.
    pub(crate) fn with(&self, other: &Authority) -> Trust {
        let both = TrustBundle::new(vec![self.root.clone(), other.root.clone()]).unwrap();
        Trust::new(both, self.root.facts().not_before).unwrap()
    }

    /// That leaves ought to be signed by this one.
    pub(crate) fn notice(&self, window: Duration) -> Notice {
        let authority = self.root.fingerprint().chars().take(16).collect();
        Notice { authority, certificate: self.root.clone(), window }
    }

    /// A leaf for the key in `spki`, valid from the root's own beginning for an hour.
    pub(crate) fn leaf(&self, spki: &[u8], uris: &[String], dns_names: &[String]) -> Certificate {
        let algorithm = self.signer.signature_algorithm();
        let issued_at = self.root.facts().not_before;
        let tbs = Leaf {
            serial: &serial::draw().unwrap(),
            signature_algorithm: algorithm,
            issuer: &self.root.facts().subject,
            issuer_key_id: Some(&key_id(self.key.spki()).unwrap()),
            not_before: issued_at,
            not_after: issued_at + Duration::from_secs(3600),
            spki,
            uris,
            dns_names,
            ip_addresses: &[],
            client_auth: true,
        }
        .to_der()
        .unwrap();
        let signature = self.signer.sign(&tbs).unwrap();
        let der = tbs::certificate(&tbs, algorithm, &signature);
        Certificate::from_der(CertificateDer::from(der)).unwrap()
    }

    /// A workload's chain for the key in `spki`.
    pub(crate) fn chain(&self, spki: &[u8]) -> CertificateChain {
        let id = "spiffe://td/ns/a/sa/b".to_owned();
        CertificateChain::new(vec![self.leaf(spki, &[id], &[])]).unwrap()
    }

    /// A workload's key and certificate.
    pub(crate) fn identity(&self) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let chain = self.chain(key.spki());
        Identity::new(chain, key, &self.trust(), self.root.facts().not_before).unwrap()
    }
}
