//! Tells the other replicas what this one knows, and hears what they know: a ConfigMap for each, in the CA's own namespace.
//!
//! What a replica has told stays when it is gone, and counts for as long as the certificates live that it tells of.

use std::collections::BTreeMap;
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

use crate::clock::Clock;
use crate::clock::Stopwatch;
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
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// The parts of another replica's bulletin, and when they last changed.
#[derive(Debug)]
struct Heard {
    chunks: BTreeMap<usize, (String, Chunk)>,
    last: Stopwatch,
}

impl Exchange {
    /// Tells `own` whenever it changes, and that it is alive, for as long as it is polled. What is wrong goes to `complain`.
    pub async fn tell(self, mut own: watch::Receiver<Bulletin>, complain: impl Fn(Option<String>)) {
        let mut told: Option<Bulletin> = None;
        let mut written: HashMap<usize, Vec<u8>> = HashMap::new();
        loop {
            let busy = own.borrow().busy;
            let bulletin =
                Bulletin { at: self.clock.now().unix_timestamp(), ..own.borrow_and_update().clone() };
            match self.write(&bulletin, &mut written).await {
                Ok(()) => {
                    complain(None);
                    told = Some(bulletin);
                }
                Err(trouble) => complain(Some(format!(
                    "the census of this replica cannot be told to the others: {trouble}"
                ))),
            }
            tokio::time::sleep(PAUSE).await;
            let is_news = |bulletin: &Bulletin| told.as_ref().is_none_or(|told| bulletin.differs(told));
            let news = own.wait_for(is_news);
            if let Ok(Err(_)) = tokio::time::timeout(of(HEARTBEAT, busy), news).await {
                return;
            }
        }
    }

    /// Writes the parts that have changed; the first has the moment in it, and so says that this replica is alive.
    async fn write(&self, bulletin: &Bulletin, written: &mut HashMap<usize, Vec<u8>>) -> Result<(), Trouble> {
        let chunks = bulletin.chunks();
        let count = chunks.len();
        for (number, json) in chunks.into_iter().enumerate() {
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

    /// Hears what others tell, for as long as it is polled.
    pub async fn hear(self, others: watch::Sender<Others>, complain: impl Fn(Option<String>)) {
        let mut heard: HashMap<String, Heard> = HashMap::new();
        let mut listed: Option<Vec<String>> = None;
        let mut seen = std::pin::pin!(k8s::watch_labelled(self.maps(), &selector()));
        let mut look = tokio::time::interval(Duration::from_secs(1));
        let (mut deaf, mut untidy) = (None, None);
        loop {
            let changed = tokio::select! {
                Some(seen) = seen.next() => {
                    deaf = match &seen {
                        Seen::Trouble(trouble) => {
                            Some(format!("the censuses of other replicas cannot be read: {trouble}"))
                        }
                        _ => None,
                    };
                    self.take(seen, &mut heard, &mut listed)
                }
                // Silence makes no sound.
                _ = look.tick() => {
                    let trouble = self.put_away(&heard).await.err();
                    untidy = trouble.map(|trouble| {
                        format!("the census of a replica that is long gone cannot be deleted: {trouble}")
                    });
                    true
                }
            };
            complain(deaf.as_ref().or(untidy.as_ref()).cloned());
            if changed {
                others.send_replace(sorted(&heard));
            }
        }
    }

    fn take(
        &self,
        seen: Seen<ConfigMap>,
        heard: &mut HashMap<String, Heard>,
        listed: &mut Option<Vec<String>>,
    ) -> bool {
        match seen {
            Seen::Trouble(_) | Seen::Well => return false,
            Seen::Begins => *listed = Some(Vec::new()),
            Seen::Complete => {
                let there = listed.take().unwrap_or_default();
                for one in heard.values_mut() {
                    one.chunks.retain(|_, (name, _)| there.contains(name));
                }
                heard.retain(|_, one| !one.chunks.is_empty());
            }
            Seen::There(map) => {
                listed.iter_mut().for_each(|listed| listed.push(map.name_any()));
                let text = map.binary_data.as_ref().and_then(|data| data.get(KEY));
                let chunk: Option<Chunk> = text.and_then(|text| serde_json::from_slice(&text.0).ok());
                let Some(chunk) = chunk else {
                    tracing::warn!(name = map.name_any(), "a census that cannot be read is passed over");
                    return false;
                };
                if chunk.bulletin.replica == self.replica {
                    return false;
                }
                let begins = || Heard { chunks: BTreeMap::new(), last: Stopwatch::start() };
                let one = heard.entry(chunk.bulletin.replica.clone()).or_insert_with(begins);
                one.last = Stopwatch::start();
                one.chunks.retain(|number, _| *number < chunk.of);
                one.chunks.insert(chunk.number, (map.name_any(), chunk));
            }
            Seen::Gone(map) => {
                let name = map.name_any();
                for one in heard.values_mut() {
                    one.chunks.retain(|_, (known, _)| *known != name);
                }
                heard.retain(|_, one| !one.chunks.is_empty());
            }
        }
        true
    }

    /// The leader takes away what replicas that are gone have told, once nothing of it counts any more.
    async fn put_away(&self, heard: &HashMap<String, Heard>) -> Result<(), Trouble> {
        let now = self.clock.now().unix_timestamp();
        let is_over = |one: &Heard| {
            let whole = joined(one.chunks.values().map(|(_, chunk)| chunk));
            whole.is_some_and(|all| is_silent(one, &all) && all.counts_until() + KEPT < now)
        };
        for one in heard.values().filter(|one| is_over(one)) {
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

/// The first of two times while a rotation is under way, and otherwise the second.
fn of([busy, quiet]: [Duration; 2], is_busy: bool) -> Duration {
    if is_busy { busy } else { quiet }
}

fn is_silent(one: &Heard, bulletin: &Bulletin) -> bool {
    one.last.elapsed() > of(SILENCE, bulletin.busy)
}

fn labels() -> BTreeMap<String, String> {
    let mut labels = k8s::labels();
    labels.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    labels
}

fn selector() -> String {
    format!("{}={}", LABEL.0, LABEL.1)
}

fn sorted(heard: &HashMap<String, Heard>) -> Others {
    let mut others = Others::default();
    for one in heard.values() {
        let Some(bulletin) = joined(one.chunks.values().map(|(_, chunk)| chunk)) else { continue };
        match is_silent(one, &bulletin) {
            true => others.silent.push(bulletin),
            false => others.alive.push(bulletin),
        }
    }
    others.alive.sort_by(|one, other| one.replica.cmp(&other.replica));
    others.silent.sort_by(|one, other| one.replica.cmp(&other.replica));
    others
}
