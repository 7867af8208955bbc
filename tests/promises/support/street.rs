//! A daemon that serves an innocent mount beside a hostile one.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Tree, World};

/// Most memory of the daemon, in KiB.
pub(crate) const MOST: u64 = 300 << 10;
/// Longest that all of a test may take unless it says otherwise: the deadline of
/// a request, and what a loaded machine adds to it.
const LONGEST: Duration = Duration::from_secs(60);

/// A figure of the memory of a process, in KiB.
fn taken(pid: i32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = status.lines().find_map(|line| line.strip_prefix(what));
    let found = found.and_then(|found| found.split_whitespace().next());
    found.unwrap().parse().unwrap()
}

/// A daemon that serves an innocent mount beside whatever is tried.
pub(crate) struct Street {
    pub(crate) world: World,
    neighbour: PathBuf,
    daemon: i32,
    begun: Instant,
    longest: Duration,
}

impl Street {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let tree = Tree::new().file("a", "hello").noise("b", 300_000, 1);
        let address = world.publish(tree.path(), "neighbour");
        let neighbour = world.mount(address["address"].as_str().unwrap());
        let daemon = world.daemon().unwrap();
        Street {
            world,
            neighbour,
            daemon,
            begun: Instant::now(),
            longest: LONGEST,
        }
    }

    /// One whose test may take as long as this.
    pub(crate) fn lasting(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// The most memory that the daemon ever had, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        taken(self.daemon, "VmHWM:")
    }

    /// The memory that the daemon has, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        taken(self.daemon, "VmRSS:")
    }

    /// That mounting is refused, for this reason.
    #[track_caller]
    pub(crate) fn refused(&self, address: &str, because: &str) {
        let dir = self.world.mountpoint();
        let output = (self.world).fail(&[OsStr::new("mount"), address.as_ref(), dir.as_os_str()]);
        assert!(output.contains(because), "{output}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is mounted");
        self.unharmed();
    }

    /// That the daemon lives, within its bounds, and serves.
    #[track_caller]
    pub(crate) fn unharmed(&self) {
        let asked = Instant::now();
        assert_eq!(fs::read(self.neighbour.join("a")).unwrap(), b"hello");
        assert_eq!(self.world.daemon(), Some(self.daemon));
        assert!(asked.elapsed() < Duration::from_secs(10), "neighbours wait");
        let peak = self.peak();
        assert!(peak < MOST, "the daemon took {peak} KiB");
        assert!(self.begun.elapsed() < self.longest, "it took too long");
    }
}

impl Drop for Street {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.unharmed();
        }
    }
}
