//! A cluster that Burgrave lives in, as far as an API server alone can be one: what `deploy/` grants, and replicas as
//! processes that use exactly that.

use crate::ca::Ca;
use crate::ca::Plan;
use crate::ca::until;
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::ISSUER;
use crate::support::ports;

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::Patch;
use kube::api::PatchParams;
use kube::api::PostParams;
use kube::core::ApiResource;
use kube::core::DynamicObject;
use kube::core::GroupVersionKind;
use serde_json::Value;
use serde_json::json;

/// Where `deploy/` puts the CA.
pub(crate) const NAMESPACE: &str = "burgrave-system";
/// The service account of its pods.
pub(crate) const ACCOUNT: &str = "burgrave-ca";
/// The Secret that its replicas share.
pub(crate) const SECRET: &str = "burgrave-authority";
/// The ConfigMap that every namespace gets.
pub(crate) const CONFIG_MAP: &str = "istio-ca-root-cert";
/// The ClusterTrustBundle.
pub(crate) const TRUST_BUNDLE: &str = "burgrave.dev:workload:roots";

/// An API server of a story's own, with the rights that `deploy/` hands out.
pub(crate) struct Home {
    pub(crate) api: ApiServer,
    token: String,
}

impl Home {
    pub(crate) async fn start() -> Home {
        let api = ApiServer::start().await;
        for object in objects() {
            apply(&api.admin(), &object).await;
        }
        let token = token(&api, ACCOUNT).await;
        // The authorizer learns of roles through a watch, a moment later.
        let client = api.client(&token);
        until("the rights of deploy/", Duration::from_secs(20), async || {
            let secrets = Api::<core::Secret>::namespaced(client.clone(), NAMESPACE);
            secrets.get_opt(SECRET).await.map_err(|error| error.to_string())
        })
        .await;
        Home { api, token }
    }

    /// What one replica is started with, again and again.
    pub(crate) fn plan(&self, options: &[&str]) -> Plan {
        let common = [
            "--authority-secret=burgrave-authority",
            "--namespace=burgrave-system",
            "--lease=burgrave-ca",
            // Short, so that stories need not wait; still long enough for a busy machine.
            "--lease-duration=4s",
            "--policies=cluster",
        ];
        let webhook = format!("--webhook-listen=127.0.0.1:{}", ports::free());
        let names_one = options.iter().any(|option| option.starts_with("--webhook-listen"));
        let webhook = (!names_one).then_some(webhook.as_str());
        let options: Vec<_> = common.into_iter().chain(webhook).chain(options.iter().copied()).collect();
        Plan::with_account(&self.api, &self.token, &options)
    }

    /// The same account with all options given.
    pub(crate) fn bare_plan(&self, options: &[&str]) -> Plan {
        Plan::with_account(&self.api, &self.token, options)
    }

    /// A replica that serves.
    pub(crate) async fn replica(&self, options: &[&str]) -> Ca {
        Ca::of(self.plan(options)).await
    }

    pub(crate) fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = ()>,
    {
        Api::all(self.api.admin())
    }

    /// Objects of a kind in a namespace, as an admin sees them.
    pub(crate) fn of<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.api.admin(), namespace)
    }

    /// Makes namespaces of these names.
    pub(crate) async fn namespaces(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            let namespace = serde_json::from_value(json!({ "metadata": { "name": name } }));
            let namespace: core::Namespace = namespace.expect("it is one");
            let made = self.all().create(&PostParams::default(), &namespace).await;
            made.expect("an admin may make namespaces");
        }
    }

    /// The roots in a namespace, if they are there.
    pub(crate) async fn roots_in(&self, namespace: &str) -> Option<String> {
        let map = self.of::<core::ConfigMap>(namespace).get_opt(CONFIG_MAP).await.expect("an admin may look");
        map?.data?.remove("root-cert.pem")
    }

    /// Waits until these roots are there.
    pub(crate) async fn until_roots_in(&self, namespace: &str, roots: &str) {
        until(&format!("the roots in `{namespace}`"), Duration::from_secs(20), async || {
            match self.roots_in(namespace).await {
                Some(found) if found == roots => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// What a replica says of itself.
pub(crate) async fn state(ca: &Ca) -> Value {
    let (_, page) = ca.plan().page("/state").await.expect("a CA that serves has a state");
    serde_json::from_str(&page).expect("the state is JSON")
}

/// Waits until what a replica says of itself is as wanted.
pub(crate) async fn until_state(ca: &Ca, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, Duration::from_secs(30), async || {
        let state = state(ca).await;
        if is_so(&state) { Ok(state) } else { Err(state.to_string()) }
    })
    .await
}

/// The one of these replicas that leads.
pub(crate) async fn leader<'a>(replicas: &[&'a Ca]) -> &'a Ca {
    until("a leader", Duration::from_secs(30), async || {
        for &one in replicas {
            if one.part().running() && state(one).await["election"]["leads"] == true {
                return Ok(one);
            }
        }
        Err("nobody leads".to_owned())
    })
    .await
}

impl Home {
    /// A client of somebody who is bound to the roles of that name in `deploy/`.
    pub(crate) async fn client_of(&self, account: &str, role: &str) -> kube::Client {
        let subject = json!([{ "kind": "ServiceAccount", "name": account, "namespace": NAMESPACE }]);
        let metadata = json!({ "name": account, "namespace": NAMESPACE });
        let reference =
            |kind: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role });
        for object in [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": { "name": account }, "roleRef": reference("ClusterRole"), "subjects": subject,
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": metadata, "roleRef": reference("Role"), "subjects": subject,
            }),
        ] {
            apply(&self.api.admin(), &object).await;
        }
        let client = self.api.client(&token(&self.api, account).await);
        until("the rights to be in force", Duration::from_secs(20), async || {
            let namespaces = Api::<core::Namespace>::all(client.clone()).list(&Default::default()).await;
            namespaces.map(drop).map_err(|error| error.to_string())
        })
        .await;
        client
    }
}

/// A token of an account in the CA's namespace, for the API server.
pub(crate) async fn token(api: &ApiServer, account: &str) -> String {
    let request = json!({ "metadata": {}, "spec": { "audiences": [ISSUER], "expirationSeconds": 4 * 3600 } });
    let request: TokenRequest = serde_json::from_value(request).expect("it is one");
    let accounts = Api::<core::ServiceAccount>::namespaced(api.admin(), NAMESPACE);
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
    answer
        .expect("the account is there")
        .status
        .and_then(|status| status.token)
        .expect("an answer has a token")
}

/// The objects of `deploy/`, in the order in which its kustomization names their files.
pub(crate) fn objects() -> Vec<Value> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let read =
        |name: &str| std::fs::read_to_string(deploy.join(name)).expect("deploy/ is part of the repository");
    let list: Value = serde_saphyr::from_str(&read("kustomization.yaml")).expect("it is YAML");
    let files = list["resources"].as_array().expect("it lists files").clone();
    let documents = |file: &Value| -> Vec<Value> {
        serde_saphyr::from_multiple(&read(file.as_str().expect("a file has a name"))).expect("it is YAML")
    };
    files.iter().flat_map(documents).collect()
}

/// Makes or changes an object, as `kubectl apply --server-side` does.
pub(crate) async fn apply(client: &kube::Client, object: &Value) {
    let text = |field: &str| object[field].as_str().unwrap_or_else(|| panic!("no {field} in {object}"));
    let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    let name = object["metadata"]["name"].as_str().expect("an object has a name");
    let applied = api.patch(name, &PatchParams::apply("stories").force(), &Patch::Apply(object)).await;
    applied.unwrap_or_else(|error| panic!("{} `{name}` of deploy/: {error}", text("kind")));
}
