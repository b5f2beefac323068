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

fn writes(board: &mut Board, now: Duration) -> Vec<(Place, Write)> {
    std::iter::from_fn(|| board.next(now)).collect()
}

#[test]
fn every_namespace_that_lacks_the_bundle_gets_it_and_only_those() {
    let mut board = board(&["a", "b", "c"]);
    assert_eq!((board.namespaces(), board.pending().count()), (Some(3), 2));
    assert_eq!(writes(&mut board, NOW), [(place("b"), Write::Create), (place("c"), Write::Create)]);
    board.wrote(&place("b"), held("9", OLD), NOW);
    assert_eq!(board.pending().collect::<Vec<_>>(), ["c"]);
    board.complete(Kind::ClusterTrustBundle, NOW);
    assert_eq!(writes(&mut board, NOW), [(Place::Cluster, Write::Create)]);
    assert_eq!(board.cluster_is_right(), Some(false));
    board.wrote(&Place::Cluster, held("10", OLD), NOW);
    assert_eq!(board.cluster_is_right(), Some(true));
}

#[test]
fn what_somebody_edits_or_deletes_is_put_right_by_its_latest_version() {
    let mut board = board(&["a"]);
    board.holds(place("a"), Some(Held { version: "8".to_owned(), digest: None }), NOW);
    assert_eq!(writes(&mut board, NOW), [(place("a"), Write::Change { version: "8".to_owned() })]);
    board.wrote(&place("a"), held("9", OLD), NOW);
    board.holds(place("a"), None, NOW);
    assert_eq!(writes(&mut board, NOW), [(place("a"), Write::Create)]);
}

#[test]
fn another_bundle_goes_everywhere_and_what_fails_stays_pending() {
    let mut board = board(&["a", "b"]);
    writes(&mut board, NOW);
    board.wrote(&place("b"), held("8", OLD), NOW);
    board.want(NEW, NOW);
    assert_eq!(board.pending().count(), 2);
    assert_eq!(writes(&mut board, NOW).len(), 2);
    board.wrote(&place("a"), held("9", NEW), NOW);
    assert_eq!(board.failed(&place("b"), NOW), 1);
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
