//! What the agent counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of renewal.
#[derive(Clone, Debug, Default)]
pub struct AgentMetrics {
    renewals: Family<Outcome, Counter>,
    last_chance: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl AgentMetrics {
    /// Makes the counters and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Attempts to renew the workload's certificate, by outcome";
        registry.register("burgrave_renewals", help, metrics.renewals.clone());
        let help =
            "1 while the certificate is in the last fifth of its life, or expired, and cannot be renewed";
        registry.register("burgrave_renewal_last_chance", help, metrics.last_chance.clone());
        metrics
    }

    pub(super) fn renewed(&self) {
        self.renewals.get_or_create(&Outcome { outcome: "renewed" }).inc();
        self.last_chance.set(0);
    }

    pub(super) fn failed(&self, is_last_chance: bool) {
        self.renewals.get_or_create(&Outcome { outcome: "failed" }).inc();
        self.last_chance.set(i64::from(is_last_chance));
    }
}
