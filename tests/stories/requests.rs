//! What a request asks for beyond a certificate for its key is refused or ignored, as documented; nothing is signed that
//! should not be.

use crate::ca::AUDIENCE;
use crate::ca::Ca;
use crate::ca::Client;
use crate::ca::connect;
use crate::ca::text;
use crate::ca::trusting;
use crate::crafted;
use crate::crafted::csr_by_openssl;
use crate::crafted::csr_der;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::Namespace;
use crate::support::random_hex;

use std::collections::BTreeSet;
use std::sync::Arc;

use burgrave::x509::CertificateChain;
use rustls::ProtocolVersion;
use serde_json::Value;
use time::Duration;
use time::OffsetDateTime;
use tonic::Code;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

const EC: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// A CA of one story, and a caller with a good token: `web` of a namespace of its own.
struct Stage {
    ca: Ca,
    token: String,
    spiffe_id: String,
}

impl Stage {
    async fn set(name: &str, options: &[&str]) -> Stage {
        let api = ApiServer::shared().await;
        let namespace: Namespace = api.namespace(name).await;
        namespace.service_account("web").await;
        let pod = namespace.pod("web-1", "web").await;
        let token = namespace.token("web", Some(&pod), AUDIENCE, 3600).await;
        let spiffe_id = format!("spiffe://cluster.local/ns/{}/sa/web", namespace.name);
        Stage { ca: Ca::start(api, &namespace, options).await, token, spiffe_id }
    }

    /// A certificate for that request. It is the caller's, for the request's key, and verifies.
    async fn issued(&self, what: &str, csr: &str, seconds: i64) -> CertificateChain {
        let before = self.ca.issued().await;
        let answer = self.ca.create(Some(&self.token), csr, seconds).await;
        let answer = answer.unwrap_or_else(|status| panic!("{what}: {status}; the log:\n{}", self.ca.log()));
        assert_eq!(self.ca.issued().await, before + 1.0, "{what}");
        let chain = CertificateChain::from_pem(answer[0].as_bytes())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let verified = chain.verify(&self.ca.bundle(), OffsetDateTime::now_utc());
        assert_eq!(verified.as_ref().map(ToString::to_string), Ok(self.spiffe_id.clone()), "{what}");
        let facts = chain.leaf().facts();
        assert_eq!(facts.spki, spki_of(csr), "{what}: the key is not the request's, byte for byte");
        assert_eq!(burgrave::x509::lint::leaf(chain.leaf()), [], "{what}");
        chain
    }

    /// No certificate for that request: the caller is told that the request is bad, and the operator why.
    async fn refused(&self, what: &str, reason: &str, csr: &str, seconds: i64) {
        let (issued, counted) = (self.ca.issued().await, self.ca.refused(reason).await);
        let intended = self.ca.audit("intended").len();
        let Err(status) = self.ca.create(Some(&self.token), csr, seconds).await else {
            panic!("{what}: a certificate was issued")
        };
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        let refusals = self.ca.audit("refused");
        let last = refusals.last().expect("a refusal is written down");
        assert_eq!(text(last, "reason"), reason, "{what}: {last}");
        assert!(status.message().contains(text(last, "request_id")), "{what}: {status}");
        assert!(!status.message().contains(text(last, "error")), "{what}: {status}");
        assert_eq!(self.ca.refused(reason).await, counted + 1.0, "{what}");
        assert_eq!(self.ca.issued().await, issued, "{what}: something was signed");
        assert_eq!(self.ca.audit("intended").len(), intended, "{what}: something was to be signed");
    }
}

/// The key of a request, read by x509-parser here and not by Burgrave.
fn spki_of(csr_pem: &str) -> Vec<u8> {
    let der = csr_der(csr_pem);
    let (_, csr) = X509CertificationRequest::from_der(&der).expect("the story's own request is PKCS#10");
    csr.certification_request_info.subject_pki.raw.to_vec()
}

/// The same request with one bit of its signature turned.
fn with_broken_signature(csr_pem: &str) -> String {
    let mut der = csr_der(csr_pem);
    *der.last_mut().expect("a request is not empty") ^= 1;
    crafted::pem("CERTIFICATE REQUEST", &der)
}

/// The same request for another key than the one that signed it.
fn with_another_key(csr_pem: &str) -> String {
    let (der, mine, theirs) = (csr_der(csr_pem), spki_of(csr_pem), spki_of(&crafted::csr()));
    let at = der.windows(mine.len()).position(|window| window == mine).expect("the key is in it");
    crafted::pem("CERTIFICATE REQUEST", &[&der[..at], &theirs, &der[at + mine.len()..]].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_not_what_it_should_be_is_refused_and_nothing_is_signed() {
    let stage = Stage::set("bad-requests", &[]).await;
    let good = crafted::csr();
    let with = |more: &[&str]| csr_by_openssl(&[&EC, more].concat());
    let noise = |length: usize| random_hex(length / 2);
    let block =
        |label: &str, content: &str| format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n");
    let mut longer = csr_der(&good);
    longer.push(0);

    let ca_true = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign"];
    let table: [(&str, &str, String); 20] = [
        ("a turned bit in the signature", "csr_signature", with_broken_signature(&good)),
        ("the key of somebody else", "csr_signature", with_another_key(&good)),
        ("RSA-1024", "csr_signature", csr_by_openssl(&["-newkey", "rsa:1024"])),
        ("RSA-2032", "csr_signature", csr_by_openssl(&["-newkey", "rsa:2032"])),
        ("a CA certificate", "csr_wants_to_be_a_ca", with(&ca_true)),
        (
            "a CA with a path length",
            "csr_wants_to_be_a_ca",
            with(&["-addext", "basicConstraints=CA:TRUE,pathlen:0"]),
        ),
        ("P-521", "csr_algorithm", csr_by_openssl(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"])),
        (
            "secp256k1",
            "csr_algorithm",
            csr_by_openssl(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]),
        ),
        ("a curve in parameters", "csr_algorithm", with(&["-pkeyopt", "ec_param_enc:explicit"])),
        ("SHA-1", "csr_algorithm", with(&["-sha1"])),
        ("RSA with SHA-1", "csr_algorithm", csr_by_openssl(&["-newkey", "rsa:2048", "-sha1"])),
        (
            "RSA-PSS",
            "csr_algorithm",
            csr_by_openssl(&["-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss"]),
        ),
        ("nothing", "csr_malformed", String::new()),
        ("an empty block", "csr_malformed", block("CERTIFICATE REQUEST", "")),
        ("half a request", "csr_malformed", good[..good.len() / 2].to_owned()),
        ("a byte after its end", "csr_malformed", crafted::pem("CERTIFICATE REQUEST", &longer)),
        ("a certificate", "csr_malformed", stage.ca.root_pem().to_owned()),
        ("10 KB of noise", "csr_malformed", noise(10_000)),
        ("10 KB of noise in a block", "csr_malformed", block("CERTIFICATE REQUEST", &noise(10_000))),
        ("20 KB of noise", "csr_too_large", noise(20_000)),
    ];
    for (what, reason, csr) in &table {
        stage.refused(what, reason, csr, 60).await;
    }

    // A megabyte does not even get as far as the request's own checks.
    let issued = stage.ca.issued().await;
    let huge =
        stage.ca.create(Some(&stage.token), &noise(1_000_000), 60).await.expect_err("a megabyte is too much");
    assert_eq!(huge.code(), Code::OutOfRange, "{huge}");
    assert_eq!(stage.ca.issued().await, issued);

    // After all that, the same connection still serves.
    stage.issued("a good request", &good, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_request_only_the_key_is_taken() {
    let stage = Stage::set("requests", &[]).await;
    let with = |more: &[&str]| csr_by_openssl(&[&EC, more].concat());
    let curve = |name: &'static str, digest: &'static str| {
        csr_by_openssl(&["-newkey", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{name}"), digest])
    };
    let foreign = "subjectAltName=URI:spiffe://cluster.local/ns/kube-system/sa/admin,DNS:kubernetes.default.svc,IP:10.0.0.1";
    let table = [
        ("Burgrave's own", crafted::csr()),
        ("foreign names", with(&["-addext", foreign])),
        (
            "critical foreign names and no subject",
            with(&["-subj", "/", "-addext", &foreign.replace('=', "=critical,")]),
        ),
        ("two URI names", with(&["-addext", "subjectAltName=URI:spiffe://a/b,URI:spiffe://c/d"])),
        (
            "an unknown extension",
            with(&["-addext", "1.3.6.1.4.1.55555.1=critical,ASN1:UTF8String:let me in"]),
        ),
        ("other purposes", with(&["-addext", "extendedKeyUsage=codeSigning,1.3.6.1.4.1.55555.2"])),
        ("other key usage", with(&["-addext", "keyUsage=critical,keyCertSign,cRLSign"])),
        ("CA:FALSE", with(&["-addext", "basicConstraints=critical,CA:FALSE"])),
        ("name constraints", with(&["-addext", "nameConstraints=permitted;DNS:.example.org"])),
        ("a multi-valued RDN", with(&["-multivalue-rdn", "-subj", "/DC=org+OU=b+CN=c/CN=d+OU=e"])),
        ("text around it", format!("to whom it may concern\n{}\nyours\n", crafted::csr())),
        ("P-256 signed with SHA-384", curve("P-256", "-sha384")),
        ("P-384 signed with SHA-256", curve("P-384", "-sha256")),
        ("P-384", curve("P-384", "-sha384")),
        ("Ed25519", csr_by_openssl(&["-newkey", "ed25519"])),
        ("RSA-2048", csr_by_openssl(&["-newkey", "rsa:2048"])),
        ("RSA-2048 signed with SHA-512", csr_by_openssl(&["-newkey", "rsa:2048", "-sha512"])),
        ("RSA-3072", csr_by_openssl(&["-newkey", "rsa:3072"])),
    ];
    for (what, csr) in &table {
        let chain = stage.issued(what, csr, 600).await;
        let facts = chain.leaf().facts();
        assert_eq!(facts.uris, std::slice::from_ref(&stage.spiffe_id), "{what}");
        assert!(facts.dns_names.is_empty() && facts.ip_addresses.is_empty() && !facts.other_names, "{what}");
        assert_eq!(facts.subject, [0x30, 0], "{what}");
        let seen = extensions(chain.leaf().der());
        assert_eq!(seen, PROFILE, "{what}");
    }
}

/// The extensions of every leaf: key usage, purposes, basic constraints, both key identifiers, names.
const PROFILE: [&str; 6] = ["2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.35", "2.5.29.37"];

fn extensions(der: &[u8]) -> Vec<String> {
    let (_, leaf) = x509_parser::parse_x509_certificate(der).expect("it has been read before");
    let mut oids: Vec<_> = leaf.extensions().iter().map(|extension| extension.oid.to_id_string()).collect();
    oids.sort();
    oids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_above_the_maximum_is_refused_and_none_asked_for_is_the_default() {
    let options = ["--leaf-lifetime", "10m", "--max-leaf-lifetime", "1h", "--backdate", "90s"];
    let stage = Stage::set("lifetimes", &options).await;
    let csr = crafted::csr();
    for (asked, granted) in
        [(0, 600), (-1, 600), (i64::MIN, 600), (1, 1), (60, 60), (3599, 3599), (3600, 3600)]
    {
        let before = OffsetDateTime::now_utc() - Duration::SECOND;
        // A life of a second is over before it could be verified.
        let answer = stage.ca.create(Some(&stage.token), &csr, asked).await;
        let answer = answer.unwrap_or_else(|status| panic!("{asked} s: {status}"));
        let after = OffsetDateTime::now_utc();
        let chain = CertificateChain::from_pem(answer[0].as_bytes()).expect("an answer is PEM");
        let facts = chain.leaf().facts();
        let issued_at = facts.not_after - Duration::seconds(granted);
        assert!((before..=after).contains(&issued_at), "{asked} s: {issued_at}");
        assert_eq!(issued_at - facts.not_before, Duration::seconds(90), "{asked} s");
    }
    for asked in [3601, 86_400, i64::from(u32::MAX), i64::MAX] {
        stage.refused(&format!("{asked} s"), "lifetime_above_maximum", &csr, asked).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_certificates_for_one_key_have_different_serials_and_each_intent_is_on_record() {
    let stage = Stage::set("serials", &[]).await;
    let csr = crafted::csr();
    let mut serials = BTreeSet::new();
    for _ in 0..5 {
        serials.insert(stage.issued("one key", &csr, 600).await.leaf().facts().serial.to_string());
    }
    assert_eq!(serials.len(), 5);
    let of = |event: &Value| text(event, "serial").to_owned();
    for kind in ["intended", "issued"] {
        let events = stage.ca.audit(kind);
        let written: BTreeSet<_> = events.iter().map(of).collect();
        assert!(written.is_superset(&serials), "{kind}: {written:?} lacks some of {serials:?}");
    }
    let events = stage.ca.audit("intended");
    let last = events.last().expect("five were intended");
    assert_eq!(text(last, "spiffe_id"), stage.spiffe_id);
    assert_eq!((text(last, "pod"), text(last, "node")), ("web-1", crate::support::apiserver::NODE));
    assert!(text(last, "credential_id").starts_with("JTI="), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_tls_are_spoken_with_http2_and_nothing_else() {
    let stage = Stage::set("tls", &[]).await;
    let (api, root) = (stage.ca.plan().api, stage.ca.root_pem());
    for (version, name) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let tls = trusting(root, &[version]);
        let connection = connect(api, Arc::new(tls.clone())).await.expect("the handshake succeeds");
        let (_, session) = connection.get_ref();
        assert_eq!(session.protocol_version(), Some(name));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        let client = Client::over(api, tls.clone());
        client.create(Some(&stage.token), &crafted::csr(), 60).await.expect("a good request is answered");

        let mut old = tls;
        old.alpn_protocols = vec![b"http/1.1".to_vec()];
        let refused = connect(api, Arc::new(old)).await.map(|_| ()).expect_err("only HTTP/2 is spoken");
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    }
    // Another CA's root does not do.
    let stranger = Stage::set("tls-other", &[]).await;
    let tls = trusting(stranger.ca.root_pem(), rustls::ALL_VERSIONS);
    let refused = connect(api, Arc::new(tls)).await.map(|_| ()).expect_err("the root is another one");
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
}
