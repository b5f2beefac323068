//! Policies from a directory of YAML files, for a CA that has no cluster. Files are looked at again and again, and those that
//! have changed are read.
//!
//! A file counts once it was found the same twice, for one that is being written may be read as anything. Better still, move a new file
//! into the place of the old one.
//!
//! A file that cannot be read, or in which an object cannot, counts as it was when it last could; for to leave out an object that
//! denies would allow more. A directory with a file that never could be read tells nothing at all.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::authz::resource::Resource;
use crate::authz::resource::ResourceId;
use crate::authz::resource::Severity;
use crate::authz::resource::from_yaml;

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a file has to stay as it is, to count.
const SETTLED: Duration = Duration::from_millis(50);
/// The most files that are read.
const MAX_FILES: usize = 10_000;

/// All objects of a directory; `None` until each file has been read once.
pub type Objects = Option<Arc<Vec<Resource>>>;

/// What tells one state of a file from another.
type Mark = (u64, u64, i64, i64, i64, i64);

/// A directory that is watched.
#[derive(Debug)]
pub struct PolicyFiles {
    directory: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// Files that have changed since they were read, as they were when last looked at.
    changing: BTreeMap<PathBuf, Mark>,
    /// Why the directory itself cannot be read, as it was said last.
    trouble: Option<String>,
    was_told: bool,
    metrics: Metrics,
}

#[derive(Debug)]
struct File {
    mark: Mark,
    /// What it held when it last could be read.
    good: Option<Vec<Resource>>,
    is_faulty: bool,
}

#[derive(Clone, Debug, Default)]
struct Metrics {
    reads: Counter,
    faults: Counter,
    faulty: Gauge,
}

impl PolicyFiles {
    /// Watches `directory`, once [`PolicyFiles::run`] is polled.
    pub fn new(directory: PathBuf, registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        let help = "Files of policies that were read because they had changed";
        registry.register("burgrave_policy_file_reads", help, metrics.reads.clone());
        let help = "What was wrong with files of policies, each time they were read";
        registry.register("burgrave_policy_file_faults", help, metrics.faults.clone());
        let help = "Files of policies that cannot be read now, and count as they were before";
        registry.register("burgrave_policy_files_faulty", help, metrics.faulty.clone());
        let (files, changing) = (BTreeMap::new(), BTreeMap::new());
        Self { directory, files, changing, trouble: None, was_told: false, metrics }
    }

    /// Keeps `objects` what the files say, for as long as it is polled.
    pub async fn run(mut self, objects: watch::Sender<Objects>) {
        loop {
            // A disk that is slow must not hold up anybody but this task.
            let looked = tokio::task::spawn_blocking(move || {
                let news = self.look();
                (self, news)
            });
            let Ok((files, news)) = looked.await else { return };
            self = files;
            if let Some(news) = news {
                tracing::info!(
                    directory = %self.directory.display(),
                    objects = news.as_ref().map(|all| all.len()),
                    "the policies are new"
                );
                objects.send_replace(news);
            }
            tokio::time::sleep(if self.changing.is_empty() { LOOK } else { SETTLED }).await;
        }
    }

    /// What all files say, if that may have changed.
    fn look(&mut self) -> Option<Objects> {
        let found = match marks(&self.directory) {
            Ok(found) => {
                self.trouble = None;
                found
            }
            Err(error) => {
                let error = error.to_string();
                if self.trouble.as_ref() != Some(&error) {
                    tracing::error!(directory = %self.directory.display(), error, "the policies cannot be read; those that were read last stay");
                    self.trouble = Some(error);
                }
                return None;
            }
        };
        let before = self.files.len();
        self.files.retain(|path, _| found.contains_key(path));
        let mut has_changed = before != self.files.len();
        // Before anything was told, it is no harm to look again at once.
        let last = std::mem::take(&mut self.changing);
        for (path, mark) in found {
            let known = self.files.get(&path);
            if known.is_some_and(|known| known.mark == mark) {
                continue;
            }
            if last.get(&path) != Some(&mark) {
                self.changing.insert(path, mark);
                continue;
            }
            has_changed = true;
            self.read(path, mark);
        }
        if !self.was_told && !self.changing.is_empty() {
            return None;
        }
        let faulty = self.files.values().filter(|file| file.is_faulty).count();
        self.metrics.faulty.set(i64::try_from(faulty).unwrap_or(i64::MAX));
        // An empty directory is told too.
        let is_first = !std::mem::replace(&mut self.was_told, true);
        (has_changed || is_first).then(|| self.objects())
    }

    fn read(&mut self, path: PathBuf, mark: Mark) {
        self.metrics.reads.inc();
        let read = read(&path, &self.metrics.faults);
        if marked(&path).ok() != Some(mark) {
            // It has changed meanwhile; what was read may be half of it.
            self.changing.insert(path, mark);
            return;
        }
        let is_faulty = read.is_none();
        match self.files.entry(path) {
            Entry::Vacant(entry) => {
                entry.insert(File { mark, good: read, is_faulty });
            }
            Entry::Occupied(mut entry) => {
                let file = entry.get_mut();
                (file.mark, file.is_faulty) = (mark, is_faulty);
                if read.is_some() {
                    file.good = read;
                }
            }
        }
    }

    fn objects(&self) -> Objects {
        let mut all: BTreeMap<ResourceId, Resource> = BTreeMap::new();
        for (path, file) in &self.files {
            for resource in file.good.as_ref()? {
                if all.insert(resource.id.clone(), resource.clone()).is_some() {
                    tracing::warn!(file = %path.display(), object = %resource.id, "this object is in two files; this one counts");
                }
            }
        }
        Some(Arc::new(all.into_values().collect()))
    }
}

/// The objects of a file, if all of them can be named; what is wrong within one only ever reduces access.
fn read(path: &Path, faults: &Counter) -> Option<Vec<Resource>> {
    let file = path.display();
    let wrong = |error: &dyn std::fmt::Display| {
        faults.inc();
        tracing::error!(%file, %error, "a file of policies cannot be read; what it said last, if anything, counts");
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error)).ok()?;
    let documents = from_yaml(&text).map_err(|error| wrong(&error)).ok()?;
    let mut resources = Vec::new();
    for one in documents.resources {
        let resource = one.map_err(|error| wrong(&error)).ok()?;
        for fault in &resource.faults {
            faults.inc();
            match fault.severity {
                Severity::Error => {
                    tracing::error!(%file, object = %resource.id, error = %fault, "a policy is not as it should be")
                }
                Severity::Warning => {
                    tracing::warn!(%file, object = %resource.id, error = %fault, "a policy may not mean what it says")
                }
            }
        }
        resources.push(resource);
    }
    Some(resources)
}

/// The YAML files of a directory, each with what tells its state.
fn marks(directory: &Path) -> io::Result<BTreeMap<PathBuf, Mark>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if !path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json") {
            continue;
        }
        let mark = match marked(&path) {
            Ok(mark) => mark,
            // One that goes at this moment is not there. One that cannot be looked at is, whatever it says.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
                continue;
            }
            Err(error) => return Err(io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))),
        };
        found.insert(path, mark);
        if found.len() > MAX_FILES {
            return Err(io::Error::other(format!("there are more than {MAX_FILES} files of policies")));
        }
    }
    Ok(found)
}

fn marked(path: &Path) -> io::Result<Mark> {
    let about = std::fs::metadata(path)?;
    Ok((about.ino(), about.len(), about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{rules: [{{}}]}}\n---\n"
        )
    }

    fn names(news: Option<Objects>) -> Option<Option<Vec<String>>> {
        let names = |all: Arc<Vec<Resource>>| all.iter().map(|one| one.id.name.clone()).collect();
        news.map(|objects| objects.map(names))
    }

    #[test]
    fn files_are_followed_and_what_cannot_be_read_counts_as_it_was() {
        let directory = std::env::temp_dir().join(format!("burgrave-policies-{}", crate::chance::tag()));
        std::fs::create_dir(&directory).unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
        let mut files = PolicyFiles::new(directory.clone(), &mut Registry::default());
        let some = |names: &[&str]| Some(Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()));
        assert_eq!(names(files.look()), some(&[]));
        write("one.yaml", &(policy("a") + &policy("b") + "apiVersion: v1\nkind: ConfigMap\n"));
        write("notes.txt", "not: [looked at");
        assert_eq!(names(files.look()), None, "it may still be written");
        assert_eq!(names(files.look()), some(&["a", "b"]));
        assert_eq!(names(files.look()), None);
        for bad in
            ["a: [", "apiVersion: security.istio.io/v7\nkind: AuthorizationPolicy\nmetadata: {name: a}\n"]
        {
            write("one.yaml", &(policy("c") + bad));
            assert_eq!(names(files.look()), None);
            assert_eq!(names(files.look()), some(&["a", "b"]), "{bad}");
        }
        assert_eq!((files.metrics.faults.get(), files.metrics.faulty.get()), (2, 1));
        // Somebody empties it first, and writes then: what is in between is not looked at.
        write("one.yaml", "");
        assert_eq!(names(files.look()), None);
        write("one.yaml", &policy("c"));
        assert_eq!(names(files.look()), None);
        assert_eq!(names(files.look()), some(&["c"]));
        // One that never could be read hides who knows what.
        write("two.yaml", "a: [");
        assert_eq!(names(files.look()), None);
        assert_eq!(names(files.look()), Some(None));
        std::fs::remove_file(directory.join("two.yaml")).unwrap();
        assert_eq!(names(files.look()), some(&["c"]));
        // One that is there and leads nowhere is not one that is gone.
        std::fs::remove_file(directory.join("one.yaml")).unwrap();
        std::os::unix::fs::symlink("/nowhere", directory.join("one.yaml")).unwrap();
        assert_eq!(names(files.look()), None);
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(names(files.look()), None, "what is gone altogether is rather a disk that is gone");
    }
}
