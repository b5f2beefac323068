//! When the move begins, and how often a late replica is asked.

use proptest::prelude::*;

use super::*;
use crate::agent::test_support::Authority;
use crate::agent::test_support::NOW;

const HOUR: Duration = Duration::from_secs(3600);

fn far() -> OffsetDateTime {
    NOW + 24 * HOUR
}

fn told(moving: Moving, notice: &Notice, draw: f64) -> Moving {
    moving.told(Some(notice), false, NOW, draw)
}

#[test]
fn who_is_there_stays_and_who_is_not_moves_within_the_window() {
    let notice = Authority::new().notice(HOUR);
    let settled = Moving::default().told(Some(&notice), true, NOW, 0.5);
    assert_eq!(settled.or_sooner(far()), far());
    assert_eq!(told(Moving::default(), &notice, 0.25).or_sooner(far()), NOW + HOUR / 4);
    let sooner = NOW + HOUR / 10;
    assert_eq!(told(Moving::default(), &notice, 0.25).or_sooner(sooner), sooner, "the schedule is first");
    let at_once = Authority::new().notice(Duration::ZERO);
    assert_eq!(told(Moving::default(), &at_once, 0.9).or_sooner(far()), NOW);
}

#[test]
fn a_repeated_notice_changes_nothing_and_one_that_gives_less_time_does() {
    let notice = Authority::new().notice(HOUR);
    let moving = told(Moving::default(), &notice, 0.5);
    assert_eq!(told(moving.clone(), &notice, 0.9), moving);
    assert_eq!(told(moving.clone(), &notice, 0.1), moving);
    let longer = Notice { window: 2 * HOUR, ..notice.clone() };
    assert_eq!(told(moving.clone(), &longer, 0.0), moving);
    let shorter = Notice { window: HOUR / 10, ..notice };
    assert_eq!(told(moving, &shorter, 0.5).or_sooner(far()), NOW + HOUR / 20);
}

#[test]
fn another_authority_is_drawn_for_anew_and_a_way_back_ends_the_move() {
    let (one, other) = (Authority::new().notice(HOUR), Authority::new().notice(HOUR));
    let moving = told(Moving::default(), &one, 0.5);
    assert_eq!(told(moving.clone(), &other, 0.75).or_sooner(far()), NOW + HOUR * 3 / 4);
    let back = moving.clone().told(Some(&other), true, NOW, 0.5);
    assert_eq!(back.or_sooner(far()), far());
    assert_eq!(moving.told(None, true, NOW, 0.5), Moving::default(), "a CA that tells nothing wants nothing");
}

#[test]
fn a_late_replica_is_asked_again_after_one_second_and_ever_later_up_to_ten_and_then_by_the_minute() {
    let notice = Authority::new().notice(Duration::ZERO);
    let mut moving = told(Moving::default(), &notice, 0.0);
    let mut pauses = Vec::new();
    for _ in 0..32 {
        moving = moving.late(NOW, Some(far()), 1.0);
        pauses.push((moving.or_sooner(far()) - NOW).whole_seconds());
    }
    assert_eq!(pauses[..6], [1, 2, 4, 8, 10, 10]);
    assert_eq!(pauses[28..], [10, 10, 60, 60]);
    assert_eq!(moving.late_answers(), 32);
    let arrived = moving.arrived();
    assert_eq!((arrived.late_answers(), arrived.or_sooner(far())), (0, far()));
}

#[test]
fn a_failure_leaves_it_to_the_schedule_and_a_moment_that_is_to_come_stays() {
    let notice = Authority::new().notice(HOUR);
    let moving = told(Moving::default(), &notice, 0.5);
    assert_eq!(moving.clone().failed(NOW), moving);
    assert_eq!(moving.failed(NOW + HOUR / 2).or_sooner(far()), far());
    assert_eq!(Moving::default().at_once(NOW).or_sooner(far()), NOW);
}

proptest! {
    #[test]
    fn for_any_draw_the_move_is_due_within_the_window(seconds in 0_u64..1_000_000, draw in 0.0..1.0_f64) {
        let window = Duration::from_secs(seconds);
        let due = told(Moving::default(), &Authority::new().notice(window), draw).or_sooner(NOW + 2 * window + HOUR);
        prop_assert!(due >= NOW && due <= NOW + window);
    }

    #[test]
    fn a_late_answer_never_leads_to_a_storm_nor_past_what_is_left(
        answers in 0_u32..100, left in 1_u64..100_000, draw in 0.0..1.0_f64,
    ) {
        let moving = Moving { late_answers: answers, ..Moving::default() };
        let until = NOW + Duration::from_secs(left);
        let due = moving.late(NOW, Some(until), draw).or_later(NOW);
        prop_assert!(due - NOW >= SHORTEST_PAUSE / 2 && due < until);
    }
}
