use serde_json::Value;
use serde_json::json;

use super::*;

fn pod(name: &str, labels: &Value, owner: &Value) -> ApiPod {
    let owners = if owner.is_null() { json!([]) } else { json!([owner]) };
    let pod = json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": labels, "ownerReferences": owners,
        },
        "spec": { "serviceAccountName": "web", "nodeName": "n1" },
    });
    serde_json::from_value(pod).unwrap()
}

fn owner(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true })
}

fn service(name: &str, selector: &Value, labels: &Value) -> Service {
    let service = json!({
        "metadata": { "name": name, "namespace": "shop", "labels": labels }, "spec": { "selector": selector },
    });
    serde_json::from_value(service).unwrap()
}

fn known() -> Workloads {
    let mut known = Workloads::new("cluster.local".to_owned());
    known.pods_begin();
    known.pods_complete();
    known.services_begin();
    known.services_complete();
    known
}

fn of(known: &Workloads, name: &str) -> Arc<Workload> {
    known.workload("shop", name, &format!("uid-{name}")).unwrap()
}

#[test]
fn a_workload_is_named_after_what_made_its_pods() {
    let mut known = known();
    for (name, labels, owner, said) in [
        ("web-6d4b-x", json!({ "pod-template-hash": "6d4b" }), owner("ReplicaSet", "web-6d4b"), "web"),
        ("bare-6d4b-x", json!({}), owner("ReplicaSet", "bare-6d4b"), "bare-6d4b"),
        ("db-0", json!({ "pod-template-hash": "0" }), owner("StatefulSet", "db-0"), "db-0"),
        ("alone", json!({}), Value::Null, "alone"),
    ] {
        known.pod_there(&pod(name, &labels, &owner));
        assert_eq!(of(&known, name).name, said);
    }
}

#[test]
fn services_that_select_a_pod_lead_to_it_whichever_is_seen_first() {
    let mut known = known();
    let pod = pod("web-0", &json!({ "app": "web", "tier": "front" }), &Value::Null);
    known.service_there(&service("web", &json!({ "app": "web" }), &json!({})));
    known.pod_there(&pod);
    known.service_there(&service("front", &json!({ "app": "web", "tier": "front" }), &json!({})));
    known.service_there(&service("other", &json!({ "app": "other" }), &json!({})));
    known.service_there(&service("headless", &json!(null), &json!({})));
    assert_eq!(of(&known, "web-0").services, ["front.shop.svc.cluster.local", "web.shop.svc.cluster.local"]);
    known.service_gone(&service("web", &json!(null), &json!({})));
    assert_eq!(of(&known, "web-0").services, ["front.shop.svc.cluster.local"]);
    // A list that begins anew and does not show it.
    known.services_begin();
    known.services_complete();
    assert_eq!(of(&known, "web-0").services, Vec::<String>::new());
}

#[test]
fn a_pod_that_was_made_anew_under_its_old_name_is_another() {
    let mut known = known();
    known.pod_there(&pod("web-0", &json!({}), &Value::Null));
    assert!(known.workload("shop", "web-0", "uid-web-0").is_some());
    assert!(known.workload("shop", "web-0", "another").is_none());
    assert!(known.workload("other", "web-0", "uid-web-0").is_none());
    known.pod_gone(&pod("web-0", &json!({}), &Value::Null));
    assert!(known.workload("shop", "web-0", "uid-web-0").is_none());
}

#[test]
fn what_is_shown_again_as_it_was_is_no_change_and_pods_that_are_alike_are_one_workload() {
    let mut known = known();
    let labels = json!({ "app": "web" });
    for name in ["web-0", "web-1"] {
        known.pod_there(&pod(name, &labels, &owner("StatefulSet", "web")));
    }
    assert_eq!(known.take_changed(), ["shop".to_owned()].into());
    assert_eq!(known.of("shop").len(), 1);
    known.pods_begin();
    known.pod_there(&pod("web-0", &labels, &owner("StatefulSet", "web")));
    known.service_there(&service("other", &json!({ "app": "other" }), &json!({})));
    assert_eq!(known.take_changed(), BTreeSet::new());
    known.pods_complete();
    assert_eq!(known.take_changed(), ["shop".to_owned()].into(), "the other pod is gone");
    assert!(known.is_complete());
}

#[test]
fn gateways_and_waypoints_are_known_by_their_labels() {
    let mut known = known();
    let gateway = json!({ "gateway.networking.k8s.io/gateway-name": "edge" });
    let waypoint = json!({
        "gateway.networking.k8s.io/gateway-name": "way", "gateway.istio.io/managed": "istio.io-mesh-controller",
    });
    known.pod_there(&pod("edge-0", &gateway, &Value::Null));
    known.pod_there(&pod("way-0", &waypoint, &Value::Null));
    known.service_there(&service(
        "web",
        &json!({ "app": "web" }),
        &json!({ "istio.io/use-waypoint": "way" }),
    ));
    assert_eq!(of(&known, "edge-0").proxy, Proxy::Gateway { name: "edge".to_owned() });
    let services = vec![("Service".to_owned(), "shop".to_owned(), "web".to_owned())];
    let class = "istio-waypoint".to_owned();
    assert_eq!(of(&known, "way-0").proxy, Proxy::Waypoint { name: "way".to_owned(), class, services });
}
