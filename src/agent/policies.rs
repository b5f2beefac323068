//! Pure: what does a rulebook of the CA's say, and what is it in Envoy's words?

use std::sync::Arc;

use crate::authz::Applied;
use crate::authz::Compiled;
use crate::authz::InvalidRulebook;
use crate::authz::Rulebook;
use crate::authz::envoy::Layer;
use crate::authz::envoy::Refusal;
use crate::proto::envoy::DiscoveryResponse;
use crate::sds::Version;

/// The policies of the workload, read and compiled.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The version of the rulebook.
    pub version: Version,
    /// What it says.
    pub applied: Arc<Applied>,
    /// The filters for requests.
    pub requests: Arc<Compiled>,
    /// The filters for connections.
    pub connections: Arc<Compiled>,
}

/// Why policies are not followed; those that were before stay in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidPolicies {
    /// They are no rulebook.
    #[error(transparent)]
    Rulebook(#[from] InvalidRulebook),
    /// They say what Envoy cannot be told.
    #[error("the policies cannot be told to Envoy: {0}")]
    Unspeakable(#[from] Refusal),
}

impl PartialEq for Policies {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for Policies {}

/// The policies in a message.
pub(super) fn policies(message: &DiscoveryResponse) -> Result<Policies, InvalidPolicies> {
    let any = message.resources.first().ok_or(InvalidRulebook::NotThere)?;
    let rulebook = Rulebook::from_any(any)?;
    let applied = rulebook.read()?.applied();
    Ok(Policies {
        version: rulebook.version().clone(),
        requests: Arc::new(Compiled::new(&applied, Layer::Requests)?),
        connections: Arc::new(Compiled::new(&applied, Layer::Connections)?),
        applied: Arc::new(applied),
    })
}
