//! Which port may this test listen on?
//!
//! Ports come from below the range that the kernel hands out to outgoing connections, so none is taken by accident
//! between asking and listening. Each process locks blocks of ports for its lifetime, so test processes that run at the
//! same time never meet; a crash releases the lock.

use std::fs::File;
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
const BLOCK: u16 = 48;

/// The blocks this process owns, and what is left of the newest.
struct Owned {
    next: u16,
    end: u16,
    locks: Vec<File>,
}

static OWNED: Mutex<Owned> = Mutex::new(Owned { next: 0, end: 0, locks: Vec::new() });

/// A TCP port on loopback that nobody else has, in this process or another one of ours.
pub fn free() -> u16 {
    let mut owned = OWNED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    loop {
        if owned.next == owned.end {
            let (first, lock) = claim_block();
            owned.locks.push(lock);
            owned.next = first;
            owned.end = first + BLOCK;
        }
        let port = owned.next;
        owned.next += 1;
        // Some other program may listen here all the same.
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn claim_block() -> (u16, File) {
    let folder = std::env::temp_dir().join("burgrave-ports");
    let _ = std::fs::create_dir(&folder);
    // Shared by all users of the machine, as /tmp is; whoever made it has set this already.
    let _ = std::fs::set_permissions(&folder, Permissions::from_mode(0o1777));
    let blocks = (LAST - FIRST) / BLOCK;
    // Start at different places, so that parallel processes seldom try the same block.
    let start = (std::process::id() % u32::from(blocks)) as u16;
    for step in 0..blocks {
        let first = FIRST + (start + step) % blocks * BLOCK;
        if let Some(lock) = lock(&folder.join(first.to_string())) {
            return (first, lock);
        }
    }
    panic!(
        "every block of test ports from {FIRST} to {LAST} is taken; look in {} for who holds the locks",
        folder.display()
    );
}

/// The lock on that file, unless another process holds it. Reading is enough to lock a file that another user made.
fn lock(path: &Path) -> Option<File> {
    let file = File::create_new(path).or_else(|_| File::open(path)).ok()?;
    file.try_lock().ok()?;
    Some(file)
}
