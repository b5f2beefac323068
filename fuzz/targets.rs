//! What strangers' bytes are read by, one function each: none of them may panic, whatever the bytes.
//!
//! The fuzz targets run these under a coverage-guided fuzzer; `tests/fuzz_smoke.rs` runs them on mutated good inputs.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burgrave::authority;
use burgrave::authz::Http;
use burgrave::authz::PolicySet;
use burgrave::authz::Request as Asked;
use burgrave::authz::model::Action;
use burgrave::authz::model::Atom;
use burgrave::authz::model::Conjunction;
use burgrave::authz::model::Field;
use burgrave::authz::model::Kind;
use burgrave::authz::model::Pattern;
use burgrave::authz::model::Policy;
use burgrave::authz::model::PolicyName;
use burgrave::authz::model::Rule;
use burgrave::authz::model::Template;
use burgrave::authz::model::Term;
use burgrave::authz::model::Value;
use burgrave::authz::walk;
use burgrave::identity::SpiffeId;
use burgrave::sds::Effect;
use burgrave::sds::Event;
use burgrave::sds::Request;
use burgrave::sds::Subscription;
use burgrave::sds::redact;
use burgrave::x509::Certificate;
use burgrave::x509::CertificateChain;
use burgrave::x509::Csr;
use burgrave::x509::TrustBundle;
use burgrave::x509::describe;
use burgrave::x509::diagnose;
use burgrave::x509::key::KeyAlgorithm;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// A certification request: DER and PEM, parsed and verified.
pub(crate) fn csr(bytes: &[u8]) {
    let _ = Csr::from_der(bytes).and_then(Csr::verify);
    let _ = Csr::from_pem(bytes).and_then(Csr::verify);
}

/// A certificate: parsed, linted, described, and verified as a chain of its own.
pub(crate) fn certificate(bytes: &[u8]) {
    let now = OffsetDateTime::UNIX_EPOCH;
    let _ = KeyAlgorithm::of_spki(bytes);
    let _ = CertificateChain::from_pem(bytes);
    if let Ok(one) = Certificate::from_der(CertificateDer::from(bytes)) {
        let _ = (describe::line(&one, now), describe::paragraph(&one, now), one.is_self_signed());
        let bundle = TrustBundle::new(vec![one.clone()]).ok();
        let _ = diagnose::chain(&[one.clone(), one], bundle.as_ref(), now);
    }
}

/// A SPIFFE ID: what is read prints as it reads.
pub(crate) fn spiffe_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

/// A proxy's error message.
pub(crate) fn message(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(redact(&text).len() <= 304);
}

/// A sequence of requests and offers on one stream: nonces are never given twice.
pub(crate) fn subscription(bytes: &[u8]) {
    let mut stream = Subscription::default();
    let mut last = 0_u64;
    for step in bytes.chunks_exact(4) {
        let &[kind, names, version, nonce] = step else { return };
        let set = |bits: u8| (0..8).filter(move |at| bits >> at & 1 == 1).map(|at: u8| at.to_string());
        let event = match kind % 3 {
            0 => Event::Offered(
                set(names).map(|name| (name.clone(), format!("{name}{version}").as_str().into())).collect(),
            ),
            kind => Event::Requested(Request {
                names: set(names).collect(),
                version: format!("{}{version}", names % 8),
                nonce: if nonce == 0 { String::new() } else { (nonce % 16).to_string() },
                error: (kind == 2).then(|| "no".to_owned()),
            }),
        };
        let Ok((next, effects)) = stream.step(event) else { return };
        stream = next;
        for effect in effects {
            if let Effect::Push { nonce, .. } = effect {
                let nonce: u64 = nonce.parse().expect("our nonces are numbers");
                assert!(nonce > last, "nonce {nonce} was given twice");
                last = nonce;
            }
        }
    }
}

/// A sealed authority, as text and as what is in the armour. Next to no work is allowed, so that each try is cheap.
pub(crate) fn sealed(bytes: &[u8]) {
    const PASSPHRASE: &str = "correct horse battery";
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = authority::open_within(text, PASSPHRASE, 2);
    }
    let mut text = String::from("-----BEGIN AGE ENCRYPTED FILE-----\n");
    for line in bytes.chunks(48) {
        text.push_str(&STANDARD.encode(line));
        text.push('\n');
    }
    text.push_str("-----END AGE ENCRYPTED FILE-----\n");
    let _ = authority::open_within(&text, PASSPHRASE, 2);
}

/// A path on the first line, and values of `paths` on the others: what is compiled decides what walking decides.
pub(crate) fn paths(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let path = lines.next().unwrap_or_default();
    let atom = |line: &str| match Template::parse(line) {
        Ok(template) if Template::is_meant(line) => {
            assert_eq!(Template::parse(&template.to_string()), Ok(template.clone()));
            Atom::PathTemplate(template)
        }
        _ => Atom::Path(Pattern::of(line)),
    };
    let policy = |line: &str| {
        let values = vec![Value::Is(atom(line))];
        let term = Term { field: Field::List("paths"), negated: false, values };
        let any = Conjunction::default;
        let to = vec![Conjunction { index: 0, terms: vec![term] }];
        Policy {
            name: PolicyName { kind: Kind::AuthorizationPolicy, namespace: "n".into(), name: "p".into() },
            action: Action::Allow,
            dry_run: false,
            rules: vec![Rule { index: 0, from: vec![any()], to, when: any() }],
        }
    };
    let policies: Vec<Arc<Policy>> = lines.take(16).map(policy).map(Arc::new).collect();
    let http = Http { method: "GET", path, host: "h", headers: &[] };
    let request = Asked { http: Some(http), ..Asked::default() };
    assert_eq!(PolicySet::new(policies.clone()).decide(&request), walk(&policies, &request));
}
