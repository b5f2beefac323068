//! Looks at a cluster: everything that the deciders want to know, at once, and nothing that a viewer may not see.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::Client;
use kube::ResourceExt;
use kube::api::ApiResource;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::core::GroupVersionKind;
use serde_json::Value;
use serde_json::json;

use crate::install::expected;
use crate::install::expected::Expected;
use crate::install::facts::Facts;
use crate::install::facts::Look;
use crate::install::facts::Node;
use crate::k8s;
use crate::k8s::Trouble;

/// How many nodes are read at once: each is told with all its images, and there may be thousands.
const NODES_AT_ONCE: u32 = 250;
/// How long one look may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many objects of `deploy/` are looked at at once; the other looks, of which there are eight, run beside them.
const PARALLEL: usize = 8;

/// Looks at the cluster that `client` reaches; the authority is looked for in `namespace`.
pub(super) async fn look(client: &Client, namespace: &str) -> Facts {
    let version = once(client.apiserver_version()).await.map(|version| version.git_version);
    let certificates = client.list_api_group_resources("certificates.k8s.io/v1");
    let pods = Api::<core::Pod>::namespaced(client.clone(), namespace);
    let (of_authority, of_name) = (
        ListParams::default().labels(expected::PODS),
        ListParams::default().fields(&k8s::named(expected::CONFIG_MAP)),
    );
    let maps = Api::<core::ConfigMap>::all(client.clone());
    let leases = Api::namespaced(client.clone(), namespace);
    let bundles = Api::all(client.clone());
    let (certificates, nodes, objects, pods, lease, namespaces, config_maps, trust_bundle) = tokio::join!(
        once(certificates),
        nodes(client),
        objects(client, namespace),
        once(pods.list(&of_authority)),
        once(leases.get(expected::LEASE)),
        namespaces(client),
        once(maps.list(&of_name)),
        once(bundles.get(expected::TRUST_BUNDLE)),
    );
    Facts {
        namespace: namespace.to_owned(),
        version,
        certificates: certificates.map(|list| list.resources.into_iter().map(|one| one.name).collect()),
        nodes,
        objects,
        pods: pods.map(|list| list.items),
        lease,
        namespaces,
        config_maps: config_maps.map(|list| list.items),
        trust_bundle,
    }
}

async fn nodes(client: &Client) -> Look<Vec<Node>> {
    let nodes = Api::<core::Node>::all(client.clone());
    let of = |node: core::Node| Node {
        name: node.name_any(),
        kubelet: node
            .status
            .and_then(|status| status.node_info)
            .map(|about| about.kubelet_version)
            .unwrap_or_default(),
    };
    let mut seen = Vec::new();
    let mut params = ListParams::default().limit(NODES_AT_ONCE);
    loop {
        match once(nodes.list(&params)).await {
            Look::There(list) => {
                seen.extend(list.items.into_iter().map(of));
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => return Look::There(seen),
                }
            }
            other => return other.map(|_| Vec::new()),
        }
    }
}

/// Those that end take no new objects.
async fn namespaces(client: &Client) -> Look<Vec<String>> {
    let namespaces = Api::<core::Namespace>::all(client.clone());
    let list = once(namespaces.list_metadata(&ListParams::default())).await;
    list.map(|list| {
        let stays = list.items.into_iter().filter(|one| one.metadata.deletion_timestamp.is_none());
        stays.map(|one| one.name_any()).collect()
    })
}

async fn objects(client: &Client, namespace: &str) -> Vec<(Expected, Look<Value>)> {
    let looks = expected::objects(namespace).into_iter().map(|expected| async {
        let seen = object(client, &expected).await;
        (expected, seen)
    });
    stream::iter(looks).buffered(PARALLEL).collect().await
}

async fn object(client: &Client, expected: &Expected) -> Look<Value> {
    let (group, version) = expected.group_version();
    let kind = GroupVersionKind::gvk(group, version, &expected.subject.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &expected.resource());
    let api: Api<DynamicObject> = match &expected.subject.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    once(api.get(&expected.subject.name)).await.map(|object| json!(object))
}

async fn once<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Look<T> {
    match Trouble::within(TIMEOUT, call).await {
        Ok(seen) => Look::There(seen),
        Err(trouble) if trouble.is_absent() => Look::Absent,
        Err(trouble) if trouble.is_forbidden() => Look::Forbidden,
        Err(trouble) => Look::Failed(trouble.to_string()),
    }
}
