//! Versions of a file, and similar files, are stored as patches and read like any other
//! file.

use std::fs;

use crate::support::tree::{assert_same, noise};
use crate::support::{Tree, World};

/// Text of `lines` unrelated lines that compresses to half.
fn text(seed: u64, lines: usize) -> String {
    let bytes = noise(lines * 32, seed);
    let line = |bytes: &[u8]| -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        hex + "\n"
    };
    bytes.chunks(32).map(line).collect()
}

/// The same with one changed line in the middle.
fn changed(text: &str, word: &str) -> String {
    let middle = text.len() / 2;
    let at = text[middle..].find('\n').unwrap() + middle + 1;
    [&text[..at], word, "\n", &text[at..]].concat()
}

fn stored(report: &serde_json::Value) -> u64 {
    report["bytes_stored"].as_u64().unwrap()
}

#[test]
fn repeated_changes_of_a_file_store_only_the_differences() {
    let world = World::new();
    let mut content = text(1, 6000);
    let mut tree = Tree::new().file("log/long.txt", &content);
    let first = stored(&world.publish(tree.path(), "it"));
    assert!(first > 180_000, "{first}");
    for n in 0..6 {
        content = changed(&content, &format!("change {n}"));
        tree = tree.file("log/long.txt", &content);
        let report = world.publish(tree.path(), "it");
        // The minimum length of a blob.
        assert!(stored(&report) <= 65_536, "{report}");
        let dir = world.mount("it");
        assert_same(tree.path(), &dir);
        world.unmount(&dir);
    }
    // Unrelated to the previous version: stored completely; the next version is a patch
    // against it.
    let other = text(2, 6000);
    let tree = tree.file("log/long.txt", &other);
    assert!(stored(&world.publish(tree.path(), "it")) > 180_000);
    let tree = tree.file("log/long.txt", changed(&other, "and again"));
    assert!(stored(&world.publish(tree.path(), "it")) <= 65_536);
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn moved_and_changed_file_stores_only_the_difference() {
    let world = World::new();
    let content = text(3, 6000);
    let tree = Tree::new()
        .file("old/place/notes.txt", &content)
        .file("old/other.txt", text(4, 100));
    world.publish(tree.path(), "it");
    fs::remove_dir_all(tree.path().join("old")).unwrap();
    let tree = tree.file("new/notes.txt", changed(&content, "moved"));
    let report = world.publish(tree.path(), "it");
    assert!(stored(&report) <= 65_536, "{report}");
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn similar_files_are_stored_as_patches() {
    let world = World::new();
    let content = text(5, 4000);
    let named = |n: usize| format!("part-{n}/of-{}.dat", n * n);
    let tree = (0..20).fold(Tree::new(), |tree, n| {
        let tree = tree.file(named(n), changed(&content, &format!("part {n}")));
        tree.file(format!("part-{n}/own"), text(100 + n as u64, 20))
    });
    let report = world.publish(tree.path(), "it");
    // One complete file, and 19 patches.
    assert!(stored(&report) < 250_000, "{report}");
    let dir = world.mount("it");
    // One alone, with an empty cache.
    let last = fs::read_to_string(dir.join(named(19))).unwrap();
    assert_eq!(last, changed(&content, "part 19"));
    assert_same(tree.path(), &dir);
}

#[test]
fn equal_versions_produce_equal_blobs() {
    let content = text(6, 3000);
    let tree = (0..6).fold(Tree::new(), |tree, n| {
        tree.file(format!("{n}.txt"), changed(&content, &format!("{n}")))
    });
    let tree = tree.commit("one");
    let worlds = [World::new(), World::new()];
    for world in &worlds {
        world.publish(tree.path(), "it");
    }
    let tree = tree
        .file("3.txt", changed(&content, "another"))
        .commit("two");
    let [one, two] = worlds.map(|world| world.publish(tree.path(), "it")["address"].clone());
    assert_eq!(one, two);
}

#[test]
fn patch_without_its_base_fails_one_file_and_fsck_names_it() {
    let world = World::new();
    let content = text(7, 6000);
    let tree = Tree::new().file("long.txt", &content);
    let before = world.publish(tree.path(), "it")["blob"].clone();
    let tree = tree
        .file("long.txt", changed(&content, "later"))
        .file("other.txt", text(8, 100));
    let address = world.publish(tree.path(), "it")["address"].clone();
    let address = address.as_str().unwrap();
    world.run(&["fsck", address]);
    fs::remove_file(world.blobs().join(before.as_str().unwrap())).unwrap();
    let found = world.try_run(&["fsck", address]);
    assert_eq!(found.status.code(), Some(1));
    let output = String::from_utf8_lossy(&found.stdout);
    assert!(output.contains("long.txt"), "{output}");
    assert!(!output.contains("other.txt"), "{output}");
    // A user whose cache does not contain the base.
    let other = World::new();
    fs::create_dir_all(other.blobs()).unwrap();
    for blob in fs::read_dir(world.blobs()).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), other.blobs().join(blob.file_name())).unwrap();
    }
    let dir = other.mount(address);
    let failed = fs::read(dir.join("long.txt")).map(|_| ()).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(5), "{failed}");
    assert_eq!(
        fs::read_to_string(dir.join("other.txt")).unwrap(),
        text(8, 100)
    );
}

#[test]
fn encrypted_and_public_patches_do_not_share_bases() {
    // Keys go to sealed files, and the user's own keyring is not touched.
    let world = World::new().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere");
    let content = text(9, 6000);
    let tree = Tree::new().file("long.txt", &content);
    let path = tree.path().to_str().unwrap().to_owned();
    // In plaintext and encrypted: neither refers to the other.
    world.publish(tree.path(), "clear");
    let encrypted = ["publish", &path, "--name", "secret", "--encrypt"];
    assert!(stored(&world.json(&encrypted)) > 180_000);
    let tree = tree.file("long.txt", changed(&content, "a secret"));
    assert!(stored(&world.json(&encrypted)) < 100_000);
    assert_same(tree.path(), &world.mount("secret"));
}
