//! What agents are told of policies, and where these come from.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::authz::PolicyFiles;
use crate::config::CaConfig;
use crate::config::PolicySource;
use crate::roles::ca::cluster::Followed;
use crate::rotation::AgentService;
use crate::rotation::Follow;
use crate::rotation::Pods;
use crate::rotation::PolicyService;
use crate::rotation::Shelf;
use crate::sds::Discovery;

/// The source of policies that is configured, if there is one: the cluster's, or files that `background` keeps up to date.
pub(super) fn source(
    config: &CaConfig,
    followed: Option<&Followed>,
    registry: &mut Registry,
    background: &mut JoinSet<()>,
) -> Option<Arc<dyn Follow>> {
    let policies = config.policies.as_ref()?;
    match &policies.source {
        PolicySource::Files(directory) => {
            let files = PolicyFiles::new(directory.clone(), registry);
            let (objects, read) = watch::channel(None);
            background.spawn(files.run(objects));
            Some(Arc::new(Shelf { objects: read, mesh: policies.mesh.clone() }))
        }
        PolicySource::Cluster { .. } => {
            let followed = followed?;
            Some(Arc::new(Pods {
                library: followed.library.clone(),
                directory: followed.directory.clone(),
                mesh: policies.mesh.clone(),
            }))
        }
    }
}

/// What agents subscribe to.
pub(super) fn service(source: Arc<dyn Follow>, agents: &AgentService, discovery: Discovery) -> PolicyService {
    PolicyService { agents: agents.clone(), source, discovery: discovery.to_agents() }
}
