//! Who asks? A proxy that asks the CA shows its service-account token with each question; what was proven is kept for a moment, so that
//! not every request of the mesh is a question to the API server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use ring::digest;
use time::OffsetDateTime;
use tokio::sync::Mutex as AsyncMutex;

use crate::attest::Attested;
use crate::attest::Attestor;
use crate::attest::Credentials;
use crate::attest::NotAttested;
use crate::clock::Clock;

/// How long what was proven counts: so long may a token be of use after it was revoked.
const KEPT: Duration = Duration::from_secs(10);
/// How many tokens are remembered; of more, each is proven each time.
const MAX_TOKENS: usize = 4096;

/// Proves callers, and remembers them for a moment. Clones remember together.
#[derive(Clone, Debug)]
pub struct Callers {
    attestor: Arc<dyn Attestor>,
    known: Arc<Mutex<HashMap<[u8; 32], Entry>>>,
    clock: Clock,
}

/// Held while it is proven, so that those who show the same token wait for one answer.
type Entry = Arc<AsyncMutex<Option<(Attested, OffsetDateTime)>>>;

impl Callers {
    /// Proves them by `attestor`.
    pub fn new(attestor: Arc<dyn Attestor>, clock: Clock) -> Self {
        Self { attestor, known: Arc::default(), clock }
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// If it proves nothing, or it cannot be found out now.
    pub async fn caller(&self, token: Option<String>) -> Result<Attested, NotAttested> {
        let token = token.filter(|token| !token.is_empty()).ok_or(NotAttested::NoToken)?;
        // Its digest stands for it: what is remembered is of no use to whoever reads it.
        let mut name = [0; 32];
        for (to, from) in name.iter_mut().zip(digest::digest(&digest::SHA256, token.as_bytes()).as_ref()) {
            *to = *from;
        }
        let entry = self.entry(name);
        let mut proven = entry.lock().await;
        if let Some((caller, until)) = &*proven
            && self.clock.now() < *until
        {
            return Ok(caller.clone());
        }
        let attested = self.attestor.attest(&Credentials { token: Some(token) }).await;
        match &attested {
            Ok(caller) => *proven = Some((caller.clone(), self.clock.now() + KEPT)),
            // Strangers are not remembered, so that they cannot crowd out others.
            Err(_) => {
                *proven = None;
                self.known().remove(&name);
            }
        }
        attested
    }

    fn entry(&self, name: [u8; 32]) -> Entry {
        let mut known = self.known();
        if let Some(entry) = known.get(&name) {
            return entry.clone();
        }
        if known.len() >= MAX_TOKENS {
            let now = self.clock.now();
            known.retain(|_, entry| match entry.try_lock() {
                Ok(proven) => proven.as_ref().is_some_and(|(_, until)| now < *until),
                Err(_) => true,
            });
        }
        let entry = Entry::default();
        if known.len() < MAX_TOKENS {
            known.insert(name, entry.clone());
        }
        entry
    }

    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::attest::test_support::attestor_and_token;

    /// Counts how often it is asked.
    #[derive(Debug)]
    struct Counting(Box<dyn Attestor>, Arc<AtomicUsize>);

    impl Attestor for Counting {
        fn attest<'a>(&'a self, shown: &'a Credentials) -> BoxFuture<'a, Result<Attested, NotAttested>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.attest(shown)
        }
    }

    #[tokio::test]
    async fn a_caller_is_proven_once_in_a_while_and_a_stranger_each_time() {
        let (attestor, token) = attestor_and_token("shop", "web");
        let asked = Arc::new(AtomicUsize::new(0));
        let (clock, hand) = Clock::simulated(OffsetDateTime::UNIX_EPOCH);
        let callers = Callers::new(Arc::new(Counting(Box::new(attestor), asked.clone())), clock);
        let count = || asked.load(Ordering::Relaxed);
        for _ in 0..10 {
            assert_eq!(callers.caller(Some(token.clone())).await.unwrap().service_account(), "web");
        }
        assert_eq!(count(), 1);
        hand.advance(KEPT);
        assert!(callers.caller(Some(token.clone())).await.is_ok());
        assert_eq!(count(), 2);
        for token in [Some("other".to_owned()), Some("other".to_owned())] {
            assert!(callers.caller(token).await.is_err());
        }
        assert_eq!((count(), callers.known().len()), (4, 1));
        assert_eq!(callers.caller(None).await, Err(NotAttested::NoToken));
        assert_eq!(callers.caller(Some(String::new())).await, Err(NotAttested::NoToken));
        assert_eq!(count(), 4);
    }
}
