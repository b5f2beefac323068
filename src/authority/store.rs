//! The embedded store: one crash-safe file in the state directory.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use redb::Database;
use redb::ReadableDatabase;
use redb::ReadableTable;
use redb::TableDefinition;
use redb::backends::FileBackend;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::authority::state_dir::StateDirError;
use crate::authority::state_dir::open_state_dir;
use crate::x509::Certificate;
use crate::x509::PrivateKey;

const FILE: &str = "authority.redb";
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
        source: std::io::Error,
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
    /// Opens the store in `directory`, which is made with mode 0700 if missing; the file has mode 0600.
    ///
    /// # Errors
    /// If others could read it, another process has it open, or it is damaged.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        open_state_dir(directory)?;
        let path = directory.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StoreError::File { path: path.clone(), source })?;
        let opened = FileBackend::new(file).and_then(|file| Database::builder().create_with_backend(file));
        match opened {
            Ok(database) => Ok(Self { database, path }),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse(path)),
            Err(error) => Err(StoreError::Database { path, source: Box::new(error.into()) }),
        }
    }

    /// The root, if one was ever kept.
    ///
    /// # Errors
    /// If the database fails or what it holds is damaged.
    pub fn root(&self) -> Result<Option<StoredRoot>, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed(error))?;
        match transaction.open_table(ROOT) {
            Ok(table) => self.read(&table),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Keeps `root` unless there is one already, and returns the one that is kept. It is on disk when this returns.
    ///
    /// # Errors
    /// If the database fails or what it holds is damaged.
    pub fn keep_root_if_none(&self, root: StoredRoot) -> Result<StoredRoot, StoreError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        {
            let mut table = transaction.open_table(ROOT).map_err(|error| self.failed(error))?;
            if let Some(earlier) = self.read(&table)? {
                return Ok(earlier);
            }
            table.insert(KEY, root.key.secret_der()).map_err(|error| self.failed(error))?;
            table.insert(CERTIFICATE, root.certificate.der().as_ref()).map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))?;
        Ok(root)
    }

    fn read(
        &self,
        table: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Option<StoredRoot>, StoreError> {
        let key = table.get(KEY).map_err(|error| self.failed(error))?;
        let certificate = table.get(CERTIFICATE).map_err(|error| self.failed(error))?;
        let (key, certificate) = match (key, certificate) {
            (Some(key), Some(certificate)) => (key, certificate),
            (None, None) => return Ok(None),
            _ => return Err(self.damaged("key or certificate is missing")),
        };
        let der = PrivatePkcs8KeyDer::from(key.value().to_vec());
        Ok(Some(StoredRoot {
            key: PrivateKey::from_der(der.into()).map_err(|error| self.damaged(error))?,
            certificate: Certificate::from_der(CertificateDer::from(certificate.value()))
                .map_err(|error| self.damaged(error))?,
        }))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::Database { path: self.path.clone(), source: Box::new(error.into()) }
    }

    fn damaged(&self, what: impl ToString) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.to_string() }
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
        let (first, made) = self_signed(&EmbeddedStore::open(&path).unwrap(), &domain, YEAR, NOW).unwrap();
        let (second, found) = self_signed(&EmbeddedStore::open(&path).unwrap(), &domain, YEAR, NOW).unwrap();
        assert_eq!((made, found), (Origin::Made, Origin::Stored));
        assert_eq!(first.certificate(), second.certificate());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.join(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_store_in_use_an_open_directory_and_another_trust_domain_are_refused() {
        let path = directory("refused");
        let store = EmbeddedStore::open(&path).unwrap();
        assert!(matches!(EmbeddedStore::open(&path), Err(StoreError::InUse(_))));
        self_signed(&store, &"td".parse().unwrap(), YEAR, NOW).unwrap();
        let other = self_signed(&store, &"other".parse().unwrap(), YEAR, NOW);
        assert!(matches!(other, Err(AuthorityError::TrustDomain { .. })));
        drop(store);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let open = EmbeddedStore::open(&path).unwrap_err();
        assert!(open.to_string().contains("chmod 700"), "{open}");
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
