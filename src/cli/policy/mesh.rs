//! Pure: which mesh and which workload are meant, as flags say it?

use clap::Args;

use crate::authz::Mesh;
use crate::authz::Workload;
use crate::authz::recorded::workload;
use crate::identity::TrustDomain;

/// What holds for the whole mesh.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which mesh")]
pub(super) struct RawMesh {
    /// Trust domain of the mesh's identities
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: TrustDomain,
    /// Another name that policies may call the trust domain by; may be given several times
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// Namespace whose policies hold for all namespaces
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    root_namespace: String,
}

impl RawMesh {
    /// The mesh.
    pub(super) fn resolve(&self) -> Mesh {
        Mesh {
            trust_domain: self.trust_domain.clone(),
            aliases: self.aliases.clone(),
            root_namespace: self.root_namespace.clone(),
        }
    }
}

/// Which workload is called.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which workload is called")]
pub(super) struct RawWorkload {
    /// Namespace and app, as `shop/api`: the label app=api, the service account api, the service
    /// api.shop.svc.cluster.local; `shop` alone has no labels. With --cluster, namespace and pod, or the label app of pods
    #[arg(long, value_name = "NS/APP")]
    pub(super) workload: Option<String>,
    /// Namespace, instead of --workload
    #[arg(long, value_name = "NAME")]
    workload_namespace: Option<String>,
    /// A label of its pods, as app=api; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// A service that leads to it, in full, as api.shop.svc.cluster.local; may be given several times
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<String>,
    /// Its service account
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// Domain that services are named under, where it is not said in full
    #[arg(long, value_name = "NAME", default_value = workload::USUAL_DOMAIN)]
    pub(super) cluster_domain: String,
}

impl RawWorkload {
    /// The workload `known`, or the one that --workload is short for, with what the other flags say of it; none if nothing says
    /// which it is.
    ///
    /// # Errors
    /// If the short form is none.
    pub(super) fn resolve(&self, known: Option<Workload>) -> anyhow::Result<Option<Workload>> {
        let short = match (&self.workload, known) {
            (_, Some(known)) => Some(known),
            (Some(text), None) => Some(
                workload::short_in(text, &self.cluster_domain)
                    .map_err(|error| anyhow::anyhow!("`--workload`: {error}"))?,
            ),
            (None, None) => None,
        };
        let mut workload = match (short, &self.workload_namespace) {
            (None, None) => return Ok(None),
            (short, namespace) => {
                let mut workload = short.unwrap_or_default();
                if let Some(namespace) = namespace {
                    workload.namespace.clone_from(namespace);
                }
                workload
            }
        };
        workload.labels.extend(self.labels.iter().cloned());
        workload.services.extend(self.services.iter().cloned());
        if let Some(account) = &self.service_account {
            workload.service_account.clone_from(account);
        }
        Ok(Some(workload))
    }
}

/// Reads `key=value`.
///
/// # Errors
/// If there is no `=`, or nothing before it.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not written key=value")),
    }
}

/// A workload in a few words.
pub(super) fn told(workload: &Workload) -> String {
    let mut text = format!("a workload in namespace {}", workload.namespace);
    let labels: Vec<String> = workload.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !labels.is_empty() {
        text.push_str(&format!(" with {}", labels.join(", ")));
    }
    match &workload.proxy {
        crate::authz::Proxy::Sidecar => {}
        crate::authz::Proxy::Gateway { name } => text.push_str(&format!(" behind Gateway {name}")),
        crate::authz::Proxy::Waypoint { class, services, .. } => {
            let services: Vec<String> =
                services.iter().map(|(kind, namespace, name)| format!("{kind} {namespace}/{name}")).collect();
            text.push_str(&format!(
                " behind a waypoint ({class}) of {}",
                match services.is_empty() {
                    true => "no services".to_owned(),
                    false => services.join(", "),
                }
            ));
        }
    }
    if workload.labels.is_empty() && !workload.services.is_empty() {
        text.push_str(&format!(" of service {}", workload.services.join(", ")));
    }
    text
}
