//! How admissions end, counted.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counts admissions by outcome, from a closed set.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    admissions: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl AdmissionMetrics {
    /// Makes the counter and registers it.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self { admissions: Family::default() };
        registry.register(
            "burgrave_policy_admissions",
            "Reviews of the API server, by outcome (granted, warned, refused, unreadable, malformed, busy, failed)",
            metrics.admissions.clone(),
        );
        metrics
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.admissions.get_or_create(&Outcome { outcome }).inc();
    }
}
