//! A cluster in which all is well, and ways to spoil it.

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use time::Duration;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::install::decide::report;
use crate::install::expected;
use crate::install::expected::NAMESPACE;
use crate::install::facts::Facts;
use crate::install::facts::Look;
use crate::install::facts::Node;
use crate::install::findings::Finding;
use crate::install::findings::State;
use crate::x509::PrivateKey;
use crate::x509::pem;
use crate::x509::root;

pub(super) const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

pub(super) fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A bundle of one root that was made ten days ago and lives for that many.
pub(super) fn bundle(days: u64) -> String {
    let key = PrivateKey::generate().unwrap();
    let domain = "cluster.local".parse().unwrap();
    let root = root::self_signed(
        &key,
        &domain,
        NOW - Duration::days(10),
        std::time::Duration::from_secs(days * 86400),
    );
    pem::certificate(root.unwrap().der())
}

pub(super) fn trust_bundle(pem: &str) -> Look<ClusterTrustBundle> {
    Look::There(typed(json!({ "metadata": {}, "spec": { "trustBundle": pem } })))
}

pub(super) fn lease(holder: &str, renewed: &str) -> Value {
    json!({ "metadata": {}, "spec": {
        "holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15,
    } })
}

pub(super) fn pod(status: Value) -> Value {
    json!({ "metadata": { "name": "burgrave-ca-1" }, "spec": { "containers": [] }, "status": status })
}

pub(super) fn waits(reason: &str) -> Value {
    pod(json!({ "containerStatuses": [{
        "name": "ca", "image": "an/image", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": reason, "message": "so it says" } },
    }] }))
}

/// A cluster after `kubectl apply -k deploy/`, some minutes later.
pub(super) fn well() -> Facts {
    let roots = bundle(3650);
    let map = |namespace: &str| {
        typed(json!({ "metadata": { "namespace": namespace }, "data": { "root-cert.pem": roots } }))
    };
    let mut objects: Vec<_> = expected::objects(NAMESPACE)
        .into_iter()
        .map(|one| {
            let live = Look::There(one.body.clone());
            (one, live)
        })
        .collect();
    if let Some((_, Look::There(deployment))) = objects.last_mut() {
        deployment["status"] = json!({ "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 });
    }
    for (one, live) in &mut objects {
        if let Look::There(live) = live
            && one.subject.kind == "ValidatingWebhookConfiguration"
        {
            live["webhooks"][0]["clientConfig"]["caBundle"] = json!("LS0tLS1CRUdJTi");
        }
    }
    Facts {
        namespace: NAMESPACE.to_owned(),
        version: Look::There("v1.37.2".to_owned()),
        certificates: Look::There(
            ["podcertificaterequests", "clustertrustbundles"].map(str::to_owned).to_vec(),
        ),
        nodes: Look::There(vec![Node { name: "node-1".to_owned(), kubelet: "v1.37.2".to_owned() }]),
        objects,
        pods: Look::There(vec![typed(pod(json!({ "conditions": [{ "type": "Ready", "status": "True" }] })))]),
        lease: Look::There(typed(lease("one", "2026-11-23T11:59:50.000000Z"))),
        namespaces: Look::There(["burgrave-system", "default"].map(str::to_owned).to_vec()),
        config_maps: Look::There(vec![map("burgrave-system"), map("default")]),
        trust_bundle: trust_bundle(&roots),
    }
}

/// What is not as it should be.
pub(super) fn wrong(facts: &Facts) -> Vec<Finding> {
    let findings = report(facts, NOW).findings.into_iter();
    findings.filter(|finding| finding.state != State::Ok).collect()
}

/// What is wrong, each as state, subject and sentence.
pub(super) fn told(facts: &Facts) -> Vec<String> {
    let tell = |one: &Finding| format!("{:?} {}: {}", one.state, one.subject, one.says);
    wrong(facts).iter().map(tell).collect()
}

pub(super) fn live<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Look<Value> {
    let found = facts.objects.iter_mut().find(|(one, _)| one.subject.to_string() == name);
    &mut found.unwrap().1
}

/// Changes a live object at a JSON pointer.
pub(super) fn set(facts: &mut Facts, name: &str, pointer: &str, value: Value) {
    let Look::There(object) = live(facts, name) else { panic!("{name} is there") };
    *object.pointer_mut(pointer).unwrap() = value;
}
