//! The rights that `deploy/` hands out are all needed: take any one away, and something is missed and says so.

use crate::ca::binary;
use crate::ca::until;
use crate::home::ACCOUNT;
use crate::home::CONFIG_MAP;
use crate::home::Home;
use crate::home::NAMESPACE;
use crate::home::SECRET;
use crate::home::TRUST_BUNDLE;
use crate::home::apply;
use crate::home::objects;
use crate::pod_signer;
use crate::support::scratch;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::DeleteParams;
use kube::api::ListParams;
use kube::api::Patch;
use kube::api::PatchParams;
use kube::api::PostParams;
use serde_json::Value;
use serde_json::json;

const SIGNER: &str = "burgrave.dev/workload";

/// One right: a role, and one verb on one resource that it grants.
struct Right {
    role: Value,
    rule: usize,
    group: String,
    resource: String,
    name: Option<String>,
    verb: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_right_of_the_ca_is_taken_away_it_says_which_and_install_check_names_it() {
    let home = Home::start().await;
    let dir = scratch("rights");
    let admin = home.api.admin_kubeconfig(&dir);
    let rights = rights();
    assert!(rights.len() >= 20, "{} rights are too few to be all", rights.len());
    let mut unneeded = Vec::new();
    for right in &rights {
        clean(&home).await;
        apply(&home.api.admin(), &right.lesser()).await;
        in_force(&home, right, false).await;
        let named = checked(&admin);
        if !right.is_named_in(&named) {
            unneeded.push(format!("{right}: `install check` does not name it: {named}"));
        }
        if let Err(told) = missed(&home, right).await {
            unneeded.push(format!("{right}: nothing was missed: {told}"));
        }
        apply(&home.api.admin(), &right.role).await;
        in_force(&home, right, true).await;
    }
    assert!(unneeded.is_empty(), "{}", unneeded.join("\n\n"));
    assert!(!checked(&admin).contains("may not"), "with all of them none is missing");
}

/// Every right of the CA's own roles.
fn rights() -> Vec<Right> {
    let mut rights = Vec::new();
    for role in objects() {
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        let is_role = matches!(role["kind"].as_str(), Some("Role" | "ClusterRole"));
        if !is_role || !matches!(name, "burgrave-issuer" | "burgrave-controller") {
            continue;
        }
        for (rule, text) in role["rules"].as_array().into_iter().flatten().enumerate() {
            let [group] = strings(&text["apiGroups"]).try_into().expect("a rule of ours is for one group");
            let [resource] = strings(&text["resources"]).try_into().expect("and for one resource");
            for verb in strings(&text["verbs"]) {
                let (role, group, resource) = (role.clone(), group.clone(), resource.clone());
                let name = strings(&text["resourceNames"]).pop();
                rights.push(Right { role, rule, group, resource, name, verb });
            }
        }
    }
    rights
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = self.role["metadata"]["name"].as_str().unwrap_or_default();
        write!(f, "{role}: {} {}/{} {:?}", self.verb, self.group, self.resource, self.name)
    }
}

impl Right {
    /// The role without it.
    fn lesser(&self) -> Value {
        let mut role = self.role.clone();
        let verbs = role["rules"][self.rule]["verbs"].as_array_mut().expect("a rule has verbs");
        verbs.retain(|verb| *verb != self.verb.as_str());
        if verbs.is_empty() {
            role["rules"].as_array_mut().expect("a role has rules").remove(self.rule);
        }
        role
    }

    /// Whether a text is about this right: in the API server's words, or in ours.
    fn is_named_in(&self, text: &str) -> bool {
        let resource = match self.resource.as_str() {
            // The API server speaks of signers by their name alone.
            "signers" => SIGNER,
            resource => resource,
        };
        text.lines().any(|line| line.contains(&self.verb) && line.contains(resource))
    }
}

/// Nothing is left of an earlier CA, so that the next one makes a first start.
async fn clean(home: &Home) {
    let none = DeleteParams::default();
    let _ = home.of::<Secret>(NAMESPACE).delete(SECRET, &none).await;
    let _ = home.of::<Lease>(NAMESPACE).delete("burgrave-ca", &none).await;
    let _ = home.all::<ClusterTrustBundle>().delete(TRUST_BUNDLE, &none).await;
    let named = ListParams::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    for map in home.all::<ConfigMap>().list(&named).await.expect("an admin may list").items {
        let _ = home.of::<ConfigMap>(&map.namespace().unwrap_or_default()).delete(CONFIG_MAP, &none).await;
    }
}

/// Waits until the authorizer knows.
async fn in_force(home: &Home, right: &Right, allowed: bool) {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, subresource),
        None => (right.resource.as_str(), ""),
    };
    let namespace = if right.role["kind"] == "Role" { NAMESPACE } else { "" };
    let question = json!({ "spec": {
        "user": format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}"),
        "groups": ["system:serviceaccounts"],
        "resourceAttributes": {
            "group": right.group, "resource": resource, "subresource": subresource, "verb": right.verb,
            "namespace": namespace, "name": right.name.clone().unwrap_or_default(),
        },
    }});
    let question: SubjectAccessReview = pod_signer::object(question);
    until(&format!("the authorizer to know of {right}"), Duration::from_secs(10), async || {
        let answer = home.all().create(&PostParams::default(), &question).await;
        match answer.map(|answer: SubjectAccessReview| answer.status.map(|status| status.allowed)) {
            Ok(Some(told)) if told == allowed => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Has a CA do all that a CA does, until it says that it may not do this.
async fn missed(home: &Home, right: &Right) -> Result<(), String> {
    let plan = home.plan(&[]);
    let part = plan.spawn();
    let mut told = String::new();
    let mut asked = false;
    for _ in 0..60 {
        let state = plan.page("/state").await.map(|(_, page)| page).unwrap_or_default();
        told = format!("{state}\n{}", if part.running() { String::new() } else { part.log() });
        if right.is_named_in(&told) {
            return Ok(());
        }
        if !part.running() {
            return Err(format!("it ended: {told}"));
        }
        if !asked && state.contains("\"leads\":true") {
            asked = true;
            work(home).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(format!("{told}\n{}", part.log_tail(10)))
}

/// What happens in a cluster, so that everything has to be done.
async fn work(home: &Home) {
    let namespace = home.api.namespace("work").await;
    let edit = json!({ "data": { "root-cert.pem": "edited" } });
    let edited = async || {
        let maps = home.of::<ConfigMap>("default");
        maps.patch(CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&edit))
            .await
            .map_err(|error| error.to_string())
    };
    let _ =
        tokio::time::timeout(Duration::from_secs(2), until("a ConfigMap", Duration::from_secs(30), edited))
            .await;
    let edit = json!({ "spec": { "trustBundle": crate::replicas::stranger().1 } });
    let bundles = home.all::<ClusterTrustBundle>();
    let edited = async || {
        bundles
            .patch(TRUST_BUNDLE, &PatchParams::default(), &Patch::Merge(&edit))
            .await
            .map_err(|error| error.to_string())
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), until("a bundle", Duration::from_secs(30), edited))
        .await;
    let pod = pod_signer::pod(&home.api, &namespace, SIGNER, "worker").await;
    let stub = crate::crafted::csr_der(&crate::crafted::csr());
    let asked = pod_signer::request(SIGNER, &pod, &stub);
    pod_signer::ask_as_kubelet(&home.api, &namespace, &asked).await;
    // One that does not fit its pod, so that the pod is looked at closely.
    let mut lie = asked;
    lie["spec"]["serviceAccountName"] = json!("somebody-else");
    pod_signer::ask_as_admin(&home.api, &namespace, &lie).await;
}

/// What `install check` says to an administrator.
fn checked(kubeconfig: &Path) -> String {
    let output = Command::new(binary())
        .args(["install", "check", "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .expect("the binary runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
