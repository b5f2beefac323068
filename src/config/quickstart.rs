//! Settings of `burgrave quickstart`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::layers::ConfigError;

/// Settings of the quickstart as they are given.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RawQuickstart {
    /// The Envoy to run [default: `envoy` on the PATH; without one, that part is left out]
    #[arg(long, env = "BURGRAVE_ENVOY", value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// Stay until Ctrl-C, and say what to point an Envoy of your own at
    #[arg(long)]
    pub keep: bool,
    /// Directory for everything that is made [default: a new one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// How often both sides' certificates rotate while requests flow
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub rotations: u32,
    /// `text` for people, `json` for one object a step and a summary at the end
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// How a command shows its results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Facts that the quickstart is built from.
#[derive(Clone, Debug)]
pub struct QuickstartConfig {
    /// The Envoy to run, if there is one.
    pub envoy: Option<PathBuf>,
    /// Whether to stay.
    pub keep: bool,
    /// Directory to use, if not a new one.
    pub dir: Option<PathBuf>,
    /// How often certificates rotate.
    pub rotations: u32,
    /// How results are shown.
    pub output: Output,
}

impl RawQuickstart {
    /// The facts; `path` is the PATH that an Envoy is looked for on.
    ///
    /// # Errors
    /// If an Envoy is named that is not there.
    pub fn resolve(self, path: Option<OsString>) -> Result<QuickstartConfig, ConfigError> {
        let envoy = match self.envoy {
            Some(named) if !named.is_file() => {
                return Err(ConfigError::Invalid {
                    setting: "envoy",
                    what: format!("there is no file `{}`", named.display()),
                });
            }
            Some(named) => Some(named),
            None => path
                .iter()
                .flat_map(std::env::split_paths)
                .map(|directory| directory.join("envoy"))
                .find(|candidate| candidate.is_file()),
        };
        Ok(QuickstartConfig {
            envoy,
            keep: self.keep,
            dir: self.dir,
            rotations: self.rotations,
            output: self.output,
        })
    }
}
