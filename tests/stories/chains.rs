//! Every issued certificate, whoever signs it and whatever key it is for, is one that all verifiers take and that keeps
//! the rules of SPIFFE's X509-SVID and of RFC 5280.
//!
//! The rules are read here with `x509-parser` alone and not with Burgrave's own lint, so that neither hides a mistake of
//! the other. A test at the end shows that the reading finds each rule broken.

use crate::ca::AUDIENCE;
use crate::ca::Ca;
use crate::ca::text;
use crate::crafted;
use crate::crafted::Hierarchy;
use crate::crafted::ca_params;
use crate::crafted::csr_by_openssl;
use crate::crafted::csr_der;
use crate::crafted::hierarchy;
use crate::support::apiserver::ApiServer;
use crate::support::scratch;
use crate::support::tools;

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use burgrave::x509::CertificateChain;
use burgrave::x509::TrustBundle;
use futures_util::future::join_all;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::Duration;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer;

/// Certificates under each CA.
const PER_CA: usize = 36;

/// A trust domain, and how `certs/make` makes the CA for it; a self-signed one if it does not.
const CAS: [(&str, Option<&[&str]>); 8] = [
    ("cluster.local", None),
    ("cluster.local", Some(&["--key", "p256"])),
    (
        "cluster.local",
        Some(&["--key", "p256", "--key-format", "sec1", "--subject-style", "deep", "--depth", "2"]),
    ),
    ("example.org", Some(&["--key", "p384", "--key-format", "sec1", "--subject-style", "deep"])),
    ("cluster.local", Some(&["--key", "p384", "--depth", "2"])),
    (
        "cluster.local",
        Some(&["--key", "rsa2048", "--key-format", "pkcs1", "--subject-style", "deep", "--depth", "2"]),
    ),
    ("example.org", Some(&["--key", "rsa2048"])),
    // Its life is shorter than what many of the requests ask for.
    ("cluster.local", Some(&["--key", "p256", "--days", "1"])),
];

/// Whose certificate it is, for which request, and for how long.
#[derive(Clone, Debug)]
struct Case {
    caller: usize,
    csr: String,
    seconds: i64,
}

fn cases(callers: usize, requests: &[String]) -> impl Strategy<Value = Case> + use<> {
    let seconds = prop_oneof![1 => Just(0), 1 => Just(7 * 86_400), 8 => 300..7 * 86_400_i64];
    (0..callers, select(requests.to_vec()), seconds).prop_map(|(caller, csr, seconds)| Case {
        caller,
        csr,
        seconds,
    })
}

/// Requests for keys of every kind that is allowed.
fn requests() -> Vec<String> {
    let curve = |name: &str, digest: &str| {
        csr_by_openssl(&["-newkey", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{name}"), digest])
    };
    let mut all: Vec<_> = (0..4).map(|_| crafted::csr()).collect();
    for _ in 0..2 {
        all.extend([curve("P-256", "-sha256"), curve("P-384", "-sha384"), curve("P-384", "-sha256")]);
        all.extend([csr_by_openssl(&["-newkey", "ed25519"]), csr_by_openssl(&["-newkey", "rsa:2048"])]);
    }
    all
}

/// What a CA must put above each leaf.
struct Above {
    intermediates: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
}

impl Above {
    fn of(ca: &Ca, made: Option<&Hierarchy>) -> Above {
        let read = |pem: &str| -> Vec<_> {
            CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .expect("a CA's file is PEM")
        };
        let intermediates = made.map(|made| read(&made.read("cert-chain.pem"))).unwrap_or_default();
        Above { intermediates, root: read(ca.root_pem()).remove(0) }
    }

    fn issuer(&self) -> &CertificateDer<'static> {
        self.intermediates.first().unwrap_or(&self.root)
    }

    /// The first moment at which one of them has expired.
    fn end(&self) -> OffsetDateTime {
        let all = self.intermediates.iter().chain([&self.root]);
        all.map(|one| parsed(one).validity().not_after.to_datetime()).min().expect("there is a root")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_certificate_keeps_the_rules_whoever_signs_it_and_whatever_its_key_is() {
    let api = ApiServer::shared().await;
    let (own, mut callers) = (api.namespace("chains").await, Vec::new());
    for name in ["chains-a", "chains-b"] {
        let namespace = api.namespace(name).await;
        for account in ["web", "default", "a.b-c.0"] {
            namespace.service_account(account).await;
            let token = namespace.token(account, None, AUDIENCE, 3600).await;
            callers.push((format!("/ns/{}/sa/{account}", namespace.name), token));
        }
    }
    let strategy = cases(callers.len(), &requests());
    let mut runner = TestRunner::deterministic();
    let mut draw = || strategy.new_tree(&mut runner).expect("nothing is filtered out").current();

    let under_each = CAS.map(|(trust_domain, made)| {
        let drawn: Vec<Case> = (0..PER_CA).map(|_| draw()).collect();
        let (own, callers) = (&own, &callers);
        async move {
            let made = made.map(|options| hierarchy(&[&["--trust-domain", trust_domain], options].concat()));
            let mut options = vec!["--trust-domain", trust_domain, "--max-leaf-lifetime", "7d"];
            let files = made.as_ref().map(Hierarchy::options);
            options.extend(files.iter().flatten());
            let ca = Ca::start(api, own, &options).await;
            under(&ca, made.as_ref(), trust_domain, callers, &drawn).await
        }
    });
    let serials = join_all(under_each).await.concat();

    assert_eq!(serials.len(), CAS.len() * PER_CA);
    assert_eq!(
        serials.iter().collect::<BTreeSet<_>>().len(),
        serials.len(),
        "a serial number was used twice"
    );
    // Bits that never change are not drawn at random.
    let low: Vec<u128> =
        serials.iter().map(|serial| serial.iter().fold(0, |n, &byte| n << 8 | u128::from(byte))).collect();
    let ever = low.iter().fold(0, |set, one| set | one) & low.iter().fold(0, |set, one| set | !one);
    assert!(ever.count_ones() >= 64, "only {} bits of the serial numbers ever change", ever.count_ones());
}

/// Has one CA answer all `drawn` cases, checks each answer, and returns the serial numbers.
async fn under(
    ca: &Ca,
    made: Option<&Hierarchy>,
    trust_domain: &str,
    callers: &[(String, String)],
    drawn: &[Case],
) -> Vec<Vec<u8>> {
    let (above, bundle, mut leaves) = (Above::of(ca, made), ca.bundle(), Vec::new());
    for case in drawn {
        let (path, token) = &callers[case.caller];
        let before = OffsetDateTime::now_utc() - Duration::SECOND;
        let answer = ca.create(Some(token), &case.csr, case.seconds).await;
        let answer = answer.unwrap_or_else(|status| panic!("{case:?}: {status}; the log:\n{}", ca.log()));
        let meant = Meant {
            id: format!("spiffe://{trust_domain}{path}"),
            spki: spki(&case.csr),
            issued: (before, OffsetDateTime::now_utc()),
            life: Duration::seconds(if case.seconds == 0 { 86_400 } else { case.seconds }),
        };
        leaves.push(checked(&answer, &above, &bundle, &meant));
    }
    taken_by_openssl(ca.root_pem(), &above, &leaves);
    leaves.iter().map(|leaf| parsed(leaf).raw_serial().to_vec()).collect()
}

/// What one certificate was asked to be.
struct Meant {
    id: String,
    spki: Vec<u8>,
    /// The moments between which it was issued.
    issued: (OffsetDateTime, OffsetDateTime),
    life: Duration,
}

/// The leaf of an answer that is right in everything.
fn checked(answer: &[String], above: &Above, bundle: &TrustBundle, meant: &Meant) -> CertificateDer<'static> {
    // One certificate an element, leaf first, roots last.
    let elements: Vec<_> = answer
        .iter()
        .map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).expect("each element of an answer is PEM"))
        .collect();
    let (leaf, rest) = elements.split_first().expect("an answer is not empty");
    assert_eq!(rest, [above.intermediates.as_slice(), std::slice::from_ref(&above.root)].concat());

    assert_eq!(broken_rules(leaf, above.issuer(), meant), [] as [&str; 0], "{meant_id}", meant_id = meant.id);
    let end = parsed(leaf).validity().not_after.to_datetime();
    assert!(end <= above.end(), "the leaf outlives what signed it");

    let chain =
        CertificateChain::from_ders(elements[..elements.len() - 1].iter().cloned()).expect("it is a chain");
    let verified = chain.verify(bundle, OffsetDateTime::now_utc()).map(|id| id.to_string());
    assert_eq!(verified.as_deref(), Ok(meant.id.as_str()));
    assert_eq!(burgrave::x509::lint::leaf(chain.leaf()), []);
    leaf.clone()
}

/// All `leaves` at once, for each purpose.
fn taken_by_openssl(root_pem: &str, above: &Above, leaves: &[CertificateDer<'_>]) {
    let dir = scratch("verify");
    let write = |name: &str, pem: &str| -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, pem).expect("a scratch can be written to");
        path
    };
    let root = write("root.pem", root_pem);
    let chain: String = above.intermediates.iter().map(|one| crafted::pem("CERTIFICATE", one)).collect();
    let chain = (!chain.is_empty()).then(|| write("chain.pem", &chain));
    let number = |(at, leaf): (usize, &CertificateDer<'_>)| {
        write(&format!("{at}.pem"), &crafted::pem("CERTIFICATE", leaf))
    };
    let files: Vec<_> = leaves.iter().enumerate().map(number).collect();
    for purpose in ["sslserver", "sslclient"] {
        openssl_verify(purpose, &root, chain.as_deref(), &files)
            .unwrap_or_else(|said| panic!("{purpose}: {said}"));
    }
}

fn openssl_verify(purpose: &str, root: &Path, chain: Option<&Path>, files: &[PathBuf]) -> Result<(), String> {
    let mut command = Command::new(tools::openssl());
    command
        .args(["verify", "-x509_strict", "-purpose", purpose, "-no-CApath", "-no-CAstore", "-CAfile"])
        .arg(root);
    if let Some(chain) = chain {
        command.arg("-untrusted").arg(chain);
    }
    let output = command.args(files).output().expect("openssl can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    let good = said.lines().filter(|line| line.ends_with(": OK")).count();
    match output.status.success() && good == files.len() {
        true => Ok(()),
        false => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    let (rest, certificate) = X509Certificate::from_der(der).expect("a certificate can be read");
    assert!(rest.is_empty(), "there are bytes after its end");
    certificate
}

fn spki(csr_pem: &str) -> Vec<u8> {
    let der = csr_der(csr_pem);
    let (_, csr) = X509CertificationRequest::from_der(&der).expect("the story's own request is PKCS#10");
    csr.certification_request_info.subject_pki.raw.to_vec()
}

// === the rules, read independently ===

/// The rules that `leaf`, signed by `issuer`, breaks: SPIFFE's (X-…), RFC 5280's, and what was meant.
fn broken_rules(leaf: &[u8], issuer: &[u8], meant: &Meant) -> Vec<&'static str> {
    let (leaf, issuer) = (parsed(leaf), parsed(issuer));
    let mut broken = Vec::new();
    let mut rule = |name, holds: bool| {
        if !holds {
            broken.push(name);
        }
    };

    rule("version 3", leaf.version().0 == 2);
    let serial = leaf.raw_serial();
    rule("serial of more than 64 bits", serial.len() > 8 && serial.len() <= 20);
    rule("serial is positive", serial[0] < 0x80 && serial.iter().any(|&byte| byte != 0));
    rule("one signature algorithm", leaf.signature_algorithm == leaf.tbs_certificate.signature);
    rule("signed by its issuer", leaf.verify_signature(Some(issuer.public_key())).is_ok());
    rule("the issuer's name byte for byte", leaf.issuer().as_raw() == issuer.subject().as_raw());
    rule("the request's key byte for byte", leaf.public_key().raw == meant.spki);
    rule("no extension twice", leaf.extensions_map().is_ok());
    rule(
        "every extension can be read",
        leaf.extensions().iter().all(|one| !one.parsed_extension().unsupported()),
    );
    times(&leaf, &issuer, meant, &mut rule);
    names(&leaf, &issuer, meant, &mut rule);
    usages(&leaf, &issuer, &mut rule);

    let id = leaf.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    rule("subject key identifier", id.is_some_and(|id| (8..=32).contains(&id.len())));
    let issuers = issuer.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    let authority = leaf.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    rule("authority key identifier", authority.is_some() && authority == issuers);
    rule(
        "key identifiers are not critical",
        leaf.extensions().iter().all(|one| {
            !one.critical
                || (one.oid != oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER
                    && one.oid != oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER)
        }),
    );
    broken
}

fn times(
    leaf: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    meant: &Meant,
    rule: &mut impl FnMut(&'static str, bool),
) {
    let (mine, theirs) = (leaf.validity(), issuer.validity());
    let (from, to) = (mine.not_before.to_datetime(), mine.not_after.to_datetime());
    let (first, last) = meant.issued;
    rule("valid when it is issued", from <= last && last <= to);
    rule("backdated by five minutes at most", first - from <= Duration::minutes(5));
    rule("not valid before its issuer", from >= theirs.not_before.to_datetime());
    rule("ends with its issuer at last", to <= theirs.not_after.to_datetime());
    rule("no longer life than asked for", to <= last + meant.life);
    rule("no shorter life than asked for", to >= (first + meant.life).min(theirs.not_after.to_datetime()));
    rule("UTCTime until 2049", mine.not_before.is_utctime() && mine.not_after.is_utctime());
}

fn names(
    leaf: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    meant: &Meant,
    rule: &mut impl FnMut(&'static str, bool),
) {
    let uris = |of: &X509Certificate<'_>| -> Vec<String> {
        let names = of.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        names
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None })
            .collect()
    };
    let mine = uris(leaf);
    rule("X-1", mine.len() == 1 && mine[0].starts_with("spiffe://"));
    let path = |uri: &str| {
        uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).map(|(_, path)| path.len())
    };
    rule("X-2", mine.iter().all(|uri| path(uri).is_some_and(|length| length > 0)));
    rule("exactly the caller's identity", mine == [meant.id.as_str()]);
    let names = leaf.subject_alternative_name().ok().flatten();
    rule("no other name", names.as_ref().is_some_and(|names| names.value.general_names.len() == 1));
    let no_subject = leaf.subject().as_raw() == [0x30, 0];
    rule("no subject", no_subject);
    rule("X-3", !no_subject || names.is_some_and(|names| names.critical));

    let trust_domain = |uri: &str| uri.split('/').nth(2).map(str::to_owned);
    let theirs = uris(issuer);
    rule("X-4", theirs.iter().all(|uri| path(uri).is_none() && trust_domain(uri) == trust_domain(&meant.id)));
}

fn usages(
    leaf: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    rule: &mut impl FnMut(&'static str, bool),
) {
    let constraints = |of: &X509Certificate<'_>| {
        of.basic_constraints().ok().flatten().map(|found| (found.critical, found.value.ca))
    };
    rule("X-6", constraints(leaf).is_none_or(|(_, ca)| !ca) && constraints(issuer) == Some((true, true)));

    let usage = leaf.key_usage().ok().flatten();
    let theirs = issuer.key_usage().ok().flatten();
    let critical = |usage: &Option<_>| {
        usage.as_ref().is_some_and(|usage: &x509_parser::prelude::BasicExtension<_>| usage.critical)
    };
    rule("X-8", critical(&usage) && critical(&theirs));
    rule("X-9", theirs.is_some_and(|usage| usage.value.key_cert_sign()));
    rule(
        "X-10",
        usage.as_ref().is_some_and(|usage| {
            usage.value.digital_signature() && !usage.value.key_cert_sign() && !usage.value.crl_sign()
        }),
    );
    let rsa = leaf.public_key().algorithm.algorithm == oid_registry::OID_PKCS1_RSAENCRYPTION;
    rule(
        "key transport for RSA only",
        rsa || usage.is_some_and(|usage| !usage.value.key_encipherment() && !usage.value.data_encipherment()),
    );

    let purposes = leaf.extended_key_usage().ok().flatten();
    rule(
        "X-11",
        purposes.as_ref().is_some_and(|purposes| purposes.value.server_auth && purposes.value.client_auth),
    );
    rule(
        "no other purpose",
        purposes.is_some_and(|purposes| {
            let value = purposes.value;
            !value.any
                && !value.code_signing
                && !value.email_protection
                && !value.time_stamping
                && !value.ocsp_signing
                && value.other.is_empty()
        }),
    );
}

// === a life that would outlast its issuer's ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_ends_with_what_signed_it_and_the_log_says_so() {
    let api = ApiServer::shared().await;
    let namespace = api.namespace("clamped").await;
    namespace.service_account("web").await;
    let token = namespace.token("web", None, AUDIENCE, 3600).await;
    let brief = hierarchy(&[]);
    brief.reissue(|params| {
        params.not_before = OffsetDateTime::now_utc() - Duration::MINUTE;
        params.not_after = OffsetDateTime::now_utc() + Duration::minutes(10);
    });
    let plugged_in = brief.options();
    for options in [&["--root-lifetime", "10m"], &plugged_in] {
        let ca = Ca::start(api, &namespace, options).await;
        let made = options.contains(&"--ca-dir").then_some(&brief);
        let end = Above::of(&ca, made).end();
        for (seconds, clamped) in [(3600, true), (300, false), (0, true)] {
            let answer =
                ca.create(Some(&token), &crafted::csr(), seconds).await.expect("a good request is answered");
            let leaf = CertificateDer::from_pem_slice(answer[0].as_bytes()).expect("an answer is PEM");
            let not_after = parsed(&leaf).validity().not_after.to_datetime();
            assert_eq!(
                not_after == end,
                clamped,
                "{seconds} s asked for, {not_after} given, and the issuer ends at {end}"
            );
            let intended = ca.audit("intended");
            let last = intended.last().expect("an intent is on record");
            assert_eq!(last["clamped_to_issuer"], clamped, "{last}");
            let id = text(last, "request_id");
            let warned = ca.events().iter().any(|event| {
                text(event, "level") == "WARN"
                    && text(event, "request_id") == id
                    && text(event, "message").contains("renew the issuer")
            });
            assert_eq!(warned, clamped, "{}", ca.log());
        }
    }
}

// === the reading itself ===

#[test]
fn the_reading_finds_each_rule_broken() {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).expect("zero is a nanosecond");
    let (key, ca_key) =
        (KeyPair::generate().expect("ring makes keys"), KeyPair::generate().expect("ring makes keys"));
    let meant = Meant {
        id: "spiffe://td/ns/a/sa/b".to_owned(),
        spki: rcgen::PublicKeyData::subject_public_key_info(&key),
        issued: (now, now),
        life: Duration::HOUR,
    };
    let uri = |text: &str| rcgen::SanType::URI(text.try_into().expect("a URI is ASCII"));
    let good_ca = || {
        let mut params = ca_params("an issuer");
        params.not_before = now - Duration::HOUR;
        params.not_after = now + Duration::DAY;
        params.subject_alt_names = vec![uri("spiffe://td")];
        params
    };
    let good = || {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x41; 16]));
        params.not_before = now - Duration::MINUTE;
        params.not_after = now + Duration::HOUR;
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri("spiffe://td/ns/a/sa/b")];
        params.use_authority_key_identifier_extension = true;
        params
    };
    let issue = |params: CertificateParams, key: &KeyPair, ca: CertificateParams| {
        let root = ca.self_signed(&ca_key).expect("the parameters make a certificate");
        let leaf = params
            .signed_by(key, &rcgen::Issuer::new(ca, &ca_key))
            .expect("the parameters make a certificate");
        (leaf.der().to_vec(), root.der().to_vec())
    };
    let (leaf, root) = issue(good(), &key, good_ca());
    assert_eq!(broken_rules(&leaf, &root, &meant), [] as [&str; 0]);

    type Change<'a> = (&'static str, &'a dyn Fn(&mut CertificateParams));
    let raw = |oid: &[u64], der: &[u8]| rcgen::CustomExtension::from_oid_content(oid, der.to_vec());
    let table: [Change<'_>; 20] = [
        ("serial of more than 64 bits", &|one| one.serial_number = Some(vec![7; 8].into())),
        ("serial is positive", &|one| one.serial_number = Some(vec![0; 9].into())),
        ("valid when it is issued", &|one| one.not_before = now + Duration::MINUTE),
        ("valid when it is issued", &|one| one.not_after = now - Duration::SECOND),
        ("backdated by five minutes at most", &|one| one.not_before = now - Duration::minutes(6)),
        ("not valid before its issuer", &|one| one.not_before = now - Duration::DAY),
        ("ends with its issuer at last", &|one| one.not_after = now + 2 * Duration::DAY),
        ("no longer life than asked for", &|one| one.not_after += Duration::SECOND),
        ("no shorter life than asked for", &|one| one.not_after -= Duration::SECOND),
        ("X-1", &|one| one.subject_alt_names.push(uri("spiffe://td/other"))),
        ("X-1", &|one| one.subject_alt_names = vec![uri("https://td/x")]),
        ("X-2", &|one| one.subject_alt_names = vec![uri("spiffe://td")]),
        ("exactly the caller's identity", &|one| one.subject_alt_names = vec![uri("spiffe://td/ns/a/sa/c")]),
        ("no other name", &|one| {
            one.subject_alt_names.push(rcgen::SanType::DnsName("b.a".try_into().expect("a name is ASCII")));
        }),
        ("no subject", &|one| one.distinguished_name.push(rcgen::DnType::CommonName, "b")),
        ("X-3", &|one| {
            one.subject_alt_names.clear();
            one.custom_extensions = vec![raw(&[2, 5, 29, 17], b"\x30\x17\x86\x15spiffe://td/ns/a/sa/b")];
        }),
        ("X-6", &|one| one.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ("X-8", &|one| {
            one.key_usages.clear();
            one.custom_extensions = vec![raw(&[2, 5, 29, 15], &[3, 2, 7, 0x80])];
        }),
        ("key transport for RSA only", &|one| one.key_usages.push(rcgen::KeyUsagePurpose::KeyEncipherment)),
        ("authority key identifier", &|one| one.use_authority_key_identifier_extension = false),
    ];
    let purposes: [Change<'_>; 7] = [
        ("X-8", &|one| one.key_usages.clear()),
        ("X-10", &|one| one.key_usages = vec![rcgen::KeyUsagePurpose::KeyAgreement]),
        ("X-10", &|one| one.key_usages.push(rcgen::KeyUsagePurpose::KeyCertSign)),
        ("X-10", &|one| one.key_usages.push(rcgen::KeyUsagePurpose::CrlSign)),
        ("X-11", &|one| one.extended_key_usages.clear()),
        ("X-11", &|one| drop(one.extended_key_usages.pop())),
        ("no other purpose", &|one| {
            one.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::CodeSigning)
        }),
    ];
    for (rule, change) in table.into_iter().chain(purposes) {
        let mut params = good();
        change(&mut params);
        let (leaf, root) = issue(params, &key, good_ca());
        let found = broken_rules(&leaf, &root, &meant);
        assert!(found.contains(&rule), "{rule} is broken, and only {found:?} was found");
    }

    let above: [Change<'_>; 5] = [
        ("X-4", &|ca| ca.subject_alt_names = vec![uri("spiffe://td/path")]),
        ("X-4", &|ca| ca.subject_alt_names = vec![uri("spiffe://other")]),
        ("X-6", &|ca| ca.is_ca = rcgen::IsCa::ExplicitNoCa),
        ("X-8", &|ca| ca.key_usages.clear()),
        ("X-9", &|ca| ca.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]),
    ];
    for (rule, change) in above {
        let mut ca = good_ca();
        change(&mut ca);
        let (leaf, root) = issue(good(), &key, ca);
        let found = broken_rules(&leaf, &root, &meant);
        assert!(found.contains(&rule), "{rule} is broken above the leaf, and only {found:?} was found");
    }

    let another = KeyPair::generate().expect("ring makes keys");
    let (leaf, _) = issue(good(), &another, good_ca());
    assert!(broken_rules(&leaf, &root, &meant).contains(&"the request's key byte for byte"));
    let stranger = ca_params("a stranger").self_signed(&another).expect("the parameters make a certificate");
    let found = broken_rules(&leaf, stranger.der(), &meant);
    for rule in ["signed by its issuer", "the issuer's name byte for byte", "authority key identifier"] {
        assert!(found.contains(&rule), "{rule} is broken, and only {found:?} was found");
    }
}
