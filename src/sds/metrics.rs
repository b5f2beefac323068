//! What is counted on discovery streams.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of discovery streams. The label `resource` is one of our own names, never what a client asks for.
#[derive(Clone, Debug, Default)]
pub struct SdsMetrics {
    streams: Gauge,
    pushes: Family<Resource, Counter>,
    acks: Family<Resource, Counter>,
    nacks: Family<Resource, Counter>,
    unknown: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resource {
    resource: String,
}

impl SdsMetrics {
    /// Makes the counters and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("burgrave_sds_streams", "Discovery streams that are open", metrics.streams.clone());
        registry.register("burgrave_sds_pushes", "Resources pushed to proxies", metrics.pushes.clone());
        registry.register("burgrave_sds_acks", "Pushes that proxies acknowledged", metrics.acks.clone());
        registry.register("burgrave_sds_nacks", "Pushes that proxies rejected", metrics.nacks.clone());
        let help = "Names that proxies asked for and that are not served";
        registry.register("burgrave_sds_unknown_names", help, metrics.unknown.clone());
        metrics
    }

    pub(super) fn opened(&self) {
        self.streams.inc();
    }

    pub(super) fn closed(&self) {
        self.streams.dec();
    }

    pub(super) fn pushed(&self, name: &str) {
        self.pushes.get_or_create(&Resource { resource: name.to_owned() }).inc();
    }

    pub(super) fn acknowledged(&self, name: &str) {
        self.acks.get_or_create(&Resource { resource: name.to_owned() }).inc();
    }

    pub(super) fn rejected(&self, name: &str) {
        self.nacks.get_or_create(&Resource { resource: name.to_owned() }).inc();
    }

    pub(super) fn unknown(&self) {
        self.unknown.inc();
    }
}
