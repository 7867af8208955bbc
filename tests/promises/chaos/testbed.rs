//! Two servers over one directory, a daemon with two mounts, the workers, and
//! disruptions of all.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use walrus_encoding::blob_id::blob_id;

use super::fault_schedule::{Disruption, FaultSet, pause_duration};
use super::publisher::{PublishedHead, Publisher, verify_published};
use super::reader::{Checkout, Reader, Signals};
use super::statistics::{MAX_DURATION, Statistics};
use crate::support::tree::{assert_same, noise};
use crate::support::world::signal;
use crate::support::{Server, Tree, World};

/// Deadline of a driver operation, in seconds.
pub(super) const DEADLINE_S: u64 = 3;
/// Time limit of recovery on a slow machine: retries within the driver's deadline, and
/// an open breaker.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(90);
/// Allowed growth of the daemon: what pools and caches keep.
const MAX_GROWTH: ProcessSize = ProcessSize {
    threads: 12,
    descriptors: 48,
    kib: 96 << 10,
};

pub(super) struct Testbed {
    servers: [Server; 2],
    world: World,
    writer: Arc<World>,
    mounts: Vec<(Tree, Arc<Checkout>, PathBuf)>,
    published_heads: Arc<Mutex<Vec<PublishedHead>>>,
    signals: Arc<Signals>,
    statistics: Arc<Statistics>,
}

/// Running workers.
pub(super) struct Workers {
    signals: Arc<Signals>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Ends all workers; none may hang.
    pub(super) fn stop(self) {
        self.signals.stop.store(true, Ordering::Relaxed);
        let started = Instant::now();
        while !self.threads.iter().all(JoinHandle::is_finished) {
            assert!(started.elapsed() < MAX_DURATION * 5, "a worker hangs");
            std::thread::sleep(Duration::from_millis(10));
        }
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn trees() -> [Tree; 2] {
    let mut many = Tree::new().noise("large", 24 << 20, 1).file("empty", "");
    for n in 0..120u64 {
        let name = format!("d{}/e{}/f{n}", n % 5, n % 3);
        many = match n % 3 {
            0 => many.noise(&name, 20_000 + n as usize * 100, n),
            1 => many.file(&name, format!("line {n}\n").repeat(4_000)),
            _ => many.file(&name, format!("small {n}")),
        };
    }
    let few = Tree::new()
        .noise("noise", 600_000, 2)
        .file("folder/text", "some text\n".repeat(30_000));
    [many, few]
}

impl Testbed {
    pub(super) fn new(statistics: &Arc<Statistics>) -> Self {
        let first = Server::start();
        let servers = [first.start_second(), first];
        // Longer than any other blob, so that it can replace each of them.
        let decoy = noise(12 << 20, 99);
        let decoy_id = blob_id(&decoy).unwrap().to_string();
        fs::write(servers[0].blobs().join(decoy_id), decoy).unwrap();
        let at = [&servers[0].url[..], &servers[1].url];
        // The cache holds a fraction, so that reads reach the network. Breakers open
        // and close as often as in hours of slower changes.
        let config = format!(
            "[mount]\ndeadline_s = {DEADLINE_S}\n[cache]\nmemory = 8388608\ndisk = 16777216\n\
             [net]\nbreaker_open_ms = 500\n"
        );
        let world = || {
            World::new()
                .reading(&at)
                .writing(&at.join(","))
                .config(&config)
        };
        let (world, writer) = (world(), Arc::new(world()));
        let mut testbed = Testbed {
            servers,
            world,
            writer,
            mounts: Vec::new(),
            published_heads: Arc::default(),
            signals: Arc::default(),
            statistics: statistics.clone(),
        };
        for (tree, name) in trees().into_iter().zip(["many", "few"]) {
            testbed.world.publish(tree.path(), name);
            let checkout = Arc::new(Checkout::of(tree.path()));
            let dir = testbed.world.mount(name);
            testbed.mounts.push((tree, checkout, dir));
        }
        testbed
    }

    /// Starts readers and a publisher.
    pub(super) fn start_workers(&self, seed: u64) -> Workers {
        self.signals.stop.store(false, Ordering::Relaxed);
        let mut threads = Vec::new();
        for (number, place) in [0, 0, 0, 1].into_iter().enumerate() {
            let (_, checkout, mount) = &self.mounts[place];
            let reader = Reader {
                mount: mount.clone(),
                checkout: checkout.clone(),
                statistics: self.statistics.clone(),
                signals: self.signals.clone(),
                rng: fastrand::Rng::with_seed(seed ^ (number as u64) << 32),
            };
            threads.push(std::thread::spawn(move || reader.work()));
        }
        let publisher = Publisher {
            world: self.writer.clone(),
            published_heads: self.published_heads.clone(),
            statistics: self.statistics.clone(),
            signals: self.signals.clone(),
            rng: fastrand::Rng::with_seed(seed),
        };
        threads.push(std::thread::spawn(move || publisher.work()));
        Workers {
            signals: self.signals.clone(),
            threads,
        }
    }

    pub(super) fn run_with_faults(&self, faults: &FaultSet, slot: Duration) {
        self.set_faults(faults);
        std::thread::sleep(slot);
    }

    /// Ends all faults.
    pub(super) fn clear_faults(&self) {
        self.set_faults(&FaultSet::default());
    }

    fn set_faults(&self, faults: &FaultSet) {
        for (server, faults) in self.servers.iter().zip(&faults.0) {
            let met = server.set_faults(faults);
            self.statistics
                .record_faults(met.iter().map(|(_, fired)| fired).sum());
        }
    }

    pub(super) fn disrupt(&mut self, disruption: Disruption, slot: Duration) {
        self.statistics.disruptions.fetch_add(1, Ordering::Relaxed);
        match disruption {
            Disruption::DaemonKilled => {
                self.world.crash();
                self.remount();
            }
            Disruption::ServerKilled(which) => {
                let fired = self.servers[which]
                    .set_faults("")
                    .iter()
                    .map(|(_, fired)| fired)
                    .sum();
                self.statistics.record_faults(fired);
                self.servers[which].stop();
                std::thread::sleep(pause_duration(slot));
                self.servers[which].restart();
            }
            Disruption::DaemonStopped => {
                let daemon = self.world.daemon().expect("a daemon runs");
                self.pause_process(daemon, slot);
            }
            Disruption::ServerStopped(which) => self.pause_process(self.servers[which].pid(), slot),
            Disruption::CacheCleared => _ = self.world.run(&["cache", "clear"]),
        }
    }

    fn pause_process(&self, pid: i32, slot: Duration) {
        signal(pid, Signal::STOP);
        std::thread::sleep(pause_duration(slot));
        signal(pid, Signal::CONT);
    }

    /// Mounts again after a kill: under the present faults, or else without faults.
    fn remount(&self) {
        self.signals.remounts.fetch_add(1, Ordering::SeqCst);
        for ((_, _, dir), name) in self.mounts.iter().zip(["many", "few"]) {
            let args = ["mount", name, dir.to_str().unwrap()];
            let started = Instant::now();
            while !self.world.try_run(&args).status.success() {
                assert!(
                    started.elapsed() < RECOVERY_TIMEOUT,
                    "{name} cannot be remounted"
                );
                self.clear_faults();
            }
        }
        self.signals.remounts.fetch_add(1, Ordering::SeqCst);
    }

    /// All mounts show the published content.
    pub(super) fn assert_mounts_intact(&self) {
        for (tree, _, dir) in &self.mounts {
            let name = tree.path();
            wait_until_ok("all reads again", || {
                let all = walk(dir);
                all.map_err(|error| format!("{}: {error}", name.display()))
            });
            assert_same(tree.path(), dir);
        }
    }

    /// All published heads are readable with an empty cache.
    pub(super) fn assert_all_publishes_readable(&self) {
        let reader = World::on(&self.servers[0]);
        for head in self.published_heads.lock().unwrap().iter() {
            if let Err(wrong) = verify_published(&reader, head) {
                self.statistics.record_error(wrong);
            }
        }
    }

    /// Stops both servers for the duration of `outage`; returns the time until uncached
    /// content reads again through the existing mount.
    pub(super) fn measure_recovery(&mut self, outage: Duration) -> Duration {
        let (_, checkout, dir) = &self.mounts[0];
        let reader = |seed| Reader {
            mount: dir.clone(),
            checkout: checkout.clone(),
            statistics: self.statistics.clone(),
            signals: self.signals.clone(),
            rng: fastrand::Rng::with_seed(seed),
        };
        self.signals.stop.store(false, Ordering::Relaxed);
        let workers = Workers {
            signals: self.signals.clone(),
            threads: vec![std::thread::spawn({
                let reader = reader(1);
                move || reader.work()
            })],
        };
        let large = dir.join("large");
        self.servers.iter_mut().for_each(Server::stop);
        self.world.run(&["cache", "clear"]);
        std::thread::sleep(outage);
        self.servers.iter_mut().for_each(Server::restart);
        let back = Instant::now();
        wait_until_ok("it comes back", || {
            let file = fs::File::open(&large).map_err(|error| error.to_string())?;
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            fs::read(&large).map_err(|error| error.to_string())
        });
        let took = back.elapsed();
        workers.stop();
        took
    }

    /// Resources that the daemon uses.
    pub(super) fn size(&self) -> ProcessSize {
        ProcessSize::of_process(self.world.daemon().expect("a daemon runs"))
    }
}

/// Repeats `check` until it succeeds; returns its result.
pub(super) fn wait_until_ok<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match check() {
            Ok(done) => return done,
            Err(why) => assert!(
                started.elapsed() < RECOVERY_TIMEOUT,
                "timeout: {what}: {why}"
            ),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads all files.
fn walk(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path())?,
            false => _ = fs::read(entry.path())?,
        }
    }
    Ok(())
}

/// Resources that a process uses.
#[derive(Clone, Debug)]
pub(super) struct ProcessSize {
    threads: u64,
    descriptors: u64,
    kib: u64,
}

impl ProcessSize {
    fn of_process(pid: i32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        ProcessSize {
            threads: field("Threads:"),
            // Only root can inspect a process that is not dumpable.
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64,
            kib: field("VmRSS:"),
        }
    }

    /// Itself, unless it exceeds the allowed growth.
    pub(super) fn check_growth(self, before: &ProcessSize) -> Result<ProcessSize, String> {
        let grown = self.threads > before.threads + MAX_GROWTH.threads
            || self.descriptors > before.descriptors + MAX_GROWTH.descriptors
            || self.kib > before.kib + MAX_GROWTH.kib;
        match grown {
            true => Err(format!("{before}, then {self}")),
            false => Ok(self),
        }
    }
}

impl fmt::Display for ProcessSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProcessSize {
            threads,
            descriptors,
            kib,
        } = self;
        write!(
            f,
            "{threads} threads, {descriptors} descriptors, {} MiB",
            kib >> 10
        )
    }
}
