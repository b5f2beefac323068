//! Settings of the log, the same for every role.

use clap::ValueEnum;

use crate::telemetry::LogFormat;

/// Settings of the log as they are given.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct RawLog {
    /// How log lines look: `text` for people, `json` for machines. The log goes to standard error
    #[arg(long, env = "BURGRAVE_LOG_FORMAT", value_enum, default_value_t, global = true)]
    pub log_format: RawLogFormat,
    /// What is logged: error, warn, info, debug, trace, or a list such as `info,burgrave::sds=debug`. The audit trail
    /// of the CA is always logged [default: info; for the quickstart: error]
    #[arg(long, env = "BURGRAVE_LOG_LEVEL", value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
}

/// A log format by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RawLogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl From<RawLogFormat> for LogFormat {
    fn from(raw: RawLogFormat) -> Self {
        match raw {
            RawLogFormat::Text => Self::Text,
            RawLogFormat::Json => Self::Json,
        }
    }
}
