use std::collections::BTreeMap;
use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn queue_of(keys: &[u8]) -> Queue<u8> {
    let mut queue = Queue::default();
    keys.iter().for_each(|key| queue.due(key));
    queue
}

#[test]
fn a_key_stands_in_the_queue_once_and_first_come_is_first_served() {
    let mut queue = queue_of(&[1, 2, 1, 2, 3]);
    assert_eq!(queue.next(ms(0), 9), Some(1));
    assert_eq!(queue.next(ms(0), 9), Some(2));
    assert_eq!(queue.next(ms(0), 9), Some(3));
    assert_eq!(queue.next(ms(0), 9), None);
}

#[test]
fn no_more_are_under_way_than_allowed() {
    let mut queue = queue_of(&[1, 2, 3]);
    assert!(queue.next(ms(0), 2).is_some() && queue.next(ms(0), 2).is_some());
    assert_eq!(queue.next(ms(0), 2), None);
    assert_eq!(queue.wakes_at(2), None);
    queue.tried(&1, None, ms(0), 1.0);
    assert_eq!(queue.next(ms(0), 2), Some(3));
}

#[test]
fn pauses_double_up_to_half_a_minute_and_a_change_ends_one() {
    let mut queue = queue_of(&[1]);
    let (mut now, mut pauses) = (ms(0), Vec::new());
    for _ in 0..9 {
        assert_eq!(queue.next(now, 9), Some(1));
        queue.tried(&1, Some(Pace::Soon), now, 1.0);
        assert_eq!(queue.next(now, 9), None);
        let at = queue.wakes_at(9).unwrap();
        pauses.push((at - now).as_millis());
        now = at;
    }
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    assert_eq!(queue.next(now, 9), Some(1));
    queue.tried(&1, Some(Pace::Slowly), now, 1.0);
    assert_eq!(queue.wakes_at(9), Some(now + SLOW_PAUSE));
    queue.due(&1);
    assert_eq!(queue.next(now, 9), Some(1));
}

#[test]
fn a_change_while_it_is_under_way_makes_it_due_again_at_once() {
    let mut queue = queue_of(&[1]);
    assert_eq!(queue.next(ms(0), 9), Some(1));
    queue.due(&1);
    assert_eq!(queue.next(ms(0), 9), None);
    queue.tried(&1, Some(Pace::Slowly), ms(0), 1.0);
    assert_eq!(queue.next(ms(0), 9), Some(1));
}

#[test]
fn what_waits_for_a_change_is_woken_by_it_alone() {
    let mut queue = queue_of(&[1]);
    queue.next(ms(0), 9);
    queue.tried(&1, Some(Pace::WhenSomethingChanges), ms(0), 1.0);
    assert_eq!((queue.next(ms(1 << 40), 9), queue.wakes_at(9)), (None, None));
    queue.due(&1);
    assert_eq!(queue.next(ms(0), 9), Some(1));
    queue.tried(&1, Some(Pace::WhenSomethingChanges), ms(0), 1.0);
    queue.all_due();
    assert_eq!(queue.next(ms(0), 9), Some(1));
}

#[test]
fn while_the_api_server_is_away_one_tries_for_all() {
    let mut queue = queue_of(&[1, 2, 3, 4]);
    let first: Vec<_> = (0..3).filter_map(|_| queue.next(ms(0), 3)).collect();
    first.iter().for_each(|key| queue.tried(key, Some(Pace::WhenTheApiServerIsBack), ms(0), 1.0));
    // All three found out together, and count as one.
    assert_eq!((queue.next(ms(249), 3), queue.wakes_at(3)), (None, Some(ms(250))));
    let probe = queue.next(ms(250), 3).unwrap();
    assert_eq!((queue.next(ms(250), 3), queue.wakes_at(3)), (None, None));
    queue.tried(&probe, Some(Pace::WhenTheApiServerIsBack), ms(250), 1.0);
    assert_eq!((queue.next(ms(749), 3), queue.wakes_at(3)), (None, Some(ms(750))));
    let probe = queue.next(ms(750), 3).unwrap();
    queue.tried(&probe, None, ms(750), 1.0);
    assert_eq!((0..5).filter_map(|_| queue.next(ms(750), 9)).count(), 3);
}

#[test]
fn what_is_removed_is_not_worked_on_and_its_try_still_counts_until_it_ends() {
    let mut queue = queue_of(&[1, 2, 3]);
    queue.next(ms(0), 9);
    queue.remove(&1);
    queue.remove(&2);
    assert_eq!(queue.next(ms(0), 2), Some(3));
    assert_eq!(queue.next(ms(0), 2), None);
    queue.tried(&1, Some(Pace::Soon), ms(0), 1.0);
    queue.tried(&3, Some(Pace::Soon), ms(0), 1.0);
    queue.remove(&3);
    assert_eq!((queue.next(ms(1 << 40), 9), queue.wakes_at(9)), (None, None));
}

#[derive(Clone, Debug)]
enum Event {
    Due(u8),
    Remove(u8),
    AllDue,
    Next,
    End(usize, Option<Pace>),
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let pace = prop_oneof![
        Just(None),
        Just(Some(Pace::Soon)),
        Just(Some(Pace::Slowly)),
        Just(Some(Pace::WhenSomethingChanges)),
        Just(Some(Pace::WhenTheApiServerIsBack)),
    ];
    prop_oneof![
        4 => (0_u8..12).prop_map(Event::Due),
        1 => (0_u8..12).prop_map(Event::Remove),
        1 => Just(Event::AllDue),
        6 => Just(Event::Next),
        5 => (any::<usize>(), pace).prop_map(|(which, pace)| Event::End(which, pace)),
        3 => (1_u64..60_000).prop_map(Event::Later),
    ]
}

proptest! {
    #[test]
    fn no_key_is_under_way_twice_or_lost_and_nobody_spins(events in proptest::collection::vec(event(), 0..300)) {
        let mut queue = Queue::default();
        let (mut now, mut under_way) = (ms(0), Vec::<u8>::new());
        // A key that was removed while under way may come again; keys of requests are UIDs and never do.
        let (mut known, mut dead) = (BTreeMap::<u8, ()>::new(), HashSet::new());
        for event in events {
            match event {
                Event::Due(key) if dead.contains(&key) => {}
                Event::Due(key) => {
                    queue.due(&key);
                    known.insert(key, ());
                }
                Event::Remove(key) => {
                    queue.remove(&key);
                    known.remove(&key);
                    dead.insert(key);
                }
                Event::AllDue => queue.all_due(),
                Event::Next => {
                    if let Some(key) = queue.next(now, 3) {
                        prop_assert!(!under_way.contains(&key) && known.contains_key(&key));
                        under_way.push(key);
                        prop_assert!(under_way.len() <= 3);
                    } else if let Some(at) = queue.wakes_at(3) {
                        prop_assert!(at > now, "woken at {at:?}, and it is {now:?}");
                    }
                }
                Event::End(which, pace) if !under_way.is_empty() => {
                    let key = under_way.swap_remove(which % under_way.len());
                    queue.tried(&key, pace, now, 0.5);
                    if pace.is_none() {
                        known.remove(&key);
                        dead.insert(key);
                    }
                }
                Event::End(..) => {}
                Event::Later(by) => now += ms(by),
            }
        }
        // In the end, everything that is known gets its turn once all is due.
        under_way.drain(..).for_each(|key| queue.tried(&key, Some(Pace::Soon), now, 0.5));
        queue.all_due();
        let mut served = BTreeMap::new();
        while let Some(key) = queue.next(now + SLOW_PAUSE, 1) {
            queue.tried(&key, None, now + SLOW_PAUSE, 0.5);
            served.insert(key, ());
        }
        prop_assert_eq!(served, known);
    }
}
