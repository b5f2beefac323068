//! A namespace of a story's own, and what lives in it: accounts, pods, tokens.

use super::access::Access;
use super::apiserver::NODE;
use super::apiserver::eventually;
use super::random_hex;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::DeleteParams;
use kube::api::PostParams;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

/// A namespace that nobody else uses. Like a kubelet and an operator in one, it makes pods, accounts and their tokens.
pub struct Namespace {
    pub name: String,
    access: Arc<Access>,
}

/// A pod that is bound to a node, which is all that a token needs.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub uid: String,
}

// === impl Namespace ===

impl Namespace {
    /// A fresh one; `prefix` is for people who read logs.
    pub(super) async fn create(access: &Arc<Access>, prefix: &str) -> Namespace {
        let name = format!("{prefix}-{}", random_hex(4));
        let namespace = object(json!({"metadata": {"name": name}}));
        Api::<core::Namespace>::all(access.admin())
            .create(&PostParams::default(), &namespace)
            .await
            .expect("an admin may create a namespace");
        Namespace { name, access: access.clone() }
    }

    pub async fn service_account(&self, name: &str) {
        create_if_absent(&self.api::<core::ServiceAccount>(), json!({"metadata": {"name": name}})).await;
    }

    pub async fn delete_service_account(&self, name: &str) {
        self.delete(&self.api::<core::ServiceAccount>(), name).await;
    }

    /// A node; nodes belong to no namespace, so all stories of an API server share them.
    pub async fn node(&self, name: &str) {
        let nodes = Api::<core::Node>::all(self.client());
        create_if_absent(&nodes, json!({"metadata": {"name": name}})).await;
    }

    /// A pod on the usual node.
    pub async fn pod(&self, name: &str, service_account: &str) -> Pod {
        self.pod_on(NODE, name, service_account).await
    }

    /// A pod on that node.
    pub async fn pod_on(&self, node: &str, name: &str, service_account: &str) -> Pod {
        self.node(node).await;
        let pod = object(json!({
            "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "serviceAccountName": service_account,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "pause", "image": "burgrave.dev/pause:1"}],
            },
        }));
        let pod = self.api::<core::Pod>().create(&PostParams::default(), &pod).await;
        let pod = pod.unwrap_or_else(|error| panic!("pod `{}/{name}` could not be made: {error}", self.name));
        Pod { name: name.to_owned(), uid: pod.metadata.uid.expect("the API server gives every object a uid") }
    }

    /// Deletes the pod and returns when it is gone.
    pub async fn delete_pod(&self, name: &str) {
        self.delete(&self.api::<core::Pod>(), name).await;
    }

    /// A token of the service account, bound to the pod if one is given. The API server refuses less than 600 seconds.
    pub async fn token(
        &self,
        service_account: &str,
        pod: Option<&Pod>,
        audience: &str,
        seconds: i64,
    ) -> String {
        let mut request =
            json!({"metadata": {}, "spec": {"audiences": [audience], "expirationSeconds": seconds}});
        if let Some(pod) = pod {
            request["spec"]["boundObjectRef"] =
                json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid});
        }
        let request: TokenRequest = object(request);
        let answer = self
            .api::<core::ServiceAccount>()
            .create_token_request(service_account, &PostParams::default(), &request)
            .await;
        let answer = answer.unwrap_or_else(|error| {
            panic!("no token for service account `{}/{service_account}`: {error}", self.name)
        });
        answer.status.and_then(|status| status.token).expect("a token request that succeeds has a token")
    }

    fn client(&self) -> kube::Client {
        self.access.admin()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), &self.name)
    }

    async fn delete<K>(&self, api: &Api<K>, name: &str)
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug,
    {
        let deleted = api.delete(name, &DeleteParams::default().grace_period(0)).await;
        deleted.unwrap_or_else(|error| panic!("`{}/{name}` could not be deleted: {error}", self.name));
        eventually("the end of a deleted object", Duration::from_secs(20), None, async || {
            match api.get_opt(name).await {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err(format!("`{}/{name}` is still there", self.name)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }
}

/// A Kubernetes object written as JSON.
pub(super) fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the test's own object has the shape of its kind")
}

pub(super) async fn create_if_absent<K>(api: &Api<K>, value: Value)
where
    K: kube::Resource + Clone + DeserializeOwned + serde::Serialize + Debug,
{
    match api.create(&PostParams::default(), &object(value.clone())).await {
        Ok(_) => (),
        Err(kube::Error::Api(status)) if status.code == 409 => (),
        Err(error) => panic!("{} could not be made: {error}", value["metadata"]["name"]),
    }
}
