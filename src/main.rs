//! Parses the command line, runs one role or command, and turns an error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match burgrave::cli::run() {
        Ok(code) => code,
        Err(error) => {
            // The causes are part of our errors' own sentences; anyhow's chain would say them twice.
            eprintln!("burgrave: {error}");
            ExitCode::from(1)
        }
    }
}
