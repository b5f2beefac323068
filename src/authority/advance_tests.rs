use super::*;
use crate::authority::gate::Distributed;
use crate::authority::gate::Link;
use crate::authority::gate::Publication;
use crate::authority::gate::Reader;
use crate::authority::gate::ReaderKind;
use crate::authority::gate::Unneeded;
use crate::authority::machine::step;
use crate::authority::test_support::NOW;
use crate::authority::test_support::pool;
use crate::authority::test_support::terms;

const HOUR: Duration = Duration::from_secs(3600);

fn first() -> State {
    State::first(pool().authority(0, NOW), NOW)
}

fn after(state: &State, event: Event) -> State {
    step(state, event, NOW).unwrap().0
}

fn prepared(automatic: bool) -> State {
    after(&first(), Event::Prepare { authority: Box::new(pool().authority(1, NOW)), terms: terms(automatic) })
}

fn activated(automatic: bool) -> State {
    let state = prepared(automatic);
    after(&state, Event::Activate(Distributed::forced(&state, "test")))
}

fn retired(automatic: bool) -> State {
    let state = activated(automatic);
    after(&state, Event::Retire(Unneeded::forced(&state, &pool().id(0), "test")))
}

fn nobody() -> Evidence {
    let refresh = time::Duration::ZERO;
    Evidence { readers: vec![], replicas: vec![], gap: None, publication: Publication::NotNeeded, refresh }
}

/// One whom every gate waits for.
fn somebody() -> Evidence {
    let reader = Reader {
        name: "spiffe://td/ns/a/sa/b".to_owned(),
        pod: None,
        node: None,
        kind: ReaderKind::Agent,
        link: Link::Open { sent: None },
        bundle: None,
        trouble: None,
        leaves: vec![(pool().id(0), NOW + HOUR)],
    };
    Evidence { readers: vec![reader], ..nobody() }
}

/// What is next, in a word.
fn word(next: &Next) -> &'static str {
    match next {
        Next::Do(Event::Activate(_)) => "activate",
        Next::Do(Event::Retire(_)) => "retire",
        Next::Do(Event::Remove(_)) => "remove",
        Next::Do(_) => "something else",
        Next::Renew => "renew",
        Next::Wait(_) => "wait",
        Next::Rest => "rest",
    }
}

#[test]
fn an_automatic_rotation_takes_each_step_on_evidence_and_waits_without() {
    for (state, step) in
        [(prepared(true), "activate"), (activated(true), "retire"), (retired(true), "remove")]
    {
        assert_eq!(word(&advance(&state, &nobody(), None, NOW)), step);
        assert_eq!(word(&advance(&state, &somebody(), None, NOW)), "wait");
    }
}

#[test]
fn by_hand_only_the_key_that_nobody_trusts_goes_by_itself() {
    for (state, step) in [(prepared(false), "rest"), (activated(false), "rest"), (retired(false), "remove")] {
        assert_eq!(word(&advance(&state, &nobody(), None, NOW)), step);
        assert_eq!(word(&advance(&state, &somebody(), None, NOW)), "rest");
    }
}

#[test]
fn whatever_is_done_next_the_machine_takes() {
    let mut state = prepared(true);
    let mut steps = vec![];
    while let Next::Do(event) = advance(&state, &nobody(), None, NOW) {
        steps.push(word(&Next::Do(event.clone())));
        state = after(&state, event);
    }
    assert_eq!(steps, ["activate", "retire", "remove"]);
    assert!(state.rotation().is_none());
}

#[test]
fn an_emergency_with_two_bad_keys_ends_too() {
    let spare = || Box::new(pool().authority(7, NOW));
    let taint = |number| Event::Taint { id: pool().id(number), by: "test".to_owned(), spare: spare() };
    let mut state = after(&after(&activated(false), taint(0)), taint(1));
    while let Next::Do(event) = advance(&state, &nobody(), None, NOW) {
        state = after(&state, event);
    }
    assert!(state.rotation().is_none());
    assert_eq!(state.active().id, pool().id(7));
    assert_eq!(state.authorities().len(), 1);
}

#[test]
fn an_authority_is_replaced_when_it_has_signed_for_its_age_if_it_is_to_be() {
    let state = first();
    let due = scheduled_rotation_begins(state.active(), HOUR);
    assert_eq!(due, NOW + HOUR);
    let moment = time::Duration::SECOND;
    assert_eq!(word(&advance(&state, &nobody(), Some(HOUR), due - moment)), "rest");
    assert_eq!(word(&advance(&state, &nobody(), Some(HOUR), due)), "renew");
    assert_eq!(word(&advance(&state, &nobody(), None, due)), "rest");
    assert_eq!(word(&advance(&prepared(false), &nobody(), Some(HOUR), due)), "rest", "one at a time");
}

#[test]
fn the_present_gate_is_the_one_of_the_phase() {
    assert_eq!(present_gate(&first(), &somebody(), NOW), None);
    for (state, why) in [
        (prepared(false), "is connected, and was not sent the roots yet"),
        (activated(false), "may still use a certificate of"),
        (retired(false), "is connected, and was not sent the roots yet"),
    ] {
        let gate = present_gate(&state, &somebody(), NOW).unwrap();
        assert!(gate.waiting[0].why.contains(why), "{gate:?}");
    }
}

#[test]
fn times_fit_each_other() {
    let day = 24 * HOUR;
    let largest = largest_leaf_lifetime_a_scheduled_rotation_never_cuts_short;
    assert_eq!(largest(10 * day, 6 * day, day), 3 * day);
    assert_eq!(largest(day, 2 * day, day), Duration::ZERO);
    assert_eq!(window_that_asks_for_at_most(10, 600), Duration::from_secs(60));
    assert_eq!(window_that_asks_for_at_most(0, 1), Duration::from_secs(1), "never without end");
}
