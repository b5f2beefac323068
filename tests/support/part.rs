//! A real program beside the test: started, signalled, and surely ended.
//!
//! Every part runs under `tests/support/guard`, which ends it when this process is gone for whatever reason. So a
//! killed test leaves nothing behind, and a static part, which Rust never drops, ends with the process.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

const TICK: Duration = Duration::from_millis(10);

/// For a part that needs no environment beyond the test's own.
pub const NO_ENV: [(&str, &str); 0] = [];

/// A running program and its log. Dropping it stops it: TERM, and KILL two seconds later.
pub struct Part {
    name: String,
    log: PathBuf,
    pid: u32,
    guard: Mutex<Child>,
}

impl Part {
    /// Starts `program`; what it prints is appended to `log`.
    pub fn spawn<A, K, V>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        env: impl IntoIterator<Item = (K, V)>,
        log: &Path,
    ) -> Part
    where
        A: AsRef<std::ffi::OsStr>,
        K: AsRef<std::ffi::OsStr>,
        V: AsRef<std::ffi::OsStr>,
    {
        let pid_file = pid_file(log);
        let _ = std::fs::remove_file(&pid_file);
        let mut guard = guard()
            .arg(log)
            .arg(program)
            .args(args)
            .envs(env)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} could not be started through tests/support/guard: {error}")
            });
        let pid = wait_for_pid(&pid_file, &mut guard).unwrap_or_else(|| {
            panic!("{name} did not start within five seconds; its log is {}", log.display())
        });
        Part { name: name.to_owned(), log: log.to_owned(), pid, guard: Mutex::new(guard) }
    }

    /// The process id of the program itself, not of its guard.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by its short name: `TERM`, `STOP`, `CONT`, `HUP`. One that has ended already is left in peace.
    pub fn signal(&self, signal: &str) {
        if self.running() {
            assert!(
                // One that ends at this moment is gone a little before its guard is.
                send(signal, self.pid) || self.wait(Duration::from_secs(1)).is_some(),
                "{} could not be sent {signal}",
                self.name
            );
        }
    }

    /// Kills the program as a power cut would, and waits until it is gone.
    pub fn kill9(&self) {
        self.signal("KILL");
        assert!(
            self.wait(Duration::from_secs(5)).is_some(),
            "{} (pid {}) is still there after KILL",
            self.name,
            self.pid
        );
    }

    /// Its exit status, if it ends within `timeout`; 128 and the signal's number if a signal ended it. Blocks the thread.
    pub fn wait(&self, timeout: Duration) -> Option<i32> {
        let until = Instant::now() + timeout;
        loop {
            match self.ended() {
                None if Instant::now() < until => sleep(TICK),
                ended => return ended,
            }
        }
    }

    pub fn running(&self) -> bool {
        self.ended().is_none()
    }

    /// All it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last `lines` it has printed.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    fn ended(&self) -> Option<i32> {
        let mut guard = self.guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let status = guard.try_wait().expect("a child of this process can be waited for")?;
        Some(status.code().unwrap_or(-1))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut guard = self.guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        drop(guard.stdin.take());
        // The guard needs at most two seconds and a little; it has never been seen to need more.
        let until = Instant::now() + Duration::from_secs(10);
        while matches!(guard.try_wait(), Ok(None)) && Instant::now() < until {
            sleep(TICK);
        }
        if matches!(guard.try_wait(), Ok(None)) {
            eprintln!("the guard of {} (pid {}) did not end; look for both processes", self.name, self.pid);
        }
        drop(guard);
        if std::thread::panicking() {
            eprintln!(
                "--- the last lines of {}, {}:\n{}\n---",
                self.name,
                self.log.display(),
                self.log_tail(40)
            );
        }
    }
}

/// Sends a process a signal by its short name; says whether it was there to get it.
pub fn send(signal: &str, pid: u32) -> bool {
    // The shell's own `kill`, because a small image may lack the program.
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()]).status();
    sent.is_ok_and(|status| status.success())
}

/// The supervisor's command line, ready for its arguments.
pub(super) fn guard() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/guard"))
}

fn pid_file(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".pid");
    PathBuf::from(name)
}

/// The guard writes the file in one step, so what is there is whole. A program that ends at once may take it away again
/// before we look; its guard then ends too, and the guard's own id stands in for one that is gone.
fn wait_for_pid(pid_file: &Path, guard: &mut Child) -> Option<u32> {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        if let Some(pid) = std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok()) {
            return Some(pid);
        }
        if matches!(guard.try_wait(), Ok(Some(_))) {
            return Some(guard.id());
        }
        sleep(Duration::from_millis(2));
    }
    None
}
