//! Where is the real server or tool that a story needs?
//!
//! In `KUBEBUILDER_ASSETS`, then on `PATH`, then in the cache that `tests/support/install` fills: the same order, and the
//! same lowest versions, as that script has.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// etcd, 3.5 or newer.
pub fn etcd() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("etcd", "etcd Version: ", (3, 5))).clone()
}

/// The Kubernetes API server, 1.30 or newer.
pub fn kube_apiserver() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("kube-apiserver", "Kubernetes v", (1, 30))).clone()
}

/// Envoy, 1.36 or newer.
pub fn envoy() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("envoy", "/", (1, 36))).clone()
}

/// The `openssl` command, 3.0 or newer.
pub fn openssl() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("openssl", "OpenSSL ", (3, 0))).clone()
}

/// The first `name` that is at least version `least`; its version stands behind `mark` in what `--version` prints.
fn find(name: &str, mark: &str, least: (u32, u32)) -> PathBuf {
    let mut passed_over = String::new();
    for path in places().into_iter().map(|place| place.join(name)).filter(|path| path.is_file()) {
        match version(&path, mark) {
            Some(version) if version >= least => return path,
            Some((major, minor)) => passed_over += &format!("; {} is only {major}.{minor}", path.display()),
            None => passed_over += &format!("; {} does not tell its version", path.display()),
        }
    }
    let (major, minor) = least;
    panic!(
        "no `{name}` of version {major}.{minor} or newer was found{passed_over}; run tests/support/install"
    );
}

fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).into_iter().collect();
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places.extend(cache().map(|cache| cache.join(parts())));
    places
}

/// The cache directory of `tests/support/install`.
fn cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("TEST_PARTS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("burgrave")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/burgrave")))
}

/// The servers' folder within the cache, named by the digest of what pins them.
fn parts() -> String {
    let sums = include_bytes!("parts/go.sum");
    let digest = ring::digest::digest(&ring::digest::SHA256, sums);
    let hex: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("parts-{hex}")
}

/// The first `major.minor` behind `mark` in what the program says of itself.
fn version(program: &Path, mark: &str) -> Option<(u32, u32)> {
    // openssl before 3.2 knows only the bare word.
    let argument = if program.ends_with("openssl") { "version" } else { "--version" };
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(mark).skip(1).find_map(|rest| {
        let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}
