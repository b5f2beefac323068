use time::macros::datetime;

use super::*;
use crate::authority::gate::Distributed;
use crate::authority::machine::Event;
use crate::authority::machine::Terms;
use crate::authority::machine::step;
use crate::authority::record::NewAuthority;
use crate::authority::record::Parts;
use crate::authority::record::part;
use crate::authority::state::Kind;
use crate::x509::TrustBundle;

const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);

fn domain() -> TrustDomain {
    "td".parse().unwrap()
}

fn record() -> Record {
    Record::new_root(&domain(), HOUR, NOW).unwrap()
}

fn held(record: &Record) -> Held {
    Held::of(record, &domain(), NOW).unwrap()
}

/// The record after somebody has changed one of its parts by hand.
fn edited(record: &Record, changes: &[(&str, String)]) -> Record {
    let mut parts: Parts = record.to_parts();
    for (name, value) in changes {
        parts.insert((*name).to_owned(), value.clone().into_bytes().into());
    }
    Record::from_parts(&parts).unwrap()
}

fn pem(roots: &[&Record]) -> String {
    let roots = roots.iter().map(|one| one.certificate().clone()).collect();
    TrustBundle::new(roots).unwrap().to_pem()
}

/// The record after a new authority was prepared, and after it was activated.
fn rotated(record: &Record) -> (Record, Record) {
    let NewAuthority { authority, key } = NewAuthority::make(&domain(), HOUR, NOW).unwrap();
    let id = authority.id.clone();
    let terms =
        Terms { kind: Kind::Ordered, by: "test".to_owned(), automatic: false, window: Duration::ZERO };
    let event = Event::Prepare { authority: Box::new(authority), terms };
    let (state, _) = step(&record.state, event, NOW).unwrap();
    let prepared = record.stepped(state, Some((id, Arc::new(key))));
    let proof = Distributed::forced(&prepared.state, "test");
    let (state, _) = step(&prepared.state, Event::Activate(proof), NOW).unwrap();
    let activated = prepared.stepped(state, None);
    (prepared, activated)
}

#[test]
fn what_a_late_watch_shows_does_not_undo_what_a_look_has_found() {
    let newest = Newest::default();
    let taken = |revision: &str| newest.take(&Revision(revision.to_owned()));
    assert_eq!(["7", "9", "8", "9", "10", "no number"].map(taken), [true, true, false, true, true, true]);
}

#[test]
fn trusted_roots_may_come_and_go_but_the_signing_root_stays() {
    let (record, other) = (record(), record());
    let in_use = held(&record);
    let unchanged = next(&in_use, &record, &domain(), NOW);
    assert!(unchanged.next.is_none() && unchanged.wrong.is_none());
    let wider = edited(&record, &[(part::ROOTS, pem(&[&record, &other]))]);
    let wider = next(&in_use, &wider, &domain(), NOW).next.unwrap();
    assert_eq!((wider.issuer.bundle().roots().len(), wider.state.sequence()), (2, 2));
    let mut parts = record.to_parts();
    parts.insert(part::ROOTS.to_owned(), pem(&[&other]).into_bytes().into());
    let damage = Record::from_parts(&parts).unwrap_err();
    assert!(damage.to_string().contains("do not contain the signing root"), "{damage}");
}

#[test]
fn a_signing_root_put_there_by_hand_is_not_followed_though_the_roots_beside_it_are() {
    let (record, other) = (record(), record());
    let in_use = held(&record);
    let key = other.key(&other.state.active().id).unwrap().secret_pem().to_string();
    let swap = |roots: String| {
        edited(
            &record,
            &[(part::CERTIFICATE, pem(&[&other])), (part::KEY, key.clone()), (part::ROOTS, roots)],
        )
    };
    let foreign = next(&in_use, &swap(pem(&[&other])), &domain(), NOW);
    assert!(foreign.next.is_none() && foreign.wrong.unwrap().contains("another signing root"));
    let moved = next(&in_use, &swap(pem(&[&record, &other])), &domain(), NOW);
    assert!(moved.wrong.unwrap().contains("another signing root"));
    let moved = moved.next.unwrap();
    assert_eq!((moved.issuer.certificate(), moved.issuer.bundle().roots().len()), (record.certificate(), 2));
}

#[test]
fn the_steps_of_a_rotation_are_followed_even_by_a_process_that_has_slept_through_some() {
    let first = record();
    let (prepared, activated) = rotated(&first);
    let in_use = next(&held(&first), &prepared, &domain(), NOW).next.unwrap();
    assert_eq!(in_use.issuer.certificate(), first.certificate());
    for before in [in_use, held(&first)] {
        let after = next(&before, &activated, &domain(), NOW);
        assert!(after.wrong.is_none());
        let after = after.next.unwrap();
        assert_eq!(after.issuer.certificate(), activated.certificate());
        assert_eq!(after.serving.certificate(), first.certificate(), "the listener moves last");
    }
}

#[test]
fn a_record_and_all_its_keys_read_back_from_their_parts() {
    for record in [record(), rotated(&record()).0, rotated(&record()).1] {
        let again = Record::from_parts(&record.to_parts()).unwrap();
        assert_eq!(again.state, record.state);
        assert!(!again.is_edited());
        for one in record.state.authorities() {
            let (kept, read) = (record.key(&one.id).unwrap(), again.key(&one.id).unwrap());
            assert_eq!(kept.spki(), read.spki());
        }
        let without_state: Parts =
            record.to_parts().into_iter().filter(|(name, _)| name != part::STATE).collect();
        let old = Record::from_parts(&without_state).unwrap();
        assert_eq!(old.state.active().id, record.state.active().id);
        let (old, all) = (old.state.bundle(), record.state.bundle());
        assert_eq!(old.roots().len(), all.roots().len(), "a record without a state loses no root");
        assert!(all.roots().iter().all(|root| old.contains(root)));
    }
}

#[test]
fn a_key_that_no_longer_fits_is_noticed_though_the_certificate_is_the_same() {
    let record = record();
    let key = crate::x509::PrivateKey::generate().unwrap().secret_pem().to_string();
    let told = next(&held(&record), &edited(&record, &[(part::KEY, key)]), &domain(), NOW);
    assert!(told.next.is_none() && told.wrong.unwrap().contains("does not belong"));
}
