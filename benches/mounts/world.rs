//! The program as a user runs it, with separate state.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::Value;

use super::link::{BANDWIDTH_MBIT, Link, ROUND_TRIP};
use super::program::{self, PROGRAM};

/// State of one user.
pub(crate) struct World {
    dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let private = |name: &str| {
            let path = dir.path().join(name);
            fs::DirBuilder::new().mode(0o700).create(path).unwrap();
        };
        private("run");
        private("mnt");
        World {
            dir,
            environment: Vec::new(),
        }
    }

    pub(crate) fn reading(mut self, url: &str) -> Self {
        self.environment
            .retain(|(name, _)| name != "WALGIT_FS_AGGREGATOR");
        self.environment
            .push(("WALGIT_FS_AGGREGATOR".into(), url.into()));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.path().join("mnt")
    }

    fn command(&self, args: &[&str]) -> Command {
        program::command(self.path(), &self.environment, args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> String {
        let done = self.command(args).output().unwrap();
        let output = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{args:?}: {output}");
        String::from_utf8(done.stdout).unwrap()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.run(&args)).unwrap()
    }

    pub(crate) fn publish(&self, tree: &Path, name: &str) -> Value {
        self.json(&["publish", tree.to_str().unwrap(), "--name", name])
    }

    pub(crate) fn mount(&self, address: &str) {
        self.run(&["mount", address, self.mountpoint().to_str().unwrap()]);
    }

    pub(crate) fn unmount(&self) {
        self.run(&["unmount", self.mountpoint().to_str().unwrap()]);
    }

    /// Ends the daemon, so that only the disk cache remains.
    pub(crate) fn end_daemon(&self) {
        let status = self.json(&["status"]);
        let Some(pid) = status["pid"].as_i64() else {
            return;
        };
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let proc = format!("/proc/{}", pid.as_raw_nonzero());
        while Path::new(&proc).exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    pub(crate) fn forget_cache(&self) {
        let _ = fs::remove_dir_all(self.path().join("cache"));
    }

    /// Peak resident memory of the daemon, in bytes.
    pub(crate) fn daemon_memory(&self) -> f64 {
        let pid = self.json(&["status"])["pid"].as_i64().unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024.0
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.mountpoint())
            .stderr(Stdio::null())
            .status();
        self.end_daemon();
    }
}

/// An embedded Walrus over the blobs of a world, in a separate process.
pub(crate) struct Devnet {
    process: Child,
    pub(crate) port: u16,
    reads: Arc<AtomicU64>,
}

impl Devnet {
    pub(crate) fn over(world: &World) -> Self {
        let dir = world.path().join("data/walgit-fs/local");
        let mut process = Command::new(PROGRAM)
            .args([
                "devnet",
                "--log-requests",
                "--listen",
                "127.0.0.1:0",
                "--dir",
            ])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let port = first.rsplit(':').next().unwrap().parse().unwrap();
        let reads = Arc::new(AtomicU64::new(0));
        let seen = reads.clone();
        // It prints every request on a line.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                seen.fetch_add(u64::from(line.starts_with("GET")), Relaxed);
            }
        });
        Devnet {
            process,
            port,
            reads,
        }
    }

    /// Reads that it has received so far.
    #[allow(dead_code)] // not by every bench
    pub(crate) fn reads(&self) -> u64 {
        // The last lines may still be in the pipe.
        std::thread::sleep(std::time::Duration::from_millis(300));
        self.reads.load(Relaxed)
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a shell command that must succeed.
pub(crate) fn shell(script: &str) {
    let done = Command::new("sh").args(["-c", script]).output().unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}: {output}");
}

/// A world that reads its own publishes over the simulated link.
pub(crate) struct RemoteReader {
    pub(crate) world: World,
    /// The address of the first publish.
    pub(crate) address: String,
    _devnet: Devnet,
    _link: Link,
}

impl RemoteReader {
    pub(crate) fn from(world: World) -> Self {
        let devnet = Devnet::over(&world);
        let link = Link::to(devnet.port, ROUND_TRIP, BANDWIDTH_MBIT);
        let published = world.json(&["refs"]);
        let address = published[0]["address"].as_str().unwrap().to_owned();
        RemoteReader {
            world: world.reading(&format!("http://127.0.0.1:{}", link.port)),
            address,
            _devnet: devnet,
            _link: link,
        }
    }
}
