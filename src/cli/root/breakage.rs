//! Pure: who is cut off by what an operator is about to do, in words?

use std::fmt::Write;

use crate::cli::words;
use crate::rotation::report::Reader;
use crate::rotation::report::Readers;
use crate::rotation::report::Rotation;

/// Who breaks if the present phase is ended now, and how; all who are known.
pub(super) fn of_phase(rotation: &Rotation, now: &str) -> String {
    let total = rotation.waiting_total;
    if total == 0 {
        return format!("`{}` waits for nobody; nobody is cut off by going on\n", rotation.phase);
    }
    let (breaks, how) = match (rotation.phase.as_str(), total) {
        ("distribute", 1) => {
            ("breaks", "it does not know the new root, and refuses peers whose certificates lead to it")
        }
        ("distribute", _) => {
            ("break", "they do not know the new root, and refuse peers whose certificates lead to it")
        }
        ("reissue", 1) => (
            "breaks",
            "its certificate leads to a root that is trusted no more, and peers refuse it until it has another",
        ),
        ("reissue", _) => (
            "break",
            "their certificates lead to a root that is trusted no more, and peers refuse them until they have others",
        ),
        (_, 1) => ("keeps the old root", "it goes on trusting it when its key is destroyed"),
        (_, _) => ("keep the old root", "they go on trusting it when its key is destroyed"),
    };
    let mut out = format!("if `{}` is ended now, {total} {breaks}: {how}\n", rotation.phase);
    out.push_str(&words::all_waiting(&rotation.waiting, total, now, usize::MAX));
    out
}

/// What the operator is asked then.
pub(super) fn question(rotation: &Rotation) -> String {
    match rotation.waiting_total {
        0 => format!("End `{}` now?", rotation.phase),
        total => format!("End `{}` now, and leave {total} behind?", rotation.phase),
    }
}

/// Who is cut off if the authority `id` is tainted: those with a leaf of it who cannot be asked to come for another one; and,
/// if it is the one that signs, those who cannot hear of the next root.
pub(super) fn of_taint(readers: &Readers, id: &str) -> Vec<Reader> {
    let is_cut_off = |one: &&Reader| {
        let holds = one.leaves.iter().any(|leaf| leaf.authority == id);
        !one.connected && (holds || (id == readers.active && !one.leaves.is_empty()))
    };
    readers.readers.iter().filter(is_cut_off).cloned().collect()
}

/// The same in words.
pub(super) fn of_taint_text(readers: &Readers, id: &str) -> String {
    let cut_off = of_taint(readers, id);
    let connected = readers.readers.iter().filter(|one| one.connected).count();
    let mut out = match cut_off.len() {
        0 => format!(
            "tainting `{id}` cuts nobody off: {} connected and can be asked\n",
            match connected {
                1 => "1 reader is".to_owned(),
                several => format!("{several} readers are"),
            }
        ),
        several => format!(
            "tainting `{id}` cuts off {}: they are not connected, and are not waited for\n",
            words::count(several, "reader")
        ),
    };
    for one in &cut_off {
        let who = words::who(&one.spiffe_id, one.pod.as_deref(), one.node.as_deref());
        let _ = writeln!(out, "  {who}");
        let last = one.leaves.iter().filter(|leaf| leaf.authority == id).map(|leaf| &leaf.expires_at).max();
        let leaf = match last {
            Some(at) => format!("has a certificate of it until {}", words::until_when(at, &readers.at)),
            None => "does not hear of the next root".to_owned(),
        };
        let gone = match (&one.lost_at, one.kind.as_str()) {
            (Some(at), _) => format!("disconnected for {}", words::since(at, &readers.at)),
            (None, "client") => "hears of roots only with its next certificate".to_owned(),
            (None, "pod") => "reads files, which follow within a while".to_owned(),
            (None, _) => "cannot be asked".to_owned(),
        };
        let _ = writeln!(out, "    {leaf}; {gone}");
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::cli::test_support::NOW;
    use crate::cli::test_support::OLD;
    use crate::cli::test_support::report_in;
    use crate::cli::test_support::some_readers;

    use super::*;

    #[test]
    fn whoever_breaks_is_named_with_the_reason_before_anything_is_forced() {
        let rotation = report_in("distribute", 39, 41).rotation.unwrap();
        assert_eq!(
            of_phase(&rotation, NOW),
            "\
if `distribute` is ended now, 2 break: they do not know the new root, and refuse peers whose certificates lead to it
  spiffe://cluster.local/ns/shop/sa/web (pod shop/web-1 on node n1)
    was sent the roots and has not acknowledged them
  spiffe://cluster.local/ns/shop/sa/old
    is disconnected; until 2026-10-01T13:00:00Z (in 1 h)
"
        );
        assert_eq!(question(&rotation), "End `distribute` now, and leave 2 behind?");
        let nobody = report_in("distribute", 41, 41).rotation.unwrap();
        assert_eq!(of_phase(&nobody, NOW), "`distribute` waits for nobody; nobody is cut off by going on\n");
    }

    #[test]
    fn a_taint_cuts_off_whoever_is_not_connected_and_holds_a_leaf() {
        assert_eq!(
            of_taint_text(&some_readers(), OLD),
            "\
tainting `0123456789abcdef` cuts off 2 readers: they are not connected, and are not waited for
  spiffe://cluster.local/ns/shop/sa/old
    has a certificate of it until 2026-10-01T18:00:00Z (in 6 h); disconnected for 30 min
  spiffe://cluster.local/ns/shop/sa/batch
    has a certificate of it until 2026-10-01T18:00:00Z (in 6 h); hears of roots only with its next certificate
"
        );
        assert_eq!(
            of_taint_text(&some_readers(), "another"),
            "tainting `another` cuts nobody off: 2 readers are connected and can be asked\n"
        );
    }
}
