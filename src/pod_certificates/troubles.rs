//! Pure: what is wrong now, and is it news?

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::pod_certificates::hindrance::Hindrance;
use crate::pod_certificates::hindrance::Weight;

/// A watch of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watch {
    /// Of the requests.
    Requests,
    /// Of the pods.
    Pods,
}

/// What is wrong: one sentence a reason, as long as any request has it.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    watches: BTreeMap<Watch, String>,
    by_reason: BTreeMap<&'static str, Reason>,
    of_request: HashMap<String, &'static str>,
    count: u64,
}

#[derive(Debug)]
struct Reason {
    requests: usize,
    sentence: String,
    /// The later trouble has the higher number.
    number: u64,
}

impl Watch {
    /// What it shows.
    pub(super) fn of(self) -> &'static str {
        match self {
            Self::Requests => "podcertificaterequests.certificates.k8s.io",
            Self::Pods => "pods",
        }
    }
}

impl Troubles {
    /// A watch does not get on; returns whether that is news.
    pub(super) fn watch_failed(&mut self, watch: Watch, sentence: String) -> bool {
        self.watches.insert(watch, sentence).is_none()
    }

    /// A watch gets on; returns whether that is news.
    pub(super) fn watch_gets_on(&mut self, watch: Watch) -> bool {
        self.watches.remove(&watch).is_some()
    }

    /// Whether a watch does not get on now.
    pub(super) fn is_failing(&self, watch: Watch) -> bool {
        self.watches.contains_key(&watch)
    }

    /// A try at the request `uid` came to nothing; returns whether no other request has that reason yet.
    pub(super) fn request_waits(&mut self, uid: &str, hindrance: &Hindrance) -> bool {
        let reason = hindrance.reason();
        if hindrance.weight() == Weight::Ordinary {
            self.request_is_well(uid);
            return false;
        }
        if self.of_request.get(uid) != Some(&reason) {
            self.request_is_well(uid);
            self.of_request.insert(uid.to_owned(), reason);
        } else if let Some(known) = self.by_reason.get_mut(reason) {
            known.requests -= 1;
        }
        self.count += 1;
        let (number, sentence) = (self.count, hindrance.to_string());
        let is_news = !self.by_reason.contains_key(reason);
        let requests = self.by_reason.get(reason).map_or(1, |known| known.requests + 1);
        self.by_reason.insert(reason, Reason { requests, sentence, number });
        is_news
    }

    /// The request `uid` has no trouble any more, or is gone.
    pub(super) fn request_is_well(&mut self, uid: &str) {
        let Some(reason) = self.of_request.remove(uid) else { return };
        if let Some(known) = self.by_reason.get_mut(reason) {
            known.requests = known.requests.saturating_sub(1);
            if known.requests == 0 {
                self.by_reason.remove(reason);
            }
        }
    }

    /// The latest thing that is wrong, in a sentence; a watch that does not get on comes first, as nothing works without.
    pub(super) fn sentence(&self) -> Option<String> {
        let latest = || self.by_reason.values().max_by_key(|reason| reason.number);
        self.watches.values().next().or_else(|| latest().map(|reason| &reason.sentence)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn expired() -> Hindrance {
        Hindrance::IssuerExpired(datetime!(2030-01-01 0:00 UTC))
    }

    #[test]
    fn a_reason_is_news_once_until_no_request_has_it() {
        let mut troubles = Troubles::default();
        assert!(troubles.request_waits("a", &expired()));
        assert!(!troubles.request_waits("a", &expired()));
        assert!(!troubles.request_waits("b", &expired()));
        assert!(troubles.request_waits("b", &Hindrance::Signer("no key".to_owned())));
        assert_eq!(troubles.sentence().as_deref(), Some("signing failed: no key"));
        troubles.request_is_well("b");
        assert!(troubles.sentence().unwrap().contains("expired"));
        troubles.request_is_well("a");
        troubles.request_is_well("a");
        assert_eq!(troubles.sentence(), None);
        assert!(troubles.request_waits("a", &expired()));
    }

    #[test]
    fn what_belongs_to_the_days_work_is_no_trouble_and_ends_one() {
        let mut troubles = Troubles::default();
        assert!(troubles.request_waits("a", &expired()));
        assert!(!troubles.request_waits("a", &Hindrance::Overtaken));
        assert_eq!(troubles.sentence(), None);
    }

    #[test]
    fn a_watch_that_does_not_get_on_comes_first() {
        let mut troubles = Troubles::default();
        troubles.request_waits("a", &expired());
        assert!(troubles.watch_failed(Watch::Pods, "pods".to_owned()));
        assert!(!troubles.watch_failed(Watch::Pods, "pods still".to_owned()));
        assert_eq!(troubles.sentence().as_deref(), Some("pods still"));
        assert!(troubles.watch_gets_on(Watch::Pods));
        assert!(!troubles.watch_gets_on(Watch::Pods));
        assert!(troubles.sentence().unwrap().contains("expired"));
    }
}
