//! Stories of one stream, and a model: a client that behaves as Envoy does, in any interleaving.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn offer(entries: &[(&str, &str)]) -> Offer {
    entries.iter().map(|(name, version)| ((*name).to_owned(), Version::from(*version))).collect()
}

fn request(names: &[&str], version: &str, nonce: &str) -> Event {
    Event::Requested(Request {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        version: version.to_owned(),
        nonce: nonce.to_owned(),
        error: None,
    })
}

fn nack(names: &[&str], version: &str, nonce: &str) -> Event {
    match request(names, version, nonce) {
        Event::Requested(request) => Event::Requested(Request { error: Some("no".to_owned()), ..request }),
        offered @ Event::Offered(_) => offered,
    }
}

fn push(name: &str, version: &str, nonce: &str) -> Effect {
    Effect::Push { name: name.to_owned(), version: version.into(), nonce: nonce.to_owned() }
}

fn acknowledged(name: &str, version: &str) -> Effect {
    Effect::Acknowledged { name: name.to_owned(), version: version.into() }
}

fn rejected(name: &str, version: &str) -> Effect {
    Effect::Rejected { name: name.to_owned(), version: version.into(), error: "no".to_owned() }
}

/// Plays `events` on a new stream and compares what each leads to.
fn story(start: &[(&str, &str)], events: Vec<(Event, Vec<Effect>)>) {
    let mut stream = Subscription::new(offer(start));
    for (at, (event, expected)) in events.into_iter().enumerate() {
        let (next, effects) = stream.step(event.clone()).unwrap();
        assert_eq!(effects, expected, "event {at}: {event:?}");
        stream = next;
    }
}

#[test]
fn a_first_request_is_answered_and_its_ack_is_not() {
    story(
        &[("a", "1")],
        vec![
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (request(&["a"], "1", "1"), vec![acknowledged("a", "1")]),
        ],
    );
}

#[test]
fn a_new_version_is_pushed_once_and_an_unchanged_one_never() {
    story(
        &[("a", "1")],
        vec![
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (request(&["a"], "1", "1"), vec![acknowledged("a", "1")]),
            (Event::Offered(offer(&[("a", "1")])), vec![]),
            (Event::Offered(offer(&[("a", "2")])), vec![push("a", "2", "2")]),
            (Event::Offered(offer(&[("a", "2")])), vec![]),
        ],
    );
}

#[test]
fn what_changes_before_the_answer_is_pushed_after_it_and_only_the_latest() {
    story(
        &[("a", "1")],
        vec![
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (Event::Offered(offer(&[("a", "2")])), vec![]),
            (Event::Offered(offer(&[("a", "3")])), vec![]),
            (request(&["a"], "1", "1"), vec![acknowledged("a", "1"), push("a", "3", "2")]),
        ],
    );
}

#[test]
fn a_nack_never_loops_and_the_next_version_is_tried() {
    story(
        &[("a", "1")],
        vec![
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (nack(&["a"], "", "1"), vec![rejected("a", "1")]),
            (nack(&["a"], "", "1"), vec![]),
            (request(&["a"], "", "1"), vec![]),
            (Event::Offered(offer(&[("a", "1")])), vec![]),
            (Event::Offered(offer(&[("a", "2")])), vec![push("a", "2", "2")]),
            (request(&["a"], "2", "2"), vec![acknowledged("a", "2")]),
        ],
    );
}

#[test]
fn a_stale_nonce_acknowledges_nothing_but_added_names_are_answered() {
    story(
        &[("a", "1"), ("b", "1b")],
        vec![
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (request(&["a"], "1", "77"), vec![Effect::Stale { nonce: "77".to_owned() }]),
            (
                request(&["a", "b"], "1", "not a number"),
                vec![Effect::Stale { nonce: "not a number".to_owned() }, push("b", "1b", "2")],
            ),
            (request(&["a", "b"], "1", "1"), vec![acknowledged("a", "1")]),
        ],
    );
}

#[test]
fn added_names_are_answered_alone_and_names_that_come_back_are_answered_again() {
    story(
        &[("a", "1"), ("b", "1b")],
        vec![
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (request(&["a"], "1", "1"), vec![acknowledged("a", "1")]),
            (request(&["a", "b"], "1", "1"), vec![push("b", "1b", "2")]),
            (request(&["a", "b"], "1b", "2"), vec![acknowledged("b", "1b")]),
            (request(&["a"], "1b", "2"), vec![]),
            (Event::Offered(offer(&[("a", "1"), ("b", "2b")])), vec![]),
            (request(&["a", "b"], "1b", "2"), vec![push("b", "2b", "3")]),
        ],
    );
}

#[test]
fn unknown_names_wait_and_the_known_ones_are_answered() {
    story(
        &[("a", "1")],
        vec![
            (
                request(&["a", "later"], "", ""),
                vec![Effect::Unknown { name: "later".to_owned() }, push("a", "1", "1")],
            ),
            (request(&["a", "later"], "1", "1"), vec![acknowledged("a", "1")]),
            (Event::Offered(offer(&[("a", "1"), ("later", "1l")])), vec![push("later", "1l", "2")]),
        ],
    );
}

#[test]
fn a_client_that_comes_back_with_the_version_is_not_sent_it_again() {
    story(
        &[("a", "1")],
        vec![
            (request(&["a"], "1", ""), vec![acknowledged("a", "1")]),
            (Event::Offered(offer(&[("a", "2")])), vec![push("a", "2", "1")]),
        ],
    );
    story(&[("a", "2")], vec![(request(&["a"], "1", ""), vec![push("a", "2", "1")])]);
}

#[test]
fn a_client_that_comes_back_before_there_is_anything_is_not_sent_what_it_holds_once_there_is() {
    story(
        &[],
        vec![
            (request(&["a"], "1", ""), vec![Effect::Unknown { name: "a".to_owned() }]),
            (Event::Offered(offer(&[("a", "1")])), vec![acknowledged("a", "1")]),
            (Event::Offered(offer(&[("a", "2")])), vec![push("a", "2", "1")]),
            (Event::Offered(offer(&[("a", "1")])), vec![]),
            (request(&["a"], "2", "1"), vec![acknowledged("a", "2"), push("a", "1", "2")]),
        ],
    );
}

#[test]
fn a_client_that_comes_back_for_two_names_gets_the_one_its_version_does_not_cover() {
    story(
        &[("a", "1"), ("b", "1b")],
        vec![(request(&["a", "b"], "1b", ""), vec![acknowledged("b", "1b"), push("a", "1", "1")])],
    );
}

/// Found by the model below: a version that comes back while another is on its way must be pushed again.
#[test]
fn what_a_client_says_it_holds_counts_only_before_the_first_response() {
    story(
        &[("a", "2")],
        vec![
            (request(&["a"], "1", ""), vec![push("a", "2", "1")]),
            (Event::Offered(offer(&[("a", "1")])), vec![]),
            (request(&[], "1", ""), vec![]),
            (request(&["a"], "1", ""), vec![]),
            (request(&["a"], "2", "1"), vec![acknowledged("a", "2"), push("a", "1", "2")]),
        ],
    );
}

#[test]
fn an_empty_list_ends_the_subscription() {
    story(
        &[("a", "1")],
        vec![
            (request(&[], "", ""), vec![]),
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (request(&[], "1", "1"), vec![acknowledged("a", "1")]),
            (Event::Offered(offer(&[("a", "2")])), vec![]),
            (request(&["a"], "1", "1"), vec![push("a", "2", "2")]),
        ],
    );
}

#[test]
fn an_answer_to_the_last_of_several_responses_answers_them_all() {
    story(
        &[("a", "1"), ("b", "1b")],
        vec![
            (request(&["a", "b"], "", ""), vec![push("a", "1", "1"), push("b", "1b", "2")]),
            (request(&["a", "b"], "1b", "2"), vec![acknowledged("a", "1"), acknowledged("b", "1b")]),
            (Event::Offered(offer(&[("a", "2"), ("b", "1b")])), vec![push("a", "2", "3")]),
        ],
    );
}

#[test]
fn a_repeat_of_the_last_answer_is_a_second_watcher_and_is_served() {
    story(
        &[("a", "1")],
        vec![
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (request(&["a"], "1", "1"), vec![acknowledged("a", "1")]),
            (request(&["a"], "1", "1"), vec![push("a", "1", "2")]),
            (request(&["a"], "1", "2"), vec![acknowledged("a", "1")]),
        ],
    );
}

#[test]
fn names_that_grow_before_any_answer_cost_one_response_each() {
    story(
        &[("a", "1"), ("b", "1b"), ("c", "1c")],
        vec![
            (request(&["a"], "", ""), vec![push("a", "1", "1")]),
            (request(&["a", "b"], "", ""), vec![push("b", "1b", "2")]),
            (request(&["a", "b", "c"], "", ""), vec![push("c", "1c", "3")]),
        ],
    );
}

#[test]
fn too_much_is_refused() {
    let many: Vec<_> = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
    let asked = Event::Requested(Request { names: many, ..Request::default() });
    assert_eq!(Subscription::default().step(asked), Err(Refusal::TooManyNames(MAX_NAMES + 1)));
    let asked = Event::Requested(Request { names: vec!["x".repeat(2049)], ..Request::default() });
    assert_eq!(Subscription::default().step(asked), Err(Refusal::NameTooLong(2049)));
}

/// What can happen in the model.
#[derive(Clone, Debug)]
enum Move {
    /// The server's content changes: one name gets one version.
    Publish(u8, u8),
    /// A name is withdrawn from the offer.
    Withdraw(u8),
    /// The client's set of names changes, and it says so.
    Watch(u8),
    /// A response arrives at the client, which answers it.
    Deliver,
    /// All responses under way arrive at the client, which answers only the last.
    DeliverAll,
    /// A request arrives at the server.
    Hear,
    /// The stream breaks and the client opens another.
    Reconnect,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// The model's client rejects this version of anything.
const BAD: u8 = 3;

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..4_u8, 0..6_u8).prop_map(|(name, version)| Move::Publish(name, version)),
        1 => (0..4_u8).prop_map(Move::Withdraw),
        2 => (0..16_u8).prop_map(Move::Watch),
        6 => Just(Move::Deliver),
        1 => Just(Move::DeliverAll),
        6 => Just(Move::Hear),
        1 => Just(Move::Reconnect),
    ];
    proptest::collection::vec(one, 0..120)
}

/// A server's stream and a client that answers in order, as Envoy does, with the wires between them.
#[derive(Default)]
struct World {
    offer: Offer,
    stream: Subscription,
    to_server: VecDeque<Request>,
    to_client: VecDeque<(String, Version, String)>,
    watched: BTreeSet<String>,
    /// What the client uses, by name.
    holds: BTreeMap<String, Version>,
    last_accepted: String,
    last_nonce: String,
    /// How often each (name, version) was pushed since the client last asked for the name on this stream.
    pushes: BTreeMap<(String, Version), usize>,
}

fn is_bad(version: &Version) -> bool {
    version.as_str().ends_with(&format!("={BAD}"))
}

impl World {
    fn say(&mut self, error: Option<String>) {
        self.to_server.push_back(Request {
            names: self.watched.iter().cloned().collect(),
            version: self.last_accepted.clone(),
            nonce: self.last_nonce.clone(),
            error,
        });
    }

    fn step(&mut self, event: Event) {
        let (next, effects) = std::mem::take(&mut self.stream).step(event).unwrap();
        self.stream = next;
        for effect in effects {
            if let Effect::Push { name, version, nonce } = effect {
                *self.pushes.entry((name.clone(), version.clone())).or_default() += 1;
                self.to_client.push_back((name, version, nonce));
            }
        }
    }

    fn play(&mut self, one: &Move) {
        match one {
            Move::Publish(name, version) => {
                let name = NAMES[usize::from(*name)];
                // As with a digest, a version belongs to one name.
                let version = Version::from(format!("{name}={version}").as_str());
                if self.offer.insert(name.to_owned(), version) != self.offer.get(name).cloned() {
                    self.pushes.retain(|(pushed, _), _| pushed != name);
                }
                self.step(Event::Offered(self.offer.clone()));
            }
            Move::Withdraw(name) => {
                self.offer.remove(NAMES[usize::from(*name)]);
                self.step(Event::Offered(self.offer.clone()));
            }
            Move::Watch(bits) => {
                let names = (0..4).filter(|at| bits >> at & 1 == 1).map(|at| NAMES[at].to_owned()).collect();
                if names != self.watched {
                    self.watched = names;
                    self.say(None);
                }
            }
            Move::Deliver => {
                if let Some((name, version, nonce)) = self.to_client.pop_front() {
                    self.last_nonce = nonce;
                    if is_bad(&version) {
                        self.say(Some("no".to_owned()));
                    } else {
                        self.last_accepted = version.as_str().to_owned();
                        self.holds.insert(name, version);
                        self.say(None);
                    }
                }
            }
            Move::DeliverAll => {
                // Bad ones are answered at once, as a client must.
                while self.to_client.len() > 1 && !is_bad(&self.to_client[0].1) {
                    let (name, version, _) = self.to_client.pop_front().unwrap();
                    self.holds.insert(name, version);
                }
                self.play(&Move::Deliver);
            }
            Move::Hear => {
                if let Some(request) = self.to_server.pop_front() {
                    // Names that go and come back have been asked for again.
                    if request.names.iter().ne(self.stream.names()) {
                        self.pushes.clear();
                    }
                    self.step(Event::Requested(request));
                }
            }
            Move::Reconnect => {
                self.to_client.clear();
                self.to_server.clear();
                self.pushes.clear();
                self.stream = Subscription::new(self.offer.clone());
                self.last_nonce.clear();
                self.say(None);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            self.play(&Move::Hear);
            self.play(&Move::Deliver);
        }
        assert!(self.to_client.is_empty() && self.to_server.is_empty(), "the two never come to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: it comes to rest, the client holds the latest version of all it watches that
    /// is on offer and good, and nothing is pushed twice without having been asked for again.
    #[test]
    fn any_interleaving_ends_with_the_latest_and_without_needless_pushes(moves in moves()) {
        let mut world = World::default();
        world.say(None);
        for one in &moves {
            world.play(one);
        }
        world.settle();
        for name in &world.watched {
            match world.offer.get(name) {
                Some(version) if !is_bad(version) => prop_assert_eq!(world.holds.get(name), Some(version), "{}", name),
                _ => {}
            }
        }
        for ((name, version), times) in &world.pushes {
            prop_assert!(*times <= 1, "{name} {version} was pushed {times} times");
        }
    }
}
