//! Proxies that take one filter at a time, and what they decide at each moment.

use proptest::prelude::*;

use super::*;

/// Requests: two without a token, and one with. Only where tokens are verified is the third told apart from the first.
const REQUESTS: [u8; 3] = [0, 1, 2];

/// What a request is to the rules.
fn seen(request: u8, tokens: u8) -> u8 {
    if request == 2 && tokens == 0 { 0 } else { request }
}

/// A set, as bits: which requests are denied, which are allowed, and whether tokens are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits {
    tokens: u8,
    deny: u8,
    allow: u8,
}

impl Bits {
    fn set(self) -> Set {
        Set {
            tokens: Version::from(format!("t{}", self.tokens).as_str()),
            deny: (self.deny != 0).then(|| Version::from(format!("d{}", self.deny).as_str())),
            allow: Version::from(format!("a{}", self.allow).as_str()),
        }
    }

    fn allows(self, request: u8) -> bool {
        let seen = seen(request, self.tokens);
        self.deny >> seen & 1 == 0 && self.allow >> seen & 1 == 1
    }
}

/// The filters of one proxy; those it has not been sent deny everything.
#[derive(Clone, Debug, Default)]
struct Proxy {
    tokens: Option<Version>,
    deny: Option<(Version, Cover)>,
    allow: Option<Version>,
}

fn number(version: &Version) -> u8 {
    version.as_str().get(1..).unwrap().parse().unwrap()
}

impl Proxy {
    fn holds(&self, part: Part) -> Option<Version> {
        match part {
            Part::Tokens => self.tokens.clone(),
            Part::Deny => self.deny.as_ref().map(|(version, _)| version.clone()),
            Part::Allow => self.allow.clone(),
        }
    }

    fn take(&mut self, part: Part, shown: &Show) {
        match part {
            Part::Tokens => self.tokens.clone_from(&shown.tokens),
            Part::Deny => self.deny = shown.deny.clone().map(|cover| (cover.version(), cover)),
            Part::Allow => self.allow.clone_from(&shown.allow),
        }
    }

    fn allows(&self, request: u8) -> bool {
        let (Some(tokens), Some((_, deny)), Some(allow)) = (&self.tokens, &self.deny, &self.allow) else {
            return false;
        };
        let seen = seen(request, number(tokens));
        let is_denied = match deny {
            Cover::All => true,
            Cover::Of(set) => set.iter().any(|one| number(one) >> seen & 1 == 1),
        };
        !is_denied && number(allow) >> seen & 1 == 1
    }
}

fn every_set() -> impl Iterator<Item = Bits> {
    (0..2)
        .flat_map(|tokens| (0..8).flat_map(move |deny| (0..8).map(move |allow| Bits { tokens, deny, allow })))
}

/// A proxy with a stream for each part that uses `bits`.
fn at_rest(bits: Bits) -> (Bridge, Proxy) {
    let (mut bridge, mut proxy) = (Bridge::of(&Part::ALL).step(Event::Target(bits.set())), Proxy::default());
    for (stream, part) in (0..).zip(Part::ALL) {
        bridge = bridge.step(Event::Opened { stream, part, holds: None });
    }
    for (stream, part) in (0..).zip(Part::ALL) {
        proxy.take(part, bridge.shown());
        bridge = bridge.step(Event::Took { stream, version: proxy.holds(part).unwrap() });
    }
    assert_eq!(bridge.waiting(), 0);
    (bridge, proxy)
}

/// Goes from one set to the other, parts in this order whenever there are several; calls `look` at each moment, and returns
/// how many pushes it took.
fn go(from: Bits, to: Bits, order: [usize; 3], mut look: impl FnMut(&Proxy)) -> usize {
    let (bridge, mut proxy) = at_rest(from);
    let mut bridge = bridge.step(Event::Target(to.set()));
    let mut pushes = 0;
    loop {
        look(&proxy);
        let is_due = |at: &usize| {
            let shown = bridge.shown().version(Part::ALL[*at]);
            shown.is_some() && shown != proxy.holds(Part::ALL[*at])
        };
        let Some(due) = order.into_iter().find(is_due) else { break };
        proxy.take(Part::ALL[due], bridge.shown());
        pushes += 1;
        look(&proxy);
        let version = proxy.holds(Part::ALL[due]).unwrap();
        bridge = bridge.step(Event::Took { stream: due as u64, version });
        assert!(pushes < 9, "it never comes to rest");
    }
    assert_eq!(bridge.waiting(), 0, "it comes to rest elsewhere: {bridge:?}");
    assert_eq!(bridge.shown(), &Show::of(&to.set()));
    pushes
}

#[test]
fn at_each_moment_between_any_two_sets_each_request_is_decided_as_by_one_of_them() {
    for from in every_set() {
        for to in every_set() {
            for order in [[0, 1, 2], [2, 1, 0]] {
                go(from, to, order, |proxy| {
                    for request in REQUESTS {
                        let (now, old, new) =
                            (proxy.allows(request), from.allows(request), to.allows(request));
                        let is_closed = matches!(&proxy.deny, Some((_, Cover::All)));
                        assert!(
                            now == old || now == new || is_closed && from.tokens != to.tokens,
                            "{from:?} to {to:?}, request {request}: {now}, by {proxy:?}"
                        );
                    }
                });
            }
        }
    }
}

#[test]
fn steps_that_are_not_needed_are_not_taken() {
    let of = |tokens, deny, allow| Bits { tokens, deny, allow };
    for (from, to, pushes, why) in [
        (of(0, 1, 2), of(0, 1, 2), 0, "nothing has changed"),
        (of(0, 1, 2), of(0, 4, 2), 1, "only what is denied"),
        (of(0, 1, 2), of(0, 1, 4), 1, "only what is allowed"),
        (of(0, 1, 2), of(1, 1, 2), 1, "only which tokens are verified"),
        (of(0, 0, 2), of(0, 0, 4), 1, "nothing is denied, and nothing was"),
        (of(0, 0, 2), of(0, 1, 4), 2, "nothing was denied"),
        (of(0, 1, 2), of(0, 0, 4), 2, "nothing is denied any more"),
        (of(0, 1, 2), of(0, 2, 4), 3, "all of it"),
        (of(0, 1, 2), of(1, 2, 4), 4, "tokens too"),
        (of(0, 1, 2), of(1, 1, 4), 4, "tokens, and what is allowed"),
    ] {
        assert_eq!(go(from, to, [0, 1, 2], |_| {}), pushes, "{why}");
    }
}

#[test]
fn what_is_refused_leads_back_and_is_not_tried_again() {
    let (from, to) = (Bits { tokens: 0, deny: 1, allow: 2 }, Bits { tokens: 0, deny: 2, allow: 4 });
    let (bridge, _) = at_rest(from);
    let took = |bridge: Bridge, stream: u64| {
        let version = bridge.shown().version(Part::ALL[stream as usize]).unwrap();
        bridge.step(Event::Took { stream, version })
    };
    let refused = |bridge: Bridge, stream: u64| {
        let version = bridge.shown().version(Part::ALL[stream as usize]).unwrap();
        bridge.step(Event::Refused { stream, version, why: "no".to_owned() })
    };
    let begun = bridge.step(Event::Target(to.set()));
    // The first step.
    let back = refused(begun.clone(), 1);
    assert_eq!((back.shown(), back.refusal()), (&Show::of(&from.set()), Some("no")));
    assert_eq!(back.clone().step(Event::Target(to.set())).shown(), &Show::of(&from.set()));
    // The second: what both deny stays until everybody allows by the old one again.
    let back = refused(took(begun.clone(), 1), 2);
    assert_eq!(back.shown(), &Show::of(&from.set()));
    // The third, which nobody has any reason to refuse.
    let stays = refused(took(took(begun, 1), 2), 1);
    assert_eq!(stays.shown().deny, Some(Cover::of_both(&from.set(), &to.set())));
    // Another set is another matter.
    let third = Bits { tokens: 0, deny: 1, allow: 4 };
    let bridge = took(stays.step(Event::Target(third.set())), 1);
    assert_eq!((bridge.shown(), bridge.refusal()), (&Show::of(&third.set()), None));
}

#[test]
fn a_proxy_that_comes_with_the_target_is_sent_nothing_and_one_with_something_else_takes_it_under_cover() {
    let (now, other) = (Bits { tokens: 0, deny: 1, allow: 2 }, Bits { tokens: 0, deny: 2, allow: 4 });
    let come = |parts: &[(Part, Bits)]| {
        parts.iter().fold(Bridge::of(&Part::ALL).step(Event::Target(now.set())), |bridge, (part, bits)| {
            let holds = Show::of(&bits.set()).version(*part);
            bridge.step(Event::Opened { stream: *part as u64, part: *part, holds })
        })
    };
    let same = come(&[(Part::Tokens, now), (Part::Allow, now), (Part::Deny, now)]);
    assert_eq!((same.waiting(), same.shown()), (0, &Show::of(&now.set())));
    let near = come(&[(Part::Tokens, now), (Part::Allow, other), (Part::Deny, now)]);
    assert_eq!(near.shown(), &Show::of(&now.set()));
    let some = come(&[(Part::Allow, other), (Part::Deny, other)]);
    assert_eq!((some.shown(), some.is_incomplete()), (&Show::default(), true));
    // However long it is waited for: what the filter does that nobody speaks for is not known.
    let waited = some.step(Event::Waited);
    assert_eq!(waited.shown(), &Show::default());
    let holds = Show::of(&other.set()).version(Part::Tokens);
    let closed = waited.step(Event::Opened { stream: Part::Tokens as u64, part: Part::Tokens, holds });
    assert_eq!(closed.shown(), &Show { deny: Some(Cover::All), ..Show::default() });
    let took = |bridge: Bridge, part: Part| {
        let version = bridge.shown().version(part).unwrap();
        bridge.step(Event::Took { stream: part as u64, version })
    };
    let entered = took(closed, Part::Deny);
    assert_eq!(entered.shown(), &Show { deny: Some(Cover::All), ..Show::of(&now.set()) });
    assert_eq!(took(entered, Part::Allow).shown(), &Show::of(&now.set()));
}

/// What can happen to a proxy and its agent.
#[derive(Clone, Debug)]
enum Move {
    Target(Bits),
    /// What is pushed for a part arrives, and is answered.
    Deliver(usize),
    /// A stream breaks.
    Break(usize),
    /// A part's stream is opened again.
    Reopen(usize),
    /// The proxy starts anew.
    RestartProxy,
    /// The agent does; all streams break.
    RestartAgent,
    /// Whoever is missing has been waited for.
    Waited,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let bits = (0..2_u8, 0..8_u8, 0..8_u8).prop_map(|(tokens, deny, allow)| Bits { tokens, deny, allow });
    let one = prop_oneof![
        3 => bits.prop_map(Move::Target),
        12 => (0..3_usize).prop_map(Move::Deliver),
        1 => (0..3_usize).prop_map(Move::Break),
        3 => (0..3_usize).prop_map(Move::Reopen),
        1 => Just(Move::RestartProxy),
        1 => Just(Move::RestartAgent),
        2 => Just(Move::Waited),
    ];
    proptest::collection::vec(one, 0..80)
}

/// An agent's machine and a proxy, with a stream for each part or without.
struct World {
    bridge: Bridge,
    proxy: Proxy,
    streams: [Option<u64>; 3],
    next: u64,
    targets: Vec<Bits>,
    /// The proxy refuses to allow exactly this.
    bad: u8,
}

impl World {
    fn happens(&mut self, event: Event) {
        self.bridge = std::mem::take(&mut self.bridge).step(event);
    }

    fn is_bad(&self, bits: Bits) -> bool {
        bits.allow == self.bad
    }

    fn play(&mut self, one: &Move) {
        match one {
            Move::Target(bits) => {
                self.targets.push(*bits);
                self.happens(Event::Target(bits.set()));
            }
            Move::Deliver(at) => {
                let part = Part::ALL[*at];
                let shown = self.bridge.shown().version(part);
                let (Some(stream), Some(version)) = (self.streams[*at], shown) else { return };
                if part == Part::Allow && number(&version) == self.bad {
                    self.happens(Event::Refused { stream, version, why: "no".to_owned() });
                } else if self.proxy.holds(part).as_ref() != Some(&version) {
                    let shown = self.bridge.shown().clone();
                    self.proxy.take(part, &shown);
                    self.happens(Event::Took { stream, version });
                }
            }
            Move::Break(at) => {
                if let Some(stream) = self.streams[*at].take() {
                    self.happens(Event::Closed { stream });
                }
            }
            Move::Reopen(at) => {
                if self.streams[*at].is_none() {
                    self.next += 1;
                    self.streams[*at] = Some(self.next);
                    let holds = self.proxy.holds(Part::ALL[*at]);
                    self.happens(Event::Opened { stream: self.next, part: Part::ALL[*at], holds });
                }
            }
            Move::RestartProxy => {
                (0..3).for_each(|at| self.play(&Move::Break(at)));
                self.proxy = Proxy::default();
            }
            Move::Waited => self.happens(Event::Waited),
            Move::RestartAgent => {
                self.streams = [None; 3];
                self.bridge = Bridge::of(&Part::ALL);
                if let Some(last) = self.targets.last() {
                    let set = last.set();
                    self.happens(Event::Target(set));
                }
            }
        }
    }

    fn settle(&mut self) {
        for at in 0..3 {
            self.play(&Move::Reopen(at));
        }
        for _ in 0..12 {
            for at in [2, 0, 1] {
                self.play(&Move::Deliver(at));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: what is allowed is allowed by a whole set that was a target once, and it comes to rest
    /// with the last one, or where that was refused, with one before it or with what denies everything.
    #[test]
    fn nothing_is_allowed_that_no_whole_set_allows_and_it_comes_to_rest(moves in moves(), bad in 0..16_u8) {
        let mut world = World {
            bridge: Bridge::of(&Part::ALL),
            proxy: Proxy::default(),
            streams: [None; 3],
            next: 0,
            targets: Vec::new(),
            bad,
        };
        for one in &moves {
            world.play(one);
            for request in REQUESTS {
                let is_by_a_set = world.targets.iter().any(|bits| bits.allows(request));
                prop_assert!(!world.proxy.allows(request) || is_by_a_set, "{:?} after {one:?}", world.proxy);
            }
        }
        world.settle();
        if let Some(last) = world.targets.last().copied() {
            let decides_alike = |bits: &Bits| REQUESTS.iter().all(|r| bits.allows(*r) == world.proxy.allows(*r));
            if world.is_bad(last) {
                let is_closed = REQUESTS.iter().all(|request| !world.proxy.allows(*request));
                prop_assert!(is_closed || world.targets.iter().any(decides_alike), "{:?}", world.proxy);
            } else {
                prop_assert!(decides_alike(&last), "{:?} is not {last:?}: {:?}", world.proxy, world.bridge);
                prop_assert_eq!(world.bridge.waiting(), 0, "{:?}", world.bridge);
            }
        }
    }
}
