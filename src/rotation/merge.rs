//! Pure: what all replicas know together, as evidence for the next step.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::authority::AuthorityId;
use crate::authority::Evidence;
use crate::authority::Link;
use crate::authority::Publication;
use crate::authority::Reader;
use crate::authority::ReaderKind;
use crate::authority::Replica;
use crate::census::Holder;
use crate::census::Open;
use crate::census::Span;
use crate::rotation::bulletin::Bulletin;
use crate::rotation::bulletin::moment;

/// What is known in this process: its own bulletin, and those of others.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its own.
    pub own: Bulletin,
    /// Those of others that are alive.
    pub alive: Vec<Bulletin>,
    /// Those of others that have gone silent.
    pub silent: Vec<Bulletin>,
    /// Why that may not be all, if it may not.
    pub gap: Option<String>,
    /// Whether the roots are also published for those who read files.
    pub publishes: bool,
}

/// Times that evidence is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long files take to follow what is published.
    pub refresh: Duration,
    /// How long any leaf may be used, clocks that are late included.
    pub longest_leaf: Duration,
}

/// One holder as all replicas together know it.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// It, with its open streams everywhere.
    pub holder: Arc<Holder>,
    /// The replica that it has a stream to, if it is another one.
    pub replica: Option<String>,
}

impl Merged {
    /// Its leaves that may be in use, by authority: what was signed before it said that it uses nothing else, it does not use.
    pub fn leaves(&self) -> impl Iterator<Item = (&String, &Span)> {
        in_use(&self.holder)
    }
}

fn in_use(holder: &Holder) -> impl Iterator<Item = (&String, &Span)> {
    let moved = holder.moved.as_ref();
    let may_be = move |(id, span): &(&String, &Span)| {
        moved.is_none_or(|(authority, at)| *id == authority || span.signed > *at)
    };
    holder.leaves.iter().filter(may_be)
}

/// All holders, each once, by name.
pub fn holders(known: &Known) -> Vec<Merged> {
    let own = &known.own.holders;
    if known.alive.is_empty() && known.silent.is_empty() && known.own.gone.is_empty() {
        // Each is there once, and by name.
        return own.iter().map(|holder| Merged { holder: holder.clone(), replica: None }).collect();
    }
    let ended: Vec<_> = known.silent.iter().map(|one| one.clone().ended()).collect();
    let mut all: HashMap<&str, Merged> = HashMap::with_capacity(own.len());
    own.iter().for_each(|one| join(&mut all, one, None));
    for bulletin in &known.alive {
        bulletin.holders.iter().for_each(|one| join(&mut all, one, Some(&bulletin.replica)));
    }
    for bulletin in &ended {
        bulletin.holders.iter().for_each(|one| join(&mut all, one, None));
    }
    // The processes of a pod that is gone are gone, and nobody verifies anything by what they had.
    let is_gone =
        |id: &str| known.own.gone.contains(id) || known.alive.iter().any(|one| one.gone.contains(id));
    all.retain(|id, one| !one.holder.open.is_empty() || !is_gone(id));
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by(|one, other| name(&one.holder).cmp(&name(&other.holder)));
    all
}

fn name(holder: &Holder) -> (&str, &str) {
    (&holder.spiffe_id, &holder.id)
}

fn join<'a>(all: &mut HashMap<&'a str, Merged>, one: &'a Arc<Holder>, replica: Option<&str>) {
    let Some(known) = all.get_mut(one.id.as_str()) else {
        let replica = replica.filter(|_| !one.open.is_empty()).map(str::to_owned);
        all.insert(&one.id, Merged { holder: one.clone(), replica });
        return;
    };
    if !one.open.is_empty() && known.holder.open.is_empty() {
        known.replica = replica.map(str::to_owned);
    }
    let holder = Arc::make_mut(&mut known.holder);
    let by_itself = (holder.streams, one.streams);
    holder.streams |= one.streams;
    holder.pod = holder.pod.take().or_else(|| one.pod.clone());
    holder.node = holder.node.take().or_else(|| one.node.clone());
    holder.lost = holder.lost.max(one.lost);
    holder.open.extend(one.open.iter().cloned());
    for (authority, span) in &one.leaves {
        let known = holder.leaves.entry(authority.clone()).or_default();
        known.until = known.until.max(span.until);
        known.signed = known.signed.max(span.signed);
    }
    let later = |known: &Option<(String, i64)>, other: &Option<(String, i64)>| {
        other.as_ref().is_some_and(|(_, at)| known.as_ref().is_none_or(|(_, known)| at > known))
    };
    // What it says on a stream to one replica counts more than what another has answered.
    if by_itself == (false, true) || by_itself != (true, false) && later(&holder.bundle, &one.bundle) {
        holder.bundle.clone_from(&one.bundle);
    }
    if later(&holder.moved, &one.moved) {
        holder.moved.clone_from(&one.moved);
    }
}

/// What the last evidence was made of. Most holders are the same at the next look, and so are the readers made of them.
#[derive(Debug, Default)]
pub struct Gathered {
    holders: Vec<Arc<Holder>>,
    /// One for each of them, and then those that are no holders.
    readers: Vec<Reader>,
}

impl Gathered {
    /// The readers for `all`, in their order.
    fn readers_of(&mut self, all: Vec<Merged>) -> Vec<Reader> {
        let mut readers = std::mem::take(&mut self.readers);
        readers.truncate(self.holders.len());
        let is_known = |(known, one): (&Arc<Holder>, &Merged)| {
            Arc::ptr_eq(known, &one.holder) || name(known) == name(&one.holder)
        };
        let are_known = readers.len() == all.len() && self.holders.iter().zip(&all).all(is_known);
        if !are_known {
            // Somebody has come or gone.
            self.holders = all.into_iter().map(|one| one.holder).collect();
            readers.clear();
            readers.extend(self.holders.iter().map(|holder| reader(holder)));
            return readers;
        }
        for ((known, made), one) in self.holders.iter_mut().zip(&mut readers).zip(all) {
            if !Arc::ptr_eq(known, &one.holder) {
                *made = reader(&one.holder);
                *known = one.holder;
            }
        }
        readers
    }

    /// Takes the evidence back, for the next look.
    pub fn keep(&mut self, evidence: Evidence) {
        self.readers = evidence.readers;
    }
}

/// The evidence for steps from a state whose roots have this digest.
pub fn evidence(known: &Known, digest: &str, patience: &Patience) -> Evidence {
    gather(&mut Gathered::default(), known, digest, patience)
}

/// The same, with what was gathered before.
pub fn gather(before: &mut Gathered, known: &Known, digest: &str, patience: &Patience) -> Evidence {
    let mut readers = before.readers_of(holders(known));
    readers.extend(unheard(known, patience));
    let replicas = std::iter::once(&known.own).chain(&known.alive).map(|one| Replica {
        name: one.replica.clone(),
        sequence: one.sequence,
        steps: one.steps,
        signs_with: AuthorityId::from(one.signs_with.as_str()),
    });
    let mut leader = std::iter::once(&known.own).chain(&known.alive);
    let publication = match known.publishes {
        false => Publication::NotNeeded,
        true => {
            let done = leader.clone().filter_map(|one| one.published.as_ref());
            match done.filter(|(of, _)| of == digest).map(|(_, since)| *since).max() {
                Some(since) => Publication::Done { since: moment(since) },
                None => Publication::Pending { places: leader.find_map(|one| one.missing_in) },
            }
        }
    };
    let refresh = time::Duration::try_from(patience.refresh).unwrap_or(time::Duration::MAX);
    Evidence { readers, replicas: replicas.collect(), gap: known.gap.clone(), publication, refresh }
}

/// Whoever may have a leaf that is in nobody's book: what a replica signed right before it went silent, for those who do not
/// tell of themselves.
fn unheard(known: &Known, patience: &Patience) -> Vec<Reader> {
    let reader = |replica: &str, signs_with: &str, until: OffsetDateTime| Reader {
        name: format!("unheard of, at replica `{replica}`"),
        pod: None,
        node: None,
        kind: ReaderKind::Unheard,
        link: Link::None { lost: None },
        bundle: None,
        trouble: None,
        leaves: vec![(AuthorityId::from(signs_with), until)],
    };
    let mut found = Vec::new();
    for one in std::iter::once(&known.own).chain(&known.alive).chain(&known.silent) {
        if let Some(until) = one.unheard_until {
            found.push(reader(&one.replica, &one.signs_with, moment(until)));
        }
    }
    // Who holds a stream elsewhere tells of itself there, also of what it was given here.
    let all = || std::iter::once(&known.own).chain(&known.alive).chain(&known.silent);
    let agents: HashSet<&str> =
        all().flat_map(|one| &one.holders).filter(|one| one.streams).map(|one| one.id.as_str()).collect();
    let is_client = |one: &Holder| !one.streams && !one.by_files && !agents.contains(one.id.as_str());
    for one in known.silent.iter().filter(|one| one.holders.iter().any(|holder| is_client(holder))) {
        found.push(reader(&one.replica, &one.signs_with, moment(one.at) + patience.longest_leaf));
    }
    found
}

/// How a reader hears of new roots.
pub(super) fn kind(holder: &Holder) -> ReaderKind {
    match (holder.by_files, holder.streams) {
        (true, _) => ReaderKind::Pod,
        (false, true) => ReaderKind::Agent,
        (false, false) => ReaderKind::Client,
    }
}

/// The digest of the roots that all of it is known to trust.
pub(super) fn trusted(holder: &Holder) -> Option<&str> {
    match holder.open.as_slice() {
        [] => acknowledged(holder),
        [first, rest @ ..] => {
            first.trusted().filter(|roots| rest.iter().all(|one| one.trusted() == Some(roots)))
        }
    }
}

/// The digest of the roots that all of it has acknowledged last, even if others were sent since.
pub(super) fn acknowledged(holder: &Holder) -> Option<&str> {
    match holder.open.as_slice() {
        [] => holder.bundle.as_ref().map(|(digest, _)| digest.as_str()).filter(|digest| !digest.is_empty()),
        [first, rest @ ..] => {
            first.roots.as_deref().filter(|roots| rest.iter().all(|one| one.roots.as_deref() == Some(roots)))
        }
    }
}

fn reader(holder: &Holder) -> Reader {
    let nack = |one: &Open| one.nack.as_ref().map(|why| named(one, why));
    Reader {
        name: holder.spiffe_id.clone(),
        pod: holder.pod.clone(),
        node: holder.node.clone(),
        kind: kind(holder),
        link: match holder.open.as_slice() {
            [] => Link::None { lost: holder.lost.filter(|_| holder.streams).map(moment) },
            open => {
                let sent = open
                    .iter()
                    .filter(|one| one.sent.as_ref().map(|(digest, _)| digest) != one.roots.as_ref());
                Link::Open { sent: sent.filter_map(|one| one.sent.as_ref()).map(|(_, at)| moment(*at)).min() }
            }
        },
        bundle: trusted(holder).map(str::to_owned),
        trouble: holder.open.iter().find_map(nack),
        leaves: in_use(holder)
            .map(|(id, span)| (AuthorityId::from(id.as_str()), moment(span.until)))
            .collect(),
    }
}

fn named(open: &Open, why: &str) -> String {
    match open.agent.is_empty() {
        true => why.to_owned(),
        false => format!("{why} (agent {})", open.agent),
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
