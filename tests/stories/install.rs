//! `burgrave install check` tells the truth of a real cluster: before `deploy/` is applied, afterwards, and when a right is
//! taken away.

use crate::ca::binary;
use crate::ca::until;
use crate::home::Home;
use crate::home::NAMESPACE;
use crate::home::apply;
use crate::home::objects;
use crate::home::until_state;
use crate::support::Scratch;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::ISSUER;
use crate::support::scratch;

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Patch;
use kube::api::PatchParams;
use serde_json::Value;
use serde_json::json;
use tokio::process::Command;

/// Somebody who runs the check.
struct Person {
    kubeconfig: PathBuf,
    _dir: Scratch,
}

/// What a check has said.
struct Said {
    code: Option<i32>,
    report: Value,
}

impl Person {
    /// Somebody to whom roles of these names are bound: in the whole cluster, and in the authority's namespace.
    async fn with(api: &ApiServer, wide: &str, narrow: Option<&str>) -> Person {
        let people = api.namespace("people").await;
        people.service_account("somebody").await;
        let subjects = json!([{ "kind": "ServiceAccount", "name": "somebody", "namespace": people.name }]);
        let binding = |kind: &str, role: &str, name: &str| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": format!("{kind}Binding"),
                "metadata": { "name": format!("{name}-{}", people.name) },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
                "subjects": subjects,
            })
        };
        apply(&api.admin(), &binding("ClusterRole", wide, "wide")).await;
        if let Some(narrow) = narrow {
            let mut binding = binding("Role", narrow, "narrow");
            binding["metadata"]["namespace"] = json!(NAMESPACE);
            apply(&api.admin(), &binding).await;
        }
        let dir = scratch("person");
        let token = people.token("somebody", None, ISSUER, 3600).await;
        Person { kubeconfig: api.kubeconfig(&dir, &token), _dir: dir }
    }

    async fn check(&self) -> Said {
        let output = Command::new(binary())
            .args(["install", "check", "--output", "json", "--kubeconfig"])
            .arg(&self.kubeconfig)
            .output()
            .await
            .expect("the program runs");
        let text = String::from_utf8(output.stdout).expect("it is text");
        let report = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr));
        });
        Said { code: output.status.code(), report }
    }
}

impl Said {
    /// What has to be put right.
    fn wrong(&self) -> Vec<&Value> {
        let findings = self.report["findings"].as_array().expect("there are findings");
        findings
            .iter()
            .filter(|one| !["ok", "warning"].contains(&one["state"].as_str().unwrap_or("")))
            .collect()
    }
}

/// A cluster in which the authority runs, as far as it can without nodes.
async fn settled() -> (Home, crate::ca::Ca) {
    let home = Home::start().await;
    let ca = home.replica(&[]).await;
    until_state(&ca, "all namespaces", |state| state["distribution"]["pending"] == 0).await;
    // There is no controller manager that counts replicas.
    let status = json!({ "status": {
        "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
    } });
    let deployments = home.of::<Deployment>(NAMESPACE);
    let counted =
        deployments.patch_status("burgrave-ca", &PatchParams::default(), &Patch::Merge(&status)).await;
    counted.expect("an admin may say so");
    (home, ca)
}

/// All that a role says, each as a rule of its own.
fn single_rules(role: &Value) -> Vec<Value> {
    let words = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut single = Vec::new();
    for rule in words(&role["rules"]) {
        let names = match words(&rule["resourceNames"]) {
            names if names.is_empty() => vec![Value::Null],
            names => names,
        };
        for (group, resource) in words(&rule["apiGroups"]).iter().flat_map(|group| {
            words(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource))
        }) {
            for name in &names {
                for verb in words(&rule["verbs"]) {
                    let mut one = json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] });
                    if !name.is_null() {
                        one["resourceNames"] = json!([name]);
                    }
                    single.push(one);
                }
            }
        }
    }
    single
}

/// A single rule as a finding tells it.
fn permission(rule: &Value) -> Value {
    json!({
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0],
        "name": rule["resourceNames"][0],
        "verb": rule["verbs"][0],
    })
}

/// Whether what is told is what a rule is about; a rule that names no object is about any.
fn is_about(told: &Value, rule: &Value) -> bool {
    ["group", "resource", "verb"].iter().all(|field| told[field] == rule[field])
        && (rule["name"].is_null() || told["name"] == rule["name"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_it_is_applied_every_object_is_missing_and_the_cluster_can_carry_it() {
    let api = ApiServer::start().await;
    let said = Person::with(&api, "cluster-admin", None).await;
    let said = until("the right to look", Duration::from_secs(20), async || {
        let said = said.check().await;
        if said.report.to_string().contains("cannot-look") { Err(said.report.to_string()) } else { Ok(said) }
    })
    .await;
    assert_eq!((said.code, &said.report["ok"]), (Some(3), &json!(false)));
    assert!(said.wrong().iter().all(|one| one["state"] == "missing"), "{}", said.report);
    for object in objects() {
        let named = said.wrong().into_iter().filter(|one| {
            one["kind"] == object["kind"]
                && one["name"] == object["metadata"]["name"]
                && one["fix"].as_str().is_some_and(|fix| fix.contains("kubectl apply -k"))
        });
        assert_eq!(named.count(), 1, "{object}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_right_is_taken_from_a_role_it_is_named_and_nothing_else_is() {
    let (home, _ca) = settled().await;
    let admin = home.api.admin();
    let person = Person::with(&home.api, "cluster-admin", None).await;
    until("a cluster in which nothing is missing", Duration::from_secs(30), async || {
        let said = person.check().await;
        if said.code == Some(0) { Ok(()) } else { Err(format!("{:?}", said.wrong())) }
    })
    .await;
    for role in objects().iter().filter(|object| object["rules"].is_array()) {
        let single = single_rules(role);
        for (at, gone) in single.iter().enumerate() {
            let mut left = single.clone();
            left.remove(at);
            let mut lacking = role.clone();
            lacking["rules"] = json!(left);
            apply(&admin, &lacking).await;
            let said = person.check().await;
            let wrong = said.wrong();
            assert_eq!((said.code, wrong.len()), (Some(3), 1), "{gone}: {wrong:?}");
            assert_eq!((&wrong[0]["kind"], &wrong[0]["name"]), (&role["kind"], &role["metadata"]["name"]));
            assert_eq!(wrong[0]["permission"], permission(gone));
        }
        apply(&admin, role).await;
    }
    assert_eq!(person.check().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_may_look_at_everything_and_is_told_which_right_is_missing_for_more() {
    let (home, _ca) = settled().await;
    let admin = home.api.admin();
    let nobody = Person::with(&home.api, "system:basic-user", None).await;
    for person in ["burgrave-viewer", "burgrave-operator"] {
        let person = Person::with(&home.api, person, Some(person)).await;
        until("a person who may look at everything", Duration::from_secs(30), async || {
            let said = person.check().await;
            if said.code == Some(0) { Ok(()) } else { Err(format!("{:?}", said.wrong())) }
        })
        .await;
    }
    let said = nobody.check().await;
    assert_eq!(said.code, Some(3));
    assert!(said.wrong().iter().all(|one| one["state"] == "cannot-look" && one["permission"].is_object()));

    let viewer = Person::with(&home.api, "burgrave-viewer", Some("burgrave-viewer")).await;
    let is_viewer = |role: &&Value| role["metadata"]["name"] == "burgrave-viewer" && role["rules"].is_array();
    for role in objects().iter().filter(is_viewer) {
        let single = single_rules(role);
        // Every service account may read trust bundles, so that rule is for people, and here nobody is one. And what the
        // authority tells is asked of the authority itself, not of the API server.
        let for_us = |(_, rule): &(usize, &Value)| {
            rule["resources"][0] != "clustertrustbundles" && rule["resources"][0] != "authorities"
        };
        for (at, gone) in single.iter().enumerate().filter(for_us) {
            let mut left = single.clone();
            left.remove(at);
            let mut lacking = role.clone();
            lacking["rules"] = json!(left);
            apply(&admin, &lacking).await;
            // The authorizer learns of it through a watch, a moment later.
            until("a look that is refused", Duration::from_secs(20), async || {
                let said = viewer.check().await;
                let is_named = said.wrong().iter().any(|one| {
                    one["state"] == "cannot-look" && is_about(&one["permission"], &permission(gone))
                });
                if is_named { Ok(()) } else { Err(format!("{gone}: {:?}", said.wrong())) }
            })
            .await;
        }
        apply(&admin, role).await;
    }
}
