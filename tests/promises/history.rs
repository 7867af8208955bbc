//! The history of a git repository is published with it, and every commit is readable.

use std::fs;
use std::path::Path;

use crate::support::tree::{assert_same, git};
use crate::support::{Tree, World};

/// A repository with all features of histories.
fn diverse_repository() -> Tree {
    let tree = Tree::new()
        .file("README.md", "# one\n")
        .file("src/main.rs", "fn main() {}\n".repeat(60))
        .file("src/deep/er/leaf.rs", "pub fn leaf() {}\n".repeat(30))
        .file("empty", "")
        .noise("large.bin", 3 << 20, 1)
        .link("link", "README.md")
        .program("run", "#!/bin/sh\necho one\n")
        .commit("one")
        .file("README.md", "# two\n")
        .file("src/main.rs", "fn main() { two() }\n".repeat(60))
        .commit("two");
    tree.git(&["tag", "-a", "v1", "-m", "the first"]);
    tree.git(&["mv", "src/deep", "src/flat"]);
    fs::remove_file(tree.path().join("link")).unwrap();
    let tree = tree.link("link", "run").commit("three");
    tree.git(&["checkout", "-qb", "side", "HEAD~1"]);
    let tree = tree.file("side.txt", "aside\n".repeat(100)).commit("side");
    tree.git(&["checkout", "-q", "-"]);
    tree.git(&["merge", "-q", "--no-edit", "side"]);
    tree.git(&["tag", "light"]);
    tree.file("README.md", "# last\n").commit("last")
}

/// Every ancestor of the current commit.
fn commits(tree: &Tree) -> Vec<String> {
    let list = tree.git(&["rev-list", "HEAD"]);
    list.lines().map(Into::into).collect()
}

/// The tree of a commit, checked out by git.
fn checkout(tree: &Tree, commit: &str, at: &Path) {
    let dir = at.to_str().unwrap();
    tree.git(&["worktree", "add", "-q", "--detach", dir, commit]);
    fs::remove_file(at.join(".git")).unwrap();
}

#[test]
fn every_commit_can_be_read() {
    let world = World::new();
    let tree = diverse_repository();
    let report = world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let commits = commits(&tree);
    assert_eq!(report["history"]["commits"], commits.len());
    let listed = fs::read_dir(dir.join(".walgit/commits")).unwrap();
    let mut listed: Vec<String> = listed
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    listed.sort();
    let mut sorted = commits.clone();
    sorted.sort();
    assert_eq!(listed, sorted);
    for commit in &commits {
        let expected = world.path().join(commit);
        checkout(&tree, commit, &expected);
        assert_same(&expected, &dir.join(".walgit/commits").join(commit));
    }
}

#[test]
fn commit_is_found_only_by_its_id() {
    let world = World::new();
    let tree = diverse_repository();
    world.publish(tree.path(), "it");
    let dir = world.mount("it").join(".walgit/commits");
    let first = commits(&tree).pop().unwrap();
    let read = fs::read_to_string(dir.join(&first).join("README.md"));
    assert_eq!(read.unwrap(), "# one\n");
    let mut wrong = first.clone();
    let last = if wrong.ends_with('0') { '1' } else { '0' };
    wrong.pop();
    wrong.push(last);
    assert!(!dir.join(wrong).exists());
    assert!(!dir.join(&first[..10]).exists());
    assert!(!dir.join("nonsense").exists());
}

#[test]
fn tags_and_commits_can_be_mounted() {
    let world = World::new();
    let tree = diverse_repository();
    world.publish(tree.path(), "it");
    let first = commits(&tree).pop().unwrap();
    for (name, says) in [
        ("v1", "# two\n"),
        (&first[..8], "# one\n"),
        (&first, "# one\n"),
    ] {
        let dir = world.mountpoint();
        let dir_text = dir.to_str().unwrap();
        world.run(&["mount", "it", dir_text, "--ref", name]);
        assert_eq!(fs::read_to_string(dir.join("README.md")).unwrap(), says);
        world.unmount(&dir);
    }
    assert!(world.run(&["log", "it", "--ref", "v1"]).contains("two"));
    let error = world.fail(&[
        "mount",
        "it",
        world.mountpoint().to_str().unwrap(),
        "--ref",
        "v9",
    ]);
    assert!(error.contains("v9"), "{error}");
}

#[test]
fn tags_are_directories() {
    let world = World::new();
    let tree = diverse_repository();
    tree.git(&["tag", "deep/er", "HEAD~1"]);
    world.publish(tree.path(), "it");
    let dir = world.mount("it").join(".walgit/tags");
    let says = |tag: &str| fs::read_to_string(dir.join(tag).join("README.md"));
    assert_eq!(says("v1").unwrap(), "# two\n");
    assert_eq!(says("deep/er").unwrap(), "# two\n");
    let listed = fs::read_dir(&dir).unwrap();
    let mut listed: Vec<_> = listed.map(|it| it.unwrap().file_name()).collect();
    listed.sort();
    assert_eq!(listed, ["deep", "light", "v1"]);
}

#[test]
fn later_publishes_add_to_the_history() {
    let world = World::new();
    let mut tree = diverse_repository();
    for push in 0..6 {
        for step in 0..=push {
            let text = format!("push {push}, step {step}\n").repeat(50);
            tree = tree.file(format!("src/{step}.rs"), text).commit("more");
        }
        let report = world.publish(tree.path(), "it");
        let commits = commits(&tree).len();
        assert_eq!(report["history"]["commits"], commits);
    }
    let again = world.publish(tree.path(), "it");
    assert_eq!(again["unchanged"], true);
    let dir = world.mount("it");
    for commit in commits(&tree) {
        let expected = world.path().join(&commit);
        checkout(&tree, &commit, &expected);
        assert_same(&expected, &dir.join(".walgit/commits").join(&commit));
    }
}

#[test]
fn a_new_tag_is_published() {
    let world = World::new();
    let tree = diverse_repository();
    world.publish(tree.path(), "it");
    tree.git(&["tag", "later", "HEAD~2"]);
    let report = world.publish(tree.path(), "it");
    assert_eq!(report["unchanged"], false);
    let dir = world.mountpoint();
    world.run(&["mount", "it", dir.to_str().unwrap(), "--ref", "later"]);
}

#[test]
fn requested_amount_of_history_is_published() {
    let world = World::new();
    let tree = diverse_repository();
    let path = tree.path().to_str().unwrap();
    for (history, count) in [("none", 1), ("2", 2), ("all", commits(&tree).len())] {
        world.run(&["publish", path, "--name", "it", "--history", history]);
        let dir = world.mount("it");
        let listed = fs::read_dir(dir.join(".walgit/commits")).unwrap().count();
        // A merge has two parents, but the last commit has one.
        assert_eq!(listed, count, "{history}");
        assert_same(tree.path(), &dir);
        world.unmount(&dir);
    }
    let refused = world.try_run(&["publish", path, "--name", "it", "--history", "some"]);
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("all, none"), "{error}");
}

#[test]
fn rewritten_history_is_not_published_again() {
    let world = World::new();
    let tree = Tree::new()
        .file("a", "kept\n".repeat(100))
        .commit("one")
        .file("secret", "hunter2\n".repeat(100))
        .commit("oops");
    world.publish(tree.path(), "it");
    let oops = commits(&tree).remove(0);
    tree.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let tree = tree.file("b", "other\n".repeat(100)).commit("two");
    world.publish(tree.path(), "it");
    let dir = world.mount("it").join(".walgit/commits");
    assert!(!dir.join(oops).exists());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
}

#[test]
fn shallow_clone_publishes_its_available_history() {
    let world = World::new();
    let tree = diverse_repository();
    let clone = world.path().join("shallow");
    let url = format!("file://{}", tree.path().display());
    let args = ["clone", "-q", "--depth", "2", &url, clone.to_str().unwrap()];
    git(world.path(), &args);
    world.publish(&clone, "it");
    let dir = world.mount("it").join(".walgit/commits");
    let expected = git(&clone, &["rev-list", "HEAD"]);
    assert_eq!(
        fs::read_dir(&dir).unwrap().count(),
        expected.lines().count()
    );
}

#[test]
fn encrypted_history_opens_with_its_key() {
    let world = World::new();
    let tree = diverse_repository();
    let path = tree.path().to_str().unwrap();
    world.run(&["publish", path, "--name", "it", "--encrypt"]);
    let dir = world.mount("it");
    let first = commits(&tree).pop().unwrap();
    let expected = world.path().join("first");
    checkout(&tree, &first, &expected);
    assert_same(&expected, &dir.join(".walgit/commits").join(first));
}
