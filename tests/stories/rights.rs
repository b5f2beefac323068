//! The rights that `deploy/` hands out are all needed: take any one away, and something is missed and says so.

use crate::ca::binary;
use crate::ca::until;
use crate::home;
use crate::home::ACCOUNT;
use crate::home::CONFIG_MAP;
use crate::home::Home;
use crate::home::NAMESPACE;
use crate::home::SECRET;
use crate::home::TRUST_BUNDLE;
use crate::home::apply;
use crate::home::objects;
use crate::operator::Operator;
use crate::operators::Caller;
use crate::pod_signer;
use crate::policy_cluster;
use crate::support::ports;
use crate::support::scratch;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use burgrave::rotation::report::Report;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::ResourceExt;
use kube::api::DeleteParams;
use kube::api::ListParams;
use kube::api::Patch;
use kube::api::PatchParams;
use kube::api::PostParams;
use serde_json::Value;
use serde_json::json;

const SIGNER: &str = "burgrave.dev/workload";
const OLD_CENSUS: &str = "burgrave-census-gone-0";

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
    policy_cluster::define(&home).await;
    let dir = scratch("rights");
    let admin = home.api.admin_kubeconfig(&dir);
    home.client_of("operator", "burgrave-operator").await;
    let rights = rights();
    assert!(rights.len() >= 25, "{} rights are too few to be all", rights.len());
    let mut unneeded = Vec::new();
    for right in &rights {
        clean(&home).await;
        apply(&home.api.admin(), &right.lesser()).await;
        in_force(&home, right, false).await;
        let named = missing(&admin);
        let own = json!({ "group": right.group, "resource": right.resource, "name": right.name, "verb": right.verb });
        if named != [own] {
            unneeded.push(format!("{right}: `install check` names {named:?}"));
        }
        if let Err(told) = missed(&home, right, &dir).await {
            unneeded.push(format!("{right}: nothing was missed: {told}"));
        }
        apply(&home.api.admin(), &right.role).await;
        in_force(&home, right, true).await;
    }
    assert!(unneeded.is_empty(), "{}", unneeded.join("\n\n"));
    assert!(missing(&admin).is_empty(), "with all of them none is missing");

    // And they suffice: with all of them nothing is wrong, whatever has to be done.
    clean(&home).await;
    old_census(&home).await;
    let socket = dir.join("admin.sock");
    let options = [&format!("--admin-socket={}", socket.display()), "--bundle-refresh=1s"];
    let ca = home.replica(&options).await;
    work(&home).await;
    let token = home::token(&home.api, "operator").await;
    Caller::new(ca.plan(), Some(token)).status().await.expect("an operator may look");
    let operator = Operator::with(&[format!("--socket={}", socket.display())]);
    let rotated = operator.types(&["root", "rotate", "--detach"]).await;
    assert_eq!(rotated.code, 0, "{rotated:?}");
    // The worker's certificate comes by files, so the rotation waits for its end; but the new authority signs.
    until("a new authority, and the end of the old census", Duration::from_secs(60), async || {
        let state = home::state(&ca).await;
        let old = home.of::<ConfigMap>(NAMESPACE).get_opt(OLD_CENSUS).await.expect("an admin may look");
        let signs = state["rotation"]["rotation"]["phase"] == "reissue";
        match (signs, old, troubles(&state)) {
            (true, None, troubles) if troubles.is_empty() => Ok(()),
            (_, old, _) => Err(format!("old census: {}, {state:#}", old.is_some())),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_may_not_read_what_others_know_takes_no_step_until_it_may() {
    let home = Home::start().await;
    let dir = scratch("deaf");
    let is_it =
        |right: &&Right| right.resource == "configmaps" && right.verb == "list" && right.name.is_none();
    let rights = rights();
    let right = rights.iter().find(is_it).expect("it is one of the issuer's");
    apply(&home.api.admin(), &right.lesser()).await;
    in_force(&home, right, false).await;
    let reach = format!("--admin-socket={}", dir.join("admin.sock").display());
    let _ca = home.replica(&[&reach, "--bundle-refresh=1s"]).await;
    let operator = Operator::with(&[format!("--socket={}", dir.join("admin.sock").display())]);
    let rotated = operator.types(&["root", "rotate", "--detach"]).await;
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let waits = |report: &Report| {
        let rotation = report.rotation.as_ref();
        rotation.is_some_and(|one| {
            one.waiting_total == 1
                && one.waiting[0].who == "the other replicas"
                && right.is_missed_in(&one.waiting[0].why)
        })
    };
    let until = async |what: &str, is_so: &dyn Fn(&Report) -> bool| {
        until(what, Duration::from_secs(60), async || {
            let report = operator.status().await;
            if is_so(&report) { Ok(report) } else { Err(format!("{report:#?}")) }
        })
        .await
    };
    let report = until("word of what is missing", &waits).await;
    assert_eq!(report.authorities.len(), 2);
    // There is nobody else, so nothing but this holds it up; and it does.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(waits(&operator.status().await), "nothing has been done meanwhile");
    apply(&home.api.admin(), &right.role).await;
    let report = until("the rotation's end", &|report| report.rotation.is_none()).await;
    assert_eq!(report.last.map(|last| last.outcome).as_deref(), Some("done"));
}

/// Every right of the CA's own roles.
fn rights() -> Vec<Right> {
    [rights_of("burgrave-issuer"), rights_of("burgrave-controller")].into_iter().flatten().collect()
}

/// Every right of the roles of that name.
fn rights_of(wanted: &str) -> Vec<Right> {
    let mut rights = Vec::new();
    for role in objects() {
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        let is_role = matches!(role["kind"].as_str(), Some("Role" | "ClusterRole"));
        if !is_role || name != wanted {
            continue;
        }
        for (rule, text) in role["rules"].as_array().into_iter().flatten().enumerate() {
            let [group] = strings(&text["apiGroups"]).try_into().expect("a rule of ours is for one group");
            for (resource, verb) in strings(&text["resources"]).iter().flat_map(|resource| {
                strings(&text["verbs"]).into_iter().map(move |verb| (resource.clone(), verb))
            }) {
                let (role, group) = (role.clone(), group.clone());
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
    /// Whether another role grants the same.
    fn is_like(&self, other: &Right) -> bool {
        (&self.group, &self.resource, &self.verb, &self.role["kind"])
            == (&other.group, &other.resource, &other.verb, &other.role["kind"])
    }

    /// The role without it.
    fn lesser(&self) -> Value {
        let mut role = self.role.clone();
        let rules = role["rules"].as_array_mut().expect("a role has rules");
        let whole = rules.remove(self.rule);
        let without = |list: &Value, one: &str| {
            strings(list).into_iter().filter(|word| word != one).collect::<Vec<_>>()
        };
        // What is left of the rule: its other resources, and its other verbs on this one.
        let (mut others, mut this) = (whole.clone(), whole.clone());
        others["resources"] = json!(without(&whole["resources"], &self.resource));
        this["resources"] = json!([self.resource]);
        this["verbs"] = json!(without(&whole["verbs"], &self.verb));
        for left in [others, this] {
            if !strings(&left["resources"]).is_empty() && !strings(&left["verbs"]).is_empty() {
                rules.push(left);
            }
        }
        role
    }

    /// Whether a sentence says that this right is missing: in the API server's words, or in ours.
    fn is_missed_in(&self, sentence: &str) -> bool {
        let (verb, resource) = (&self.verb, &self.resource);
        let in_its_words = sentence.contains(&format!("cannot {verb} resource \"{resource}\""));
        let in_ours = sentence.contains(&format!("`{verb}`")) && sentence.contains(resource.as_str());
        // The API server speaks of signers by their name alone.
        let of_signers = resource == "signers"
            && sentence.contains(&format!("not permitted to {verb}"))
            && sentence.contains(SIGNER);
        in_its_words || in_ours || of_signers
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
    let _ = home.all::<ValidatingWebhookConfiguration>().delete("burgrave-policies", &none).await;
    // To where nobody is: a Service that nobody routes to would be waited for with each policy.
    policy_cluster::point_webhook_at(home, ports::free()).await;
    let censuses = ListParams::default().labels("burgrave.dev/part=census");
    let _ = home.of::<ConfigMap>(NAMESPACE).delete_collection(&none, &censuses).await;
}

/// The census of a replica that has been gone for long, and of whom nothing counts any more.
async fn old_census(home: &Home) {
    let bulletin = json!({ "number": 0, "of": 1, "bulletin": {
        "replica": "gone", "at": 1_000_000_000, "sequence": 1, "steps": 0, "busy": true, "signs_with": "x", "gone": [], "holders": [],
    } });
    let bulletin = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bulletin.to_string());
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "binaryData": { "bulletin.json": bulletin },
        "metadata": {
            "name": OLD_CENSUS, "namespace": NAMESPACE, "labels": { "burgrave.dev/part": "census" },
        },
    });
    apply(&home.api.admin(), &map).await;
}

/// Waits until the authorizer knows.
async fn in_force(home: &Home, right: &Right, allowed: bool) {
    in_force_for(home, right, ACCOUNT, allowed).await;
}

/// The same for another account of the namespace.
async fn in_force_for(home: &Home, right: &Right, account: &str, allowed: bool) {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, subresource),
        None => (right.resource.as_str(), ""),
    };
    let namespace = if right.role["kind"] == "Role" { NAMESPACE } else { "" };
    let question = json!({ "spec": {
        "user": format!("system:serviceaccount:{NAMESPACE}:{account}"),
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
async fn missed(home: &Home, right: &Right, dir: &Path) -> Result<(), String> {
    let socket = dir.join("admin.sock");
    let plan = home.plan(&[&format!("--admin-socket={}", socket.display())]);
    old_census(home).await;
    let part = plan.spawn();
    let (mut told, mut answers) = (Vec::new(), Vec::new());
    let mut asked = false;
    // A replica that says nothing for eight seconds is gone.
    for _ in 0..80 {
        let state = plan.page("/state").await.map(|(_, page)| page).unwrap_or_default();
        let state: Value = serde_json::from_str(&state).unwrap_or_default();
        told = match part.running() {
            true => troubles(&state),
            false => part.log().lines().rev().take(1).map(str::to_owned).collect(),
        };
        if told.iter().chain(&answers).any(|sentence| right.is_missed_in(sentence)) {
            return Ok(());
        }
        if !part.running() {
            return Err(format!("it ended: {told:?}"));
        }
        if !asked && state["election"]["leads"] == true {
            asked = true;
            work(home).await;
            let token = home::token(&home.api, "operator").await;
            let looked = Caller::new(&plan, Some(token)).status().await;
            answers.extend(looked.err().map(|status| status.message().to_owned()));
            let operator = Operator::with(&[format!("--socket={}", socket.display())]);
            answers.push(operator.types(&["root", "prepare"]).await.stderr);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(format!("{told:?} {answers:?}\n{}", part.log_tail(10)))
}

/// What a CA says of each of its parts that is in trouble.
fn troubles(state: &Value) -> Vec<String> {
    let troubles = state["troubles"].as_object().into_iter().flatten();
    troubles.filter_map(|(_, trouble)| trouble.as_str().map(str::to_owned)).collect()
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
    policy_cluster::one_of_each(home).await;
}

/// The permissions that `install check` finds missing, as an administrator runs it.
fn missing(kubeconfig: &Path) -> Vec<Value> {
    let output = Command::new(binary())
        .args(["install", "check", "--output", "json", "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .expect("the binary runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it says JSON");
    let findings = report["findings"].as_array().expect("it lists findings");
    findings.iter().map(|finding| finding["permission"].clone()).filter(|one| !one.is_null()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_can_restore_the_root_or_give_it_up_and_needs_each_right_for_it() {
    let home = Home::start().await;
    let operator = home.client_of("operator", "burgrave-operator").await;
    let secrets = Api::<Secret>::namespaced(operator.clone(), NAMESPACE);
    let ca = home.replica(&[]).await;
    home.until_roots_in("default", ca.root_pem()).await;
    let first = home::state(&ca).await["authority"]["signing"].clone();

    // A copy is taken, the Secret is lost, and the copy brings it back.
    let mut copy = secrets.get(SECRET).await.expect("an operator may take a copy");
    (copy.metadata.resource_version, copy.metadata.uid) = (None, None);
    secrets.delete(SECRET, &DeleteParams::default()).await.expect("an operator may delete it");
    ca.kill9();
    assert_eq!(ca.plan().run_to_its_end().0, 1);
    let mut restored =
        secrets.create(&PostParams::default(), &copy).await.expect("an operator may restore it");
    restored.metadata.labels.get_or_insert_default().insert("restored".to_owned(), "yes".to_owned());
    secrets.replace(SECRET, &PostParams::default(), &restored).await.expect("an operator may change it");
    let mut ca = ca;
    ca.restart().await;
    assert_eq!(home::state(&ca).await["authority"]["signing"], first);

    // The root is given up, as the error of a start says.
    ca.kill9();
    secrets.delete(SECRET, &DeleteParams::default()).await.expect("an operator may delete it");
    let bundles = Api::<ClusterTrustBundle>::all(operator.clone());
    bundles.delete(TRUST_BUNDLE, &DeleteParams::default()).await.expect("an operator may take it back");
    let leases = Api::<Lease>::namespaced(operator.clone(), NAMESPACE);
    leases.delete("burgrave-ca", &DeleteParams::default()).await.expect("an operator may delete it");
    let named = ListParams::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    let maps = Api::<ConfigMap>::all(operator.clone()).list(&named).await.expect("an operator may list them");
    for map in maps.items {
        let maps = Api::<ConfigMap>::namespaced(operator.clone(), &map.namespace().unwrap_or_default());
        maps.delete(CONFIG_MAP, &DeleteParams::default()).await.expect("an operator may take them back");
    }
    ca.restart().await;
    assert_ne!(home::state(&ca).await["authority"]["signing"], first, "there is a new root");

    // Each of these was needed: whoever lacks one is refused.
    let held = rights_of("burgrave-operator");
    let seen = rights_of("burgrave-viewer");
    let own: Vec<_> = held.iter().filter(|right| !seen.iter().any(|other| other.is_like(right))).collect();
    assert!(own.len() >= 10, "{} rights are not all", own.len());
    for right in own {
        for (role, allowed) in [(right.lesser(), false), (right.role.clone(), true)] {
            apply(&home.api.admin(), &role).await;
            in_force_for(&home, right, "operator", allowed).await;
        }
    }
}
