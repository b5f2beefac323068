//! Keeps every place right: feeds the board what is seen, and does the writes that it asks for.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::Client;
use kube::Resource;
use kube::ResourceExt;
use kube::api::Patch;
use kube::api::PatchParams;
use kube::api::PostParams;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use crate::clock::Stopwatch;
use crate::distribution::board::Board;
use crate::distribution::board::Held;
use crate::distribution::board::Kind;
use crate::distribution::board::Place;
use crate::distribution::board::Write;
use crate::distribution::objects;
use crate::distribution::objects::Names;
use crate::distribution::status::DistributionMetrics;
use crate::distribution::status::NAMED;
use crate::distribution::status::Status;
use crate::k8s;
use crate::k8s::Leadership;
use crate::k8s::Seen;
use crate::k8s::Trouble;
use crate::k8s::queue::Flight;
use crate::signer::Issuer;

/// How many writes are under way at once.
const PARALLEL: usize = 16;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two attempts to read the roots afresh.
const CATCH_UP_PAUSE: Duration = Duration::from_secs(1);
/// From how many failures in a row on an operator should hear of a place.
const WORTH_SAYING: u32 = 3;

/// Publishes the bundle of the present issuer.
#[derive(Clone)]
pub struct Publisher {
    /// Talks to the API server.
    pub client: Client,
    /// What the objects are called.
    pub names: Names,
    /// Whose bundle is published.
    pub issuer: watch::Receiver<Arc<Issuer>>,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// Where to tell how far it is.
    pub status: watch::Sender<Option<Status>>,
    /// What is counted.
    pub metrics: DistributionMetrics,
    /// Makes sure that `issuer` is the latest there is.
    pub latest: Latest,
}

/// Reads again, from where it is kept, what is published; says what is wrong if it cannot.
pub type Latest = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

impl Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("names", &self.names).finish_non_exhaustive()
    }
}

/// One thing that a watch has shown.
enum Shown {
    Namespace(Seen<Namespace>),
    ConfigMap(Seen<ConfigMap>),
    TrustBundle(Seen<ClusterTrustBundle>),
}

/// A write that has ended.
type Ended = (Place, Flight, Result<Held, Trouble>);

impl Publisher {
    /// Publishes until it is dropped.
    pub async fn run(mut self) {
        let since = Stopwatch::start();
        let _forget = Forget(self.status.clone());
        self.catch_up().await;
        let (mut bundle, mut digest) = self.present();
        let mut board = Board::new(objects::digest_of(&bundle));
        let mut shown = std::pin::pin!(self.watches());
        let mut writes = FuturesUnordered::new();
        let mut trouble = Troubles::default();
        loop {
            while board.queue().1 < PARALLEL
                && let Some((place, write, flight)) = board.next(since.elapsed())
            {
                writes.push(self.write(place, write, flight, bundle.clone()));
            }
            self.tell(&digest, &board, &mut trouble);
            let due = board.queue().0.filter(|_| board.queue().1 < PARALLEL);
            tokio::select! {
                Some(shown) = shown.next() => feed(&mut board, &mut trouble, shown, since.elapsed()),
                Some(ended) = writes.next() => self.ended(&mut board, &mut trouble, ended, since.elapsed()),
                changed = self.issuer.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    (bundle, digest) = self.present();
                    board.want(objects::digest_of(&bundle), since.elapsed());
                }
                () = sleep_until(due, since) => {}
            }
        }
    }

    /// The bundle as PEM, and its digest.
    fn present(&mut self) -> (Arc<str>, String) {
        let issuer = self.issuer.borrow_and_update();
        (issuer.bundle().to_pem().into(), issuer.bundle_digest().to_owned())
    }

    /// What this process knows of the roots may be older than what an earlier leader has published: a watch may be late, and
    /// a write names the version of the object, not the age of what is written. So a term begins with a fresh look.
    async fn catch_up(&self) {
        let mut failures = 0;
        while let Err(trouble) = (self.latest)().await {
            if failures == 0 {
                tracing::warn!(
                    error = trouble,
                    "nothing is published before the roots have been read afresh"
                );
            }
            failures += 1;
            self.status.send_replace(Some(Status { trouble: Some(trouble), ..Status::default() }));
            tokio::time::sleep(CATCH_UP_PAUSE).await;
        }
    }

    fn watches(&self) -> impl Stream<Item = Shown> + Send + use<> {
        let client = || self.client.clone();
        let namespaces = k8s::watch(Api::<Namespace>::all(client()), "").map(Shown::Namespace);
        let of_name = k8s::named(&self.names.config_map);
        let maps = k8s::watch(Api::<ConfigMap>::all(client()), &of_name).map(Shown::ConfigMap);
        let of_name = k8s::named(&self.names.cluster_trust_bundle());
        let bundles = k8s::watch(Api::<ClusterTrustBundle>::all(client()), &of_name).map(Shown::TrustBundle);
        futures_util::stream::select(namespaces, futures_util::stream::select(maps, bundles))
    }

    fn write(
        &self,
        place: Place,
        write: Write,
        flight: Flight,
        bundle: Arc<str>,
    ) -> impl Future<Output = Ended> + Send + use<> {
        let (client, names, leadership) = (self.client.clone(), self.names.clone(), self.leadership.clone());
        async move {
            let result = match &place {
                Place::Namespace(namespace) => {
                    let api = Api::<ConfigMap>::namespaced(client, namespace);
                    let object = names.config_map(&bundle, &write);
                    sent(&leadership, &api, &names.config_map, &write, object)
                        .await
                        .map(|written| objects::held_by_config_map(&written))
                }
                Place::Cluster => {
                    let api = Api::<ClusterTrustBundle>::all(client);
                    let object = names.trust_bundle(&bundle, &write);
                    sent(&leadership, &api, &names.cluster_trust_bundle(), &write, object)
                        .await
                        .map(|written| objects::held_by_trust_bundle(&written))
                }
            };
            (place, flight, result)
        }
    }

    fn ended(
        &self,
        board: &mut Board,
        troubles: &mut Troubles,
        (place, flight, result): Ended,
        now: Duration,
    ) {
        match result {
            Ok(held) => {
                self.metrics.count("written");
                troubles.writes.remove(&place);
                board.wrote(&place, flight, held, now);
            }
            Err(trouble) => {
                let times = board.failed(&place, flight, now);
                // Somebody was faster, and the watch is about to say who; or a namespace is just ending.
                self.metrics.count(if trouble.is_overtaken() { "overtaken" } else { "failed" });
                if times == WORTH_SAYING || (times == 1 && trouble.is_final()) {
                    tracing::warn!(?place, attempt = times, error = %trouble, "the trust bundle cannot be published there yet");
                }
                if times >= WORTH_SAYING {
                    troubles.writes.insert(place.clone(), format!("{}: {trouble}", self.name_of(&place)));
                }
            }
        }
    }

    fn name_of(&self, place: &Place) -> String {
        match place {
            Place::Cluster => format!("ClusterTrustBundle `{}`", self.names.cluster_trust_bundle()),
            Place::Namespace(namespace) => format!("ConfigMap `{namespace}/{}`", self.names.config_map),
        }
    }

    fn tell(&self, digest: &str, board: &Board, troubles: &mut Troubles) {
        troubles.writes.retain(|place, _| board.is_pending(place));
        let trouble = troubles.watches.values().chain(troubles.writes.values()).next().cloned();
        let status = match (board.namespaces(), trouble) {
            (None, None) => None,
            (namespaces, trouble) => Some(Status {
                bundle: digest.to_owned(),
                namespaces,
                pending: namespaces.map(|_| board.pending().count()),
                pending_names: board.pending().take(NAMED).map(str::to_owned).collect(),
                cluster_trust_bundle: board.cluster_is_right(),
                trouble,
            }),
        };
        self.status.send_if_modified(|known| {
            let is_new = *known != status;
            *known = status;
            is_new
        });
    }
}

/// What is wrong, by where it shows.
#[derive(Default)]
struct Troubles {
    watches: BTreeMap<Kind, String>,
    writes: BTreeMap<Place, String>,
}

/// Whoever no longer leads no longer knows.
struct Forget(watch::Sender<Option<Status>>);

impl Drop for Forget {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

fn feed(board: &mut Board, troubles: &mut Troubles, shown: Shown, now: Duration) {
    match shown {
        Shown::Namespace(seen) => {
            let Some(seen) = list(board, troubles, Kind::Namespaces, seen, now) else { return };
            let (namespace, is_there) = seen;
            let is_ending = namespace.metadata.deletion_timestamp.is_some();
            match is_there {
                true => board.namespace(&namespace.name_any(), is_ending, now),
                false => board.namespace_gone(&namespace.name_any()),
            }
        }
        Shown::ConfigMap(seen) => {
            let Some((map, is_there)) = list(board, troubles, Kind::ConfigMaps, seen, now) else { return };
            let place = Place::Namespace(map.namespace().unwrap_or_default());
            board.holds(place, is_there.then(|| objects::held_by_config_map(&map)), now);
        }
        Shown::TrustBundle(seen) => {
            let Some((bundle, is_there)) = list(board, troubles, Kind::ClusterTrustBundle, seen, now) else {
                return;
            };
            board.holds(Place::Cluster, is_there.then(|| objects::held_by_trust_bundle(&bundle)), now);
        }
    }
}

/// What is the same for every watch; returns an object, and whether it is there.
fn list<K>(
    board: &mut Board,
    troubles: &mut Troubles,
    kind: Kind,
    seen: Seen<K>,
    now: Duration,
) -> Option<(K, bool)> {
    if let Seen::Trouble(trouble) = &seen {
        let sentence = match trouble.is_absent() {
            true => format!(
                "this cluster does not serve {kind:?}.certificates.k8s.io/v1, which came with Kubernetes 1.37"
            ),
            false => format!("{kind:?} cannot be watched: {trouble}"),
        };
        if troubles.watches.insert(kind, sentence.clone()).is_none() {
            tracing::warn!(error = sentence, "trust cannot be published fully");
        }
        return None;
    }
    troubles.watches.remove(&kind);
    match seen {
        Seen::Begins => board.begins(kind),
        Seen::Complete => board.complete(kind, now),
        Seen::There(object) => return Some((object, true)),
        Seen::Gone(object) => return Some((object, false)),
        Seen::Trouble(_) | Seen::Well => {}
    }
    None
}

/// The write itself; not sent if we may no longer write.
async fn sent<K>(
    leadership: &Leadership,
    api: &Api<K>,
    name: &str,
    write: &Write,
    object: Value,
) -> Result<K, Trouble>
where
    K: Resource + Clone + DeserializeOwned + Debug + serde::Serialize,
{
    if !leadership.holds() {
        return Err(Trouble::NotLeading);
    }
    match write {
        Write::Create => {
            let object =
                serde_json::from_value(object).map_err(|error| Box::new(kube::Error::SerdeError(error)))?;
            Trouble::within(TIMEOUT, api.create(&PostParams::default(), &object)).await
        }
        Write::Change { .. } => {
            Trouble::within(TIMEOUT, api.patch(name, &PatchParams::default(), &Patch::Merge(object))).await
        }
    }
}

async fn sleep_until(due: Option<Duration>, since: Stopwatch) {
    match due {
        Some(due) => tokio::time::sleep(due.saturating_sub(since.elapsed())).await,
        None => std::future::pending().await,
    }
}
