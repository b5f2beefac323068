//! What the lint lets pass and what it stops, and how long a leaf may live.

use std::time::Duration as StdDuration;

use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use time::macros::datetime;

use super::*;
use crate::attest::Attestor;
use crate::identity::TrustDomain;
use crate::issuance::grant::GrantPolicy;
use crate::signer::FileSigner;
use crate::x509::Certificate;
use crate::x509::Csr;
use crate::x509::PrivateKey;
use crate::x509::TrustBundle;
use crate::x509::lint as rules;
use crate::x509::root;
use crate::x509::serial;

const NOW: OffsetDateTime = datetime!(2030-01-01 12:00:00.5 UTC);
const HOUR: StdDuration = StdDuration::from_secs(3600);

fn profile() -> Profile {
    Profile::new(StdDuration::from_secs(120), 24 * HOUR, 48 * HOUR).unwrap()
}

fn issuer(life: StdDuration) -> Arc<Issuer> {
    let key = PrivateKey::generate().unwrap();
    let domain: TrustDomain = "td".parse().unwrap();
    let certificate = root::self_signed(&key, &domain, NOW - StdDuration::from_secs(60), life).unwrap();
    let bundle = TrustBundle::new(vec![certificate.clone()]).unwrap();
    Arc::new(Issuer::new(Arc::new(FileSigner::new(&key).unwrap()), vec![certificate], bundle, NOW).unwrap())
}

fn csr() -> VerifiedCsr {
    let pem = PrivateKey::generate().unwrap().csr_pem().unwrap();
    Csr::from_pem(pem.as_bytes()).unwrap().verify().unwrap()
}

/// A grant, which only an attested caller can have: here one of a token issuer made for the test.
fn grant(seconds: i64) -> Grant {
    let (attestor, token) = crate::attest::test_support::attestor_and_token("ns", "account");
    let shown = crate::attest::Credentials { token: Some(token) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let caller = runtime.block_on(attestor.attest(&shown)).unwrap();
    GrantPolicy::new("td".parse().unwrap(), profile()).grant(&caller, seconds).unwrap()
}

fn prepared(issuer: &Arc<Issuer>, seconds: i64, now: OffsetDateTime) -> Result<Prepared, NotPrepared> {
    prepare(csr(), grant(seconds), &profile(), issuer.clone(), serial::draw().unwrap(), now)
}

fn leaf(chain: &[String]) -> Certificate {
    let ders = crate::x509::pem::certificates(chain[0].as_bytes()).unwrap();
    Certificate::from_der(CertificateDer::from(ders[0].to_vec())).unwrap()
}

#[test]
fn a_leaf_says_what_was_granted_and_keeps_every_rule() {
    let issuer = issuer(1000 * HOUR);
    let chain = prepared(&issuer, 3600, NOW).unwrap().sign().unwrap();
    let leaf = leaf(&chain);
    assert_eq!(rules::leaf(&leaf), []);
    assert_eq!(leaf.facts().uris, ["spiffe://td/ns/ns/sa/account"]);
    assert_eq!(leaf.facts().not_after, datetime!(2030-01-01 13:00:00 UTC));
    assert!(leaf.is_signed_by(issuer.certificate()));
    assert_eq!(leaf.facts().authority_key_id, issuer.certificate().facts().subject_key_id);
}

#[test]
fn a_leaf_lies_within_the_life_of_its_issuer_and_says_when_it_was_cut() {
    let issuer = issuer(2 * HOUR);
    let whole = prepared(&issuer, 3600, NOW).unwrap();
    assert!(!whole.is_clamped());
    let cut = prepared(&issuer, 0, NOW).unwrap();
    assert!(cut.is_clamped());
    assert_eq!(cut.not_after(), issuer.not_after());
    // NotBefore would be two minutes ago; the root is one minute old.
    let leaf = leaf(&cut.sign().unwrap());
    assert_eq!(leaf.facts().not_before, issuer.certificate().facts().not_before);
    let late = prepared(&issuer, 0, NOW + 3 * HOUR);
    assert!(matches!(late, Err(NotPrepared::IssuerExpired(_))));
    let early = prepared(&issuer, 0, NOW - HOUR);
    assert!(matches!(early, Err(NotPrepared::IssuerNotYetValid(_))));
}

/// Parts of a leaf, to be changed before the lint looks.
struct Draft {
    serial: SerialNumber,
    issuer: Arc<Issuer>,
    spki: Vec<u8>,
    uri: String,
}

impl Draft {
    fn new() -> Self {
        Self {
            serial: serial::draw().unwrap(),
            issuer: issuer(1000 * HOUR),
            spki: csr().spki().to_vec(),
            uri: "spiffe://td/ns/a/sa/b".to_owned(),
        }
    }

    fn leaf(&self) -> Leaf<'_> {
        Leaf {
            serial: &self.serial,
            signature_algorithm: self.issuer.signer().signature_algorithm(),
            issuer: &self.issuer.certificate().facts().subject,
            issuer_key_id: None,
            not_before: NOW,
            not_after: NOW + HOUR,
            spki: &self.spki,
            uris: std::slice::from_ref(&self.uri),
            dns_names: &[],
            ip_addresses: &[],
            client_auth: true,
        }
    }
}

#[test]
fn the_lint_stops_what_is_not_what_was_meant() {
    let draft = Draft::new();
    let (meant, uri) = (draft.leaf(), draft.uri.as_str());
    assert_eq!(lint(&meant.to_der().unwrap(), &meant, uri), Ok(()));
    let stopped = |changed: Leaf<'_>, why: &str| match lint(&changed.to_der().unwrap(), &meant, uri) {
        Err(NotPrepared::Lint(said)) => assert!(said.contains(why), "{said}"),
        other => panic!("{why}: {other:?}"),
    };
    let zero = SerialNumber::new(vec![0; 16]);
    stopped(Leaf { serial: &zero, ..meant.clone() }, "serial number");
    let negative = SerialNumber::new(vec![0x80; 16]);
    stopped(Leaf { serial: &negative, ..meant.clone() }, "serial number");
    let short = SerialNumber::new(vec![0x41; 7]);
    stopped(Leaf { serial: &short, ..meant.clone() }, "serial number");
    stopped(Leaf { signature_algorithm: &[0x30, 0], ..meant.clone() }, "signature algorithm");
    stopped(Leaf { issuer: &[0x30, 0], ..meant.clone() }, "issuer");
    let other_key = csr().spki().to_vec();
    stopped(Leaf { spki: &other_key, ..meant.clone() }, "key");
    let other = ["spiffe://td/ns/a/sa/other".to_owned()];
    stopped(Leaf { uris: &other, ..meant.clone() }, "SPIFFE ID");
    let two = [draft.uri.clone(), "spiffe://td/x".to_owned()];
    stopped(Leaf { uris: &two, ..meant.clone() }, "SPIFFE ID");
    stopped(Leaf { uris: &[], ..meant.clone() }, "DER");
    let dns = ["localhost".to_owned()];
    stopped(Leaf { dns_names: &dns, ..meant.clone() }, "SPIFFE ID");
    let broken = Leaf { client_auth: false, ..meant.clone() }.to_der().unwrap();
    assert!(lint(&broken, &meant, uri).is_err());
}

proptest! {
    /// A flipped bit is found, or lies where the template is free: serial, validity, key identifiers.
    #[test]
    fn the_lint_never_panics_and_finds_flipped_bits(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let draft = Draft::new();
        let meant = draft.leaf();
        let good = meant.to_der().unwrap();
        let mut bad = good.clone();
        let at = at.index(bad.len());
        bad[at] ^= 1 << bit;
        if lint(&bad, &meant, &draft.uri).is_ok() {
            let window = |needle: &[u8]| good.windows(needle.len()).position(|found| found == needle).unwrap();
            let serial = window(draft.serial.as_bytes());
            let spki = window(&draft.spki);
            let key_id = window(&tbs::key_id(&draft.spki).unwrap());
            let free = (serial..serial + 16).contains(&at)
                || (spki.saturating_sub(36)..spki).contains(&at)
                || (key_id..key_id + 20).contains(&at)
                || (window(tbs::oid::SUBJECT_KEY_IDENTIFIER)..key_id + 20).contains(&at)
                // The unused-bits count and keyEncipherment of the key usage, and criticality's own byte.
                || (window(tbs::oid::KEY_USAGE)..window(tbs::oid::KEY_USAGE) + 12).contains(&at)
                || good[at.saturating_sub(2)..at].ends_with(&[tag::BOOLEAN, 1]);
            prop_assert!(free, "a flipped bit at {at} of {} is let through", good.len());
        }
    }
}
