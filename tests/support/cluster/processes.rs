//! Which process of the machine is a part of the cluster, or a container of one of its pods?
//!
//! Seen from outside, where each has a number and may be sent signals. Containers have process namespaces of their own,
//! so they are never taken for parts.

use super::Cluster;
use crate::support::part::send;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

const TICK: Duration = Duration::from_millis(20);

impl Cluster {
    /// The process outside that is process 1 inside.
    pub(super) fn process(&self) -> u32 {
        let text = std::fs::read_to_string(self.dir.join("init")).expect("a cluster that is ready wrote it");
        text.trim().parse().expect("it is a process id")
    }

    /// The number of that program in a pod, for a signal from outside. The pod must be running.
    pub fn process_of(&self, pod_uid: &str, program: &str) -> u32 {
        let cgroup = format!("pod{pod_uid}");
        let of_pod = |pid: &u32| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            groups.contains(&cgroup) && name(*pid).is_some_and(|name| name == program)
        };
        let found = all().into_iter().find(of_pod);
        found.unwrap_or_else(|| panic!("no process `{program}` belongs to the pod {pod_uid}"))
    }

    /// Sends a process a signal by its short name: `STOP`, `CONT`, `TERM`, `KILL`.
    pub fn signal(&self, pid: u32, signal: &str) {
        assert!(send(signal, pid), "there is no process {pid} to be sent {signal}");
    }

    /// The number of one of the cluster's own parts, for example `kube-apiserver`.
    pub fn part(&self, program: &str) -> u32 {
        self.find_part(program).unwrap_or_else(|| panic!("`{program}` does not run in the cluster"))
    }

    /// Kills a part that comes back by itself, and returns once it is gone.
    pub(super) fn kill(&self, program: &str) {
        let pid = self.part(program);
        self.signal(pid, "KILL");
        let until = Instant::now() + Duration::from_secs(10);
        while name(pid).is_some_and(|name| name == program) {
            assert!(Instant::now() < until, "`{program}` (pid {pid}) is still there after KILL");
            std::thread::sleep(TICK);
        }
    }

    fn find_part(&self, program: &str) -> Option<u32> {
        let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours: Option<PathBuf> = namespace(self.process());
        all().into_iter().find(|pid| {
            namespace(*pid) == ours && ours.is_some() && name(*pid).is_some_and(|name| name == program)
        })
    }
}

fn all() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux shows its processes");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The file name of what a process was started as; a zombie has none.
fn name(pid: u32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let program = line.split(|byte| *byte == 0).next().filter(|program| !program.is_empty())?;
    Some(Path::new(std::str::from_utf8(program).ok()?).file_name()?.to_str()?.to_owned())
}
