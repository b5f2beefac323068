//! What does a certificate cost?
//!
//! 1. In process, on one core: from the request's PEM to the chain's PEM, over the bare verification and signature with the
//!    same keys, in batches that alternate in one run. 1.0 is the limit; what is above it is parsing, encoding and linting.
//! 2. Over the wire: CPU of a real `burgrave ca`, for each request that a real API server has reviewed the token of, on
//!    warm connections and with a new one each.
//!
//! The machine may be noisy: CPU time is counted, not wall time, and of (1) only the ratio means something.

#![allow(missing_docs, reason = "a bench has no readers of its API")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench reads the real clock, and fails by panicking"
)]

#[path = "../tests/stories/ca.rs"]
mod ca;
#[path = "../tests/stories/crafted.rs"]
mod crafted;
#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use burgrave::attest::Attested;
use burgrave::attest::Attestor;
use burgrave::attest::Credentials;
use burgrave::attest::JwtAttestor;
use burgrave::clock::Clock;
use burgrave::issuance::GrantPolicy;
use burgrave::issuance::Profile;
use burgrave::issuance::prepare;
use burgrave::signer::FileSigner;
use burgrave::signer::Issuer;
use burgrave::signer::Signer;
use burgrave::x509::Csr;
use burgrave::x509::PrivateKey;
use burgrave::x509::TrustBundle;
use burgrave::x509::root;
use burgrave::x509::serial;
use ring::signature::KeyPair;
use rustls_pki_types::SignatureVerificationAlgorithm;
use serde_json::json;
use support::apiserver::ApiServer;
use support::figure;

const HOUR: Duration = Duration::from_secs(3600);
/// Batches of each kind, and what is in one: about 4 ms.
const BATCHES: usize = 151;
const IN_A_BATCH: usize = 50;

const WARM_REQUESTS: usize = 6000;
const FRESH_REQUESTS: usize = 1500;
const CONNECTIONS: usize = 8;
const CALLERS: usize = 16;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let caller = runtime.block_on(caller());
    signing_core(&caller);
    runtime.block_on(over_the_wire());
}

// === in process ===

fn signing_core(caller: &Attested) {
    let now = Clock::system().now();
    let domain: burgrave::identity::TrustDomain = "cluster.local".parse().expect("it is a trust domain");
    let key = PrivateKey::generate().expect("there is randomness");
    let certificate = root::self_signed(&key, &domain, now - HOUR, 1000 * HOUR).expect("a root can be made");
    let signer: Arc<dyn Signer> = Arc::new(FileSigner::new(&key).expect("P-256 signs"));
    let bundle = TrustBundle::new(vec![certificate.clone()]).expect("it is a root");
    let issuer = Arc::new(Issuer::new(signer.clone(), vec![certificate], bundle, now).expect("they match"));
    let profile = Profile::new(Duration::from_secs(120), 24 * HOUR, 24 * HOUR).expect("it makes sense");
    let policy = GrantPolicy::new(domain, profile);
    let csr = PrivateKey::generate().expect("there is randomness").csr_pem().expect("it signs its request");

    let issue = || {
        let request = Csr::from_pem(csr.as_bytes()).and_then(Csr::verify).expect("it is a good request");
        let grant = policy.grant(caller, 0).expect("the caller may have it");
        let serial = serial::draw().expect("there is randomness");
        let prepared = prepare(request, grant, policy.profile(), issuer.clone(), serial, now);
        prepared.expect("it can be prepared").sign().expect("it can be signed")
    };
    let (point, signed, signature) = parts(&csr);
    let message = [0x5a; 400];
    let bare = || {
        let algorithm: &dyn SignatureVerificationAlgorithm = webpki::ring::ECDSA_P256_SHA256;
        algorithm.verify_signature(&point, &signed, &signature).expect("the request is signed");
        signer.sign(&message).expect("it can be signed")
    };

    let mut ratios = Vec::with_capacity(BATCHES);
    let (mut issue_us, mut bare_us) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        let (one, other) = (batch(|| drop(black_box(issue()))), batch(|| drop(black_box(bare()))));
        ratios.push(one / other);
        issue_us.push(one);
        bare_us.push(other);
    }
    println!(
        "CSR PEM to chain PEM: {:.1} us; bare verify and sign: {:.1} us (medians of {BATCHES} batches of {IN_A_BATCH})",
        median(&mut issue_us),
        median(&mut bare_us)
    );
    figure("signing_core_over_bare", format!("{:.3}", median(&mut ratios)), "ratio");
}

/// Public key, signed bytes and signature of a P-256 request.
fn parts(csr_pem: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    use x509_parser::prelude::FromDer;
    let der = burgrave::x509::pem::csr(csr_pem.as_bytes()).expect("it is PEM");
    let parsed = x509_parser::certification_request::X509CertificationRequest::from_der(&der);
    let (_, parsed) = parsed.expect("it is a request");
    let info = &parsed.certification_request_info;
    (
        info.subject_pki.subject_public_key.data.to_vec(),
        info.raw.to_vec(),
        parsed.signature_value.data.to_vec(),
    )
}

/// Microseconds of this thread's CPU for one run, over a batch.
fn batch(mut run: impl FnMut()) -> f64 {
    let before = thread_cpu_ns();
    for _ in 0..IN_A_BATCH {
        run();
    }
    (thread_cpu_ns() - before) as f64 / 1e3 / IN_A_BATCH as f64
}

/// The kernel brings the count up to date when the thread leaves the processor, so it leaves it for a moment.
fn thread_cpu_ns() -> u64 {
    std::thread::sleep(Duration::from_micros(1));
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's CPU time");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("the first number is nanoseconds")
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A caller, proven once: attestation is not part of the signing core.
async fn caller() -> Attested {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 =
        ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("there is randomness");
    let key =
        ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("it is a key");
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y}]}).to_string();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": "bench", "aud": ["istio-ca"], "sub": "system:serviceaccount:default:bench", "exp": 4_000_000_000_i64,
    });
    let signed = format!("{}.{}", part(json!({"alg": "ES256", "kid": "k"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(&random, signed.as_bytes()).expect("it signs"));
    let attestor = JwtAttestor::new("bench".to_owned(), &keys, vec!["istio-ca".to_owned()], Clock::system());
    let shown = Credentials { token: Some(format!("{signed}.{signature}")) };
    attestor.expect("there is a key").attest(&shown).await.expect("the token is good")
}

// === over the wire ===

async fn over_the_wire() {
    let api = ApiServer::start().await;
    let namespace = api.namespace("bench").await;
    let ca = ca::Ca::start(&api, &namespace, &[]).await;
    namespace.service_account("bench").await;
    let pod = namespace.pod("bench-0", "bench").await;
    let token = namespace.token("bench", Some(&pod), ca::AUDIENCE, 3600).await;
    let csr = crafted::csr();

    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| ca::Client::over(ca.plan().api, ca::trusting(ca.root_pem(), rustls::ALL_VERSIONS)))
        .collect();
    // Warm-up: connections, allocator, the API server's caches.
    storm(&clients, &token, &csr, 500).await;
    let (cpu, wall) = counted(&ca, storm(&clients, &token, &csr, WARM_REQUESTS)).await;
    figure("issue_warm_cpu_ms", format!("{:.3}", cpu / WARM_REQUESTS as f64), "ms");
    figure("issue_warm_per_s", format!("{:.0}", WARM_REQUESTS as f64 / wall), "1/s");

    let address = ca.plan().api;
    let root = ca.root_pem().to_owned();
    let (cpu, wall) = counted(&ca, async {
        let left = Arc::new(AtomicUsize::new(FRESH_REQUESTS));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let (left, token, csr, root) = (left.clone(), token.clone(), csr.clone(), root.clone());
            callers.spawn(async move {
                while take(&left) {
                    let client = ca::Client::over(address, ca::trusting(&root, rustls::ALL_VERSIONS));
                    client.create(Some(&token), &csr, 0).await.expect("a good request is answered");
                }
            });
        }
        callers.join_all().await;
    })
    .await;
    figure("issue_fresh_cpu_ms", format!("{:.3}", cpu / FRESH_REQUESTS as f64), "ms");
    figure("issue_fresh_per_s", format!("{:.0}", FRESH_REQUESTS as f64 / wall), "1/s");
    assert_eq!(ca.audit("refused").len(), 0, "figures of refused requests would mean nothing");
}

async fn storm(clients: &[ca::Client], token: &str, csr: &str, requests: usize) {
    let left = Arc::new(AtomicUsize::new(requests));
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..CALLERS {
        let client = clients[number % clients.len()].clone();
        let (left, token, csr) = (left.clone(), token.to_owned(), csr.to_owned());
        callers.spawn(async move {
            while take(&left) {
                let chain = client.create(Some(&token), &csr, 0).await.expect("a good request is answered");
                assert_eq!(chain.len(), 2);
            }
        });
    }
    callers.join_all().await;
}

fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// Milliseconds of the CA's CPU and seconds that `work` takes.
async fn counted(ca: &ca::Ca, work: impl Future<Output = ()>) -> (f64, f64) {
    let (before, start) = (process_cpu_ms(ca.part().pid()), Instant::now());
    work.await;
    (process_cpu_ms(ca.part().pid()) - before, start.elapsed().as_secs_f64())
}

/// User and system time of a process, to the kernel's tick of 10 ms.
fn process_cpu_ms(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the CA runs");
    // The name, in parentheses, may hold anything; what follows it are numbers.
    let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a tick count");
    (ticks(11) + ticks(12)) * 10.0
}
