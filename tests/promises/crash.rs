//! `kill -9` loses nothing and causes no wrong bytes.

use std::ffi::OsStr;
use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::tree::{assert_same, noise};
use crate::support::world::signal;
use crate::support::{Server, Tree, World, eventually};

fn sample() -> Tree {
    let mut tree = Tree::new();
    for n in 0..60 {
        tree = tree.noise(&format!("d{}/f{n}", n % 6), 40_000, n);
    }
    tree
}

#[test]
fn next_mount_recovers_from_a_killed_daemon() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    world.crash();
    assert!(rustix::fs::statvfs(&dir).is_err());
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
}

#[test]
fn mountpoint_of_a_killed_daemon_can_be_unmounted() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    world.crash();
    world.unmount(&dir);
}

#[test]
fn every_byte_is_correct_although_the_daemon_is_killed_repeatedly() {
    let server = Server::with(&["--bandwidth-mbit", "40"]);
    let world = World::on(&server);
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    let read = AtomicU64::new(0);
    for round in 0..6u64 {
        world.run(&["mount", "it", dir.to_str().unwrap()]);
        std::thread::scope(|scope| {
            for reader in 0..4u64 {
                let (dir, read) = (&dir, &read);
                scope.spawn(move || {
                    for n in (0..).map(|n| (n * 7 + reader * 13 + round) % 60) {
                        let Ok(bytes) = fs::read(dir.join(format!("d{}/f{n}", n % 6))) else {
                            break; // the daemon is gone
                        };
                        assert_eq!(bytes, noise(40_000, n), "file {n}");
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // More reads each round, then a kill during the next ones.
            let enough = read.load(Ordering::Relaxed) + 1 + 12 * round;
            eventually("enough files are read", || {
                read.load(Ordering::Relaxed) >= enough
            });
            world.crash();
        });
    }
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
    assert_eq!(world.json(&["cache", "verify"])["dropped"], 0);
}

#[test]
fn killed_publish_leaves_the_old_head_and_the_next_run_resumes() {
    let server = Server::with(&["--bandwidth-mbit", "80"]);
    let world = World::on(&server);
    let small = Tree::new().file("a", "old");
    world.publish(small.path(), "it");
    let old = world.run(&["refs"]);
    let large = Tree::new().noise("one", 30 << 20, 1).file("a", "new");
    let args = [
        OsStr::new("publish"),
        large.path().as_os_str(),
        "--name".as_ref(),
        "it".as_ref(),
        "--force".as_ref(),
    ];
    let mut publish = world
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stored = || fs::read_dir(server.blobs()).unwrap().count();
    eventually("a pack is uploaded", || stored() >= 2);
    signal(publish.id() as i32, rustix::process::Signal::KILL);
    publish.wait().unwrap();
    assert_eq!(world.run(&["refs"]), old, "the name refers to the old head");
    assert_eq!(
        fs::read_to_string(world.mount("it").join("a")).unwrap(),
        "old"
    );
    let resumed = world.publish(large.path(), "it");
    assert!(resumed["blobs_present"].as_u64() >= Some(1), "{resumed}");
    assert_same(large.path(), &world.mount("it"));
}

#[test]
fn publish_killed_at_any_step_leaves_the_old_or_the_new_head() {
    let world = World::new();
    let tree = Tree::new()
        .noise("old", 30_000, 1)
        .file("a", "old")
        .commit("old");
    let old = world.publish(tree.path(), "it")["address"].clone();
    let tree = tree.noise("new", 30_000, 2).file("a", "new").commit("new");
    let path = tree.path().to_str().unwrap();
    let address = || world.json(&["refs"])[0]["address"].clone();
    let mut new = None;
    let args = ["publish", path, "--name", "it"];
    let steps = world.kill_at_each_step(&args, |step| {
        let found = address();
        world.run(&["fsck", "it", "--remote"]);
        // It resumes, always with the same result.
        world.publish(tree.path(), "it");
        let now = address();
        assert!(found == old || found == now, "after step {step}: {found}");
        assert_eq!(*new.get_or_insert(now.clone()), now, "after step {step}");
    });
    assert!(steps >= 8, "{steps} steps");
    assert_same(tree.path(), &world.mount("it"));
}
