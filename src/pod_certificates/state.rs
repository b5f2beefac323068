//! How does the signer stand? For the operator's page, on every replica.

use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::watch;

/// How the signer stands, as an operator reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Requests that wait for an answer, as far as this process knows: only the leader looks.
    pub pending: usize,
    /// The age of the oldest of them.
    pub oldest_pending_seconds: Option<u64>,
    /// What is wrong, in a sentence.
    pub trouble: Option<String>,
}

/// The same as the signer's desk has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Requests that wait.
    pub(super) pending: usize,
    /// When the oldest of them was made.
    pub(super) oldest: Option<OffsetDateTime>,
    /// What is wrong.
    pub(super) trouble: Option<String>,
}

/// Where the signer writes how it stands, to be read from elsewhere. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Board(watch::Sender<Standing>);

impl Board {
    /// How the signer stands at `now`.
    pub fn state(&self, now: OffsetDateTime) -> State {
        let standing = self.0.borrow();
        let age = |made: OffsetDateTime| u64::try_from((now - made).whole_seconds()).unwrap_or(0);
        State {
            pending: standing.pending,
            oldest_pending_seconds: standing.oldest.map(age),
            trouble: standing.trouble.clone(),
        }
    }

    pub(super) fn write(&self, standing: Standing) {
        self.0.send_if_modified(|written| {
            let changes = *written != standing;
            *written = standing;
            changes
        });
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_oldest_request_grows_older_without_being_written_again() {
        let board = Board::default();
        let now = datetime!(2030-01-01 0:01 UTC);
        assert_eq!(board.state(now), State::default());
        let oldest = Some(datetime!(2030-01-01 0:00 UTC));
        board.write(Standing { pending: 1, oldest, trouble: None });
        assert_eq!(board.state(now).oldest_pending_seconds, Some(60));
        // A clock that is a little behind the API server's makes no age below zero.
        assert_eq!(board.state(now - time::Duration::MINUTE * 2).oldest_pending_seconds, Some(0));
    }
}
