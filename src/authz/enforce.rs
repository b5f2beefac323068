//! Turns what applies to a workload into what is enforced for it, each time that it changes.

use std::sync::Arc;

use tokio::sync::watch;

use crate::authz::enforced::Enforced;
use crate::authz::library::Told;
use crate::authz::tally::Tally;
use crate::authz::tokens::KeyBook;

/// Compiles what is `told` into `enforced`, until one end of it is gone. Keys of token issuers are looked up in `book`, and what
/// policies do is counted in `tally`. If its source goes, the last holds on.
pub async fn enforce(
    mut told: watch::Receiver<Told>,
    enforced: watch::Sender<Option<Arc<Enforced>>>,
    book: KeyBook,
    tally: Tally,
) {
    loop {
        let applied = told.borrow_and_update().clone();
        let before = enforced.borrow().clone();
        let next = applied.map(|applied| Arc::new(Enforced::of(&applied, before.as_deref(), &book, &tally)));
        drop(before);
        enforced.send_replace(next);
        tokio::select! {
            () = enforced.closed() => return,
            changed = told.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::apply::Applied;
    use crate::authz::judge::Judge;
    use crate::authz::request::Request;
    use crate::clock::Clock;

    #[tokio::test]
    async fn nothing_is_allowed_before_it_is_told_and_each_change_counts() {
        let (tell, told) = watch::channel(None);
        let (enforced, follower) = watch::channel(None);
        let judge = Judge::following(follower.clone(), Clock::system());
        let at_work = tokio::spawn(enforce(told, enforced, KeyBook::default(), Tally::default()));
        let allowed = || judge.rule_on(&Request::default()).is_allowed();
        assert!(!allowed());
        let mut changes = follower;
        tell.send_replace(Some(Arc::new(Applied::default())));
        changes.wait_for(Option::is_some).await.unwrap();
        assert!(allowed());
        tell.send_replace(None);
        changes.wait_for(Option::is_none).await.unwrap();
        assert!(!allowed(), "what is not known any more is not allowed any more");
        drop(tell);
        at_work.await.unwrap();
    }
}
