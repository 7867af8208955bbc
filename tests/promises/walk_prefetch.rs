//! Walks over a tree are prefetched, from the network and from the disk.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::tree::assert_same;
use crate::support::{Server, Tree, World, eventually};

/// Too large to be fetched with another file.
const FILE_LEN: usize = 200_000;

fn numbered_files() -> Tree {
    (0..40).fold(Tree::new(), |tree, n| {
        tree.noise(&format!("shelf/book-{n:02}"), FILE_LEN, n)
    })
}

/// A mount without learned prefetch, so that only walks are prefetched.
fn mounted(world: &World, tree: &Tree) -> PathBuf {
    let published = world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    let address = published["address"].as_str().unwrap();
    world.run(&["mount", "--prefetch", "off", address, dir.to_str().unwrap()]);
    dir.join("shelf")
}

fn read(numbered_files: &Path, books: std::ops::Range<u32>) {
    for n in books {
        let book = numbered_files.join(format!("book-{n:02}"));
        assert_eq!(fs::read(book).unwrap().len(), FILE_LEN);
    }
}

/// Number of walks that the mount has detected.
fn walks(world: &World) -> u64 {
    world.json(&["status"])["mounts"][0]["walks"]
        .as_u64()
        .unwrap()
}

/// Whether a file is readable without a network.
fn is_cached(numbered_files: &Path, n: u32) -> bool {
    let book = numbered_files.join(format!("book-{n:02}"));
    xattr::get(book, "user.walgit.cached").unwrap().as_deref() == Some(b"yes")
}

#[test]
fn walk_prefetch_starts_at_the_second_file_after_a_listing() {
    let mut server = Server::start();
    let world = World::on(&server);
    let numbered_files = mounted(&world, &numbered_files());
    assert_eq!(fs::read_dir(&numbered_files).unwrap().count(), 40);
    read(&numbered_files, 0..1);
    assert_eq!(walks(&world), 0, "one file is not a walk");
    read(&numbered_files, 1..2);
    eventually("the third file is fetched", || {
        is_cached(&numbered_files, 2)
    });
    server.stop();
    read(&numbered_files, 2..3);
}

#[test]
fn walk_prefetch_starts_after_four_sequential_files_without_a_listing() {
    let mut server = Server::start();
    let world = World::on(&server);
    let numbered_files = mounted(&world, &numbered_files());
    read(&numbered_files, 0..3);
    assert_eq!(walks(&world), 0, "three files are not a walk");
    assert!(!is_cached(&numbered_files, 3));
    read(&numbered_files, 3..4);
    let arrived = || (4..10).all(|n| is_cached(&numbered_files, n));
    eventually("more files are fetched", arrived);
    server.stop();
    read(&numbered_files, 4..10);
}

#[test]
fn walk_preloads_disk_chunks_into_memory() {
    let server = Server::start();
    let world = World::on(&server);
    let tree = (0..1000).fold(Tree::new(), |tree, n| {
        tree.noise(&format!("shelf/{:02}/{n:04}", n / 50), 5000, n)
    });
    let numbered_files = mounted(&world, &tree);
    world.run(&["cache", "warm", numbered_files.to_str().unwrap()]);
    let address = world.json(&["status"])["mounts"][0]["address"].clone();
    // Only the disk cache remains.
    world.crash();
    let dir = numbered_files.parent().unwrap().to_str().unwrap();
    world.run(&["mount", address.as_str().unwrap(), dir]);
    server.clear_requests();
    for n in 0..4 {
        fs::read(numbered_files.join(format!("00/{n:04}"))).unwrap();
    }
    eventually("the next files are in memory", || {
        world.json(&["cache", "stats"])["preloaded"].as_u64() > Some(0)
    });
    assert_same(&tree.path().join("shelf"), &numbered_files);
    assert_eq!(server.requests("GET"), Vec::<String>::new());
}
