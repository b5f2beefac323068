//! Tells the other replicas what this one knows, and hears what they know: a ConfigMap for each, in the CA's own namespace.
//!
//! What a replica has told stays when it is gone, and counts for as long as the certificates live that it tells of.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::Client;
use kube::ResourceExt;
use kube::api::DeleteParams;
use kube::api::ObjectMeta;
use kube::api::Patch;
use kube::api::PatchParams;
use tokio::sync::watch;

use crate::census::Census;
use crate::clock::Clock;
use crate::clock::Stopwatch;
use crate::distribution::Latest;
use crate::k8s;
use crate::k8s::Leadership;
use crate::k8s::Seen;
use crate::k8s::Trouble;
use crate::rotation::bulletin::Bulletin;
use crate::rotation::bulletin::Chunk;
use crate::rotation::bulletin::joined;

/// What the names of the ConfigMaps begin with.
const PREFIX: &str = "burgrave-census-";
/// The key in them.
const KEY: &str = "bulletin.json";
/// The label by which they are found, and its value.
const LABEL: (&str, &str) = ("burgrave.dev/part", "census");
/// Who writes them, for server-side apply.
const FIELD_MANAGER: &str = "burgrave-census";
/// How often a replica says that it is alive: while a rotation is under way, and at other times.
const HEARTBEAT: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
/// How long it may be silent before it counts as gone: if it has last said that a rotation is under way, and if not.
const SILENCE: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(30)];
/// How long it goes on certifying when it cannot tell: for less than the others wait for a word.
const FENCE: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(20)];
/// The pause between two words.
const PAUSE: Duration = Duration::from_millis(250);
/// For how long after its last leaf an old census is kept, in seconds: the longest leaf that it may not tell of is over too.
const KEPT: i64 = 24 * 3600;
/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What others have told.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// Those that are alive.
    pub alive: Vec<Bulletin>,
    /// Those that have gone silent.
    pub silent: Vec<Bulletin>,
    /// Why this may not be all, if it may not.
    pub gap: Option<String>,
}

impl Others {
    /// What is known before anything was heard.
    pub fn unheard() -> Self {
        Self { gap: Some("what they know has not been read yet".to_owned()), ..Self::default() }
    }
}

/// Tells and hears.
#[derive(Clone)]
pub struct Exchange {
    /// Talks to the API server.
    pub client: Client,
    /// Namespace of the CA.
    pub namespace: String,
    /// This replica's name.
    pub replica: String,
    /// Tells the time.
    pub clock: Clock,
    /// Who may put away what no longer counts.
    pub leadership: Leadership,
    /// Reads the authorities again, from where they are kept.
    pub latest: Latest,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// The parts of another replica's bulletin, what they said when they were last whole, and when they last changed.
#[derive(Debug)]
struct Heard {
    chunks: BTreeMap<usize, (String, Chunk)>,
    whole: Option<Bulletin>,
    last: Stopwatch,
}

/// All that was heard, and whether it is all that there is to hear.
#[derive(Debug)]
struct Hearing {
    /// Our own name.
    replica: String,
    heard: HashMap<String, Heard>,
    /// What is in a list that is not complete yet.
    listed: Option<Vec<String>>,
    /// Whether there was a list, and all that has changed since has come.
    is_complete: bool,
    trouble: Option<String>,
    /// Those that nobody here can read.
    unreadable: BTreeSet<String>,
    /// When our own word last came back, and whether it said that a rotation is under way.
    echo: (Stopwatch, bool),
}

impl Exchange {
    /// Tells `own` whenever it changes, and that it is alive, for as long as it is polled. What is wrong goes to `complain`.
    /// Before others take this replica for gone, `census` is fenced: what it signed then would be in nobody's evidence.
    pub async fn tell(
        self,
        mut own: watch::Receiver<Bulletin>,
        census: Census,
        complain: impl Fn(Option<String>),
    ) {
        let mut heard_of = Stopwatch::start();
        let mut told: Option<Bulletin> = None;
        let mut written: HashMap<usize, Vec<u8>> = HashMap::new();
        loop {
            let busy = own.borrow().busy;
            let bulletin =
                Bulletin { at: self.clock.now().unix_timestamp(), ..own.borrow_and_update().clone() };
            match self.write(&bulletin, &mut written).await {
                Ok(()) => {
                    complain(None);
                    self.lift_fence(&census).await;
                    heard_of = Stopwatch::start();
                    told = Some(bulletin);
                }
                Err(trouble) => {
                    let wrong = format!("the census of this replica cannot be told to the others: {trouble}");
                    // Where the right is missing for all, nobody rotates, and workloads go on being certified.
                    match trouble.is_forbidden() && !busy {
                        true => self.lift_fence(&census).await,
                        false if heard_of.elapsed() > of(FENCE, busy) => census.fence(Some(wrong.clone())),
                        false => {}
                    }
                    complain(Some(wrong));
                }
            }
            tokio::time::sleep(PAUSE).await;
            let is_news = |bulletin: &Bulletin| told.as_ref().is_none_or(|told| bulletin.differs(told));
            let news = own.wait_for(is_news);
            if let Ok(Err(_)) = tokio::time::timeout(of(HEARTBEAT, busy), news).await {
                return;
            }
        }
    }

    /// Writes the parts that have changed. The first has the moment in it, and so says that this replica is alive; it comes
    /// last, as it says what the others are good for: who reads between two writes knows of leaves too early, never too late.
    async fn write(&self, bulletin: &Bulletin, written: &mut HashMap<usize, Vec<u8>>) -> Result<(), Trouble> {
        let chunks = bulletin.chunks();
        let count = chunks.len();
        for (number, json) in chunks.into_iter().enumerate().rev() {
            if written.get(&number) == Some(&json) {
                continue;
            }
            let name = self.name_of(number);
            let object = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    labels: Some(labels()),
                    ..ObjectMeta::default()
                },
                binary_data: Some([(KEY.to_owned(), ByteString(json.clone()))].into()),
                ..ConfigMap::default()
            };
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let maps = self.maps();
            Trouble::within(TIMEOUT, maps.patch(&name, &params, &Patch::Apply(&object))).await?;
            written.insert(number, json);
        }
        written.retain(|number, _| *number < count);
        Ok(())
    }

    /// Others know of this replica again, or for the first time. What has changed meanwhile is taken over before anything is
    /// signed: by now they wait for us to have done so.
    async fn lift_fence(&self, census: &Census) {
        if census.fenced().is_none() {
            return;
        }
        match (self.latest)().await {
            Ok(()) => census.fence(None),
            Err(error) => {
                tracing::warn!(error, "nothing is signed before the authorities have been read afresh")
            }
        }
    }

    /// Hears what others tell, for as long as it is polled.
    pub async fn hear(self, others: watch::Sender<Others>, complain: impl Fn(Option<String>)) {
        let mut hearing = Hearing::of(&self.replica);
        let mut seen = std::pin::pin!(k8s::watch_labelled(self.maps(), &selector()));
        let mut look = tokio::time::interval(Duration::from_secs(1));
        let mut untidy = None;
        loop {
            tokio::select! {
                Some(seen) = seen.next() => hearing.take(seen),
                // Silence makes no sound.
                _ = look.tick() => {
                    let trouble = self.put_away(&hearing).await.err();
                    untidy = trouble.map(|trouble| {
                        format!("the census of a replica that is long gone cannot be deleted: {trouble}")
                    });
                }
            };
            complain(hearing.complaint().or_else(|| untidy.clone()));
            others.send_replace(hearing.others());
        }
    }

    /// The leader takes away what replicas that are gone have told, once nothing of it counts any more.
    async fn put_away(&self, hearing: &Hearing) -> Result<(), Trouble> {
        let now = self.clock.now().unix_timestamp();
        for one in hearing.heard.values().filter(|one| one.is_silent() && one.counts_until() + KEPT < now) {
            for (name, _) in one.chunks.values() {
                if !self.leadership.holds() {
                    return Ok(());
                }
                match Trouble::within(TIMEOUT, self.maps().delete(name, &DeleteParams::default())).await {
                    Err(trouble) if !trouble.is_absent() => return Err(trouble),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn name_of(&self, number: usize) -> String {
        let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
        let replica: String = self.replica.chars().map(fit).collect();
        format!("{PREFIX}{}-{number}", replica.trim_matches(['-', '.']))
    }
}

impl Heard {
    fn is_silent(&self) -> bool {
        self.last.elapsed() > of(SILENCE, self.whole.as_ref().is_some_and(|whole| whole.busy))
    }

    fn counts_until(&self) -> i64 {
        let parts = self.chunks.values().map(|(_, chunk)| chunk.bulletin.counts_until());
        parts.max().unwrap_or(i64::MAX)
    }
}

impl Hearing {
    fn of(replica: &str) -> Self {
        Self {
            replica: replica.to_owned(),
            heard: HashMap::new(),
            listed: None,
            is_complete: false,
            trouble: None,
            unreadable: BTreeSet::new(),
            echo: (Stopwatch::start(), false),
        }
    }

    fn take(&mut self, seen: Seen<ConfigMap>) {
        self.trouble = match &seen {
            Seen::Trouble(trouble) => Some(trouble.to_string()),
            _ => None,
        };
        match seen {
            Seen::Trouble(_) | Seen::Well => {}
            Seen::Begins => (self.listed, self.is_complete) = (Some(Vec::new()), false),
            Seen::Complete => {
                let there = self.listed.take().unwrap_or_default();
                self.keep(|name| there.iter().any(|one| one == name));
                self.is_complete = true;
            }
            Seen::There(map) => self.there(&map),
            Seen::Gone(map) => {
                let gone = map.name_any();
                self.keep(|name| name != gone);
            }
        }
    }

    fn there(&mut self, map: &ConfigMap) {
        let name = map.name_any();
        self.listed.iter_mut().for_each(|listed| listed.push(name.clone()));
        let text = map.binary_data.as_ref().and_then(|data| data.get(KEY));
        let Some(chunk) = text.and_then(|text| serde_json::from_slice::<Chunk>(&text.0).ok()) else {
            self.unreadable.insert(name);
            return;
        };
        self.unreadable.remove(&name);
        if chunk.bulletin.replica == self.replica {
            if chunk.number == 0 {
                self.echo = (Stopwatch::start(), chunk.bulletin.busy);
            }
            return;
        }
        let begins = || Heard { chunks: BTreeMap::new(), whole: None, last: Stopwatch::start() };
        let one = self.heard.entry(chunk.bulletin.replica.clone()).or_insert_with(begins);
        one.last = Stopwatch::start();
        one.chunks.insert(chunk.number, (name, chunk));
        // Until the others of its parts have come, what was whole before stays so.
        one.whole = joined(one.chunks.values().map(|(_, chunk)| chunk)).or_else(|| one.whole.take());
    }

    fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.unreadable.retain(|name| is_there(name));
        for one in self.heard.values_mut() {
            one.chunks.retain(|_, (name, _)| is_there(name));
        }
        self.heard.retain(|_, one| !one.chunks.is_empty());
    }

    /// Whether our own word is late to come back. Whoever's word is not late then cannot be taken for gone: half the time after
    /// which they would be, and the pause between two words, are shorter than that time.
    fn is_late(&self, patience: [Duration; 2]) -> bool {
        let (echo, busy) = &self.echo;
        echo.elapsed() > of(patience, *busy)
    }

    /// Why others may know what is not known here.
    fn gap(&self) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(format!("what they know cannot be read: {trouble}"));
        }
        if !self.is_complete {
            return Others::unheard().gap;
        }
        if let Some(name) = self.unreadable.first() {
            return Some(format!(
                "ConfigMap `{name}` cannot be read; delete it if the replica that wrote it is gone, or is of another version"
            ));
        }
        self.is_late(SILENCE.map(|silence| silence / 2)).then(|| {
            "what this replica tells does not come back from the API server, so what others tell may be late"
                .to_owned()
        })
    }

    /// What people ought to know of it: what lasts.
    fn complaint(&self) -> Option<String> {
        let is_news = self.trouble.is_some() || !self.unreadable.is_empty() || self.is_late(SILENCE);
        let gap = self.gap().filter(|_| is_news && (self.is_complete || self.trouble.is_some()));
        gap.map(|gap| format!("the censuses of other replicas: {gap}"))
    }

    fn others(&self) -> Others {
        let mut others = Others { gap: self.gap(), ..Others::default() };
        for one in self.heard.values() {
            let Some(bulletin) = one.whole.clone() else { continue };
            match one.is_silent() {
                true => others.silent.push(bulletin),
                false => others.alive.push(bulletin),
            }
        }
        others.alive.sort_by(|one, other| one.replica.cmp(&other.replica));
        others.silent.sort_by(|one, other| one.replica.cmp(&other.replica));
        others
    }
}

/// The first of two times while a rotation is under way, and otherwise the second.
fn of([busy, quiet]: [Duration; 2], is_busy: bool) -> Duration {
    if is_busy { busy } else { quiet }
}

fn labels() -> BTreeMap<String, String> {
    let mut labels = k8s::labels();
    labels.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    labels
}

fn selector() -> String {
    format!("{}={}", LABEL.0, LABEL.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::Holder;

    fn maps(replica: &str, at: i64, holders: &[&str]) -> Vec<ConfigMap> {
        let holder = |id: &&str| std::sync::Arc::new(Holder { id: (*id).to_owned(), ..Holder::default() });
        let holders = holders.iter().map(holder).collect();
        let bulletin = Bulletin { replica: replica.to_owned(), at, holders, ..Bulletin::default() };
        let chunks = bulletin.chunks().into_iter().enumerate();
        chunks.map(|(number, json)| map(&format!("{replica}-{number}"), json)).collect()
    }

    fn map(name: &str, text: Vec<u8>) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            binary_data: Some([(KEY.to_owned(), ByteString(text))].into()),
            ..ConfigMap::default()
        }
    }

    fn listed(maps: Vec<ConfigMap>) -> Hearing {
        let mut hearing = Hearing::of("own");
        hearing.take(Seen::Begins);
        assert!(hearing.others().gap.is_some(), "nothing is known before the list is whole");
        maps.into_iter().for_each(|map| hearing.take(Seen::There(map)));
        hearing.take(Seen::Complete);
        hearing
    }

    fn told(hearing: &Hearing) -> Vec<(i64, usize)> {
        hearing.others().alive.iter().map(|one| (one.at, one.holders.len())).collect()
    }

    #[test]
    fn what_others_know_is_not_known_before_a_whole_list_nor_while_there_is_trouble() {
        let mut hearing = Hearing::of("own");
        assert!(hearing.others().gap.is_some() && hearing.complaint().is_none(), "it has just begun");
        hearing = listed(maps("other", 1, &["a"]));
        assert_eq!((hearing.others().gap, told(&hearing)), (None, vec![(1, 1)]));
        hearing.take(Seen::Trouble(Trouble::NotLeading));
        assert!(hearing.others().gap.is_some() && hearing.complaint().is_some());
        assert_eq!(told(&hearing), [(1, 1)], "what was heard stays");
        hearing.take(Seen::Well);
        assert_eq!((hearing.others().gap, hearing.complaint()), (None, None));
    }

    #[test]
    fn between_two_parts_what_was_told_before_stays() {
        let mut hearing = listed(maps("other", 1, &["a"]));
        let next = maps("other", 2, &["a", "b"]);
        // As they are written: whom it knows, and then that it says so.
        hearing.take(Seen::There(next[1].clone()));
        assert_eq!(told(&hearing), [(1, 2)]);
        hearing.take(Seen::There(next[0].clone()));
        assert_eq!(told(&hearing), [(2, 2)]);
        hearing.take(Seen::Gone(next[0].clone()));
        assert_eq!(told(&hearing), [(2, 2)], "as long as there is anything of it");
        hearing.take(Seen::Gone(next[1].clone()));
        assert_eq!(told(&hearing), []);
    }

    #[test]
    fn a_census_that_cannot_be_read_is_a_gap_until_it_is_gone() {
        let strange = map("strange", b"of another version".to_vec());
        let mut hearing = listed(vec![strange.clone()]);
        let gap = hearing.others().gap.expect("somebody knows something that is not known here");
        assert!(gap.contains("`strange`") && hearing.complaint().is_some(), "{gap}");
        hearing.take(Seen::Gone(strange));
        assert_eq!(hearing.others().gap, None);
    }
}
