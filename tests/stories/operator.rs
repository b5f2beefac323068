//! An operator of a CA: what they type, and what they see.

use std::path::PathBuf;
use std::process::Stdio;

use burgrave::rotation::report::Readers;
use burgrave::rotation::report::Report;
use serde::de::DeserializeOwned;
use tokio::process::Child;
use tokio::process::Command;

use crate::ca::Ca;
use crate::ca::binary;

/// How a CA is reached, as options of each command.
#[derive(Clone)]
pub(crate) struct Operator {
    reach: Vec<String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// The JSON documents that it printed, one a line.
    pub(crate) fn documents<T: DeserializeOwned>(&self) -> Vec<T> {
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(read).collect()
    }

    /// The only one, of a command that succeeded.
    pub(crate) fn document<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.code, 0, "{self:?}");
        let mut all = self.documents();
        assert_eq!(all.len(), 1, "{}", self.stdout);
        all.remove(0)
    }
}

impl Operator {
    /// At the Unix socket of a CA with a state directory.
    pub(crate) fn of(ca: &Ca) -> Operator {
        let socket: PathBuf = ca.plan().state_dir().join("admin.sock");
        Operator { reach: vec![format!("--socket={}", socket.display())] }
    }

    /// With these options.
    pub(crate) fn with(reach: &[String]) -> Operator {
        Operator { reach: reach.to_vec() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).args(&self.reach).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Types a command, and waits for its end.
    pub(crate) async fn types(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().await.expect("the program runs");
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Types a command, and lets it go on.
    pub(crate) fn begins(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs")
    }

    pub(crate) async fn status(&self) -> Report {
        self.types(&["root", "status", "--output=json"]).await.document()
    }

    pub(crate) async fn readers(&self) -> Readers {
        self.types(&["proxy", "list", "--output=json"]).await.document()
    }
}

/// The end of a command that was begun.
pub(crate) async fn end(child: Child) -> Said {
    let output = child.wait_with_output().await.expect("it ends");
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
