//! Synthetic histories: content that no publish would produce is refused and does no
//! harm.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use walgit_format::archive::{ChunkRun, TreeTarget};
use walgit_format::head::GitId;

use super::leftovers;
use crate::support::World;
use crate::support::synthetic_history::{CONTENTS, SyntheticHistory, branch, commit, id};
use crate::support::tree::{git, noise};

#[track_caller]
fn exported(world: &World, history: SyntheticHistory) -> std::path::PathBuf {
    let dir = world.path().join("copy");
    world.run(&["export", &history.store(world), dir.to_str().unwrap()]);
    dir
}

/// It is refused for this reason, and nothing is written.
#[track_caller]
fn assert_refused(change: impl FnOnce(&mut SyntheticHistory), because: &str) {
    let world = World::new();
    let mut history = SyntheticHistory::new();
    change(&mut history);
    let dir = world.path().join("copy");
    let output = world.fail(&["export", &history.store(&world), dir.to_str().unwrap()]);
    assert!(output.contains(because), "{output}");
    assert_eq!(leftovers(&world), [""; 0]);
}

fn file(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn valid_synthetic_history_is_exported() {
    let world = World::new();
    let dir = exported(&world, SyntheticHistory::new());
    git(&dir, &["fsck", "--full", "--strict"]);
    assert_eq!(
        (file(&dir, "a"), file(&dir, "b")),
        (CONTENTS[0].into(), CONTENTS[1].into())
    );
}

#[test]
fn object_stored_twice_is_exported_once() {
    let world = World::new();
    let mut history = SyntheticHistory::new();
    // The same contents again, as chunks; and one that is too large to be held in
    // memory.
    let contents = || CONTENTS.concat().into_bytes();
    let large = || [noise(3 << 20, 1), noise(3 << 20, 2)];
    history.extra_chunks = vec![contents(), contents(), contents()];
    history
        .extra_chunks
        .extend(large().into_iter().chain(large()));
    history.extra_chunks.push(contents());
    let runs = [(3, 1), (4, 1), (5, 1), (6, 2), (8, 2), (10, 1)];
    history.segment.files = runs.map(|(first, count)| ChunkRun { first, count }).into();
    let dir = exported(&world, history);
    git(&dir, &["fsck", "--full", "--strict"]);
    let all = git(&dir, &["cat-file", "--batch-all-objects", "--batch-check"]);
    // Two files, their concatenation, a large one, a tree and a commit.
    assert_eq!(all.lines().count(), 6, "{all}");
}

#[test]
fn head_is_detached_without_a_checked_out_branch() {
    let world = World::new();
    let mut history = SyntheticHistory::new();
    history.segment.head = Bytes::new();
    let tip = history.tip.to_string();
    let dir = exported(&world, history);
    assert_eq!(file(&dir, ".git/HEAD").trim(), tip);
    assert_eq!(git(&dir, &["status", "--porcelain"]), "");
}

#[test]
fn content_that_differs_from_the_commit_is_refused() {
    assert_refused(
        |history| history.contents[0] = b'H',
        "but the stored tree is",
    );
    assert_refused(
        |history| history.segment.contents[0].ends[0] = 5,
        "but the stored tree is",
    );
    assert_refused(
        |history| history.tree[0].mode = Bytes::from_static(b"100755"),
        "but the stored tree is",
    );
    assert_refused(
        |history| history.tree[1].name = Bytes::from_static(b"c"),
        "but the stored tree is",
    );
    assert_refused(|history| history.tree.truncate(1), "but the stored tree is");
}

#[test]
fn missing_objects_are_reported_by_export() {
    assert_refused(
        |history| history.segment.commits.clear(),
        "not in the history",
    );
    assert_refused(|history| history.commits.clear(), "not in the history");
    let nowhere = GitId(vec![7; 20]);
    let name = nowhere.to_string();
    assert_refused(
        |history| history.segment.refs.push(branch("refs/tags/v1", &nowhere)),
        &name,
    );
    // A parent.
    assert_refused(
        |history| {
            let tree = String::from_utf8(history.commits[0][5..45].to_vec()).unwrap();
            let digits = (0..20).map(|at| u8::from_str_radix(&tree[at * 2..at * 2 + 2], 16));
            let tree = GitId(digits.collect::<Result<_, _>>().unwrap());
            history.commits = vec![commit(&tree, &[&nowhere])];
            history.tip = id(gix::objs::Kind::Commit, &history.commits[0]);
            history.segment.refs = vec![branch("refs/heads/main", &history.tip)];
        },
        &name,
    );
    // The target of a tag.
    assert_refused(
        |history| {
            let tag =
                format!("object {nowhere}\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nx\n");
            history.tags = vec![tag.into_bytes()];
            let tag = id(gix::objs::Kind::Tag, &history.tags[0]);
            history.segment.refs.push(branch("refs/tags/v1", &tag));
        },
        &name,
    );
}

#[test]
fn trees_with_forward_references_are_refused() {
    for number in [0, 3, u64::MAX - 1] {
        assert_refused(
            |history| history.tree[0].target = TreeTarget::Number(number),
            "malformed",
        );
    }
    assert_refused(
        |history| history.tree[0].target = TreeTarget::Id(Bytes::from_static(&[7; 20])),
        "malformed",
    );
    assert_refused(|history| history.segment.trees[0].count = 2, "malformed");
}

#[test]
fn ref_names_cannot_escape_the_repository() {
    for name in [
        "refs/heads/../../../../evil",
        "/tmp/evil",
        "refs/heads/a\nrefs/heads/b",
        "refs/heads/main/below",
        "HEAD",
        "config",
    ] {
        assert_refused(
            |history| {
                let tip = history.tip.clone();
                history.segment.refs.push(branch(name, &tip));
            },
            // Refused when the history is read, or when it is written.
            "allow",
        );
    }
}
