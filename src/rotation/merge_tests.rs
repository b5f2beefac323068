use time::macros::datetime;

use super::*;
use crate::authority::Record;
use crate::authority::distributed;
use crate::authority::unneeded;
use crate::census::Span;

const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
const PATIENCE: Patience =
    Patience { refresh: Duration::from_secs(60), longest_leaf: Duration::from_secs(3600) };

fn holder(id: &str) -> Holder {
    Holder { id: id.to_owned(), spiffe_id: format!("spiffe://td/{id}"), ..Holder::default() }
}

fn at(seconds: i64) -> i64 {
    NOW.unix_timestamp() + seconds
}

fn span(signed: i64) -> Span {
    Span { until: at(3600), signed: at(signed) * 1000 }
}

fn open(roots: &str, authority: Option<&str>) -> Open {
    Open {
        since: at(-100),
        sent: Some((roots.to_owned(), at(-5))),
        roots: Some(roots.to_owned()),
        authority: authority.map(|id| (id.to_owned(), at(-2) * 1000)),
        ..Open::default()
    }
}

fn bulletin(replica: &str, holders: Vec<Holder>) -> Bulletin {
    Bulletin {
        replica: replica.to_owned(),
        at: at(0),
        sequence: 2,
        signs_with: "new".to_owned(),
        holders: holders.into_iter().map(Arc::new).collect(),
        ..Bulletin::default()
    }
}

#[test]
fn what_one_replica_signed_is_freed_by_what_another_one_heard_later() {
    let signed = Holder {
        leaves: [("old".to_owned(), span(-50))].into(),
        bundle: Some(("one".to_owned(), at(-50) * 1000)),
        ..holder("a")
    };
    let heard = Holder {
        streams: true,
        leaves: [("new".to_owned(), span(-3))].into(),
        moved: Some(("new".to_owned(), at(-2) * 1000)),
        open: vec![open("two", Some("new"))],
        ..holder("a")
    };
    let known = Known {
        own: bulletin("one", vec![signed.clone()]),
        alive: vec![bulletin("two", vec![heard.clone()])],
        ..Known::default()
    };
    let found = evidence(&known, "two", &PATIENCE);
    assert_eq!(found.readers.len(), 1);
    assert_eq!(found.readers[0].bundle.as_deref(), Some("two"));
    assert_eq!(found.readers[0].leaves.len(), 1);
    assert_eq!(found.replicas.len(), 2);
    // A leaf that was signed after its word counts again.
    let late = Holder { leaves: [("old".to_owned(), span(-1))].into(), ..signed };
    let known = Known { own: bulletin("one", vec![late]), ..known };
    assert_eq!(evidence(&known, "two", &PATIENCE).readers[0].leaves.len(), 2);
}

#[test]
fn what_was_said_on_a_stream_to_one_replica_counts_more_than_what_another_has_answered_since() {
    let of = |streams, roots: &str, seconds: i64| Holder {
        streams,
        bundle: Some((roots.to_owned(), at(seconds) * 1000)),
        leaves: [("old".to_owned(), span(-50))].into(),
        ..holder("a")
    };
    let trusts = |own: &Holder, other: &Holder| {
        let (own, alive) = (bulletin("one", vec![own.clone()]), vec![bulletin("two", vec![other.clone()])]);
        evidence(&Known { own, alive, ..Known::default() }, "two", &PATIENCE).readers[0].bundle.clone()
    };
    let (said, answered) = (of(true, "one", -9), of(false, "two", -3));
    assert_eq!(trusts(&said, &answered).as_deref(), Some("one"));
    assert_eq!(trusts(&answered, &said).as_deref(), Some("one"));
    // Of two that were said the later one counts, and of two answers the last.
    assert_eq!(trusts(&said, &of(true, "two", -3)).as_deref(), Some("two"));
    assert_eq!(trusts(&of(false, "one", -9), &answered).as_deref(), Some("two"));
}

#[test]
fn the_streams_of_a_silent_replica_are_lost_and_its_clients_may_have_more_than_it_told() {
    let agent = Holder {
        streams: true,
        bundle: Some(("one".to_owned(), at(-9) * 1000)),
        open: vec![open("two", None)],
        ..holder("a")
    };
    let client = Holder { leaves: [("old".to_owned(), span(-50))].into(), ..holder("c") };
    let of = |holders| Known { silent: vec![bulletin("gone", holders)], ..Known::default() };
    let readers = evidence(&of(vec![agent.clone()]), "two", &PATIENCE).readers;
    assert_eq!(readers.len(), 1);
    assert_eq!(readers[0].link, Link::None { lost: Some(NOW) });
    assert_eq!(readers[0].bundle.as_deref(), Some("one"));
    let readers = evidence(&of(vec![agent.clone(), client.clone()]), "two", &PATIENCE).readers;
    let unheard = readers.iter().find(|one| one.kind == ReaderKind::Unheard).unwrap();
    assert_eq!(unheard.until(NOW), Some(NOW + PATIENCE.longest_leaf));
    // The same one holds a stream at another replica, and tells of itself there.
    let elsewhere = Holder { streams: true, open: vec![open("two", None)], ..client.clone() };
    let known = Known { alive: vec![bulletin("other", vec![elsewhere])], ..of(vec![agent, client]) };
    let readers = evidence(&known, "two", &PATIENCE).readers;
    assert!(readers.iter().all(|one| one.kind != ReaderKind::Unheard));
}

#[test]
fn publication_is_what_the_leader_says_of_the_present_roots() {
    let publishes = |published: Option<(&str, i64)>, missing_in| {
        let published = published.map(|(digest, since)| (digest.to_owned(), at(since)));
        let own = Bulletin { published, missing_in, ..bulletin("one", vec![]) };
        let known = Known { own, publishes: true, ..Known::default() };
        evidence(&known, "two", &PATIENCE).publication
    };
    assert_eq!(publishes(Some(("two", -7)), Some(0)), Publication::Done { since: moment(at(-7)) });
    assert_eq!(publishes(Some(("one", -7)), Some(3)), Publication::Pending { places: Some(3) });
    assert_eq!(publishes(None, None), Publication::Pending { places: None });
}

#[test]
fn all_streams_of_a_holder_have_to_trust_the_same() {
    let of = |open: Vec<Open>| Holder { streams: true, open, ..holder("a") };
    assert_eq!(trusted(&of(vec![open("two", None), open("two", None)])), Some("two"));
    assert_eq!(trusted(&of(vec![open("two", None), open("one", None)])), None);
}

#[test]
fn whoever_s_pod_is_gone_does_not_count_unless_it_has_a_stream() {
    let left = Holder { leaves: [("old".to_owned(), span(-50))].into(), ..holder("a") };
    let alive = Holder { streams: true, open: vec![open("two", None)], ..holder("b") };
    let gone = ["a", "b"].map(str::to_owned).into();
    let leader = Bulletin { gone, ..bulletin("leader", vec![left.clone(), alive]) };
    let known = Known { own: bulletin("one", vec![left]), alive: vec![leader], ..Known::default() };
    let names: Vec<_> = holders(&known).iter().map(|one| one.holder.id.clone()).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn as_long_as_others_may_know_more_nothing_is_proved() {
    let domain = "td".parse().unwrap();
    let state = Record::new_root(&domain, Duration::from_secs(86_400), NOW).unwrap().state;
    let of = |gap: Option<&str>| {
        let known = Known { own: bulletin("one", vec![]), gap: gap.map(str::to_owned), ..Known::default() };
        evidence(&known, "two", &PATIENCE)
    };
    let own = Known { own: Bulletin { sequence: 1, ..bulletin("one", vec![]) }, ..Known::default() };
    assert!(distributed(&state, &evidence(&own, "two", &PATIENCE), NOW).is_ok());
    let gate = distributed(&state, &of(Some("the list is refused")), NOW).unwrap_err();
    assert_eq!(
        (gate.waiting[0].who.as_str(), gate.waiting[0].why.as_str()),
        ("the other replicas", "the list is refused")
    );
    let gate = unneeded(&state, &state.active().id, &of(Some("the list is refused")), NOW).unwrap_err();
    assert_eq!(gate.waiting[0].who, "the other replicas");
}

#[test]
fn what_was_gathered_before_is_used_again_and_changes_nothing() {
    let agent = |id: &str, roots: &str| {
        Arc::new(Holder { streams: true, open: vec![open(roots, None)], ..holder(id) })
    };
    let known = |holders: &[&Arc<Holder>], alive: Vec<Bulletin>| Known {
        own: Bulletin {
            holders: holders.iter().map(|one| Arc::clone(one)).collect(),
            ..bulletin("one", vec![])
        },
        alive,
        ..Known::default()
    };
    let (a, b, c, moved) = (agent("a", "one"), agent("b", "one"), agent("c", "one"), agent("b", "two"));
    let other = bulletin("two", vec![Holder { lost: Some(at(-1)), ..Holder::clone(&a) }, holder("z")]);
    let mut gathered = Gathered::default();
    for known in [
        known(&[&a, &b], vec![]),
        known(&[&a, &b], vec![]),
        known(&[&a, &moved, &c], vec![]),
        known(&[&moved], vec![]),
        known(&[&a, &moved, &c], vec![other]),
        known(&[&b, &c], vec![]),
        known(&[], vec![]),
        known(&[&c], vec![]),
    ] {
        let anew = evidence(&known, "two", &PATIENCE);
        let again = gather(&mut gathered, &known, "two", &PATIENCE);
        assert_eq!(again, anew);
        gathered.keep(again);
    }
}
