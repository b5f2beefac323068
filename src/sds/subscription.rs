//! Pure: what does one discovery stream have to be told? (xDS, state of the world)
//!
//! The machine knows names and versions, not what they stand for, so it serves any resource type. Its rules, each of them
//! seen to matter with a real Envoy:
//!
//! - One resource a response, so that an ACK or NACK is about one thing.
//! - A client that answers a later response has seen the earlier ones.
//! - At most one response per name is unanswered; what changes meanwhile is pushed after the answer, latest only.
//! - A version that was sent is not sent again, and one that was rejected is not either: a NACK never loops.
//! - Each request carries the full list of names; additions are answered whatever its nonce. Names that are not on offer
//!   wait in silence and hold back none of the others.
//! - A client that comes back with the version it holds is not sent that version again.
//! - A request that repeats the last nonce and changes nothing is a second watcher asking: it is sent what it subscribes to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::sds::version::Version;

/// The most names that one stream may subscribe to.
const MAX_NAMES: usize = 10_000;
/// The longest name in bytes; a SPIFFE ID fits.
const MAX_NAME_LENGTH: usize = 2048;

/// What can be subscribed to: the version of each name.
pub type Offer = BTreeMap<String, Version>;

/// A discovery request, without what the machine does not look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Names subscribed to; all of them, each time.
    pub names: Vec<String>,
    /// Version that the client accepted last; empty if none.
    pub version: String,
    /// Nonce of the response that this answers; empty on a new stream.
    pub nonce: String,
    /// Why that response was rejected, redacted; `None` for an ACK.
    pub error: Option<String>,
}

/// What can happen to a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client said something.
    Requested(Request),
    /// What is on offer has changed.
    Offered(Offer),
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this resource at this version, under this nonce.
    Push {
        /// The resource.
        name: String,
        /// Its version.
        version: Version,
        /// The response's nonce.
        nonce: String,
    },
    /// The client uses this version now.
    Acknowledged {
        /// The resource.
        name: String,
        /// Its version.
        version: Version,
    },
    /// The client refused this version, and goes on with what it had.
    Rejected {
        /// The resource.
        name: String,
        /// The refused version.
        version: Version,
        /// The client's reason, redacted.
        error: String,
    },
    /// The client asks for something that is not on offer; it will get it once it is.
    Unknown {
        /// The name.
        name: String,
    },
    /// The request answers no response of ours.
    Stale {
        /// The nonce it names.
        nonce: String,
    },
}

/// What no client may do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too many names.
    #[error("the stream subscribes to {0} names; at most {MAX_NAMES} are allowed")]
    TooManyNames(usize),
    /// A name that is too long.
    #[error("a name of {0} bytes is asked for; at most {MAX_NAME_LENGTH} are allowed")]
    NameTooLong(usize),
}

/// One stream's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    offer: Offer,
    names: BTreeSet<String>,
    /// The version of each name that the client was sent last, or said it holds.
    sent: BTreeMap<String, Version>,
    /// Responses that the client has not answered, by nonce.
    unanswered: BTreeMap<u64, (String, Version)>,
    /// Names whose sent version was rejected.
    rejected: BTreeSet<String>,
    /// The nonce that was answered last.
    answered: Option<u64>,
    last_nonce: u64,
    /// What the client says it holds, until the first response is on its way to it: from then on it holds what it acknowledges.
    held: Option<Version>,
}

impl Subscription {
    /// A new stream, with what is on offer.
    pub fn new(offer: Offer) -> Self {
        Self { offer, ..Self::default() }
    }

    /// What to do when `event` happens.
    ///
    /// # Errors
    /// If the client asks for more than anybody may; the stream has to be closed.
    pub fn step(mut self, event: Event) -> Result<(Self, Vec<Effect>), Refusal> {
        let mut effects = Vec::new();
        match event {
            Event::Offered(offer) => {
                self.offer = offer;
                self.take_for_granted(&mut effects);
            }
            Event::Requested(request) => self.take(request, &mut effects)?,
        }
        self.push_what_is_due(&mut effects);
        Ok((self, effects))
    }

    /// The names subscribed to.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    fn take(&mut self, request: Request, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        if request.names.len() > MAX_NAMES {
            return Err(Refusal::TooManyNames(request.names.len()));
        }
        if let Some(long) = request.names.iter().find(|name| name.len() > MAX_NAME_LENGTH) {
            return Err(Refusal::NameTooLong(long.len()));
        }
        let names: BTreeSet<_> = request.names.into_iter().collect();
        let nonce = request.nonce.parse::<u64>().ok();
        match nonce.and_then(|nonce| self.unanswered.remove(&nonce)) {
            Some((name, version)) => {
                self.answered = nonce;
                self.pass_over(nonce.unwrap_or(0), request.error.is_none(), effects);
                effects.push(self.answer(name, version, request.error));
            }
            None if request.nonce.is_empty() => {}
            None if nonce.is_some() && nonce == self.answered => {
                if names == self.names && request.error.is_none() {
                    let rejected = &self.rejected;
                    self.sent.retain(|name, _| rejected.contains(name));
                }
            }
            None => effects.push(Effect::Stale { nonce: request.nonce.clone() }),
        }
        let says = Some(request.version.as_str()).filter(|version| !version.is_empty());
        self.held = says.filter(|_| self.last_nonce == 0).map(Version::from);
        self.subscribe(names, effects);
        Ok(())
    }

    /// A client may answer only the last of several responses. What it then passes over it has taken, or it would have
    /// rejected it; after a rejection nothing is known, but the name is free for its next version.
    fn pass_over(&mut self, nonce: u64, accepted: bool, effects: &mut Vec<Effect>) {
        let later = self.unanswered.split_off(&nonce);
        for (name, version) in std::mem::replace(&mut self.unanswered, later).into_values() {
            if accepted {
                effects.push(Effect::Acknowledged { name, version });
            }
        }
    }

    fn answer(&mut self, name: String, version: Version, error: Option<String>) -> Effect {
        match error {
            None => Effect::Acknowledged { name, version },
            Some(error) => {
                if self.sent.get(&name) == Some(&version) {
                    self.rejected.insert(name.clone());
                }
                Effect::Rejected { name, version, error }
            }
        }
    }

    /// Makes `names` the subscription.
    fn subscribe(&mut self, names: BTreeSet<String>, effects: &mut Vec<Effect>) {
        // Who leaves and comes back is served anew.
        self.sent.retain(|name, _| names.contains(name));
        self.rejected.retain(|name| names.contains(name));
        for name in names.difference(&self.names) {
            if !self.offer.contains_key(name) {
                effects.push(Effect::Unknown { name: name.clone() });
            }
        }
        self.names = names;
        self.take_for_granted(effects);
    }

    /// What a client on a new stream says it holds, and is on offer, now or before anything else is sent, is not sent to it.
    fn take_for_granted(&mut self, effects: &mut Vec<Effect>) {
        let Some(held) = &self.held else { return };
        let granted =
            |name: &&String| self.offer.get(*name) == Some(held) && self.sent.get(*name) != Some(held);
        let names: Vec<_> = self.names.iter().filter(granted).cloned().collect();
        for name in names {
            self.sent.insert(name.clone(), held.clone());
            effects.push(Effect::Acknowledged { name, version: held.clone() });
        }
    }

    fn push_what_is_due(&mut self, effects: &mut Vec<Effect>) {
        for name in &self.names {
            let Some(version) = self.offer.get(name) else { continue };
            let is_unanswered = self.unanswered.values().any(|(waiting, _)| waiting == name);
            if is_unanswered || self.sent.get(name) == Some(version) {
                continue;
            }
            self.last_nonce += 1;
            self.held = None;
            self.unanswered.insert(self.last_nonce, (name.clone(), version.clone()));
            self.sent.insert(name.clone(), version.clone());
            self.rejected.remove(name);
            effects.push(Effect::Push {
                name: name.clone(),
                version: version.clone(),
                nonce: self.last_nonce.to_string(),
            });
        }
    }
}

#[cfg(test)]
#[path = "subscription_tests.rs"]
mod tests;
