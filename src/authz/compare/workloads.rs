//! Pure: for which workloads may some objects differ? (one for each way of being selected)

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::authz::resource::Resource;
use crate::authz::workload::Mesh;
use crate::authz::workload::Proxy;
use crate::authz::workload::Workload;

/// The most workloads that are made up.
pub const MAX_WORKLOADS: usize = 500;

/// A namespace that nothing is in, where what holds for all of them shows.
const ELSEWHERE: &str = "elsewhere";

/// Workloads that were made up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// At most [`MAX_WORKLOADS`].
    pub workloads: Vec<Workload>,
    /// How many more there would be.
    pub left_out: usize,
}

/// Workloads that `resources` select, each in a different way, and one in each namespace that no labels select.
pub fn selected<'a>(resources: impl IntoIterator<Item = &'a Resource>, mesh: &Mesh) -> Selected {
    let mut namespaces = BTreeSet::new();
    let mut own: BTreeSet<(String, Way)> = BTreeSet::new();
    let mut everywhere: BTreeSet<Way> = BTreeSet::new();
    everywhere.insert(Way::default());
    for resource in resources {
        let namespace = &resource.id.namespace;
        let is_of_root = *namespace == mesh.root_namespace || namespace.is_empty();
        if is_of_root {
            namespaces.insert(ELSEWHERE.to_owned());
        } else {
            namespaces.insert(namespace.clone());
        }
        for way in ways(&resource.to_json(), namespace) {
            match is_of_root {
                true => drop(everywhere.insert(way)),
                false => drop(own.insert((namespace.clone(), way))),
            }
        }
    }
    let anywhere = namespaces
        .iter()
        .flat_map(|namespace| everywhere.iter().map(move |way| (namespace.clone(), way.clone())));
    let all: BTreeSet<(String, Way)> = anywhere.chain(own).collect();
    let left_out = all.len().saturating_sub(MAX_WORKLOADS);
    let kept = all.into_iter().take(MAX_WORKLOADS);
    Selected { workloads: kept.map(|(namespace, way)| way.workload(namespace)).collect(), left_out }
}

/// How a workload is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    labels: BTreeMap<String, String>,
    proxy: Proxy,
    services: Vec<String>,
    service_account: String,
}

impl Way {
    fn workload(self, namespace: String) -> Workload {
        Workload {
            namespace,
            labels: self.labels,
            proxy: self.proxy,
            services: self.services,
            service_account: self.service_account,
            ..Workload::default()
        }
    }
}

fn ways(object: &Value, namespace: &str) -> Vec<Way> {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut ways = Vec::new();
    let labels =
        spec.get("selector").and_then(|selector| selector.get("matchLabels")).and_then(Value::as_object);
    if let Some(labels) = labels {
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        ways.push(Way { labels: labels.iter().filter_map(text).collect(), ..Way::default() });
    }
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let targets = list(spec.get("targetRefs")).into_iter().chain(spec.get("targetRef").cloned());
    ways.extend(targets.filter_map(|target| of_target(&target, namespace)));
    for rule in list(spec.get("rules")) {
        for service in list(rule.get("services")) {
            if let Some(service) = service.as_str() {
                let name = service.replace('*', "x");
                ways.push(Way { services: vec![name], ..Way::default() });
            }
        }
        ways.extend(list(rule.get("constraints")).iter().filter_map(of_constraint));
    }
    ways
}

/// A role's constraint on the destination's labels selects workloads too.
fn of_constraint(constraint: &Value) -> Option<Way> {
    let key = constraint.get("key")?.as_str()?;
    let value = constraint.get("values")?.as_array()?.first()?.as_str()?.replace('*', "x");
    let label = key.strip_prefix("destination.labels[").and_then(|rest| rest.strip_suffix(']'));
    match (label, key) {
        (Some(label), _) => {
            Some(Way { labels: BTreeMap::from([(label.to_owned(), value)]), ..Way::default() })
        }
        (None, "destination.user") => Some(Way { service_account: value, ..Way::default() }),
        _ => None,
    }
}

fn of_target(target: &Value, namespace: &str) -> Option<Way> {
    let text = |field: &str| target.get(field).and_then(Value::as_str);
    let name = text("name")?.to_owned();
    let proxy = match text("kind")? {
        "Gateway" => Proxy::Gateway { name },
        "GatewayClass" => Proxy::Waypoint { name: "waypoint".to_owned(), class: name, services: Vec::new() },
        kind @ ("Service" | "ServiceEntry") => Proxy::Waypoint {
            name: "waypoint".to_owned(),
            class: "istio-waypoint".to_owned(),
            services: vec![(kind.to_owned(), namespace.to_owned(), name)],
        },
        _ => return None,
    };
    Some(Way { proxy, ..Way::default() })
}

#[cfg(test)]
mod tests {
    use crate::authz::resource::from_yaml;

    use super::*;

    #[test]
    fn workloads_that_are_too_many_are_left_out_and_counted() {
        let one = |at: usize| {
            let object = serde_json::json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": { "name": format!("p{at}"), "namespace": "shop" },
                "spec": { "selector": { "matchLabels": { "app": format!("a{at}") } }, "rules": [{}] },
            });
            Resource::read(&object).unwrap()
        };
        let resources: Vec<_> = (0..MAX_WORKLOADS + 2).map(one).collect();
        let found = selected(&resources, &Mesh::of("td".parse().unwrap()));
        // One of them no policy selects.
        assert_eq!((found.workloads.len(), found.left_out), (MAX_WORKLOADS, 3));
    }

    #[test]
    fn there_is_a_workload_for_each_way_of_being_selected() {
        let documents = from_yaml(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: a, namespace: shop }
spec: { selector: { matchLabels: { app: api } }, rules: [{}] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: b, namespace: istio-system }
spec: { selector: { matchLabels: { tier: db } }, rules: [{}] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: c, namespace: shop }
spec: { targetRefs: [{ kind: Service, group: '', name: web }], rules: [{}] }
",
        )
        .unwrap();
        let resources: Vec<_> = documents.resources.into_iter().map(Result::unwrap).collect();
        let mesh = Mesh::of("td".parse().unwrap());
        let found = selected(&resources, &mesh).workloads;
        let told: Vec<_> = found
            .iter()
            .map(|one| {
                let labels: Vec<_> =
                    one.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!(
                    "{} {}{}",
                    one.namespace,
                    labels.join(","),
                    match one.proxy {
                        Proxy::Waypoint { .. } => "waypoint",
                        _ => "",
                    }
                )
            })
            .collect();
        assert_eq!(
            told,
            ["elsewhere ", "elsewhere tier=db", "shop ", "shop waypoint", "shop app=api", "shop tier=db"]
        );
    }
}
