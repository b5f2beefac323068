//! Builds what rotates the authorities, and what operators see of it.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::attest::Attestor;
use crate::authority::Follower;
use crate::authority::Keeper;
use crate::authority::Store;
use crate::census::Census;
use crate::clock::Clock;
use crate::config::CaConfig;
use crate::distribution::Latest;
use crate::roles::ca::cluster::Cluster;
use crate::roles::ca::cluster::Controllers;
use crate::roles::ca::complaints::Complaints;
use crate::roles::ca::complaints::Part;
use crate::rotation;
use crate::rotation::AdminService;
use crate::rotation::AgentService;
use crate::rotation::Door;
use crate::rotation::Guard;
use crate::rotation::Memory;
use crate::rotation::Orders;
use crate::rotation::Others;
use crate::rotation::Patience;
use crate::rotation::Sources;
use crate::rotation::Troubles;
use crate::rotation::View;
use crate::sds::SdsMetrics;
use crate::sds::SecretService;
use crate::sds::Subscribers;

/// What it takes.
pub(super) struct Parts<'a> {
    pub(super) config: &'a CaConfig,
    pub(super) follower: &'a Follower,
    pub(super) store: Option<Arc<dyn Store>>,
    /// Reads the authorities again, where others may change them.
    pub(super) latest: Latest,
    pub(super) census: &'a Census,
    pub(super) cluster: Option<(&'a Cluster, &'a Controllers)>,
    pub(super) complaints: &'a Complaints,
    pub(super) clock: &'a Clock,
}

/// What is served of it.
#[derive(Clone)]
pub(super) struct Rotation {
    pub(super) view: View,
    orders: Option<Orders>,
}

impl Rotation {
    /// Joins the parts, and has `background` do what goes on by itself.
    pub(super) fn new(parts: &Parts<'_>, background: &mut JoinSet<()>) -> Self {
        let (told_others, others) = watch::channel(match parts.cluster {
            Some(_) => Others::unheard(),
            None => Others::default(),
        });
        let election = parts.cluster.map(|(_, controllers)| controllers);
        let config = parts.config;
        let sources = Sources {
            replica: parts
                .cluster
                .map_or_else(|| "this process".to_owned(), |(cluster, _)| cluster.replica().to_owned()),
            in_force: parts.follower.in_force.clone(),
            census: parts.census.clone(),
            others,
            publishing: election.map(|one| (one.distribution.clone(), one.leadership.clone())),
            patience: Patience {
                refresh: config.rotation.refresh,
                longest_leaf: config.profile.max_lifetime() + config.profile.backdate(),
            },
            clock: parts.clock.clone(),
            memory: Memory::default(),
        };
        background.spawn(parts.census.clone().settle());
        if let Some((cluster, controllers)) = parts.cluster {
            exchange(cluster, controllers, &sources, told_others, parts, background);
            let (client, known) = (cluster.client.clone(), sources.clone());
            let work = move || rotation::look_for_the_gone(client.clone(), known.clone());
            background.spawn(controllers.leadership.clone().while_leading(work));
        }
        let keeper = parts.store.clone().map(|store| Keeper::new(store, parts.follower.clone()));
        let place = keeper.as_ref().map_or_else(|| place_of_files(config), Keeper::place);
        let troubles = troubles(parts.complaints, parts.census);
        // Several that share a store, and do not know one another, must not act on what each knows alone.
        let is_alone = parts.cluster.is_none() && !config.is_shared();
        let orders = keeper.filter(|_| is_alone || election.is_some()).map(|keeper| Orders {
            keeper,
            sources: sources.clone(),
            trust_domain: config.trust_domain.clone(),
            root_lifetime: config.rotation.root_lifetime,
            rotate_at_age: config.rotation.at_age,
            reissue_per_second: config.rotation.reissue_per_second,
            troubles: troubles.clone(),
        });
        if let Some(orders) = &orders {
            let orders = orders.clone();
            let complain = complain(parts.complaints, Part::Rotation);
            match election {
                None => drop(background.spawn(rotation::conduct(orders, complain))),
                Some(election) => {
                    let work = move || rotation::conduct(orders.clone(), complain.clone());
                    background.spawn(election.leadership.clone().while_leading(work));
                }
            }
        }
        let view = View {
            sources,
            trust_domain: config.trust_domain.clone(),
            place,
            can_rotate: orders.is_some(),
            rotate_at_age: config.rotation.at_age,
            troubles,
        };
        Self { view, orders }
    }

    /// What operators call, through this door.
    pub(super) fn admin(&self, door: Door) -> AdminService {
        AdminService { view: self.view.clone(), orders: self.orders.clone(), door }
    }

    /// What operators call over TLS, where there is a cluster that knows them.
    pub(super) fn admin_over_tls(&self, cluster: Option<&Cluster>) -> Option<AdminService> {
        let guard = Guard::new(cluster?.client.clone());
        Some(self.admin(Door::Kubernetes(Arc::new(guard))))
    }

    /// What agents subscribe to.
    pub(super) fn agents(
        &self,
        parts: &Parts<'_>,
        attestor: Arc<dyn Attestor>,
        metrics: SdsMetrics,
        background: &mut JoinSet<()>,
        stop: CancellationToken,
    ) -> AgentService {
        let in_force = &parts.follower.in_force;
        let (secrets, offered) =
            watch::channel(Arc::new(rotation::announcement(&in_force.held(), parts.clock)));
        background.spawn(rotation::announce(in_force.watch(), secrets, parts.clock.clone()));
        AgentService {
            secrets: SecretService::new(offered, Subscribers::default(), metrics, stop).to_agents(),
            attestor,
            trust_domain: parts.config.trust_domain.clone(),
            census: parts.census.clone(),
        }
    }
}

fn exchange(
    cluster: &Cluster,
    controllers: &Controllers,
    sources: &Sources,
    others: watch::Sender<Others>,
    parts: &Parts<'_>,
    background: &mut JoinSet<()>,
) {
    let exchange = cluster.exchange(&controllers.leadership, parts.latest.clone(), parts.clock);
    parts.census.fence(Some("the other replicas have not been told of this one yet".to_owned()));
    let (own, told) = watch::channel(sources.bulletin());
    background.spawn(rotation::keep_bulletin(sources.clone(), own));
    background.spawn(exchange.clone().tell(
        told,
        parts.census.clone(),
        complain(parts.complaints, Part::Told),
    ));
    background.spawn(exchange.hear(others, complain(parts.complaints, Part::Heard)));
}

/// What says what is wrong with `part`.
fn complain(complaints: &Complaints, part: Part) -> impl Fn(Option<String>) + Clone + Send + use<> {
    let complaints = complaints.clone();
    move |wrong| complaints.set(part, wrong)
}

fn place_of_files(config: &CaConfig) -> String {
    match &config.authority {
        crate::config::Authority::Plugged { directory } => format!("directory `{}`", directory.display()),
        _ => "memory".to_owned(),
    }
}

fn troubles(complaints: &Complaints, census: &Census) -> Troubles {
    let (complaints, census) = (complaints.clone(), census.clone());
    Arc::new(move || complaints.all().into_iter().chain(census.trouble()).collect())
}
