//! The cluster itself: what the other stories take for granted is so.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::Api;
use serde_json::Value;
use serde_json::json;

use crate::support::cluster::BURGRAVE_IMAGE;
use crate::support::cluster::Cluster;
use crate::support::cluster::ENVOY_IMAGE;
use crate::support::http;

const SOON: Duration = Duration::from_secs(60);

/// The configuration of an Envoy that answers `/` with its own name, and asks the host `other` about `/other`.
fn bootstrap(name: &str, other: &str) -> Value {
    let extension = |kind: &str| format!("type.googleapis.com/envoy.extensions.filters.{kind}");
    let address = |host: &str| json!({"socket_address": {"address": host, "port_value": 8080}});
    let answer = json!({"status": 200, "body": {"inline_string": format!("this is {name}")}});
    let routes = json!([
        {"match": {"path": "/other"}, "route": {"cluster": "other", "prefix_rewrite": "/"}},
        {"match": {"path": "/"}, "direct_response": answer},
    ]);
    let manager = json!({
        "@type": extension("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "http_filters": [{"name": "router", "typed_config": {"@type": extension("http.router.v3.Router")}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    });
    let endpoint = json!({"endpoint": {"address": address(other)}});
    json!({"static_resources": {
        "listeners": [{
            "address": address("0.0.0.0"),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }],
        "clusters": [{
            "name": "other",
            "type": "STRICT_DNS",
            "dns_lookup_family": "V4_ONLY",
            "load_assignment": {"cluster_name": "other", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }],
    }})
}

/// That Envoy in a pod, with a Service of its name before it.
fn speaker(namespace: &str, name: &str, other: &str) -> Value {
    let config = bootstrap(name, &format!("{other}.{namespace}.svc")).to_string();
    let meta = json!({"name": name, "namespace": namespace, "labels": {"app": name}});
    let container = json!({
        "name": "envoy",
        "image": ENVOY_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["--config-path", "/config/envoy.json", "--concurrency", "1", "--disable-hot-restart"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    });
    let pod =
        json!({"containers": [container], "volumes": [{"name": "config", "configMap": {"name": name}}]});
    let service = json!({"selector": {"app": name}, "ports": [{"port": 8080}]});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"envoy.json": config}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod},
    ]})
}

#[test]
fn two_pods_reach_each_other_through_a_service_by_its_name() {
    Cluster::shared().inside(async |cluster| {
        let namespace = cluster.namespace("speakers").await.name;
        for (name, other) in [("ada", "bob"), ("bob", "ada")] {
            cluster.apply(&speaker(&namespace, name, other)).await;
        }
        cluster.wait_for_pods(&namespace, "app in (ada, bob)", 2, SOON).await;

        let services = Api::<core::Service>::namespaced(cluster.admin(), &namespace);
        for (name, other) in [("ada", "bob"), ("bob", "ada")] {
            let service = services.get(name).await.expect("it was just made");
            let address = service.spec.and_then(|spec| spec.cluster_ip).expect("a Service has an address");
            let ask = async |path: &str| http::get((address.as_str(), 8080), path).await;
            let told = cluster.eventually("the Service", SOON, async || ask("/").await).await;
            assert_eq!(told, format!("this is {name}"));
            let told = cluster.eventually("the other Service", SOON, async || ask("/other").await).await;
            assert_eq!(told, format!("this is {other}"), "asked through {name}");
        }
    });
}

#[test]
fn the_program_under_test_runs_in_a_pod_as_nobody_in_particular() {
    Cluster::shared().inside(async |cluster| {
        let namespace = cluster.namespace("image").await.name;
        let container = |image: &str, command: &[&str]| {
            json!({"name": image.split(['/', ':']).nth(1), "image": image, "command": command})
        };
        cluster
            .apply(&json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "once", "namespace": namespace},
                "spec": {
                    "restartPolicy": "Never",
                    "securityContext": {"runAsNonRoot": true},
                    "containers": [
                        container(BURGRAVE_IMAGE, &["/burgrave", "--version"]),
                        container(ENVOY_IMAGE, &["sh", "-c", "cat /proc/self/status; cat /etc/resolv.conf; openssl version"]),
                    ],
                },
            }))
            .await;
        let ask = ["get", "pod", "once", "--namespace", &namespace, "--output=jsonpath={.status.phase}"];
        cluster
            .eventually("the pod's end", SOON, async || {
                let phase = cluster.kubectl(&ask).await;
                if phase == "Succeeded" { Ok(()) } else { Err(phase) }
            })
            .await;
        let version = cluster.log(&namespace, "once", "burgrave").await;
        assert!(version.starts_with(concat!("burgrave ", env!("CARGO_PKG_VERSION"))), "{version}");
        let told = cluster.log(&namespace, "once", "envoy").await;
        for part in ["Uid:\t65532", "nameserver 198.18.0.1", "OpenSSL 3"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    });
}

#[test]
fn an_api_server_and_a_kubelet_that_are_killed_come_back_with_all_they_knew() {
    Cluster::start().inside(async |cluster| {
        let namespace = cluster.namespace("survivors").await;
        let pod = namespace.pod("lasting", "default").await;
        labelled(cluster, &namespace.name, "lasting").await;
        let before = cluster.wait_for_pods(&namespace.name, "app=lasting", 1, SOON).await;
        let process = cluster.process_of(&pod.uid, "pause");
        let (apiserver, kubelet) = (cluster.part("kube-apiserver"), cluster.part("kubelet"));

        cluster.kill_apiserver();
        cluster.kill_kubelet();
        cluster.until_ready().await;

        assert_ne!(cluster.part("kube-apiserver"), apiserver);
        assert_ne!(cluster.part("kubelet"), kubelet);
        let after = cluster.wait_for_pods(&namespace.name, "app=lasting", 1, SOON).await;
        assert_eq!(before[0].metadata.uid, after[0].metadata.uid);
        assert_eq!(restarts(&after[0]), 0, "a pod outlives its kubelet");
        assert_eq!(cluster.process_of(&pod.uid, "pause"), process);

        cluster.stop_apiserver();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let away = cluster.try_kubectl(&["get", "nodes", "--request-timeout=2s"]).await;
        assert!(away.is_err(), "the API server is away for as long as a story wants: {away:?}");
        cluster.start_apiserver();
        cluster.until_ready().await;
    });
}

#[test]
fn a_failing_story_fails_its_test_and_leaves_every_pods_log() {
    let cluster = Cluster::shared();
    let namespace = cluster.inside(async |cluster| {
        let namespace = cluster.namespace("evidence").await.name;
        let pod = |name: &str, script: &str| {
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
                "spec": {"containers": [
                    {"name": "main", "image": ENVOY_IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script]},
                ]},
            })
        };
        cluster.apply(&pod("calm", "echo all is well; exec sleep 1000")).await;
        cluster.apply(&pod("broken", "echo this went wrong >&2; exit 3")).await;
        cluster.wait_for_pods(&namespace, "app=calm", 1, SOON).await;
        // Between its first and its second run it may be asked for at a moment when it looks well.
        let why = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
        let ask = ["get", "pod", "broken", "--namespace", &namespace, "--output", why];
        cluster
            .eventually("the broken pod to be given up for a while", SOON, async || {
                let why = cluster.kubectl(&ask).await;
                if why == "CrashLoopBackOff" { Ok(()) } else { Err(why) }
            })
            .await;
        assert_eq!(cluster.log(&namespace, "calm", "main").await, "all is well\n");
        namespace
    });

    let story = || cluster.inside(async |_| assert_eq!(1 + 1, 3, "arithmetic"));
    let panic = std::panic::catch_unwind(AssertUnwindSafe(story)).expect_err("it panicked");
    let text = panic.downcast_ref::<String>().expect("a formatted panic is text");
    assert!(text.contains("arithmetic"), "{text}");

    let kept = evidence_of(cluster, &namespace);
    let read = |name: &str| std::fs::read_to_string(kept.join(name)).expect(name);
    assert_eq!(read(&format!("{namespace}_calm_main_0.log")), "all is well\n");
    assert_eq!(read(&format!("{namespace}_broken_main_1.log")), "this went wrong\n");
    assert!(read("pods").contains("198.18."), "the pods, with their addresses");
    assert!(read("events").contains("Started"), "the events: {}", read("events"));
    let unready = read("unready-pods");
    assert!(unready.contains("broken") && unready.contains("Exit Code:    3"), "{unready}");
    assert!(!unready.contains("calm"), "what is ready is not described: {unready}");
    assert!(!read("part-kubelet.log").is_empty(), "the node's own parts");
    std::fs::remove_dir_all(&kept).expect("it is ours");
}

#[test]
fn a_kubelet_asks_for_a_pod_certificate_and_the_pod_waits_for_it() {
    Cluster::shared().inside(async |cluster| {
        let namespace = cluster.namespace("certificates").await.name;
        let source = json!({"podCertificate": {
            "signerName": "example.test/nobody",
            "keyType": "ECDSAP256",
            "credentialBundlePath": "bundle.pem",
        }});
        let container = json!({
            "name": "main",
            "image": ENVOY_IMAGE,
            "imagePullPolicy": "Never",
            "command": ["sleep", "1000"],
            "volumeMounts": [{"name": "certificate", "mountPath": "/certificate"}],
        });
        let volume = json!({"name": "certificate", "projected": {"sources": [source]}});
        cluster
            .apply(&json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "asks", "namespace": namespace},
                "spec": {"containers": [container], "volumes": [volume]},
            }))
            .await;

        let kind = "podcertificaterequests.v1.certificates.k8s.io";
        let list = ["get", kind, "--output=json", "--namespace", &namespace];
        let request = cluster
            .eventually("the kubelet's request", SOON, async || {
                let list: Value =
                    serde_json::from_str(&cluster.kubectl(&list).await).expect("kubectl prints JSON");
                list["items"].get(0).cloned().ok_or_else(|| "there is none".to_owned())
            })
            .await;
        let spec = &request["spec"];
        assert_eq!(spec["signerName"], "example.test/nobody");
        assert_eq!((&spec["podName"], &spec["nodeName"]), (&"asks".into(), &"node-1".into()));
        assert!(spec["stubPKCS10Request"].is_string(), "the kubelet proves that it has the key: {spec:#}");

        let pods = Api::<core::Pod>::namespaced(cluster.admin(), &namespace);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let pod = pods.get("asks").await.expect("it was made");
        assert_eq!(pod.status.and_then(|status| status.phase).as_deref(), Some("Pending"), "nobody signs");
    });
}

/// Gives a pod the label `app` by which it is waited for.
async fn labelled(cluster: &Cluster, namespace: &str, pod: &str) {
    cluster.kubectl(&["label", "pod", pod, &format!("app={pod}"), "--namespace", namespace]).await;
}

fn restarts(pod: &core::Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// The directory that tells of that namespace; it stands beside the cluster's own.
fn evidence_of(cluster: &Cluster, namespace: &str) -> PathBuf {
    let scratches = cluster.dir().parent().expect("a scratch stands among others");
    let folders = std::fs::read_dir(scratches).expect("it is there").flatten().map(|entry| entry.path());
    let tells = |folder: &PathBuf| folder.join(format!("{namespace}_calm_main_0.log")).exists();
    folders.into_iter().find(tells).expect("evidence was kept")
}
