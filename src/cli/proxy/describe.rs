//! Pure: readers in words.

use std::fmt::Write;

use crate::cli::words;
use crate::rotation::report::Leaf;
use crate::rotation::report::Reader;
use crate::rotation::report::Readers;

/// All of them, a line each.
pub(super) fn table(readers: &Readers) -> String {
    let current = readers.readers.iter().filter(|one| one.is_current).count();
    let mut out = format!(
        "{}, {current} with the present roots (bundle {}, digest {}); authority {} signs\n",
        words::count(readers.readers.len(), "reader"),
        readers.sequence,
        readers.digest,
        readers.active
    );
    if readers.readers.is_empty() {
        return out;
    }
    out.push('\n');
    let row = |one: &Reader| {
        let cell = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            one.spiffe_id.clone(),
            cell(&one.pod),
            cell(&one.node),
            one.kind.clone(),
            stream(one, &readers.at),
            roots(one).to_owned(),
            leaf(one, &readers.at),
        ]
    };
    let rows: Vec<_> = readers.readers.iter().map(row).collect();
    out.push_str(&words::table(&["WHO", "POD", "NODE", "KIND", "STREAM", "ROOTS", "CERTIFICATE"], &rows));
    out
}

/// Whom an operator means: by id, SPIFFE ID, or pod with or without its namespace.
pub(super) fn fitting<'a>(readers: &'a Readers, wanted: &str) -> Vec<&'a Reader> {
    let is_pod = |pod: &String| pod == wanted || pod.rsplit('/').next() == Some(wanted);
    let fits =
        |one: &&Reader| one.id == wanted || one.spiffe_id == wanted || one.pod.as_ref().is_some_and(is_pod);
    readers.readers.iter().filter(fits).collect()
}

/// All that is known of one.
pub(super) fn text(reader: &Reader, readers: &Readers) -> String {
    let now = readers.at.as_str();
    let mut out = format!("{}\n", reader.spiffe_id);
    let mut say = |what: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {what:<14}{value}");
    };
    let moment = |at: &str| format!("{at} ({})", words::from_now(at, now));
    say("id", &reader.id);
    say("kind", &reader.kind);
    say("pod", reader.pod.as_deref().unwrap_or("-"));
    say("node", reader.node.as_deref().unwrap_or("-"));
    match (reader.connected, &reader.connected_since, &reader.lost_at) {
        (true, Some(since), _) => say("stream", &format!("open since {}", moment(since))),
        (true, None, _) => say("stream", "open"),
        (false, _, Some(at)) => say("stream", &format!("lost at {}", moment(at))),
        (false, _, None) => say("stream", "none"),
    }
    if let Some(replica) = &reader.replica {
        say("replica", replica);
    }
    let digest = |digest: &Option<String>| match digest {
        Some(digest) if *digest == readers.digest => format!("{digest} (the present ones)"),
        Some(digest) => format!("{digest} (not the present ones)"),
        None => "-".to_owned(),
    };
    say("sent", &digest(&reader.sent));
    say("acknowledged", &digest(&reader.acknowledged));
    if let Some(why) = &reader.last_nack {
        say("refused", why);
    }
    for leaf in &reader.leaves {
        let whose = if leaf.authority == readers.active { ", which signs" } else { ", which does not sign" };
        say("certificate", &format!("of {}{whose}, expires {}", leaf.authority, moment(&leaf.expires_at)));
    }
    out
}

fn stream(reader: &Reader, now: &str) -> String {
    match (reader.connected, &reader.connected_since, &reader.lost_at) {
        (true, Some(since), _) => words::since(since, now),
        (true, None, _) => "open".to_owned(),
        (false, _, Some(at)) => format!("lost {}", words::from_now(at, now)),
        (false, _, None) => "-".to_owned(),
    }
}

fn roots(reader: &Reader) -> &'static str {
    match (reader.is_current, &reader.last_nack, &reader.acknowledged) {
        (true, _, _) => "current",
        (false, Some(_), _) => "refused",
        (false, None, Some(_)) => "old",
        (false, None, None) => "-",
    }
}

/// The one that it uses longest, and how many there are besides.
fn leaf(reader: &Reader, now: &str) -> String {
    let last: Option<&Leaf> = reader.leaves.iter().max_by_key(|leaf| words::moment(&leaf.expires_at));
    let Some(last) = last else { return "-".to_owned() };
    let more = match reader.leaves.len() {
        1 => String::new(),
        several => format!(", and {} more", several - 1),
    };
    format!("{} expires {}{more}", words::short(&last.authority), words::from_now(&last.expires_at, now))
}

#[cfg(test)]
mod tests {
    use crate::cli::test_support::some_readers;

    use super::*;

    #[test]
    fn readers_are_listed_with_stream_roots_and_certificate() {
        assert_eq!(
            table(&some_readers()),
            "\
4 readers, 1 with the present roots (bundle 7, digest d7); authority 0123456789abcdef signs

  WHO                                      POD         NODE  KIND    STREAM           ROOTS    CERTIFICATE
  spiffe://cluster.local/ns/shop/sa/web    shop/web-1  n1    agent   3 h              current  0123456789abcdef expires in 6 h
  spiffe://cluster.local/ns/shop/sa/web    shop/web-2  n2    agent   1 h              refused  0123456789abcdef expires in 6 h
  spiffe://cluster.local/ns/shop/sa/old    -           -     agent   lost 30 min ago  old      0123456789abcdef expires in 6 h
  spiffe://cluster.local/ns/shop/sa/batch  -           -     client  -                -        0123456789abcdef expires in 6 h
"
        );
        let none = Readers { readers: vec![], ..some_readers() };
        assert_eq!(table(&none).lines().count(), 1);
    }

    #[test]
    fn one_is_found_by_id_spiffe_id_or_pod_and_told_in_full() {
        let readers = some_readers();
        let ids = |wanted| fitting(&readers, wanted).iter().map(|one| one.id.as_str()).collect::<Vec<_>>();
        assert_eq!(ids("a2"), ["a2"]);
        assert_eq!(ids("shop/web-2"), ["a2"]);
        assert_eq!(ids("web-2"), ["a2"]);
        assert_eq!(ids("spiffe://cluster.local/ns/shop/sa/web"), ["a1", "a2"]);
        assert!(ids("web").is_empty());
        assert_eq!(
            text(&readers.readers[1], &readers),
            "\
spiffe://cluster.local/ns/shop/sa/web
  id            a2
  kind          agent
  pod           shop/web-2
  node          n2
  stream        open since 2026-10-01T11:00:00Z (1 h ago)
  sent          d7 (the present ones)
  acknowledged  d6 (not the present ones)
  refused       proxy envoy-2: it has no room
  certificate   of 0123456789abcdef, which signs, expires 2026-10-01T18:00:00Z (in 6 h)
"
        );
    }
}
