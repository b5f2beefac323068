//! How a command ends that has not failed.

use std::process::ExitCode;

/// How a command ends. What has failed ends with 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// What was asked for is done.
    Done,
    /// It is not: refused, not done in time, ended otherwise than ordered, or two things differ.
    NotDone,
    /// The operator does not watch any longer.
    Interrupted,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(match ending {
            Ending::Done => 0,
            Ending::NotDone => 3,
            Ending::Interrupted => 130,
        })
    }
}
