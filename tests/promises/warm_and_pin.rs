//! Warmed and pinned content is available, also without a network.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Server, Tree, World, eventually};

/// A hedged read would be counted as a request of the next step.
const NO_HEDGING: &str = "[net]\nhedge_percent = 0\n";

/// A user who has mounted a tree and read nothing of it.
fn mounted_reader(server: &Server, tree: &Tree, config: &str) -> (World, PathBuf) {
    let world = World::on(server).config(&format!("{NO_HEDGING}{config}"));
    let dir = world.mount(&published(server, tree));
    (world, dir)
}

fn published(server: &Server, tree: &Tree) -> String {
    let published = World::on(server).publish(tree.path(), "it");
    published["address"].as_str().unwrap().into()
}

fn sample() -> Tree {
    Tree::new()
        .file("a/text", "some text\n".repeat(20_000))
        .noise("a/deep/er/noise", 300_000, 1)
        .noise("a/large", 3_000_000, 2)
        .noise("b/noise", 500_000, 3)
}

/// Asserts that `below` reads as in the tree.
fn assert_reads(tree: &Tree, dir: &Path, below: &str) {
    let found = fs::read(dir.join(below)).unwrap();
    assert!(
        found == fs::read(tree.path().join(below)).unwrap(),
        "{below}"
    );
}

#[test]
fn only_warmed_directories_read_without_a_network() {
    let mut server = Server::start();
    let tree = sample();
    let (world, dir) = mounted_reader(&server, &tree, "[mount]\ndeadline_s = 2\n");
    let warmed = world.json(&["cache", "warm", dir.join("a").to_str().unwrap()]);
    // The directory, two subdirectories, three files.
    assert_eq!(warmed["nodes"], 6, "{warmed}");
    assert_eq!(warmed["bytes"], 200_000 + 300_000 + 3_000_000);
    assert!(warmed["fetched"].as_u64().unwrap() > 3_300_000, "{warmed}");
    let again = world.json(&["cache", "warm", dir.join("a").to_str().unwrap()]);
    assert_eq!(again["fetched"], 0, "{again}");
    server.stop();
    for file in ["a/text", "a/deep/er/noise", "a/large"] {
        assert_reads(&tree, &dir, file);
    }
    assert!(fs::read(dir.join("b/noise")).is_err());
}

#[test]
fn walk_after_warming_file_by_file_sends_no_requests() {
    let server = Server::start();
    let tree = sample();
    let (world, dir) = mounted_reader(&server, &tree, "");
    for file in ["a/text", "a/deep/er/noise", "a/large", "b/noise"] {
        let output = world.run(&["cache", "warm", dir.join(file).to_str().unwrap()]);
        assert!(output.contains("is in the cache"), "{output}");
    }
    server.clear_requests();
    crate::support::tree::assert_same(tree.path(), &dir);
    assert_eq!(server.requests("GET"), Vec::<String>::new());
}

#[test]
fn pinned_files_survive_eviction_and_a_crash() {
    let mut server = Server::start();
    let tree = (0..40).fold(sample(), |tree, n| {
        tree.noise(&format!("c/{n}"), 600_000, 10 + n)
    });
    let (world, dir) = mounted_reader(
        &server,
        &tree,
        "[cache]\ndisk = \"16MiB\"\nmemory = \"8MiB\"\n[mount]\ndeadline_s = 2\n",
    );
    let pinned = dir.join("a");
    world.run(&["cache", "pin", pinned.to_str().unwrap()]);
    let read_all = || (0..40).for_each(|n| assert_reads(&tree, &dir, &format!("c/{n}")));
    read_all();
    let pins = world.json(&["cache", "pins"]);
    assert_eq!(pins[0]["held_bytes"], pins[0]["bytes"], "{pins}");
    assert_eq!(world.json(&["status"])["pins"], pins);
    let address = world.json(&["status"])["mounts"][0]["address"].clone();
    world.crash();
    world.run(&["mount", address.as_str().unwrap(), dir.to_str().unwrap()]);
    read_all();
    server.stop();
    for file in ["a/text", "a/deep/er/noise", "a/large"] {
        assert_reads(&tree, &dir, file);
    }
    // 24 MB exceed 16: other chunks were evicted.
    let stats = world.json(&["cache", "stats"]);
    assert!(stats["evictions"].as_u64() > Some(0), "{stats}");
    let output = world.run(&["cache", "unpin", pinned.to_str().unwrap()]);
    assert!(output.contains("no longer pinned"), "{output}");
    assert_eq!(world.json(&["cache", "pins"]), serde_json::json!([]));
    let output = world.fail(&["cache", "unpin", pinned.to_str().unwrap()]);
    assert!(output.contains("there are no pins"), "{output}");
}

#[test]
fn inline_file_is_pinned_with_its_directory() {
    let server = Server::start();
    let tree = sample().file("a/tiny", "tiny\n");
    let (world, dir) = mounted_reader(&server, &tree, "");
    world.run(&["cache", "pin", dir.join("a/tiny").to_str().unwrap()]);
    for pin in world.json(&["cache", "pins"]).as_array().unwrap() {
        assert!(pin["bytes"].as_u64() > Some(0), "{pin}");
        assert_eq!(pin["held_bytes"], pin["bytes"], "{pin}");
    }
}

#[test]
fn incomplete_pin_is_reported_and_completed_by_pinning_again() {
    let mut server = Server::start();
    let tree = sample();
    let (world, dir) = mounted_reader(&server, &tree, "[mount]\ndeadline_s = 2\n");
    let path = dir.join("b");
    let path = path.to_str().unwrap();
    let complete = || {
        let pins = world.json(&["cache", "pins"]);
        pins[0]["held_bytes"] == pins[0]["bytes"]
    };
    server.stop();
    // Without a network it is pinned but incomplete.
    world.fail(&["cache", "pin", path]);
    assert!(!complete());
    assert!(world.run(&["cache", "pins"]).contains("pin it again"));
    server.restart();
    eventually("the folder is pinned", || {
        world.try_run(&["cache", "pin", path]).status.success()
    });
    assert!(complete());
}

#[test]
fn pin_includes_directories_that_only_memory_holds() {
    let mut server = Server::start();
    let tree = sample();
    let (world, dir) = mounted_reader(&server, &tree, "");
    assert_eq!(fs::read_dir(dir.join("a/deep/er")).unwrap().count(), 1);
    world.run(&["cache", "clear"]);
    world.run(&["cache", "pin", dir.to_str().unwrap()]);
    let pins = world.json(&["cache", "pins"]);
    assert_eq!(pins[0]["held_bytes"], pins[0]["bytes"], "{pins}");
    server.stop();
    crate::support::tree::assert_same(tree.path(), &dir);
}

#[test]
fn pins_beyond_the_limit_are_refused_with_the_remedy() {
    let server = Server::start();
    let tree = sample().noise("more", 15 << 20, 9);
    let (world, dir) = mounted_reader(&server, &tree, "[cache]\ndisk = \"16MiB\"\n");
    let output = world.fail(&["cache", "pin", dir.to_str().unwrap()]);
    assert!(output.contains("raise the budget of the cache"), "{output}");
    assert_eq!(world.json(&["cache", "pins"]), serde_json::json!([]));
}

#[test]
fn path_outside_every_mount_is_reported() {
    let server = Server::start();
    let tree = sample();
    let (world, dir) = mounted_reader(&server, &tree, "");
    let output = world.fail(&["cache", "warm", tree.path().to_str().unwrap()]);
    assert!(output.contains("is in no mount"), "{output}");
    let output = world.fail(&["cache", "warm", dir.join("nothing").to_str().unwrap()]);
    assert!(output.contains("No such file"), "{output}");
    let output = world.fail(&[
        "cache",
        "warm",
        dir.join(".walgit/branches").to_str().unwrap(),
    ]);
    assert!(output.contains("not in the mounted tree"), "{output}");
}

#[test]
fn full_disk_fails_only_pinning() {
    let server = Server::start();
    let tree = sample();
    let address = published(&server, &tree);
    let world = World::on(&server);
    let dir = world.mountpoint();
    let mount = [OsStr::new("mount"), address.as_ref(), dir.as_os_str()];
    // No file may exceed this size, which looks like a full disk.
    let limit = format!("trap '' XFSZ; ulimit -f {}", 2_000_000 / 512);
    let mounted = world.run_after(&limit, &mount);
    assert!(mounted.status.success(), "{mounted:?}");
    crate::support::tree::assert_same(tree.path(), &dir);
    let output = world.fail(&["cache", "pin", dir.to_str().unwrap()]);
    assert!(output.contains("File too large"), "{output}");
    crate::support::tree::assert_same(tree.path(), &dir);
    let stats = world.json(&["cache", "stats"]);
    assert!(stats["disk_errors"].as_u64() > Some(0), "{stats}");
}
