use super::*;
use crate::authority::machine::Event;
use crate::authority::machine::step;
use crate::authority::state::Authority;
use crate::authority::test_support::NOW;
use crate::authority::test_support::ROOTS;
use crate::authority::test_support::pool;
use crate::authority::test_support::terms;

const MINUTE: time::Duration = time::Duration::minutes(1);

fn prepared(authority: Authority, over: usize) -> State {
    let first = State::first(pool().authority(over, NOW), NOW);
    step(&first, Event::Prepare { authority: Box::new(authority), terms: terms(true) }, NOW).unwrap().0
}

/// The first root signs, and the second is prepared.
fn distributing() -> State {
    prepared(pool().authority(1, NOW), 0)
}

/// The second signs, and the first is retiring.
fn moving() -> State {
    activated(&distributing())
}

fn activated(state: &State) -> State {
    step(state, Event::Activate(Distributed::forced(state, "test")), NOW).unwrap().0
}

/// The same in an emergency: the first one's key is bad.
fn in_emergency(state: &State) -> State {
    let spare = Box::new(pool().authority(7, NOW));
    let event = Event::Taint { id: pool().id(0), by: "test".to_owned(), spare };
    step(state, event, NOW).unwrap().0
}

fn evidence(readers: Vec<Reader>) -> Evidence {
    Evidence { readers, replicas: vec![], gap: None, publication: Publication::NotNeeded, refresh: MINUTE }
}

fn reader(kind: ReaderKind, link: Link, bundle: Option<&State>) -> Reader {
    Reader {
        name: "spiffe://td/ns/a/sa/b".to_owned(),
        pod: Some("a/b-0".to_owned()),
        node: Some("n".to_owned()),
        kind,
        link,
        bundle: bundle.map(|state| state.bundle().digest()),
        trouble: None,
        leaves: vec![(pool().id(0), NOW + 10 * MINUTE)],
    }
}

fn open(bundle: Option<&State>) -> Reader {
    reader(ReaderKind::Agent, Link::Open { sent: Some(NOW) }, bundle)
}

fn away(kind: ReaderKind, bundle: Option<&State>) -> Reader {
    reader(kind, Link::None { lost: None }, bundle)
}

fn replica(state: &State) -> Replica {
    Replica {
        name: "burgrave-0".to_owned(),
        sequence: state.sequence(),
        steps: state.steps(),
        signs_with: state.active().id.clone(),
    }
}

/// The only one whom it waits for.
fn only(gate: &Gate) -> &Waiting {
    assert_eq!(gate.waiting.len(), 1, "{gate:?}");
    &gate.waiting[0]
}

#[test]
fn whoever_has_acknowledged_the_roots_is_not_waited_for() {
    let state = distributing();
    let known = |one: Reader| Reader { bundle: Some(state.bundle().digest()), ..one };
    let readers = vec![known(open(None)), known(away(ReaderKind::Client, None)), away(ReaderKind::Pod, None)];
    let evidence = Evidence { replicas: vec![replica(&state)], ..evidence(readers) };
    let proof = distributed(&state, &evidence, NOW).unwrap();
    assert_eq!((proof.steps(), proof.forced_by()), (state.steps(), None));
    let gate = distribution(&state, &evidence, NOW);
    assert_eq!((gate.total, gate.done(), gate.is_open()), (4, 4, true));
}

#[test]
fn each_who_lacks_the_roots_is_named_with_the_reason_and_until_when() {
    let state = distributing();
    let old = State::first(pool().authority(0, NOW), NOW);
    let until = Some(NOW + 10 * MINUTE);
    let refused = Reader { trouble: Some("proxy p: no".to_owned()), ..open(Some(&old)) };
    let unsent = reader(ReaderKind::Agent, Link::Open { sent: None }, None);
    let lost = reader(ReaderKind::Agent, Link::None { lost: Some(NOW - MINUTE) }, Some(&old));
    for (reader, kind, why, until) in [
        (
            open(Some(&old)),
            "agent",
            "was sent the roots at 2030-01-01T00:00:00Z and has not acknowledged",
            None,
        ),
        (unsent, "agent", "is connected, and was not sent the roots yet", None),
        (refused, "agent", "refused the roots: proxy p: no", None),
        (lost, "agent", "is disconnected since 2029-12-31T23:59:00Z", until),
        (
            away(ReaderKind::Client, Some(&old)),
            "client",
            "hears of new roots only with its next certificate",
            until,
        ),
        (
            away(ReaderKind::Client, None),
            "client",
            "hears of new roots only with its next certificate",
            until,
        ),
        (away(ReaderKind::Unheard, None), "unheard", "a replica which is gone may have signed", until),
    ] {
        let gate = distributed(&state, &evidence(vec![reader]), NOW).unwrap_err();
        let waiting = only(&gate);
        assert_eq!((waiting.kind, waiting.until), (kind, until), "{waiting:?}");
        assert!(waiting.why.contains(why), "{waiting:?}");
        assert_eq!(waiting.who, "spiffe://td/ns/a/sa/b");
        assert_eq!((waiting.pod.as_deref(), waiting.node.as_deref()), (Some("a/b-0"), Some("n")));
    }
}

#[test]
fn whoever_has_no_stream_counts_until_its_last_leaf_expires_and_not_a_moment_longer() {
    let state = distributing();
    for kind in [ReaderKind::Agent, ReaderKind::Client, ReaderKind::Unheard] {
        let evidence = evidence(vec![away(kind, None)]);
        assert!(distributed(&state, &evidence, NOW + 10 * MINUTE - time::Duration::SECOND).is_err());
        assert!(distributed(&state, &evidence, NOW + 10 * MINUTE).is_ok());
    }
    let connected = Reader { leaves: vec![], ..open(None) };
    assert!(distributed(&state, &evidence(vec![connected]), NOW).is_err(), "a stream counts without a leaf");
}

#[test]
fn replicas_that_serve_older_roots_are_waited_for() {
    let state = distributing();
    let late = Replica { sequence: 1, ..replica(&state) };
    let evidence = Evidence { replicas: vec![replica(&state), late], ..evidence(vec![]) };
    let gate = distribution(&state, &evidence, NOW);
    let waiting = only(&gate);
    assert_eq!((waiting.kind, waiting.who.as_str()), ("replica", "burgrave-0"));
    assert_eq!(waiting.why, "serves bundle 1 and not yet 2");
}

#[test]
fn published_roots_are_waited_for_and_files_follow_a_while_later() {
    let state = distributing();
    let pods = || vec![away(ReaderKind::Pod, None)];
    let of = |readers, publication| {
        let evidence = Evidence { publication, ..evidence(readers) };
        distribution(&state, &evidence, NOW)
    };
    let just = Publication::Done { since: NOW };
    let before = Publication::Done { since: NOW - MINUTE };
    for (readers, publication, expected) in [
        (vec![], Publication::Pending { places: Some(3) }, Some("they are missing in 3 namespaces")),
        (vec![], Publication::Pending { places: None }, Some("not known yet")),
        (pods(), just, Some("mounted files follow")),
        (vec![], just, None),
        (pods(), before, None),
        (pods(), Publication::NotNeeded, None),
    ] {
        let gate = of(readers, publication);
        match expected {
            Some(why) => {
                let waiting = only(&gate);
                assert!(waiting.kind == "published" && waiting.why.contains(why), "{waiting:?}");
                let until = (publication == just).then_some(NOW + MINUTE);
                assert_eq!(waiting.until, until);
            }
            None => assert!(gate.is_open(), "{publication:?}: {gate:?}"),
        }
    }
}

#[test]
fn in_an_emergency_only_those_who_can_be_asked_are_waited_for() {
    let state = in_emergency(&State::first(pool().authority(0, NOW), NOW));
    for kind in [ReaderKind::Agent, ReaderKind::Client, ReaderKind::Pod, ReaderKind::Unheard] {
        assert!(distributed(&state, &evidence(vec![away(kind, None)]), NOW).is_ok(), "{kind:?}");
    }
    assert!(distributed(&state, &evidence(vec![open(None)]), NOW).is_err());
    let state = activated(&state);
    let retiring = pool().id(0);
    for kind in [ReaderKind::Agent, ReaderKind::Client, ReaderKind::Pod, ReaderKind::Unheard] {
        assert!(unneeded(&state, &retiring, &evidence(vec![away(kind, None)]), NOW).is_ok(), "{kind:?}");
    }
    assert!(unneeded(&state, &retiring, &evidence(vec![open(Some(&state))]), NOW).is_err(), "it has a leaf");
}

#[test]
fn with_a_cross_certificate_who_cannot_be_asked_is_waited_for_later() {
    let state = prepared(pool().crossed(1, 0, NOW), 0);
    let client = || evidence(vec![away(ReaderKind::Client, None)]);
    assert!(distributed(&state, &client(), NOW).is_ok());
    assert!(distributed(&state, &evidence(vec![open(None)]), NOW).is_err(), "whoever can be asked is");
    let state = activated(&state);
    // It has a leaf of the new one, and still trusts the old one alone.
    let moved = Reader { leaves: vec![(pool().id(1), NOW + MINUTE)], ..away(ReaderKind::Client, None) };
    let gate = reissue_of(&state, vec![moved]);
    assert!(only(&gate).why.contains("hears of new roots only with its next certificate"));
}

fn reissue_of(state: &State, readers: Vec<Reader>) -> Gate {
    reissue(state, &pool().id(0), &evidence(readers), NOW)
}

#[test]
fn each_who_needs_the_retiring_root_is_named_with_the_reason_and_until_when() {
    let state = moving();
    let until = Some(NOW + 10 * MINUTE);
    let stuck = Reader { trouble: Some("proxy p: no".to_owned()), ..open(Some(&state)) };
    for (reader, why) in [
        (open(Some(&state)), "may still use a certificate of `"),
        (stuck, "has not moved away from `"),
        (away(ReaderKind::Client, Some(&state)), "and cannot be asked; it counts until"),
        (away(ReaderKind::Pod, None), "and cannot be asked; it counts until"),
        (away(ReaderKind::Unheard, None), "and cannot be asked; it counts until"),
    ] {
        let gate = unneeded(&state, &pool().id(0), &evidence(vec![reader]), NOW).unwrap_err();
        let waiting = only(&gate);
        assert!(waiting.why.contains(why) && waiting.until == until, "{waiting:?}");
        assert!(waiting.pod.is_some() && waiting.node.is_some());
    }
}

#[test]
fn a_root_is_not_needed_once_everybody_has_moved_or_run_out() {
    let state = moving();
    let moved = |one: Reader| Reader { leaves: vec![(pool().id(1), NOW + MINUTE)], ..one };
    let readers = vec![
        moved(open(Some(&state))),
        moved(away(ReaderKind::Client, Some(&state))),
        moved(away(ReaderKind::Pod, None)),
    ];
    let evidence = Evidence { replicas: vec![replica(&state)], ..evidence(readers) };
    let proof = unneeded(&state, &pool().id(0), &evidence, NOW).unwrap();
    assert_eq!((proof.authority(), proof.steps(), proof.forced_by()), (&pool().id(0), state.steps(), None));
    let over = Evidence { readers: vec![away(ReaderKind::Client, None)], ..evidence };
    assert!(reissue(&state, &pool().id(0), &over, NOW + 10 * MINUTE).is_open());
}

#[test]
fn replicas_that_sign_with_another_one_or_are_late_are_waited_for() {
    let state = moving();
    let other = Replica { signs_with: pool().id(0), ..replica(&state) };
    let late = Replica { steps: state.steps() - 1, ..replica(&state) };
    for (one, why) in [(other, "still signs with `"), (late, "has taken over step 1 and not yet 2")] {
        let evidence = Evidence { replicas: vec![one], ..evidence(vec![]) };
        let gate = reissue(&state, &pool().id(0), &evidence, NOW);
        assert!(only(&gate).why.contains(why), "{gate:?}");
    }
}

#[test]
fn published_roots_are_waited_for_before_one_leaves_them_too() {
    let state = moving();
    for (publication, is_open) in [
        (Publication::NotNeeded, true),
        (Publication::Pending { places: Some(1) }, false),
        (Publication::Done { since: NOW }, false),
        (Publication::Done { since: NOW - MINUTE }, true),
    ] {
        let evidence = Evidence { publication, ..evidence(vec![]) };
        assert_eq!(reissue(&state, &pool().id(0), &evidence, NOW).is_open(), is_open, "{publication:?}");
    }
}

#[test]
fn an_intermediate_goes_as_soon_as_no_replica_signs_with_it() {
    let (one, other) = (ROOTS, ROOTS + 1);
    let state = activated(&prepared(pool().authority(other, NOW), one));
    let holder = Reader { leaves: vec![(pool().id(one), NOW + MINUTE)], ..open(None) };
    assert!(unneeded(&state, &pool().id(one), &evidence(vec![holder.clone()]), NOW).is_ok());
    let signs = Replica { signs_with: pool().id(one), ..replica(&state) };
    let evidence = Evidence { replicas: vec![signs], ..evidence(vec![holder]) };
    assert!(unneeded(&state, &pool().id(one), &evidence, NOW).is_err());
}

#[test]
fn a_proof_without_evidence_names_who_takes_it_upon_themselves() {
    let state = moving();
    let proof = Distributed::forced(&state, "uid 0");
    assert_eq!((proof.forced_by(), proof.steps()), (Some("uid 0"), state.steps()));
    let proof = Unneeded::forced(&state, &pool().id(0), "uid 0");
    assert_eq!((proof.forced_by(), proof.authority()), (Some("uid 0"), &pool().id(0)));
}

#[test]
fn no_gate_opens_while_there_may_be_others_who_are_not_known() {
    let gap = Some("the census of others cannot be read".to_owned());
    let evidence = Evidence { gap, ..evidence(vec![]) };
    for gate in
        [distribution(&distributing(), &evidence, NOW), reissue(&moving(), &pool().id(0), &evidence, NOW)]
    {
        assert_eq!(
            (only(&gate).kind, only(&gate).why.as_str()),
            ("replica", "the census of others cannot be read")
        );
    }
}

#[test]
fn of_very_many_the_first_hundred_are_named_and_all_are_counted() {
    let state = distributing();
    let late = Reader { leaves: vec![(pool().id(0), NOW + 20 * MINUTE)], ..away(ReaderKind::Client, None) };
    let readers = std::iter::repeat_n(away(ReaderKind::Client, None), 150).chain([late]).collect();
    let gate = distribution(&state, &evidence(readers), NOW);
    assert_eq!((gate.waiting.len(), gate.waits_for(), gate.total, gate.done()), (100, 151, 151, 0));
    assert_eq!((gate.until(), gate.is_refused()), (Some(NOW + 20 * MINUTE), false));
    let refused = Reader { trouble: Some("no".to_owned()), ..open(None) };
    assert!(distribution(&state, &evidence(vec![refused]), NOW).is_refused());
}
