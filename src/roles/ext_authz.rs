//! What it takes to answer proxies that ask for each request: shared by the CA and the agent.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attest::Attested;
use crate::attest::Attestor;
use crate::authz::About;
use crate::authz::AuthorizationService;
use crate::authz::Callers;
use crate::authz::Courts;
use crate::authz::DecisionAudit;
use crate::authz::Follow;
use crate::authz::Judge;
use crate::authz::Tally;
use crate::authz::Told;
use crate::authz::check::Wording;
use crate::authz::enforce;
use crate::authz::tokens::Fetcher;
use crate::authz::tokens::Keeper;
use crate::authz::tokens::KeyBook;
use crate::authz::tokens::Times;
use crate::authz::tokens::UnusableRoots;
use crate::clock::Clock;
use crate::config::ExtAuthzConfig;

/// The parts of answering.
#[derive(Debug)]
pub(super) struct ExtAuthz {
    config: ExtAuthzConfig,
    book: KeyBook,
    tally: Tally,
    audit: DecisionAudit,
    keeper: Keeper,
    clock: Clock,
}

impl ExtAuthz {
    /// Builds them.
    ///
    /// # Errors
    /// If there are no roots to trust token issuers by.
    pub(super) fn new(
        config: ExtAuthzConfig,
        registry: &mut Registry,
        clock: &Clock,
    ) -> Result<Self, UnusableRoots> {
        let (book, tally) = (KeyBook::default(), Tally::default());
        let fetcher = Fetcher::new(config.root_file.as_deref())?;
        let keeper = Keeper::new(book.clone(), fetcher, Times::default(), clock.clone());
        let audit = DecisionAudit::new(config.audit_rate, &tally, registry, clock.clone());
        Ok(Self { config, book, tally, audit, keeper, clock: clock.clone() })
    }

    /// Where the keys of token issuers are looked up; the work that goes on keeps it.
    pub(super) fn book(&self) -> KeyBook {
        self.book.clone()
    }

    /// Answers for the one workload that `told` is about, whoever asks; and the work that goes on meanwhile.
    pub(super) fn for_own(
        self,
        told: watch::Receiver<Told>,
        stop: CancellationToken,
    ) -> (AuthorizationService, impl Future<Output = ()> + Send + use<>) {
        let (enforced, follower) = watch::channel(None);
        let judge = Judge::following(follower, self.clock.clone())
            .with_providers_asked_elsewhere(self.config.providers.iter().cloned());
        let enforcing = enforce(told, enforced, self.book.clone(), self.tally.clone());
        let service = self.service(About::Own(judge));
        let work = self.work(stop.clone());
        let all = async move {
            let enforcing = async {
                tokio::select! {
                    () = enforcing => {}
                    () = stop.cancelled() => {}
                }
            };
            tokio::join!(work, enforcing);
        };
        (service, all)
    }

    /// Answers callers for their own workload; and the work that goes on meanwhile.
    pub(super) fn for_callers(
        self,
        source: Arc<dyn Follow>,
        attestor: Arc<dyn Attestor>,
        stop: CancellationToken,
    ) -> (AuthorizationService, impl Future<Output = ()> + Send + use<>) {
        let courts = Courts::new(
            source,
            self.config.providers.clone(),
            self.book.clone(),
            self.tally.clone(),
            self.clock.clone(),
        );
        let callers = Callers::new(attestor, self.clock.clone());
        let service = self.service(About::Callers { callers, judges: Arc::new(courts) });
        (service, self.work(stop))
    }

    fn service(&self, about: About) -> AuthorizationService {
        AuthorizationService {
            about,
            audit: self.audit.clone(),
            trusted: self.config.trusted_hops,
            wording: Wording { names_policies: self.config.name_policies },
        }
    }

    async fn work(self, stop: CancellationToken) {
        tokio::join!(self.keeper.run(stop.clone()), self.audit.run(stop));
    }
}

/// Knows no policies: whoever asks is told no.
#[derive(Debug)]
pub(super) struct NoPolicies;

impl Follow for NoPolicies {
    fn follow(&self, _: &Attested) -> Option<watch::Receiver<Told>> {
        None
    }
}
