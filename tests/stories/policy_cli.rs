//! People ask about policies: what they type, and what they are told. What is told is in `tests/golden/policy/`; with UPDATE=1 it is
//! written anew, for somebody to look through.

use crate::ca::binary;
use crate::home::apply;
use crate::support::apiserver::ApiServer;
use crate::support::scratch;

use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How a command ended.
#[derive(Debug)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/policy")
}

/// Types a command in the directory of the goldens.
async fn types(arguments: &[&str]) -> Said {
    types_with(arguments, "").await
}

async fn types_with(arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(binary());
    command.arg("policy").args(arguments).current_dir(golden()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut stdin = child.stdin.take().expect("it has a standard input");
    // A command that does not read it may be gone already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Compares with the golden of this name.
    fn is_golden(&self, name: &str) {
        let told = format!(
            "exit code {}\n--- standard output\n{}--- standard error\n{}",
            self.code, self.stdout, self.stderr
        );
        let path = golden().join(format!("{name}.golden"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, told).expect("a golden can be written");
            return;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(told, expected, "{} differs; UPDATE=1 writes it anew", path.display());
    }
}

const LOG_LINE: &str = "[2026-10-01T12:00:00.000Z] \"GET /v1/items?page=2 HTTP/1.1\" 403 - \
    rbac_access_denied_matched_policy[none] - \"-\" 0 19 0 - \"-\" \"curl/8.5.0\" \"a\" \"api.shop:8080\" \"-\" \
    inbound|8080|| - 10.0.0.4:8080 10.0.0.9:51234 outbound_.8080_._.api.shop.svc.cluster.local default";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_explained_from_whatever_people_have_of_the_request() {
    let of = ["explain", "--policies", "policies", "--workload", "shop/api"];
    let explain = async |arguments: &[&str]| types(&[&of[..], arguments].concat()).await;
    let get = ["--from", "shop/web", "--method", "GET", "--path", "/v1/items", "--remote-ip", "10.0.0.9"];
    explain(&get).await.is_golden("explain-allowed");
    explain(&[&get[..], &["--output", "json"]].concat()).await.is_golden("explain-allowed-json");
    let missed =
        explain(&["--from", "shop/web", "--method", "GET", "--path", "/v1", "--source-ip", "10.0.0.9"]).await;
    missed.is_golden("explain-denied-nearest");
    assert_eq!(missed.code, 1);
    explain(&["--from", "shop/web", "--curl", "curl 'http://api:8080/v1/x/../admin?y' -H 'X-A: b'"])
        .await
        .is_golden("explain-curl-denied-by-rule");
    let line = explain(&["--log-line", LOG_LINE]).await;
    line.is_golden("explain-log-line-depends");
    assert_eq!(line.code, 2);
    assert_eq!(explain(&["--log-line", LOG_LINE, "--from", "shop/web"]).await.code, 0);
    explain(&["--tcp", "--from", "shop/web"]).await.is_golden("explain-connection");
    let described = types_with(
        &[&of[..], &["--request", "-", "--output", "json"]].concat(),
        r#"{"from": "ops/admin", "method": "DELETE", "path": "/v1/admin/x", "remote_ip": "10.1.1.1"}"#,
    )
    .await;
    assert_eq!((described.code, described.json()["by"]["rule"].as_u64()), (0, Some(1)), "{described:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_asked_is_told_with_what_to_do_and_ends_as_what_cannot_be_told() {
    for (arguments, said) in [
        (
            &["explain", "--from", "a/b", "--workload", "a"][..],
            "it is not said where the policies are: `--policies DIR`",
        ),
        (&["explain", "--policies", "policies", "--from", "a/b"], "it is not said which workload is called"),
        (&["explain", "--policies", "policies", "--workload", "shop/api"], "it is not said which request"),
        (
            &["explain", "--policies", "policies", "--workload", "shop/api", "--curl", "wget x"],
            "`--curl`: `wget` is not curl; give the whole command line",
        ),
        (
            &["explain", "--policies", "policies", "--workload", "shop/api", "--log-line", "x"],
            "`--log-line`: the line is neither a JSON object nor Istio's default text",
        ),
        (
            &["explain", "--policies", "nowhere", "--workload", "shop/api", "--from", "a/b"],
            "`nowhere`: No such file",
        ),
        (
            &["explain", "--policies", "policies", "--workload", "shop/api", "--from", "web"],
            "`--from`: `web` names no peer; write `namespace/account`",
        ),
        (&["can", "a/b", "call"], "it is not said where the policies are"),
        (&["test", "access.log", "--policies", "policies"], "`access.log`: "),
        (
            &["diff", "policies", "proposed", "--access-log", "access.log"],
            "`--access-log` is of one workload",
        ),
    ] {
        let end = types(arguments).await;
        assert_eq!(end.code, 2, "{arguments:?} {end:?}");
        assert!(end.stderr.contains(said), "{arguments:?} {end:?}");
        assert!(end.stdout.is_empty(), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_who_can_call_whom_and_what_they_can_do() {
    let policies = ["--policies", "policies"];
    let can = async |arguments: &[&str]| types(&[&["can"], arguments, &policies[..]].concat()).await;
    let get = ["--method", "GET", "--path", "/v1/items"];
    let yes = can(&[&["shop/web", "call", "shop/api"], &get[..]].concat()).await;
    assert_eq!((yes.code, yes.stdout.starts_with("yes; allowed: rule 0 of")), (0, true), "{yes:?}");
    let no = can(&[&["plaintext", "call", "shop/api"], &get[..]].concat()).await;
    assert_eq!((no.code, no.stdout.starts_with("no; denied: ")), (1, true), "{no:?}");
    assert_eq!(can(&["shop/web", "call", "shop/api"]).await.code, 2);
    can(&[&["--who", "call", "shop/api", "--account", "shop/cart"], &get[..]].concat())
        .await
        .is_golden("can-who");
    can(&["--what", "shop/web", "call"]).await.is_golden("can-what");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expectations_are_tested_and_a_change_is_told_before_it_is_made() {
    let tested = types(&["test", "cases.yaml", "--policies", "policies"]).await;
    tested.is_golden("test-passes");
    assert_eq!(tested.code, 0);
    let failed = types(&["test", "failing.yaml", "--policies", "policies"]).await;
    failed.is_golden("test-fails");
    assert_eq!(failed.code, 1);
    let changed = types(&["diff", "policies", "proposed", "--requests", "3000", "--seed", "7"]).await;
    changed.is_golden("diff-made-up");
    assert_eq!(changed.code, 1);
    let same = types(&["diff", "policies", "policies", "--requests", "1000"]).await;
    assert_eq!((same.code, same.stdout.contains("that none was found is no proof")), (0, true), "{same:?}");
    types(&["diff", "policies", "proposed", "--workload", "shop/api", "--access-log", "access.log"])
        .await
        .is_golden("diff-access-log");
}

/// A file of that text in a scratch directory.
fn written(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(name);
    std::fs::create_dir_all(file.parent().expect("it is in a directory")).expect("a directory can be made");
    std::fs::write(&file, text).expect("a file can be written");
    file.to_str().expect("its name is text").to_owned()
}

/// A policy of namespace `shop` with that spec.
fn policy(name: &str, spec: &str) -> String {
    object("AuthorizationPolicy", name, spec)
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {spec}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_a_log_that_nothing_decides_are_not_told_to_be_the_same() {
    let dir = scratch("policy-undecided");
    let of = |name: &str| {
        policy("a", &format!("{{ rules: [{{ from: [{{ source: {{ namespaces: [{name}] }} }}] }}] }}"))
    };
    let (old, new) = (written(&dir, "old.yaml", &of("a")), written(&dir, "new.yaml", &of("b")));
    let over_log = ["--workload", "shop/api", "--access-log", "access.log"];
    let told = types(&[&["diff", &old, &new], &over_log[..]].concat()).await;
    assert_eq!((told.code, told.stdout.contains("2 of the others cannot be decided")), (2, true), "{told:?}");
    let told = types(&[&["diff", &old, &new, "--output", "json"], &over_log[..]].concat()).await;
    assert_eq!((told.json()["changed"].as_u64(), told.json()["undecided"].as_u64()), (Some(0), Some(2)));
    let asking = of("a") + &policy("b", "{ action: CUSTOM, provider: { name: ext }, rules: [{}] }");
    let asking = written(&dir, "asking.yaml", &asking);
    let told = types(&[&["diff", &old, &asking], &over_log[..]].concat()).await;
    assert_eq!((told.code, told.stdout.contains("`ext` is asked first")), (1, true), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_told_with_its_path_and_warnings_count_if_they_shall() {
    let broken = types(&["validate", "broken"]).await;
    broken.is_golden("validate-broken");
    assert_eq!(broken.code, 1);
    assert_eq!(types(&["validate", "policies/api.yaml", "--strict"]).await.code, 0);
    // One of them denies by HTTP alone, which is worth a warning.
    assert_eq!(types(&["validate", "policies"]).await.code, 0);
    assert_eq!(types(&["validate", "policies", "--strict"]).await.code, 1);
    let doubtful = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: doubtful, namespace: shop }
spec: { rules: [{ to: [{ operation: { methods: [get] } }] }] }
";
    assert_eq!(types_with(&["validate", "-"], doubtful).await.code, 0);
    assert_eq!(types_with(&["validate", "-", "--strict"], doubtful).await.code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policies_of_a_workload_are_printed_as_filters_of_envoy() {
    let of = ["compile", "--to", "envoy", "--policies", "policies", "--workload"];
    types(&[&of[..], &["shop/api"]].concat()).await.is_golden("compile-envoy");
    let json = types(&[&of[..], &["shop/api", "--tcp", "--output", "json"]].concat()).await.json();
    let names: Vec<_> =
        json["filters"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["burgrave.authz.deny", "burgrave.authz.allow"]);
    let none =
        types(&["compile", "--policies", "roles", "--workload", "elsewhere", "--output", "json"]).await;
    assert_eq!(none.json(), json!({ "filters": [] }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_and_bindings_are_migrated_and_the_policies_decide_alike() {
    let migrated = types(&["migrate", "--policies", "roles", "--requests", "3000"]).await;
    migrated.is_golden("migrate");
    assert_eq!(migrated.code, 0, "{migrated:?}");
    let dir = scratch("migrated");
    let file = dir.join("migrated.yaml");
    std::fs::write(&file, &migrated.stdout).unwrap();
    let file = file.to_str().unwrap();
    let read = types(&["validate", file, "--strict"]).await;
    assert_eq!(read.code, 0, "{read:?}");
    let get = ["--method", "GET", "--path", "/products/1", "--property", "tier=gold"];
    let yes =
        types(&[&["can", "shop/web", "call", "shop/products", "--policies", file], &get[..]].concat()).await;
    assert_eq!(yes.code, 0, "{yes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policies_and_pods_of_a_cluster_are_asked_about_as_those_of_files() {
    let api = ApiServer::start().await;
    let client = api.admin();
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/crds");
    for entry in std::fs::read_dir(&crds).expect("deploy/crds is part of the repository") {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for crd in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            apply(&client, &crd).await;
        }
    }
    let dir = scratch("policy-cluster");
    let kubeconfig = api.admin_kubeconfig(&dir);
    let kubeconfig = kubeconfig.to_str().unwrap();
    let namespace = api.namespace("shop").await;
    let shop = namespace.name.as_str();
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "api-read", "namespace": shop },
        "spec": { "selector": { "matchLabels": { "app": "api" } }, "rules": [
            { "from": [{ "source": { "serviceAccounts": ["web"] } }], "to": [{ "operation": { "methods": ["GET"] } }] },
        ]},
    });
    // The API server takes a moment to serve new kinds.
    let kind = kube::api::ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(
        "security.istio.io",
        "v1",
        "AuthorizationPolicy",
    ));
    let served: kube::Api<kube::core::DynamicObject> = kube::Api::all_with(client.clone(), &kind);
    for _ in 0..100 {
        if served.list(&kube::api::ListParams::default()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    apply(&client, &policy).await;
    namespace.service_account("api").await;
    namespace.service_account("web").await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "api-1", "namespace": shop, "labels": { "app": "api" } },
        "spec": { "serviceAccountName": "api", "containers": [{ "name": "c", "image": "i" }] },
    });
    apply(&client, &pod).await;
    let workload = format!("{shop}/api-1");
    let of = ["--cluster", "--kubeconfig", kubeconfig, "--output", "json"];
    let (web, other) = (format!("{shop}/web"), format!("{shop}/other"));
    let can = async |who: &str| {
        types(&[&["can", who, "call", workload.as_str(), "--method", "GET"], &of[..]].concat()).await
    };
    let yes = can(&web).await;
    assert_eq!((yes.code, yes.json()["answer"].as_str()), (0, Some("yes")), "{yes:?}");
    assert_eq!(yes.json()["workload"]["service_account"], "api");
    assert_eq!(can(&other).await.code, 1);
    let by_label = format!("{shop}/api");
    let who =
        types(&[&["can", "--who", "call", by_label.as_str(), "--method", "GET"], &of[..]].concat()).await;
    let callers = who.json()["callers"].as_array().cloned().unwrap_or_default();
    let may: Vec<_> = callers.iter().filter(|one| one["decision"] == "allow").collect();
    assert!(
        may.iter().any(|one| one["who"] == format!("spiffe://cluster.local/ns/{shop}/sa/web")),
        "{who:?}"
    );
    assert!(
        callers.iter().any(|one| one["who"] == format!("spiffe://cluster.local/ns/{shop}/sa/api")),
        "{who:?}"
    );
    // A waypoint stands before services by its labels, and not as a sidecar.
    let waypoint = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "way-1", "namespace": shop, "labels": {
            "gateway.networking.k8s.io/gateway-name": "way", "gateway.istio.io/managed": "istio.io-mesh-controller",
        }},
        "spec": { "serviceAccountName": "api", "containers": [{ "name": "c", "image": "i" }] },
    });
    apply(&client, &waypoint).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "api", "namespace": shop, "labels": { "istio.io/use-waypoint": "way" } },
        "spec": { "selector": { "app": "api" }, "ports": [{ "port": 80 }] },
    });
    apply(&client, &service).await;
    let of_service = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "at-waypoint", "namespace": shop },
        "spec": { "action": "DENY", "rules": [{}], "targetRefs": [{ "kind": "Service", "group": "", "name": "api" }] },
    });
    apply(&client, &of_service).await;
    let way = format!("{shop}/way-1");
    let at = types(&[&["can", &web, "call", &way, "--method", "GET"], &of[..]].concat()).await;
    let by = format!("AuthorizationPolicy {shop}/at-waypoint");
    assert_eq!((at.code, at.json()["applies"][0].as_str()), (1, Some(by.as_str())), "{at:?}");
    let domain = ["--method", "GET", "--cluster-domain", "corp"];
    let named = types(&[&["can", &web, "call", &workload], &domain[..], &of].concat()).await.json();
    assert_eq!(named["workload"]["services"], json!([format!("api.{shop}.svc.corp")]));
    let absent = types(&["can", &web, "call", &other, "--cluster", "--kubeconfig", kubeconfig]).await;
    assert_eq!(absent.code, 2, "{absent:?}");
    assert!(absent.stderr.contains("there is no pod `other` in namespace"), "{absent:?}");
    let read = types(&[&["validate"], &of[..]].concat()).await;
    assert_eq!((read.code, read.json()["objects"].as_u64()), (0, Some(2)), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_other_tokens_are_believed_or_plain_text_is_no_longer_is_a_change() {
    let dir = scratch("policy-terms");
    let issuer = |keys: &str| {
        let rule = format!("{{ issuer: 'https://a', jwksUri: 'https://{keys}/keys' }}");
        object("RequestAuthentication", "tokens", &format!("{{ jwtRules: [{rule}] }}"))
    };
    let strict = issuer("a") + &object("PeerAuthentication", "tls", "{ mtls: { mode: STRICT } }");
    let (old, other) = (written(&dir, "a.yaml", &issuer("a")), written(&dir, "b.yaml", &issuer("b")));
    let strict = written(&dir, "strict.yaml", &strict);
    let renamed = written(&dir, "renamed.yaml", &issuer("a").replace("name: tokens", "name: other"));
    for (new, code, field, said) in [
        (
            &other,
            1,
            "tokens",
            "was: those of https://a, as rule 0 of RequestAuthentication shop/tokens has it",
        ),
        (&strict, 1, "mtls", "was: PERMISSIVE\n    is:  STRICT"),
        (&renamed, 0, "changes", "0 of 200 requests"),
    ] {
        let of = ["diff", &old, new, "--requests", "200", "--workload", "shop/api"];
        let told = types(&of).await;
        assert_eq!((told.code, told.stdout.contains(said)), (code, true), "{told:?}");
        let told = types(&[&of[..], &["--output", "json"]].concat()).await.json();
        assert_eq!(told["same"], code == 0);
        assert_eq!(told["workloads"][0][field]["old"].is_null(), code == 0, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_do_not_count_where_no_token_is_verified() {
    let dir = scratch("policy-claims");
    let asks = policy("a", "{ rules: [{ when: [{ key: 'request.auth.claims[team]', values: [a] }] }] }");
    let verified = object("RequestAuthentication", "t", "{ jwtRules: [{ issuer: 'https://a' }] }");
    let (bare, whole) =
        (written(&dir, "bare.yaml", &asks), written(&dir, "whole.yaml", &(asks.clone() + &verified)));
    let cases = |expect: &str| {
        format!(
            "workload: shop/api\ncases:\n- name: a\n  request: {{ from: shop/web, claims: {{ iss: 'https://a', sub: b, team: a }} }}\n  expect: {expect}\n"
        )
    };
    let (allow, deny) =
        (written(&dir, "allow.yaml", &cases("allow")), written(&dir, "deny.yaml", &cases("deny")));
    let said = "no RequestAuthentication applies to this workload";
    let claims = ["--claim", "iss=https://a", "--claim", "sub=b", "--claim", "team=a"];
    for (policies, code, test) in [(&bare, 1, &deny), (&whole, 0, &allow)] {
        let of = ["--policies", policies, "--workload", "shop/api"];
        let explained = types(&[&["explain", "--from", "shop/web"], &of[..], &claims].concat()).await;
        assert_eq!((explained.code, explained.stdout.contains(said)), (code, code == 1), "{explained:?}");
        let can = types(&[&["can", "shop/web", "call"], &of[..], &claims].concat()).await;
        assert_eq!(can.code, code, "{can:?}");
        let who = types(&[&["can", "--who", "--output", "json"], &of[..], &claims].concat()).await;
        let decision = if code == 0 { "allow" } else { "deny" };
        assert_eq!(who.json()["callers"][0]["decision"], decision, "{who:?}");
        let tested = types(&["test", test, "--policies", policies]).await;
        assert_eq!((tested.code, tested.stdout.contains(said)), (0, code == 1), "{tested:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_named_is_read_and_what_cannot_be_read_leaves_nothing_decided() {
    let dir = scratch("policy-sources");
    let good = written(&dir, "good.yaml", &policy("a", "{ rules: [{}] }"));
    let bad =
        object("AuthorizationPolicy", "b", "{}").replace("security.istio.io/v1", "security.istio.io/v7");
    let bad = written(&dir, "bad/bad.yaml", &bad);
    let validated = types(&["validate", &good, "--policies", &bad]).await;
    assert_eq!(validated.code, 1, "{validated:?}");
    let case =
        "workload: shop/api\ncases:\n- request: { from: shop/web, method: GET, path: / }\n  expect: allow\n";
    let case = written(&dir, "cases.txt", case);
    let both = ["--policies", &good, "--policies", &bad];
    for command in [
        &["explain", "--from", "shop/web", "--workload", "shop/api"][..],
        &["can", "shop/web", "call", "shop/api"],
        &["can", "--who", "call", "shop/api"],
        &["can", "--what", "shop/web", "call"],
        &["test", &case],
    ] {
        let told = types(&[command, &both[..]].concat()).await;
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{command:?} {told:?}");
        assert!(told.stderr.contains(&bad) && told.stderr.contains("1 object cannot be read"), "{told:?}");
    }
    let told = types(&["diff", &good, &bad]).await;
    assert_eq!((told.code, told.stderr.contains("1 object cannot be read")), (2, true), "{told:?}");
    assert_eq!(types(&["test", &case, "--policies", &good]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_object_in_two_files_the_last_counts_and_mounted_files_are_read_once() {
    let dir = scratch("policy-twice");
    let of = |methods: &str| {
        policy("a", &format!("{{ rules: [{{ to: [{{ operation: {{ methods: [{methods}] }} }}] }}] }}"))
    };
    written(&dir, "twice/a.yaml", &of("GET"));
    written(&dir, "twice/b.yaml", &of("PUT"));
    written(&dir, "twice/..2026/a.yaml", &of("DELETE"));
    let twice = dir.join("twice");
    let twice = twice.to_str().unwrap();
    for (method, code) in [("GET", 1), ("PUT", 0), ("DELETE", 1)] {
        let told = types(&["can", "a/b", "call", "shop/api", "--method", method, "--policies", twice]).await;
        assert_eq!((told.code, told.stderr.matches("that one counts").count()), (code, 1), "{told:?}");
    }
    let validated = types(&["validate", twice, "--output", "json"]).await;
    assert_eq!((validated.code, validated.json()["objects"].as_u64()), (0, Some(2)), "{validated:?}");
    assert_eq!(types(&["validate", twice, "--strict"]).await.code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_that_are_too_many_to_be_tried_are_told() {
    let dir = scratch("policy-many");
    let one = |at: usize| {
        policy(
            &format!("p{at}"),
            &format!("{{ selector: {{ matchLabels: {{ app: a{at} }} }}, rules: [{{}}] }}"),
        )
    };
    let many = written(&dir, "many.yaml", &(0..501).map(one).collect::<String>());
    let told = types(&["diff", &many, &many, "--requests", "1"]).await;
    assert_eq!(
        (told.code, told.stdout.contains("2 more workloads selected in other ways")),
        (2, true),
        "{told:?}"
    );
    let told = types(&["diff", &many, &many, "--requests", "1", "--output", "json"]).await.json();
    assert_eq!((told["left_out"].as_u64(), told["same"].as_bool()), (Some(2), Some(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_said_of_a_request_makes_it_one() {
    for said in [
        ["--host", "a"],
        ["--header", "a: b"],
        ["--claim", "iss=a"],
        ["--port", "80"],
        ["--source-ip", "10.0.0.1"],
    ] {
        let of = ["explain", "--policies", "policies", "--workload", "shop/api"];
        let told = types(&[&of[..], &said].concat()).await;
        assert!(told.stdout.starts_with("a workload in namespace shop"), "{told:?}");
    }
}
