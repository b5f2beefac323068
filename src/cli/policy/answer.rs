//! How does a question about policies end?

use std::process::ExitCode;

/// How a question about policies ends. One that cannot be asked ends as [`Answer::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// Allowed, the same, in order.
    Yes,
    /// Denied, otherwise, not in order.
    No,
    /// It cannot be told.
    Unknown,
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> Self {
        Self::from(match answer {
            Answer::Yes => 0,
            Answer::No => 1,
            Answer::Unknown => 2,
        })
    }
}
