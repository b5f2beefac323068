//! What agents are told of policies, and where these come from.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::authz::Follow;
use crate::authz::PolicyFiles;
use crate::config::CaConfig;
use crate::config::PolicySource;
use crate::roles::ca::cluster::Followed;
use crate::rotation::AgentService;
use crate::rotation::Pods;
use crate::rotation::PolicyService;
use crate::rotation::Rulebooks;
use crate::rotation::Shelf;
use crate::sds::Discovery;

/// Who knows which policies apply to whom.
#[derive(Clone)]
pub(super) struct Source {
    /// For agents, which are told the objects.
    pub(super) agents: Arc<dyn Rulebooks>,
    /// For proxies, which ask for decisions.
    pub(super) proxies: Arc<dyn Follow>,
}

impl Source {
    fn of(one: impl Rulebooks + Follow + 'static) -> Self {
        let one = Arc::new(one);
        Self { agents: one.clone(), proxies: one }
    }
}

/// The source of policies that is configured, if there is one: the cluster's, or files that `background` keeps up to date.
pub(super) fn source(
    config: &CaConfig,
    followed: Option<&Followed>,
    registry: &mut Registry,
    background: &mut JoinSet<()>,
) -> Option<Source> {
    let policies = config.policies.as_ref()?;
    match &policies.source {
        PolicySource::Files(directory) => {
            let files = PolicyFiles::new(directory.clone(), registry);
            let (objects, read) = watch::channel(None);
            background.spawn(files.run(objects));
            Some(Source::of(Shelf { objects: read, mesh: policies.mesh.clone() }))
        }
        PolicySource::Cluster { .. } => {
            let followed = followed?;
            Some(Source::of(Pods {
                known: followed.known.clone(),
                directory: followed.directory.clone(),
                mesh: policies.mesh.clone(),
            }))
        }
    }
}

/// What agents subscribe to.
pub(super) fn service(source: &Source, agents: &AgentService, discovery: Discovery) -> PolicyService {
    PolicyService { agents: agents.clone(), source: source.agents.clone(), discovery: discovery.to_agents() }
}
