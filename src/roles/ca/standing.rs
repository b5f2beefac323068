//! How things stand: readiness, the state page, and what of it is a metric.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::roles::ca::cluster::Controllers;
use crate::roles::ca::complaints::Complaints;
use crate::roles::ca::complaints::Part;
use crate::rotation::View;
use crate::signer::Issuer;
use crate::telemetry::Expiring;

/// All that others may know of a running CA. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) rotation: View,
    pub(super) issuer: watch::Receiver<Arc<Issuer>>,
    pub(super) serving_end: watch::Receiver<OffsetDateTime>,
    pub(super) complaints: Complaints,
    pub(super) controllers: Option<Controllers>,
    pub(super) clock: Clock,
}

impl Standing {
    /// Whether certificates can be issued now. What only the leader does, or what is only at risk, does not count: another
    /// process could not do it better.
    pub(super) fn ready(&self) -> Result<(), String> {
        let now = self.clock.now();
        let issuer = self.issuer.borrow().clone();
        issuer.try_out(now).map_err(|error| error.to_string())?;
        let serving_end = *self.serving_end.borrow();
        if serving_end <= now {
            return Err(format!("the CA's own certificate expired at {serving_end}; the log says why"));
        }
        if let Some(why) = self.rotation.sources.census.fenced() {
            return Err(why);
        }
        self.complaints.about(Part::Callers).map_or(Ok(()), Err)
    }

    /// Everything, for people and scripts.
    pub(super) fn state(&self) -> Value {
        let issuer = self.issuer.borrow().clone();
        let root = |root: &crate::x509::Certificate| json!({ "fingerprint": root.fingerprint(), "expires_at": root.facts().not_after.to_string() });
        let controllers = self.controllers.as_ref();
        json!({
            "ready": self.ready().map_or_else(Value::from, |()| Value::from(true)),
            "authority": {
                "signing": issuer.certificate().fingerprint(),
                "roots": issuer.bundle().roots().iter().map(root).collect::<Vec<_>>(),
                "expires_at": issuer.not_after().to_string(),
                "trouble": self.complaints.about(Part::Authority),
            },
            "election": controllers.map(|one| json!({
                "leads": one.leadership.holds(),
                "leader": one.leadership.leader(),
                "trouble": one.leadership.trouble(),
            })),
            "pod_certificates": controllers.filter(|one| one.leadership.holds()).map(|one| {
                json!(one.pod_certificates.state(self.clock.now()))
            }),
            "policies": controllers.and_then(|one| one.policies.as_ref()).map(|one| json!(one.notice.standing())),
            "rotation": self.rotation.report(),
            "troubles": self.troubles().into_iter().filter_map(|(of, trouble)| Some((of.part, trouble?))).collect::<BTreeMap<_, _>>(),
            "distribution": controllers.and_then(|one| one.distribution.borrow().clone()),
        })
    }

    /// The certificates whose ends people want to see coming.
    pub(super) fn held(&self) -> Vec<(Expiring, OffsetDateTime)> {
        let issuer = self.issuer.borrow().clone();
        let one = |kind, certificate: &crate::x509::Certificate| {
            let id = certificate.fingerprint().chars().take(16).collect();
            (Expiring { kind, id }, certificate.facts().not_after)
        };
        let roots = issuer.bundle().roots().iter().map(|root| one("root", root));
        let issuers = issuer.intermediates().iter().map(|issuer| one("issuer", issuer));
        let serving = (Expiring { kind: "serving", id: "ca".to_owned() }, *self.serving_end.borrow());
        roots.chain(issuers).chain([serving]).collect()
    }
}

/// A part of the CA, as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    part: &'static str,
}

impl Standing {
    /// What is wrong, part by part; all parts that there are.
    fn troubles(&self) -> Vec<(Of, Option<String>)> {
        let mut troubles: Vec<_> =
            Part::ALL.map(|part| (Of { part: part.name() }, self.complaints.about(part))).into();
        if let Some(one) = &self.controllers {
            let status = one.distribution.borrow().clone();
            let pods = one.pod_certificates.state(self.clock.now());
            troubles.push((Of { part: "election" }, one.leadership.trouble()));
            troubles.push((Of { part: "distribution" }, status.and_then(|status| status.trouble)));
            troubles.push((Of { part: "pod_certificates" }, pods.trouble));
            if let Some(policies) = &one.policies {
                troubles.push((Of { part: "policies" }, policies.notice.standing().trouble));
                troubles.push((Of { part: "webhook" }, policies.webhook.borrow().clone()));
            }
        }
        troubles
    }
}

impl Collector for Standing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut flag = |name, help, is_so: bool| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::from(is_so)).encode(metric)
        };
        flag(
            "burgrave_authority_at_risk",
            "1 while the stored authority is missing or damaged, and only memory holds it",
            self.complaints.about(Part::Authority).is_some(),
        )?;
        if let Some(controllers) = &self.controllers {
            flag(
                "burgrave_leader",
                "1 in the process that runs the controllers",
                controllers.leadership.holds(),
            )?;
        }
        let mut troubles = encoder.encode_descriptor(
            "burgrave_trouble",
            "1 while something is wrong with a part; the state page says what",
            None,
            MetricType::Gauge,
        )?;
        for (part, trouble) in self.troubles() {
            ConstGauge::new(i64::from(trouble.is_some())).encode(troubles.encode_family(&part)?)?;
        }
        Ok(())
    }
}
