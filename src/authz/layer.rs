//! Pure: policies that were compiled together, in one order, for requests and for bare connections.

use std::sync::Arc;
use std::sync::OnceLock;

use crate::authz::decide::RuleRef;
use crate::authz::matcher::LANES;
use crate::authz::matcher::Lane;
use crate::authz::matcher::Matcher;
use crate::authz::matcher::hidden::Hidden;
use crate::authz::matcher::lane;
use crate::authz::model::Policy;
use crate::authz::request::Request;

/// Compiled policies. Their order is that of their names.
#[derive(Debug, Default)]
pub(super) struct Layer {
    policies: Vec<Arc<Policy>>,
    requests: Matcher,
    /// The policies as they are for bare connections; compiled when the first of these is asked about.
    connections: OnceLock<(Vec<Arc<Policy>>, Matcher)>,
}

impl Layer {
    pub(super) fn new(mut policies: Vec<Arc<Policy>>) -> Self {
        policies.sort_by(|one, other| one.name.cmp(&other.name));
        let requests = Matcher::new(policies.iter().map(Arc::as_ref));
        Self { policies, requests, connections: OnceLock::new() }
    }

    /// The policies, in order.
    pub(super) fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// The policy at a place, as it is for such a request.
    pub(super) fn policy(&self, request: &Request<'_>, place: u32) -> Option<&Policy> {
        let policies = match request.http {
            Some(_) => &self.policies,
            None => &self.connections().0,
        };
        policies.get(place as usize).map(Arc::as_ref)
    }

    /// The first rule of each lane that matches.
    pub(super) fn find(&self, request: &Request<'_>, hidden: &Hidden) -> [Option<RuleRef>; LANES] {
        match request.http {
            Some(_) => self.requests.find(request, hidden),
            None => self.connections().1.find(request, hidden),
        }
    }

    /// How many policies there are of a lane that are not hidden.
    pub(super) fn count(&self, of: Lane, hidden: &Hidden) -> usize {
        let visible = (0..).zip(&self.policies).filter(|(place, _)| !hidden.contains(*place));
        visible.filter(|(_, policy)| lane(policy) == of).count()
    }

    /// The memory of the compiled form, in bytes, about.
    pub(super) fn size(&self) -> usize {
        self.requests.size() + self.connections.get().map_or(0, |(_, matcher)| matcher.size())
    }

    fn connections(&self) -> &(Vec<Arc<Policy>>, Matcher) {
        self.connections.get_or_init(|| {
            let policies: Vec<_> =
                self.policies.iter().map(|policy| Arc::new(policy.for_connections())).collect();
            let matcher = Matcher::new(policies.iter().map(Arc::as_ref));
            (policies, matcher)
        })
    }
}
