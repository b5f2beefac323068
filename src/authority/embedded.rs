//! The embedded store: one crash-safe file in the state directory.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use futures_util::future::BoxFuture;
use redb::Database;
use redb::ReadableDatabase;
use redb::ReadableTable;
use redb::TableDefinition;
use redb::backends::FileBackend;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::authority::record::Parts;
use crate::authority::record::Record;
use crate::authority::record::part;
use crate::authority::state_dir::open_state_dir;
use crate::authority::store::Kept;
use crate::authority::store::Revision;
use crate::authority::store::Store;
use crate::authority::store::StoreError;
use crate::authority::store::Swap;
use crate::x509::PrivateKey;
use crate::x509::certificate::hex;
use crate::x509::pem;

const FILE: &str = "authority.redb";
/// Ending of a store that is being made.
const UNFINISHED: &str = ".new";
/// The parts of the record, by name; all of it is written in one transaction.
const ROOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("root");
/// Names in a store that was made before there were rotations; its next write renames them.
const OLD_KEY: &str = "key.pkcs8";
const OLD_CERTIFICATE: &str = "certificate.der";
/// Trusted roots. A store made before there could be several has none, and trusts its certificate.
const OLD_BUNDLE: &str = "bundle.pem";
/// Counts the writes, as text. A store made before there was a second write has none.
const REVISION: &str = "revision";
const FIRST: &str = "1";

/// The store in a state directory. One process at a time has it open, from its first use until it is dropped.
#[derive(Debug)]
pub struct EmbeddedStore {
    directory: PathBuf,
    path: PathBuf,
    database: Mutex<Option<Database>>,
}

impl EmbeddedStore {
    /// The store in `directory`, which is made with mode 0700 at first use if it is missing.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), path: directory.join(FILE), database: Mutex::new(None) }
    }

    /// Opens the file if it is there, and keeps it open.
    fn open(&self) -> Result<MutexGuard<'_, Option<Database>>, StoreError> {
        let mut held = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            open_state_dir(&self.directory)?;
            match OpenOptions::new().read(true).write(true).open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::File { path: self.path.clone(), source }),
                Ok(file) => {
                    *held = Some(self.of_file(file, &self.path)?);
                    remove_unfinished(&self.directory);
                }
            }
        }
        Ok(held)
    }

    fn read(&self) -> Result<Option<Kept>, StoreError> {
        let held = self.open()?;
        let Some(database) = held.as_ref() else { return Ok(None) };
        let transaction = database.begin_read().map_err(|error| self.failed(error))?;
        let table = match transaction.open_table(ROOT) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Err(self.damaged("there is none in it")),
            Err(error) => return Err(self.failed(error)),
        };
        let mut parts = Parts::new();
        for entry in table.iter().map_err(|error| self.failed(error))? {
            let (name, value) = entry.map_err(|error| self.failed(error))?;
            parts.insert(name.value().to_owned(), Zeroizing::new(value.value().to_vec()));
        }
        let revision = parts.remove(REVISION).map(|octets| octets.to_vec());
        let parts = renamed(parts).map_err(|what| self.damaged(what))?;
        let record = Record::from_parts(&parts).map_err(|damage| self.damaged(damage))?;
        Ok(Some(Kept { record, revision: Revision(self.text_of(revision)?) }))
    }

    fn text_of(&self, revision: Option<Vec<u8>>) -> Result<String, StoreError> {
        let Some(octets) = revision else { return Ok(FIRST.to_owned()) };
        String::from_utf8(octets).map_err(|error| self.damaged(error))
    }

    /// Makes the store with `record` in it, unless another process was faster.
    ///
    /// It is made whole under another name, with mode 0600, and then given its own: however it is interrupted, there is
    /// either no store or one with a root.
    fn create(&self, record: &Record) -> Result<Swap, StoreError> {
        let mut held = self.open()?;
        if held.is_some() {
            return Ok(Swap::Overtaken);
        }
        // By chance, not by process: in containers on one volume every process is the first.
        let mut chance = [0; 8];
        let no_chance =
            |_| StoreError::File { path: self.path.clone(), source: io::Error::other("no randomness") };
        SystemRandom::new().fill(&mut chance).map_err(no_chance)?;
        let aside = self.directory.join(format!("{FILE}.{}{UNFINISHED}", hex(&chance)));
        let failed = |source| StoreError::File { path: aside.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .map_err(failed)?;
        let database = self.of_file(file, &aside)?;
        self.keep(&database, None, record)?;
        // Unlike a rename, a link never replaces what is there.
        let linked = std::fs::hard_link(&aside, &self.path);
        let _ = std::fs::remove_file(&aside);
        match linked {
            Ok(()) => {
                let sync = |directory: std::fs::File| directory.sync_all();
                std::fs::File::open(&self.directory).and_then(sync).map_err(failed)?;
                *held = Some(database);
                Ok(Swap::Done(Revision(FIRST.to_owned())))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                Ok(Swap::Overtaken)
            }
            Err(source) => Err(failed(source)),
        }
    }

    fn replace(&self, over: &Revision, record: &Record) -> Result<Swap, StoreError> {
        let held = self.open()?;
        match held.as_ref() {
            None => Ok(Swap::Overtaken),
            Some(database) => self.keep(database, Some(over), record),
        }
    }

    /// One transaction: nobody reads or writes between the look at the revision and the write.
    fn keep(
        &self,
        database: &Database,
        over: Option<&Revision>,
        record: &Record,
    ) -> Result<Swap, StoreError> {
        let transaction = database.begin_write().map_err(|error| self.failed(error))?;
        let next = {
            let mut table = transaction.open_table(ROOT).map_err(|error| self.failed(error))?;
            let next = match over {
                None => FIRST.to_owned(),
                Some(over) => {
                    let found = table.get(REVISION).map_err(|error| self.failed(error))?;
                    let now = self.text_of(found.map(|found| found.value().to_vec()))?;
                    if now != over.0 {
                        return Ok(Swap::Overtaken);
                    }
                    let count: u64 = now.parse().map_err(|error| self.damaged(error))?;
                    (count + 1).to_string()
                }
            };
            // What is gone from the record is gone from the file: an old key above all.
            table.retain(|_, _| false).map_err(|error| self.failed(error))?;
            for (name, value) in &record.to_parts() {
                table.insert(name.as_str(), value.as_slice()).map_err(|error| self.failed(error))?;
            }
            table.insert(REVISION, next.as_bytes()).map_err(|error| self.failed(error))?;
            next
        };
        transaction.commit().map_err(|error| self.failed(error))?;
        Ok(Swap::Done(Revision(next)))
    }

    fn of_file(&self, file: std::fs::File, path: &Path) -> Result<Database, StoreError> {
        let opened = FileBackend::new(file).and_then(|file| Database::builder().create_with_backend(file));
        opened.map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
            error => StoreError::Database { path: path.to_owned(), source: Box::new(error.into()) },
        })
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::Database { path: self.path.clone(), source: Box::new(error.into()) }
    }

    fn damaged(&self, what: impl ToString) -> StoreError {
        StoreError::Damaged { place: self.place(), what: what.to_string() }
    }
}

// A local file answers within milliseconds, and only at start and when the root changes.
impl Store for EmbeddedStore {
    fn load(&self) -> BoxFuture<'_, Result<Option<Kept>, StoreError>> {
        Box::pin(async { self.read() })
    }

    fn swap<'a>(
        &'a self,
        over: Option<&'a Revision>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<Swap, StoreError>> {
        Box::pin(async move {
            match over {
                None => self.create(record),
                Some(over) => self.replace(over, record),
            }
        })
    }

    fn place(&self) -> String {
        format!("store `{}`", self.path.display())
    }
}

/// The parts of a store that was made before there were rotations, under today's names.
fn renamed(mut parts: Parts) -> Result<Parts, String> {
    let Some(key) = parts.remove(OLD_KEY) else { return Ok(parts) };
    let der = PrivatePkcs8KeyDer::from(key.to_vec());
    let key = PrivateKey::from_der(der.into()).map_err(|error| error.to_string())?;
    let pem = key.secret_pem();
    parts.insert(part::KEY.to_owned(), Zeroizing::new(pem.as_bytes().to_vec()));
    if let Some(der) = parts.remove(OLD_CERTIFICATE) {
        let pem = Zeroizing::new(pem::certificate(&der).into_bytes());
        let bundle = parts.remove(OLD_BUNDLE).unwrap_or_else(|| pem.clone());
        parts.insert(part::CERTIFICATE.to_owned(), pem);
        parts.insert(part::ROOTS.to_owned(), bundle);
    }
    Ok(parts)
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

    const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("burgrave-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    fn record() -> Record {
        Record::new_root(&"td".parse().unwrap(), YEAR, NOW).unwrap()
    }

    #[tokio::test]
    async fn what_is_kept_is_found_again_by_its_owner_only() {
        let path = directory("again");
        let store = EmbeddedStore::new(&path);
        assert!(store.load().await.unwrap().is_none());
        let first = record();
        assert_eq!(store.swap(None, &first).await.unwrap(), Swap::Done(Revision("1".to_owned())));
        drop(store);
        std::fs::write(path.join("authority.redb.1.new"), "of a process that was killed").unwrap();
        let kept = EmbeddedStore::new(&path).load().await.unwrap().unwrap();
        assert_eq!(kept.record.state, first.state);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.join(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "nothing unfinished is left");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[tokio::test]
    async fn only_who_names_the_present_revision_may_write() {
        let path = directory("swap");
        let store = EmbeddedStore::new(&path);
        let Swap::Done(first) = store.swap(None, &record()).await.unwrap() else { panic!("it was empty") };
        assert_eq!(store.swap(None, &record()).await.unwrap(), Swap::Overtaken);
        let second = record();
        let Swap::Done(revision) = store.swap(Some(&first), &second).await.unwrap() else {
            panic!("nobody else wrote")
        };
        assert_eq!(store.swap(Some(&first), &record()).await.unwrap(), Swap::Overtaken);
        let kept = store.load().await.unwrap().unwrap();
        assert_eq!((kept.record.state, kept.revision), (second.state, revision));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[tokio::test]
    async fn a_store_in_use_and_an_open_directory_are_refused() {
        let path = directory("refused");
        let running = EmbeddedStore::new(&path);
        running.swap(None, &record()).await.unwrap();
        let second = EmbeddedStore::new(&path);
        assert!(matches!(second.load().await, Err(StoreError::InUse(_))));
        assert!(matches!(second.swap(None, &record()).await, Err(StoreError::InUse(_))));
        drop(running);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let open = second.load().await.unwrap_err();
        assert!(open.to_string().contains("chmod 700"), "{open}");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_store_is_refused_and_never_gets_a_new_root() {
        let path = directory("damaged");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(path.join(FILE), [0x5a; 8192]).unwrap();
        let store = EmbeddedStore::new(&path);
        let refused = store.load().await.unwrap_err();
        assert!(refused.to_string().contains("restore it from a copy"), "{refused}");
        assert!(store.swap(None, &record()).await.is_err());
        assert_eq!(std::fs::read(path.join(FILE)).unwrap(), [0x5a; 8192]);
        std::fs::remove_dir_all(path).unwrap();
    }
}
