use super::*;
use crate::authority::gate;
use crate::authority::test_support::NOW;
use crate::authority::test_support::ROOTS;
use crate::authority::test_support::pool;
use crate::authority::test_support::terms;

/// Just after all of it has begun.
const LATER: OffsetDateTime = time::macros::datetime!(2030-01-02 0:00 UTC);

fn by() -> String {
    "uid 0".to_owned()
}

fn first() -> State {
    State::first(pool().authority(0, NOW), NOW)
}

fn prepare(number: usize) -> Event {
    Event::Prepare { authority: Box::new(pool().authority(number, NOW)), terms: terms(false) }
}

fn activate(state: &State) -> Event {
    Event::Activate(Distributed::forced(state, "uid 0"))
}

fn retire(state: &State, number: usize) -> Event {
    Event::Retire(Unneeded::forced(state, &pool().id(number), "uid 0"))
}

fn remove(state: &State) -> Event {
    Event::Remove(Distributed::forced(state, "uid 0"))
}

fn taint(number: usize) -> Event {
    Event::Taint { id: pool().id(number), by: by(), spare: Box::new(pool().authority(7, NOW)) }
}

fn after(state: &State, event: Event) -> State {
    step(state, event, LATER).unwrap().0
}

/// All authorities of a state by number, and where they are; `!` after one that is tainted.
fn shape(state: &State) -> String {
    let one = |one: &Authority| {
        let tainted = if one.tainted.is_some() { "!" } else { "" };
        format!("{}{tainted} {}", pool().number(&one.id), one.stage.name())
    };
    state.authorities().iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Every stage that a rotation can be in, by name.
fn stages() -> Vec<(&'static str, State)> {
    let quiet = first();
    let distribute = after(&quiet, prepare(1));
    let reissue = after(&distribute, activate(&distribute));
    let withdraw = after(&reissue, retire(&reissue, 0));
    let rolled_back = after(&reissue, Event::RollBack { by: by() });
    let emergency = after(&quiet, taint(0));
    let emergency_reissue = after(&emergency, activate(&emergency));
    let both_bad = after(&after(&reissue, taint(0)), taint(1));
    vec![
        ("quiet", quiet),
        ("distribute", distribute),
        ("reissue", reissue),
        ("withdraw", withdraw),
        ("rolled back", rolled_back),
        ("emergency", emergency),
        ("emergency, reissue", emergency_reissue),
        ("both keys are bad", both_bad),
    ]
}

/// What happens at each stage when `event` does: the shape of what comes out, or a part of the refusal.
fn expect(event: impl Fn(&State) -> Event, expected: [&str; 8]) {
    for ((name, state), expected) in stages().iter().zip(expected) {
        let found = match step(state, event(state), LATER) {
            Ok((next, _)) => shape(&next),
            Err(refusal) => refusal.to_string(),
        };
        let is_shape = expected.starts_with(|first: char| first.is_ascii_digit());
        let fits = if is_shape { found == expected } else { found.contains(expected) };
        assert!(fits, "{name} ({}): {found}, and not {expected}", shape(state));
        if let Err(refusal) = step(state, event(state), LATER) {
            let text = refusal.to_string();
            let names_a_step = text.contains("`burgrave ")
                || text.contains("abort, and prepare")
                || text.contains("ask again");
            let is_final = refusal == Refusal::NothingRetired;
            assert!(names_a_step || is_final, "{text}");
            assert!(
                text.starts_with(|first: char| first.is_ascii_lowercase()) && !text.ends_with('.'),
                "{text}"
            );
        }
    }
}

#[test]
fn stages_are_what_they_are_called() {
    let shapes: Vec<_> = stages().iter().map(|(_, state)| shape(state)).collect();
    assert_eq!(
        shapes,
        [
            "0 active",
            "0 active, 1 prepared",
            "0 retiring, 1 active",
            "0 retired, 1 active",
            "0 active, 1 retiring",
            "0! active, 7 prepared",
            "0! retiring, 7 active",
            "0! retiring, 1! active, 7 prepared",
        ]
    );
    let phases: Vec<_> = stages().iter().map(|(_, state)| phase(state).unwrap_or("-")).collect();
    let expected =
        ["-", "distribute", "reissue", "withdraw", "reissue", "distribute", "reissue", "distribute"];
    assert_eq!(phases, expected);
}

#[test]
fn prepare_is_for_when_nothing_is_under_way() {
    expect(
        |_| prepare(2),
        [
            "0 active, 2 prepared",
            "or end it first by `burgrave root abort`",
            "or end it first by `burgrave root rollback`",
            "in phase `withdraw`; watch it by `burgrave root rotate --watch`",
            "or end it first by `burgrave root rollback`",
            "ordered by uid 0, and in phase `distribute`",
            // There is no way back to a tainted one.
            "in phase `reissue`; watch it by `burgrave root rotate --watch`",
            "or end it first by `burgrave root abort`",
        ],
    );
}

#[test]
fn activate_takes_what_is_prepared() {
    let nothing = "no authority is prepared; prepare one by `burgrave root prepare`";
    expect(
        activate,
        [
            nothing,
            "0 retiring, 1 active",
            nothing,
            nothing,
            nothing,
            "0! retiring, 7 active",
            nothing,
            "0! retiring, 1! retiring, 7 active",
        ],
    );
}

#[test]
fn retire_takes_what_is_retiring() {
    let not = "is not retiring; `burgrave root status` shows which is where";
    expect(
        |state| retire(state, 0),
        [
            not,
            not,
            "0 retired, 1 active",
            not,
            not,
            not,
            "0! retired, 7 active",
            "0! retired, 1! active, 7 prepared",
        ],
    );
    expect(|state| retire(state, 1), [not, not, not, not, "0 active, 1 retired", not, not, not]);
}

#[test]
fn remove_takes_what_is_retired() {
    let nothing = "no retired authority is left to remove";
    expect(remove, [nothing, nothing, nothing, "1 active", nothing, nothing, nothing, nothing]);
}

#[test]
fn abort_is_for_before_the_new_one_has_signed() {
    let late = "signs already, so there is nothing to abort; the one before it signs again after `burgrave root rollback`";
    expect(
        |_| Event::Abort { by: by() },
        [
            "no rotation is under way; begin one by `burgrave root rotate`",
            "0 active",
            late,
            late,
            late,
            "0! active",
            late,
            "0! retiring, 1! active",
        ],
    );
}

#[test]
fn roll_back_is_for_after_it_and_never_to_a_tainted_one() {
    expect(
        |_| Event::RollBack { by: by() },
        [
            "no rotation is under way; begin one by `burgrave root rotate`",
            "has not signed yet; use `burgrave root abort`",
            "0 active, 1 retiring",
            "its root has left the bundle; prepare another by `burgrave root prepare`",
            "0 retiring, 1 active",
            "use `burgrave root abort`",
            "is tainted; it may not sign again",
            "use `burgrave root abort`",
        ],
    );
}

#[test]
fn automate_is_for_a_rotation_that_is_under_way() {
    let none = "no rotation is under way; begin one by `burgrave root rotate`";
    expect(
        |_| Event::Automate { by: by() },
        [
            none,
            "0 active, 1 prepared",
            "0 retiring, 1 active",
            "0 retired, 1 active",
            "0 active, 1 retiring",
            "0! active, 7 prepared",
            "0! retiring, 7 active",
            "0! retiring, 1! active, 7 prepared",
        ],
    );
    let (_, state) = stages().swap_remove(1);
    assert!(!state.rotation().unwrap().automatic);
    assert!(after(&state, Event::Automate { by: by() }).rotation().unwrap().automatic);
}

#[test]
fn a_taint_sees_to_it_that_another_one_signs() {
    let unknown = "there is no authority";
    let spare =
        |_: &State| Event::Taint { id: pool().id(0), by: by(), spare: Box::new(pool().authority(6, NOW)) };
    expect(
        spare,
        [
            "0! active, 6 prepared",
            // What is prepared takes over, as soon as it may.
            "0! active, 1 prepared",
            "0! retiring, 1 active",
            "0! retired, 1 active",
            // The other one is trusted by everybody, and signs at once.
            "0! retiring, 1 active",
            "0! active, 7 prepared",
            "0! retiring, 7 active",
            "0! retiring, 1! active, 7 prepared",
        ],
    );
    let spare =
        |_: &State| Event::Taint { id: pool().id(1), by: by(), spare: Box::new(pool().authority(6, NOW)) };
    expect(
        spare,
        [
            unknown,
            // It has signed nothing: it goes, and nothing else happens.
            "0 active",
            "0 active, 1! retiring",
            "0 retired, 1! active, 6 prepared",
            "0 active, 1! retiring",
            unknown,
            unknown,
            "0! retiring, 1! active, 7 prepared",
        ],
    );
}

#[test]
fn a_taint_makes_an_emergency_of_any_rotation() {
    for (name, state) in stages() {
        let next = after(
            &state,
            Event::Taint {
                id: pool().id(0),
                by: "them".to_owned(),
                spare: Box::new(pool().authority(6, NOW)),
            },
        );
        let rotation = next.rotation().unwrap();
        let found = (rotation.kind, rotation.automatic, rotation.window, rotation.by.as_str());
        assert_eq!(found, (Kind::Emergency, true, Duration::ZERO, "them"), "{name}");
    }
}

#[test]
fn the_number_of_the_roots_grows_by_one_exactly_when_they_change() {
    type Make = fn(&State) -> Event;
    let all: [(&str, Make); 9] = [
        ("prepare", |_| prepare(2)),
        ("activate", activate),
        ("retire", |state| retire(state, 0)),
        ("remove", remove),
        ("abort", |_| Event::Abort { by: by() }),
        ("roll back", |_| Event::RollBack { by: by() }),
        ("taint", |_| taint(1)),
        ("automate", |_| Event::Automate { by: by() }),
        ("extra", |_| Event::Extra(vec![pool().root(5).clone()])),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (stage, state) in stages() {
        for (name, make) in all {
            let Ok((next, effects)) = step(&state, make(&state), LATER) else { continue };
            let grown = next.sequence() - state.sequence();
            let published = effects.contains(&Effect::Publish { sequence: next.sequence() });
            assert_eq!(grown == 1, next.bundle() != state.bundle(), "{stage}, {name}");
            assert!(grown <= 1 && published == (grown == 1), "{stage}, {name}: {effects:?}");
            assert_eq!(next.steps(), state.steps() + 1, "{stage}, {name}");
            assert_eq!(next.check(), Ok(()));
            if grown == 1 {
                seen.insert(name);
            }
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["abort", "extra", "prepare", "retire", "taint"]);
}

#[test]
fn effects_say_what_is_to_be_done() {
    let quiet = first();
    let (distribute, effects) = step(&quiet, prepare(1), LATER).unwrap();
    assert_eq!(effects, [Effect::Publish { sequence: 2 }]);
    let (reissue, effects) = step(&distribute, activate(&distribute), LATER).unwrap();
    assert_eq!(effects, [Effect::SwitchSigner(pool().id(1))]);
    let (withdraw, effects) = step(&reissue, retire(&reissue, 0), LATER).unwrap();
    assert_eq!(effects, [Effect::Publish { sequence: 3 }]);
    let (done, effects) = step(&withdraw, remove(&withdraw), LATER).unwrap();
    assert_eq!(effects, [Effect::DestroyKey(pool().id(0)), Effect::Ended(Outcome::Done)]);
    let past = done.past().last().unwrap();
    assert_eq!((past.outcome, past.removed.as_slice()), (Outcome::Done, [pool().id(0)].as_slice()));
    let (_, effects) = step(&distribute, Event::Abort { by: by() }, LATER).unwrap();
    let gone = Effect::DestroyKey(pool().id(1));
    assert_eq!(effects, [Effect::Publish { sequence: 3 }, gone, Effect::Ended(Outcome::Aborted)]);
}

#[test]
fn a_rotation_that_was_turned_back_ends_as_one() {
    let reissue = stages().swap_remove(2).1;
    let back = after(&reissue, Event::RollBack { by: by() });
    let withdraw = after(&back, retire(&back, 1));
    let done = after(&withdraw, remove(&withdraw));
    assert_eq!(
        (shape(&done).as_str(), done.past().last().unwrap().outcome),
        ("0 active", Outcome::RolledBack)
    );
    // Turned back twice, it is one like any other.
    let forth = after(&back, Event::RollBack { by: by() });
    let withdraw = after(&forth, retire(&forth, 0));
    let done = after(&withdraw, remove(&withdraw));
    assert_eq!((shape(&done).as_str(), done.past().last().unwrap().outcome), ("1 active", Outcome::Done));
}

#[test]
fn evidence_about_another_step_is_refused_even_if_the_roots_are_the_same() {
    let reissue = stages().swap_remove(2).1;
    let old = retire(&reissue, 0);
    let back = after(&reissue, Event::RollBack { by: by() });
    let forth = after(&back, Event::RollBack { by: by() });
    assert_eq!((forth.sequence(), shape(&forth)), (reissue.sequence(), shape(&reissue)));
    let refusal = step(&forth, old, LATER).unwrap_err();
    assert_eq!(refusal, Refusal::StaleEvidence { shown: reissue.steps(), present: forth.steps() });
    let distribute = stages().swap_remove(1).1;
    let old = activate(&distribute);
    let automated = after(&distribute, Event::Automate { by: by() });
    assert!(step(&automated, old, LATER).unwrap_err().to_string().contains("ask again"));
}

#[test]
fn what_is_done_without_evidence_is_on_record() {
    let mut state = first();
    state = after(&state, prepare(1));
    state = after(&state, activate(&state));
    state = after(&state, retire(&state, 0));
    state = after(&state, remove(&state));
    let forced = &state.past().last().unwrap().rotation.forced;
    let retired = format!("retire {}, by uid 0", pool().id(0));
    assert_eq!(*forced, ["activate, by uid 0".to_owned(), retired, "remove, by uid 0".to_owned()]);
}

#[test]
fn what_is_done_on_evidence_is_not() {
    let state = after(&first(), prepare(1));
    let evidence = gate::Evidence {
        readers: vec![],
        replicas: vec![],
        gap: None,
        publication: gate::Publication::NotNeeded,
        refresh: time::Duration::ZERO,
    };
    let proof = gate::distributed(&state, &evidence, NOW).unwrap();
    let state = after(&state, Event::Activate(proof));
    assert_eq!(state.rotation().unwrap().forced, Vec::<String>::new());
}

#[test]
fn an_authority_out_of_its_time_neither_comes_in_nor_signs() {
    let over = pool().root(1).facts().not_after + Duration::from_secs(1);
    let refusal = step(&first(), prepare(1), over).unwrap_err().to_string();
    assert!(refusal.contains("which is not now; abort, and prepare another"), "{refusal}");
    let distribute = stages().swap_remove(1).1;
    assert!(matches!(step(&distribute, activate(&distribute), over), Err(Refusal::NotValid { .. })));
    let reissue = stages().swap_remove(2).1;
    assert!(matches!(step(&reissue, Event::RollBack { by: by() }, over), Err(Refusal::NotValid { .. })));
}

#[test]
fn an_authority_that_is_there_does_not_come_in_again() {
    let refusal = step(&first(), prepare(0), LATER).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!("authority `{}` is there already; a rotation needs a new key", pool().id(0))
    );
}

#[test]
fn intermediates_of_one_root_rotate_without_a_change_of_the_bundle() {
    let (one, other) = (ROOTS, ROOTS + 1);
    let mut state = State::first(pool().authority(one, NOW), NOW);
    state = after(&state, prepare(other));
    state = after(&state, activate(&state));
    state = after(&state, retire(&state, one));
    state = after(&state, remove(&state));
    assert_eq!((shape(&state).as_str(), state.sequence(), state.steps()), ("9 active", 1, 4));
}

#[test]
fn a_cross_certificate_is_shown_as_long_as_its_own_root_is_trusted() {
    let crossed = pool().crossed(1, 0, NOW);
    let cross = crossed.cross.clone().unwrap();
    assert!(cross.is_signed_by(pool().root(0)));
    let event = Event::Prepare { authority: Box::new(crossed), terms: terms(false) };
    let distribute = after(&first(), event);
    let reissue = after(&distribute, activate(&distribute));
    assert_eq!(reissue.active().path(&reissue.bundle()), [cross]);
    let withdraw = after(&reissue, retire(&reissue, 0));
    assert_eq!(withdraw.active().path(&withdraw.bundle()), [pool().root(1).clone()]);
}

#[test]
fn the_listener_moves_last_and_never_shows_a_tainted_one() {
    let serving = |state: &State| pool().number(&state.serving().id);
    let found: Vec<_> = stages().iter().map(|(_, state)| serving(state)).collect();
    assert_eq!(found, [0, 0, 0, 1, 1, 0, 7, 1]);
}

#[test]
fn an_abort_in_an_emergency_lets_the_others_go_on() {
    let both_bad = stages().swap_remove(7).1;
    let (next, effects) = step(&both_bad, Event::Abort { by: by() }, LATER).unwrap();
    assert_eq!(shape(&next), "0! retiring, 1! active");
    assert!(next.rotation().is_some() && !effects.iter().any(|one| matches!(one, Effect::Ended(_))));
}

#[test]
fn no_state_without_exactly_one_that_signs_is_sound() {
    let one = |number: usize, stage| Authority { stage, ..pool().authority(number, NOW) };
    let of = |authorities| State::of((1, 0), authorities, vec![], None, vec![]).unwrap_err().to_string();
    assert!(of(vec![]).contains("0 authorities are active"));
    assert!(of(vec![one(0, Stage::Active), one(1, Stage::Active)]).contains("2 authorities are active"));
    let two = vec![one(0, Stage::Active), one(1, Stage::Prepared), one(2, Stage::Prepared)];
    assert!(of(two).contains("2 authorities are prepared"));
    assert!(of(vec![one(0, Stage::Active), one(0, Stage::Retired)]).contains("there twice"));
    assert!(of(vec![one(0, Stage::Active), one(1, Stage::Retired)]).contains("no rotation is"));
}
