//! What the agent counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of renewal, and of the stream to the CA.
#[derive(Clone, Debug, Default)]
pub struct AgentMetrics {
    renewals: Family<Outcome, Counter>,
    last_chance: Gauge,
    connected: Gauge,
    objections: Family<Objection, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Objection {
    resource: &'static str,
    reason: &'static str,
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
        let help = "1 while the CA tells us its roots and its authority on a stream";
        registry.register("burgrave_upstream_connected", help, metrics.connected.clone());
        let help = "What the CA has pushed and was told not to be in use, by resource and reason";
        registry.register("burgrave_upstream_nacks", help, metrics.objections.clone());
        metrics
    }

    pub(super) fn connected(&self, is_connected: bool) {
        self.connected.set(i64::from(is_connected));
    }

    pub(super) fn objected(&self, resource: &'static str, reason: &'static str) {
        self.objections.get_or_create(&Objection { resource, reason }).inc();
    }

    pub(super) fn late(&self) {
        self.renewals.get_or_create(&Outcome { outcome: "late" }).inc();
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
