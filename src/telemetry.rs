//! Logs and the metrics that every role has.
//!
//! Messages are constant; what varies stands in fields with the same names everywhere: `spiffe_id`, `serial`,
//! `trust_domain`, `resource`, `version`, `nonce`, `request_id`, `reason`, `expires_at`, `renew_at`, `attempt`.
//! No token, no key and no PEM of a key is ever a field.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use time::OffsetDateTime;
use tracing_subscriber::EnvFilter;

use crate::clock::Clock;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("log level `{0}` is not a level (error, warn, info, debug, trace) or a list of target=level")]
    Filter(String),
    /// It was set up before.
    #[error("the log is set up already")]
    Again,
}

/// Sends log lines to standard error; with `audit`, the audit trail is among them whatever the level.
///
/// # Errors
/// If `level` is not a filter, or the log is set up already.
pub fn init_log(format: LogFormat, level: &str, audit: bool) -> Result<(), LogError> {
    let unusable = || LogError::Filter(level.to_owned());
    // `EnvFilter` takes a word that is no level for the name of a target, and would then log nothing else.
    if !level.split(',').all(is_directive) {
        return Err(unusable());
    }
    let mut filter = EnvFilter::try_new(level).map_err(|_| unusable())?;
    // On an answer that it cannot read, kube's client writes the whole of it down, and one of our answers holds the root's key.
    filter = filter.add_directive("kube_client::client=off".parse().map_err(|_| unusable())?);
    if audit {
        filter = filter.add_directive("audit=info".parse().map_err(|_| unusable())?);
    }
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogError::Again)
}

/// `LEVEL` or `TARGET=LEVEL`.
fn is_directive(text: &str) -> bool {
    let level = text.rsplit_once('=').map_or(text, |(_, level)| level).trim();
    ["error", "warn", "info", "debug", "trace", "off"].iter().any(|known| level.eq_ignore_ascii_case(known))
}

/// A certificate whose end people want to see coming.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Expiring {
    /// `root`, `issuer`, `serving` or `leaf`.
    pub kind: &'static str,
    /// Which one: the beginning of its fingerprint, or the name of its secret.
    pub id: String,
}

/// What is held now, with the end of each certificate's life.
pub type Held = Vec<(Expiring, OffsetDateTime)>;

/// The metric `burgrave_certificate_expiry_seconds`: computed from what is really held at each scrape, so it cannot
/// go stale when something rotates. Negative once a certificate has expired.
pub struct Expiries {
    held: Arc<dyn Fn() -> Held + Send + Sync>,
    clock: Clock,
}

impl Expiries {
    /// Reads what is held by `held`, at each scrape.
    pub fn new(held: impl Fn() -> Held + Send + Sync + 'static, clock: Clock) -> Self {
        Self { held: Arc::new(held), clock }
    }
}

impl fmt::Debug for Expiries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expiries")
    }
}

impl Collector for Expiries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.clock.now();
        let mut metric = encoder.encode_descriptor(
            "burgrave_certificate_expiry_seconds",
            "Seconds until a certificate in use expires",
            None,
            MetricType::Gauge,
        )?;
        for (labels, end) in (self.held)() {
            let seconds = (end - now).as_seconds_f64();
            ConstGauge::new(seconds).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
