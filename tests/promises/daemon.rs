//! Life cycle of the daemon: it inherits nothing from the command that starts it, ends
//! cleanly, and is always found while it runs.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::support::tree::assert_same;
use crate::support::world::{alive, signal};
use crate::support::{Tree, World, eventually};

fn published() -> (World, Tree) {
    let world = World::new();
    let tree = Tree::new().noise("a", 30_000, 1).file("b", "text");
    world.publish(tree.path(), "it");
    (world, tree)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The commands' own limit of five seconds, plus time for a busy machine.
const REPORT_TIMEOUT: Duration = Duration::from_secs(8);

fn is_mounted(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.contains(&text(dir).replace(' ', "\\040"))
}

/// A field of `/proc/PID/status`.
fn proc_status(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim_matches([':', '\t', ' ']).to_owned()
}

/// Resumes the process when dropped.
struct StoppedProcess(i32);

impl StoppedProcess {
    fn stop(pid: i32) -> Self {
        signal(pid, Signal::STOP);
        eventually("the process is stopped", || {
            proc_status(pid, "State").starts_with('T')
        });
        StoppedProcess(pid)
    }
}

impl Drop for StoppedProcess {
    fn drop(&mut self) {
        if alive(self.0) {
            signal(self.0, Signal::CONT);
        }
    }
}

#[test]
fn every_command_reports_a_stopped_daemon_with_process_and_remedy() {
    let (world, tree) = published();
    let dir = world.mount("it");
    let other = world.mountpoint();
    let pid = world.daemon().unwrap();
    let stopped = StoppedProcess::stop(pid);
    for args in [
        vec!["mount", "it", text(&other)],
        vec!["mount", "--foreground", "it", text(&other)],
        vec!["cache", "stats"],
        vec!["cache", "pins"],
        vec!["cache", "clear"],
        vec!["cache", "verify"],
        vec!["cache", "unpin", "it:/"],
        vec!["prefetch", "export", "it", "--output", "/dev/null"],
        vec!["daemon", "status"],
    ] {
        let started = Instant::now();
        let output = world.fail(&args);
        assert!(
            started.elapsed() < REPORT_TIMEOUT,
            "{args:?}: {:?}",
            started.elapsed()
        );
        assert!(
            output.contains(&format!("process {pid}")),
            "{args:?}: {output}"
        );
        assert!(
            output.contains(&format!("kill -CONT {pid}")),
            "{args:?}: {output}"
        );
    }
    drop(stopped);
    assert_same(tree.path(), &dir);
    assert_eq!(world.daemon(), Some(pid));
}

#[test]
fn daemon_stopped_during_a_request_does_not_block_the_client() {
    let (world, _tree) = published();
    let world = world.with("WALGIT_FS_FAULT_POINTS", "daemon.prepare=stop");
    let dir = world.mountpoint();
    let mut mount = world.command(&["mount", "it", text(&dir)]);
    let mount = mount.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let done = mount.wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(
        started.elapsed() < REPORT_TIMEOUT * 2,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(done.status.code(), Some(1), "{output}");
    assert!(output.contains("kill -CONT"), "{output}");
    assert!(!is_mounted(&dir));
    // It can be stopped, too: SIGTERM, and SIGCONT so that it is delivered.
    world.run(&["daemon", "stop"]);
    world.run(&["daemon", "stop"]);
}

#[test]
fn killed_daemon_is_detected_immediately_and_replaced() {
    let (world, tree) = published();
    let dir = world.mount("it");
    world.crash();
    assert_eq!(world.json(&["daemon", "status"])["running"], false);
    world.run(&["mount", "it", text(&dir)]);
    assert_same(tree.path(), &dir);
}

#[test]
fn daemon_of_another_version_is_reported_and_not_contacted() {
    let (world, _tree) = published();
    let daemon = world.path().join("cache/walgit-fs/daemon");
    let mut private = fs::DirBuilder::new();
    private.mode(0o700).recursive(true).create(&daemon).unwrap();
    let socket = UnixListener::bind(daemon.join("control.sock")).unwrap();
    let mut lock = File::create(daemon.join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    // A process to be named, and to be ended.
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = other.id();
    let holder = serde_json::json!({
        "pid": pid, "version": "9.9.9", "protocol": 99, "started": 1, "phase": "running",
    });
    write!(lock, "{holder}").unwrap();
    let dir = world.mountpoint();
    for args in [
        vec!["mount", "it", text(&dir)],
        vec!["cache", "clear"],
        vec!["daemon", "status"],
    ] {
        let output = world.fail(&args);
        assert!(output.contains("version 9.9.9"), "{args:?}: {output}");
        assert!(
            output.contains("walgit-fs daemon restart"),
            "{args:?}: {output}"
        );
        assert!(
            output.contains(&format!("process {pid}")),
            "{args:?}: {output}"
        );
    }
    socket.set_nonblocking(true).unwrap();
    assert!(socket.accept().is_err(), "no command connected");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Runs a bash script with `$W` set to the program, within a time limit.
fn bash(world: &World, script: &str) -> Output {
    let ours = world.command(&["status"]);
    let mut shell = Command::new("timeout");
    shell.args(["20", "bash", "-c", script]);
    shell.envs(
        ours.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell.env("W", ours.get_program());
    shell.current_dir(world.path()).output().unwrap()
}

#[test]
fn daemon_inherits_no_pipe_lock_or_file() {
    let (world, _tree) = published();
    let dir = world.mountpoint();
    let script = format!(
        "exec 9>lock; flock 9; exec 7</etc/passwd
         $W mount it '{0}' 2>&1 | cat >/dev/null; echo pipe
         said=$($W mount it '{0}' 2>&1); echo substitution
         exec 9>&-; flock -n lock true && echo free",
        text(&dir)
    );
    let done = bash(&world, &script);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "pipe\nsubstitution\nfree\n"
    );
    let pid = world.daemon().unwrap();
    for file in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let leads_to = fs::read_link(file.path()).unwrap_or_default();
        assert_ne!(leads_to, Path::new("/etc/passwd"));
        assert_ne!(leads_to, world.path().join("lock"));
    }
}

#[test]
fn daemon_does_not_block_make() {
    let (world, _tree) = published();
    let dir = world.mountpoint();
    let makefile = format!(
        "all: a b\na:\n\t+$(W) mount it '{}'\nb:\n\t+true\n",
        text(&dir)
    );
    fs::write(world.path().join("Makefile"), makefile).unwrap();
    let done = bash(&world, "make -j4 | cat");
    assert!(done.status.success(), "{done:?}");
    assert!(world.daemon().is_some());
}

#[test]
fn daemon_does_not_inherit_limits_and_priorities() {
    if !rustix::process::geteuid().is_root() {
        return; // others may not raise what was lowered
    }
    let (world, tree) = published();
    let dir = world.mountpoint();
    let script = format!(
        "trap '' HUP INT QUIT TERM USR1 CHLD PIPE; ulimit -S -n 40 -t 500 -f 100000 -v 9000000
         echo 900 >/proc/self/oom_score_adj; umask 0; cd '{}'
         nice -n 7 ionice -c 3 chrt --batch 0 taskset -c 0 nohup $W mount it '{}'",
        text(world.path()),
        text(&dir)
    );
    let done = bash(&world, &script);
    assert!(done.status.success(), "{done:?}");
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(!output.contains("warning"), "{output}");
    let pid = world.daemon().unwrap();
    let proc = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let limits = proc("limits");
    for name in ["Max cpu time", "Max file size", "Max address space"] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line[name.len()..].trim().starts_with("unlimited"), "{line}");
    }
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = files.unwrap().split_whitespace().nth(3).unwrap();
    assert!(soft.parse::<u64>().unwrap() > 1024, "{limits}");
    let stat = proc("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[16], "0", "niceness");
    assert_eq!(fields[38], "0", "scheduling policy");
    let priority = Command::new("ionice")
        .args(["-p", &pid.to_string()])
        .output()
        .unwrap();
    let priority = String::from_utf8(priority.stdout).unwrap();
    assert!(!priority.contains("idle"), "{priority}");
    assert_eq!(fields[3], pid.to_string(), "a new session");
    assert_eq!(proc("oom_score_adj").trim(), "0");
    let here = proc_status(std::process::id() as i32, "Cpus_allowed_list");
    assert_eq!(proc_status(pid, "Cpus_allowed_list"), here);
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        Path::new("/")
    );
    assert_eq!(proc_status(pid, "Umask"), "0077");
    assert_same(tree.path(), &dir);
    // SIGHUP was ignored in the parent, and still ends the daemon.
    signal(pid, Signal::HUP);
    eventually("the process has ended", || !alive(pid));
    assert!(!is_mounted(&dir));
}

#[test]
fn attribute_that_cannot_be_reset_is_reported_in_one_line() {
    if !rustix::process::geteuid().is_root() {
        return; // the others cannot mount where /dev/fuse is root's
    }
    let (world, _tree) = published();
    let dir = world.mountpoint();
    // Root without the capability to reset it.
    let script = format!(
        "command -v setpriv >/dev/null || exit 77
         ulimit -n 100; nice -n 7 setpriv --bounding-set -sys_nice,-sys_resource \
         --inh-caps -sys_nice,-sys_resource $W mount it '{}'",
        text(&dir)
    );
    let done = bash(&world, &script);
    if done.status.code() == Some(77) {
        return;
    }
    assert!(done.status.success(), "{done:?}");
    let output = String::from_utf8_lossy(&done.stderr);
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(
        output.contains("niceness 7, 100 open files")
            || output.contains("100 open files, niceness 7"),
        "{output}"
    );
}

/// Every signal that terminates a process by default and can be caught.
const TERMINATING_SIGNALS: [i32; 19] = [
    1, 2, 3, 5, 6, 10, 12, 14, 15, 16, 24, 26, 27, 29, 30, 31, 34, 50, 64,
];

fn send(pid: i32, number: i32) {
    let sent = Command::new("kill")
        .args([format!("-{number}"), pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn daemon_unmounts_everything_on_any_terminating_signal() {
    let (world, _tree) = published();
    let dir = world.mountpoint();
    for number in TERMINATING_SIGNALS {
        world.run(&["mount", "it", text(&dir)]);
        let pid = world.daemon().unwrap();
        send(pid, number);
        eventually("the process has ended", || !alive(pid));
        assert!(!is_mounted(&dir), "signal {number}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "signal {number}");
    }
}

/// A foreground mount with the disposition of SIGHUP that `env` sets.
fn serving_with(world: &World, dir: &Path, hangup: &str) -> Child {
    let ours = world.command(&["mount", "--foreground", "it", text(dir)]);
    let mut command = Command::new("env");
    command
        .arg(hangup)
        .arg(ours.get_program())
        .args(ours.get_args());
    command.envs(
        ours.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let child = command.spawn().unwrap();
    eventually("the mount is ready", || dir.join("b").exists());
    child
}

fn serving(world: &World, dir: &Path) -> Child {
    serving_with(world, dir, "--default-signal=HUP")
}

#[test]
fn foreground_mount_under_nohup_survives_sighup() {
    let (world, tree) = published();
    let dir = world.mountpoint();
    let mut child = serving_with(&world, &dir, "--ignore-signal=HUP");
    send(child.id() as i32, 1);
    assert_same(tree.path(), &dir);
    send(child.id() as i32, 15);
    assert!(child.wait().unwrap().success());
    assert!(!is_mounted(&dir));
}

#[test]
fn foreground_mount_unmounts_on_any_terminating_signal() {
    let (world, _tree) = published();
    let dir = world.mountpoint();
    for number in TERMINATING_SIGNALS {
        let mut child = serving(&world, &dir);
        send(child.id() as i32, number);
        let status = child.wait().unwrap();
        assert!(status.success(), "signal {number}: {status}");
        assert!(!is_mounted(&dir), "signal {number}");
    }
}

#[test]
fn foreground_mount_replaces_only_an_idle_daemon() {
    let (world, tree) = published();
    let dir = world.mount("it");
    let pid = world.daemon().unwrap();
    let other = world.mountpoint();
    let output = world.fail(&["mount", "--foreground", "it", text(&other)]);
    assert!(output.contains(&format!("process {pid}")), "{output}");
    assert!(output.contains(text(&dir)), "{output}");
    world.unmount(&dir);
    let mut child = serving(&world, &other);
    assert_same(tree.path(), &other);
    assert!(!alive(pid));
    signal(child.id() as i32, Signal::INT);
    assert!(child.wait().unwrap().success());
}

#[test]
fn daemon_commands_show_stop_and_restart_it() {
    let (world, tree) = published();
    assert_eq!(world.json(&["daemon", "status"])["running"], false);
    assert_eq!(world.json(&["daemon", "stop"])["stopped"], false);
    let dirs = [world.mount("it"), world.mount("it")];
    let pid = world.daemon().unwrap();
    let status = world.json(&["daemon", "status"]);
    assert_eq!(status["pid"], pid);
    assert_eq!(status["mounts"], 2);
    let restarted = world.json(&["daemon", "restart", "--cache-disk", "77000000"]);
    assert_eq!(restarted["mounted"].as_array().unwrap().len(), 2);
    assert!(!alive(pid));
    let status = world.json(&["daemon", "status"]);
    assert_ne!(status["pid"], pid);
    assert_eq!(status["settings"]["cache_disk"]["value"], 77_000_000);
    // Also while a file is open.
    let _open = File::open(dirs[0].join("a")).unwrap();
    for dir in &dirs {
        assert_same(tree.path(), dir);
    }
    assert_eq!(world.json(&["daemon", "stop"])["stopped"], true);
    for dir in &dirs {
        assert!(!is_mounted(dir));
    }
    assert_eq!(world.json(&["daemon", "stop"])["stopped"], false);
}

#[test]
fn daemon_is_found_although_its_directory_was_removed_or_moved() {
    for part in ["daemon/lock", "daemon/control.sock", "daemon", ""] {
        for moved in [false, true] {
            let (world, tree) = published();
            let dirs = [world.mount("it")];
            let pid = world.daemon().unwrap();
            let cache = world.path().join("cache/walgit-fs");
            fs::rename(cache.join(part), world.path().join("aside")).unwrap();
            if !moved {
                let aside = world.path().join("aside");
                let _ = fs::remove_file(&aside).or_else(|_| fs::remove_dir_all(&aside));
            }
            let found = || world.try_run(&["daemon", "status", "--json"]);
            let status = |done: &Output| -> serde_json::Value {
                serde_json::from_slice(&done.stdout).unwrap_or_default()
            };
            eventually("the daemon is found again", || {
                status(&found())["pid"].as_i64() == Some(pid.into())
            });
            // No second daemon starts.
            let dirs = [&dirs[..], &[world.mount("it")]].concat();
            let now = status(&found());
            assert_eq!(
                (&now["pid"], &now["mounts"]),
                (&pid.into(), &2.into()),
                "{part}"
            );
            let doctor = world.try_run(&["doctor"]);
            let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
            assert!(
                doctor.contains(&format!("process {pid} answers")),
                "{doctor}"
            );
            // A lost database is reported.
            let status = world.run(&["status"]);
            assert_eq!(
                status.contains("keeps nothing on disk"),
                part.is_empty(),
                "{status}"
            );
            for dir in &dirs {
                assert_same(tree.path(), dir);
            }
            let restarted = world.json(&["daemon", "restart"]);
            assert_eq!(restarted["mounted"].as_array().unwrap().len(), 2, "{part}");
            assert!(!alive(pid));
            assert!(!world.run(&["status"]).contains("keeps nothing on disk"));
            for dir in &dirs {
                assert_same(tree.path(), dir);
            }
            assert_eq!(world.json(&["daemon", "stop"])["stopped"], true);
            dirs.iter().for_each(|dir| assert!(!is_mounted(dir)));
        }
    }
}

#[test]
fn daemon_can_be_stopped_despite_a_broken_config_file() {
    let (world, _tree) = published();
    let dir = world.mount("it");
    let world = world.config("this is no TOML");
    assert_eq!(world.json(&["daemon", "stop"])["stopped"], true);
    assert!(!is_mounted(&dir));
}

#[test]
fn settings_that_differ_from_the_running_daemon_are_reported() {
    let (world, _tree) = published();
    let dir = world.mount("it");
    world.unmount(&dir);
    let mount = |world: &World, args: &[&str]| {
        let mut all = vec!["mount", "it", text(&dir)];
        all.extend(args);
        let done = world.try_run(&all);
        assert!(done.status.success(), "{done:?}");
        world.unmount(&dir);
        String::from_utf8(done.stderr).unwrap()
    };
    assert_eq!(mount(&world, &[]), "");
    let output = mount(&world, &["--cache-disk", "88000000"]);
    assert!(
        output.contains("cache.disk is 500000000, not 88000000"),
        "{output}"
    );
    assert!(output.contains("walgit-fs daemon restart"), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
    let world = world.config("[mount]\ndeadline_s = 11\n[renewal]\nepochs = 9\n");
    let output = mount(&world, &[]);
    assert!(
        output.contains("mount.deadline_s is 30, not 11"),
        "{output}"
    );
    assert!(output.contains("[renewal] has changed"), "{output}");
    world.run(&["daemon", "restart"]);
    assert_eq!(mount(&world, &[]), "");
}

#[test]
fn daemon_uses_the_config_file_given_by_flag() {
    let (world, _tree) = published();
    fs::write(
        world.path().join("other.toml"),
        "[daemon]\nidle_exit_s = 77\n",
    )
    .unwrap();
    let dir = world.mountpoint();
    let mut mount = world.command(&["mount", "it", text(&dir), "--config", "other.toml"]);
    assert!(mount.current_dir(world.path()).status().unwrap().success());
    let status = world.json(&["daemon", "status"]);
    assert_eq!(status["settings"]["idle_exit_s"]["value"], 77);
}

#[test]
fn concurrent_mounts_share_one_daemon() {
    let (world, tree) = published();
    let dirs: Vec<_> = (0..4).map(|_| world.mountpoint()).collect();
    let mounts: Vec<Child> = dirs
        .iter()
        .map(|dir| world.command(&["mount", "it", text(dir)]).spawn().unwrap())
        .collect();
    for mut mount in mounts {
        assert!(mount.wait().unwrap().success());
    }
    assert_eq!(world.json(&["daemon", "status"])["mounts"], 4);
    for dir in &dirs {
        assert_same(tree.path(), dir);
    }
}
