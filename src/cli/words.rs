//! Pure: moments, times, people and tables in words, for those who read them on a terminal.

use std::fmt::Write;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::rotation::report::Past;
use crate::rotation::report::Phase;
use crate::rotation::report::Waiting;
use crate::x509::describe;

/// Two spaces between columns, and in front of what belongs to the line above.
const GAP: &str = "  ";

/// The moment that a report's text means.
pub(super) fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// How far a moment is from `now`, both as reports have them: `in 3 h`, `2 min ago`. One that cannot be read stays as it is.
pub(super) fn from_now(text: &str, now: &str) -> String {
    match (moment(text), moment(now)) {
        (Some(at), Some(now)) if at >= now => format!("in {}", describe::span(at - now)),
        (Some(at), Some(now)) => format!("{} ago", describe::span(now - at)),
        _ => text.to_owned(),
    }
}

/// How long ago, without the word for it.
pub(super) fn since(text: &str, now: &str) -> String {
    match (moment(text), moment(now)) {
        (Some(at), Some(now)) => describe::span(now - at),
        _ => text.to_owned(),
    }
}

/// A time that something took.
pub(super) fn took(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    describe::span(time::Duration::seconds_f64(seconds))
}

/// `1 reader`, `2 readers`.
pub(super) fn count(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

/// Enough of an id or digest to know it by.
pub(super) fn short(id: &str) -> String {
    id.chars().take(16).collect()
}

/// Rows under a heading, in columns, each line with two spaces in front.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(|&word| word.to_owned()).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let width =
        |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut out = String::new();
    for row in all() {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or_default();
            let _ = write!(line, "{GAP}{cell:<width$}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Who it is, with the place where they are: `spiffe://… (pod shop/web on node n1)`.
pub(super) fn who(name: &str, pod: Option<&str>, node: Option<&str>) -> String {
    match (pod, node) {
        (Some(pod), Some(node)) => format!("{name} (pod {pod} on node {node})"),
        (Some(pod), None) => format!("{name} (pod {pod})"),
        (None, Some(node)) => format!("{name} (on node {node})"),
        (None, None) => name.to_owned(),
    }
}

/// Somebody who is waited for, in one line.
pub(super) fn waiting(one: &Waiting, now: &str) -> String {
    let (who, why) = apart(one, now);
    format!("{who}: {why}")
}

/// Somebody who is waited for: who, and why and until when.
pub(super) fn apart(one: &Waiting, now: &str) -> (String, String) {
    let who = who(&one.who, one.pod.as_deref(), one.node.as_deref());
    let why = match &one.until {
        Some(until) => format!("{}; until {}", one.why, until_when(until, now)),
        None => one.why.clone(),
    };
    (who, why)
}

/// A moment and how far it is: `2026-10-01T12:00:00Z (in 3 h)`.
pub(super) fn until_when(at: &str, now: &str) -> String {
    match moment(at) {
        Some(_) => format!("{at} ({})", from_now(at, now)),
        None => at.to_owned(),
    }
}

/// All who are waited for, two lines each; and how many there are besides those that the CA names.
pub(super) fn all_waiting(list: &[Waiting], total: usize, now: &str, limit: usize) -> String {
    let mut out = String::new();
    for one in list.iter().take(limit) {
        let (who, why) = apart(one, now);
        let _ = write!(out, "{GAP}{who}\n{GAP}{GAP}{why}\n");
    }
    let left = total.max(list.len()).saturating_sub(list.len().min(limit));
    if left > 0 {
        let _ = writeln!(out, "{GAP}and {left} more; `burgrave proxy list` shows every reader");
    }
    out
}

/// What a phase waits for, as a whole sentence's end.
pub(super) fn gate(phase: &str) -> &'static str {
    match phase {
        "distribute" => "until every reader has acknowledged the roots with the new one among them",
        "reissue" => "until every workload has a certificate of the authority that signs",
        "withdraw" => "until every reader has acknowledged the roots without the old one",
        _ => "until there is evidence that nobody is cut off",
    }
}

/// How far a phase is: `37 of 41`, or how long it took.
pub(super) fn far(phase: &Phase) -> String {
    match (phase.state.as_str(), phase.took_s) {
        ("done", Some(seconds)) => format!("done in {}", took(seconds)),
        ("done", None) => "done".to_owned(),
        ("later", _) => "later".to_owned(),
        _ => format!("{} of {}", phase.done, phase.total),
    }
}

/// A rotation that has ended, in half a sentence.
pub(super) fn past(past: &Past, now: &str) -> String {
    let mut out = format!(
        "{}, {} by {}, ended {}, in {}",
        past.outcome,
        past.kind,
        past.by,
        from_now(&past.ended_at, now),
        took(past.took_s)
    );
    let phases = phases(past);
    if !phases.is_empty() {
        let _ = write!(out, " ({phases})");
    }
    if !past.forced.is_empty() {
        let _ = write!(out, "; without evidence: {}", past.forced.join(", "));
    }
    out
}

/// How long each phase took that was reached.
pub(super) fn phases(past: &Past) -> String {
    let each =
        [("distribute", past.distribute_s), ("reissue", past.reissue_s), ("withdraw", past.withdraw_s)];
    let reached = each.iter().filter_map(|(name, time)| Some(format!("{name} {}", took((*time)?))));
    reached.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-10-01T12:00:00Z";

    #[test]
    fn moments_are_told_by_how_far_they_are_and_what_is_no_moment_stays_as_it_is() {
        assert_eq!(from_now("2026-10-01T15:00:00Z", NOW), "in 3 h");
        assert_eq!(from_now("2026-10-01T11:58:00.5Z", NOW), "1 min 59 s ago");
        assert_eq!(from_now("soon", NOW), "soon");
        assert_eq!(since("2026-09-30T12:00:00Z", NOW), "1 d");
        assert_eq!([0.04, 9.94, 75.0].map(took), ["0.0 s", "9.9 s", "1 min 15 s"]);
    }

    #[test]
    fn a_table_has_columns_as_wide_as_what_is_in_them() {
        let rows = [vec!["a".to_owned(), "bbbb".to_owned()], vec!["cccccc".to_owned(), "d".to_owned()]];
        assert_eq!(table(&["who", "x"], &rows), "  who     x\n  a       bbbb\n  cccccc  d\n");
    }

    #[test]
    fn whoever_is_waited_for_is_told_with_place_reason_and_end() {
        let one = Waiting {
            who: "spiffe://td/ns/a/sa/b".to_owned(),
            pod: Some("a/b".to_owned()),
            node: Some("n".to_owned()),
            kind: "agent".to_owned(),
            why: "is gone".to_owned(),
            until: Some("2026-10-01T13:00:00Z".to_owned()),
        };
        assert_eq!(
            waiting(&one, NOW),
            "spiffe://td/ns/a/sa/b (pod a/b on node n): is gone; until 2026-10-01T13:00:00Z (in 1 h)"
        );
        let list = vec![one; 3];
        let text = all_waiting(&list, 103, NOW, 2);
        assert_eq!(text.lines().count(), 5);
        assert!(text.ends_with("  and 101 more; `burgrave proxy list` shows every reader\n"), "{text}");
    }
}
