//! The Unix socket that proxies of this node connect to.

use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use tokio::net::UnixListener;
use tokio::net::UnixStream;

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers on it.
    #[error("another process serves on `{0}`; stop it, or choose another --socket")]
    InUse(PathBuf),
    /// There is something else at that path.
    #[error("`{0}` exists and is not a socket; move it away, or choose another --socket")]
    NotASocket(PathBuf),
    /// It cannot be made.
    #[error("socket `{path}`: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// A socket in use. It goes when this is dropped.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    /// Says that the socket is ours, from before it is looked at until after it is gone.
    _lock: File,
}

impl Held {
    /// The user that the socket belongs to: the one who runs this process.
    ///
    /// # Errors
    /// If it is gone.
    pub fn owner(&self) -> Result<u32, SocketError> {
        let found = self.path.symlink_metadata();
        found.map(|found| found.uid()).map_err(|source| SocketError::Io { path: self.path.clone(), source })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody else can have put theirs there: they would need the lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds `path` with permission bits `mode`. A socket that nobody answers on any more is replaced; one that is alive, and
/// anything else that lies there, is not.
///
/// A lock on `<path>.lock` keeps two agents from taking over at once. The socket is made under another name in a closed
/// directory and moved into place, so there is no moment at which it has other permissions, and none at which a proxy
/// finds nothing where a stale socket was.
///
/// # Errors
/// As the variants say.
pub async fn bind(path: &Path, mode: u32) -> Result<(UnixListener, Held), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).map_err(io)?;
    let lock = lock(path).map_err(io)?.ok_or_else(|| SocketError::InUse(path.to_owned()))?;
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(SocketError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(socket = %path.display(), "a stale socket is replaced");
            }
            Err(error) => return Err(io(error)),
        },
    }
    let aside = parent.join(format!(".sds-{}", std::process::id()));
    // What a crashed process with our number left behind.
    let _ = std::fs::remove_dir_all(&aside);
    std::fs::DirBuilder::new().mode(0o700).create(&aside).map_err(io)?;
    let bound = bind_in(&aside, path, mode);
    let _ = std::fs::remove_dir_all(&aside);
    Ok((bound.map_err(io)?, Held { path: path.to_owned(), _lock: lock }))
}

/// The lock for the socket at `path`; `None` if another process has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn bind_in(aside: &Path, path: &Path, mode: u32) -> io::Result<UnixListener> {
    let made = aside.join("s");
    let listener = UnixListener::bind(&made)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&made, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("burgrave-socket-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = directory("stale");
        let path = directory.join("socket");
        let (first, held) = bind(&path, 0o600).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind(&path, 0o600).await, Err(SocketError::InUse(_))));
        // Killed: nobody answers, and the file stays.
        std::fs::hard_link(&path, directory.join("kept")).unwrap();
        drop((first, held));
        std::fs::rename(directory.join("kept"), &path).unwrap();
        let (_second, held) = bind(&path, 0o660).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).await.unwrap();
        drop(held);
        assert!(!path.exists(), "an agent that ends takes its socket away");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_left_alone() {
        let directory = directory("file");
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, 0o600).await, Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
