use std::io;
use std::io::Write;

use serde_json::Value;
use time::OffsetDateTime;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::authz::enforced::Enforced;
use crate::authz::model::Action;
use crate::authz::model::Atom;
use crate::authz::model::Conjunction;
use crate::authz::model::Field;
use crate::authz::model::Kind as PolicyKind;
use crate::authz::model::Pattern;
use crate::authz::model::Policy;
use crate::authz::model::PolicyName;
use crate::authz::model::Rule;
use crate::authz::model::Term;
use crate::authz::model::Value as Wanted;
use crate::authz::policy_set::PolicySet;
use crate::authz::request::Http;
use crate::authz::ruling::Doubts;
use crate::authz::ruling::rule_on;
use crate::clock::Hand;

fn set(policies: Vec<Policy>) -> PolicySet {
    PolicySet::new(policies.into_iter().map(Arc::new).collect())
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

struct Court {
    audit: DecisionAudit,
    enforced: Arc<Enforced>,
    tally: Tally,
    registry: Registry,
    lines: Lines,
    hand: Hand,
}

impl Court {
    fn new(policies: Vec<Policy>, allowed_rate: f64) -> Self {
        let (tally, mut registry) = (Tally::default(), Registry::default());
        let (clock, hand) = Clock::simulated(OffsetDateTime::UNIX_EPOCH);
        let audit = DecisionAudit::new(allowed_rate, &tally, &mut registry, clock);
        let enforced = Arc::new(Enforced::new(set(policies), Vec::new(), &tally));
        Self { audit, enforced, tally, registry, lines: Lines::default(), hand }
    }

    fn written(&self, act: impl FnOnce()) -> Vec<Value> {
        let subscriber =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(self.lines.clone()).finish();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = std::mem::take(&mut *self.lines.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn get(&self, path: &str, times: usize) -> Vec<Value> {
        let http = Http { method: "GET", path, host: "shop", headers: &[] };
        let request = Request { http: Some(http), ..Request::default() };
        let ruling = rule_on(&self.enforced, &request, Doubts::default(), &[], OffsetDateTime::UNIX_EPOCH);
        self.written(|| (0..times).for_each(|_| self.audit.record(&ruling, &request, "id-1")))
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn policy(name: &str, action: Action, dry_run: bool, path: &str) -> Policy {
    let values = vec![Wanted::Is(Atom::Path(Pattern::of(path)))];
    let term = Term { field: Field::List("paths"), negated: false, values };
    let name =
        PolicyName { kind: PolicyKind::AuthorizationPolicy, namespace: "shop".into(), name: name.into() };
    let always = || vec![Conjunction::default()];
    let when = Conjunction { index: 0, terms: vec![term] };
    Policy { name, action, dry_run, rules: vec![Rule { index: 0, from: always(), to: always(), when }] }
}

#[test]
fn a_denial_is_written_with_the_rule_and_without_the_query() {
    let court = Court::new(vec![policy("no", Action::Deny, false, "/no")], 0.0);
    let lines = court.get("/no?token=secret", 1);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for (field, expected) in [
        ("target", "audit"),
        ("event", "decision"),
        ("decision", "denied"),
        ("reason", "rule"),
        ("rule", "shop/no[0]"),
        ("method", "GET"),
        ("host", "shop"),
        ("path", "/no"),
        ("request_id", "id-1"),
        ("source", "unknown"),
    ] {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
}

#[test]
fn denials_that_repeat_themselves_are_counted_and_the_count_is_written() {
    let court = Court::new(vec![policy("no", Action::Deny, false, "*")], 0.0);
    assert_eq!(court.get("/a", 100).len(), 5);
    court.hand.advance(Duration::from_secs(10));
    let lines = court.written(|| court.audit.tell_left_out(false));
    assert_eq!(
        (lines.len(), &lines[0]["count"], &lines[0]["event"]),
        (1, &Value::from(95), &Value::from("left_out"))
    );
    assert!(court.metrics().contains("burgrave_authz_audit_left_out_total 95"));
}

#[test]
fn of_what_is_allowed_the_share_that_is_set_is_written() {
    for (rate, expected) in [(0.0, 0), (0.25, 25), (1.0, 100), (7.0, 100), (f64::NAN, 0)] {
        assert_eq!(Court::new(vec![], rate).get("/a", 100).len(), expected, "{rate}");
    }
}

#[test]
fn policies_that_are_not_enforced_say_what_would_have_happened() {
    let court = Court::new(
        vec![
            policy("note", Action::Audit, false, "/a"),
            policy("trial", Action::Deny, true, "/a"),
            policy("trial-allow", Action::Allow, true, "/b"),
        ],
        0.0,
    );
    let lines = court.get("/a", 1);
    let said: Vec<_> = lines.iter().map(|line| (&line["event"], &line["result"], &line["rule"])).collect();
    let text = |text: &str| Value::from(text);
    assert_eq!(
        said,
        [
            (&text("audit_match"), &text("audited"), &text("shop/note[0]")),
            (&text("dry_run"), &text("would_deny"), &text("shop/trial[0]")),
            (&text("dry_run"), &text("would_deny"), &Value::Null),
        ]
    );
    court.get("/b", 1);
    let count = |name: &str, deed| {
        let name =
            PolicyName { kind: PolicyKind::AuthorizationPolicy, namespace: "shop".into(), name: name.into() };
        court.tally.counts(&name).of(deed)
    };
    assert_eq!(count("note", Deed::Audited), 1);
    assert_eq!(count("trial", Deed::WouldDeny), 1);
    assert_eq!((count("trial-allow", Deed::WouldDeny), count("trial-allow", Deed::WouldAllow)), (1, 1));
    let metrics = court.metrics();
    assert!(
        metrics
            .contains(r#"burgrave_authz_decisions_total{decision="allowed",reason="no_allowing_policy"} 2"#),
        "{metrics}"
    );
}

#[test]
fn a_quoted_stranger_cannot_begin_a_line_and_is_cut() {
    assert_eq!(one_line("a\nb"), "a\u{fffd}b");
    assert_eq!(one_line(&"x".repeat(1000)).len(), MAX_TEXT);
}
