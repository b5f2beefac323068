//! The directory that holds the root: ours alone.

use std::fs::DirBuilder;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It could not be made or looked at.
    #[error("state directory `{path}`: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("state directory `{0}` is not a directory")]
    NotADirectory(PathBuf),
    /// Others can look into it.
    #[error(
        "state directory `{path}` has mode {mode:o}, so others could read the root's key; run `chmod 700 {path}`"
    )]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Makes the directory with mode 0700 if it is missing, and refuses one that others can look into.
///
/// # Errors
/// As the variants say.
pub fn open_state_dir(path: &Path) -> Result<(), StateDirError> {
    let io = |source| StateDirError::Io { path: path.to_owned(), source };
    if !path.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
    }
    let found: Metadata = path.metadata().map_err(io)?;
    if !found.is_dir() {
        return Err(StateDirError::NotADirectory(path.to_owned()));
    }
    match found.permissions().mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(StateDirError::TooOpen { path: path.to_owned(), mode }),
    }
}
