//! All mounts are reported correctly and can be unmounted, whether the daemon responds,
//! hangs, is dead or belongs to another environment.

mod ordinary_user;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::Value;

use crate::program::PROGRAM;
use crate::support::world::{Stopped, mount_table, resume, start_stopped_at};
use crate::support::{Tree, World, eventually};

/// The output of a command, and its exit code.
#[derive(Debug)]
struct CommandOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

impl CommandOutput {
    fn of(done: &Output) -> Self {
        CommandOutput {
            code: done.status.code(),
            out: String::from_utf8_lossy(&done.stdout).into_owned(),
            err: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code, and that the output contains these words.
    #[track_caller]
    fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            let printed = self.out.contains(word) || self.err.contains(word);
            assert!(printed, "{word:?} is missing: {self:?}");
        }
    }
}

/// Runs a command, which must end within 10 seconds.
#[track_caller]
fn run_with_timeout(mut command: Command) -> CommandOutput {
    let mut run_with_timeout = Command::new("timeout");
    run_with_timeout.args(["--signal=KILL", "10"]);
    run_with_timeout
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => run_with_timeout.env(name, value),
            None => run_with_timeout.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        run_with_timeout.current_dir(dir);
    }
    command = run_with_timeout;
    let output = CommandOutput::of(&command.stdin(Stdio::null()).output().unwrap());
    assert!(
        output.code.is_some_and(|code| code < 100),
        "hangs: {output:?}"
    );
    output
}

#[track_caller]
fn run<S: AsRef<OsStr>>(world: &World, args: &[S]) -> CommandOutput {
    run_with_timeout(world.command(args))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn published() -> World {
    let world = World::new();
    let tree = Tree::new().file("a", "content").file("d/b", "more");
    world.publish(tree.path(), "it");
    world
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[track_caller]
fn assert_not_mounted(dir: &Path) {
    let escaped = text(dir).replace(' ', "\\040");
    assert!(!mount_table().contains(&escaped), "{}", mount_table());
}

#[test]
fn mounts_of_a_killed_daemon_are_reported_dead_and_recover() {
    let world = published();
    let (one, two) = (world.mount("it"), world.mount("it"));
    world.crash();
    for args in [&["status"][..], &["doctor"], &["status", text(&one)]] {
        let remedy = format!("walgit-fs unmount '{}'", one.display());
        run(&world, args).assert(1, &["dead: ", &remedy, "mount on it again"]);
    }
    run(&world, &["doctor"]).assert(1, &["FAILED  /"]);
    let status = run(&world, &["status", "--json"]).json();
    assert_eq!(status["mounts"][1]["state"], "dead");
    assert_eq!(status["mounts"][1]["pid"], Value::Null);
    // One recovers by another mount, one is unmounted, and others do not interfere.
    run(&world, &["mount", "it", text(&one)]).assert(0, &[]);
    assert_eq!(fs::read(one.join("a")).unwrap(), b"content");
    run(&world, &["status"]).assert(1, &["dead: "]);
    run(&world, &["unmount", text(&two)]).assert(0, &["is unmounted"]);
    let output = run(&world, &["status"]);
    output.assert(0, &[text(&one)]);
    assert!(!output.out.contains(text(&two)), "{output:?}");
}

#[test]
fn stopped_daemon_is_named_and_blocks_no_command() {
    let world = published();
    let (one, two) = (world.mount("it"), world.mount("it"));
    let pid = world.daemon().unwrap();
    let stopped = Stopped::new(pid);
    let process = format!("process {pid}");
    let resume = format!("kill -CONT {pid}");
    for command in ["status", "doctor"] {
        let output = run(&world, &[command]);
        output.assert(1, &["not responding: ", &process, &resume, text(&one)]);
        assert!(!output.out.contains("nothing is mounted"), "{output:?}");
    }
    let status = run(&world, &["status", "--json"]).json();
    assert_eq!(status["daemon"]["state"], "unresponsive");
    for folder in status["mounts"].as_array().unwrap() {
        assert_eq!(folder["state"], "not_responding");
        assert_eq!(folder["pid"], pid);
    }
    let other = world.mountpoint();
    run(&world, &["mount", "it", text(&other)]).assert(1, &[&process, &resume]);
    run(&world, &["mount", "it", text(&one)]).assert(1, &["mounted already", &process]);
    run(&world, &["unmount", text(&one)]).assert(0, &["is unmounted"]);
    run(&world, &["unmount", "--lazy", text(&two)]).assert(0, &["is unmounted"]);
    for dir in [&one, &two] {
        assert_not_mounted(dir);
    }
    // Nothing is mounted, but there is a problem.
    run(&world, &["status"]).assert(1, &["nothing is mounted", &process]);
    drop(stopped);
    run(&world, &["mount", "it", text(&one)]).assert(0, &[]);
    run(&world, &["status"]).assert(0, &[text(&one)]);
}

#[test]
fn mounts_of_another_environment_are_reported_with_their_process() {
    let world = published();
    let dir = world.mount("it");
    let pid = world.daemon().unwrap();
    let other = World::new();
    // Not by it alone: another test's daemon may not yet have closed a connection whose
    // number is in use again.
    let served = pid.to_string();
    run(&other, &["status"]).assert(0, &[text(&dir), "served by ", &served]);
    run(&other, &["doctor"]).assert(0, &["served by ", &served]);
    let status = run(&other, &["status", "--json"]).json();
    assert_eq!(status["daemon"]["state"], "absent");
    assert_eq!(status["mounts"][0]["state"], "served");
    let stopped = Stopped::new(pid);
    run(&other, &["status"]).assert(1, &["not responding: ", &served]);
    run(&other, &["unmount", text(&dir)]).assert(0, &[]);
    assert_not_mounted(&dir);
    drop(stopped);
}

#[test]
fn status_json_has_the_same_keys_in_every_daemon_state() {
    let world = published();
    let status = || run(&world, &["status", "--json"]).json();
    let absent = status();
    let dir = world.mount("it");
    let running = status();
    assert_eq!(keys(&absent), keys(&running));
    assert_eq!(running["mounts"][0]["mountpoint"], text(&dir));
    assert_eq!(running["mounts"][0]["state"], "served");
    let stopped = Stopped::new(world.daemon().unwrap());
    let unresponsive = status();
    drop(stopped);
    world.crash();
    for other in [unresponsive, status()] {
        assert_eq!(keys(&other), keys(&running));
        assert_eq!(keys(&other["daemon"]), keys(&running["daemon"]));
        assert_eq!(keys(&other["mounts"][0]), keys(&running["mounts"][0]));
    }
}

#[test]
fn covered_mount_is_reported_and_left_alone() {
    let world = published();
    let dir = world.mount("it");
    let pid = world.daemon().unwrap();
    let covers = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&dir)
        .status();
    assert!(covers.unwrap().success());
    let status = run(&world, &["status", "--json"]).json();
    assert_eq!(status["mounts"][0]["state"], "hidden");
    assert_eq!(status["mounts"][0]["pid"], pid);
    run(&world, &["unmount", text(&dir)]).assert(1, &["type tmpfs"]);
    let uncovers = Command::new("umount").arg(&dir).status();
    assert!(uncovers.unwrap().success());
    run(&world, &["unmount", text(&dir)]).assert(0, &[]);
}

#[test]
fn status_and_unmount_work_with_an_unusable_config_file() {
    let world = published();
    let file = world.path().join("config/walgit-fs/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let broken: [(&str, &dyn Fn()); 5] = [
        ("line 2: ", &|| {
            fs::write(&file, "\nnetwork = \"\n").unwrap()
        }),
        ("line 1: unknown field", &|| {
            fs::write(&file, "netwrok = 1\n").unwrap()
        }),
        ("line 2: not UTF-8", &|| {
            fs::write(&file, b"# text\n# \xff\n").unwrap()
        }),
        ("is called `nope`", &|| {
            fs::write(&file, "network = \"nope\"\n").unwrap()
        }),
        ("is a folder", &|| fs::create_dir(&file).unwrap()),
    ];
    for (why, spoil) in broken {
        let dir = world.mount("it");
        spoil();
        run(&world, &["status"]).assert(0, &[text(&dir), why]);
        assert!(run(&world, &["status", "--json"]).json()["mounts"][0]["commit"].is_string());
        let doctor = run(&world, &["doctor"]);
        doctor.assert(1, &[why, text(&dir)]);
        let failed = doctor.out.lines().find(|line| line.starts_with("FAILED"));
        assert!(
            failed.unwrap().contains(why),
            "the cause comes first: {doctor:?}"
        );
        run(&world, &["--help"]).assert(0, &["unmount"]);
        run(&world, &["completions", "bash"]).assert(0, &[]);
        run(&world, &["unmount", text(&dir)]).assert(0, &["is unmounted"]);
        run(&world, &["mount", "it", text(&dir)]).assert(1, &[why]);
        let _ = fs::remove_file(&file);
        let _ = fs::remove_dir(&file);
    }
}

#[test]
fn status_and_unmount_work_with_an_unusable_environment_variable() {
    let world = published();
    let broken: [(&str, &[u8]); 4] = [
        ("WALGIT_FS_CACHE_DISK", b"abc"),
        ("WALGIT_FS_NETWORK", b"nope"),
        ("WALGIT_FS_NETWORK", b"\xff"),
        ("WALGIT_FS_AGGREGATOR", b"\xff"),
    ];
    for (name, value) in broken {
        let dir = world.mount("it");
        let run = |args: &[&str]| {
            let mut command = world.command(args);
            command.env(name, OsStr::from_bytes(value));
            run_with_timeout(command)
        };
        let why = if value == b"nope" {
            "is called `nope`"
        } else {
            name
        };
        run(&["status"]).assert(0, &[text(&dir), why]);
        run(&["doctor"]).assert(1, &[why, text(&dir)]);
        run(&["daemon", "status"]).assert(0, &["process"]);
        run(&["--help"]).assert(0, &[name]);
        run(&["mount", "it", text(&dir)]).assert(1, &[why]);
        run(&["unmount", text(&dir)]).assert(0, &["is unmounted"]);
        let dir = world.mount("it");
        run(&["daemon", "stop"]).assert(0, &["has ended"]);
        assert_not_mounted(&dir);
        // A flag overrides the environment, and an empty variable counts as unset.
        if name == "WALGIT_FS_CACHE_DISK" {
            run(&["refs", "--cache-disk", "20M"]).assert(0, &["it"]);
        }
    }
    let mut command = world.command(&["refs"]);
    command
        .env("WALGIT_FS_CACHE_DISK", "")
        .env("WALGIT_FS_CONFIG", "");
    run_with_timeout(command).assert(0, &["it"]);
}

#[test]
fn directory_inside_a_mount_is_reported_with_its_mount() {
    let world = World::new();
    let tree = Tree::new().file("below/a", "text");
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    for command in ["status", "unmount"] {
        let output = run(&world, &[command, text(&dir.join("below"))]);
        output.assert(1, &["is inside the mount", text(&dir), "give that folder"]);
    }
    world.unmount(&dir);
}

#[test]
fn status_and_unmount_work_without_home() {
    let world = published();
    let homeless = |args: &[&str]| {
        let mut command = world.command(args);
        for name in ["CONFIG", "DATA", "CACHE", "STATE"] {
            command.env_remove(format!("XDG_{name}_HOME"));
        }
        run_with_timeout({
            command.env("HOME", "not/absolute");
            command
        })
    };
    let dir = world.mount("it");
    homeless(&["status"]).assert(1, &[text(&dir), "HOME is not/absolute"]);
    homeless(&["doctor"]).assert(1, &["FAILED", "HOME is not/absolute", text(&dir)]);
    homeless(&["mount", "it", text(&dir)]).assert(1, &["HOME is not/absolute"]);
    homeless(&["unmount", text(&dir)]).assert(0, &["is unmounted"]);
}

#[test]
fn every_spelling_of_a_mountpoint_is_recognized() {
    let world = published();
    let link = world.path().join("link");
    symlink(world.path(), &link).unwrap();
    type Way<'a> = (&'a dyn Fn(&Path) -> PathBuf, Option<&'a Path>);
    let name = |dir: &Path| PathBuf::from(dir.file_name().unwrap());
    let root = Some(world.path());
    let ways: [Way; 6] = [
        (&|dir| dir.to_path_buf(), None),
        (&|dir| format!("{}/", dir.display()).into(), None),
        (&|dir| link.join(name(dir)), None),
        (&|dir| name(dir), root),
        (&|dir| Path::new("./link/.").join(name(dir)).join("."), root),
        (&|_| "..".into(), Some(Path::new("d"))),
    ];
    for (at, (write, current)) in ways.into_iter().enumerate() {
        let dir = world.mount("it");
        let stopped = Stopped::new(world.daemon().unwrap());
        let mut command = world.command(&[OsStr::new("unmount"), write(&dir).as_os_str()]);
        if let Some(current) = current {
            command.current_dir(dir.join(current));
        }
        // No other process may be in it: `timeout` would be.
        let done = if at == 5 {
            drop(stopped);
            CommandOutput::of(&command.output().unwrap())
        } else {
            run_with_timeout(command)
        };
        done.assert(0, &["is unmounted"]);
        assert_not_mounted(&dir);
    }
}

#[test]
fn reasons_for_a_failed_unmount_are_distinguished() {
    let world = published();
    let dir = world.mount("it");
    let plain = world.mountpoint();
    let unmount = |path: &Path| run(&world, &[OsStr::new("unmount"), path.as_os_str()]);
    let missing = unmount(&world.path().join("missing"));
    missing.assert(1, &["no such folder"]);
    assert!(!missing.err.contains("mkdir"), "{missing:?}");
    unmount(&plain).assert(1, &["is not a walgit-fs mount"]);
    unmount(Path::new("/proc")).assert(1, &["type proc", "use umount"]);
    unmount(&dir.join("d")).assert(1, &["is inside the mount", text(&dir)]);
    // The shell is reported, and not the command itself.
    let script = format!(
        "cd '{}'; '{PROGRAM}' unmount . & echo $!; wait $!",
        dir.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    for (name, value) in world.command(&["status"]).get_envs() {
        shell.env(name, value.unwrap());
    }
    let output = CommandOutput::of(&shell.output().unwrap());
    output.assert(1, &["your shell, sh (", "cd out of it first"]);
    let own = format!("({})", output.out.lines().next().unwrap());
    assert!(!output.err.contains(&own), "{output:?}");
    assert!(mount_table().contains("fuse.walgit-fs"));
    // A removed current directory is not confused with another one.
    let gone = world.path().join("gone");
    fs::create_dir(&gone).unwrap();
    let script = format!("rmdir '{}'; exec '{PROGRAM}' unmount .", gone.display());
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(&gone)
        .output()
        .unwrap();
    CommandOutput::of(&output).assert(1, &["the current directory no longer exists"]);
}

#[test]
fn unmount_all_unmounts_everything() {
    let world = published();
    run(&world, &["unmount", "--all"]).assert(0, &["nothing is mounted"]);
    let dirs = [world.mount("it"), world.mount("it")];
    world.crash();
    run(&world, &["mount", "it", text(&dirs[0])]).assert(0, &[]);
    let done = run(&world, &["unmount", "--all", "--json"]);
    done.assert(0, &[]);
    assert_eq!(done.json().as_array().unwrap().len(), 2);
    assert_eq!(done.json()[0]["unmounted"], true);
    assert!(!mount_table().contains("walgit-fs"), "{}", mount_table());
}

#[test]
fn current_directory_in_a_dead_mount_does_not_prevent_unmount() {
    let world = published();
    let (dir, other) = (world.mount("it"), world.mountpoint());
    // In it since before its daemon died: it cannot be entered afterwards.
    let script = format!(
        "cd '{}/d'; read go; for c in status 'mount it \"$2\"' 'unmount \"$2\"' 'unmount --lazy ../'; \
         do eval \"timeout 10 '{PROGRAM}' $c\"; echo \"rc $?\"; done",
        dir.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh", "", text(&other)]);
    for (name, value) in world.command(&["status"]).get_envs() {
        shell.env(name, value.unwrap());
    }
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let cwd = format!("/proc/{}/cwd", shell.id());
    eventually("the shell has entered the folder", || {
        fs::read_link(&cwd).is_ok_and(|at| at.ends_with("d"))
    });
    world.crash();
    drop(shell.stdin.take());
    let output = CommandOutput::of(&shell.wait_with_output().unwrap());
    let codes: Vec<&str> = output
        .out
        .lines()
        .filter(|line| line.starts_with("rc "))
        .collect();
    assert_eq!(codes, ["rc 1", "rc 0", "rc 0", "rc 0"], "{output:?}");
    assert!(output.out.contains("dead: "), "{output:?}");
    assert_not_mounted(&dir);
}

/// Starts a mount on `dir`, and runs `between` after it has checked the directory and
/// before it mounts.
fn mount_while(mount: Command, between: impl FnOnce()) -> CommandOutput {
    let mount = start_stopped_at(mount, "mount.checked");
    between();
    CommandOutput::of(&resume(mount))
}

#[test]
fn mountpoint_replaced_between_check_and_mount_is_not_mounted() {
    let world = published();
    let victim = world.path().join("victim");
    fs::create_dir_all(victim.join("m")).unwrap();
    let [moved, parent] = ["moved", "parent"].map(|name| world.path().join(name));
    let dir = parent.join("m");
    let replaced: [&dyn Fn(); 4] = [
        // The directory itself, replaced by a symlink, or by another directory.
        &|| {
            fs::rename(&dir, &moved).unwrap();
            symlink(&victim, &dir).unwrap();
        },
        &|| {
            fs::rename(&dir, &moved).unwrap();
            fs::create_dir(&dir).unwrap();
        },
        &|| {
            fs::remove_dir(&dir).unwrap();
            symlink(&victim, &dir).unwrap();
        },
        // A parent directory.
        &|| {
            fs::rename(&parent, &moved).unwrap();
            symlink(&victim, &parent).unwrap();
        },
    ];
    for replace in replaced {
        fs::create_dir_all(&dir).unwrap();
        let output = mount_while(world.command(&["mount", "it", text(&dir)]), replace);
        output.assert(1, &["error: ", text(&dir)]);
        assert!(!mount_table().contains("walgit-fs"), "{}", mount_table());
        for path in [&dir, &parent, &moved] {
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir_all(path);
        }
    }
    // Otherwise it succeeds, also if something else is mounted in between.
    fs::create_dir_all(&dir).unwrap();
    let other = world.mountpoint();
    let between = || run(&world, &["mount", "it", text(&other)]).assert(0, &[]);
    let mount = world.command(&["mount", "it", text(&dir)]);
    mount_while(mount, between).assert(0, &["is mounted on"]);
    run(&world, &["unmount", text(&dir)]).assert(0, &[]);
}

/// Pins a mount with a descriptor in transit between two sockets, which no process shows.
fn pin_unseen(dir: &Path) -> (UnixStream, UnixStream) {
    let sockets = UnixStream::pair().unwrap();
    let folder = fs::File::open(dir).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [folder.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let byte = [IoSlice::new(&[0])];
    rustix::net::sendmsg(&sockets.0, &byte, &mut control, SendFlags::empty()).unwrap();
    sockets
}

#[test]
fn unmount_waits_for_a_transient_use_that_no_process_shows() {
    let world = published();
    let dir = world.mount("it");
    let sockets = pin_unseen(&dir);
    let child = world.start_stopped_at("unmount.busy", &["unmount", text(&dir)]);
    drop(sockets);
    CommandOutput::of(&resume(child)).assert(0, &["is unmounted"]);
    assert_not_mounted(&dir);
}

#[test]
fn unmount_reports_a_lasting_use_that_no_process_shows() {
    let world = published();
    let dir = world.mount("it");
    let sockets = pin_unseen(&dir);
    run(&world, &["unmount", text(&dir)])
        .assert(1, &["in use by a process that cannot be seen", "--lazy"]);
    drop(sockets);
    run(&world, &["unmount", text(&dir)]).assert(0, &["is unmounted"]);
}
