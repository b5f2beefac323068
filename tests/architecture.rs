//! The shape of `src/` as a test: who may import whom, that no files import each other in a circle, and that a file which
//! says it is pure is pure. It reads line by line, so imports stay one module to a line.

#![allow(clippy::indexing_slicing, reason = "a test points at what it has just made, and fails by panicking")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

const PURE: &str = "//! Pure:";

/// What a file that only decides has no use for.
const IMPURE: [&str; 22] = [
    "tokio::",
    "tokio_util::",
    "tokio_stream::",
    "tonic::transport",
    "hyper",
    "axum::",
    "kube::Client",
    "kube::Api",
    "k8s::connect",
    "redb::",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::process",
    "std::thread",
    "std::env::var",
    "SystemRandom",
    "SystemTime::now",
    "Instant::now",
    "async fn",
    "tracing::",
];

/// Path below `src/`, and text.
type Tree = BTreeMap<String, String>;

fn tree() -> Tree {
    fn walk(directory: &Path, root: &Path, tree: &mut Tree) {
        for entry in std::fs::read_dir(directory).expect("src/ can be listed") {
            let path = entry.expect("an entry of src/ can be read").path();
            if path.is_dir() {
                walk(&path, root, tree);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name =
                    path.strip_prefix(root).expect("it lies below src/").to_string_lossy().into_owned();
                tree.insert(name, std::fs::read_to_string(&path).expect("a source file is text"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut tree = Tree::new();
    walk(&root, &root, &mut tree);
    // Files of tests alone are not part of the house.
    tree.retain(|name, _| !name.ends_with("_tests.rs") && !name.ends_with("test_support.rs"));
    tree
}

/// The code of a file: without comments, and without the test module at its end.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
}

/// The modules in the order of the map.
fn order(tree: &Tree) -> Vec<&str> {
    let map = tree.get("lib.rs").expect("lib.rs is the map");
    map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// What follows `crate::` in each place of a file.
fn named(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let path = move |rest: &'_ str| rest.find(|c| !is_path(c)).unwrap_or(rest.len());
    code(text).flat_map(move |line| {
        line.split("crate::").skip(1).map(move |rest| rest[..path(rest)].split("::").collect())
    })
}

/// Imports that go up the map instead of down.
fn against_the_order(tree: &Tree) -> Vec<String> {
    let order = order(tree);
    let place = |module: &str| order.iter().position(|known| *known == module);
    let mut found = Vec::new();
    for (path, text) in tree {
        let Some(own) = place(top(path)) else {
            if !matches!(path.as_str(), "lib.rs" | "main.rs") {
                found.push(format!("{path} has no place on the map in lib.rs"));
            }
            continue;
        };
        for names in named(text) {
            match place(names[0]) {
                Some(other) if other > own => {
                    found.push(format!("{path} imports `{}`, which stands below it", names[0]));
                }
                _ => {}
            }
        }
    }
    found
}

/// Files that import each other in a circle.
fn in_circles(tree: &Tree) -> BTreeSet<String> {
    let file = |names: &[&str]| {
        let mut best = None;
        for depth in 1..=names.len() {
            let base = names[..depth].join("/");
            for candidate in [format!("{base}.rs"), format!("{base}/mod.rs")] {
                if tree.contains_key(&candidate) {
                    best = Some(candidate);
                }
            }
        }
        best
    };
    let mut uses: BTreeMap<String, BTreeSet<String>> = tree
        .iter()
        .map(|(path, text)| {
            let mut targets: BTreeSet<_> = named(text).filter_map(|names| file(&names)).collect();
            targets.remove(path);
            (path.clone(), targets)
        })
        .collect();
    // Take away files that use nothing left; whatever stays is in a circle, or leads into one.
    while let Some(leaf) = uses.iter().find(|(_, targets)| targets.is_empty()).map(|(path, _)| path.clone()) {
        uses.remove(&leaf);
        uses.values_mut().for_each(|targets| {
            targets.remove(&leaf);
        });
    }
    uses.into_keys().collect()
}

/// Files that say they are pure and are not.
fn impure(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.iter().filter(|(_, text)| text.starts_with(PURE)) {
        for word in IMPURE {
            if code(text).any(|line| line.contains(word)) {
                found.push(format!("{path} says it is pure but names `{word}`"));
            }
        }
    }
    found
}

#[test]
fn modules_import_only_from_those_above_them_on_the_map() {
    assert_eq!(against_the_order(&tree()), Vec::<String>::new());
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_eq!(in_circles(&tree()), BTreeSet::new());
}

#[test]
fn files_that_say_they_are_pure_are_pure() {
    let tree = tree();
    let pure = tree.values().filter(|text| text.starts_with(PURE)).count();
    assert!(pure >= 20, "only {pure} files say they are pure; has the mark changed?");
    assert_eq!(impure(&tree), Vec::<String>::new());
}

#[test]
fn every_module_on_the_map_is_there_and_is_documented() {
    let tree = tree();
    for module in order(&tree) {
        let text = tree.get(&format!("{module}.rs")).or_else(|| tree.get(&format!("{module}/mod.rs")));
        let text = text.unwrap_or_else(|| panic!("`{module}` is on the map and not in src/"));
        assert!(text.starts_with("//! "), "`{module}` does not say what it is for");
    }
}

#[test]
fn the_checks_notice_what_they_are_for() {
    let with = |path: &str, line: &str| {
        let mut changed = tree();
        changed.entry(path.to_owned()).or_default().insert_str(0, &format!("{line}\n"));
        changed
    };
    let upward = against_the_order(&with("identity/mod.rs", "use crate::sds::Secrets;"));
    assert_eq!(upward, ["identity/mod.rs imports `sds`, which stands below it"]);
    let homeless = against_the_order(&with("stray.rs", "// nothing"));
    assert_eq!(homeless, ["stray.rs has no place on the map in lib.rs"]);
    let circle = in_circles(&with("sds/version.rs", "use crate::sds::subscription::Offer;"));
    assert!(circle.contains("sds/version.rs") && circle.contains("sds/subscription.rs"), "{circle:?}");
    let mut reading = tree();
    reading
        .get_mut("agent/schedule.rs")
        .expect("it is there")
        .push_str("fn read() { std::fs::read(\"x\"); }\n");
    // Behind the tests it is not looked at; in front of them it is.
    assert_eq!(impure(&reading), Vec::<String>::new());
    let text = reading["agent/schedule.rs"]
        .replace("#[cfg(test)]", "fn read() { std::fs::read(\"x\"); }\n#[cfg(test)]");
    reading.insert("agent/schedule.rs".to_owned(), text);
    assert_eq!(impure(&reading), ["agent/schedule.rs says it is pure but names `std::fs`"]);
}

#[test]
fn the_image_is_built_by_the_toolchain_that_is_pinned_from_all_files_that_it_takes() {
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let toolchain = read("rust-toolchain.toml");
    let channel =
        toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).map(|rest| rest.trim_matches('"'));
    let channel = channel.expect("the toolchain is pinned");
    assert!(
        read("deploy/Dockerfile").contains(&format!("rust:{channel}-")),
        "deploy/Dockerfile is not built by {channel}"
    );
    let let_in = read("deploy/Dockerfile.dockerignore");
    for part in ["Cargo.toml", "Cargo.lock", "build.rs", "proto", "src", "deploy", "benches"] {
        assert!(
            let_in.lines().any(|line| line == format!("!{part}")),
            "{part} is kept out of the build of the image"
        );
    }
    // What is compiled in from elsewhere than src/ must come from one of these; what stands beside a source file is in src/.
    for (path, text) in tree() {
        for included in
            code(&text).filter(|line| line.contains("include_str!") || line.contains("include_bytes!"))
        {
            assert!(
                included.contains("deploy/") || !included.contains("../"),
                "{path} includes a file that the image is not built from: {included}"
            );
        }
    }
}
