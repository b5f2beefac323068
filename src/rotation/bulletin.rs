//! Pure: what a replica tells the others: what it serves, who signs in it, and whom it knows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;

use crate::census::Holder;

/// How many octets of holders go into one object; Kubernetes takes a megabyte, in base64.
const CHUNK: usize = 600 * 1024;

/// What one replica tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bulletin {
    /// Its name.
    pub replica: String,
    /// When it said so, in seconds since 1970.
    pub at: i64,
    /// The number of the roots that it serves.
    pub sequence: u64,
    /// How many steps had led to the state that it has taken over.
    pub steps: u64,
    /// Whether a rotation is under way, so that it tells more often.
    pub busy: bool,
    /// Who signs in it, and has done so for a moment: nothing is under way any more that another one would sign.
    pub signs_with: String,
    /// If it leads: the digest of the roots that are published everywhere, and since when; `None` while they are not.
    pub published: Option<(String, i64)>,
    /// If it leads: in how many places they are missing.
    pub missing_in: Option<usize>,
    /// Until when somebody may have a leaf that it does not know of.
    pub unheard_until: Option<i64>,
    /// If it leads: holders whose pods are gone, by id.
    pub gone: BTreeSet<String>,
    /// Whom it knows.
    pub holders: Vec<Arc<Holder>>,
}

/// A part of a bulletin, small enough for an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) number: usize,
    pub(super) of: usize,
    pub(super) bulletin: Bulletin,
}

impl Bulletin {
    /// The last moment at which something in it counts.
    pub fn counts_until(&self) -> i64 {
        let leaves = self.holders.iter().flat_map(|one| one.leaves.values().map(|span| span.until));
        leaves.chain(self.unheard_until).chain([self.at]).max().unwrap_or(self.at)
    }

    /// The same with all its streams ended at the moment of its last word.
    pub(super) fn ended(mut self) -> Self {
        for holder in &mut self.holders {
            if !holder.open.is_empty() {
                let holder = Arc::make_mut(holder);
                holder.open.clear();
                holder.lost = holder.lost.max(Some(self.at));
            }
        }
        self
    }

    /// The parts of it, each as JSON: what changes all the time first and alone, then whom it knows. A holder stays in the same
    /// part as long as there are as many.
    pub(super) fn chunks(&self) -> Vec<Vec<u8>> {
        let whole = serde_json::to_vec(&self.holders).unwrap_or_default().len();
        let parts = whole.div_ceil(CHUNK).max(1);
        let part_of = |holder: &Holder| {
            let sum = |sum: usize, octet: u8| sum.wrapping_mul(31).wrapping_add(octet.into());
            1 + holder.id.bytes().fold(0, sum) % parts
        };
        let chunk = |number| {
            let bulletin = match number {
                0 => Bulletin { holders: vec![], ..self.clone() },
                _ => Bulletin {
                    replica: self.replica.clone(),
                    holders: self.holders.iter().filter(|one| part_of(one) == number).cloned().collect(),
                    ..Bulletin::default()
                },
            };
            Chunk { number, of: parts + 1, bulletin }
        };
        // Texts and numbers always are JSON.
        (0..=parts).map(|number| serde_json::to_vec(&chunk(number)).unwrap_or_default()).collect()
    }

    /// Whether it says something else than `other`, besides the moment.
    pub(super) fn differs(&self, other: &Bulletin) -> bool {
        Bulletin { at: 0, ..self.clone() } != Bulletin { at: 0, ..other.clone() }
    }
}

/// Joins the parts of one replica's bulletin; `None` as long as one is missing, or they were not cut alike: a replica that knows
/// more than before, or less, cuts into more parts, or fewer, and writes them one by one.
pub(super) fn joined<'a>(chunks: impl IntoIterator<Item = &'a Chunk>) -> Option<Bulletin> {
    let chunks: BTreeMap<usize, &Chunk> = chunks.into_iter().map(|chunk| (chunk.number, chunk)).collect();
    let first = chunks.get(&0)?;
    let part = |number| chunks.get(&number).filter(|chunk| chunk.of == first.of);
    let parts: Vec<_> = (0..first.of).map(part).collect::<Option<_>>()?;
    let holders = parts.iter().flat_map(|chunk| chunk.bulletin.holders.iter().cloned()).collect();
    Some(Bulletin { holders, ..first.bulletin.clone() })
}

/// How long to wait after a look at so many holders, and at least `shortest`. A look takes a fraction of a microsecond for each of
/// them, so looks take a small part of the time however many there are; and moving them takes longer the more there are.
pub(super) fn pause_that_leaves_the_time_to_others(holders: usize, shortest: Duration) -> Duration {
    let holders = u32::try_from(holders).unwrap_or(u32::MAX);
    (Duration::from_micros(4) * holders).max(shortest)
}

/// Seconds since 1970 as a moment; the beginning of 1970 for what is none.
pub(super) fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(number: usize) -> Arc<Holder> {
        let name = "n".repeat(2000);
        Arc::new(Holder { id: format!("{number:016x}"), spiffe_id: name, ..Holder::default() })
    }

    #[test]
    fn a_few_holders_are_looked_at_often_and_very_many_as_often_as_leaves_time_for_them() {
        let pause = |holders| pause_that_leaves_the_time_to_others(holders, Duration::from_millis(50));
        assert_eq!(pause(8_000), Duration::from_millis(50));
        assert_eq!(pause(100_000), Duration::from_millis(400));
        assert!(pause(usize::MAX) > Duration::from_secs(3600));
    }

    #[test]
    fn a_bulletin_of_any_size_is_cut_and_joined_again() {
        for count in [0, 1, 1000] {
            let holders: Vec<_> = (0..count).map(holder).collect();
            let bulletin = Bulletin { replica: "r".to_owned(), at: 7, holders, ..Bulletin::default() };
            let texts = bulletin.chunks();
            assert!(texts.iter().all(|text| text.len() < 2 * CHUNK));
            let chunks: Vec<Chunk> = texts.iter().map(|text| serde_json::from_slice(text).unwrap()).collect();
            let mut again = joined(&chunks).unwrap();
            again.holders.sort_by(|one, other| one.id.cmp(&other.id));
            assert_eq!(again, bulletin);
            assert_eq!(joined(&chunks[1..]), None, "a part is missing");
            assert_eq!(joined(&chunks[..chunks.len() - 1]), None, "a part is missing");
            let later = Bulletin { at: 8, ..bulletin.clone() };
            assert_eq!(later.chunks()[1..], texts[1..], "a sign of life is small");
        }
    }

    #[test]
    fn parts_of_two_cuts_are_not_joined_and_what_a_longer_one_left_over_is_passed_over() {
        let cut = |count| {
            let holders: Vec<_> = (0..count).map(holder).collect();
            let bulletin = Bulletin { replica: "r".to_owned(), holders, ..Bulletin::default() };
            let read = |text: Vec<u8>| serde_json::from_slice::<Chunk>(&text).unwrap();
            bulletin.chunks().into_iter().map(read).collect::<Vec<_>>()
        };
        let (long, short) = (cut(1000), cut(400));
        assert!(long.len() > short.len() && short.len() > 2, "{} {}", long.len(), short.len());
        let holders = |chunks: &[&Chunk]| joined(chunks.iter().copied()).map(|one| one.holders.len());
        // Step by step, from the last part to the first, as they are written.
        let mut there: BTreeMap<usize, &Chunk> = long.iter().map(|chunk| (chunk.number, chunk)).collect();
        for chunk in short.iter().rev() {
            let told = holders(&there.values().copied().collect::<Vec<_>>());
            assert!(told == Some(1000) || told.is_none(), "{told:?}");
            there.insert(chunk.number, chunk);
        }
        assert_eq!(holders(&there.values().copied().collect::<Vec<_>>()), Some(400));
    }
}
