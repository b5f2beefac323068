//! What policies did, counted for each of them, so that its author sees what it does or would do.
//!
//! Whoever enforces a policy holds its counts. They are shown as long as somebody does, so there are never more series than
//! policies in force, and none of a policy that is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::authz::model::PolicyName;

/// The counts of all policies in force. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<PolicyName, Weak<Counts>>>>);

/// What one policy did.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; 5]);

/// What a policy does to a request that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It allowed it.
    Allowed,
    /// It denied it.
    Denied,
    /// It had it written down.
    Audited,
    /// In dry run: it would have allowed it.
    WouldAllow,
    /// In dry run: it would have denied it.
    WouldDeny,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
    namespace: String,
    policy: String,
    result: &'static str,
}

impl Tally {
    /// The counts of a policy: those that others hold already, or new ones.
    pub fn counts(&self, policy: &PolicyName) -> Arc<Counts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(policy).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, counts| counts.strong_count() > 0);
        let new = Arc::new(Counts::default());
        all.insert(policy.clone(), Arc::downgrade(&new));
        new
    }

    fn all(&self) -> Vec<(PolicyName, Arc<Counts>)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, counts| counts.strong_count() > 0);
        all.iter().filter_map(|(policy, counts)| Some((policy.clone(), counts.upgrade()?))).collect()
    }
}

impl Counts {
    /// Counts one.
    pub fn add(&self, deed: Deed) {
        if let Some(count) = self.0.get(deed as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub fn of(&self, deed: Deed) -> u64 {
        self.0.get(deed as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Deed {
    const ALL: [Self; 5] = [Self::Allowed, Self::Denied, Self::Audited, Self::WouldAllow, Self::WouldDeny];

    /// A short name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Audited => "audited",
            Self::WouldAllow => "would_allow",
            Self::WouldDeny => "would_deny",
        }
    }
}

impl Collector for Tally {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "burgrave_authz_policy_matches",
            "Requests that a policy decided, or would have decided in dry run",
            None,
            MetricType::Counter,
        )?;
        for (policy, counts) in self.all() {
            for deed in Deed::ALL {
                let count = counts.of(deed);
                if count == 0 {
                    continue;
                }
                let labels = Labels {
                    kind: policy.kind.as_str(),
                    namespace: policy.namespace.to_string(),
                    policy: policy.name.to_string(),
                    result: deed.as_str(),
                };
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::authz::model::Kind;

    #[test]
    fn a_policy_is_counted_while_it_is_in_force_and_an_update_keeps_its_counts() {
        let (tally, mut registry) = (Tally::default(), Registry::default());
        registry.register_collector(Box::new(tally.clone()));
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let name =
            PolicyName { kind: Kind::AuthorizationPolicy, namespace: "shop".into(), name: "web".into() };
        let before = tally.counts(&name);
        before.add(Deed::Denied);
        let after = tally.counts(&name);
        drop(before);
        after.add(Deed::Denied);
        assert_eq!(
            shown(),
            [concat!(
                r#"burgrave_authz_policy_matches_total{kind="AuthorizationPolicy",namespace="shop","#,
                r#"policy="web",result="denied"} 2"#
            )]
        );
        drop(after);
        assert_eq!(shown(), [""; 0]);
    }
}
