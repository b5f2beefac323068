//! Who is waited for, who is silent, and who is forgotten.

use proptest::prelude::*;

use super::*;

const POLITE: Duration = Duration::from_secs(15);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn took(version: &str) -> Answer {
    Answer { version: version.into(), refusal: None }
}

fn refused(version: &str, why: &str) -> Answer {
    Answer { version: version.into(), refusal: Some(why.to_owned()) }
}

/// A roll on which `node` has stream `id`, subscribed to `a`.
fn join(roll: &mut Roll, id: u64, node: &str, now: u64) {
    roll.enter(id, seconds(now));
    roll.is_called(id, node);
    roll.watches(id, &names(&["a"]));
}

fn stand(roll: &Roll, version: &str, now: u64) -> Standing {
    roll.stand("a", &version.into(), seconds(now), POLITE)
}

#[test]
fn a_version_stands_as_the_last_answers_to_it_say() {
    let mut roll = Roll::default();
    assert_eq!(stand(&roll, "1", 0), Standing::default());
    join(&mut roll, 1, "x", 0);
    join(&mut roll, 2, "y", 0);
    let waiting = |waiting| Standing { is_anybody_seen: true, waiting, ..Standing::default() };
    assert_eq!(stand(&roll, "1", 0), waiting(2));
    assert_eq!(roll.have_answered("a", &"1".into()), None);
    roll.answered(1, "a", took("1"));
    assert_eq!(stand(&roll, "1", 0), waiting(1));
    roll.answered(2, "a", refused("1", "no"));
    assert_eq!(roll.have_answered("a", &"1".into()), Some(false));
    let refusal = Some(("y".to_owned(), "no".to_owned()));
    assert_eq!(stand(&roll, "1", 0), Standing { refusals: 1, refusal, ..waiting(0) });
    // Of another version nothing is known, and of another name nobody is asked.
    assert_eq!(stand(&roll, "2", 0), waiting(2));
    assert_eq!(roll.stand("b", &"1".into(), seconds(0), POLITE), waiting(0));
    assert_eq!(roll.have_answered("b", &"1".into()), Some(true));
}

#[test]
fn an_answer_counts_until_something_else_is_pushed_and_not_again_when_it_comes_back() {
    let mut roll = Roll::default();
    join(&mut roll, 1, "x", 0);
    roll.answered(1, "a", took("1"));
    assert_eq!(stand(&roll, "1", 0).waiting, 0);
    roll.pushed(1, "a");
    roll.pushed(1, "b");
    assert_eq!(stand(&roll, "1", 0).waiting, 1, "it may use either");
    assert_eq!(roll.open().next().unwrap().names.len(), 1);
}

#[test]
fn whoever_is_here_for_long_without_an_answer_is_silent_and_the_first_five_are_named() {
    let mut roll = Roll::default();
    for id in 0..7 {
        join(&mut roll, id, &format!("p{id}"), 0);
    }
    join(&mut roll, 9, "late", 10);
    assert_eq!(stand(&roll, "1", 14).silent, 0);
    let standing = stand(&roll, "1", 15);
    assert_eq!((standing.waiting, standing.silent), (8, 7));
    assert_eq!(standing.silent_nodes, ["p0", "p1", "p2", "p3", "p4"]);
}

#[test]
fn who_left_without_an_answer_is_waited_for_until_it_is_back_or_forgotten() {
    let mut roll = Roll::default();
    join(&mut roll, 1, "x", 0);
    join(&mut roll, 2, "x", 0);
    roll.leave(1, seconds(100));
    roll.leave(2, seconds(100));
    assert_eq!(stand(&roll, "1", 101).waiting, 2);
    assert_eq!(roll.have_answered("a", &"1".into()), Some(true), "only those who are here");
    // Each that comes makes good for one that went; a stranger for none.
    join(&mut roll, 3, "x", 102);
    join(&mut roll, 4, "y", 102);
    roll.answered(3, "a", took("1"));
    roll.answered(4, "a", took("1"));
    assert_eq!(stand(&roll, "1", 114).silent, 0);
    assert_eq!(stand(&roll, "1", 115).silent_nodes, ["x"]);
    assert_eq!(stand(&roll, "1", 129).waiting, 1);
    assert_eq!(stand(&roll, "1", 130).waiting, 0);
}

#[test]
fn who_left_with_an_answer_or_without_a_name_is_not_waited_for() {
    let mut roll = Roll::default();
    join(&mut roll, 1, "x", 0);
    roll.answered(1, "a", took("1"));
    roll.leave(1, seconds(1));
    join(&mut roll, 2, "", 1);
    roll.leave(2, seconds(2));
    assert_eq!(stand(&roll, "1", 2).waiting, 0);
    assert_eq!(stand(&roll, "2", 2).waiting, 1, "it has not answered this one");
}

#[test]
fn only_what_is_new_is_news() {
    let mut roll = Roll::default();
    roll.enter(1, seconds(0));
    assert!(roll.is_called(1, "x") && !roll.is_called(1, "x"));
    assert!(roll.watches(1, &names(&["a"])) && !roll.watches(1, &names(&["a"])));
    assert!(roll.watches(1, &names(&["a", "b"])) && roll.watches(1, &names(&["b"])));
    assert!(!roll.is_called(2, "x") && !roll.watches(2, &names(&["a"])), "no such stream");
}

proptest! {
    #[test]
    fn the_forgotten_do_not_pile_up(leaving in proptest::collection::vec((0_u64..20, 0_u64..5), 1..200)) {
        let (mut roll, mut now) = (Roll::default(), 0);
        for (id, (pause, node)) in leaving.into_iter().enumerate() {
            now += pause;
            join(&mut roll, id as u64, &node.to_string(), now);
            roll.leave(id as u64, seconds(now));
            let oldest = roll.gone.values().flatten().map(|one| one.at).min();
            prop_assert!(oldest.is_none_or(|at| at + FORGOTTEN_AFTER + CLEARED_EVERY >= seconds(now)));
        }
        prop_assert!(stand(&roll, "1", now + 30).waiting == 0);
    }
}
