//! What the stories and the benches share: real servers, ports, places to write, and figures to report.
//!
//! Nothing here is a mock. Each server is a [`part::Part`] under a guard that ends it with this process, listens on
//! 127.0.0.1 only, and keeps its files in a [`Scratch`] of its own.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every binary that includes this module uses another half of it"
)]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "this is a test's own code: it waits by the real clock, reads the tester's environment, and fails by panicking"
)]

/// How an API server is reached.
mod access;
pub mod apiserver;
pub mod cluster;
pub mod envoy;
pub mod http;
/// A story's own namespace and what lives in it.
mod namespace;
pub mod part;
pub mod ports;
/// The key that signs a cluster's tokens.
mod token_key;
pub mod tools;

use std::fmt::Display;
use std::fs::Permissions;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// A directory for one test, closed to other users. It goes when dropped, and stays if the test is failing.
///
/// A scratch in a `static` is never dropped; the guard of this process's scratches takes it away when the process ends.
pub struct Scratch {
    path: PathBuf,
}

/// A fresh directory; `name` is for people who look into it.
pub fn scratch(name: &str) -> Scratch {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = scratches().join(format!("{name}-{number}"));
    private_dir(&path);
    Scratch { path }
}

impl Scratch {
    /// Leaves the directory for people to look at, also after this process has ended.
    pub fn keep(self) -> PathBuf {
        self.mark();
        std::mem::ManuallyDrop::new(self).path.clone()
    }

    /// Without the mark the sweep at this process's end would take it.
    fn mark(&self) {
        let _ = std::fs::write(self.path.join(".kept"), "a test failed here\n");
        eprintln!("kept for you to look at: {}", self.path.display());
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.mark();
        } else {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The one directory that holds this process's scratches. Its path is short, so that socket paths in it fit.
fn scratches() -> &'static Path {
    // The sweeper waits for the end of its stdin, which is held here and closes with the process.
    static ROOT: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (root, _sweeper) = ROOT.get_or_init(|| {
        // An earlier process of the same number may have left a failed test's directory behind.
        let root = (0..100)
            .map(|attempt| std::env::temp_dir().join(format!("burgrave-{}-{attempt}", std::process::id())))
            .find(|root| std::fs::create_dir(root).is_ok())
            .unwrap_or_else(|| panic!("no directory could be made in {}", std::env::temp_dir().display()));
        std::fs::set_permissions(&root, Permissions::from_mode(0o700))
            .expect("our own directory can be closed to others");
        let sweeper = part::guard()
            .arg("--sweep")
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        (root, sweeper.expect("tests/support/guard can be run"))
    });
    root
}

fn private_dir(path: &Path) {
    std::fs::create_dir(path).unwrap_or_else(|error| panic!("{} could not be made: {error}", path.display()));
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
        .expect("our own directory can be closed to others");
}

/// Writes a file that only its owner may read, as keys and tokens ask for.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_ref()))
        .unwrap_or_else(|error| panic!("{} could not be written: {error}", path.display()));
}

/// `count` random bytes as hexadecimal: a suffix that is unique, or a token that nobody guesses.
pub fn random_hex(count: usize) -> String {
    use ring::rand::SecureRandom;
    let mut bytes = vec![0; count];
    ring::rand::SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reports a measurement. `cargo test` hides what a passing test prints, so it goes to the file `FIGURES_FILE` too.
pub fn figure(name: &str, value: impl Display, unit: &str) {
    let line = format!("figure {name} {value} {unit}\n");
    print!("{line}");
    if let Some(path) = std::env::var_os("FIGURES_FILE") {
        // One write in append mode, so that parallel tests do not mix their lines.
        let written = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        written
            .unwrap_or_else(|error| panic!("the figure could not be added to {}: {error}", path.display()));
    }
}
