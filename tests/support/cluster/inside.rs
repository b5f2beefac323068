//! How a story gets into the cluster's network: on a thread that enters it, before its runtime starts others.

use super::Cluster;

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::panic::resume_unwind;
use std::time::Duration;

impl Cluster {
    /// Runs `story` where the cluster's addresses exist. Its tasks, threads and children are there too, and a panic in it
    /// is the caller's panic, after the evidence was kept.
    pub fn inside<T: Send>(&self, story: impl AsyncFnOnce(&Cluster) -> T + Send) -> T {
        // A failing assertion names its thread, and readers know the test's.
        let name = std::thread::current().name().unwrap_or("a story").to_owned();
        let on_thread = || {
            enter_network(self.process());
            // The threads of the runtime are started by this one, so they begin where it is.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime can be built");
            let told = catch_unwind(AssertUnwindSafe(|| runtime.block_on(story(self))));
            if told.is_err() {
                runtime.block_on(self.keep_evidence());
            }
            // Tasks that a story left running must not keep it from ending.
            runtime.shutdown_timeout(Duration::from_secs(2));
            told
        };
        let told = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, on_thread);
            thread.expect("a thread can be started").join()
        });
        match told {
            Ok(Ok(told)) => told,
            Ok(Err(panic)) | Err(panic) => resume_unwind(panic),
        }
    }
}

/// Moves the calling thread into the network of that process.
#[cfg(target_os = "linux")]
fn enter_network(process: u32) {
    use rustix::thread::LinkNameSpaceType;
    use std::os::fd::AsFd;

    let path = format!("/proc/{process}/ns/net");
    let network = std::fs::File::open(&path)
        .unwrap_or_else(|error| panic!("{path} could not be opened: {error}; the cluster has ended"));
    rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .unwrap_or_else(|error| panic!("{path} could not be entered: {error}; a node's stories need root"));
}

#[cfg(not(target_os = "linux"))]
fn enter_network(_: u32) {
    panic!("a node needs Linux; elsewhere run tests/run --without-node");
}
