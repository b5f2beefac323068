//! Pure: the policies of one workload, compiled, and what they decide.

use std::sync::Arc;
use std::sync::OnceLock;

use crate::authz::decide::Decision;
use crate::authz::decide::RuleRef;
use crate::authz::matcher::Matcher;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::request::Request;

/// A compiled, immutable set of the policies that apply to one workload. Any number of threads may ask it at once.
#[derive(Debug, Default)]
pub struct PolicySet {
    policies: Vec<Arc<Policy>>,
    requests: Matcher,
    /// The policies as they are for bare connections; compiled when the first of these is asked about.
    connections: OnceLock<(Vec<Arc<Policy>>, Matcher)>,
}

/// A rule that a decision points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its policy.
    pub policy: &'a Policy,
    /// The rule.
    pub rule: &'a Rule,
}

impl PolicySet {
    /// Compiles the policies that apply to one workload.
    pub fn new(policies: Vec<Arc<Policy>>) -> Self {
        let requests = Matcher::new(policies.iter().map(Arc::as_ref));
        Self { policies, requests, connections: OnceLock::new() }
    }

    /// The policies, in the order that [`RuleRef::policy`] counts.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// Decides on a request, or on a connection if it has no HTTP part. It asks for no memory, once it has decided a few times.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let matcher = match request.http {
            Some(_) => &self.requests,
            None => &self.for_connections().1,
        };
        matcher.find(request).into()
    }

    /// The rule that a decision on `request` points at.
    pub fn rule(&self, request: &Request<'_>, at: RuleRef) -> Option<Found<'_>> {
        let policies = match request.http {
            Some(_) => &self.policies,
            None => &self.for_connections().0,
        };
        let policy = policies.get(at.policy as usize)?;
        Some(Found { policy, rule: policy.rules.get(at.rule as usize)? })
    }

    /// The memory that the compiled form takes beside the policies, in bytes, about.
    pub fn size(&self) -> usize {
        self.requests.size() + self.connections.get().map_or(0, |(_, matcher)| matcher.size())
    }

    fn for_connections(&self) -> &(Vec<Arc<Policy>>, Matcher) {
        self.connections.get_or_init(|| {
            let policies: Vec<_> =
                self.policies.iter().map(|policy| Arc::new(policy.for_connections())).collect();
            let matcher = Matcher::new(policies.iter().map(Arc::as_ref));
            (policies, matcher)
        })
    }
}

impl Found<'_> {
    /// The object that the policy comes from.
    pub fn name(&self) -> &PolicyName {
        &self.policy.name
    }
}
