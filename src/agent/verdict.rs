//! Pure: may the CA be told that all of our proxies use what it has pushed?

use std::time::Duration;

use crate::sds::Standing;

/// The longest name of a proxy that goes into a sentence, in characters.
const LONGEST_NODE: usize = 100;

/// How long each thing is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// After the agent's own start: nobody may have come back yet who lived through it.
    pub start: Duration,
    /// The same once somebody has come back: the others retry about as often.
    pub start_seen: Duration,
    /// The agent's own part, a new certificate, say: longer, and the CA is told so.
    pub own: Duration,
    /// A proxy's answer.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(5),
            // The configuration that we recommend has proxies retry every two seconds at least.
            start_seen: Duration::from_millis(2500),
            own: Duration::from_secs(2),
            silence: Duration::from_secs(15),
        }
    }
}

/// What can be said of one push. The sentences are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All proxies use it.
    Accepted,
    /// Nothing yet.
    Waiting(String),
    /// That it is not so, and why.
    Objected(Objection, String),
}

/// Kinds of objection, in the order in which one is worth telling after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Objection {
    /// It will be so, at a moment of our own.
    Later,
    /// Somebody is late.
    Silent,
    /// A proxy refused it.
    Refused,
}

/// How far a push has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The proxies are not offered it yet. It is the agent's own turn, which takes `within`.
    OurTurn {
        /// How long that may take.
        within: Duration,
        /// What is being done.
        doing: String,
    },
    /// They are; this is how they stand to it.
    Offered(Standing),
}

/// One push that is to be judged. Moments are times since the agent's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    heard: Duration,
    offered: Option<Duration>,
}

impl Case {
    /// It was heard at `now`.
    pub(super) fn new(now: Duration) -> Self {
        Self { heard: now, offered: None }
    }

    /// What can be said of it at `now`.
    pub(super) fn judge(self, progress: &Progress, now: Duration, patience: &Patience) -> (Self, Verdict) {
        match progress {
            Progress::OurTurn { within, doing } => {
                let waited = now.saturating_sub(self.heard);
                let verdict = if waited >= within.saturating_add(patience.silence) {
                    let why = format!("the agent {doing}, and has not come to it in time; its log says why");
                    Verdict::Objected(Objection::Silent, why)
                } else if waited >= patience.own {
                    Verdict::Objected(Objection::Later, format!("the agent {doing}"))
                } else {
                    Verdict::Waiting(format!("the agent {doing}"))
                };
                (Self { offered: None, ..self }, verdict)
            }
            Progress::Offered(standing) => {
                let since = self.offered.unwrap_or(now);
                let verdict = of_proxies(standing, now, now.saturating_sub(since), patience);
                (Self { offered: Some(since), ..self }, verdict)
            }
        }
    }
}

fn of_proxies(standing: &Standing, now: Duration, waited: Duration, patience: &Patience) -> Verdict {
    let start = if standing.is_anybody_seen { patience.start_seen } else { patience.start };
    if let Some((node, why)) = &standing.refusal {
        Verdict::Objected(Objection::Refused, refused(node, why, standing.refusals.saturating_sub(1)))
    } else if standing.silent > 0 && waited >= patience.silence {
        let why = silent(&standing.silent_nodes, standing.silent, patience.silence);
        Verdict::Objected(Objection::Silent, why)
    } else if standing.waiting > 0 {
        Verdict::Waiting(format!("{} of the proxies' streams to answer", standing.waiting))
    } else if now < start {
        Verdict::Waiting("proxies that have lived through the agent's start to come back".to_owned())
    } else {
        Verdict::Accepted
    }
}

fn refused(node: &str, why: &str, more: usize) -> String {
    let node = called(node);
    match more {
        0 => format!("proxy {node}: {why}"),
        more => format!("proxy {node}: {why} (and {more} more refused it)"),
    }
}

fn silent(nodes: &[String], count: usize, patience: Duration) -> String {
    let named: Vec<_> = nodes.iter().map(|node| called(node)).collect();
    let (seconds, named_count, list) = (patience.as_secs(), named.len(), named.join(", "));
    match count.saturating_sub(named_count) {
        _ if named_count == 1 => format!("proxy {list} has not answered for {seconds} s"),
        0 => format!("proxies {list} have not answered for {seconds} s"),
        more => format!("proxies {list} and {more} more have not answered for {seconds} s"),
    }
}

/// A proxy's name for itself, in a line of ours.
fn called(node: &str) -> String {
    match node {
        "" => "without a name".to_owned(),
        node => node.chars().filter(|c| !c.is_control()).take(LONGEST_NODE).collect(),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
