//! An isolated user environment: state directories, a daemon, mountpoints; removed at
//! the end of the test.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::mount::{MountPropagationFlags, UnmountFlags};
use serde_json::Value;

use crate::program::{self, PROGRAM};

/// State of one user.
pub(crate) struct World {
    dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
    removed: Vec<String>,
    mounts: Mutex<Vec<PathBuf>>,
}

impl World {
    pub(crate) fn new() -> Self {
        assert!(
            Path::new("/dev/fuse").exists(),
            "/dev/fuse is missing; these tests mount for real"
        );
        isolate_mount_table();
        let dir = tempfile::tempdir().unwrap();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(dir.path().join("run"))
            .unwrap();
        World {
            dir,
            environment: Vec::new(),
            removed: Vec::new(),
            mounts: Mutex::default(),
        }
    }

    /// With this server as aggregator and publisher.
    pub(crate) fn on(server: &Server) -> Self {
        World::new().reading(&[&server.url]).writing(&server.url)
    }

    /// Sets the aggregators.
    pub(crate) fn reading(self, urls: &[&str]) -> Self {
        self.with("WALGIT_FS_AGGREGATOR", &urls.join(","))
    }

    /// Sets the publisher.
    pub(crate) fn writing(self, url: &str) -> Self {
        self.with("WALGIT_FS_PUBLISHER", url)
    }

    /// Sets an environment variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Removes an environment variable that this process may have.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.removed.push(name.into());
        self
    }

    /// Writes the config file.
    pub(crate) fn config(self, text: &str) -> Self {
        let dir = self.path().join("config/walgit-fs");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.toml"), text).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The blobs of the network `local`.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.path().join("data/walgit-fs/local/blobs")
    }

    /// A command of walgit-fs in this environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = program::command(self.path(), &self.environment, args);
        for name in &self.removed {
            command.env_remove(name);
        }
        command
    }

    /// Starts a command that stops at a fault point; see [`start_stopped_at`].
    pub(crate) fn start_stopped_at(&self, at: &str, args: &[&str]) -> Child {
        start_stopped_at(self.command(args), at)
    }

    /// Runs a command, which may fail.
    pub(crate) fn try_run<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command after a shell command in the same process.
    pub(crate) fn run_after<S: AsRef<OsStr>>(&self, line: &str, args: &[S]) -> Output {
        self.command_after(line, args).output().unwrap()
    }

    /// A command, after a shell command in the same process.
    pub(crate) fn command_after<S: AsRef<OsStr>>(&self, line: &str, args: &[S]) -> Command {
        let ours = self.command(args);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line}; exec \"$0\" \"$@\"")]);
        shell.arg(ours.get_program()).args(ours.get_args());
        for (name, value) in ours.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }

    /// Runs a command that must succeed; returns its standard output.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let done = self.try_run(args);
        let output = String::from_utf8_lossy(&done.stderr);
        let args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
        assert!(
            done.status.success(),
            "{args:?} failed, {}: {output}",
            done.status
        );
        String::from_utf8(done.stdout).unwrap()
    }

    /// Runs a command that must fail; returns its standard error.
    #[track_caller]
    pub(crate) fn fail<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let done = self.try_run(args);
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        let output = String::from_utf8(done.stderr).unwrap();
        assert!(output.contains("error: "), "{output}");
        assert!(
            output.lines().count() <= 3,
            "an error has at most three lines: {output}"
        );
        assert!(!output.contains("panicked"), "{output}");
        output
    }

    /// Runs a command with `--json`; returns the parsed output.
    #[track_caller]
    pub(crate) fn json<S: AsRef<OsStr>>(&self, args: &[S]) -> Value {
        let mut args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
        args.push("--json".into());
        serde_json::from_str(&self.run(&args)).unwrap()
    }

    /// Publishes with `--force`; returns the report.
    #[track_caller]
    pub(crate) fn publish(&self, path: &Path, name: &str) -> Value {
        self.json(&[
            OsStr::new("publish"),
            path.as_os_str(),
            "--name".as_ref(),
            name.as_ref(),
            "--force".as_ref(),
        ])
    }

    /// Creates a new, empty directory.
    pub(crate) fn mountpoint(&self) -> PathBuf {
        let mut mounts = self.mounts.lock().unwrap();
        let dir = self.path().join(format!("mnt {}", mounts.len()));
        fs::create_dir(&dir).unwrap();
        mounts.push(dir.clone());
        dir
    }

    /// Mounts on a new directory, and returns it.
    #[track_caller]
    pub(crate) fn mount(&self, address: &str) -> PathBuf {
        let dir = self.mountpoint();
        self.run(&[OsStr::new("mount"), address.as_ref(), dir.as_os_str()]);
        dir
    }

    #[track_caller]
    pub(crate) fn unmount(&self, dir: &Path) {
        self.run(&[OsStr::new("unmount"), dir.as_os_str()]);
        assert_eq!(
            fs::read_dir(dir).unwrap().count(),
            0,
            "the mountpoint is empty"
        );
    }

    /// Unmounts the last mount and waits until the daemon has exited and released the
    /// cache.
    #[track_caller]
    pub(crate) fn unmount_and_wait_for_exit(&self, dir: &Path) {
        let pid = self.daemon().expect("a daemon runs");
        self.unmount(dir);
        super::eventually("the daemon is gone", || !alive(pid));
    }

    /// The process ID of the daemon, if one runs.
    pub(crate) fn daemon(&self) -> Option<i32> {
        let status = self.try_run(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        status["pid"].as_i64().map(|pid| pid as i32)
    }

    /// Runs a command repeatedly from the same state, killed at its first step, then at
    /// its second, and so on, until it succeeds. Calls `check` after each run; returns
    /// the number of kills.
    ///
    /// Steps are fault points: every change of a file, and named ones.
    #[track_caller]
    pub(crate) fn kill_at_each_step<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        mut check: impl FnMut(u32),
    ) -> u32 {
        let saved = self.path().join("kept");
        fs::create_dir(&saved).unwrap();
        // All state except the cache, on which correctness must not depend.
        let parts = ["data", "state"].map(|part| (self.path().join(part), saved.join(part)));
        for (part, saved) in &parts {
            fs::create_dir_all(part).unwrap();
            copy_directory(part, saved);
        }
        for step in 1.. {
            for (part, saved) in &parts {
                fs::remove_dir_all(part).unwrap();
                copy_directory(saved, part);
            }
            let done = self
                .command(args)
                .env("WALGIT_FS_FAULT_POINTS", format!("*=kill@{step}"))
                .output()
                .unwrap();
            if done.status.signal() != Some(9) {
                let output = String::from_utf8_lossy(&done.stderr);
                assert!(done.status.success(), "{}: {output}", done.status);
                fs::remove_dir_all(&saved).unwrap();
                check(step);
                return step - 1;
            }
            check(step);
        }
        unreachable!()
    }

    /// Kills the daemon with SIGKILL.
    pub(crate) fn crash(&self) {
        let pid = self.daemon().expect("a daemon runs");
        signal(pid, rustix::process::Signal::KILL);
        super::eventually("the daemon is gone", || !alive(pid));
    }
}

/// Gives this thread, and its children, a separate mount table: commands report all
/// mounts, including those of other tests. This requires root; other users run one test
/// at a time.
fn isolate_mount_table() {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    let namespace = || fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let is_shared = *SHARED.get_or_init(namespace) == namespace();
    if !is_shared || !rustix::process::geteuid().is_root() {
        return;
    }
    // SAFETY: no descriptors are unshared, only mounts and the current directory.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).unwrap();
    for line in mount_table().lines().rev() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(dir), Some("fuse.walgit-fs")) = (fields.next(), fields.next()) {
            let dir = dir.replace("\\040", " ");
            let _ = rustix::mount::unmount(dir.as_str(), UnmountFlags::DETACH);
        }
    }
}

/// The mount table of this thread.
pub(crate) fn mount_table() -> String {
    fs::read_to_string("/proc/thread-self/mounts").unwrap()
}

/// Stops a process until dropped, as `kill -STOP` does.
pub(crate) struct Stopped(i32);

impl Stopped {
    pub(crate) fn new(pid: i32) -> Self {
        signal(pid, rustix::process::Signal::STOP);
        let stopped = Stopped(pid);
        super::eventually("the process is stopped", || is_stopped(pid));
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if alive(self.0) {
            signal(self.0, rustix::process::Signal::CONT);
        }
    }
}

/// Whether a process is stopped.
pub(crate) fn is_stopped(pid: i32) -> bool {
    state(pid) == Some('T')
}

/// Starts a command that stops at a fault point until it is resumed.
pub(crate) fn start_stopped_at(mut command: Command, at: &str) -> Child {
    let child = command
        .env("WALGIT_FS_FAULT_POINTS", format!("{at}=stop"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    super::eventually("the command stops", || is_stopped(child.id() as i32));
    child
}

/// Resumes a stopped command, and waits for its end.
pub(crate) fn resume(child: Child) -> Output {
    signal(child.id() as i32, rustix::process::Signal::CONT);
    child.wait_with_output().unwrap()
}

fn copy_directory(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

/// Sends a signal.
pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether a process runs and is not a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// The state of a process, as in `proc(5)`: `T` if it is stopped.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

impl Drop for World {
    fn drop(&mut self) {
        // After any result, nothing stays mounted or running.
        for dir in self.mounts.lock().unwrap().iter() {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(dir)
                .stderr(Stdio::null())
                .status();
        }
        if let Ok(done) = self.command(&["status", "--json"]).output() {
            let status: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
            if let Some(pid) = status["pid"].as_i64() {
                signal(pid as i32, rustix::process::Signal::TERM);
            }
        }
    }
}

/// An embedded Walrus in a separate process.
pub(crate) struct Server {
    process: Child,
    dir: Arc<tempfile::TempDir>,
    args: Vec<String>,
    pub(crate) url: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Server::with(&[])
    }

    /// With additional arguments.
    pub(crate) fn with(args: &[&str]) -> Self {
        Server::over(Arc::new(tempfile::tempdir().unwrap()), "127.0.0.1:0", args)
    }

    /// Over an existing directory.
    pub(crate) fn over_directory(dir: &Path) -> Self {
        let dir = dir.to_str().unwrap();
        Server::over(
            Arc::new(tempfile::tempdir().unwrap()),
            "127.0.0.1:0",
            &["--dir", dir],
        )
    }

    /// Another server over the same directory, at another address.
    pub(crate) fn start_second(&self) -> Self {
        Server::over(self.dir.clone(), "127.0.0.1:0", &[])
    }

    fn over(dir: Arc<tempfile::TempDir>, listen: &str, args: &[&str]) -> Self {
        let own = ["--dir".as_ref(), dir.path().as_os_str()];
        let directory_args = if args.contains(&"--dir") {
            &own[..0]
        } else {
            &own[..]
        };
        let mut process = Command::new(PROGRAM)
            .args(["devnet", "--log-requests", "--listen", listen])
            .args(directory_args)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let url = first.strip_prefix("listening on ").unwrap().to_owned();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let saved = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                saved.lock().unwrap().push(line);
            }
        });
        Server {
            process,
            dir,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            url,
            log,
        }
    }

    /// The directory of its blobs.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.path().join("blobs")
    }

    /// Its address.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.url.trim_start_matches("http://").parse().unwrap()
    }

    /// Requests so far that begin with `prefix`.
    pub(crate) fn requests(&self, prefix: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|line| line.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Asserts the number of reads so far. Log lines may arrive shortly after the
    /// responses.
    pub(crate) fn assert_read_count(&self, expected: usize) {
        super::eventually("the expected number of reads", || {
            self.requests("GET").len() >= expected
        });
        let reads = self.requests("GET");
        assert_eq!(reads.len(), expected, "{reads:?}");
    }

    pub(crate) fn clear_requests(&self) {
        self.log.lock().unwrap().clear();
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Stops its process (SIGSTOP): the kernel accepts connections, but it does not
    /// respond.
    pub(crate) fn suspend(&self) {
        signal(self.pid(), rustix::process::Signal::STOP);
    }

    /// Resumes its process.
    pub(crate) fn resume(&self) {
        signal(self.pid(), rustix::process::Signal::CONT);
    }

    /// Restarts it at the same address, with the same arguments.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let listen = self.address().to_string();
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        *self = Server::over(self.dir.clone(), &listen, &args);
    }

    /// Replaces all faults, one per line; returns how often each of the previous faults
    /// fired.
    pub(crate) fn set_faults(&self, faults: &str) -> Vec<(String, u64)> {
        let before = self.admin("GET", "");
        let list: Value = serde_json::from_str(&before).unwrap();
        self.admin("PUT", faults);
        let one = |tally: &Value| Some((tally["fault"].as_str()?.into(), tally["fired"].as_u64()?));
        list.as_array().unwrap().iter().filter_map(one).collect()
    }

    fn admin(&self, method: &str, body: &str) -> String {
        let mut stream = std::net::TcpStream::connect(self.address()).unwrap();
        let len = body.len();
        write!(
            stream,
            "{method} /devnet/faults HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, output) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        output.to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
