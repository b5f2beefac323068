use serde_json::Value;
use serde_json::json;
use time::macros::datetime;

use super::*;
use crate::authz::resource::ResourceKind;
use crate::authz::resource::Severity;

const SECOND: Duration = Duration::from_secs(1);

fn id(name: &str) -> ResourceId {
    ResourceId {
        kind: ResourceKind::AuthorizationPolicy,
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

fn fault() -> Fault {
    Fault {
        path: "spec.rules[0]".to_owned(),
        severity: Severity::Error,
        problem: "it is wrong".to_owned(),
        effect: String::new(),
    }
}

fn fresh(version: &str) -> Value {
    json!({ "apiVersion": "security.istio.io/v1", "metadata": { "resourceVersion": version } })
}

/// The object after that write.
fn after(write: &Write, version: &str) -> Held {
    let metadata = json!({ "resourceVersion": version });
    let at = datetime!(2030-01-01 0:00 UTC);
    Held::by(&write.held.patch(&metadata, "AuthorizationPolicy", &write.wanted, at))
}

fn shown(board: &mut Board, name: &str, faults: &[Fault], now: Duration) {
    board.there(&id(name), 1, faults.to_vec(), Held::by(&fresh("1")), now);
}

#[test]
fn a_new_object_gets_a_status_once_and_what_is_shown_again_gets_none() {
    let mut board = Board::default();
    shown(&mut board, "a", &[], SECOND);
    assert_eq!((board.behind(), board.behind_since()), (1, Some(SECOND)));
    let (of, write, flight) = board.next(SECOND).unwrap();
    assert_eq!((of, &*write.held.version), (id("a"), "1"));
    assert_eq!(board.next(SECOND), None);
    let held = after(&write, "2");
    board.wrote(&id("a"), flight, held.clone(), SECOND);
    assert_eq!((board.next(SECOND * 9), board.behind(), board.queue()), (None, 0, (None, 0)));
    board.there(&id("a"), 1, Vec::new(), held, SECOND * 9);
    assert_eq!((board.next(SECOND * 99), board.behind_since()), (None, None));
}

#[test]
fn what_changes_while_a_write_is_under_way_is_written_afterwards() {
    let mut board = Board::default();
    shown(&mut board, "a", &[], SECOND);
    let (_, write, flight) = board.next(SECOND).unwrap();
    shown(&mut board, "a", &[fault()], SECOND);
    board.wrote(&id("a"), flight, after(&write, "2"), SECOND);
    let (_, write, _) = board.next(SECOND).unwrap();
    assert_eq!(write.wanted, Wanted::of(1, &[fault()], None));
}

#[test]
fn numbers_of_workloads_are_written_now_and_then_and_the_first_and_the_last_at_once() {
    let mut board = Board::default();
    shown(&mut board, "a", &[], SECOND);
    let mut writes = Vec::new();
    for tick in 10..1_000 {
        let now = Duration::from_millis(tick * 100);
        // They come and go ten times a second.
        let count = if tick < 900 { 1 + usize::try_from(tick % 7).unwrap() } else { 0 };
        board.counted(&[(id("a"), count)].into(), now);
        while let Some((_, write, flight)) = board.next(now) {
            writes.push(now);
            board.wrote(&id("a"), flight, after(&write, &format!("{tick}")), now);
        }
    }
    assert_eq!(writes.first(), Some(&SECOND));
    assert!(writes.contains(&(SECOND * 90)), "that it applies to nothing any more is news: {writes:?}");
    assert!((4..=6).contains(&writes.len()), "{writes:?}");
    assert_eq!(board.behind(), 0);
}

#[test]
fn ten_thousand_objects_do_not_drown_the_api_server() {
    let mut board = Board::default();
    for at in 0..10_000 {
        shown(&mut board, &format!("p{at}"), &[], SECOND);
    }
    for second in 1..4 {
        let mut taken = 0;
        while let Some((id, write, flight)) = board.next(SECOND * second) {
            taken += 1;
            board.wrote(&id, flight, after(&write, "2"), SECOND * second);
        }
        assert_eq!(taken, PER_SECOND);
        assert_eq!(board.queue().0, Some(SECOND * (second + 1)), "the rest waits for the next second");
    }
}

#[test]
fn an_object_that_is_gone_is_written_no_more() {
    let mut board = Board::default();
    shown(&mut board, "a", &[], SECOND);
    let (_, write, flight) = board.next(SECOND).unwrap();
    board.gone(&id("a"));
    board.wrote(&id("a"), flight, after(&write, "2"), SECOND);
    assert_eq!((board.next(SECOND * 9), board.behind(), board.queue()), (None, 0, (None, 0)));
}

#[test]
fn a_write_that_fails_comes_again_and_stays_behind_since_the_beginning() {
    let mut board = Board::default();
    shown(&mut board, "a", &[], SECOND);
    let (_, _, flight) = board.next(SECOND).unwrap();
    assert_eq!(board.failed(&id("a"), flight, SECOND * 2), 1);
    assert!(board.is_behind(&id("a")));
    assert_eq!((board.next(SECOND * 2), board.behind_since()), (None, Some(SECOND)));
    assert!(board.next(SECOND * 3).is_some());
}
