//! Pure: what would a rotation do, what does each step wait for, who is missing now, and how long could it take?

use std::fmt::Write;

use time::OffsetDateTime;

use crate::cli::root::status;
use crate::cli::words;
use crate::rotation::report::Reader;
use crate::rotation::report::Readers;
use crate::rotation::report::Report;
use crate::signer::Issuer;
use crate::x509::describe;

/// How many of those who are missing are named.
const NAMED: usize = 20;

/// The plan of a rotation that nobody has ordered yet, or the rest of one that is under way.
pub(super) fn text(
    report: &Report,
    readers: &Readers,
    brought: Option<&Issuer>,
    now: OffsetDateTime,
) -> String {
    if let Some(rotation) = &report.rotation {
        let mut out = String::from("a rotation is under way; nothing else is done before its end\n\n");
        out.push_str(&status::of_rotation(rotation, &report.at));
        out.push_str(&rest(&rotation.phase));
        return out;
    }
    let mut out = format!(
        "what `burgrave root rotate` would do with the CA of {}, as things stand at {}; nothing is ordered yet\n\n",
        report.trust_domain, report.at
    );
    if !report.can_rotate {
        out.push_str(
            "nothing: this CA reads its files and keeps none; it is rotated by whoever writes them\n",
        );
        return out;
    }
    let stays = brought.is_some_and(|issuer| {
        let root = issuer.root().fingerprint();
        report.bundle.roots.iter().any(|one| one.fingerprint == root)
    });
    out.push_str(&steps(report, readers, brought, stays, now));
    out.push_str(&estimate(readers, stays));
    out
}

fn steps(
    report: &Report,
    readers: &Readers,
    brought: Option<&Issuer>,
    stays: bool,
    now: OffsetDateTime,
) -> String {
    let sequence = report.bundle.sequence;
    let counted: Vec<&Reader> =
        readers.readers.iter().filter(|one| one.connected || !one.leaves.is_empty()).collect();
    let (open, unasked): (Vec<&Reader>, Vec<&Reader>) = counted.iter().partition(|one| one.connected);
    let mut out = String::new();
    let mut number = 0;
    let mut step = |name: &str, does: &str, more: &[String]| {
        number += 1;
        let _ = writeln!(out, "{number}. {name:<12}{does}");
        for line in more {
            let _ = writeln!(out, "{:15}{line}", "");
        }
    };
    let (origin, more) = match brought {
        None => ("a new key and its root are made".to_owned(), vec![]),
        Some(issuer) => (
            format!("`{}` is brought", issuer.certificate().facts().subject_text),
            vec![describe::line(issuer.certificate(), now), describe::line(issuer.root(), now)],
        ),
    };
    let bundle = match stays {
        true => format!(
            "{origin}; its root is trusted already, and bundle {sequence} stays; it signs nothing yet"
        ),
        false => format!(
            "{origin}; the root joins the others (bundle {sequence}, then {}); it signs nothing yet",
            sequence + 1
        ),
    };
    step("prepare", &bundle, &more);
    let mut missing = Vec::new();
    if !open.is_empty() {
        missing.push(format!("{} connected: the answer takes seconds", are(open.len())));
    }
    missing.extend(doubtful(report, &open));
    if !unasked.is_empty() {
        missing.push(format!(
            "{} not: each is waited for until it comes back or its certificate expires",
            are(unasked.len())
        ));
        missing.extend(named(&unasked, &report.at));
        missing.push(
            "--cross-sign does not wait for these here, for they can verify by the old root".to_owned(),
        );
    }
    let all = match counted.len() {
        0 => "there are none".to_owned(),
        1 => "there is 1".to_owned(),
        several => format!("there are {several}"),
    };
    step("distribute", &format!("{}: {all}", words::gate("distribute")), &missing);
    step("activate", "the new authority signs", &[]);
    let mut moving = vec!["within --window, or what suits their number".to_owned()];
    if !unasked.is_empty() {
        moving.push("whoever is not connected keeps the old one until it expires".to_owned());
    }
    step("reissue", words::gate("reissue"), &moving);
    let root = match stays {
        true => format!("`{}` is given up; the root stays", report.active),
        false => format!("the root of `{}` leaves (bundle {})", report.active, sequence + 2),
    };
    step("retire", &root, &[]);
    step("withdraw", words::gate("withdraw"), &[]);
    step("remove", &format!("the key of `{}` is destroyed", report.active), &[]);
    out
}

/// Those who have been named, each in a line.
fn named(readers: &[&Reader], now: &str) -> Vec<String> {
    let line = |one: &&Reader| {
        let who = words::who(&one.spiffe_id, one.pod.as_deref(), one.node.as_deref());
        let until = one.leaves.iter().map(|leaf| leaf.expires_at.as_str()).max();
        let until = until.map_or_else(String::new, |at| format!(", until {}", words::until_when(at, now)));
        format!("  {who}: {}{until}", one.kind)
    };
    let mut lines: Vec<_> = readers.iter().take(NAMED).map(line).collect();
    if readers.len() > NAMED {
        lines.push(format!("  and {} more; `burgrave proxy list` shows every reader", readers.len() - NAMED));
    }
    lines
}

/// What speaks against it even now.
fn doubtful(report: &Report, open: &[&Reader]) -> Vec<String> {
    let mut lines = Vec::new();
    for one in open.iter().filter(|one| !one.is_current) {
        let who = words::who(&one.spiffe_id, one.pod.as_deref(), one.node.as_deref());
        let why = match &one.last_nack {
            Some(why) => format!("refused the present roots: {why}"),
            None => "has not acknowledged the present roots".to_owned(),
        };
        lines.push(format!("  in doubt: {who}: {why}"));
    }
    if report.published == "pending" {
        lines.push("  in doubt: the present roots are not published everywhere yet".to_owned());
    }
    let late = report.replicas.iter().filter(|one| one.sequence < report.bundle.sequence);
    lines.extend(
        late.map(|one| format!("  in doubt: replica {} serves bundle {} still", one.name, one.sequence)),
    );
    lines
}

fn estimate(readers: &Readers, stays: bool) -> String {
    let unasked = readers.readers.iter().filter(|one| !one.connected);
    let last = unasked.flat_map(|one| &one.leaves).map(|leaf| leaf.expires_at.as_str()).max();
    let quick = "the time within which workloads move, and a few seconds";
    match last {
        None => format!("\nestimate: {quick}; nobody is out of reach\n"),
        Some(at) if stays => {
            format!(
                "\nestimate: {quick}; the root stays, so nobody has to wait for certificates that end by {}\n",
                words::until_when(at, &readers.at)
            )
        }
        Some(at) => format!(
            "\nestimate: {quick}, if those that are not connected come back; else `distribute` ends with the last of their certificates, at {}, and `reissue` takes as long again\n",
            words::until_when(at, &readers.at)
        ),
    }
}

fn rest(phase: &str) -> String {
    let steps = [
        ("distribute", "then        the new authority signs"),
        ("reissue", "then        the old root leaves the bundle"),
        ("withdraw", "then        the old key is destroyed, and it is over"),
    ];
    let mut out = String::new();
    for (name, then) in steps.iter().skip_while(|(name, _)| *name != phase) {
        let _ = writeln!(out, "{name:<12}{}\n{then}", words::gate(name));
    }
    match out.is_empty() {
        true => out,
        false => format!("\nwhat is left\n{out}"),
    }
}

fn are(number: usize) -> String {
    match number {
        1 => "1 is".to_owned(),
        several => format!("{several} are"),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::test_support::report_at_rest;
    use crate::cli::test_support::report_in;
    use crate::cli::test_support::some_readers;

    use super::*;

    #[test]
    fn a_plan_has_each_step_with_its_gate_whom_it_would_wait_for_and_how_long() {
        let now = words::moment(&report_at_rest().at).unwrap();
        assert_eq!(
            text(&report_at_rest(), &some_readers(), None, now),
            "\
what `burgrave root rotate` would do with the CA of cluster.local, as things stand at 2026-10-01T12:00:00Z; nothing is ordered yet

1. prepare     a new key and its root are made; the root joins the others (bundle 7, then 8); it signs nothing yet
2. distribute  until every reader has acknowledged the roots with the new one among them: there are 4
               2 are connected: the answer takes seconds
                 in doubt: spiffe://cluster.local/ns/shop/sa/web (pod shop/web-2 on node n2): refused the present roots: proxy envoy-2: it has no room
               2 are not: each is waited for until it comes back or its certificate expires
                 spiffe://cluster.local/ns/shop/sa/old: agent, until 2026-10-01T18:00:00Z (in 6 h)
                 spiffe://cluster.local/ns/shop/sa/batch: client, until 2026-10-01T18:00:00Z (in 6 h)
               --cross-sign does not wait for these here, for they can verify by the old root
3. activate    the new authority signs
4. reissue     until every workload has a certificate of the authority that signs
               within --window, or what suits their number
               whoever is not connected keeps the old one until it expires
5. retire      the root of `0123456789abcdef` leaves (bundle 9)
6. withdraw    until every reader has acknowledged the roots without the old one
7. remove      the key of `0123456789abcdef` is destroyed

estimate: the time within which workloads move, and a few seconds, if those that are not connected come back; else `distribute` ends with the last of their certificates, at 2026-10-01T18:00:00Z (in 6 h), and `reissue` takes as long again
"
        );
    }

    #[test]
    fn while_a_rotation_is_under_way_the_rest_of_it_is_the_plan() {
        let report = report_in("reissue", 37, 41);
        let now = words::moment(&report.at).unwrap();
        let text = text(&report, &some_readers(), None, now);
        assert!(text.starts_with("a rotation is under way; nothing else is done before its end\n"), "{text}");
        assert!(
            text.ends_with(
                "
what is left
reissue     until every workload has a certificate of the authority that signs
then        the old root leaves the bundle
withdraw    until every reader has acknowledged the roots without the old one
then        the old key is destroyed, and it is over
"
            ),
            "{text}"
        );
    }
}
