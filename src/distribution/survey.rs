//! Which roots are trusted already? Looks where trust is published, and at who leads, before a root is made or used.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::Client;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::authority::Trusted;
use crate::authority::Witness;
use crate::distribution::objects;
use crate::distribution::objects::Names;
use crate::k8s;
use crate::k8s::Trouble;
use crate::x509::TrustBundle;

/// The annotation of the Lease that names the root its holder signs with.
pub const ROOT_ANNOTATION: &str = "burgrave.dev/root";
/// How many ConfigMaps are looked at; they are all written by one hand.
const SAMPLE: u32 = 20;
/// How long a look may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Looks for trusted roots in a cluster.
#[derive(Clone)]
pub struct Survey {
    /// Talks to the API server.
    pub client: Client,
    /// Where trust is published.
    pub names: Names,
    /// Namespace and name of the Lease, if there is one.
    pub lease: Option<(String, String)>,
}

impl fmt::Debug for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survey").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Witness for Survey {
    fn look(&self) -> BoxFuture<'_, Result<Vec<Trusted>, Trouble>> {
        Box::pin(async {
            let (cluster, namespaces, leader) =
                tokio::try_join!(self.trust_bundle(), self.config_maps(), self.leader())?;
            Ok(cluster.into_iter().chain(namespaces).chain(leader).collect())
        })
    }
}

impl Survey {
    async fn trust_bundle(&self) -> Result<Option<Trusted>, Trouble> {
        let name = self.names.cluster_trust_bundle();
        let bundles = Api::<ClusterTrustBundle>::all(self.client.clone());
        // A cluster that does not serve them at all answers as one that has none.
        let found = Trouble::within(TIMEOUT, bundles.get_opt(&name)).await?;
        Ok(found.map(|found| Trusted {
            place: format!("ClusterTrustBundle `{name}`"),
            roots: fingerprints(&found.spec.trust_bundle),
        }))
    }

    async fn config_maps(&self) -> Result<Vec<Trusted>, Trouble> {
        let maps = Api::<ConfigMap>::all(self.client.clone());
        let params = ListParams::default().fields(&k8s::named(&self.names.config_map)).limit(SAMPLE);
        let found = Trouble::within(TIMEOUT, maps.list(&params)).await?;
        let trusted = |map: ConfigMap| Trusted {
            place: format!("ConfigMap `{}/{}`", map.namespace().unwrap_or_default(), map.name_any()),
            roots: fingerprints(objects::bundle_of(&map)),
        };
        Ok(found.items.into_iter().map(trusted).collect())
    }

    /// Whoever leads holds its root in memory, even if nothing is published.
    async fn leader(&self) -> Result<Option<Trusted>, Trouble> {
        let Some((namespace, name)) = &self.lease else { return Ok(None) };
        let leases = Api::<Lease>::namespaced(self.client.clone(), namespace);
        let found = Trouble::within(TIMEOUT, leases.get_opt(name)).await?;
        let root = found.and_then(|lease| lease.annotations().get(ROOT_ANNOTATION).cloned());
        Ok(root.map(|root| Trusted { place: format!("Lease `{namespace}/{name}`"), roots: [root].into() }))
    }
}

/// None, if it cannot be read: that something was there still counts.
fn fingerprints(pem: &str) -> BTreeSet<String> {
    let bundle = TrustBundle::from_pem(pem.as_bytes());
    bundle.iter().flat_map(|bundle| bundle.roots()).map(|root| root.fingerprint()).collect()
}
