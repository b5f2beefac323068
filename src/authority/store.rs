//! Where an authority is kept: one interface for one process with a directory, and for many with an API server.

use std::fmt;
use std::io;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use crate::authority::record::Record;
use crate::authority::state_dir::StateDirError;
use crate::k8s::Trouble;

/// A version of what is kept, which the next write names: whoever wrote in between is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(pub String);

/// What is kept, and its version.
#[derive(Debug)]
pub struct Kept {
    /// What is kept.
    pub record: Record,
    /// Its version.
    pub revision: Revision,
}

/// How a write went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It is kept, under this version.
    Done(Revision),
    /// Somebody else was faster; nothing was written.
    Overtaken,
}

/// Keeps one authority. Every write is a compare-and-swap, and is there whole or not at all.
pub trait Store: fmt::Debug + Send + Sync {
    /// What is kept now; `None` if there is nothing.
    ///
    /// # Errors
    /// If it cannot be found out, or what is there is damaged.
    fn load(&self) -> BoxFuture<'_, Result<Option<Kept>, StoreError>>;

    /// Keeps `record` in place of what had the version `over`; `None` if there was nothing.
    ///
    /// # Errors
    /// If it cannot be written, or whether it was written is not known.
    fn swap<'a>(
        &'a self,
        over: Option<&'a Revision>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<Swap, StoreError>>;

    /// Where it is kept, in words for people.
    fn place(&self) -> String;
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is not fit.
    #[error(transparent)]
    Directory(#[from] StateDirError),
    /// The file cannot be made or opened.
    #[error("store `{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("store `{0}` is in use by another process; each CA needs a --state-dir of its own")]
    InUse(PathBuf),
    /// The database says no.
    #[error(
        "store `{path}`: {source}; if the file is damaged, restore it from a copy: a new root would not be trusted by running workloads"
    )]
    Database {
        /// The file.
        path: PathBuf,
        /// What the database says.
        source: Box<redb::Error>,
    },
    /// What is kept is not an authority.
    #[error(
        "{place}: the stored root is damaged ({what}); restore it from a copy: a new root would not be trusted by running workloads"
    )]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The API server did not do it.
    #[error("{place}: {source}")]
    Api {
        /// Where.
        place: String,
        /// What went wrong.
        source: Trouble,
    },
}
