//! The embedded store: one crash-safe file in the state directory.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use redb::Database;
use redb::ReadableDatabase;
use redb::TableDefinition;
use redb::backends::FileBackend;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::authority::state_dir::StateDirError;
use crate::authority::state_dir::open_state_dir;
use crate::x509::Certificate;
use crate::x509::PrivateKey;
use crate::x509::certificate::hex;

const FILE: &str = "authority.redb";
/// Ending of a store that is being made.
const UNFINISHED: &str = ".new";
/// What is kept of the root, by name; both are written in one transaction.
const ROOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("root");
const KEY: &str = "key.pkcs8";
const CERTIFICATE: &str = "certificate.der";

/// The store in a state directory. One process at a time has it open.
#[derive(Debug)]
pub struct EmbeddedStore {
    database: Database,
    path: PathBuf,
}

/// A root as it is kept.
#[derive(Debug)]
pub struct StoredRoot {
    /// Its key.
    pub key: PrivateKey,
    /// Its certificate.
    pub certificate: Certificate,
}

/// Why the store cannot be used.
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
    /// The database is whole, but what is in it is not a root.
    #[error(
        "store `{path}`: the stored root is damaged ({what}); restore the file from a copy: a new root would not be trusted by running workloads"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl EmbeddedStore {
    /// Opens the store in `directory`, which is made with mode 0700 if missing; `None` if there is no store in it yet.
    ///
    /// # Errors
    /// If others could look into the directory, another process has the store open, or it is damaged.
    pub fn open(directory: &Path) -> Result<Option<Self>, StoreError> {
        open_state_dir(directory)?;
        let path = directory.join(FILE);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::File { path, source }),
            Ok(file) => {
                let store = Self::of_file(file, path)?;
                remove_unfinished(directory);
                Ok(Some(store))
            }
        }
    }

    /// Makes the store in `directory` with `root` in it; `None` if another process was faster.
    ///
    /// It is made whole under another name, with mode 0600, and then given its own: however it is interrupted, there is
    /// either no store or one with a root.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(directory: &Path, root: &StoredRoot) -> Result<Option<Self>, StoreError> {
        let path = directory.join(FILE);
        // By chance, not by process: in containers on one volume every process is the first.
        let mut chance = [0; 8];
        let no_chance =
            |_| StoreError::File { path: path.clone(), source: io::Error::other("no randomness") };
        SystemRandom::new().fill(&mut chance).map_err(no_chance)?;
        let aside = directory.join(format!("{FILE}.{}{UNFINISHED}", hex(&chance)));
        let failed = |source| StoreError::File { path: aside.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .map_err(failed)?;
        let store = Self::of_file(file, aside.clone())?;
        store.keep(root)?;
        // Unlike a rename, a link never replaces what is there.
        let linked = std::fs::hard_link(&aside, &path);
        let _ = std::fs::remove_file(&aside);
        match linked {
            Ok(()) => {
                std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
                Ok(Some(Self { path, ..store }))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                Ok(None)
            }
            Err(source) => Err(failed(source)),
        }
    }

    /// The root.
    ///
    /// # Errors
    /// If the database fails, or holds no whole root.
    pub fn root(&self) -> Result<StoredRoot, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed(error))?;
        let table = match transaction.open_table(ROOT) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Err(self.damaged("there is none in it")),
            Err(error) => return Err(self.failed(error)),
        };
        let key = table.get(KEY).map_err(|error| self.failed(error))?;
        let certificate = table.get(CERTIFICATE).map_err(|error| self.failed(error))?;
        let (Some(key), Some(certificate)) = (key, certificate) else {
            return Err(self.damaged("key or certificate is missing"));
        };
        let der = PrivatePkcs8KeyDer::from(key.value().to_vec());
        Ok(StoredRoot {
            key: PrivateKey::from_der(der.into()).map_err(|error| self.damaged(error))?,
            certificate: Certificate::from_der(CertificateDer::from(certificate.value()))
                .map_err(|error| self.damaged(error))?,
        })
    }

    fn of_file(file: std::fs::File, path: PathBuf) -> Result<Self, StoreError> {
        let opened = FileBackend::new(file).and_then(|file| Database::builder().create_with_backend(file));
        match opened {
            Ok(database) => Ok(Self { database, path }),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse(path)),
            Err(error) => Err(StoreError::Database { path, source: Box::new(error.into()) }),
        }
    }

    fn keep(&self, root: &StoredRoot) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        {
            let mut table = transaction.open_table(ROOT).map_err(|error| self.failed(error))?;
            table.insert(KEY, root.key.secret_der()).map_err(|error| self.failed(error))?;
            let certificate = root.certificate.der().as_ref();
            table.insert(CERTIFICATE, certificate).map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::Database { path: self.path.clone(), source: Box::new(error.into()) }
    }

    fn damaged(&self, what: impl ToString) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.to_string() }
    }
}

/// Takes away what processes that were killed in the middle of their first start have left: roots that signed nothing.
fn remove_unfinished(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(FILE) && name.ends_with(UNFINISHED)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;
    use crate::authority::AuthorityError;
    use crate::authority::Origin;
    use crate::authority::self_signed;

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("burgrave-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn the_root_made_at_first_start_is_the_root_of_every_later_start() {
        let path = directory("again");
        let domain = "td".parse().unwrap();
        let start = || self_signed(&path, &domain, YEAR, NOW).unwrap();
        let (store, first, made) = start();
        drop(store);
        std::fs::write(path.join("authority.redb.1.new"), "of a process that was killed").unwrap();
        let (_store, second, found) = start();
        assert_eq!((made, found), (Origin::Made, Origin::Stored));
        assert_eq!(first.certificate(), second.certificate());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.join(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "nothing unfinished is left");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_store_in_use_an_open_directory_and_another_trust_domain_are_refused() {
        let path = directory("refused");
        let running = self_signed(&path, &"td".parse().unwrap(), YEAR, NOW).unwrap();
        assert!(matches!(EmbeddedStore::open(&path), Err(StoreError::InUse(_))));
        drop(running);
        let other = self_signed(&path, &"other".parse().unwrap(), YEAR, NOW);
        assert!(matches!(other, Err(AuthorityError::TrustDomain { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let open = EmbeddedStore::open(&path).unwrap_err();
        assert!(open.to_string().contains("chmod 700"), "{open}");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn whoever_makes_the_store_second_gets_nothing_and_finds_the_first_ones_root() {
        let path = directory("race");
        let (_store, first, _) = self_signed(&path, &"td".parse().unwrap(), YEAR, NOW).unwrap();
        let key = PrivateKey::generate().unwrap();
        let certificate = first.certificate().clone();
        assert!(EmbeddedStore::create(&path, &StoredRoot { key, certificate }).unwrap().is_none());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_damaged_store_is_refused_and_never_gets_a_new_root() {
        let path = directory("damaged");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(path.join(FILE), [0x5a; 8192]).unwrap();
        let refused = EmbeddedStore::open(&path).unwrap_err();
        assert!(refused.to_string().contains("restore it from a copy"), "{refused}");
        assert_eq!(std::fs::read(path.join(FILE)).unwrap(), [0x5a; 8192]);
        std::fs::remove_dir_all(path).unwrap();
    }
}
