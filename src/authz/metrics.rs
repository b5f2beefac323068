//! How the proxies stand to the policies, as metrics.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::authz::enforcement::Enforcement;

impl Collector for Enforcement {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let progress = self.progress(Duration::MAX);
        let mut gauge = |name, help, value: f64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        gauge(
            "burgrave_policies_known",
            "1 once there are policies; before, proxies deny everything",
            f64::from(u8::from(progress.version.is_some())),
        )?;
        let (waiting, refusals) = (progress.standing.waiting, progress.standing.refusals);
        let unsettled = if waiting + refusals > 0 { progress.age.as_secs_f64() } else { 0.0 };
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        gauge(
            "burgrave_policies_unacknowledged_seconds",
            "How long the policies are known that some proxy does not use yet; 0 if all do",
            unsettled,
        )?;
        gauge("burgrave_policies_waiting", "Streams of proxies that have not answered", count(waiting))?;
        gauge("burgrave_policies_refused", "Proxies that refuse the policies", count(refusals))
    }
}
