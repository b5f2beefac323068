//! What the pod certificates' signer counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counters of pod certificates. Labels come from closed sets.
#[derive(Clone, Debug)]
pub struct PodCertificateMetrics {
    outcomes: Family<Outcome, Counter>,
    pending: Gauge,
    seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
    reason: &'static str,
}

impl PodCertificateMetrics {
    /// Makes the counters and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            outcomes: Family::default(),
            pending: Gauge::default(),
            seconds: Histogram::new([1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0]),
        };
        registry.register(
            "burgrave_pod_certificates",
            "Tries at PodCertificateRequests, by outcome (issued, denied, waiting) and the reason of the latter two",
            metrics.outcomes.clone(),
        );
        registry.register(
            "burgrave_pod_certificate_requests_pending",
            "PodCertificateRequests that wait for an answer",
            metrics.pending.clone(),
        );
        registry.register(
            "burgrave_pod_certificate_seconds",
            "Time from the making of a PodCertificateRequest to its certificate, to the second, as the API server tells the former",
            metrics.seconds.clone(),
        );
        metrics
    }

    pub(super) fn issued(&self, took: Duration) {
        self.count("issued", "");
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn denied(&self, reason: &'static str) {
        self.count("denied", reason);
    }

    pub(super) fn waits(&self, reason: &'static str) {
        self.count("waiting", reason);
    }

    pub(super) fn pending(&self, count: usize) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn count(&self, outcome: &'static str, reason: &'static str) {
        self.outcomes.get_or_create(&Outcome { outcome, reason }).inc();
    }
}
