//! Pure: what a replica tells the others: what it serves, who signs in it, and whom it knows.

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
    /// Who signs in it, and has done so for a moment: nothing is under way any more that another one would sign.
    pub signs_with: String,
    /// If it leads: the digest of the roots that are published everywhere, and since when; `None` while they are not.
    pub published: Option<(String, i64)>,
    /// If it leads: in how many places they are missing.
    pub missing_in: Option<usize>,
    /// Until when somebody may have a leaf that it does not know of.
    pub unheard_until: Option<i64>,
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
    /// Whether it knows somebody who hears of new roots only with a certificate.
    pub fn has_clients(&self) -> bool {
        self.holders.iter().any(|one| !one.streams && !one.by_files)
    }

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

    /// The parts of it, each as JSON. A holder stays in the same part as long as there are as many.
    pub(super) fn chunks(&self) -> Vec<Vec<u8>> {
        let whole = serde_json::to_vec(&self.holders).unwrap_or_default().len();
        let of = whole / CHUNK + 1;
        let part_of = |holder: &Holder| {
            let place =
                holder.id.bytes().fold(0_usize, |sum, octet| sum.wrapping_mul(31).wrapping_add(octet.into()));
            place % of
        };
        let chunk = |number| {
            let holders = self.holders.iter().filter(|one| part_of(one) == number).cloned().collect();
            Chunk { number, of, bulletin: Bulletin { holders, ..self.clone() } }
        };
        // Texts and numbers always are JSON.
        (0..of).map(|number| serde_json::to_vec(&chunk(number)).unwrap_or_default()).collect()
    }

    /// Whether it says something else than `other`, besides the moment.
    pub(super) fn differs(&self, other: &Bulletin) -> bool {
        Bulletin { at: 0, ..self.clone() } != Bulletin { at: 0, ..other.clone() }
    }
}

/// Joins the parts of one replica's bulletin; `None` as long as one is missing.
pub(super) fn joined<'a>(chunks: impl IntoIterator<Item = &'a Chunk>) -> Option<Bulletin> {
    let mut chunks: Vec<_> = chunks.into_iter().collect();
    chunks.sort_by_key(|chunk| chunk.number);
    let first = chunks.first()?;
    if !chunks.iter().enumerate().all(|(at, chunk)| chunk.number == at) || chunks.len() < first.of {
        return None;
    }
    let holders = chunks.iter().flat_map(|chunk| chunk.bulletin.holders.iter().cloned()).collect();
    // The parts are written one by one; what the latest says of the replica is so.
    let latest = chunks.iter().max_by_key(|chunk| chunk.bulletin.at).unwrap_or(first);
    Some(Bulletin { holders, ..latest.bulletin.clone() })
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
            if let [_, rest @ ..] = chunks.as_slice()
                && !rest.is_empty()
            {
                assert_eq!(joined(rest), None, "a part is missing");
            }
        }
    }
}
