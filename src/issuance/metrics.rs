//! What issuance counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counters of issuance. Labels come from closed sets; no caller can make a new one.
#[derive(Clone, Debug)]
pub struct IssuanceMetrics {
    outcomes: Family<Outcome, Counter>,
    seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
    reason: &'static str,
}

impl IssuanceMetrics {
    /// Makes the counters and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            outcomes: Family::default(),
            seconds: Histogram::new([0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0]),
        };
        registry.register(
            "burgrave_certificate_requests",
            "Requests for a certificate, by outcome and the reason of a refusal",
            metrics.outcomes.clone(),
        );
        registry.register(
            "burgrave_certificate_request_seconds",
            "Time from request to answer, attestation included",
            metrics.seconds.clone(),
        );
        metrics
    }

    pub(super) fn count(&self, outcome: Result<(), &'static str>, took: Duration) {
        let (outcome, reason) = match outcome {
            Ok(()) => ("issued", ""),
            Err(reason) => ("refused", reason),
        };
        self.outcomes.get_or_create(&Outcome { outcome, reason }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
