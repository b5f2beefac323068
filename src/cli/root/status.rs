//! Pure: how things stand, in words.

use std::fmt::Write;

use crate::cli::words;
use crate::rotation::report::Report;
use crate::rotation::report::Rotation;

/// How many of those who are waited for are named.
const NAMED: usize = 10;

/// The whole of it.
pub(super) fn text(report: &Report) -> String {
    let now = report.at.as_str();
    let mut out = format!("CA of {}, kept in {}, at {now}\n\n", report.trust_domain, report.place);
    let rows: Vec<_> = report
        .authorities
        .iter()
        .map(|one| {
            let stage = match &one.tainted_at {
                Some(_) => format!("{}, tainted", one.stage),
                None => one.stage.clone(),
            };
            vec![
                one.id.clone(),
                stage,
                words::from_now(&one.expires_at, now),
                one.in_use_by.to_string(),
                one.subject.clone(),
            ]
        })
        .collect();
    out.push_str("authorities\n");
    out.push_str(&words::table(&["id", "stage", "expires", "in use by", "subject"], &rows));
    out.push('\n');
    let mut say = |what: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{what:<10}{value}");
    };
    let bundle = &report.bundle;
    let published = match report.published.as_str() {
        "not needed" | "" => String::new(),
        "done" => "; published everywhere".to_owned(),
        "pending" => "; not published everywhere yet".to_owned(),
        other => format!("; published: {other}"),
    };
    let roots = words::count(bundle.roots.len(), "root");
    say("trusted", &format!("bundle {}, digest {}, {roots}{published}", bundle.sequence, bundle.digest));
    say("readers", &readers(report));
    for (at, replica) in report.replicas.iter().enumerate() {
        let name = if at == 0 { "replicas" } else { "" };
        let value =
            format!("{} signs with {}, serves bundle {}", replica.name, replica.signs_with, replica.sequence);
        say(name, &value);
    }
    match (&report.rotation, report.can_rotate) {
        (Some(rotation), _) => out.push_str(&of_rotation(rotation, now)),
        (None, true) => {
            let next = match &report.next_scheduled {
                Some(at) => format!("; the next begins by itself at {}", words::until_when(at, now)),
                None => String::new(),
            };
            say("rotation", &format!("none{next}"));
        }
        (None, false) => {
            say("rotation", "this CA reads its files and keeps none: it is rotated by whoever writes them")
        }
    }
    if let Some(past) = &report.last {
        let _ = writeln!(out, "{:<10}{}", "last", words::past(past, now));
    }
    for (at, trouble) in report.troubles.iter().enumerate() {
        let _ = writeln!(out, "{:<10}{trouble}", if at == 0 { "trouble" } else { "" });
    }
    out
}

/// `41: 38 agent, 3 client`.
pub(super) fn readers(report: &Report) -> String {
    let total: usize = report.readers.values().sum();
    let kinds = report.readers.iter().filter(|(_, number)| **number > 0);
    let kinds: Vec<_> = kinds.map(|(kind, number)| format!("{number} {kind}")).collect();
    match kinds.is_empty() {
        true => "none".to_owned(),
        false => format!("{total}: {}", kinds.join(", ")),
    }
}

/// A rotation under way.
pub(super) fn of_rotation(rotation: &Rotation, now: &str) -> String {
    let mut out = format!(
        "{:<10}{} by {}, began {}{}{}\n",
        "rotation",
        rotation.kind,
        rotation.by,
        words::from_now(&rotation.began_at, now),
        if rotation.rolled_back { ", rolled back" } else { "" },
        match (&rotation.estimate, rotation.automatic) {
            (_, false) => "; each step is an operator's".to_owned(),
            (Some(at), true) => format!("; could be over at {}", words::until_when(at, now)),
            (None, true) => "; goes on by itself".to_owned(),
        }
    );
    for phase in &rotation.phases {
        let mark = if phase.state == "now" { "now, " } else { "" };
        let _ = writeln!(out, "  {:<12}{mark}{}", phase.name, words::far(phase));
    }
    if rotation.waiting_total > 0 {
        let _ = writeln!(out, "  waits for {}:", rotation.waiting_total);
        let list = words::all_waiting(&rotation.waiting, rotation.waiting_total, now, NAMED);
        for line in list.lines() {
            let _ = writeln!(out, "  {line}");
        }
    } else if let Some(next) = next_by_hand(rotation) {
        let _ = writeln!(out, "  nobody is waited for; go on by `burgrave root {next}`");
    }
    for one in &rotation.forced {
        let _ = writeln!(out, "  without evidence: {one}");
    }
    out
}

/// The step that an operator takes next, if it is theirs to take.
pub(super) fn next_by_hand(rotation: &Rotation) -> Option<&'static str> {
    match (rotation.automatic, rotation.phase.as_str()) {
        (false, "distribute") => Some("activate"),
        (false, "reissue") => Some("retire"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::test_support::report_at_rest;
    use crate::cli::test_support::report_in;

    use super::*;

    #[test]
    fn a_ca_at_rest_is_told_in_one_screen() {
        assert_eq!(
            text(&report_at_rest()),
            "\
CA of cluster.local, kept in Secret `mesh/burgrave-authority`, at 2026-10-01T12:00:00Z

authorities
  id                stage   expires   in use by  subject
  0123456789abcdef  active  in 365 d  41         O=cluster.local

trusted   bundle 7, digest d7, 1 root; published everywhere
readers   41: 38 agent, 3 client
replicas  ca-0 signs with 0123456789abcdef, serves bundle 7
          ca-1 signs with 0123456789abcdef, serves bundle 7
rotation  none; the next begins by itself at 2027-01-01T00:00:00Z (in 91 d 12 h)
last      done, ordered by alice, ended 1 d ago, in 1 min 5 s (distribute 1.2 s, reissue 1 min, withdraw 0.5 s)
trouble   ConfigMap `shop/istio-ca-root-cert` cannot be written
"
        );
    }

    #[test]
    fn a_rotation_is_told_with_its_phases_and_whom_it_waits_for() {
        let mut report = report_in("reissue", 37, 41);
        let rotation = report.rotation.as_mut().unwrap();
        rotation.forced = vec!["activate, by bob".to_owned()];
        assert_eq!(
            of_rotation(rotation, &report.at),
            "\
rotation  ordered by alice, began 2 min ago; could be over at 2026-10-01T12:10:00Z (in 10 min)
  distribute  done in 1.2 s
  reissue     now, 37 of 41
  withdraw    later
  waits for 4:
    spiffe://cluster.local/ns/shop/sa/web (pod shop/web-1 on node n1)
      was sent the roots and has not acknowledged them
    spiffe://cluster.local/ns/shop/sa/old
      is disconnected; until 2026-10-01T13:00:00Z (in 1 h)
    and 2 more; `burgrave proxy list` shows every reader
  without evidence: activate, by bob
"
        );
        let rotation = Rotation { automatic: false, waiting_total: 0, waiting: vec![], ..rotation.clone() };
        let text = of_rotation(&rotation, &report.at);
        assert!(text.contains("nobody is waited for; go on by `burgrave root retire`"), "{text}");
    }
}
