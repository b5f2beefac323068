//! The rotation as metrics, computed at each scrape from what there is.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::authority;
use crate::rotation::orders::View;

/// Shows a [`View`] at each scrape.
#[derive(Debug)]
pub struct RotationMetrics(pub View);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPhase {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

impl Collector for RotationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sources = &self.0.sources;
        let held = sources.in_force.held();
        let (gate, kinds) = sources.judge(&held, |evidence| {
            let gate = authority::present_gate(&held.state, evidence, sources.clock.now());
            let kinds: Vec<_> = evidence.readers.iter().map(|one| one.kind).collect();
            (gate, kinds)
        });
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let mut gauge = |name, help, value: i64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        let sequence = i64::try_from(held.state.sequence()).unwrap_or(i64::MAX);
        gauge(
            "burgrave_bundle_sequence",
            "Number of the set of trusted roots; grows with each change",
            sequence,
        )?;
        gauge(
            "burgrave_rotation_waiting",
            "Readers and replicas that the rotation under way waits for",
            number(gate.map_or(0, |gate| gate.waits_for())),
        )?;
        let began = held.state.rotation().map_or(0, |one| one.began_at.unix_timestamp());
        gauge(
            "burgrave_rotation_began_timestamp_seconds",
            "When the rotation under way began; 0 if none is",
            began,
        )?;
        let present = authority::phase(&held.state);
        let help = "1 for the phase of the rotation under way";
        let mut phases =
            encoder.encode_descriptor("burgrave_rotation_phase", help, None, MetricType::Gauge)?;
        for phase in ["distribute", "reissue", "withdraw"] {
            let is_so = i64::from(present == Some(phase));
            ConstGauge::new(is_so).encode(phases.encode_family(&InPhase { phase })?)?;
        }
        let help = "Who reads the roots or has a certificate, by how they hear of new roots";
        let mut readers = encoder.encode_descriptor("burgrave_readers", help, None, MetricType::Gauge)?;
        for kind in [
            authority::ReaderKind::Agent,
            authority::ReaderKind::Client,
            authority::ReaderKind::Pod,
            authority::ReaderKind::Unheard,
        ] {
            let count = kinds.iter().filter(|one| **one == kind).count();
            ConstGauge::new(number(count)).encode(readers.encode_family(&OfKind { kind: kind.name() })?)?;
        }
        Ok(())
    }
}
