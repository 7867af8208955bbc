//! Mounts of an ordinary user.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::{CommandOutput, assert_not_mounted, mount_while, run, text};
use crate::program::PROGRAM;
use crate::support::world::{Stopped, alive, mount_table, signal};
use crate::support::{Tree, World, eventually};

const OTHER_UID: u32 = 65_534;

/// Another user with a separate home, in a world that is open to them.
struct User<'a> {
    world: &'a World,
    home: PathBuf,
    program: PathBuf,
    _exclusive: MutexGuard<'static, ()>,
}

/// A mount that cannot be inspected is attributed to all processes of its user, so only
/// one test at a time may have them.
static EXCLUSIVE: Mutex<()> = Mutex::new(());

impl<'a> User<'a> {
    fn new(world: &'a World) -> Self {
        let exclusive = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        open(world.path());
        let program = world.path().join("walgit-fs");
        fs::copy(PROGRAM, &program).unwrap();
        open(&program);
        let home = world.path().join("home");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(OTHER_UID), Some(OTHER_UID)).unwrap();
        // As on an ordinary system; only in the mount table of this test.
        let device = world.path().join("fuse");
        for (command, args) in [
            ("mknod", &["-m", "666", text(&device), "c", "10", "229"][..]),
            ("mount", &["--bind", text(&device), "/dev/fuse"]),
        ] {
            assert!(Command::new(command).args(args).status().unwrap().success());
        }
        let user = User {
            world,
            home,
            program,
            _exclusive: exclusive,
        };
        user.folder("tree/d");
        fs::write(user.home.join("tree/a"), "content").unwrap();
        user.run(&["publish", "tree", "--name", "it"])
            .assert(0, &[]);
        user
    }

    fn folder(&self, path: &str) -> PathBuf {
        let mut made = self.home.clone();
        for part in Path::new(path) {
            made.push(part);
            if fs::create_dir(&made).is_ok() {
                std::os::unix::fs::chown(&made, Some(OTHER_UID), Some(OTHER_UID)).unwrap();
            }
        }
        made
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", "10"])
            .arg(&self.program)
            .args(args);
        command
            .current_dir(&self.home)
            .uid(OTHER_UID)
            .gid(OTHER_UID);
        for name in ["CONFIG", "DATA", "CACHE", "STATE"] {
            command.env_remove(format!("XDG_{name}_HOME"));
        }
        command.env("HOME", &self.home).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> CommandOutput {
        let output = CommandOutput::of(&self.command(args).output().unwrap());
        assert!(
            output.code.is_some_and(|code| code < 100),
            "hangs: {output:?}"
        );
        output
    }

    fn daemon(&self) -> i32 {
        let status = self.run(&["status", "--json"]).json();
        status["pid"].as_i64().unwrap() as i32
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        let table = mount_table();
        let mine = format!("{}/", self.world.path().display());
        for line in table.lines().filter(|line| line.contains("walgit-fs")) {
            if let Some(dir) = line.split(' ').nth(1).filter(|dir| dir.starts_with(&mine)) {
                let _ = Command::new("umount").args(["-l", dir]).status();
            }
        }
        let status = self.command(&["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        if let Some(pid) = status["pid"].as_i64() {
            signal(pid as i32, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn ordinary_users_can_list_and_unmount_their_mounts() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can act as another user; every other test is this one then.
    }
    let world = World::new();
    let user = User::new(&world);
    let (one, two) = (user.folder("one"), user.folder("two"));
    user.run(&["mount", "it", "one"]).assert(0, &[]);
    user.run(&["mount", "it", "two"]).assert(0, &[]);
    user.run(&["status"]).assert(0, &[text(&one), text(&two)]);
    // Root sees them with their owner.
    run(&world, &["status"]).assert(
        0,
        &[text(&one), "mounted by user 65534", "served by process"],
    );
    let pid = user.daemon();
    // Another environment of the same user, which cannot inspect the daemon.
    let elsewhere = |args: &[&str]| {
        let mut command = user.command(args);
        command.env("XDG_CACHE_HOME", user.home.join("elsewhere"));
        CommandOutput::of(&command.output().unwrap())
    };
    let process = format!("process {pid}");
    elsewhere(&["status"]).assert(0, &[text(&one), &process]);
    let stopped = Stopped::new(pid);
    user.run(&["status"])
        .assert(1, &["not responding: ", &process]);
    elsewhere(&["status"]).assert(1, &["not responding: ", &process]);
    run(&world, &["status"]).assert(1, &["not responding: ", &pid.to_string()]);
    user.run(&["doctor"])
        .assert(1, &["FAILED  daemon", "not responding: "]);
    user.run(&["mount", "it", "two"])
        .assert(1, &["mounted already", &process]);
    user.run(&["unmount", "one"]).assert(0, &["is unmounted"]);
    assert_not_mounted(&one);
    drop(stopped);
    user.run(&["mount", "it", "one"]).assert(0, &[]);
    signal(pid, rustix::process::Signal::KILL);
    eventually("the daemon is gone", || !alive(pid));
    user.run(&["status"]).assert(1, &["dead: "]);
    user.run(&["mount", "it", "one"]).assert(0, &[]);
    user.run(&["unmount", "two"]).assert(0, &["is unmounted"]);
    user.run(&["status"]).assert(0, &[text(&one)]);
    user.run(&["unmount", "--all"]).assert(0, &[]);
    // Root's mounts are not in their list and cannot be unmounted by them.
    let tree = Tree::new().file("a", "content");
    world.publish(tree.path(), "it");
    let roots = world.mount("it");
    user.run(&["unmount", text(&roots)])
        .assert(1, &["mounted by user 0"]);
    user.run(&["status"]).assert(0, &["nothing is mounted"]);
}

#[test]
fn path_replaced_during_the_mount_of_an_ordinary_user_is_not_mounted() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new();
    let user = User::new(&world);
    let dir = user.folder("parent/m");
    user.folder("victim/m");
    // With `timeout`, another process would have to be stopped.
    let timed = user.command(&["mount", "it", text(&dir)]);
    let mut mount = Command::new(&user.program);
    mount
        .args(["mount", "it", text(&dir)])
        .uid(OTHER_UID)
        .gid(OTHER_UID);
    mount.current_dir(&user.home).stdin(Stdio::null());
    for (name, value) in timed.get_envs() {
        match value {
            Some(value) => mount.env(name, value),
            None => mount.env_remove(name),
        };
    }
    let output = mount_while(mount, || {
        fs::rename(user.home.join("parent"), user.home.join("moved")).unwrap();
        symlink("victim", user.home.join("parent")).unwrap();
    });
    output.assert(1, &["was replaced", text(&dir)]);
    assert!(!mount_table().contains("walgit-fs"), "{}", mount_table());
}
