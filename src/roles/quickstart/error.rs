//! Why the quickstart did not hold.

use std::path::PathBuf;

use crate::config::ConfigError;
use crate::roles::agent::AgentError;
use crate::roles::ca::CaError;

/// Why the quickstart did not hold.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// A directory or file could not be made.
    #[error("`{path}`: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A setting of a part is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The CA failed.
    #[error("the CA: {0}")]
    Ca(#[from] CaError),
    /// An agent failed.
    #[error("an agent: {0}")]
    Agent(#[from] AgentError),
    /// An Envoy failed.
    #[error("the {name} Envoy: {what}")]
    Envoy {
        /// Which one.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A step did not hold.
    #[error("step `{step}` did not hold: {what}")]
    Step {
        /// Which one.
        step: &'static str,
        /// What is wrong.
        what: String,
    },
}

pub(super) fn broken(step: &'static str) -> impl Fn(String) -> QuickstartError {
    move |what| QuickstartError::Step { step, what }
}
