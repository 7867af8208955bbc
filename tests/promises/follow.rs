//! A mount that follows a name shows its newest head without a remount.

use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;

use crate::support::tree::{assert_same, noise};
use crate::support::{Tree, World, eventually};

#[test]
fn following_mount_moves_and_keeps_unchanged_files() {
    let world = World::new();
    let big = noise(3 << 20, 1);
    let tree = Tree::new()
        .file("stays/big", &big)
        .file("stays/small", "small")
        .file("changes/a", "one")
        .file("changes/goes", "gone soon")
        .file("becomes", "a file")
        .commit("first");
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    world.run(&["mount", "--follow=1", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
    let mut open = fs::File::open(dir.join("changes/a")).unwrap();
    let gone = fs::File::open(dir.join("changes/goes")).unwrap();
    let inode = |name: &str| fs::metadata(dir.join(name)).unwrap().ino();
    let before = ["stays", "stays/big", "changes", "changes/a"].map(inode);

    fs::remove_file(tree.path().join("changes/goes")).unwrap();
    fs::remove_file(tree.path().join("becomes")).unwrap();
    let tree = tree
        .file("changes/a", "two")
        .file("becomes/a-folder", "now")
        .file("added/deep/file", "new")
        .commit("second");
    world.publish(tree.path(), "it");
    eventually("the mount has moved", || {
        fs::read_to_string(dir.join("changes/a")).is_ok_and(|text| text == "two")
    });
    assert_same(tree.path(), &dir);
    let after = ["stays", "stays/big", "changes", "changes/a"].map(inode);
    assert_eq!(after[..3], before[..3], "unchanged files stay equal");
    assert_ne!(after[3], before[3], "changed files have another inode");

    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    open.rewind().unwrap();
    assert_eq!(text, "one", "open files keep their content");
    let mut byte = [0; 4];
    (&gone).read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"gone");
    let status = world.json(&["status"]);
    let mount = &status["mounts"][0];
    assert_eq!(mount["follow"]["moves"], 1);
    assert_eq!(mount["commit"], tree.git(&["rev-parse", "HEAD"]));
    let commit = fs::read_to_string(dir.join(".walgit/commit")).unwrap();
    assert!(commit.contains("second"), "{commit}");
    let inside = fs::read_to_string(dir.join(".walgit/status")).unwrap();
    assert!(
        inside.contains(&tree.git(&["rev-parse", "HEAD"])),
        "{inside}"
    );
}

#[test]
fn unchanged_files_stay_in_the_page_cache() {
    let world = World::new();
    let big = noise(3 << 20, 2);
    let tree = Tree::new().file("big", &big).file("a", "0").commit("0");
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    world.run(&["mount", "--follow=1", "it", dir.to_str().unwrap()]);
    let file = fs::File::open(dir.join("big")).unwrap();
    // SAFETY: no process can change a file of a read-only mount.
    let pages = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    // Memory pressure does not evict a locked page; an invalidation by the mount does.
    pages.lock().unwrap();
    let tree = tree.file("a", "1").commit("1");
    world.publish(tree.path(), "it");
    eventually("the mount has moved", || {
        fs::read_to_string(dir.join("a")).is_ok_and(|text| text == "1")
    });
    let requests = || {
        let status = world.json(&["status"]);
        status["mounts"][0]["stats"]["operations"].as_u64().unwrap()
    };
    let before = requests();
    assert_eq!(fs::read(dir.join("big")).unwrap(), big);
    let sent = requests() - before;
    // Its directory changed, so the kernel may look up the name again. Reading its
    // content would take 24 requests.
    assert!(sent <= 2, "{sent} requests");
}

#[test]
fn repeated_moves_end_at_the_newest_head() {
    let world = World::new();
    let mut tree = Tree::new()
        .file("same/file", "same")
        .file("n", "0")
        .commit("0");
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    world.run(&["mount", "--follow=1", "it", dir.to_str().unwrap()]);
    let inode = fs::metadata(dir.join("same/file")).unwrap().ino();
    for n in 1..5 {
        tree = tree
            .file("n", n.to_string())
            .file(format!("added-{n}/file"), n.to_string())
            .commit("more");
        world.publish(tree.path(), "it");
        eventually("the mount has moved", || {
            fs::read_to_string(dir.join("n")).is_ok_and(|text| text == n.to_string())
        });
        assert_same(tree.path(), &dir);
        assert_eq!(fs::metadata(dir.join("same/file")).unwrap().ino(), inode);
    }
}

#[test]
fn immutable_address_cannot_be_followed() {
    let world = World::new();
    let tree = Tree::new().file("a", "a");
    let published = world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    let address = published["address"].as_str().unwrap();
    let refused = world.fail(&["mount", "--follow", address, dir.to_str().unwrap()]);
    assert!(refused.contains("never leads elsewhere"), "{refused}");
}

#[test]
fn followed_chain_branch_does_not_go_back() {
    use crate::support::sui_node::SuiNode;
    use serde_json::json;
    let chain = SuiNode::start();
    let world = World::new().with("WALGIT_FS_SUI_RPC", &chain.url);
    let commit = |id: &str, tree: &str, parent: Option<&str>| {
        let entries = json!([]);
        chain.set_object(tree, "GitTreeObject", json!({"entries": entries}));
        chain.set_object(
            id,
            "GitCommitObject",
            json!({"tree_id": tree, "parent_commit_id": parent, "author": "0xa", "message": id,
                   "timestamp": "1748080800000"}),
        );
    };
    let head = |id: &str| {
        chain.set_object(
            "0x1",
            "Repository",
            json!({"default_branch": "main", "head_commit_id": id}),
        );
    };
    commit("0x41", "0x31", None);
    commit("0x42", "0x32", Some("0x41"));
    commit("0x43", "0x33", Some("0x42"));
    commit("0x52", "0x34", Some("0x41"));
    head("0x42");
    let dir = world.mountpoint();
    world.run(&["mount", "--follow=1", "sui://0x1", dir.to_str().unwrap()]);
    let follow = || world.json(&["status"])["mounts"][0].clone();
    let is_at = |id: &str| {
        follow()["commit"]
            .as_str()
            .is_some_and(|at| at.ends_with(id))
    };
    head("0x41");
    eventually("going back is refused", || {
        follow()["follow"]["error"]
            .as_str()
            .is_some_and(|why| why.contains("an ancestor of"))
    });
    assert!(is_at("42"), "{}", follow());
    head("0x43");
    eventually("the mount moves", || is_at("43"));
    assert!(follow()["follow"]["error"].is_null());
    // A descendant of neither is another history, and is followed.
    head("0x52");
    eventually("the mount moves", || is_at("52"));
}
