//! How long do a thousand pods wait for their certificates when all ask at once, and what does one cost?
//!
//! The API server checks and stores each answer, so its pace is the limit: the same number of ready-made answers, written by
//! as many hands and over the same kind of connection, is the bare figure that the signer's is divided by. The two take turns
//! on the same API server. The machine may be noisy: of the times only the ratio means something.

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
#[path = "../tests/stories/pod_signer.rs"]
mod pod_signer;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use burgrave::attest::ApiPod;
use burgrave::attest::ClaimedPod;
use burgrave::census::Census;
use burgrave::clock::Clock;
use burgrave::issuance::Asked;
use burgrave::issuance::Encoded;
use burgrave::issuance::GrantPolicy;
use burgrave::issuance::issue_to;
use burgrave::signer::Issuer;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use kube::Resource;
use kube::api::PostParams;
use pod_signer::PodOf;
use pod_signer::Setup;
use pod_signer::Signer;
use pod_signer::TRUST_DOMAIN;
use pod_signer::object;
use pod_signer::pod;
use pod_signer::profile;
use pod_signer::request;
use pod_signer::requests;
use pod_signer::root_issuer;
use pod_signer::signer_name;
use serde_json::Value;
use serde_json::json;
use support::apiserver::ApiServer;
use support::apiserver::NODE;
use support::apiserver::Namespace;
use support::figure;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;

const REQUESTS: usize = 1000;
const PODS: usize = 20;
/// As many as the signer has.
const AT_ONCE: usize = 16;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let api = ApiServer::start().await;
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let signed = signed(&api).await;
        let bare = bare(&api).await;
        println!(
            "round {round}: {REQUESTS} requests in {:.2} s, {:.2} ms CPU each; bare writes in {:.2} s, {:.2} ms each",
            signed.0, signed.1, bare.0, bare.1
        );
        rounds.push((signed, bare));
    }
    // The first warms the API server.
    rounds.remove(0);
    let took = median(rounds.iter().map(|(signed, _)| signed.0));
    let cpu = median(rounds.iter().map(|(signed, _)| signed.1));
    let ratio = median(rounds.iter().map(|(signed, bare)| signed.0 / bare.0));
    figure("pod_certificates_1000_s", format!("{took:.2}"), "s");
    figure("pod_certificate_cpu_ms", format!("{cpu:.2}"), "ms");
    figure("pod_certificates_over_bare", format!("{ratio:.2}"), "ratio");
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds until a leader who finds the requests waiting has answered them all, and milliseconds of CPU for each.
async fn signed(api: &ApiServer) -> (f64, f64) {
    let namespace = api.namespace("bench").await;
    let mut signer = Signer::elected(api, &namespace, Setup::new(&signer_name(&namespace))).await;
    ask(api, &namespace, &signer.name).await;
    counted(async {
        signer.run();
        while signer.counted("issued", "") < REQUESTS as f64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            signer.counted("waiting", "api_server"),
            0.0,
            "figures of repeated writes would mean nothing"
        );
    })
    .await
}

/// The same for the writes alone.
async fn bare(api: &ApiServer) -> (f64, f64) {
    let namespace = api.namespace("bench").await;
    let setup = Setup::new(&signer_name(&namespace));
    let issuer = Arc::new(root_issuer(OffsetDateTime::now_utc(), 1000));
    let signer = Signer::elected(api, &namespace, setup).await;
    let mut hands: Vec<Vec<(String, Vec<u8>)>> = vec![Vec::new(); AT_ONCE];
    for (number, (made, pod)) in ask(api, &namespace, &signer.name).await.into_iter().enumerate() {
        hands[number % AT_ONCE].push(ready_made(&issuer, &namespace, made, &pod).await);
    }
    let path = PodCertificateRequest::url_path(&(), Some(&namespace.name));
    counted(async {
        let mut writers = JoinSet::new();
        for updates in hands {
            let (client, path) = (signer.parts.client.clone(), path.clone());
            writers.spawn(async move {
                for (name, body) in updates {
                    let mut update = kube::core::Request::new(&path)
                        .replace_subresource("status", &name, &PostParams::default(), body)
                        .expect("it is a request");
                    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
                    update.headers_mut().insert("accept", accept.parse().expect("it is a header"));
                    client.request_text(update).await.expect("the API server takes a ready-made answer");
                }
            });
        }
        writers.join_all().await;
    })
    .await
}

/// Makes all requests, by as many hands, and returns them with their pods.
async fn ask(
    api: &ApiServer,
    namespace: &Namespace,
    signer_name: &str,
) -> Vec<(PodCertificateRequest, PodOf)> {
    let stub = crafted::csr_der(&crafted::csr());
    let mut pods = Vec::new();
    for number in 0..PODS {
        pods.push(pod(api, namespace, signer_name, &format!("web-{number}")).await);
    }
    let mut asking = JoinSet::new();
    for hand in 0..AT_ONCE {
        let client = requests(api.admin(), namespace);
        let (pods, stub, signer_name) = (pods.clone(), stub.clone(), signer_name.to_owned());
        asking.spawn(async move {
            let mut made = Vec::new();
            for number in (hand..REQUESTS).step_by(AT_ONCE) {
                let pod = &pods[number % PODS];
                let asked = object(request(&signer_name, pod, &stub));
                let one = client.create(&PostParams::default(), &asked).await.expect("an admin may ask");
                made.push((one, pod.clone()));
            }
            made
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

/// Name and body of an answer with a real certificate.
async fn ready_made(
    issuer: &Arc<Issuer>,
    namespace: &Namespace,
    made: PodCertificateRequest,
    pod: &PodOf,
) -> (String, Vec<u8>) {
    let live: ApiPod = object(json!({
        "metadata": {"name": pod.name, "namespace": namespace.name, "uid": pod.uid},
        "spec": {"serviceAccountName": pod.account, "nodeName": NODE},
    }));
    let claimed = ClaimedPod {
        namespace: namespace.name.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        service_account: pod.account.clone(),
        node: NODE.to_owned(),
    };
    let caller = claimed.attest(&live.into()).expect("it is that pod");
    let csr = Encoded::Der(&made.spec.stub_pkc_s10_request.0);
    let asked = Asked { id: "bench", csr, lifetime: 0, for_another: false, by_files: true };
    let day = profile(24);
    let policy = GrantPolicy::new(TRUST_DOMAIN.parse().expect("it is a trust domain"), day);
    let now = OffsetDateTime::now_utc();
    let census = Census::in_memory(Clock::system());
    let issued =
        issue_to(&caller, asked, &policy, issuer.clone(), &census, now).await.expect("it can be issued");
    let tell = |at: OffsetDateTime| Value::from(at.format(&Rfc3339).expect("it is a time"));
    let metadata = made.metadata;
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": {
            "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        },
        "status": {
            "conditions": [{
                "type": "Issued", "status": "True", "reason": "Issued", "message": "",
                "lastTransitionTime": tell(issued.not_before),
            }],
            "certificateChain": issued.without_roots().concat(),
            "notBefore": tell(issued.not_before),
            "notAfter": tell(issued.not_after),
            "beginRefreshAt": tell(issued.not_before + time::Duration::minutes(30)),
        },
    });
    (metadata.name.expect("an object has a name"), body.to_string().into_bytes())
}

/// Seconds that `work` takes, and milliseconds of this process's CPU for each request.
async fn counted(work: impl Future<Output = ()>) -> (f64, f64) {
    let (before, start) = (process_cpu_ms(), Instant::now());
    work.await;
    (start.elapsed().as_secs_f64(), (process_cpu_ms() - before) / REQUESTS as f64)
}

/// User and system time of this process, to the kernel's tick of 10 ms.
fn process_cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux tells a process's CPU time");
    // The name, in parentheses, may hold anything; what follows it are numbers.
    let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a tick count");
    (ticks(11) + ticks(12)) * 10.0
}
