//! What every command has that asks a CA: which one, and how its answer is shown.

use clap::Args;

use crate::cli::console::Console;
use crate::cli::reach::RawReach;
use crate::cli::reach::Reach;
use crate::cli::reach::ReachError;
use crate::config::Output;
use crate::config::Surroundings;

/// Which CA is asked, and how.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// `text` for people, `json` for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    reach: RawReach,
}

impl Asked {
    /// The way to the CA, and to whoever typed the command.
    ///
    /// # Errors
    /// If it is not said where the CA is, or who asks.
    pub(super) async fn resolve(self, around: Surroundings) -> Result<(Reach, Console), ReachError> {
        Ok((self.reach.resolve().await?, Console::of_process(self.output, around)))
    }
}
