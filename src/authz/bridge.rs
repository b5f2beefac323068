//! Pure: in which order do the filters of one proxy go from one set of policies to another, so that no request is decided by half
//! of each?
//!
//! A proxy has a filter that verifies tokens, one that denies and one that allows, and each is changed by itself. Let the sets be
//! one and two. What denies by either of them, before what allows by one of them, decides as that one does, or denies as the other
//! one does. So, from one to two:
//!
//! ```text
//! deny by one or two ──ACK──► allow by two ──ACK──► deny by two
//! ```
//!
//! Where only one filter changes, or there is nothing to deny, steps fall away. Where what counts as a token changes together with
//! the rest, no rule can be asked about both kinds of tokens, so the step in between denies everything; it lasts for as long as the
//! proxy takes to acknowledge two pushes. The same way is gone with a proxy that comes with filters nobody here has made.
//!
//! - A step is taken when all streams of the proxy have acknowledged the one before. A newer set that comes meanwhile is the goal
//!   from the next step on.
//! - What is refused is not tried again; the way leads back to the set that was in force before, and ends there.
//! - A proxy whose streams break comes back with each of them at its own time. Until all are there no step is taken: of a filter that
//!   nobody speaks for it is not known what it does. Where several streams spoke for one filter, one is enough once the others have
//!   been waited for.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::sds::Version;

/// A filter that is changed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// It verifies tokens.
    Tokens,
    /// It denies.
    Deny,
    /// It allows, and denies everything else.
    Allow,
}

/// A whole set of policies, by the versions of what the filters make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Which tokens are verified.
    pub tokens: Version,
    /// What is denied; `None` if nothing is.
    pub deny: Option<Version>,
    /// What is allowed.
    pub allow: Version,
}

/// What a filter that denies is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    /// It denies what any of these denies.
    Of(BTreeSet<Version>),
    /// It denies everything.
    All,
}

/// What a proxy is to be shown. Of a filter that is not there nothing is said, so the proxy goes on with the one it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// Which tokens are verified.
    pub tokens: Option<Version>,
    /// What is denied.
    pub deny: Option<Cover>,
    /// What is allowed.
    pub allow: Option<Version>,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These are the policies now.
    Target(Set),
    /// The proxy has opened a stream for a part; it may hold something already.
    Opened {
        /// Names the stream.
        stream: u64,
        /// The part.
        part: Part,
        /// The version of what it holds.
        holds: Option<Version>,
    },
    /// It uses this version now.
    Took {
        /// The stream.
        stream: u64,
        /// The version.
        version: Version,
    },
    /// It refuses this version.
    Refused {
        /// The stream.
        stream: u64,
        /// The version.
        version: Version,
        /// Why, redacted.
        why: String,
    },
    /// The stream is gone.
    Closed {
        /// The stream.
        stream: u64,
    },
    /// Whoever is missing has been waited for.
    Waited,
}

/// One proxy: all streams that call themselves alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// The filters that such a proxy has.
    parts: Vec<Part>,
    streams: BTreeMap<u64, Stream>,
    /// How many streams of each part there have been at once since the proxy came.
    expected: BTreeMap<Part, usize>,
    target: Option<Set>,
    /// The target that was refused, and why; what is aimed at then is the last one that was in force.
    refused: Option<(Set, String)>,
    /// What the last step was a step to.
    going: Option<Set>,
    /// Nothing more is tried before there is another target.
    is_stuck: bool,
    at: At,
    shown: Show,
    /// What was shown last and taken by all, and where that was.
    taken: Option<(At, Show)>,
    good: Option<Set>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stream {
    part: Part,
    holds: Option<Version>,
    /// What it refused last.
    refused: Option<Version>,
}

/// Where the proxy is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum At {
    /// It has nothing, so each of its filters denies everything.
    #[default]
    Nowhere,
    /// Tokens and what is allowed are of this set, and what this set denies is denied; or it is on the way from there to here
    /// under a cover that denies what either denies.
    Set(Set),
    /// It has something that came from elsewhere.
    Abroad,
}

impl Cover {
    /// It denies this, if it is something.
    pub fn of(one: &Option<Version>) -> Self {
        Self::Of(one.iter().cloned().collect())
    }

    fn of_both(one: &Set, other: &Set) -> Self {
        Self::Of(one.deny.iter().chain(&other.deny).cloned().collect())
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Of(_), Self::All) => false,
            (Self::Of(these), Self::Of(those)) => these.is_superset(those),
        }
    }

    /// The version of the filter. If it denies what one set denies, that is the set's own.
    pub fn version(&self) -> Version {
        match self {
            Self::All => Version::from("all"),
            Self::Of(set) => match (set.len(), set.first()) {
                (0, _) => Version::from("none"),
                (1, Some(only)) => only.clone(),
                _ => Version::of("either", set.iter().map(|one| one.as_str().as_bytes())),
            },
        }
    }
}

impl Show {
    /// All of a set.
    fn of(set: &Set) -> Self {
        let (tokens, allow) = (Some(set.tokens.clone()), Some(set.allow.clone()));
        Self { tokens, deny: Some(Cover::of(&set.deny)), allow }
    }

    /// The version of a part, if anything is said of it.
    pub fn version(&self, part: Part) -> Option<Version> {
        match part {
            Part::Tokens => self.tokens.clone(),
            Part::Deny => self.deny.as_ref().map(Cover::version),
            Part::Allow => self.allow.clone(),
        }
    }
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tokens, Self::Deny, Self::Allow];
}

impl Bridge {
    /// A proxy that has these filters; who lacks some stays as it is.
    pub fn of(parts: &[Part]) -> Self {
        Self { parts: parts.to_vec(), ..Self::default() }
    }

    /// What is so after `event`.
    #[must_use]
    pub fn step(mut self, event: Event) -> Self {
        match event {
            Event::Target(set) => self.aim(set),
            Event::Opened { stream, part, holds } => self.open(stream, part, holds),
            Event::Took { stream, version } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    (stream.holds, stream.refused) = (Some(version), None);
                }
            }
            Event::Refused { stream, version, why } => self.refuse(stream, &version, why),
            Event::Closed { stream } => {
                self.streams.remove(&stream);
                if self.streams.is_empty() {
                    // It comes back as it is, or another one in its place.
                    let Self { parts, target, refused, good, .. } = self;
                    self = Self { parts, target, refused, good, ..Self::default() };
                }
            }
            Event::Waited => self.expected = self.present(),
        }
        while self.advance() {}
        self
    }

    /// What the proxy is to be shown.
    pub fn shown(&self) -> &Show {
        &self.shown
    }

    /// Whether streams are missing that ought to be there.
    pub fn is_incomplete(&self) -> bool {
        let present = self.present();
        self.expected.iter().any(|(part, count)| present.get(part).copied().unwrap_or(0) < *count)
    }

    /// How many streams do not use what the target asks of them.
    pub fn waiting(&self) -> usize {
        let whole = self.target.as_ref().map(Show::of).unwrap_or_default();
        self.streams.values().filter(|stream| stream.holds != whole.version(stream.part)).count()
    }

    /// Why the target is not gone to.
    pub fn refusal(&self) -> Option<&str> {
        let (refused, why) = self.refused.as_ref()?;
        (Some(refused) == self.target.as_ref()).then_some(why)
    }

    /// Whether anything of `set` is shown, or may be shown again.
    pub fn mentions(&self, set: &Set) -> bool {
        let of = |at: &At| matches!(at, At::Set(one) if one == set);
        let denies = |show: &Show| match (&show.deny, &set.deny) {
            (Some(Cover::Of(these)), Some(deny)) => these.contains(deny),
            _ => false,
        };
        let taken = self.taken.as_ref().is_some_and(|(at, show)| of(at) || denies(show));
        of(&self.at)
            || denies(&self.shown)
            || taken
            || [&self.target, &self.good, &self.going].into_iter().any(|one| one.as_ref() == Some(set))
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    fn present(&self) -> BTreeMap<Part, usize> {
        let mut present = BTreeMap::new();
        for stream in self.streams.values() {
            *present.entry(stream.part).or_default() += 1;
        }
        present
    }

    fn aim(&mut self, set: Set) {
        if self.target.as_ref() != Some(&set) {
            (self.refused, self.is_stuck) = (None, false);
        }
        self.target = Some(set);
    }

    fn open(&mut self, stream: u64, part: Part, holds: Option<Version>) {
        let is_known = holds.is_none() || holds == self.shown.version(part);
        // Each comes at its own time, and one that has had a stream before may hold something.
        for part in &self.parts {
            self.expected.entry(*part).or_insert(1);
        }
        if !is_known {
            (self.at, self.taken, self.shown) = (At::Abroad, None, Show::default());
        }
        self.streams.insert(stream, Stream { part, holds, refused: None });
        for (part, count) in self.present() {
            let most = self.expected.entry(part).or_default();
            *most = count.max(*most);
        }
    }

    fn refuse(&mut self, stream: u64, version: &Version, why: String) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        if stream.refused.replace(version.clone()).as_ref() == Some(version) {
            return;
        }
        let stream = stream.clone();
        if self.shown.version(stream.part).as_ref() != Some(version) {
            return;
        }
        let culprit = match (&self.at, stream.part) {
            (At::Set(set), Part::Tokens | Part::Allow) => Some(set.clone()),
            _ => self.going.clone(),
        };
        if self.refused.is_some() {
            self.is_stuck = true;
        } else if culprit == self.target {
            self.refused = culprit.map(|set| (set, why));
        }
        if let Some((at, shown)) = self.taken.clone() {
            (self.at, self.shown) = (at, shown);
        }
    }

    /// Whether nobody is there for one of the filters. What that one does is not known then, and nothing else may change beside it, however
    /// long it has been waited for.
    fn lacks_a_part(&self) -> bool {
        let is_there = |part: &Part| self.streams.values().any(|stream| stream.part == *part);
        !self.parts.iter().all(is_there)
    }

    /// Whether every stream uses what it is shown. Whoever refuses the first thing it is sent goes on denying everything.
    fn is_settled(&self) -> bool {
        self.streams.values().all(|stream| match self.shown.version(stream.part) {
            None => true,
            shown => stream.holds == shown || stream.holds.is_none() && stream.refused == shown,
        })
    }

    /// The set that is gone to.
    fn goal(&self) -> Option<Set> {
        match &self.refused {
            _ if self.is_stuck => None,
            None => self.target.clone(),
            Some((refused, _)) => self.good.clone().filter(|good| good != refused),
        }
    }

    /// Takes one step, if it is time for one.
    fn advance(&mut self) -> bool {
        if self.at == At::Abroad && self.come_home() {
            return true;
        }
        if self.is_empty() || self.is_incomplete() || self.lacks_a_part() || !self.is_settled() {
            return false;
        }
        if self.shown != Show::default() {
            self.taken = Some((self.at.clone(), self.shown.clone()));
        }
        if let At::Set(set) = &self.at {
            self.good = Some(set.clone());
        }
        let Some(goal) = self.goal() else { return false };
        self.going = Some(goal.clone());
        match &self.at {
            At::Nowhere => (self.shown, self.at) = (Show::of(&goal), At::Set(goal)),
            At::Abroad if self.shown.deny != Some(Cover::All) => self.shown.deny = Some(Cover::All),
            At::Abroad => self.enter(goal),
            At::Set(from) if *from == goal && self.shown.deny == Some(Cover::of(&goal.deny)) => return false,
            At::Set(from) => {
                let from = from.clone();
                self.cross(&from, goal);
            }
        }
        true
    }

    /// A proxy that came with filters which differ from the goal in one of them at most can take that one as it is.
    fn come_home(&mut self) -> bool {
        let Some(goal) = self.goal() else { return false };
        let whole = Show::of(&goal);
        let differs = |part: Part| {
            let mut held = self.streams.values().filter(move |one| one.part == part).map(|one| &one.holds);
            held.any(|holds| *holds != whole.version(part))
        };
        let is_near = Part::ALL.into_iter().filter(|part| differs(*part)).count() <= 1;
        if self.is_empty()
            || self.is_incomplete()
            || self.lacks_a_part()
            || self.shown.deny.is_some()
            || !is_near
        {
            return false;
        }
        self.going = Some(goal.clone());
        (self.shown, self.at) = (whole, At::Set(goal));
        true
    }

    /// The step from one set towards another.
    fn cross(&mut self, from: &Set, goal: Set) {
        let shown = self.shown.deny.clone().unwrap_or(Cover::All);
        let (same_tokens, same_allow) = (from.tokens == goal.tokens, from.allow == goal.allow);
        let only_one = from.deny == goal.deny && shown == Cover::of(&goal.deny) && same_tokens != same_allow;
        let cover = if same_tokens { Cover::of_both(from, &goal) } else { Cover::All };
        if same_tokens && same_allow {
            (self.shown.deny, self.at) = (Some(Cover::of(&goal.deny)), At::Set(goal));
        } else if only_one || shown.covers(&cover) {
            self.enter(goal);
        } else {
            self.shown.deny = Some(cover);
        }
    }

    /// Under a cover: all that is not denied is by the goal from now on.
    fn enter(&mut self, goal: Set) {
        (self.shown.tokens, self.shown.allow) = (Some(goal.tokens.clone()), Some(goal.allow.clone()));
        self.at = At::Set(goal);
    }
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
