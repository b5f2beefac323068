//! Policies and workloads of a cluster, read once.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::Client;
use kube::ResourceExt;
use kube::api::ApiResource;
use kube::api::GroupVersionKind;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::core::TypeMeta;
use serde_json::json;

use crate::attest::ApiPod;
use crate::authz;
use crate::authz::Workload;
use crate::authz::cluster::workload_among;
use crate::authz::recorded::workload;
use crate::authz::resource::Resource;
use crate::authz::resource::ResourceKind;
use crate::k8s;
use crate::k8s::Trouble;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many objects are asked for at once.
const PAGE: u32 = 500;

/// A cluster.
pub(super) struct Cluster(Client);

impl Cluster {
    /// Goes to the cluster of a kubeconfig, or the one around.
    ///
    /// # Errors
    /// If none is known.
    pub(super) async fn reach(kubeconfig: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self(k8s::connect(kubeconfig).await?))
    }

    /// All objects of our kinds. Kinds that the cluster does not have are passed over.
    ///
    /// # Errors
    /// If some may not be read, or the API server does not answer: policies that are not seen would make others look decisive.
    pub(super) async fn policies(&self) -> anyhow::Result<Vec<Result<Resource, String>>> {
        let mut all = Vec::new();
        for kind in ResourceKind::ALL {
            all.extend(self.of_kind(kind).await?);
        }
        Ok(all)
    }

    async fn of_kind(&self, kind: ResourceKind) -> anyhow::Result<Vec<Result<Resource, String>>> {
        for version in kind.versions() {
            let gvk = GroupVersionKind::gvk(kind.group(), version, kind.as_str());
            let resource = ApiResource::from_gvk(&gvk);
            let api: Api<DynamicObject> = Api::all_with(self.0.clone(), &resource);
            let types = TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() };
            match self.list(&api).await {
                Ok(objects) => {
                    let read = objects.into_iter().map(|mut object| {
                        object.types.get_or_insert_with(|| types.clone());
                        Resource::read(&json!(object)).map_err(|error| error.to_string())
                    });
                    return Ok(read.collect());
                }
                Err(trouble) if trouble.is_absent() => {}
                Err(trouble) => anyhow::bail!("{} of the cluster: {trouble}", resource.plural),
            }
        }
        Ok(Vec::new())
    }

    async fn list<K>(&self, api: &Api<K>) -> Result<Vec<K>, Trouble>
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let mut all = Vec::new();
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let page = Trouble::within(PATIENCE, api.list(&parameters)).await?;
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            all.extend(page.items);
            match next {
                None => return Ok(all),
                Some(token) => parameters = parameters.continue_token(&token),
            }
        }
    }

    /// The workload of `namespace/pod`, or of pods with `app=…`, as the CA knows it; services are named under `domain`.
    ///
    /// # Errors
    /// If there is no such pod, or pods and services may not be read.
    pub(super) async fn workload(&self, name: &str, domain: &str) -> anyhow::Result<Workload> {
        let short =
            workload::short_in(name, domain).map_err(|error| anyhow::anyhow!("`--workload`: {error}"))?;
        let Some((namespace, pod)) = name.split_once('/') else { return Ok(short) };
        let pods: Api<ApiPod> = Api::namespaced(self.0.clone(), namespace);
        let pod = match Trouble::within(PATIENCE, pods.get_opt(pod)).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let of_app = ListParams::default().labels(&format!("app={pod}")).limit(1);
                let found = Trouble::within(PATIENCE, pods.list(&of_app)).await;
                let found =
                    found.map_err(|trouble| anyhow::anyhow!("pods of namespace {namespace}: {trouble}"))?;
                found.items.into_iter().next().with_context(|| {
                    format!("there is no pod `{pod}` in namespace `{namespace}`, and none with the label app={pod}")
                })?
            }
            Err(trouble) => anyhow::bail!("pod {name}: {trouble}"),
        };
        let services: Api<Service> = Api::namespaced(self.0.clone(), namespace);
        let services = self.list(&services).await;
        let services =
            services.map_err(|trouble| anyhow::anyhow!("services of namespace {namespace}: {trouble}"))?;
        Ok(workload_among(&pod, &services, domain))
    }

    /// All services that lead to pods.
    ///
    /// # Errors
    /// If they may not be read.
    pub(super) async fn services_everywhere(&self) -> anyhow::Result<Vec<authz::Service>> {
        let api: Api<Service> = Api::all(self.0.clone());
        let all = self.list(&api).await.map_err(|trouble| anyhow::anyhow!("services: {trouble}"))?;
        let with_kind = |service: Service| {
            let mut object = json!(service);
            if let Some(object) = object.as_object_mut() {
                object.insert("apiVersion".to_owned(), json!("v1"));
                object.insert("kind".to_owned(), json!("Service"));
            }
            authz::Service::read(&object)
        };
        Ok(all.into_iter().filter_map(with_kind).collect())
    }

    /// All service accounts, as `namespace/name`.
    ///
    /// # Errors
    /// If they may not be read.
    pub(super) async fn accounts(&self) -> anyhow::Result<Vec<String>> {
        let api: Api<ServiceAccount> = Api::all(self.0.clone());
        let all = self.list(&api).await.map_err(|trouble| anyhow::anyhow!("service accounts: {trouble}"))?;
        let name =
            |one: &ServiceAccount| format!("{}/{}", one.namespace().unwrap_or_default(), one.name_any());
        Ok(all.iter().map(name).collect())
    }
}
