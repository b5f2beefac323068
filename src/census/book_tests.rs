use std::time::Duration;

use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);

fn caller(pod: Option<&str>) -> Caller {
    Caller {
        spiffe_id: "spiffe://td/ns/a/sa/b".to_owned(),
        pod: pod.map(|uid| ("a/pod".to_owned(), uid.to_owned())),
        node: Some("n".to_owned()),
        by_files: false,
    }
}

fn leaf(authority: &str, serial: &str, bundle: &str) -> Leaf {
    let (authority, serial, bundle) = (authority.to_owned(), serial.to_owned(), bundle.to_owned());
    Leaf { authority, until: NOW + HOUR, serial, bundle }
}

fn roots(digest: &str) -> Word {
    Word::Roots(digest.to_owned())
}

fn authority(id: &str) -> Word {
    Word::Authority(id.to_owned())
}

fn trusted(holder: &Holder) -> Option<&str> {
    holder.bundle.as_ref().map(|(digest, _)| digest.as_str())
}

fn only(book: &Book) -> Holder {
    let mut all = book.holders(NOW);
    assert_eq!(all.len(), 1, "{all:?}");
    Holder::clone(&all.remove(0))
}

#[test]
fn who_only_asks_for_certificates_is_known_by_the_last_answer_and_every_leaf_counts() {
    let mut book = Book::default();
    book.will_sign(&caller(Some("u")), &leaf("old", "1", "one"), NOW);
    book.will_sign(&caller(Some("u")), &leaf("new", "2", "two"), NOW);
    let holder = only(&book);
    assert_eq!(trusted(&holder), Some("two"));
    assert_eq!(holder.leaves.keys().collect::<Vec<_>>(), ["new", "old"]);
    book.forget(NOW + HOUR);
    assert!(book.is_empty(), "their life is over");
}

#[test]
fn without_a_pod_each_leaf_is_a_holder_of_its_own_and_another_pod_is_another_holder() {
    let mut book = Book::default();
    book.will_sign(&caller(None), &leaf("a", "1", "one"), NOW);
    book.will_sign(&caller(None), &leaf("a", "2", "one"), NOW);
    book.will_sign(&caller(Some("u")), &leaf("a", "3", "one"), NOW);
    book.will_sign(&caller(Some("v")), &leaf("a", "4", "one"), NOW);
    assert_eq!(book.len(), 4);
}

#[test]
fn an_agent_s_word_counts_for_roots_and_frees_it_of_old_leaves() {
    let mut book = Book::default();
    let agent = caller(Some("u"));
    book.will_sign(&agent, &leaf("old", "1", "one"), NOW);
    book.opened(7, &agent, NOW);
    book.called(7, "agent-7", NOW);
    assert_eq!(book.acknowledged(7, &roots("one"), NOW), None, "nothing new");
    book.sent(7, &roots("two"), NOW);
    book.will_sign(&agent, &leaf("new", "2", "two"), NOW);
    assert_eq!(trusted(&only(&book)), Some("one"), "an answer is no acknowledgement where there is a stream");
    book.refused(7, "proxy p: no");
    assert_eq!(only(&book).open[0].nack.as_deref(), Some("proxy p: no"));
    assert_eq!(trusted(book.acknowledged(7, &roots("two"), NOW).unwrap()), Some("two"));
    assert_eq!(only(&book).open[0].nack, None);
    assert_eq!(only(&book).moved, None);
    let moved = book.acknowledged(7, &authority("new"), NOW).unwrap().moved.clone();
    assert_eq!(moved, Some(("new".to_owned(), milliseconds(NOW))));
    let lost = book.closed(7, NOW).unwrap();
    assert_eq!((lost.lost, lost.streams), (Some(NOW.unix_timestamp()), true));
    assert_eq!(trusted(&only(&book)), Some("two"));
    // Without its stream it stays with what it was told there, whatever an answer brings.
    book.will_sign(&agent, &leaf("new", "3", "three"), NOW);
    assert_eq!(trusted(&only(&book)), Some("two"));
}

#[test]
fn two_agents_of_one_holder_have_to_say_the_same() {
    let mut book = Book::default();
    let agent = caller(Some("u"));
    book.will_sign(&agent, &leaf("old", "1", "one"), NOW);
    book.will_sign(&agent, &leaf("new", "2", "one"), NOW);
    book.opened(1, &agent, NOW);
    book.opened(2, &agent, NOW);
    for word in [roots("two"), authority("new")] {
        assert_eq!(book.acknowledged(1, &word, NOW), None);
        assert!(book.acknowledged(2, &word, NOW + HOUR / 2).is_some());
    }
    assert_eq!(only(&book).moved, Some(("new".to_owned(), milliseconds(NOW))));
}

#[test]
fn what_was_known_before_is_taken_over_and_streams_are_not() {
    let mut book = Book::default();
    book.will_sign(&caller(Some("u")), &leaf("old", "1", "one"), NOW);
    book.opened(1, &caller(Some("u")), NOW);
    let mut again = Book::default();
    for holder in book.holders(NOW) {
        let json = serde_json::to_string(&holder).unwrap();
        again.remember(serde_json::from_str(&json).unwrap(), NOW);
    }
    let holder = only(&again);
    assert_eq!((holder.open.len(), holder.leaves.len()), (0, 1));
    assert_eq!(holder.lost, Some(NOW.unix_timestamp()));
    again.opened(9, &caller(Some("u")), NOW);
    assert_eq!(only(&again).open.len(), 1, "the same holder is back");
}

#[test]
fn an_agent_may_have_a_stream_for_each_name() {
    let mut book = Book::default();
    let agent = caller(Some("u"));
    book.will_sign(&agent, &leaf("old", "1", "one"), NOW);
    for stream in [1, 2] {
        book.opened(stream, &agent, NOW);
        book.called(stream, "agent", NOW);
    }
    assert!(book.acknowledged(1, &roots("two"), NOW).is_some());
    assert!(book.acknowledged(2, &authority("new"), NOW).is_some());
    let holder = only(&book);
    assert_eq!(holder.open.len(), 1);
    assert_eq!(holder.open[0].roots.as_deref(), Some("two"));
    book.closed(1, NOW);
    assert_eq!(only(&book).open[0].roots, None, "whoever has no stream for the roots says nothing of them");
}

/// Found by killing a CA at each step: its agents came back with one stream that spoke before the other had said its name.
#[test]
fn what_one_stream_says_counts_as_soon_as_the_other_is_known_to_be_of_the_same_agent() {
    let mut book = Book::default();
    let agent = caller(Some("u"));
    book.will_sign(&agent, &leaf("old", "1", "one"), NOW);
    book.opened(1, &agent, NOW);
    book.opened(2, &agent, NOW);
    book.called(2, "agent", NOW);
    assert_eq!(book.acknowledged(2, &authority("new"), NOW), None, "the first may be somebody else");
    let moved = book.called(1, "agent", NOW + HOUR / 2).and_then(|holder| holder.moved.clone());
    assert_eq!(moved, Some(("new".to_owned(), milliseconds(NOW))));
    // And an agent that is gone says nothing against it.
    book.opened(3, &agent, NOW);
    book.called(3, "another", NOW);
    assert_eq!(book.acknowledged(2, &authority("newer"), NOW), None);
    book.closed(3, NOW);
    assert_eq!(only(&book).moved, Some(("newer".to_owned(), milliseconds(NOW))));
}

#[test]
fn who_has_not_changed_is_shown_as_the_same_and_who_has_is_shown_as_it_is() {
    let mut book = Book::default();
    let (still, agent) = (caller(Some("s")), caller(Some("u")));
    book.will_sign(&still, &leaf("old", "1", "one"), NOW);
    book.will_sign(&agent, &leaf("old", "2", "one"), NOW);
    let changes: [&dyn Fn(&mut Book); 8] = [
        &|book| book.opened(7, &caller(Some("u")), NOW),
        &|book| drop(book.called(7, "agent", NOW).cloned()),
        &|book| book.sent(7, &roots("two"), NOW),
        &|book| book.refused(7, "no"),
        &|book| drop(book.acknowledged(7, &roots("two"), NOW).cloned()),
        &|book| drop(book.acknowledged(7, &authority("old"), NOW).cloned()),
        &|book| drop(book.will_sign(&caller(Some("u")), &leaf("new", "3", "two"), NOW).clone()),
        &|book| drop(book.closed(7, NOW).cloned()),
    ];
    for (number, change) in changes.iter().enumerate() {
        let before = book.holders(NOW);
        change(&mut book);
        let after = book.holders(NOW);
        let same = before.iter().filter(|one| after.iter().any(|other| Arc::ptr_eq(one, other)));
        assert_eq!(same.count(), 1, "change {number}");
        assert_ne!(before, after, "change {number}");
    }
    // A leaf whose life is over goes, and the holder with it, or without it.
    let before = book.holders(NOW);
    book.opened(8, &agent, NOW);
    book.forget(NOW + HOUR);
    let [left] = &book.holders(NOW)[..] else { panic!("one has no stream, and its leaf is over") };
    assert!(left.leaves.is_empty() && before.iter().all(|one| !one.leaves.is_empty()));
}

/// Found by the model of rotations: what is withdrawn and brought again has the same digest as before.
#[test]
fn what_was_acknowledged_before_something_else_was_sent_says_nothing_of_now() {
    let mut book = Book::default();
    let agent = caller(Some("u"));
    book.opened(1, &agent, NOW);
    book.sent(1, &roots("both"), NOW);
    book.acknowledged(1, &roots("both"), NOW);
    assert_eq!(only(&book).open[0].trusted(), Some("both"));
    book.sent(1, &roots("one"), NOW);
    assert_eq!(only(&book).open[0].trusted(), None, "some of its proxies may use these already");
    assert_eq!(only(&book).open[0].roots.as_deref(), Some("both"), "and this is what it said last");
    book.acknowledged(1, &roots("one"), NOW);
    assert_eq!(only(&book).open[0].trusted(), Some("one"));
}

/// Found by the model of rotations: a replica that is late sends old roots to an agent that has acknowledged the new ones to
/// another replica, and the stream breaks.
#[test]
fn of_what_was_sent_and_not_acknowledged_when_a_stream_broke_nothing_is_known() {
    let mut book = Book::default();
    let agent = caller(Some("u"));
    book.will_sign(&agent, &leaf("a", "1", "both"), NOW);
    book.opened(1, &agent, NOW);
    book.acknowledged(1, &roots("both"), NOW);
    book.sent(1, &roots("one"), NOW);
    book.closed(1, NOW + HOUR / 2);
    assert_eq!(trusted(&only(&book)), Some(""));
    // What is acknowledged and then sent no more stays known.
    book.opened(2, &agent, NOW);
    book.sent(2, &roots("both"), NOW);
    book.acknowledged(2, &roots("both"), NOW);
    book.closed(2, NOW);
    assert_eq!(trusted(&only(&book)), Some("both"));
}
