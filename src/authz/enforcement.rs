//! Which filters does each proxy get, and how do all of them stand to the policies? `bridge` decides for each proxy; this keeps
//! them, and tells each what its streams say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;

use crate::authz::bridge::Bridge;
use crate::authz::bridge::Event;
use crate::authz::bridge::Part;
use crate::authz::envoy::Layer;
use crate::authz::parts::Compiled;
use crate::authz::parts::Extensions;
use crate::authz::parts::named;
use crate::authz::parts::parts;
use crate::clock::Stopwatch;
use crate::sds::Ear;
use crate::sds::Hello;
use crate::sds::Served;
use crate::sds::Standing;
use crate::sds::Version;

/// How often it is looked who has been waited for.
const LOOK: Duration = Duration::from_millis(250);
/// How long streams that ought to be there are waited for. The configuration that we recommend has proxies retry every two
/// seconds at least.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a proxy whose streams have all ended counts.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// How many silent proxies are named.
const NAMED: usize = 5;
/// The longest name of a proxy that is kept, in characters.
const LONGEST_NODE: usize = 256;

/// All proxies. Clones share them.
#[derive(Clone, Debug)]
pub struct Enforcement {
    desk: Arc<Mutex<Desk>>,
    changed: Arc<watch::Sender<u64>>,
    started: Stopwatch,
}

#[derive(Debug, Default)]
struct Desk {
    /// The policies that are to be enforced.
    target: Option<Target>,
    /// Sets that some proxy may be on its way from.
    known: Vec<Arc<Compiled>>,
    proxies: BTreeMap<(String, Layer), Proxy>,
    streams: u64,
    is_anybody_seen: bool,
}

#[derive(Clone, Debug)]
struct Target {
    version: Version,
    requests: Arc<Compiled>,
    connections: Arc<Compiled>,
    since: Duration,
}

#[derive(Debug)]
struct Proxy {
    bridge: Bridge,
    offered: watch::Sender<Arc<Extensions>>,
    /// Since when some of its streams are missing.
    incomplete: Option<Duration>,
    /// When its last stream ended, and the policies that it used in full then.
    gone: Option<(Duration, Option<Version>)>,
}

/// How far the policies have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The version of the policies that are to be enforced.
    pub version: Option<Version>,
    /// How long they have been.
    pub age: Duration,
    /// How the proxies stand to them.
    pub standing: Standing,
}

impl Default for Enforcement {
    fn default() -> Self {
        Self { desk: Arc::default(), changed: Arc::default(), started: Stopwatch::start() }
    }
}

impl Enforcement {
    /// From now on these are the policies of this version; the keys of issuers in them may change while the version stays.
    pub fn aim(&self, version: &Version, requests: Arc<Compiled>, connections: Arc<Compiled>) {
        let since = self.started.elapsed();
        let mut desk = self.desk();
        let is_known = |target: &Target| {
            target.version == *version && target.requests == requests && target.connections == connections
        };
        if desk.target.as_ref().is_some_and(is_known) {
            return;
        }
        for one in [&requests, &connections] {
            if !desk.known.contains(one) {
                desk.known.push(one.clone());
            }
        }
        desk.target = Some(Target { version: version.clone(), requests, connections, since });
        let keys: Vec<_> = desk.proxies.keys().cloned().collect();
        for key in keys {
            desk.aim(&key, since);
        }
        desk.forget_sets();
        drop(desk);
        self.tell();
    }

    /// What a proxy that opens a stream so is served.
    pub fn serve(&self, hello: &Hello) -> Served<Extensions> {
        let node: String = hello.node.chars().take(LONGEST_NODE).collect();
        let wanted: Vec<_> = hello.names.iter().filter_map(|name| Some((name, named(name)?))).collect();
        let layer = wanted.first().map_or(Layer::Requests, |(_, (layer, _))| *layer);
        let key = (node, layer);
        let holds = Some(hello.version.as_str()).filter(|version| !version.is_empty()).map(Version::from);
        let now = self.started.elapsed();
        let mut streams = BTreeMap::new();
        let mut desk = self.desk();
        for (name, (_, part)) in wanted.into_iter().filter(|(_, (of, _))| *of == layer) {
            desk.streams += 1;
            let stream = desk.streams;
            desk.is_anybody_seen = true;
            desk.happens(&key, Event::Opened { stream, part, holds: holds.clone() }, now);
            streams.insert(name.clone(), stream);
        }
        // Who asks for nothing that is served here is told nothing.
        let (offered, resources) = watch::channel(Arc::default());
        let resources = desk.proxies.get(&key).map_or(resources, |proxy| proxy.offered.subscribe());
        drop(desk);
        self.tell();
        let ear = Listener { all: self.clone(), key, streams, _nothing: offered };
        Served { resources, ear: Some(Box::new(ear)) }
    }

    /// How far the policies have come; who has not answered for `polite` is silent.
    pub fn progress(&self, polite: Duration) -> Progress {
        let (desk, now) = (self.desk(), self.started.elapsed());
        let Some(target) = &desk.target else { return Progress::default() };
        let age = now.saturating_sub(target.since);
        let mut standing = Standing { is_anybody_seen: desk.is_anybody_seen, ..Standing::default() };
        for ((node, _), proxy) in &desk.proxies {
            if let Some(why) = proxy.bridge.refusal() {
                standing.refusals += 1;
                standing.refusal.get_or_insert_with(|| (node.clone(), why.to_owned()));
                continue;
            }
            let waiting = match &proxy.gone {
                Some((_, left)) => usize::from(left.as_ref() != Some(&target.version)),
                None => proxy.bridge.waiting(),
            };
            standing.waiting += waiting;
            if waiting > 0 && age >= polite {
                standing.silent += 1;
                if standing.silent_nodes.len() < NAMED && !standing.silent_nodes.contains(node) {
                    standing.silent_nodes.push(node.clone());
                }
            }
        }
        Progress { version: Some(target.version.clone()), age, standing }
    }

    /// Hears of changes of that.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Goes on without those who have been waited for, for as long as it is polled.
    pub async fn tend(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.started.elapsed();
            if self.desk().look(now) {
                self.tell();
            }
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn happens(&self, key: &(String, Layer), event: Event) {
        let now = self.started.elapsed();
        self.desk().happens(key, event, now);
        self.tell();
    }
}

impl Target {
    fn of(&self, layer: Layer) -> &Compiled {
        match layer {
            Layer::Requests => &self.requests,
            Layer::Connections => &self.connections,
        }
    }
}

impl Desk {
    /// The proxy of that key, made if there is none.
    fn proxy(&mut self, key: &(String, Layer), now: Duration) -> &mut Proxy {
        let target = self.target.as_ref().map(|target| target.of(key.1).set().clone());
        self.proxies.entry(key.clone()).or_insert_with(|| {
            let all: Vec<Part> = parts(key.1).iter().map(|(part, _)| *part).collect();
            let bridge = Bridge::of(&all);
            let bridge = match target {
                Some(set) => bridge.step(Event::Target(set)),
                None => bridge,
            };
            Proxy { bridge, offered: watch::Sender::default(), incomplete: None, gone: Some((now, None)) }
        })
    }

    fn aim(&mut self, key: &(String, Layer), now: Duration) {
        if let Some(set) = self.target.as_ref().map(|target| target.of(key.1).set().clone()) {
            self.happens(key, Event::Target(set), now);
        }
    }

    /// Tells the proxy's machine, and offers what it then shows.
    fn happens(&mut self, key: &(String, Layer), event: Event, now: Duration) {
        let known = self.known.clone();
        let version = self.target.as_ref().map(|target| target.version.clone());
        let proxy = self.proxy(key, now);
        let used = version.filter(|_| proxy.bridge.waiting() == 0 && proxy.gone.is_none());
        let bridge = std::mem::take(&mut proxy.bridge).step(event);
        let has_moved = bridge.shown() != proxy.bridge.shown();
        if bridge.is_empty() {
            proxy.gone.get_or_insert((now, used));
        } else {
            proxy.gone = None;
        }
        proxy.incomplete = bridge.is_incomplete().then(|| proxy.incomplete.unwrap_or(now));
        if has_moved {
            let known: Vec<&Compiled> =
                known.iter().map(AsRef::as_ref).filter(|one| one.layer() == key.1).collect();
            let next = Arc::new(Extensions::of(bridge.shown(), key.1, &known));
            proxy.offered.send_if_modified(|offered| {
                let is_news = *offered != next;
                *offered = next;
                is_news
            });
        }
        proxy.bridge = bridge;
    }

    /// Returns whether anything has changed.
    fn look(&mut self, now: Duration) -> bool {
        let before = self.proxies.len();
        self.proxies.retain(|_, proxy| {
            proxy.gone.as_ref().is_none_or(|(since, _)| now.saturating_sub(*since) < FORGOTTEN_AFTER)
        });
        let is_due = |proxy: &Proxy| {
            proxy.incomplete.is_some_and(|since| now.saturating_sub(since) >= PATIENCE)
                && proxy.gone.is_none()
        };
        let due: Vec<_> =
            self.proxies.iter().filter(|(_, proxy)| is_due(proxy)).map(|(key, _)| key.clone()).collect();
        for key in &due {
            tracing::info!(node = key.0, layer = ?key.1, "a proxy has not asked for all filters, and is served without");
            self.happens(key, Event::Waited, now);
        }
        self.forget_sets();
        before != self.proxies.len() || !due.is_empty()
    }

    /// Sets that no proxy can be on its way from or to any more need not be kept.
    fn forget_sets(&mut self) {
        let Self { target, known, proxies, .. } = self;
        known.retain(|one| {
            let is_target = target.as_ref().is_some_and(|target| target.of(one.layer()) == &**one);
            is_target || proxies.values().any(|proxy| proxy.bridge.mentions(one.set()))
        });
    }
}

/// Hears what one stream says.
#[derive(Debug)]
struct Listener {
    all: Enforcement,
    key: (String, Layer),
    /// Which stream of the machine stands for each name.
    streams: BTreeMap<String, u64>,
    /// Keeps a stream open that nothing is served on.
    _nothing: watch::Sender<Arc<Extensions>>,
}

impl Ear for Listener {
    fn called(&self, _: &str) {}

    fn pushed(&self, _: &str, _: &Version) {}

    fn answered(&self, name: &str, version: &Version, answer: Result<(), &str>) {
        let Some(stream) = self.streams.get(name).copied() else { return };
        let version = version.clone();
        let event = match answer {
            Ok(()) => Event::Took { stream, version },
            Err(why) => Event::Refused { stream, version, why: why.to_owned() },
        };
        self.all.happens(&self.key, event);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for stream in self.streams.values() {
            self.all.happens(&self.key, Event::Closed { stream: *stream });
        }
    }
}

#[cfg(test)]
#[path = "enforcement_tests.rs"]
mod tests;
