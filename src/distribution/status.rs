//! How far the distribution is, for operators: on the state page, and as metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::watch;

/// How many names of pending namespaces are told.
pub(super) const NAMED: usize = 10;

/// Where trust has got to, as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The digest of the present bundle.
    pub bundle: String,
    /// How many namespaces there are; `None` until they and their ConfigMaps have been seen.
    pub namespaces: Option<usize>,
    /// How many of them do not have the present bundle yet; `None` as long as that is not known.
    pub pending: Option<usize>,
    /// Some of those.
    pub pending_names: Vec<String>,
    /// Whether the ClusterTrustBundle has the present bundle; `None` if it is not known.
    pub cluster_trust_bundle: Option<bool>,
    /// What last went wrong, while something does.
    pub trouble: Option<String>,
}

/// What the leader knows; `None` in a process that does not lead, or has not seen everything yet.
pub type Distribution = watch::Receiver<Option<Status>>;

/// Counts writes, and shows [`Status`] at each scrape.
#[derive(Clone, Debug)]
pub struct DistributionMetrics {
    writes: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl DistributionMetrics {
    /// Makes the metrics and registers them.
    pub fn new(registry: &mut Registry, status: Distribution) -> Self {
        let metrics = Self { writes: Family::default() };
        registry.register(
            "burgrave_bundle_writes",
            "Writes of the trust bundle to the cluster, by outcome",
            metrics.writes.clone(),
        );
        registry.register_collector(Box::new(Gauges(status)));
        metrics
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.writes.get_or_create(&Outcome { outcome }).inc();
    }
}

#[derive(Debug)]
struct Gauges(Distribution);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(status) = self.0.borrow().clone() else { return Ok(()) };
        for (name, help, value) in [
            ("burgrave_bundle_namespaces", "Namespaces that get the trust bundle", status.namespaces),
            (
                "burgrave_bundle_namespaces_pending",
                "Namespaces that do not have the present trust bundle yet",
                status.pending,
            ),
            (
                "burgrave_cluster_trust_bundle_published",
                "1 while the ClusterTrustBundle has the present trust bundle",
                status.cluster_trust_bundle.map(usize::from),
            ),
        ] {
            // What is not known is not zero.
            let Some(value) = value else { continue };
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}
