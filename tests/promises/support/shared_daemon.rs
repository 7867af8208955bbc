//! A daemon that serves an innocent and a hostile mount.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Tree, World};

/// Maximum memory of the daemon, in KiB.
pub(crate) const MAX_DAEMON_MEMORY_KIB: u64 = 300 << 10;
/// Default time limit of a test: the deadline of a request, plus time for a loaded
/// machine.
const MAX_DURATION: Duration = Duration::from_secs(60);

/// A memory field of a process, in KiB.
fn memory_kib(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = status.lines().find_map(|line| line.strip_prefix(field));
    let found = found.and_then(|found| found.split_whitespace().next());
    found.unwrap().parse().unwrap()
}

/// A daemon that serves an innocent mount, to be tested for interference by a hostile
/// one.
pub(crate) struct SharedDaemon {
    pub(crate) world: World,
    neighbour: PathBuf,
    daemon: i32,
    started: Instant,
    max_duration: Duration,
}

impl SharedDaemon {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let tree = Tree::new().file("a", "hello").noise("b", 300_000, 1);
        let address = world.publish(tree.path(), "neighbour");
        let neighbour = world.mount(address["address"].as_str().unwrap());
        let daemon = world.daemon().unwrap();
        SharedDaemon {
            world,
            neighbour,
            daemon,
            started: Instant::now(),
            max_duration: MAX_DURATION,
        }
    }

    /// Sets the time limit of the test.
    pub(crate) fn with_max_duration(mut self, max_duration: Duration) -> Self {
        self.max_duration = max_duration;
        self
    }

    /// Peak memory of the daemon, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        memory_kib(self.daemon, "VmHWM:")
    }

    /// Resident memory of the daemon, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        memory_kib(self.daemon, "VmRSS:")
    }

    /// Asserts that mounting is refused for this reason.
    #[track_caller]
    pub(crate) fn assert_mount_refused(&self, address: &str, reason: &str) {
        let dir = self.world.mountpoint();
        let output = (self.world).fail(&[OsStr::new("mount"), address.as_ref(), dir.as_os_str()]);
        assert!(output.contains(reason), "{output}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is mounted");
        self.assert_healthy();
    }

    /// Asserts that the daemon runs within its limits and serves the innocent mount.
    #[track_caller]
    pub(crate) fn assert_healthy(&self) {
        let read_started = Instant::now();
        assert_eq!(fs::read(self.neighbour.join("a")).unwrap(), b"hello");
        assert_eq!(self.world.daemon(), Some(self.daemon));
        assert!(
            read_started.elapsed() < Duration::from_secs(10),
            "the innocent mount was slow"
        );
        let peak = self.peak();
        assert!(peak < MAX_DAEMON_MEMORY_KIB, "the daemon took {peak} KiB");
        assert!(
            self.started.elapsed() < self.max_duration,
            "the test took too long"
        );
    }
}

impl Drop for SharedDaemon {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_healthy();
        }
    }
}
