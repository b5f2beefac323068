//! What agents are told of policies, and where these come from.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::authz::Mesh;
use crate::authz::PolicyFiles;
use crate::config::CaConfig;
use crate::rotation::AgentService;
use crate::rotation::Follow;
use crate::rotation::PolicyService;
use crate::rotation::Shelf;
use crate::sds::Discovery;

/// The source of policies that is configured, if there is one; `background` keeps it up to date.
pub(super) fn source(
    config: &CaConfig,
    registry: &mut Registry,
    background: &mut JoinSet<()>,
) -> Option<Arc<dyn Follow>> {
    let files = PolicyFiles::new(config.policies.clone()?, registry);
    let (objects, read) = watch::channel(None);
    background.spawn(files.run(objects));
    Some(Arc::new(Shelf { objects: read, mesh: Mesh::of(config.trust_domain.clone()) }))
}

/// What agents subscribe to.
pub(super) fn service(source: Arc<dyn Follow>, agents: &AgentService, discovery: Discovery) -> PolicyService {
    PolicyService { agents: agents.clone(), source, discovery: discovery.to_agents() }
}
