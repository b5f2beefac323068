//! How do the policies of the cluster stand? For metrics and the operator's page.

use std::collections::BTreeMap;
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
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::clock::Clock;

/// How the policies stand, as far as this process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// By kind.
    pub kinds: BTreeMap<&'static str, OfKind>,
    /// Statuses that are to be written, if this process leads.
    pub unwritten: Option<usize>,
    /// What is wrong, in a sentence.
    pub trouble: Option<String>,
    /// Since when the oldest of them is, to the second.
    #[serde(skip)]
    pub behind_since: Option<OffsetDateTime>,
}

/// How the objects of a kind stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfKind {
    /// Objects that are understood in full.
    pub accepted: usize,
    /// Objects of which something cannot be read.
    pub faulty: usize,
    /// What cannot be read in all of them together.
    pub errors: usize,
    /// What may not mean what its author thinks.
    pub warnings: usize,
    /// Whether the watch of the kind does not get on.
    pub is_in_trouble: bool,
    /// Whether the cluster has been seen to know the kind.
    pub is_served: bool,
}

/// Where it is told. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Notice(watch::Sender<Standing>);

impl Notice {
    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.0.borrow().clone()
    }

    pub(super) fn write(&self, standing: Standing) {
        self.0.send_if_modified(|written| {
            let changes = *written != standing;
            *written = standing;
            changes
        });
    }
}

/// Counts writes of statuses, and shows the [`Standing`] at each scrape.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    writes: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKindLabels {
    kind: &'static str,
    state: &'static str,
}

impl PolicyMetrics {
    /// Makes the metrics and registers them.
    pub fn new(registry: &mut Registry, notice: &Notice, clock: &Clock) -> Self {
        let metrics = Self { writes: Family::default() };
        registry.register(
            "burgrave_policy_status_writes",
            "Writes of policies' statuses, by outcome",
            metrics.writes.clone(),
        );
        registry.register_collector(Box::new(Gauges(notice.clone(), clock.clone())));
        metrics
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.writes.get_or_create(&Outcome { outcome }).inc();
    }
}

#[derive(Debug)]
struct Gauges(Notice, Clock);

/// A gauge by kind: name, help, and its values by state.
type ByKind = (&'static str, &'static str, fn(&OfKind) -> Vec<(&'static str, usize)>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let standing = self.0.standing();
        let gauges: [ByKind; 3] = [
            (
                "burgrave_policies",
                "Policies in the cluster, by kind and whether all of it is understood",
                |of| vec![("accepted", of.accepted), ("faulty", of.faulty)],
            ),
            ("burgrave_policy_faults", "What is wrong with policies, by kind and severity", |of| {
                vec![("error", of.errors), ("warning", of.warnings)]
            }),
            ("burgrave_policy_watches", "1 for the state that the watch of each kind is in", |of| {
                let state = match (of.is_in_trouble, of.is_served) {
                    (true, _) => "trouble",
                    (false, true) => "well",
                    (false, false) => "not_served",
                };
                ["well", "trouble", "not_served"].map(|one| (one, usize::from(one == state))).into()
            }),
        ];
        for (name, help, values) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (kind, of) in &standing.kinds {
                for (state, value) in values(of) {
                    let labels = OfKindLabels { kind, state };
                    let value = i64::try_from(value).unwrap_or(i64::MAX);
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let Some(_) = standing.unwritten else { return Ok(()) };
        let age = standing.behind_since.map_or(0.0, |since| (self.1.now() - since).as_seconds_f64().max(0.0));
        let metric = encoder.encode_descriptor(
            "burgrave_policy_status_oldest_unwritten_seconds",
            "For how long the policy whose status is behind for the longest has been so; told by the leader",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(age).encode(metric)
    }
}
