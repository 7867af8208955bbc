//! A user with published repositories, keys and pins, and checks that none of them is
//! lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::commands::Command;
use super::conditions::Condition;
use crate::support::tree::{assert_same, noise};
use crate::support::world::signal;
use crate::support::{Server, Tree, World, eventually};

/// Location of blobs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    Local,
    /// All state is on a separate small file system.
    LocalOnItsOwnDisk,
    Http,
}

/// The result of a command.
pub(super) struct CommandResult {
    /// Its exit code; -1 if it was killed after the time limit.
    pub(super) code: i32,
    pub(super) took: Duration,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl CommandResult {
    /// The last error line that it printed.
    pub(super) fn message(&self) -> &str {
        let error = self
            .stderr
            .lines()
            .rev()
            .find(|line| line.starts_with("error"));
        error.unwrap_or("")
    }
}

pub(super) struct Environment {
    world: World,
    server: Option<Server>,
    source: Tree,
    address: String,
    mounted: PathBuf,
    other: PathBuf,
    /// The daemon's process, if [`Environment::mount`] started it.
    daemon: Option<i32>,
    runs: usize,
    names: BTreeMap<PathBuf, Vec<u8>>,
    blobs: Vec<PathBuf>,
    /// After `world`, whose files are on it.
    _disk: Option<Tmpfs>,
}

/// A small file system in memory.
struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Process::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[track_caller]
fn sh(program: &str, args: &[&str]) {
    let done = Process::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {done:?}");
}

impl Environment {
    pub(super) fn new(network: Network) -> Self {
        let server = (network == Network::Http).then(Server::start);
        let world = match &server {
            Some(server) => World::on(server),
            None => World::new(),
        };
        let disk = (network == Network::LocalOnItsOwnDisk).then(|| {
            let path = world.path().to_owned();
            let place = path.to_str().unwrap();
            sh(
                "mount",
                &["-t", "tmpfs", "-o", "size=200m,mode=700", "none", place],
            );
            Tmpfs(path)
        });
        let source = Tree::new()
            .file("a", "one\n")
            .file("d/b", "two\n")
            .file("d/large", noise(600_000, 1))
            .commit("one");
        let mounted = world.mountpoint();
        let other = world.mountpoint();
        let mut environment = Environment {
            world,
            server,
            source,
            address: String::new(),
            mounted,
            other,
            daemon: None,
            runs: 0,
            names: BTreeMap::new(),
            blobs: Vec::new(),
            _disk: disk,
        };
        environment.populate();
        environment
    }

    /// Publishes, stores keys, pins and learns.
    fn populate(&mut self) {
        let path = self.path().to_owned();
        fs::write(path.join("key"), "11".repeat(32)).unwrap();
        fs::write(path.join("secret"), "an api key\n").unwrap();
        fs::write(path.join("trace"), "0.0\t1\ta\t4\n0.1\t1\td/b\t4\n").unwrap();
        for secret in ["key", "secret"] {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(path.join(secret), private).unwrap();
        }
        let key = path.join("key");
        self.world
            .run(&["key", "add", "kept", key.to_str().unwrap()]);
        self.world.publish(self.source.path(), "past");
        fs::write(self.source.path().join("a"), "three\n").unwrap();
        self.source.git(&["commit", "-qam", "two"]);
        let report = self.world.publish(self.source.path(), "proj");
        self.address = report["address"].as_str().unwrap().to_owned();
        self.mount();
        let pinned = self.mounted.join("d");
        self.world.run(&["cache", "pin", pinned.to_str().unwrap()]);
        // The session is learned; its profile is imported again later.
        for name in ["a", "d/b", "d/large"] {
            fs::read(self.mounted.join(name)).unwrap();
        }
        let profile = path.join("profile");
        let [mounted, profile] = [&self.mounted, &profile].map(|path| path.to_str().unwrap());
        (self.world).run(&["prefetch", "export", mounted, "-o", profile]);
        self.names = self.files(&["data/walgit-fs"], |path| {
            let text = path.to_string_lossy();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Except locks, and the list of keys, to which a key is added.
            let is_state = !name.starts_with('.') && name != "keys.json";
            is_state && (text.contains("/refs/") || text.contains("/keys/"))
        });
        self.blobs = self.blob_files();
    }

    pub(super) fn path(&self) -> &Path {
        self.world.path()
    }

    pub(super) fn server(&mut self) -> &mut Server {
        self.server.as_mut().unwrap()
    }

    /// Mounts `proj`, unless it is served already.
    pub(super) fn mount(&mut self) {
        let served = fs::read_to_string(self.mounted.join("a")).is_ok();
        if served && self.daemon.is_some() {
            return;
        }
        detach(&self.mounted);
        let dir = self.mounted.to_str().unwrap();
        self.world.run(&["mount", "proj", dir]);
        self.daemon = self.world.daemon();
    }

    pub(super) fn end_daemon(&mut self) {
        detach(&self.mounted);
        self.world.run(&["daemon", "stop"]);
        self.daemon = None;
    }

    pub(super) fn kill_daemon(&mut self) {
        self.signal_daemon(Signal::KILL);
        let pid = self.daemon.take().unwrap();
        eventually("the daemon is gone", || !crate::support::world::alive(pid));
    }

    pub(super) fn signal_daemon(&self, which: Signal) {
        let pid = self.daemon.unwrap();
        if crate::support::world::alive(pid) {
            signal(pid, which);
        }
        if which == Signal::STOP {
            eventually("the daemon is stopped", || {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                stat.rsplit(") ").next().unwrap().starts_with('T')
            });
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    pub(super) fn fill_disk(&self) {
        let mut file = fs::File::create(self.ballast()).unwrap();
        let block = vec![0_u8; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    pub(super) fn free_disk(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    pub(super) fn remount(&self, how: &str) {
        let place = self.path().to_str().unwrap();
        sh("mount", &["-o", &format!("remount,{how}"), place]);
    }

    pub(super) fn write_config(&self, text: &str) {
        let dir = self.path().join("config/walgit-fs");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.toml"), text).unwrap();
    }

    pub(super) fn clear_other_mount(&mut self) {
        detach(&self.other);
        if let Some(pid) = self.daemon
            && !crate::support::world::alive(pid)
        {
            self.daemon = None;
        }
    }

    /// The arguments of a command, with every `{word}` replaced.
    fn arguments(&self, command: &Command) -> Vec<String> {
        let word = |text: &str| {
            let path = |name: &str| self.path().join(name).to_string_lossy().into_owned();
            let show = |path: &Path| path.to_string_lossy().into_owned();
            text.replace("{other}", &show(&self.other))
                .replace("{mounted}", &show(&self.mounted))
                .replace("{source}", &show(self.source.path()))
                .replace("{fresh}", &path(&format!("fresh-{}", self.runs)))
                .replace("{name}", &format!("new-{}", self.runs))
                .replace("{address}", &self.address)
                .replace("{profile}", &path("profile"))
                .replace("{trace}", &path("trace"))
                .replace("{key}", &path("key"))
                .replace("{secret}", &path("secret"))
        };
        command.arguments.split(' ').map(word).collect()
    }

    /// Runs a command under a condition; kills it after `limit`.
    pub(super) fn run(
        &mut self,
        command: &Command,
        condition: Condition,
        limit: Duration,
    ) -> CommandResult {
        self.runs += 1;
        // Output goes to files: a daemon could keep a pipe open.
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::File::create(dir.path().join(name)).unwrap();
        let arguments = self.arguments(command);
        let mut process = self.world.command_after(condition.prefix(), &arguments);
        process
            .envs(condition.environment(self))
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"));
        let started = Instant::now();
        let mut child = process.spawn().unwrap();
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code().unwrap_or(-2);
            }
            if started.elapsed() > limit {
                child.kill().unwrap();
                child.wait().unwrap();
                break -1;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |name: &str| {
            let bytes = fs::read(dir.path().join(name)).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        CommandResult {
            code,
            took: started.elapsed(),
            stdout: read("stdout"),
            stderr: read("stderr"),
        }
    }

    /// Files below some directories, with their content.
    fn files(&self, below: &[&str], wanted: impl Fn(&Path) -> bool) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut dirs: Vec<PathBuf> = below.iter().map(|dir| self.path().join(dir)).collect();
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    dirs.push(path);
                } else if wanted(&path) {
                    found.insert(path.clone(), fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    fn blob_files(&self) -> Vec<PathBuf> {
        let dir = match &self.server {
            Some(server) => server.blobs(),
            None => self.world.blobs(),
        };
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Names, keys and blobs that are missing or changed.
    pub(super) fn losses(&self) -> Vec<String> {
        let mut lost = Vec::new();
        for (path, content) in &self.names {
            if path.file_name().unwrap() == "proj" {
                // Publishes and compactions move it; it must remain valid.
                continue;
            }
            if fs::read(path).ok().as_ref() != Some(content) {
                lost.push(format!("{} was lost or changed", path.display()));
            }
        }
        for blob in &self.blobs {
            if !blob.exists() {
                lost.push(format!("blob {} was deleted", blob.display()));
            }
        }
        lost
    }

    /// Content that is unreadable after the condition has ended.
    pub(super) fn content_losses(&mut self) -> Vec<String> {
        detach(&self.mounted);
        detach(&self.other);
        self.write_config("");
        self.daemon = None;
        self.world.run(&["daemon", "stop"]);
        self.mount();
        assert_same(self.source.path(), &self.mounted);
        let mut lost = Vec::new();
        for name in ["proj", "past"] {
            let done = self.world.try_run(&["fsck", name]);
            if !done.status.success() {
                lost.push(format!("fsck {name}: {done:?}"));
            }
        }
        let key = self.world.run(&["key", "show", "kept"]);
        if key.trim() != "11".repeat(32) {
            lost.push("the key `kept` was lost".into());
        }
        lost
    }
}

/// Detaches everything that is mounted on a directory.
fn detach(dir: &Path) {
    while Process::new("umount")
        .arg("-l")
        .arg(dir)
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
    {}
}
