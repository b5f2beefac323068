//! The book on disk, for a process that has a directory: each change is a line, written before what it is about is done.
//!
//! A killed process loses nothing. A machine that loses its power may lose what was written within the last second.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::census::book::Holder;

const FILE: &str = "census.jsonl";
/// From this size on, a file that has grown to several times what it says is written anew.
const WORTH_IT: u64 = 4 * 1024 * 1024;

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    written: u64,
    compact: u64,
}

impl Journal {
    /// Opens the file in `directory`, and reads what it says: each holder as it was last. A last line that is not whole was
    /// being written when the process was killed, before anything was signed for it.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Vec<Holder>)> {
        let path = directory.join(FILE);
        let mut latest = std::collections::HashMap::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(file) => {
                for line in BufReader::new(file).lines() {
                    let Ok(holder) = serde_json::from_str::<Holder>(&line?) else { continue };
                    latest.insert(holder.id.clone(), holder);
                }
            }
        }
        let holders: Vec<_> = latest.into_values().collect();
        let (file, written) = rewritten(&path, &holders)?;
        Ok((Self { path, file, written, compact: written }, holders))
    }

    /// Adds a line.
    pub(super) fn add(&mut self, holder: &Holder) -> io::Result<()> {
        let mut line = serde_json::to_vec(holder)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.written += line.len() as u64;
        Ok(())
    }

    /// Writes it anew if most of it is of no use any more; and returns what has to be synced to outlive the machine, which
    /// takes time and needs nobody to wait.
    pub(super) fn settle(&mut self, holders: impl FnOnce() -> Vec<Arc<Holder>>) -> io::Result<File> {
        if self.written > WORTH_IT && self.written > 4 * self.compact {
            let (file, written) = rewritten(&self.path, &holders())?;
            (self.file, self.written, self.compact) = (file, written, written.max(1));
        }
        self.file.try_clone()
    }
}

/// Writes the file anew, beside the old one and then in its place.
fn rewritten(path: &Path, holders: &[impl Serialize]) -> io::Result<(File, u64)> {
    let aside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let mut text = Vec::new();
    for holder in holders {
        serde_json::to_writer(&mut text, holder)?;
        text.push(b'\n');
    }
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    let file = OpenOptions::new().append(true).open(path)?;
    Ok((file, text.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_is_found_again_and_a_half_line_is_passed_over() {
        let directory = std::env::temp_dir().join(format!("burgrave-census-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let holder = |id: &str, bundle: &str| Holder {
            id: id.to_owned(),
            bundle: Some((bundle.to_owned(), 1)),
            ..Holder::default()
        };
        let (mut journal, none) = Journal::open(&directory).unwrap();
        assert_eq!(none, []);
        for one in [holder("a", "1"), holder("b", "1"), holder("a", "2")] {
            journal.add(&one).unwrap();
        }
        journal.settle(Vec::new).unwrap().sync_data().unwrap();
        journal.file.write_all(br#"{"id":"c","spi"#).unwrap();
        let (_, mut found) = Journal::open(&directory).unwrap();
        found.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(found, [holder("a", "2"), holder("b", "1")]);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
