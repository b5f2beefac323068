//! A pod gets its certificate from its kubelet: nothing of ours runs in it.

use crate::at_home::CA;
use crate::at_home::SYSTEM;
use crate::support::cluster::Cluster;
use crate::support::figure;

use std::time::Duration;
use std::time::Instant;

use burgrave::x509::CertificateChain;
use burgrave::x509::TrustBundle;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::ResourceExt;
use kube::api::ListParams;
use time::OffsetDateTime;

const NAMESPACE: &str = "burgrave-example-pod-certificate";
const IDENTITY: &str = "spiffe://cluster.local/ns/burgrave-example-pod-certificate/sa/workload";
const SOON: Duration = Duration::from_secs(90);

#[test]
fn a_pod_without_an_agent_serves_tls_with_a_certificate_that_the_kubelet_brings_and_refreshes() {
    Cluster::start().inside(async |cluster| {
        cluster.kubectl(&["apply", "-k", "deploy/"]).await;
        cluster.wait_for_pods(SYSTEM, CA, 2, SOON).await;
        let begun = Instant::now();
        cluster.kubectl(&["apply", "-k", "deploy/example-pod-certificate/"]).await;
        // The shortest life that Kubernetes allows.
        let asked = "/spec/template/spec/volumes/1/projected/sources/0/podCertificate/maxExpirationSeconds";
        let patch = format!(r#"[{{"op":"add","path":"{asked}","value":3600}}]"#);
        cluster
            .kubectl(&["patch", "deployment", "workload", "-n", NAMESPACE, "--type=json", "-p", &patch])
            .await;
        let pods = cluster.wait_for_pods(NAMESPACE, "app=workload", 1, SOON).await;
        figure("pod_certificate_to_ready_s", format!("{:.1}", begun.elapsed().as_secs_f64()), "s");
        let spec = pods[0].spec.clone().expect("a pod has a spec");
        assert_eq!(
            spec.containers.len() + spec.init_containers.map_or(0, |some| some.len()),
            1,
            "Envoy is alone"
        );

        let bundles = Api::<ClusterTrustBundle>::all(cluster.admin());
        let roots =
            bundles.get("burgrave.dev:workload:roots").await.expect("it is published").spec.trust_bundle;
        let bundle = TrustBundle::from_pem(roots.as_bytes()).expect("it holds roots");
        let first = served(cluster).await.expect("Envoy serves TLS");
        let id =
            first.verify(&bundle, OffsetDateTime::now_utc()).expect("its chain leads to a published root");
        assert_eq!(id.to_string(), IDENTITY);
        let facts = first.leaf().facts();
        assert!(
            (facts.not_after - facts.not_before).whole_seconds() == 3600,
            "its life is {}",
            facts.not_after - facts.not_before
        );
        let asked = requests(cluster).await;
        let status = asked.last().and_then(|last| last.status.clone()).expect("it was answered");
        let at = |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| -> Timestamp {
            time.expect("all three times are set together").0
        };
        let (begin, end, refresh) =
            (at(status.not_before), at(status.not_after), at(status.begin_refresh_at));
        let share =
            (refresh.as_second() - begin.as_second()) as f64 / (end.as_second() - begin.as_second()) as f64;
        assert!((0.35..0.65).contains(&share), "the refresh begins after {share} of the life");

        // A kubelet keeps keys in memory only: after its restart it asks anew for every pod, and replaces the files.
        cluster.kill_kubelet();
        cluster.until_ready().await;
        let killed = Instant::now();
        let second = cluster
            .eventually("another certificate in use", Duration::from_secs(240), async || {
                let now = served(cluster).await?;
                if now.leaf() == first.leaf() { Err("still the first".to_owned()) } else { Ok(now) }
            })
            .await;
        figure("pod_certificate_refresh_s", format!("{:.1}", killed.elapsed().as_secs_f64()), "s");
        assert_ne!(second.leaf().facts().spki, first.leaf().facts().spki, "the key is another one");
        second.verify(&bundle, OffsetDateTime::now_utc()).expect("its chain leads to a published root too");
        let pods = cluster.wait_for_pods(NAMESPACE, "app=workload", 1, SOON).await;
        let restarts =
            pods[0].status.clone().and_then(|status| status.container_statuses).unwrap_or_default();
        assert!(restarts.iter().all(|container| container.restart_count == 0), "nothing was restarted");
        // Both ends of its mTLS with itself use the new one.
        let address = crate::at_home::address_of(&pods[0]);
        let answered = crate::support::http::get((address.as_str(), 8080), "/").await;
        assert!(answered.is_ok(), "{answered:?}");
        crate::at_home::nothing_secret_is_told(cluster).await;
    });
}

/// The chain that Envoy shows at its TLS port.
async fn served(cluster: &Cluster) -> Result<CertificateChain, String> {
    let script = "openssl s_client -connect 127.0.0.1:8443 -showcerts </dev/null 2>&1; true";
    let told =
        cluster.try_kubectl(&["exec", "-n", NAMESPACE, "deploy/workload", "--", "sh", "-c", script]).await?;
    CertificateChain::from_pem(told.as_bytes()).map_err(|error| format!("{error}: {told}"))
}

/// The requests for certificates of the workload's pod, newest last.
async fn requests(cluster: &Cluster) -> Vec<PodCertificateRequest> {
    let api = Api::<PodCertificateRequest>::namespaced(cluster.admin(), NAMESPACE);
    let mut found = api.list(&ListParams::default()).await.expect("an admin may list").items;
    found.sort_by_key(|request| request.creation_timestamp().map(|time| time.0));
    assert!(!found.is_empty(), "the kubelet asked");
    found
}
