//! What is said of a push, and when.

use proptest::prelude::*;

use super::*;

const PATIENCE: Patience = Patience {
    start: Duration::from_secs(5),
    start_seen: Duration::from_millis(2500),
    own: Duration::from_secs(2),
    silence: Duration::from_secs(15),
};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn seen() -> Standing {
    Standing { is_anybody_seen: true, ..Standing::default() }
}

fn waiting(silent: &[&str], more: usize) -> Standing {
    let silent_nodes: Vec<_> = silent.iter().map(|&node| node.to_owned()).collect();
    let silent = silent_nodes.len() + more;
    Standing { waiting: silent.max(1), silent, silent_nodes, ..seen() }
}

/// What is said at `at` of what was offered at `offered`.
fn judged(standing: Standing, offered: u64, at: u64) -> Verdict {
    let progress = Progress::Offered(standing);
    let (case, _) = Case::new(ms(offered)).judge(&progress, ms(offered), &PATIENCE);
    case.judge(&progress, ms(at), &PATIENCE).1
}

fn objected(verdict: &Verdict) -> Option<(Objection, &str)> {
    match verdict {
        Verdict::Objected(kind, why) => Some((*kind, why)),
        Verdict::Accepted | Verdict::Waiting(_) => None,
    }
}

#[test]
fn nothing_is_accepted_before_proxies_that_lived_through_our_start_can_be_back() {
    for (standing, at, is_accepted) in [
        (Standing::default(), 4999, false),
        (Standing::default(), 5000, true),
        (seen(), 2499, false),
        (seen(), 2500, true),
        (waiting(&[], 0), 5000, false),
    ] {
        assert_eq!(judged(standing.clone(), 0, at) == Verdict::Accepted, is_accepted, "{standing:?} {at}");
    }
}

#[test]
fn a_refusal_is_told_at_once_with_its_reason() {
    let one = Standing { refusals: 1, refusal: Some(("x".into(), "no".into())), ..waiting(&["y"], 0) };
    assert_eq!(objected(&judged(one.clone(), 0, 0)), Some((Objection::Refused, "proxy x: no")));
    let three = Standing { refusals: 3, ..one };
    let said = judged(three, 0, 60_000);
    assert_eq!(objected(&said), Some((Objection::Refused, "proxy x: no (and 2 more refused it)")));
}

#[test]
fn silent_proxies_are_named_once_they_and_the_push_are_old_enough() {
    assert!(matches!(judged(waiting(&["x"], 0), 10_000, 24_999), Verdict::Waiting(_)));
    assert!(matches!(judged(waiting(&[], 0), 0, 60_000), Verdict::Waiting(_)), "it came late");
    let long = "z".repeat(500);
    let cut = format!("proxy {} has not answered for 15 s", "z".repeat(100));
    for (silent, more, said) in [
        (&["x"][..], 0, "proxy x has not answered for 15 s"),
        (&["x\n"], 1, "proxy x has not answered for 15 s"),
        (&["x", "y"], 0, "proxies x, y have not answered for 15 s"),
        (&["a", "b", "c", "d", "e"], 2, "proxies a, b, c, d, e and 2 more have not answered for 15 s"),
        (&[""], 0, "proxy without a name has not answered for 15 s"),
        (&[long.as_str()], 0, &cut),
    ] {
        let verdict = judged(waiting(silent, more), 10_000, 25_000);
        assert_eq!(objected(&verdict), Some((Objection::Silent, said)));
    }
}

#[test]
fn our_own_part_is_waited_for_shortly_then_told_and_at_last_told_to_be_late() {
    let turn = Progress::OurTurn { within: ms(60_000), doing: "moves".to_owned() };
    let at = |at| Case::new(ms(10_000)).judge(&turn, ms(at), &PATIENCE).1;
    assert!(matches!(at(11_999), Verdict::Waiting(_)));
    assert_eq!(objected(&at(12_000)), Some((Objection::Later, "the agent moves")));
    assert_eq!(objected(&at(84_999)).map(|(kind, _)| kind), Some(Objection::Later));
    assert_eq!(objected(&at(85_000)).map(|(kind, _)| kind), Some(Objection::Silent));
}

#[test]
fn what_is_taken_back_from_the_proxies_begins_anew() {
    let offered = Progress::Offered(waiting(&["x"], 0));
    let turn = Progress::OurTurn { within: ms(60_000), doing: "moves".to_owned() };
    let (case, _) = Case::new(ms(0)).judge(&offered, ms(0), &PATIENCE);
    let (case, _) = case.judge(&turn, ms(1000), &PATIENCE);
    let (case, _) = case.judge(&offered, ms(14_000), &PATIENCE);
    assert!(matches!(case.judge(&offered, ms(28_999), &PATIENCE).1, Verdict::Waiting(_)));
    assert!(matches!(case.judge(&offered, ms(29_000), &PATIENCE).1, Verdict::Objected(Objection::Silent, _)));
}

proptest! {
    #[test]
    fn nothing_is_accepted_while_anybody_waits_or_refuses(
        waiting in 0_usize..3, refusals in 0_usize..3, silent in 0_usize..3, at in 0_u64..100_000,
    ) {
        let refusal = (refusals > 0).then(|| ("x".to_owned(), "no".to_owned()));
        let standing = Standing { is_anybody_seen: true, refusals, refusal, waiting, silent: silent.min(waiting), silent_nodes: vec![] };
        let verdict = judged(standing, 0, at);
        prop_assert_eq!(verdict == Verdict::Accepted, waiting == 0 && refusals == 0 && at >= 2500);
    }
}
