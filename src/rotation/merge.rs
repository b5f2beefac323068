//! Pure: what all replicas know together, as evidence for the next step.

use std::collections::HashMap;
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
    pub holder: Holder,
    /// The replica that it has a stream to, if it is another one.
    pub replica: Option<String>,
}

/// All holders, each once.
pub fn holders(known: &Known) -> Vec<Merged> {
    let mut all: HashMap<String, Merged> = HashMap::new();
    for one in &known.own.holders {
        join(&mut all, one.clone(), None);
    }
    for bulletin in &known.alive {
        for one in &bulletin.holders {
            join(&mut all, one.clone(), Some(&bulletin.replica));
        }
    }
    for bulletin in &known.silent {
        for one in bulletin.clone().ended().holders {
            join(&mut all, one, None);
        }
    }
    // The processes of a pod that is gone are gone, and nobody verifies anything by what they had.
    let is_gone =
        |id: &str| known.own.gone.contains(id) || known.alive.iter().any(|one| one.gone.contains(id));
    all.retain(|id, one| !one.holder.open.is_empty() || !is_gone(id));
    let mut all: Vec<_> = all.into_values().collect();
    for one in &mut all {
        let Holder { leaves, moved, .. } = &mut one.holder;
        if let Some((authority, at)) = moved {
            // What was signed before it said that it uses nothing else, it does not use.
            leaves.retain(|id, span| id == authority || span.signed > *at);
        }
    }
    all.sort_by(|one, other| {
        (&one.holder.spiffe_id, &one.holder.id).cmp(&(&other.holder.spiffe_id, &other.holder.id))
    });
    all
}

fn join(all: &mut HashMap<String, Merged>, one: Holder, replica: Option<&str>) {
    let Some(known) = all.get_mut(&one.id) else {
        let replica = replica.filter(|_| !one.open.is_empty()).map(str::to_owned);
        all.insert(one.id.clone(), Merged { holder: one, replica });
        return;
    };
    if !one.open.is_empty() && known.holder.open.is_empty() {
        known.replica = replica.map(str::to_owned);
    }
    let holder = &mut known.holder;
    holder.streams |= one.streams;
    holder.pod = holder.pod.take().or(one.pod);
    holder.node = holder.node.take().or(one.node);
    holder.lost = holder.lost.max(one.lost);
    holder.open.extend(one.open);
    for (authority, span) in one.leaves {
        let known = holder.leaves.entry(authority).or_default();
        known.until = known.until.max(span.until);
        known.signed = known.signed.max(span.signed);
    }
    let later = |known: &Option<(String, i64)>, other: &Option<(String, i64)>| {
        other.as_ref().is_some_and(|(_, at)| known.as_ref().is_none_or(|(_, known)| at > known))
    };
    if later(&holder.bundle, &one.bundle) {
        holder.bundle = one.bundle;
    }
    if later(&holder.moved, &one.moved) {
        holder.moved = one.moved;
    }
}

/// The evidence for steps from a state whose roots have this digest.
pub fn evidence(known: &Known, digest: &str, patience: &Patience) -> Evidence {
    let mut readers: Vec<_> = holders(known).iter().map(|one| reader(&one.holder)).collect();
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
    for one in known.silent.iter().filter(|one| one.has_clients()) {
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

/// The digest of the roots that all of it trusts.
pub(super) fn trusted(holder: &Holder) -> Option<&str> {
    match holder.open.as_slice() {
        [] => holder.bundle.as_ref().map(|(digest, _)| digest.as_str()),
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
        leaves: holder
            .leaves
            .iter()
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
