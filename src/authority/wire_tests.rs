use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::authority::record::Record;
use crate::authority::record::part;
use crate::authority::test_support::NOW;
use crate::authority::test_support::ROOTS;
use crate::authority::test_support::pool;

/// A moment as it can be kept: to the millisecond.
fn any_moment() -> impl Strategy<Value = OffsetDateTime> {
    (0_i64..4_000_000_000_000).prop_map(|at| moment(at).unwrap())
}

fn any_stage() -> impl Strategy<Value = Stage> {
    prop_oneof![Just(Stage::Retiring), Just(Stage::Retired)]
}

fn any_rotation() -> impl Strategy<Value = Rotation> {
    let kind = prop_oneof![Just(Kind::Ordered), Just(Kind::Scheduled), Just(Kind::Emergency)];
    let moments = (any_moment(), option::of(any_moment()), option::of(any_moment()));
    let words = (".*", vec(".*", 0..3), 0_u64..10_000_000_000);
    (kind, words, any::<(bool, bool)>(), moments).prop_map(
        |(kind, (by, forced, window), (automatic, rolled_back), (began_at, activated_at, retired_at))| {
            Rotation {
                kind,
                by,
                automatic,
                window: Duration::from_millis(window),
                began_at,
                activated_at,
                retired_at,
                rolled_back,
                forced,
            }
        },
    )
}

fn any_past() -> impl Strategy<Value = Past> {
    let outcome = prop_oneof![Just(Outcome::Done), Just(Outcome::Aborted), Just(Outcome::RolledBack)];
    let removed = vec((0..ROOTS).prop_map(|number| pool().id(number)), 0..3);
    (any_rotation(), outcome, any_moment(), removed).prop_map(|(rotation, outcome, ended_at, removed)| Past {
        rotation,
        outcome,
        ended_at,
        removed,
    })
}

/// The authority of that number, at that stage.
fn any_authority(number: usize, stage: impl Strategy<Value = Stage>) -> impl Strategy<Value = Authority> {
    let moments =
        (option::of(any_moment()), any_moment(), option::of(any_moment()), option::of(any_moment()));
    (stage, any::<bool>(), moments).prop_map(
        move |(stage, is_crossed, (tainted, prepared_at, activated_at, retiring_since))| {
            let plain = pool().authority(number, NOW);
            let crossed = || pool().crossed(number, (number + 1) % ROOTS, NOW);
            let made = if is_crossed && number < ROOTS { crossed() } else { plain };
            Authority { stage, tainted, prepared_at, activated_at, retiring_since, ..made }
        },
    )
}

/// Any sound state: some on their way out, one that signs, maybe one that is prepared, and roots beside them.
fn any_state() -> impl Strategy<Value = State> {
    let out = (option::of(any_authority(0, any_stage())), option::of(any_authority(ROOTS, any_stage())));
    let active = any_authority(1, Just(Stage::Active));
    let prepared = option::of(any_authority(ROOTS + 1, Just(Stage::Prepared)));
    let rest = (any_rotation(), vec(any_past(), 0..4), 0..3_usize);
    ((out, active, prepared), rest, any::<(u64, u64)>()).prop_map(
        |(((one, other), active, prepared), (rotation, past, extra), numbers)| {
            let authorities = [one, other, Some(active), prepared].into_iter().flatten().collect();
            let extra = (ROOTS - extra..ROOTS).map(|number| pool().root(number).clone()).collect();
            State::of(numbers, authorities, extra, Some(rotation), past).unwrap()
        },
    )
}

/// A state with the keys of all its authorities.
fn record(state: &State) -> Record {
    static ANY: LazyLock<Record> =
        LazyLock::new(|| Record::new_root(&"td".parse().unwrap(), Duration::from_secs(3600), NOW).unwrap());
    let mut record = ANY.stepped(state.clone(), None);
    for one in state.authorities() {
        let key = pool().key(pool().number(&one.id));
        record = record.stepped(state.clone(), Some((one.id.clone(), key)));
    }
    record
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_state_reads_back_from_its_json(state in any_state()) {
        let json = to_json(&state);
        prop_assert_eq!(from_json(json.as_bytes()).unwrap(), state);
    }

    #[test]
    fn every_record_reads_back_from_its_parts_with_all_its_keys(state in any_state()) {
        let record = record(&state);
        let again = Record::from_parts(&record.to_parts()).unwrap();
        prop_assert!(!again.is_edited());
        prop_assert_eq!(&again.state, &record.state);
        for one in record.state.authorities() {
            let (kept, read) = (record.key(&one.id).unwrap(), again.key(&one.id).unwrap());
            prop_assert_eq!(kept.spki(), read.spki());
        }
    }

    #[test]
    fn a_record_without_one_of_its_parts_is_refused_by_name_or_loses_no_root(state in any_state()) {
        let parts = record(&state).to_parts();
        for name in parts.keys() {
            let less = parts.iter().filter(|(other, _)| *other != name);
            let less = less.map(|(name, value)| (name.clone(), value.clone())).collect();
            match Record::from_parts(&less) {
                Err(damage) => prop_assert!(damage.to_string().contains(name.as_str()), "{}: {}", name, damage),
                Ok(found) => {
                    prop_assert!(name == part::STATE || name == part::CHAIN, "{}", name);
                    let found = found.state.bundle();
                    prop_assert!(state.bundle().roots().iter().all(|root| found.contains(root)));
                }
            }
        }
    }

    #[test]
    fn json_that_is_cut_off_or_changed_is_refused_or_another_sound_state(
        state in any_state(),
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let mut json = to_json(&state).into_bytes();
        let at = at.index(json.len());
        prop_assert!(from_json(&json[..at]).is_err());
        json[at] = octet;
        if let Ok(found) = from_json(&json) {
            prop_assert_eq!(found.check(), Ok(()));
        }
    }
}

#[test]
fn a_later_form_and_a_wrong_name_are_refused_with_the_reason() {
    let json = to_json(&State::first(pool().authority(0, NOW), NOW));
    let refusal = |json: String| from_json(json.as_bytes()).unwrap_err().to_string();
    let later = refusal(json.replace("\"form\": 1", "\"form\": 2"));
    assert_eq!(
        later,
        "it is of form 2, and this program knows form 1; run the program that wrote it, or a later one"
    );
    let other = refusal(json.replace(pool().id(0).as_str(), "0123456789abcdef"));
    assert!(other.contains("authority `0123456789abcdef` has the certificate of"), "{other}");
    let none = refusal(json.replace("\"active\"", "\"retired\""));
    assert!(none.contains("0 authorities are active"), "{none}");
}
