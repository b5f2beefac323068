//! Authorities that are made once and used by all tests: certificates are slow to make.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::authority::machine::Terms;
use crate::authority::state::Authority;
use crate::authority::state::AuthorityId;
use crate::authority::state::Kind;
use crate::x509::Certificate;
use crate::x509::PrivateKey;

/// When all stories begin.
pub(super) const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);

/// How many self-signed roots there are.
pub(super) const ROOTS: usize = 8;
/// How many intermediates there are, all under the first root.
pub(super) const INTERMEDIATES: usize = 3;

/// Roots, intermediates under the first of them, and each root certified by each other one.
pub(super) struct Pool {
    roots: Vec<Made>,
    intermediates: Vec<Made>,
    crossed: Vec<Vec<Certificate>>,
    ids: Vec<AuthorityId>,
}

struct Made {
    params: rcgen::CertificateParams,
    pair: rcgen::KeyPair,
    certificate: Certificate,
}

static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);

/// The pool.
pub(super) fn pool() -> &'static Pool {
    &POOL
}

fn params(name: String, levels: rcgen::BasicConstraints) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.not_before = NOW - Duration::from_secs(3600);
    params.not_after = NOW + Duration::from_secs(3600 * 24 * 3650);
    params.is_ca = rcgen::IsCa::Ca(levels);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://td".try_into().unwrap())];
    params
}

fn read(made: &rcgen::Certificate) -> Certificate {
    Certificate::from_der(CertificateDer::from(made.der().to_vec())).unwrap()
}

impl Pool {
    fn new() -> Self {
        let make = |name: String, issuer: Option<&Made>| {
            let levels = match issuer {
                None => rcgen::BasicConstraints::Unconstrained,
                Some(_) => rcgen::BasicConstraints::Constrained(0),
            };
            let (params, pair) = (params(name, levels), rcgen::KeyPair::generate().unwrap());
            let made = match issuer {
                None => params.self_signed(&pair).unwrap(),
                Some(root) => params.signed_by(&pair, &root.issuer()).unwrap(),
            };
            Made { certificate: read(&made), params, pair }
        };
        let roots: Vec<_> = (0..ROOTS).map(|one| make(format!("root {one}"), None)).collect();
        let below = (0..INTERMEDIATES).map(|one| make(format!("intermediate {one}"), roots.first()));
        let intermediates: Vec<_> = below.collect();
        let by_all = |one: &Made| {
            let by = |by: &Made| read(&one.params.signed_by(&one.pair, &by.issuer()).unwrap());
            roots.iter().map(by).collect()
        };
        let crossed = roots.iter().map(by_all).collect();
        let ids = roots.iter().chain(&intermediates).map(|one| AuthorityId::of(&one.certificate)).collect();
        Self { roots, intermediates, crossed, ids }
    }

    fn made(&self, number: usize) -> &Made {
        self.roots.get(number).unwrap_or_else(|| &self.intermediates[number - ROOTS])
    }

    /// The root of the authority of that number.
    pub(super) fn root(&self, number: usize) -> &Certificate {
        let root = if number < ROOTS { number } else { 0 };
        &self.roots[root].certificate
    }

    /// A new authority: one of the roots, or after them one of the intermediates.
    pub(super) fn authority(&self, number: usize, now: OffsetDateTime) -> Authority {
        Authority::new(vec![self.made(number).certificate.clone()], self.root(number).clone(), now)
    }

    /// A new authority whose root is certified by the one of another.
    pub(super) fn crossed(&self, number: usize, by: usize, now: OffsetDateTime) -> Authority {
        Authority { cross: Some(self.crossed[number][by].clone()), ..self.authority(number, now) }
    }

    /// The name of the authority of that number.
    pub(super) fn id(&self, number: usize) -> AuthorityId {
        self.ids[number].clone()
    }

    /// The number of the authority of that name.
    pub(super) fn number(&self, id: &AuthorityId) -> usize {
        self.ids.iter().position(|one| one == id).unwrap()
    }

    /// Its key.
    pub(super) fn key(&self, number: usize) -> Arc<PrivateKey> {
        let der = PrivatePkcs8KeyDer::from(self.made(number).pair.serialize_der());
        Arc::new(PrivateKey::from_der(der.into()).unwrap())
    }
}

impl Made {
    fn issuer(&self) -> rcgen::Issuer<'_, &rcgen::KeyPair> {
        rcgen::Issuer::from_params(&self.params, &self.pair)
    }
}

/// The terms of a rotation that somebody has ordered.
pub(super) fn terms(automatic: bool) -> Terms {
    Terms { kind: Kind::Ordered, by: "test".to_owned(), automatic, window: Duration::from_secs(60) }
}
