//! What replicas can know in the model, and how the leader makes evidence of it. Nothing here looks at what is really so.
//!
//! A replica notes a leaf, and the roots that go with it, before it signs; what was sent on a stream and not acknowledged when
//! the stream broke is unknown; and moments that two clocks may have the wrong way round count both ways.

use std::sync::Arc;

use super::world::At;
use super::world::LIFE;
use super::world::SKEW;
use super::world::View;
use super::world::Word;
use super::world::Workload;
use super::world::WorkloadKind;
use super::world::moment;
use super::world::name;
use crate::authority::gate::Link;
use crate::authority::gate::Reader;
use crate::authority::gate::ReaderKind;
use crate::authority::gate::Replica;
use crate::authority::state::Stage;
use crate::authority::test_support::pool;

type Digest = Option<Arc<str>>;

/// What one replica knows, by workload.
#[derive(Clone)]
pub(super) struct Ledger(Vec<Entry>);

#[derive(Clone, Default)]
struct Entry {
    line: Option<Line>,
    /// What it was known to trust, and when.
    facts: Vec<(At, Digest)>,
    is_agent: bool,
    lost: Option<At>,
    /// It uses leaves of this authority alone, it said then.
    moved: Option<(usize, At)>,
    leaves: Vec<Signed>,
}

#[derive(Clone, Copy)]
struct Signed {
    authority: usize,
    until: At,
    at: At,
}

/// A stream.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) number: u64,
    sent: Digest,
    /// The number of the last push.
    nonce: u64,
    sent_at: At,
    issuer_sent: Option<usize>,
    acked: Digest,
    acked_at: At,
    /// Since when something is sent that it has not acknowledged.
    unknown_since: Option<At>,
    issuer: Option<usize>,
    trouble: bool,
}

impl Line {
    /// Whether the roots and the issuer have to be pushed; an unchanged one is not.
    pub(super) fn says(
        &mut self,
        digest: &str,
        issuer: usize,
        clock: At,
        forgives: bool,
    ) -> (Option<u64>, bool) {
        let told = self.issuer_sent.replace(issuer) != Some(issuer);
        if self.sent.as_deref() == Some(digest) {
            return (None, told);
        }
        (self.sent, self.sent_at) = (Some(digest.into()), clock);
        if !forgives {
            // Even if it is what was acknowledged before: the agent has something else to go through first.
            self.nonce += 1;
            self.unknown_since = self.unknown_since.or(Some(clock));
        }
        (Some(self.nonce), told)
    }

    /// What all of its proxies use, as far as it has said.
    fn settled(&self) -> Digest {
        self.acked.clone().filter(|_| self.sent == self.acked && self.unknown_since.is_none())
    }
}

impl Ledger {
    pub(super) fn new(workloads: usize) -> Self {
        Self(vec![Entry::default(); workloads])
    }

    pub(super) fn line(&mut self, w: usize) -> Option<&mut Line> {
        self.0[w].line.as_mut()
    }

    pub(super) fn open(
        &mut self,
        w: usize,
        number: u64,
        (roots, issuer): (Digest, Option<usize>),
        clock: At,
        forgets: bool,
    ) {
        self.close_unless(w, None, clock, forgets);
        let entry = &mut self.0[w];
        entry.is_agent = true;
        entry.moved = issuer.map(|issuer| (issuer, clock)).or(entry.moved);
        entry.line = Some(Line {
            number,
            sent: roots.clone(),
            sent_at: clock,
            issuer_sent: issuer,
            nonce: 0,
            acked: roots,
            acked_at: clock,
            unknown_since: None,
            issuer,
            trouble: false,
        });
    }

    pub(super) fn close_unless(&mut self, w: usize, number: Option<u64>, clock: At, forgets: bool) {
        let entry = &mut self.0[w];
        let Some(line) = entry.line.take_if(|line| Some(line.number) != number) else { return };
        entry.lost = Some(clock);
        if line.acked.is_some() {
            entry.facts.push((line.acked_at, line.acked.clone()));
        }
        if line.settled().is_none() && !forgets {
            entry.facts.push((clock, None));
        }
    }

    pub(super) fn heard(&mut self, w: usize, number: u64, word: &Word, clock: At) {
        let entry = &mut self.0[w];
        let Some(line) = entry.line.as_mut().filter(|line| line.number == number) else { return };
        match word {
            Word::Roots(digest, nonce) if *nonce == line.nonce => {
                (line.acked, line.acked_at, line.trouble) = (Some(digest.clone()), clock, false);
                line.unknown_since = None;
            }
            Word::Roots(..) => {}
            Word::Issuer(issuer) => {
                line.issuer = Some(*issuer);
                entry.moved = Some((*issuer, clock));
            }
            Word::Refused => line.trouble = true,
        }
    }

    /// It is about to sign.
    pub(super) fn signed(&mut self, w: usize, authority: usize, until: At, digest: Digest, clock: At) {
        let entry = &mut self.0[w];
        entry.leaves.retain(|one| one.until > clock - 2 * SKEW);
        entry.leaves.push(Signed { authority, until, at: clock });
        entry.facts.extend(digest.map(|digest| (clock, Some(digest))));
    }
}

/// What a replica has told the leader.
pub(super) struct Seen {
    pub(super) sequence: u64,
    pub(super) steps: u64,
    pub(super) signs_with: Option<usize>,
    pub(super) ledger: Ledger,
}

impl Seen {
    /// One that is known and has told nothing yet.
    pub(super) fn silent(workloads: usize) -> Self {
        Self { sequence: 0, steps: 0, signs_with: None, ledger: Ledger::new(workloads) }
    }

    pub(super) fn replica(&self, view: &View) -> Replica {
        Replica {
            name: "replica".to_owned(),
            sequence: self.sequence,
            steps: self.steps,
            signs_with: pool().id(self.signs_with.unwrap_or(view.active)),
        }
    }
}

/// How the leader makes evidence.
pub(super) struct Judge {
    pub(super) now: At,
    pub(super) moved_by_silence: bool,
    pub(super) trusts_clocks: bool,
}

impl Judge {
    pub(super) fn readers(
        &self,
        view: &View,
        workloads: &[Workload],
        heard: &[Seen],
        unheard: &[At],
    ) -> Vec<Reader> {
        let known = workloads.iter().enumerate().filter_map(|(w, workload)| {
            let entries: Vec<_> = heard.iter().filter_map(|one| one.ledger.0.get(w)).collect();
            self.reader(view, w, workload.kind == WorkloadKind::Pod, &entries)
        });
        let all = self.all(view);
        let unheard = unheard.iter().map(|until| Reader {
            name: "unheard".to_owned(),
            kind: ReaderKind::Unheard,
            leaves: all.iter().map(|one| (pool().id(*one), moment(*until))).collect(),
            ..Self::nobody()
        });
        known.chain(unheard).collect()
    }

    /// Whoever may have signed.
    fn all(&self, view: &View) -> Vec<usize> {
        let have_signed = view.state.authorities().iter().filter(|one| one.stage != Stage::Prepared);
        have_signed.map(|one| pool().number(&one.id)).collect()
    }

    fn nobody() -> Reader {
        Reader {
            name: String::new(),
            pod: None,
            node: None,
            kind: ReaderKind::Client,
            link: Link::None { lost: None },
            bundle: None,
            trouble: None,
            leaves: vec![],
        }
    }

    /// How far apart two moments have to be to be the one before the other.
    fn doubt(&self) -> At {
        if self.trusts_clocks { 0 } else { 2 * SKEW }
    }

    fn reader(&self, view: &View, w: usize, by_files: bool, entries: &[&Entry]) -> Option<Reader> {
        let is_agent = entries.iter().any(|one| one.is_agent);
        let lines: Vec<_> = entries.iter().filter_map(|one| one.line.as_ref()).collect();
        if lines.is_empty() && entries.iter().all(|one| one.leaves.is_empty()) {
            return None;
        }
        let kind = match (by_files, is_agent) {
            (true, _) => ReaderKind::Pod,
            (false, true) => ReaderKind::Agent,
            (false, false) => ReaderKind::Client,
        };
        let moved = entries.iter().filter_map(|one| one.moved).max_by_key(|(_, at)| *at);
        let may_be_used = |one: &&Signed| {
            moved.is_none_or(|(issuer, at)| one.authority == issuer || one.at >= at - self.doubt())
        };
        let signed = entries.iter().flat_map(|one| &one.leaves).filter(may_be_used);
        let mut leaves: Vec<_> = signed.map(|one| (pool().id(one.authority), moment(one.until))).collect();
        for line in lines.iter().filter(|_| !self.moved_by_silence) {
            let until = moment(self.now + LIFE);
            match line.issuer {
                Some(issuer) => leaves.push((pool().id(issuer), until)),
                None => leaves.extend(self.all(view).into_iter().map(|one| (pool().id(one), until))),
            }
        }
        let sent =
            lines.iter().filter(|line| line.settled().is_none()).map(|line| moment(line.sent_at)).min();
        Some(Reader {
            name: name(w),
            kind,
            link: match lines.is_empty() {
                true => Link::None { lost: entries.iter().filter_map(|one| one.lost).max().map(moment) },
                false => Link::Open { sent },
            },
            bundle: self.trusted(entries, &lines).map(|digest| digest.to_string()),
            trouble: lines.iter().any(|line| line.trouble).then(|| "refused".to_owned()),
            leaves,
            ..Self::nobody()
        })
    }

    /// What it is known to trust: what all its streams say, and the latest that anybody knows.
    fn trusted(&self, entries: &[&Entry], lines: &[&Line]) -> Digest {
        let said = lines.iter().map(|line| (line.acked_at, line.settled()));
        let facts: Vec<_> =
            entries.iter().flat_map(|one| one.facts.iter().cloned()).chain(said.clone()).collect();
        let (latest, digest) = facts.iter().max_by_key(|(at, _)| *at)?;
        let in_doubt = facts.iter().filter(|(at, _)| *at >= *latest - self.doubt()).chain(&[]);
        let mut all = in_doubt.map(|(_, one)| one.clone()).chain(said.map(|(_, one)| one));
        digest.clone().filter(|_| all.all(|one| one == *digest))
    }
}
