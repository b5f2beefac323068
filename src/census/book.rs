//! Pure: who may have which certificates, and which roots are they known to trust?
//!
//! A holder is a service account in one pod; without a pod, each leaf is a holder of its own. What is known of a holder is what
//! it has said, or what it was answered. Nothing is known of what it has done with it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use ring::digest;
use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;

use crate::x509::certificate::hex;

/// Who asks for a certificate, or for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// Its pod, as `namespace/name`, and the pod's uid.
    pub pod: Option<(String, String)>,
    /// Its node.
    pub node: Option<String>,
    /// Whether a kubelet brings it certificates and roots as files.
    pub by_files: bool,
}

/// A leaf that is about to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The authority that signs it.
    pub authority: String,
    /// Until when it may be used, clocks that are late included.
    pub until: OffsetDateTime,
    /// Its serial number.
    pub serial: String,
    /// Digest of the roots that go out with it.
    pub bundle: String,
}

/// Something that a stream is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The roots of this digest.
    Roots(String),
    /// That leaves ought to be of this authority.
    Authority(String),
}

/// What is known of one holder, as far as it outlives this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Names it.
    pub id: String,
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// Its pod, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether a kubelet brings it certificates and roots as files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_files: bool,
    /// Whether it has ever had a stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streams: bool,
    /// By authority: its leaves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaves: BTreeMap<String, Span>,
    /// Digest of the roots that it is known to trust, and since when, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<(String, i64)>,
    /// The authority that all its leaves in use were of, and when that was so, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<(String, i64)>,
    /// When its last stream ended, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<i64>,
    /// What its open streams have said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Open>,
}

/// The leaves of one holder under one authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Until when the last of them may be used, in seconds since 1970.
    pub until: i64,
    /// When the last of them was signed, in milliseconds since 1970.
    pub signed: i64,
}

/// The open streams of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What the agent calls itself.
    pub agent: String,
    /// Since when it is open, in seconds since 1970.
    pub since: i64,
    /// Digest of the roots that were sent last, and when.
    pub sent: Option<(String, i64)>,
    /// Digest of the roots that were acknowledged last.
    pub roots: Option<String>,
    /// The authority that was acknowledged last, and when, in milliseconds since 1970.
    pub authority: Option<(String, i64)>,
    /// Why it last refused something, until it takes it.
    pub nack: Option<String>,
}

impl Open {
    /// Digest of the roots that all of the agent's proxies use: what was acknowledged, unless something else was sent since.
    pub fn trusted(&self) -> Option<&str> {
        self.roots.as_deref().filter(|_| self.outstanding().is_none())
    }

    /// Digest of the roots that were sent and not acknowledged.
    fn outstanding(&self) -> Option<&str> {
        let sent = self.sent.as_ref().map(|(digest, _)| digest.as_str());
        sent.filter(|sent| self.roots.as_deref() != Some(sent))
    }
}

/// The digest of roots of which it is not known which they are.
const UNKNOWN: &str = "";

/// All holders.
#[derive(Clone, Debug, Default)]
pub struct Book {
    holders: BTreeMap<Name, Entry>,
    /// Which holder a stream belongs to.
    streams: HashMap<u64, Name>,
}

/// Names a holder, in the order that people read lists in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    spiffe_id: String,
    id: String,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    holder: Holder,
    open: BTreeMap<u64, Open>,
    /// What others are shown of it, until something changes: of thousands, few do between two looks.
    shown: OnceCell<Arc<Holder>>,
}

impl Entry {
    /// It with its open streams, as it is now.
    fn shown(&self) -> Arc<Holder> {
        let whole = || Arc::new(Holder { open: agents(&self.open), ..self.holder.clone() });
        self.shown.get_or_init(whole).clone()
    }

    /// It, to be changed.
    fn changing(&mut self) -> &mut Self {
        self.shown.take();
        self
    }
}

/// The streams of each agent taken together: an agent may have one for each of the names that it subscribes to.
fn agents(streams: &BTreeMap<u64, Open>) -> Vec<Open> {
    let mut all: Vec<Open> = Vec::new();
    for one in streams.values() {
        let known = all.iter_mut().find(|known| !known.agent.is_empty() && known.agent == one.agent);
        let Some(known) = known else {
            all.push(one.clone());
            continue;
        };
        known.since = known.since.min(one.since);
        known.sent = one.sent.clone().or(known.sent.take());
        known.roots = one.roots.clone().or(known.roots.take());
        known.authority = one.authority.clone().or(known.authority.take());
        known.nack = one.nack.clone().or(known.nack.take());
    }
    all
}

/// Takes over what all agents of a holder say alike: two of one holder have to say the same before it counts. Returns whether
/// that is news.
fn agree(entry: &mut Entry, now: OffsetDateTime) -> bool {
    let agents = agents(&entry.open);
    let Some(first) = agents.first() else { return false };
    let mut is_news = false;
    if let Some(roots) = first.trusted()
        && agents.iter().all(|one| one.trusted() == Some(roots))
        && entry.holder.bundle.as_ref().is_none_or(|(known, _)| known != roots)
    {
        entry.holder.bundle = Some((roots.to_owned(), milliseconds(now)));
        is_news = true;
    }
    if let Some((id, _)) = &first.authority {
        let said = |one: &Open| one.authority.as_ref().filter(|(other, _)| other == id).map(|(_, at)| *at);
        let moments: Option<Vec<_>> = agents.iter().map(said).collect();
        // What is signed after the first of them has spoken may be in use with it.
        let moved = moments.and_then(|moments| moments.into_iter().min()).map(|at| (id.clone(), at));
        if moved.is_some() && moved != entry.holder.moved {
            entry.holder.moved = moved;
            is_news = true;
        }
    }
    is_news
}

/// Milliseconds since 1970.
pub fn milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

impl Caller {
    /// Names the holder that gets this leaf, or opens a stream.
    fn holder(&self, serial: Option<&str>) -> Name {
        let mut digest = digest::Context::new(&digest::SHA256);
        let whom = match (&self.pod, serial) {
            (Some((_, uid)), _) => uid.as_str(),
            (None, Some(serial)) => serial,
            (None, None) => "",
        };
        for part in [self.spiffe_id.as_str(), if self.by_files { "files" } else { "" }, whom] {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let id = hex(digest.finish().as_ref().first_chunk::<8>().map_or(&[][..], |half| half));
        Name { spiffe_id: self.spiffe_id.clone(), id }
    }
}

impl Book {
    /// A leaf is about to be signed for `caller`. Returns its holder as it is known from now on.
    pub fn will_sign(&mut self, caller: &Caller, leaf: &Leaf, now: OffsetDateTime) -> &Holder {
        let name = caller.holder(Some(&leaf.serial));
        let entry = self.entry(name, caller);
        match entry.holder.leaves.get_mut(&leaf.authority) {
            Some(span) => {
                span.until = leaf.until.unix_timestamp().max(span.until);
                span.signed = milliseconds(now).max(span.signed);
            }
            None => {
                let span = Span { until: leaf.until.unix_timestamp(), signed: milliseconds(now) };
                entry.holder.leaves.insert(leaf.authority.clone(), span);
            }
        }
        let at = now.unix_timestamp();
        entry.holder.leaves.retain(|_, span| span.until > at);
        // Who has a stream, or had one, says by itself what it trusts: without a stream it stays with what it was told there.
        if !entry.holder.streams {
            entry.holder.bundle = Some((leaf.bundle.clone(), milliseconds(now)));
        }
        &entry.holder
    }

    /// A stream was opened by `caller`.
    pub fn opened(&mut self, stream: u64, caller: &Caller, now: OffsetDateTime) {
        let name = caller.holder(None);
        self.streams.insert(stream, name.clone());
        let entry = self.entry(name, caller);
        entry.holder.streams = true;
        entry.holder.lost = None;
        entry.open.insert(stream, Open { since: now.unix_timestamp(), ..Open::default() });
    }

    /// The agent on a stream has said what it is called. Returns the holder if what outlives this process has changed.
    pub fn called(&mut self, stream: u64, agent: &str, now: OffsetDateTime) -> Option<&Holder> {
        self.open(stream)?.agent = agent.chars().take(256).collect();
        let entry = self.holders.get_mut(self.streams.get(&stream)?)?;
        // Until then it may have been another agent, which has acknowledged nothing.
        agree(entry, now).then_some(&entry.holder)
    }

    /// Something was sent.
    pub fn sent(&mut self, stream: u64, word: &Word, now: OffsetDateTime) {
        let Word::Roots(digest) = word else { return };
        if let Some(open) = self.open(stream) {
            open.sent = Some((digest.clone(), now.unix_timestamp()));
        }
    }

    /// It was refused.
    pub fn refused(&mut self, stream: u64, reason: &str) {
        if let Some(open) = self.open(stream) {
            open.nack = Some(reason.to_owned());
        }
    }

    /// It was acknowledged: all that the agent's proxies use is so. Returns the holder if what outlives this process has changed.
    pub fn acknowledged(&mut self, stream: u64, word: &Word, now: OffsetDateTime) -> Option<&Holder> {
        let entry = self.holders.get_mut(self.streams.get(&stream)?)?.changing();
        let open = entry.open.get_mut(&stream)?;
        open.nack = None;
        match word {
            Word::Roots(digest) => open.roots = Some(digest.clone()),
            Word::Authority(id) => open.authority = Some((id.clone(), milliseconds(now))),
        }
        agree(entry, now).then_some(&entry.holder)
    }

    /// A stream has ended. Returns its holder as it is known from now on.
    pub fn closed(&mut self, stream: u64, now: OffsetDateTime) -> Option<&Holder> {
        let name = self.streams.remove(&stream)?;
        let entry = self.holders.get_mut(&name)?.changing();
        let ended = entry.open.remove(&stream);
        if let Some(pushed) = ended.and_then(|one| one.outstanding().map(str::to_owned))
            && entry.holder.bundle.as_ref().is_none_or(|(known, _)| *known != pushed)
        {
            // Whether it has taken it nobody will hear on that stream.
            entry.holder.bundle = Some((UNKNOWN.to_owned(), milliseconds(now)));
        }
        match entry.open.is_empty() {
            true => entry.holder.lost = Some(now.unix_timestamp()),
            false => drop(agree(entry, now)),
        }
        Some(&entry.holder)
    }

    /// Takes over what was known of a holder before this process began, at `now`: its streams have ended by then.
    pub fn remember(&mut self, holder: Holder, now: OffsetDateTime) {
        let lost = holder.lost.or(holder.streams.then(|| now.unix_timestamp()));
        let name = Name { spiffe_id: holder.spiffe_id.clone(), id: holder.id.clone() };
        let entry = self.holders.entry(name).or_default().changing();
        entry.holder = Holder { open: vec![], lost, ..holder };
    }

    /// Forgets who has no stream, and no leaf that lives.
    pub fn forget(&mut self, now: OffsetDateTime) {
        let at = now.unix_timestamp();
        self.holders.retain(|_, entry| {
            if entry.holder.leaves.values().any(|span| span.until <= at) {
                entry.changing().holder.leaves.retain(|_, span| span.until > at);
            }
            !(entry.open.is_empty() && entry.holder.leaves.is_empty())
        });
    }

    /// All holders that count at `now`, with their open streams, by name. Who has not changed since the last time is the same.
    pub fn holders(&self, now: OffsetDateTime) -> Vec<Arc<Holder>> {
        let at = now.unix_timestamp();
        let counts = |entry: &&Entry| {
            !entry.open.is_empty() || entry.holder.leaves.values().any(|span| span.until > at)
        };
        self.holders.values().filter(counts).map(Entry::shown).collect()
    }

    /// How many holders there are.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    fn entry(&mut self, name: Name, caller: &Caller) -> &mut Entry {
        let Name { spiffe_id, id } = name.clone();
        let fresh = || {
            let pod_uid = caller.pod.as_ref().map(|(_, uid)| uid.clone());
            let holder = Holder { id, spiffe_id, pod_uid, by_files: caller.by_files, ..Holder::default() };
            Entry { holder, ..Entry::default() }
        };
        let entry = self.holders.entry(name).or_insert_with(fresh).changing();
        entry.holder.pod = caller.pod.as_ref().map(|(name, _)| name.clone()).or(entry.holder.pod.take());
        entry.holder.node = caller.node.clone().or(entry.holder.node.take());
        entry
    }

    fn open(&mut self, stream: u64) -> Option<&mut Open> {
        self.holders.get_mut(self.streams.get(&stream)?)?.changing().open.get_mut(&stream)
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
