//! Stories of one name, and a conversation with the server's own machine.

use proptest::prelude::*;

use super::*;
use crate::sds::Effect;
use crate::sds::Event;
use crate::sds::Offer;
use crate::sds::Request;
use crate::sds::Subscription;

fn accepted() -> Verdict {
    Verdict::Accepted
}

fn objected(kind: Objection) -> Verdict {
    Verdict::Objected(kind, format!("{kind:?}"))
}

fn answer(held: Option<&str>, nonce: &str, refusal: Option<&str>) -> Say {
    Say::Answer {
        held: held.map(Version::from),
        nonce: nonce.to_owned(),
        refusal: refusal.map(str::to_owned),
    }
}

fn opened(word: Word, verdict: Option<&Verdict>) -> (Word, Option<String>) {
    let (word, held) = word.opens(verdict);
    (word, held.map(|held| held.to_string()))
}

#[test]
fn a_push_is_acknowledged_once_when_it_is_accepted() {
    let word = Word::default().pushed("1".into(), "n1".to_owned());
    assert!(word.is_unsettled());
    let (word, said) = word.judged(&Verdict::Waiting(String::new()));
    assert_eq!(said, Say::Nothing);
    let (word, said) = word.judged(&accepted());
    assert_eq!(said, answer(Some("1"), "n1", None));
    assert!(!word.is_unsettled());
    assert_eq!(word.clone().judged(&accepted()).1, Say::Nothing);
    assert_eq!(word.clone().judged(&objected(Objection::Refused)).1, Say::Nothing);
    // The next one is refused, and what is held stays.
    let (word, said) = word.pushed("2".into(), "n2".to_owned()).judged(&objected(Objection::Silent));
    assert_eq!(said, answer(Some("1"), "n2", Some("Silent")));
    assert_eq!(word.held(), Some(&"1".into()));
}

#[test]
fn what_was_refused_and_is_accepted_after_all_is_told_on_a_new_stream() {
    let word = Word::default().pushed("1".into(), "n1".to_owned());
    let (word, _) = word.judged(&objected(Objection::Silent));
    assert!(word.is_unsettled());
    assert_eq!(word.clone().judged(&objected(Objection::Silent)).1, Say::Nothing);
    let (word, said) = word.judged(&accepted());
    assert_eq!(said, Say::Reopen);
    let (word, held) = opened(word, Some(&accepted()));
    assert_eq!(held.as_deref(), Some("1"));
    assert!(!word.is_unsettled());
    // A server that pushes it all the same is answered.
    let (_, said) = word.pushed("1".into(), "m1".to_owned()).judged(&accepted());
    assert_eq!(said, answer(Some("1"), "m1", None));
}

#[test]
fn a_worse_objection_is_told_on_a_new_stream_and_a_lesser_one_is_not() {
    let word = Word::default().pushed("1".into(), "n1".to_owned());
    let (word, _) = word.judged(&objected(Objection::Later));
    let (word, said) = word.judged(&objected(Objection::Refused));
    assert_eq!(said, Say::Reopen);
    let (word, held) = opened(word, Some(&objected(Objection::Refused)));
    assert_eq!(held, None);
    assert_eq!(word.clone().judged(&accepted()).1, Say::Nothing, "it has not been pushed again");
    let (word, said) = word.pushed("1".into(), "m1".to_owned()).judged(&objected(Objection::Refused));
    assert_eq!(said, answer(None, "m1", Some("Refused")));
    assert_eq!(word.judged(&objected(Objection::Silent)).1, Say::Nothing);
}

#[test]
fn another_proxy_that_refuses_is_named_on_a_new_stream_and_how_many_more_there_are_is_not_worth_one() {
    let refused = |why: &str| Verdict::Objected(Objection::Refused, why.to_owned());
    let word = Word::default().pushed("1".into(), "n1".to_owned());
    let (word, said) = word.judged(&refused("proxy a: no (and 2 more refused it)"));
    assert_eq!(said, answer(None, "n1", Some("proxy a: no (and 2 more refused it)")));
    for same in ["proxy a: no", "proxy a: no (and 1 more refused it)"] {
        assert_eq!(word.clone().judged(&refused(same)).1, Say::Nothing);
    }
    let (word, said) = word.judged(&refused("proxy b: no"));
    assert_eq!(said, Say::Reopen);
    let (word, _) = opened(word, Some(&refused("proxy b: no")));
    let (_, said) = word.pushed("1".into(), "m1".to_owned()).judged(&refused("proxy b: no"));
    assert_eq!(said, answer(None, "m1", Some("proxy b: no")));
    // Who is only late may change all the time.
    let late = |why: &str| Verdict::Objected(Objection::Silent, why.to_owned());
    let (word, _) = Word::default().pushed("1".into(), "n1".to_owned()).judged(&late("proxy a is"));
    assert_eq!(word.judged(&late("proxy b is")).1, Say::Nothing);
}

#[test]
fn a_newer_push_takes_the_place_of_an_older_one() {
    let word = Word::default().pushed("1".into(), "n1".to_owned()).pushed("2".into(), "n2".to_owned());
    assert_eq!(word.judged(&accepted()).1, answer(Some("2"), "n2", None));
}

#[test]
fn what_cannot_be_read_is_refused_and_never_held() {
    let word = Word::default().pushed("1".into(), "n1".to_owned());
    let (word, _) = word.judged(&accepted());
    let (word, said) = word.pushed("2".into(), "n2".to_owned()).unreadable("broken".to_owned());
    assert_eq!(said, answer(Some("1"), "n2", Some("broken")));
    assert!(!word.is_unsettled());
    assert_eq!(opened(word, Some(&accepted())).1, None, "what is held may not be what the CA wants now");
}

#[test]
fn what_was_held_before_the_last_push_is_not_claimed() {
    let (word, _) = Word::default().pushed("1".into(), "n1".to_owned()).judged(&accepted());
    let waiting = Verdict::Waiting(String::new());
    assert_eq!(opened(word.clone(), Some(&waiting)).1.as_deref(), Some("1"), "a proxy came since");
    let word = word.pushed("2".into(), "n2".to_owned());
    assert_eq!(opened(word, Some(&waiting)).1, None);
}

#[test]
fn what_was_accepted_while_there_was_no_stream_is_told_by_the_next_one() {
    let word = Word::default().pushed("1".into(), "n1".to_owned());
    assert_eq!(opened(word.clone(), None).1, None);
    let (word, held) = opened(word, Some(&accepted()));
    assert_eq!(held.as_deref(), Some("1"));
    assert!(!word.is_unsettled());
    assert_eq!(opened(Word::default(), None).1, None);
}

/// A CA that runs the machine of `sds`, and what it believes of us.
#[derive(Default)]
struct Ca {
    stream: Subscription,
    offer: u64,
    in_flight: Option<(Version, String)>,
    believes: Option<Version>,
}

impl Ca {
    fn offer(&self) -> Offer {
        Offer::from([("a".to_owned(), Version::from(self.offer.to_string().as_str()))])
    }

    fn step(&mut self, event: Event) {
        let (stream, effects) = std::mem::take(&mut self.stream).step(event).unwrap();
        self.stream = stream;
        for effect in effects {
            match effect {
                Effect::Push { version, nonce, .. } => {
                    self.in_flight = Some((version, nonce));
                    self.believes = None;
                }
                Effect::Acknowledged { version, .. } => self.believes = Some(version),
                Effect::Rejected { .. } => self.believes = None,
                Effect::Unknown { .. } | Effect::Stale { .. } => panic!("{effect:?}"),
            }
        }
    }

    fn hear(&mut self, held: Option<Version>, nonce: String, error: Option<String>) {
        let version = held.map(|held| held.to_string()).unwrap_or_default();
        self.step(Event::Requested(Request { names: vec!["a".to_owned()], version, nonce, error }));
    }

    fn open(&mut self, word: Word, verdict: Option<&Verdict>) -> Word {
        let (word, held) = word.opens(verdict);
        *self = Self { stream: Subscription::new(self.offer()), offer: self.offer, ..Self::default() };
        self.hear(held, String::new(), None);
        word
    }
}

#[derive(Clone, Debug)]
enum Turn {
    Offer(u64),
    Deliver,
    Break,
    Judge(Verdict),
}

fn turn() -> impl Strategy<Value = Turn> {
    let kinds = prop_oneof![Just(Objection::Later), Just(Objection::Silent), Just(Objection::Refused)];
    prop_oneof![
        (0_u64..3).prop_map(Turn::Offer),
        Just(Turn::Deliver),
        Just(Turn::Break),
        Just(Turn::Judge(accepted())),
        kinds.prop_map(|kind| Turn::Judge(objected(kind))),
    ]
}

proptest! {
    #[test]
    fn however_it_went_the_ca_believes_in_the_end_what_is_so(turns in proptest::collection::vec(turn(), 0..40)) {
        let mut ca = Ca::default();
        let mut word = ca.open(Word::default(), None);
        // The version that was last delivered, and what is so of it.
        let (mut latest, mut is_so): (Option<Version>, Option<Verdict>) = (None, None);
        let settle = vec![[Turn::Judge(accepted()), Turn::Deliver]; 4].into_iter().flatten();
        for turn in turns.into_iter().chain(settle) {
            match turn {
                Turn::Offer(version) => {
                    ca.offer = version;
                    let offer = ca.offer();
                    ca.step(Event::Offered(offer));
                }
                Turn::Deliver => if let Some((version, nonce)) = ca.in_flight.take() {
                    if latest.as_ref() != Some(&version) {
                        is_so = None;
                    }
                    latest = Some(version.clone());
                    word = word.pushed(version, nonce);
                },
                Turn::Break => word = ca.open(word, is_so.as_ref()),
                Turn::Judge(verdict) => if latest.is_some() {
                    let verdict = if is_so == Some(accepted()) { accepted() } else { verdict };
                    is_so = Some(verdict.clone());
                    let (next, say) = word.judged(&verdict);
                    word = next;
                    match say {
                        Say::Nothing => {}
                        Say::Answer { held, nonce, refusal } => ca.hear(held, nonce, refusal),
                        Say::Reopen => word = ca.open(word, Some(&verdict)),
                    }
                },
            }
            // The CA never believes in what was not so.
            if ca.believes.is_some() {
                prop_assert_eq!(&ca.believes, &latest);
                prop_assert_eq!(is_so.as_ref(), Some(&accepted()));
            }
        }
        let offered = ca.offer.to_string();
        prop_assert_eq!(ca.believes.as_ref().map(Version::as_str), Some(offered.as_str()));
    }
}
