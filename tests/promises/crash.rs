//! After `kill -9` nothing is lost and nothing is wrong.

use std::ffi::OsStr;
use std::fs;
use std::process::Stdio;

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
fn the_next_mount_heals_what_a_killed_daemon_left() {
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
fn a_folder_left_by_a_killed_daemon_can_be_unmounted() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    world.crash();
    world.unmount(&dir);
}

#[test]
fn killed_amid_reads_again_and_again_every_byte_served_is_right() {
    let server = Server::with(&["--bandwidth-mbit", "40"]);
    let world = World::on(&server);
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    let mut read = 0;
    for round in 0..6u64 {
        world.run(&["mount", "it", dir.to_str().unwrap()]);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4u64)
                .map(|reader| {
                    let dir = &dir;
                    scope.spawn(move || {
                        let mut right = 0;
                        for n in (0..60).map(|n| (n * 7 + reader * 13 + round) % 60) {
                            match fs::read(dir.join(format!("d{}/f{n}", n % 6))) {
                                Ok(bytes) => {
                                    assert_eq!(bytes, noise(40_000, n), "file {n}");
                                    right += 1;
                                }
                                Err(_) => break, // the daemon is gone
                            }
                        }
                        right
                    })
                })
                .collect();
            std::thread::sleep(std::time::Duration::from_millis(60 * (round + 1)));
            world.crash();
            read += readers
                .into_iter()
                .map(|reader| reader.join().unwrap())
                .sum::<u64>();
        });
    }
    assert!(read > 0, "something was read");
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
    assert_eq!(world.json(&["cache", "verify"])["dropped"], 0);
}

#[test]
fn a_killed_publish_leaves_the_old_head_and_the_next_run_goes_on() {
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
    ];
    let mut publish = world
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stored = || fs::read_dir(server.blobs()).unwrap().count();
    eventually("a pack is up", || stored() >= 2);
    signal(publish.id() as i32, rustix::process::Signal::KILL);
    publish.wait().unwrap();
    assert_eq!(world.run(&["refs"]), old, "the old head stands");
    assert_eq!(
        fs::read_to_string(world.mount("it").join("a")).unwrap(),
        "old"
    );
    let resumed = world.publish(large.path(), "it");
    assert!(resumed["blobs_present"].as_u64() >= Some(1), "{resumed}");
    assert_same(large.path(), &world.mount("it"));
}
