//! The evaluator for programs that embed the crate, and for our own service: may this request come to this workload?

use std::sync::Arc;

use tokio::sync::watch;

use crate::authz::enforced::Enforced;
use crate::authz::request::Request;
use crate::authz::ruling::Doubts;
use crate::authz::ruling::Reason;
use crate::authz::ruling::Ruling;
use crate::authz::ruling::rule_on;
use crate::clock::Clock;

/// Rules on requests to one workload, by the policies that are in force for it at that moment. Before it has any, it denies all.
///
/// ```
/// use std::sync::Arc;
///
/// use burgrave::authz::Enforced;
/// use burgrave::authz::Http;
/// use burgrave::authz::Judge;
/// use burgrave::authz::Peer;
/// use burgrave::authz::PolicySet;
/// use burgrave::authz::Request;
/// use burgrave::authz::Tally;
/// use burgrave::authz::model::*;
/// use burgrave::clock::Clock;
///
/// // GET from the web shop, and nothing else.
/// let term = |field, atom| Term { field: Field::List(field), negated: false, values: vec![Value::Is(atom)] };
/// let web = Pattern::Exact("spiffe://cluster.local/ns/shop/sa/web".into());
/// let from = Conjunction { index: 0, terms: vec![term("principals", Atom::PeerUri(web))] };
/// let to = Conjunction { index: 0, terms: vec![term("methods", Atom::Method(Pattern::Exact("GET".into())))] };
/// let policy = Policy {
///     name: PolicyName { kind: Kind::AuthorizationPolicy, namespace: "shop".into(), name: "readers".into() },
///     action: Action::Allow,
///     dry_run: false,
///     rules: vec![Rule { index: 0, from: vec![from], to: vec![to], when: Conjunction::default() }],
/// };
/// let policies = PolicySet::new(vec![Arc::new(policy)]);
/// let judge = Judge::of(Enforced::new(policies, Vec::new(), &Tally::default()), Clock::system());
///
/// let request = |method| Request {
///     peer: Some(Peer { uris: &["spiffe://cluster.local/ns/shop/sa/web"] }),
///     http: Some(Http { method, path: "/reviews", host: "reviews", headers: &[] }),
///     ..Request::default()
/// };
/// assert!(judge.rule_on(&request("GET")).is_allowed());
/// let denied = judge.rule_on(&request("DELETE"));
/// assert_eq!((denied.is_allowed(), denied.reason.as_str()), (false, "no_allowing_rule"));
/// ```
#[derive(Clone, Debug)]
pub struct Judge {
    enforced: watch::Receiver<Option<Arc<Enforced>>>,
    asked_elsewhere: Arc<[Box<str>]>,
    clock: Clock,
}

impl Judge {
    /// Rules by what `enforced` holds at each moment. `None` is for policies that were not received yet; it denies. If its sender
    /// goes, the last holds on.
    pub fn following(enforced: watch::Receiver<Option<Arc<Enforced>>>, clock: Clock) -> Self {
        Self { enforced, asked_elsewhere: Arc::new([]), clock }
    }

    /// Rules by these and no others.
    pub fn of(enforced: Enforced, clock: Clock) -> Self {
        let (_, receiver) = watch::channel(Some(Arc::new(enforced)));
        Self::following(receiver, clock)
    }

    /// Names the providers of `CUSTOM` rules that are us, or that are known to be asked by somebody else. What matches a rule of
    /// any other provider is denied, as nobody here can ask it.
    #[must_use]
    pub fn with_providers_asked_elsewhere(self, providers: impl IntoIterator<Item = Box<str>>) -> Self {
        Self { asked_elsewhere: providers.into_iter().collect(), ..self }
    }

    /// Waits until there are policies, or never will be.
    pub async fn ready(&self) {
        // Without a sender there never will be.
        let _ = self.enforced.clone().wait_for(Option::is_some).await;
    }

    /// Rules on a request of which everything is known that policies may ask for: each header line for itself, and the client's
    /// address.
    pub fn rule_on(&self, request: &Request<'_>) -> Ruling {
        self.rule_in_doubt(request, Doubts::default())
    }

    /// Rules on a request that not everything is known of. Where the answer depends on it, it is no.
    pub fn rule_in_doubt(&self, request: &Request<'_>, doubts: Doubts) -> Ruling {
        let enforced = self.enforced.borrow().clone();
        match enforced {
            Some(enforced) => rule_on(&enforced, request, doubts, &self.asked_elsewhere, self.clock.now()),
            None => Ruling::denied(Reason::NotReady),
        }
    }
}
