//! Mounted content is not collected, in any environment of `gc` and in any state of the
//! process behind the mount.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::tree::{assert_same, noise};
use crate::support::world::{resume, signal};
use crate::support::{Server, Tree, World, eventually};

/// No retention rule keeps anything, so only leases and names protect.
const NO_RETENTION: &str = "[retention]\ndefault_days = 0\nrules = []\n";
const FILE_LEN: usize = 300_000;

/// A mounted repository with one file that a second publish replaced under its name.
struct ReplacedHead {
    world: World,
    tree: Tree,
    /// The address of the replaced head.
    old: String,
    mount: PathBuf,
}

fn old_content() -> Vec<u8> {
    noise(FILE_LEN, 1)
}

impl ReplacedHead {
    fn new() -> Self {
        ReplacedHead::with(World::new(), &[], &[])
    }

    fn with(world: World, publish: &[&str], mount: &[&str]) -> Self {
        let world = world.config(NO_RETENTION);
        let tree = Tree::new().noise("file", FILE_LEN, 1);
        let path = tree.path().to_str().unwrap().to_owned();
        let args = [&["publish", &path, "--name", "it"], publish].concat();
        let old = world.json(&args)["address"].as_str().unwrap().to_owned();
        let dir = world.mountpoint();
        // Without prefetching, later reads come from the store.
        let mut args: Vec<&OsStr> = ["mount", "--prefetch", "off"].map(OsStr::new).to_vec();
        args.extend(mount.iter().map(OsStr::new));
        args.extend([OsStr::new("it"), dir.as_os_str()]);
        world.run(&args);
        let replaced = ReplacedHead {
            world,
            tree,
            old,
            mount: dir,
        };
        replaced.publish_again(2);
        replaced
    }

    fn publish_again(&self, seed: u64) {
        fs::write(self.tree.path().join("file"), noise(FILE_LEN, seed)).unwrap();
        self.world.publish(self.tree.path(), "it");
    }

    fn gc(&self) -> Command {
        self.world.command(&["gc", "--grace", "0s", "--json"])
    }

    #[track_caller]
    fn assert_readable(&self) {
        assert!(fs::read(self.mount.join("file")).unwrap() == old_content());
    }

    /// `gc` must succeed and delete nothing, as the old head is in use.
    #[track_caller]
    fn assert_protected(&self, gc: &mut Command) {
        let report = report(&gc.output().unwrap());
        assert_eq!(deleted(&report), 0, "{report}");
        assert_eq!(report["mounts"], 1, "{report}");
    }

    /// It is collected once the protection ends.
    #[track_caller]
    fn assert_collected_after_unmount(&self) {
        self.world.unmount(&self.mount);
        assert!(deleted(&report(&self.gc().output().unwrap())) > 0);
    }
}

#[track_caller]
fn report(done: &Output) -> Value {
    assert!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

fn deleted(report: &Value) -> usize {
    let unneeded = report["unneeded"].as_array().unwrap();
    unneeded.iter().filter(|it| it["fate"] == "deleted").count()
}

#[track_caller]
fn refusal(done: &Output) -> String {
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let output = String::from_utf8(done.stderr.clone()).unwrap();
    assert!(output.contains("error: "), "{output}");
    assert!(output.lines().count() <= 3, "{output}");
    output
}

#[test]
fn gc_keeps_a_mounted_head_in_any_environment() {
    let replaced = ReplacedHead::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = |name: &str| elsewhere.path().join(name);
    for name in [
        "XDG_RUNTIME_DIR",
        "TMPDIR",
        "HOME",
        "XDG_CACHE_HOME",
        "XDG_STATE_HOME",
    ] {
        fs::create_dir(elsewhere(name)).unwrap();
        replaced.assert_protected(replaced.gc().env(name, elsewhere(name)));
        replaced.assert_protected(replaced.gc().env_remove(name));
    }
    // As from cron: all at once.
    let mut cron = replaced.gc();
    for name in [
        "XDG_RUNTIME_DIR",
        "TMPDIR",
        "HOME",
        "XDG_CACHE_HOME",
        "XDG_STATE_HOME",
    ] {
        cron.env(name, elsewhere(name));
    }
    replaced.assert_protected(&mut cron);
    // Other directories, with a profile that has the same store.
    let config = elsewhere("config");
    fs::create_dir_all(config.join("walgit-fs")).unwrap();
    let store = replaced.world.blobs().parent().unwrap().to_owned();
    let profile =
        format!("network = \"shared\"\n{NO_RETENTION}[networks.shared]\ndir = {store:?}\n");
    fs::write(config.join("walgit-fs/config.toml"), profile).unwrap();
    let mut other = replaced.gc();
    other.arg("--unknown").env("XDG_CONFIG_HOME", &config);
    for name in ["DATA", "CACHE", "STATE"] {
        other.env(format!("XDG_{name}_HOME"), elsewhere(name));
    }
    replaced.assert_protected(&mut other);
    replaced.assert_readable();
    replaced.assert_collected_after_unmount();
}

#[test]
fn gc_keeps_blobs_of_other_users_of_a_store() {
    let replaced = ReplacedHead::new();
    replaced.world.unmount(&replaced.mount);
    let store = replaced.world.blobs().parent().unwrap().to_owned();
    let shared =
        format!("network = \"shared\"\n{NO_RETENTION}[networks.shared]\ndir = {store:?}\n");
    let other = World::new().config(&shared);
    let theirs = Tree::new().noise("file", FILE_LEN, 50);
    other.publish(theirs.path(), "theirs");
    // Neither collects blobs of the other, including old heads, whose retention rules
    // are unknown.
    for args in [
        ["gc", "--grace", "0s"].as_slice(),
        &["gc", "--grace", "0s", "--unknown"],
    ] {
        assert_eq!(deleted(&other.json(args)), 0);
        assert!(
            replaced
                .world
                .run(&["fsck", &replaced.old])
                .contains("sound")
        );
    }
    assert!(deleted(&replaced.world.json(&["gc", "--grace", "0s", "--unknown"])) > 0);
    assert!(other.run(&["fsck", "theirs"]).contains("sound"));
    assert!(replaced.world.run(&["fsck", "it"]).contains("sound"));
    // Names that have vanished may need any blob.
    let names = other.path().join("data/walgit-fs/refs/shared");
    fs::rename(&names, other.path().join("names")).unwrap();
    replaced.publish_again(3);
    let output = refusal(&replaced.gc().output().unwrap());
    assert!(output.contains(names.to_str().unwrap()), "{output}");
}

#[test]
fn gc_keeps_a_mounted_head_while_its_daemon_is_stopped() {
    let replaced = ReplacedHead::new();
    let daemon = replaced.world.daemon().unwrap();
    signal(daemon, Signal::STOP);
    let done = replaced.gc().output().unwrap();
    signal(daemon, Signal::CONT);
    let report = report(&done);
    assert_eq!(deleted(&report), 0, "{report}");
    replaced.assert_readable();
    replaced.assert_collected_after_unmount();
}

#[test]
fn gc_keeps_a_mounted_head_without_certificates() {
    let replaced = ReplacedHead::new();
    let mut gc = replaced.gc();
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        gc.env(name, "/nonexistent");
    }
    replaced.assert_protected(&mut gc);
    replaced.assert_readable();
}

#[test]
fn gc_keeps_a_head_mounted_in_the_foreground() {
    let world = World::new().config(NO_RETENTION);
    let tree = Tree::new().noise("file", FILE_LEN, 1);
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    let mut args: Vec<&OsStr> = ["mount", "--foreground", "--prefetch", "off", "it"]
        .map(OsStr::new)
        .to_vec();
    args.push(dir.as_os_str());
    let mut serving = world.command(&args).stderr(Stdio::null()).spawn().unwrap();
    eventually("the mount is ready", || dir.join("file").exists());
    fs::write(tree.path().join("file"), noise(FILE_LEN, 2)).unwrap();
    world.publish(tree.path(), "it");
    let found = report(
        &world
            .command(&["gc", "--grace", "0s", "--json"])
            .env_remove("XDG_RUNTIME_DIR")
            .output()
            .unwrap(),
    );
    assert_eq!(deleted(&found), 0, "{found}");
    assert!(fs::read(dir.join("file")).unwrap() == old_content());
    world.unmount(&dir);
    serving.wait().unwrap();
    assert!(deleted(&world.json(&["gc", "--grace", "0s"])) > 0);
}

#[test]
fn gc_keeps_an_earlier_head_of_a_following_mount_while_its_files_are_open() {
    let replaced = ReplacedHead::with(World::new(), &[], &["--follow=1"]);
    // The old file stays open while the mount follows.
    let mut open = None;
    eventually("the mount moves", || {
        let now = fs::File::open(replaced.mount.join("file")).unwrap();
        let status = replaced.world.json(&["status"]);
        let moved = status["mounts"][0]["follow"]["moves"].as_u64() >= Some(1);
        open.get_or_insert(now);
        moved
    });
    replaced.publish_again(3);
    eventually("the mount moves again", || {
        let status = replaced.world.json(&["status"]);
        status["mounts"][0]["follow"]["moves"].as_u64() >= Some(2)
    });
    let report = report(
        &replaced
            .gc()
            .env_remove("XDG_RUNTIME_DIR")
            .output()
            .unwrap(),
    );
    assert_eq!(deleted(&report), 0, "{report}");
    assert!(fs::read(replaced.mount.join("file")).unwrap() == noise(FILE_LEN, 3));
    drop(open);
    eventually("only the current head is leased", || {
        let lease = fs::read_to_string(&leases(&replaced.world, "mount")[0]).unwrap();
        lease.lines().count() == 2 && lease.contains(&address(&replaced.world))
    });
    let collected = replaced.world.json(&["gc", "--grace", "0s"]);
    assert!(deleted(&collected) > 0, "{collected}");
    assert_eq!(collected["mounts"], 1, "{collected}");
    assert!(fs::read(replaced.mount.join("file")).unwrap() == noise(FILE_LEN, 3));
    assert!(replaced.world.run(&["fsck", "it"]).contains("sound"));
}

/// The address of the name.
fn address(world: &World) -> String {
    let names = world.json(&["refs"]);
    names[0]["address"].as_str().unwrap().to_owned()
}

#[test]
fn gc_keeps_a_mounted_head_without_its_key() {
    let world = World::new().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    let replaced = ReplacedHead::with(world, &["--encrypt"], &[]);
    let keys = replaced.world.path().join("data/walgit-fs");
    // Keys are in the data directory like the store; hide the keys.
    let hidden = hide_keys(&keys);
    assert!(!hidden.is_empty());
    replaced.world.run(&["refs", "--remove", "it"]);
    let report = report(
        &replaced
            .gc()
            .env_remove("XDG_RUNTIME_DIR")
            .output()
            .unwrap(),
    );
    assert_eq!(report["mounts"], 1, "{report}");
    for (from, to) in hidden {
        fs::rename(to, from).unwrap();
    }
    replaced.assert_readable();
}

/// Moves the key files aside.
fn hide_keys(data: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut hidden = Vec::new();
    for dir in ["keys", "auth"] {
        let from = data.join(dir);
        if from.exists() {
            let to = data.join(format!("hidden-{dir}"));
            fs::rename(&from, &to).unwrap();
            hidden.push((from, to));
        }
    }
    hidden
}

#[test]
fn gc_keeps_the_head_of_a_killed_daemon_for_the_grace_period() {
    let replaced = ReplacedHead::new();
    replaced.world.crash();
    // The kernel's table still lists the dead mount, which can be mounted again.
    let dead = replaced.world.json(&["gc", "--grace", "0s"]);
    assert_eq!(deleted(&dead), 0, "{dead}");
    replaced.world.run(&["unmount", "--all"]);
    let within = replaced.world.json(&["gc", "--grace", "1h"]);
    assert_eq!(deleted(&within), 0, "{within}");
    assert_eq!(within["mounts"], 1, "{within}");
    // If the clock was set back, the lease is not old.
    let lease = leases(&replaced.world, "mount").pop().unwrap();
    let text = fs::read_to_string(&lease).unwrap();
    let at: u64 = serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["ended"]
        .as_u64()
        .unwrap();
    fs::write(
        &lease,
        text.replace(&at.to_string(), &(at + 1_000_000).to_string()),
    )
    .unwrap();
    let back = replaced.world.json(&["gc", "--grace", "1h"]);
    assert_eq!(back["mounts"], 1, "{back}");
    let after = replaced.world.json(&["gc", "--grace", "0s"]);
    assert!(deleted(&after) > 0, "{after}");
    assert_eq!(leases(&replaced.world, "mount"), [] as [PathBuf; 0]);
}

#[test]
fn gc_keeps_a_head_mounted_through_a_devnet_over_its_store() {
    let replaced = ReplacedHead::new();
    replaced.world.run(&["unmount", "--all"]);
    let store = replaced.world.blobs().parent().unwrap().to_owned();
    let server = Server::over_directory(&store);
    let tree = Tree::new().noise("large", 300_000, 7);
    let report = replaced.world.publish(tree.path(), "served");
    let dir = replaced.world.mountpoint();
    let address = report["address"].as_str().unwrap();
    (replaced.world).run(&[
        "--aggregator",
        &server.url,
        "mount",
        address,
        dir.to_str().unwrap(),
    ]);
    replaced.world.run(&["refs", "--remove", "served"]);
    let kept = replaced.world.json(&["gc", "--grace", "0s"]);
    let blob = address.trim_start_matches("walrus://");
    let blob = blob.split('?').next().unwrap();
    assert!(store.join("blobs").join(blob).exists(), "{kept}");
    assert_same(tree.path(), &dir);
}

/// Lease files of a kind.
fn leases(world: &World, ending: &str) -> Vec<PathBuf> {
    let dir = world.blobs().parent().unwrap().join("leases");
    let files = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    files
        .filter(|it| it.extension() == Some(ending.as_ref()))
        .collect()
}

#[test]
fn gc_refuses_if_a_mount_has_no_lease() {
    let replaced = ReplacedHead::new();
    fs::remove_dir_all(replaced.world.blobs().parent().unwrap().join("leases")).unwrap();
    let trial = replaced
        .world
        .try_run(&["gc", "--grace", "0s", "--dry-run"]);
    let output = String::from_utf8(trial.stderr).unwrap();
    assert!(
        output.contains(replaced.mount.to_str().unwrap()),
        "{output}"
    );
    let output = refusal(&replaced.gc().output().unwrap());
    assert!(
        output.contains(replaced.mount.to_str().unwrap()),
        "{output}"
    );
    assert!(output.contains("unmount"), "{output}");
    // To other stores, this one belongs to another user.
    let other = World::new();
    other.publish(replaced.tree.path(), "it");
    other.run(&["gc"]);
    replaced.assert_readable();
    replaced.assert_collected_after_unmount();
}

#[test]
fn gc_refuses_if_a_lease_is_damaged() {
    let replaced = ReplacedHead::new();
    for ending in ["mount", "lease"] {
        let dir = replaced.world.blobs().parent().unwrap().join("leases");
        let damaged = dir.join(format!("damaged.{ending}"));
        fs::write(&damaged, "{\"pid\": nonsense\n").unwrap();
        let output = refusal(&replaced.gc().output().unwrap());
        assert!(output.contains(damaged.to_str().unwrap()), "{output}");
        assert!(output.contains("nothing was deleted"), "{output}");
        fs::remove_file(damaged).unwrap();
    }
    replaced.assert_protected(&mut replaced.gc());
    replaced.assert_readable();
}

#[test]
fn irregular_file_in_place_of_a_lease_or_record_does_not_block() {
    let replaced = ReplacedHead::new();
    let store = replaced.world.blobs().parent().unwrap().to_owned();
    for ending in ["mount", "lease", "user"] {
        let pipe = store.join(format!("leases/pipe.{ending}"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for args in [&["gc", "--json"][..], &["renew", "--dry-run"], &["compact"]] {
            let started = std::time::Instant::now();
            let done = replaced.world.try_run(args);
            assert!(
                started.elapsed().as_secs() < 10,
                "{args:?} took {:?}",
                started.elapsed()
            );
            let output = String::from_utf8_lossy(&done.stderr);
            assert!(
                done.status.success() || output.contains(pipe.to_str().unwrap()),
                "{args:?}: {output}"
            );
            assert!(args[0] != "gc" || !done.status.success(), "{output}");
        }
        fs::remove_file(pipe).unwrap();
    }
    replaced.assert_protected(&mut replaced.gc());
}

#[test]
fn mount_without_a_lease_explains_the_consequence() {
    let world = World::new();
    let tree = Tree::new().file("a", "text");
    world.publish(tree.path(), "it");
    // As in a container that mounts the store read-only.
    let store = world.blobs().parent().unwrap().to_owned();
    let store = store.to_str().unwrap();
    for args in [
        &["--bind", store, store][..],
        &["-o", "remount,bind,ro", store],
    ] {
        assert!(Command::new("mount").args(args).status().unwrap().success());
    }
    let dir = world.mountpoint();
    let mount = ["mount", "it", dir.to_str().unwrap()];
    let warned = |done: &Output| {
        let output = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            output.contains("warning: ") && output.contains("no lease"),
            "{output}"
        );
        assert!(
            output.contains(store) && output.contains("walgit-fs gc"),
            "{output}"
        );
    };
    let done = world.try_run(&mount);
    assert!(done.status.success());
    warned(&done);
    warned(&world.try_run(&["daemon", "restart"]));
    assert_same(tree.path(), &dir);
    world.unmount(&dir);
    assert!(
        Command::new("umount")
            .arg(store)
            .status()
            .unwrap()
            .success()
    );
    let done = world.try_run(&mount);
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn gc_reports_why_the_cache_was_not_examined() {
    let world = World::new();
    let tree = Tree::new().file("a", "text");
    world.publish(tree.path(), "it");
    let cache = world.path().join("cache");
    let cache = cache.to_str().unwrap();
    for args in [
        &["--bind", cache, cache][..],
        &["-o", "remount,bind,ro", cache],
    ] {
        assert!(Command::new("mount").args(args).status().unwrap().success());
    }
    let output = world.run(&["gc"]);
    assert!(output.contains("the cache cannot be used, so"), "{output}");
    assert!(!output.contains("daemon"), "{output}");
    assert!(
        Command::new("umount")
            .arg(cache)
            .status()
            .unwrap()
            .success()
    );
    let dir = world.mount("it");
    let output = world.run(&["gc"]);
    let pid = world.daemon().unwrap();
    assert!(
        output.contains(&format!("process {pid} ")) && output.contains("has the cache"),
        "{output}"
    );
    world.unmount(&dir);
}

#[test]
fn gc_refuses_if_a_name_is_damaged() {
    let replaced = ReplacedHead::new();
    let name = replaced
        .world
        .path()
        .join("data/walgit-fs/refs/local/mystery");
    fs::write(&name, "{").unwrap();
    let output = refusal(&replaced.gc().output().unwrap());
    assert!(output.contains(name.to_str().unwrap()), "{output}");
    fs::remove_file(name).unwrap();
    replaced.assert_protected(&mut replaced.gc());
}

#[test]
fn mount_during_gc_shows_everything_or_fails() {
    let world = World::new().config(NO_RETENTION);
    let tree = Tree::new().noise("file", FILE_LEN, 1);
    let old = world.publish(tree.path(), "it")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    fs::write(tree.path().join("file"), noise(FILE_LEN, 2)).unwrap();
    world.publish(tree.path(), "it");
    // A daemon runs, so `gc` cannot open the cache.
    world.mount("it");
    // Stopped after it has determined unreferenced blobs, before it deletes.
    let collect = |at: &str| world.start_stopped_at(at, &["gc", "--grace", "0s", "--json"]);
    let gc = collect("gc.marked");
    let dir = world.mount(&old);
    let found = report(&resume(gc));
    assert_eq!(deleted(&found), 0, "{found}");
    assert!(fs::read(dir.join("file")).unwrap() == old_content());
    world.unmount(&dir);
    // In the other order: the head is deleted first.
    let gc = collect("gc.after_delete");
    let dir = world.mountpoint();
    let mut mount = world.command(&[OsStr::new("mount"), old.as_ref(), dir.as_os_str()]);
    let mount = mount.stderr(Stdio::piped()).spawn().unwrap();
    signal(gc.id() as i32, Signal::CONT);
    let output = refusal(&mount.wait_with_output().unwrap());
    assert!(output.contains("walrus://"), "{output}");
    assert!(deleted(&report(&gc.wait_with_output().unwrap())) > 0);
    assert!(world.run(&["fsck", "it"]).contains("sound"));
}

#[test]
fn gc_keeps_a_mounted_network_head_in_any_environment() {
    let server = Server::start();
    let world = World::on(&server).with("WALGIT_FS_ADMIN", &server.url);
    let replaced = ReplacedHead::with(world, &[], &[]);
    let state = tempfile::tempdir().unwrap();
    replaced.assert_protected(
        replaced
            .gc()
            .env_remove("XDG_RUNTIME_DIR")
            .env("XDG_STATE_HOME", state.path()),
    );
    // Without certificates no server can be asked, so nothing is deleted.
    let mut gc = replaced.gc();
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        gc.env(name, "/nonexistent");
    }
    let done = gc.output().unwrap();
    if !done.status.success() {
        refusal(&done);
    }
    replaced.assert_readable();
    // Other directories, with a copy of the ledger and without leases.
    let data = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let from = replaced.world.path().join("data/walgit-fs").join(name);
        let to = data.path().join("walgit-fs");
        fs::create_dir_all(&to).unwrap();
        let done = Command::new("cp").arg("-r").arg(from).arg(to).status();
        assert!(done.unwrap().success());
    };
    copy("ledger");
    copy("refs");
    let output = refusal(
        &replaced
            .gc()
            .env("XDG_DATA_HOME", data.path())
            .output()
            .unwrap(),
    );
    assert!(
        output.contains(replaced.mount.to_str().unwrap()),
        "{output}"
    );
    replaced.assert_readable();
}

#[test]
fn lease_names_its_holder_and_ends_with_its_mount() {
    let replaced = ReplacedHead::new();
    let lease = leases(&replaced.world, "mount");
    let text = fs::read_to_string(&lease[0]).unwrap();
    let holder: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        holder["pid"].as_i64(),
        replaced.world.daemon().map(i64::from)
    );
    assert_eq!(holder["folder"], replaced.mount.to_str().unwrap());
    assert_eq!(holder["network"], "local");
    assert!(text.contains(&replaced.old), "{text}");
    replaced.world.unmount(&replaced.mount);
    eventually("the lease ends", || {
        leases(&replaced.world, "mount").is_empty()
    });
}
