//! Pure: what has to be known of a workload, to know which policies apply to it?

use std::collections::BTreeMap;

use crate::identity::TrustDomain;

/// A workload that policies protect.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// The labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// Whether nobody told its labels. A policy that selects some may then be for it or not: it denies what it denies, and allows
    /// nothing.
    pub labels_are_unknown: bool,
    /// Its service account; roles may ask for it (`destination.user`).
    pub service_account: String,
    /// Its name, as of its pods' controller; roles may ask for it (`destination.name`).
    pub name: String,
    /// The names of the services that lead to it, in full (`reviews.shop.svc.cluster.local`); roles are given for services.
    pub services: Vec<String>,
    /// What kind of proxy stands before it.
    pub proxy: Proxy,
}

/// Kinds of proxies; policies that name targets apply by them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proxy {
    /// One beside the workload, or a classic gateway: selectors count, targets do not.
    #[default]
    Sidecar,
    /// A gateway of the Gateway API.
    Gateway {
        /// The `Gateway` it was made for.
        name: String,
    },
    /// A waypoint: it stands before services.
    Waypoint {
        /// The `Gateway` it was made for.
        name: String,
        /// Its class, as `istio-waypoint`.
        class: String,
        /// The services it stands before, as kind (`Service` or `ServiceEntry`), namespace and name.
        services: Vec<(String, String, String)>,
    },
}

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// The trust domain of its identities.
    pub trust_domain: TrustDomain,
    /// Other names that policies may call it by; they may have a wildcard at either end.
    pub aliases: Vec<String>,
    /// The namespace whose policies apply to all namespaces.
    pub root_namespace: String,
}

impl Mesh {
    /// A mesh without aliases, with Istio's root namespace.
    pub fn of(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, aliases: Vec::new(), root_namespace: "istio-system".to_owned() }
    }
}
