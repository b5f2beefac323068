//! Who was let in, who was not, and by which rule: the audit trail of decisions.
//!
//! Denials are always told, what is allowed as often as it is set; what policies of kind `AUDIT` and in dry run match is told as well.
//! What repeats itself is told a few times and then counted. The target `audit` and its field names are a contract with those who keep
//! the logs. No token, no header and no query is written: they may hold secrets.

use std::cell::LazyCell;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::authz::damper::Damper;
use crate::authz::damper::Limits;
use crate::authz::decide::By;
use crate::authz::decide::RuleRef;
use crate::authz::request::Request;
use crate::authz::ruling::Decided;
use crate::authz::ruling::Reason;
use crate::authz::ruling::Ruling;
use crate::authz::tally::Deed;
use crate::authz::tally::Tally;
use crate::clock::Clock;

/// How often it is looked for what was left out.
const LOOK: Duration = Duration::from_secs(1);
/// The longest text of a stranger that is written, in characters.
const MAX_TEXT: usize = 256;

/// Writes and counts decisions. Clones are the same one.
#[derive(Clone, Debug)]
pub struct DecisionAudit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    damper: Mutex<Damper<Kind>>,
    allowed_rate: f64,
    allowed: AtomicU64,
    would_allow: AtomicU64,
    decisions: Family<Labels, Counter>,
    left_out: Counter,
    clock: Clock,
}

/// What makes two records the same again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    event: &'static str,
    reason: &'static str,
    rule: Option<String>,
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    decision: &'static str,
    reason: &'static str,
}

impl DecisionAudit {
    /// Writes each denial, and of what is allowed this share: 0 is nothing, 0.01 one of a hundred, 1 all. The counts of policies are
    /// those of `tally`.
    pub fn new(allowed_rate: f64, tally: &Tally, registry: &mut Registry, clock: Clock) -> Self {
        let decisions = Family::default();
        registry.register("burgrave_authz_decisions", "Requests that were decided on", decisions.clone());
        let left_out = Counter::default();
        let help = "Records of decisions that were counted instead of written, as they repeat others";
        registry.register("burgrave_authz_audit_left_out", help, left_out.clone());
        registry.register_collector(Box::new(tally.clone()));
        Self(Arc::new(Inner {
            damper: Mutex::new(Damper::new(Limits::default())),
            allowed_rate: allowed_rate.clamp(0.0, 1.0),
            allowed: AtomicU64::new(0),
            would_allow: AtomicU64::new(0),
            decisions,
            left_out,
            clock,
        }))
    }

    /// Writes and counts what was ruled on a request; `id` is the proxy's own identifier of it.
    pub fn record(&self, ruling: &Ruling, request: &Request<'_>, id: &str) {
        let decision = if ruling.is_allowed() { "allowed" } else { "denied" };
        let reason = ruling.reason.as_str();
        self.0.decisions.get_or_create(&Labels { decision, reason }).inc();
        let rule = ruling.rule().map(|named| format!("{}[{}]", named.policy, named.rule));
        let about = LazyCell::new(|| About::of(request, id));
        if match ruling.is_allowed() {
            true => self.samples(&self.0.allowed),
            false => self.admits("decision", reason, rule.clone(), &about),
        } {
            about.decided(decision, reason, rule.as_deref());
        }
        if let Some(decided) = &ruling.decided {
            self.count(ruling, decided);
            self.record_besides(decided, &about);
        }
    }

    /// Writes and counts a question that could not be ruled on.
    pub fn record_unasked(&self, ruling: &Ruling, why: &dyn std::error::Error) {
        let reason = ruling.reason.as_str();
        self.0.decisions.get_or_create(&Labels { decision: "denied", reason }).inc();
        let about = About::of(&Request::default(), "");
        if self.admits("decision", reason, None, &about) {
            let error = one_line(&why.to_string());
            tracing::warn!(target: "audit", event = "decision", decision = "denied", reason, error, "a check was refused");
        }
    }

    /// Tells from time to time what was left out, until `stop` is cancelled, and then the rest of it.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let next = self.0.clock.now() + LOOK;
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.0.clock.sleep_until(next) => self.tell_left_out(false),
            }
        }
        self.tell_left_out(true);
    }

    /// What policies of kind `AUDIT`, and in dry run, have to say.
    fn record_besides<'a>(&self, decided: &Decided, about: &LazyCell<About<'a>, impl FnOnce() -> About<'a>>) {
        let tell = |event: &'static str, result: &'static str, rule: Option<RuleRef>| {
            let rule = rule.and_then(|rule| decided.named(rule));
            let rule = rule.map(|named| format!("{}[{}]", named.policy, named.rule));
            if self.admits(event, result, rule.clone(), about) {
                about.besides(event, result, rule.as_deref());
            }
        };
        let decision = &decided.decision;
        if let Some(rule) = decision.audit {
            tell("audit_match", Deed::Audited.as_str(), Some(rule));
        }
        if let Some(rule) = decision.dry_run.deny {
            tell("dry_run", Deed::WouldDeny.as_str(), Some(rule));
        }
        match decision.dry_run.allow {
            Some(None) => tell("dry_run", Deed::WouldDeny.as_str(), None),
            Some(Some(rule)) if self.samples(&self.0.would_allow) => {
                tell("dry_run", Deed::WouldAllow.as_str(), Some(rule));
            }
            Some(Some(_)) | None => {}
        }
    }

    fn count(&self, ruling: &Ruling, decided: &Decided) {
        let decision = &decided.decision;
        let count = |rule, deed| {
            if let Some(named) = decided.named(rule) {
                decided.enforced.count(named.policy, deed);
            }
        };
        if let (Reason::Rule, By::Rule(rule)) = (ruling.reason, decision.by) {
            count(rule, if ruling.is_allowed() { Deed::Allowed } else { Deed::Denied });
        }
        let besides = [(decision.audit, Deed::Audited), (decision.dry_run.deny, Deed::WouldDeny)];
        for (rule, deed) in besides.into_iter().filter_map(|(rule, deed)| Some((rule?, deed))) {
            count(rule, deed);
        }
        match decision.dry_run.allow {
            Some(Some(rule)) => count(rule, Deed::WouldAllow),
            Some(None) => decided.enforced.count_unmatched(),
            None => {}
        }
    }

    /// Whether this one is of the share that is written: evenly spread, so that any number of them has its share.
    fn samples(&self, counter: &AtomicU64) -> bool {
        let before = counter.fetch_add(1, Ordering::Relaxed) as f64;
        ((before + 1.0) * self.0.allowed_rate).floor() > (before * self.0.allowed_rate).floor()
    }

    fn admits(
        &self,
        event: &'static str,
        reason: &'static str,
        rule: Option<String>,
        about: &About<'_>,
    ) -> bool {
        let kind = Kind { event, reason, rule, source: about.source.clone() };
        let admitted = self.damper().admits(kind, self.0.clock.now());
        if !admitted {
            self.0.left_out.inc();
        }
        admitted
    }

    fn tell_left_out(&self, all: bool) {
        let mut damper = self.damper();
        let left_out = if all { damper.rest() } else { damper.over(self.0.clock.now()) };
        drop(damper);
        for (kind, count) in left_out {
            let kind = kind.as_ref();
            tracing::warn!(
                target: "audit",
                event = "left_out",
                of = kind.map_or("several", |kind| kind.event),
                reason = kind.map(|kind| kind.reason),
                rule = kind.and_then(|kind| kind.rule.as_deref()),
                source = kind.map(|kind| kind.source.as_str()),
                count,
                "records like others were left out"
            );
        }
    }

    fn damper(&self) -> MutexGuard<'_, Damper<Kind>> {
        self.0.damper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is written of a request.
struct About<'a> {
    id: String,
    source: String,
    destination_port: Option<u16>,
    method: &'a str,
    host: String,
    path: String,
}

impl<'a> About<'a> {
    fn of(request: &Request<'a>, id: &str) -> Self {
        let identity = request.peer.and_then(|peer| peer.uris.first().map(|uri| one_line(uri)));
        let address = || request.source_ip.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        let http = request.http.unwrap_or_default();
        Self {
            id: one_line(id),
            source: identity.unwrap_or_else(address),
            destination_port: request.destination_port,
            method: http.method,
            host: one_line(http.host),
            path: one_line(http.bare_path()),
        }
    }

    fn decided(&self, decision: &'static str, reason: &'static str, rule: Option<&str>) {
        tracing::info!(
            target: "audit",
            event = "decision",
            decision,
            reason,
            rule,
            source = self.source,
            destination_port = self.destination_port,
            method = one_line(self.method),
            host = self.host,
            path = self.path,
            request_id = self.id,
            "a request was decided on"
        );
    }

    fn besides(&self, event: &'static str, result: &'static str, rule: Option<&str>) {
        tracing::info!(
            target: "audit",
            event,
            result,
            rule,
            source = self.source,
            destination_port = self.destination_port,
            method = one_line(self.method),
            host = self.host,
            path = self.path,
            request_id = self.id,
            "a policy that is not enforced matches"
        );
    }
}

/// A stranger's text, without what could begin a line of its own, and not longer than is of use.
fn one_line(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
