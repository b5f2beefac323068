use super::*;

const NOW: Duration = Duration::from_secs(1);
const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn held(version: &str, digest: [u8; 32]) -> Held {
    Held { version: version.to_owned(), digest: Some(digest) }
}

fn place(name: &str) -> Place {
    Place::Namespace(name.to_owned())
}

/// A board that has seen these namespaces, of which the first has the old bundle.
fn board(names: &[&str]) -> Board {
    let mut board = Board::new(OLD);
    for kind in [Kind::Namespaces, Kind::ConfigMaps, Kind::ClusterTrustBundle] {
        board.begins(kind);
    }
    for name in names {
        board.namespace(name, false, NOW);
    }
    board.complete(Kind::Namespaces, NOW);
    if let Some(first) = names.first() {
        board.holds(place(first), Some(held("7", OLD)), NOW);
    }
    assert_eq!(board.next(NOW), None, "nothing is written before it is known what there is");
    board.complete(Kind::ConfigMaps, NOW);
    board
}

/// All writes that are due, which stay under way.
fn flights(board: &mut Board, now: Duration) -> Vec<(Place, Write, Flight)> {
    std::iter::from_fn(|| board.next(now)).collect()
}

fn writes(board: &mut Board, now: Duration) -> Vec<(Place, Write)> {
    flights(board, now).into_iter().map(|(place, write, _)| (place, write)).collect()
}

/// The one write that is due.
fn only(board: &mut Board, now: Duration) -> (Place, Write, Flight) {
    let mut all = flights(board, now);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn every_namespace_that_lacks_the_bundle_gets_it_and_only_those() {
    let mut board = board(&["a", "b", "c"]);
    assert_eq!((board.namespaces(), board.pending().count()), (Some(3), 2));
    let flights = flights(&mut board, NOW);
    let written: Vec<_> = flights.iter().map(|(place, write, _)| (place.clone(), write.clone())).collect();
    assert_eq!(written, [(place("b"), Write::Create), (place("c"), Write::Create)]);
    board.wrote(&place("b"), flights[0].2, held("9", OLD), NOW);
    assert_eq!(board.pending().collect::<Vec<_>>(), ["c"]);
    board.complete(Kind::ClusterTrustBundle, NOW);
    let (cluster, write, flight) = only(&mut board, NOW);
    assert_eq!((&cluster, write), (&Place::Cluster, Write::Create));
    assert_eq!(board.cluster_is_right(), Some(false));
    board.wrote(&cluster, flight, held("10", OLD), NOW);
    assert_eq!(board.cluster_is_right(), Some(true));
}

#[test]
fn what_somebody_edits_or_deletes_is_put_right_by_its_latest_version() {
    let mut board = board(&["a"]);
    board.holds(place("a"), Some(Held { version: "8".to_owned(), digest: None }), NOW);
    let (a, write, flight) = only(&mut board, NOW);
    assert_eq!(write, Write::Change { version: "8".to_owned() });
    board.wrote(&a, flight, held("9", OLD), NOW);
    board.holds(place("a"), None, NOW);
    assert_eq!(writes(&mut board, NOW), [(place("a"), Write::Create)]);
}

#[test]
fn a_late_answer_never_hides_what_a_watch_has_shown_since() {
    // Our write's echo, then somebody's edit, and only then our write's answer.
    let mut board = board(&["a"]);
    board.holds(place("a"), Some(Held { version: "8".to_owned(), digest: None }), NOW);
    let (a, _, flight) = only(&mut board, NOW);
    board.holds(place("a"), Some(held("9", OLD)), NOW);
    board.holds(place("a"), Some(Held { version: "10".to_owned(), digest: None }), NOW);
    board.wrote(&a, flight, held("9", OLD), NOW);
    let (a, write, flight) = only(&mut board, NOW);
    assert_eq!(write, Write::Change { version: "10".to_owned() });
    // The same with a deletion.
    board.holds(place("a"), Some(held("11", OLD)), NOW);
    board.holds(place("a"), None, NOW);
    board.wrote(&a, flight, held("11", OLD), NOW);
    let (a, write, flight) = only(&mut board, NOW);
    assert_eq!(write, Write::Create);
    // And with a namespace that ended and came back while its ConfigMap was being made.
    board.namespace_gone("a");
    board.namespace("a", false, NOW);
    board.wrote(&a, flight, held("12", OLD), NOW);
    assert_eq!(board.pending().count(), 1);
    assert_eq!(writes(&mut board, NOW + Duration::from_secs(30)), [(place("a"), Write::Create)]);
}

#[test]
fn another_bundle_goes_everywhere_and_what_fails_stays_pending() {
    let mut board = board(&["a", "b"]);
    let (b, _, flight) = only(&mut board, NOW);
    board.wrote(&b, flight, held("8", OLD), NOW);
    board.want(NEW, NOW);
    assert_eq!(board.pending().count(), 2);
    let flights = flights(&mut board, NOW);
    assert_eq!(flights.len(), 2);
    board.wrote(&place("a"), flights[0].2, held("9", NEW), NOW);
    assert_eq!(board.failed(&place("b"), flights[1].2, NOW), 1);
    assert_eq!(board.pending().collect::<Vec<_>>(), ["b"]);
    assert_eq!(writes(&mut board, NOW), []);
    let (due, _) = board.queue();
    assert_eq!(writes(&mut board, due.unwrap()).len(), 1, "it comes again");
}

#[test]
fn a_namespace_that_ends_is_nobody_any_more() {
    let mut board = board(&["a", "b", "c"]);
    board.namespace("b", true, NOW);
    board.namespace_gone("c");
    assert_eq!((board.namespaces(), board.pending().count()), (Some(1), 0));
    assert_eq!(writes(&mut board, NOW), []);
    // A new list without it says the same.
    board.begins(Kind::Namespaces);
    board.complete(Kind::Namespaces, NOW);
    assert_eq!(board.namespaces(), Some(0));
}

#[test]
fn what_is_missing_in_a_new_list_was_deleted_while_nobody_looked() {
    let mut board = board(&["a"]);
    board.begins(Kind::ConfigMaps);
    assert_eq!(board.pending().count(), 0);
    board.complete(Kind::ConfigMaps, NOW);
    assert_eq!(writes(&mut board, NOW), [(place("a"), Write::Create)]);
}
