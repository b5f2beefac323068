//! Where is the real server or tool that a story needs?
//!
//! In `KUBEBUILDER_ASSETS`, then on `PATH`, then in the cache that `tests/support/install` fills: the same order, and the
//! same lowest versions, as that script has.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const KUBERNETES: &str = "Kubernetes v";
const KUBERNETES_LEAST: (u32, u32) = (1, 37);

/// etcd, 3.5 or newer.
pub fn etcd() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("etcd", "etcd Version: ", (3, 5))).clone()
}

/// The Kubernetes API server, 1.37 or newer: the first with version 1 of PodCertificateRequest.
pub fn kube_apiserver() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("kube-apiserver", KUBERNETES, KUBERNETES_LEAST)).clone()
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

/// `kubectl`, as new as the API server.
pub fn kubectl() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("kubectl", "Client Version: v", KUBERNETES_LEAST)).clone()
}

/// All that a node of a cluster runs, by the names that `cluster/up` calls them.
pub fn node() -> Vec<(&'static str, PathBuf)> {
    let mut parts = vec![("etcd", etcd()), ("kube-apiserver", kube_apiserver()), ("kubectl", kubectl())];
    for name in ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"] {
        parts.push((name, find(name, KUBERNETES, KUBERNETES_LEAST)));
    }
    // containerd's three fit one another only if they were made together, and the rest tell no version.
    for name in ["containerd", "containerd-shim-runc-v2", "ctr", "cni", "coredns", "pause"] {
        parts.push((name, made(name)));
    }
    parts.push(("envoy", envoy()));
    parts
}

/// A part that is never taken from elsewhere.
fn made(name: &str) -> PathBuf {
    let path = cache().map(|cache| cache.join(parts()).join(name)).filter(|path| path.exists());
    path.unwrap_or_else(|| panic!("no `{name}` was found; run tests/support/install node"))
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
        "no `{name}` of version {major}.{minor} or newer was found{passed_over}; run tests/support/install all"
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

/// The servers' folder within the cache, named by the digest of what pins them, in the order of `tests/support/install`.
fn parts() -> String {
    let sources = [
        include_str!("parts/go.sum"),
        include_str!("parts/containerd/go.sum"),
        include_str!("parts/coredns/go.sum"),
        include_str!("parts/coredns/main.go"),
        include_str!("parts/pause/main.go"),
    ];
    let digest = ring::digest::digest(&ring::digest::SHA256, sources.concat().as_bytes());
    let hex: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("parts-{hex}")
}

/// The first `major.minor` behind `mark` in what the program says of itself.
fn version(program: &Path, mark: &str) -> Option<(u32, u32)> {
    // openssl before 3.2 knows only the bare word.
    let arguments: &[&str] = match program.file_name()?.to_str()? {
        "openssl" => &["version"],
        "kubectl" => &["version", "--client"],
        _ => &["--version"],
    };
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(mark).skip(1).find_map(|rest| {
        let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}
