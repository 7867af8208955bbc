//! Repositories that pass `fsck` are readable by `export`, `log` and `.walgit`; with
//! `--objects`, every object of a history has the git ID that refers to it.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use walgit_format::archive::{CommitMark, TreeTarget};
use walgit_format::git::RawCommit;
use walgit_format::head::GitId;
use walgit_fs::lifecycle::fsck::{self, FsckOptions, FsckReport, HistoryCheck, ReadScope};
use walgit_fs::lifecycle::{ExportOptions, export};
use walgit_fs::repo::RepoError;
use walrus_client::{BlobWriter as _, LocalDir, PutOptions};

use crate::export::{BRANCHES, diverse_repository, publish};
use crate::fsck::fsck;
use crate::support::synthetic_history::{RepositoryBlob, SyntheticHistory, branch, commit, id};
use crate::support::tree::git;
use crate::support::{Tree, World, block_on, loader};

/// Asserts that both modes succeed; returns the object report of `--objects`.
#[track_caller]
fn assert_sound(world: &World, args: &[&str]) -> Value {
    let (report, is_sound) = fsck(world, args);
    assert!(is_sound, "{report}");
    let (report, is_sound) = fsck(world, &[args, &["--objects"]].concat());
    assert!(is_sound, "{report}");
    assert_eq!(report["report"]["unread"], 0, "{report}");
    report["report"]["objects"].clone()
}

fn count(objects: &Value, what: &str) -> u64 {
    objects[what].as_u64().unwrap()
}

#[test]
fn fsck_objects_verifies_a_diverse_history() {
    for (sha256, more) in [(false, &[][..]), (true, &[]), (false, &["--encrypt"])] {
        let world = World::new().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
        let mut tree = diverse_repository(sha256);
        tree.git(&["tag", "of-a-tree", "HEAD^{tree}"]);
        tree.git(&["tag", "-a", "of-a-file", "HEAD:empty", "-m", "x"]);
        for n in 0..3 {
            publish(&world, tree.path(), &BRANCHES, more);
            let objects = assert_sound(&world, &["it"]);
            assert_eq!(objects["hashed"], true, "{objects}");
            let commits = git(tree.path(), &["rev-list", "--count", "--all"]);
            assert_eq!(count(&objects, "commits").to_string(), commits, "{objects}");
            assert!(count(&objects, "tags") >= 3, "{objects}");
            tree = tree
                .file("src/lib.rs", format!("pub mod again{n};\n"))
                .noise("more noise", 300_000, n)
                .commit(&format!("later {n}"));
            tree.git(&["tag", "-a", &format!("later-{n}"), "-m", "x"]);
        }
        // Rewritten history.
        tree.git(&["tag", "-d", "later-1", "later-2"]);
        tree.git(&["reset", "-q", "--hard", "HEAD~2"]);
        let tree = tree.file("instead", "of it").commit("instead");
        publish(&world, tree.path(), &BRANCHES, more);
        assert_sound(&world, &["it"]);
    }
}

#[test]
fn fsck_objects_verifies_a_partial_history() {
    let world = World::new();
    let tree = diverse_repository(false);
    let from = format!("file://{}", tree.path().display());
    git(
        world.path(),
        &["clone", "-q", "--depth", "3", &from, "shallow"],
    );
    publish(&world, &world.path().join("shallow"), &["main"], &[]);
    assert_eq!(assert_sound(&world, &["it"])["hashed"], true);
    for (depth, has_history) in [("5", true), ("none", false)] {
        let world = World::new();
        publish(&world, tree.path(), &BRANCHES, &["--history", depth]);
        let objects = assert_sound(&world, &["it"]);
        assert_eq!(objects["hashed"], true, "{objects}");
        assert_eq!(count(&objects, "trees") > 0, has_history, "{objects}");
    }
    let world = World::new();
    world.publish(Tree::new().file("a", "a").path(), "it");
    assert!(assert_sound(&world, &["it"]).is_null());
}

#[test]
fn fsck_reports_what_it_verified() {
    let world = World::new();
    let tree = Tree::new().file("a", "a").commit("first");
    publish(&world, tree.path(), &[], &[]);
    let output = world.run(&["fsck", "it"]);
    assert!(output.contains("--objects verifies"), "{output}");
    let output = world.run(&["fsck", "it", "--objects"]);
    assert!(output.contains("compared with their git IDs"), "{output}");
    let refused = world.try_run(&["fsck", "it", "--objects", "--sample", "1"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

/// Asserts that `fsck`, with these arguments, reports this of a changed history.
#[track_caller]
fn assert_reported(
    change: impl FnOnce(&mut SyntheticHistory),
    args: &[&str],
    kind: &str,
    because: &[&str],
) {
    let world = World::new();
    let mut history = SyntheticHistory::new();
    change(&mut history);
    let address = history.store(&world);
    let args = [&[&address[..]], args].concat();
    let (report, is_sound) = fsck(&world, &args);
    assert!(!is_sound, "{report}");
    let faults = report["report"]["faults"].as_array().unwrap();
    let is_named = faults.iter().any(|fault| {
        let text = format!("{} {}", fault["what"], fault["why"]);
        fault["kind"] == kind && because.iter().all(|part| text.contains(part))
    });
    assert!(is_named, "{kind}, {because:?}: {report}");
    let done = world.try_run(&[&["fsck"], &args[..]].concat());
    assert_eq!(done.status.code(), Some(1));
    let output = String::from_utf8(done.stdout).unwrap();
    assert!(
        output.contains("DAMAGED") && output.contains("to do: "),
        "{output}"
    );
}

/// The same, with `--objects` and without.
#[track_caller]
fn assert_reported_in_both_modes(
    change: impl Fn(&mut SyntheticHistory),
    kind: &str,
    because: &[&str],
) {
    assert_reported(&change, &[], kind, because);
    assert_reported(&change, &["--objects"], kind, because);
}

/// Only `--objects` finds it.
#[track_caller]
fn assert_reported_by_ids(change: impl Fn(&mut SyntheticHistory), because: &[&str]) {
    let world = World::new();
    let mut history = SyntheticHistory::new();
    change(&mut history);
    let (told_of, is_sound) = fsck(&world, &[&history.store(&world)]);
    assert!(is_sound, "{told_of}");
    assert_reported(change, &["--objects"], "altered", because);
}

fn tag(of: &GitId, kind: &str) -> Vec<u8> {
    format!("object {of}\ntype {kind}\ntag v1\ntagger A <a@b> 1 +0000\n\nx\n").into_bytes()
}

fn tagged(history: &mut SyntheticHistory, raw: Vec<u8>) {
    let tag = id(gix::objs::Kind::Tag, &raw);
    history.tags.push(raw);
    history.segment.refs.push(branch("refs/tags/v1", &tag));
}

#[test]
fn fsck_objects_verifies_a_synthetic_history() {
    let world = World::new();
    let mut history = SyntheticHistory::new();
    let tip = history.tip.clone();
    tagged(&mut history, tag(&tip, "commit"));
    let objects = assert_sound(&world, &[&history.store(&world)]);
    let counts = ["commits", "trees", "contents", "tags"].map(|what| count(&objects, what));
    assert_eq!(counts, [1, 1, 2, 1]);
}

#[test]
fn fsck_reports_bytes_that_do_not_match_their_id_by_commit() {
    let history = SyntheticHistory::new();
    let commit = format!("commit {}", history.tip);
    let tree = String::from_utf8(history.commits[0][5..45].to_vec()).unwrap();
    let names = format!("names the tree {tree}");
    let because = [&commit[..], &names, "hashes to"];
    // A file.
    assert_reported_by_ids(|history| history.contents[0] = b'H', &because);
    assert_reported_by_ids(|history| history.segment.contents[0].ends[0] = 5, &because);
    // A tree.
    let executable = Bytes::from_static(b"100755");
    assert_reported_by_ids(
        |history| history.tree[0].mode = executable.clone(),
        &because,
    );
    assert_reported_by_ids(
        |history| history.tree[1].name = Bytes::from_static(b"c"),
        &because,
    );
    assert_reported_by_ids(|history| history.tree.truncate(1), &because);
    // The mounted tree.
    assert_reported_by_ids(
        |history| history.shown[0].1 = b"Hello\n".into(),
        &["a", "hashes to"],
    );
    assert_reported_by_ids(
        |history| _ = history.shown.pop(),
        &["root directory", "lacks `b`"],
    );
    assert_reported_by_ids(|history| history.shown[0].0 = "A", &["A", "no such entry"]);
}

#[test]
fn replaced_commit_or_tag_is_reported_as_missing() {
    // An ID is computed from the bytes, so other bytes are another object.
    let tip = SyntheticHistory::new().tip.to_string();
    assert_reported_in_both_modes(
        |history| {
            let last = history.commits[0].len() - 2;
            history.commits[0][last] = b'X';
        },
        "incomplete",
        &["refs/heads/main", &tip],
    );
    assert_reported_in_both_modes(
        |history| {
            let tip = history.tip.clone();
            let of_tag = id(gix::objs::Kind::Tag, &tag(&tip, "commit"));
            history.tags.push(tag(&of_tag, "tag"));
            let outer = id(gix::objs::Kind::Tag, &history.tags[0]);
            history.segment.refs.push(branch("refs/tags/v1", &outer));
        },
        "incomplete",
        &["tag ", "not in the history"],
    );
}

#[test]
fn fsck_reports_missing_objects() {
    let nowhere = GitId(vec![7; 20]);
    let name = &nowhere.to_string()[..];
    let commit_of = format!("commit {}", SyntheticHistory::new().tip);
    assert_reported_in_both_modes(
        |history| history.segment.commits.clear(),
        "incomplete",
        &[&commit_of, "tree"],
    );
    assert_reported_in_both_modes(
        |history| history.commits.clear(),
        "incomplete",
        &["refs/heads/main"],
    );
    // A root that is a content, and one that does not exist.
    for number in [1, 9] {
        let mark = move |history: &mut SyntheticHistory| {
            history.segment.commits = vec![CommitMark {
                name: CommitMark::name(&history.tip.0),
                tree: number,
            }];
        };
        assert_reported(mark, &[], "incomplete", &[&commit_of]);
        let mut history = SyntheticHistory::new();
        mark(&mut history);
        let world = World::new();
        assert!(!fsck(&world, &[&history.store(&world), "--objects"]).1);
    }
    assert_reported_in_both_modes(
        |history| history.segment.refs.push(branch("refs/heads/x", &nowhere)),
        "incomplete",
        &[name],
    );
    // A parent.
    assert_reported_in_both_modes(
        |history| {
            let sample = history.tip.clone();
            let raw = Bytes::copy_from_slice(&history.commits[0]);
            let tree = RawCommit::parse(raw, &sample).unwrap().tree().clone();
            history.commits = vec![commit(&tree, &[&nowhere])];
            history.tip = id(gix::objs::Kind::Commit, &history.commits[0]);
            history.segment.refs = vec![branch("refs/heads/main", &history.tip)];
        },
        "incomplete",
        &["commit ", name],
    );
    assert_reported_in_both_modes(
        |history| tagged(history, tag(&nowhere, "commit")),
        "incomplete",
        &["tag ", name],
    );
    assert_reported(
        |history| tagged(history, tag(&nowhere, "blob")),
        &["--objects"],
        "incomplete",
        &[name],
    );
    assert_reported(
        |history| history.segment.refs.push(branch("refs/tags/x", &nowhere)),
        &["--objects"],
        "incomplete",
        &[name],
    );
}

#[test]
fn fsck_reports_undecodable_data_by_location() {
    let place = ["git objects ", " of blob "];
    let spoiled = || Some(b"G\x01\x7fnot a group".to_vec());
    assert_reported_in_both_modes(
        |history| history.trees_instead = spoiled(),
        "malformed",
        &place,
    );
    assert_reported_in_both_modes(
        |history| history.tags_instead = spoiled(),
        "malformed",
        &place,
    );
    let commits = || Some(b"C\x02\x7fno commits".to_vec());
    assert_reported_in_both_modes(
        |history| history.commits_instead = commits(),
        "malformed",
        &place,
    );
    assert_reported_in_both_modes(
        |history| history.segment.trees[0].count = 2,
        "malformed",
        &place,
    );
    // Groups of trees and tags that do not decode as such.
    let group = |raw: &[u8]| Some([&[b'G', 1, 1, raw.len() as u8], raw].concat());
    assert_reported_in_both_modes(
        |history| history.trees_instead = group(b"\x01"),
        "malformed",
        &place,
    );
    assert_reported_in_both_modes(
        |history| history.tags_instead = group(b"no tag\n"),
        "malformed",
        &place,
    );
    for number in [0, 3, u64::MAX - 1] {
        let to = TreeTarget::Number(number);
        assert_reported_in_both_modes(
            |history| history.tree[0].target = to.clone(),
            "malformed",
            &place,
        );
    }
    let directory = Bytes::from_static(b"40000");
    assert_reported_in_both_modes(
        |history| history.tree[0].mode = directory.clone(),
        "malformed",
        &place,
    );
    // The segment.
    assert_reported_in_both_modes(
        |history| history.segment.contents[0].ends[1] = 11,
        "malformed",
        &["history"],
    );
    assert_reported_in_both_modes(
        |history| {
            let tip = history.tip.clone();
            history
                .segment
                .refs
                .push(branch("refs/heads/main/below", &tip));
        },
        "malformed",
        &["allow"],
    );
}

/// A reproducible random number generator.
struct SeededRng(u64);

impl SeededRng {
    fn next_below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % most.max(1)
    }

    fn byte(&mut self, of: &mut [u8]) {
        if !of.is_empty() {
            let at = self.next_below(of.len());
            of[at] = of[at].wrapping_add(1 + self.next_below(255) as u8);
        }
    }
}

/// The history of this seed: valid, or with a change or two.
fn any_history(seed: u64) -> SyntheticHistory {
    let mut rng = SeededRng(seed);
    let mut history = SyntheticHistory::new();
    let tip = history.tip.clone();
    if rng.next_below(2) == 0 {
        let tree = RawCommit::parse(history.commits[0].clone().into(), &tip).unwrap();
        let (to, kind) = [(&tip, "commit"), (tree.tree(), "tree")][rng.next_below(2)];
        tagged(&mut history, tag(to, kind));
    }
    for _ in 0..rng.next_below(3) {
        match rng.next_below(18) {
            0 => rng.byte(&mut history.contents),
            1 => {
                let at = rng.next_below(history.tree.len());
                history.tree[at].target = TreeTarget::Number(rng.next_below(5) as u64);
            }
            2 => history.tree.truncate(rng.next_below(2)),
            3 => {
                let modes: [&[u8]; 5] = [b"100755", b"40000", b"120000", b"160000", b"100664"];
                history.tree[0].mode = Bytes::copy_from_slice(modes[rng.next_below(5)]);
            }
            4 => {
                let mut raw = history.commits[0].clone();
                rng.byte(&mut raw);
                // Nothing else encodes as a commit.
                if RawCommit::parse(raw.clone().into(), &tip).is_ok() {
                    history.commits[0] = raw;
                }
            }
            5 => history.commits.clear(),
            6 => history.tags.clear(),
            7 => history.tags.iter_mut().for_each(|raw| rng.byte(raw)),
            8 => history.segment.commits[0].tree = rng.next_below(4) as u64,
            9 => history.segment.commits.push(CommitMark {
                name: CommitMark::name(&tip.0),
                tree: rng.next_below(4) as u64,
            }),
            10 => history.segment.contents[0].ends[0] = rng.next_below(13) as u32,
            11 => history.segment.trees[0].count = rng.next_below(3) as u64,
            12 => {
                let names = [
                    "refs/heads/a",
                    "refs/heads/main/b",
                    "refs/tags/c",
                    "refs/heads/x.lock",
                ];
                let to = [&tip, &GitId(vec![7; 20])][rng.next_below(2)].clone();
                history
                    .segment
                    .refs
                    .push(branch(names[rng.next_below(4)], &to));
            }
            13 => history.segment.shallow.push(tip.clone()),
            14 => history.segment.head = Bytes::from_static(b"refs/heads/other"),
            15 => {
                let raw = RawCommit::parse(history.commits.concat().into(), &tip);
                let Ok(first) = raw else { continue };
                let parent = [&tip, &GitId(vec![7; 20])][rng.next_below(2)].clone();
                let next = commit(first.tree(), &[&parent]);
                let next_id = id(gix::objs::Kind::Commit, &next);
                history.commits.push(next);
                if rng.next_below(3) > 0 {
                    let name = CommitMark::name(&next_id.0);
                    history.segment.commits.push(CommitMark { name, tree: 0 });
                }
            }
            16 => rng.byte(&mut history.shown[0].1),
            _ => {
                let mut group = walgit_format::archive::encode_group(&history.tags).unwrap();
                rng.byte(&mut group);
                history.tags_instead = Some(group);
            }
        }
        if history.commits.is_empty() || history.tree.is_empty() {
            break;
        }
    }
    history
}

/// Results of both checks, whether it can be exported, and whether all queries of `log`
/// and `.walgit` succeed.
async fn check_objects(
    dir: &Path,
    history: SyntheticHistory,
) -> Option<([FsckReport; 2], bool, Result<(), RepoError>)> {
    let RepositoryBlob { id, bytes, root } = history.build();
    let store = LocalDir::open(&dir.join("blobs"), 1 << 30).unwrap();
    store.put(id, bytes, &PutOptions::default()).await.unwrap();
    let (loader, _cache) = loader();
    let access: std::sync::Arc<dyn walrus_client::BlobStore> = std::sync::Arc::new(store);
    let repository = loader.open(access, id, Some(root)).await.ok()?;
    let check = |history| {
        let repository = &repository;
        async move {
            let options = FsckOptions {
                history,
                ..FsckOptions::reading(ReadScope::Everything)
            };
            fsck::check(repository, &options, &()).await.unwrap()
        }
    };
    let reports = [
        check(HistoryCheck::Decoded).await,
        check(HistoryCheck::Hashed).await,
    ];
    let target = dir.join("export");
    let exported = export(&repository, &target, ExportOptions::default(), &|_, _| {}).await;
    let past = async {
        repository.git_commits().await?;
        repository.all_refs().await?;
        let archive = repository.archive().await?.expect("an object is present");
        let commits: Vec<GitId> = archive.commits().await?.map(|(id, _)| id).collect();
        for id in commits {
            let past = repository.snapshot_of(Some(&id.to_string())).await?;
            past.directory(&past.root()).await?;
        }
        Ok(())
    };
    Some((reports, exported.is_ok(), past.await))
}

#[test]
fn repository_that_passes_fsck_can_be_exported_and_listed() {
    let (mut sound, mut decoded, mut refused) = (0, 0, 0);
    block_on(async {
        for seed in 1..=200 {
            let dir = tempfile::tempdir().unwrap();
            let Some(([by_structure, by_ids], exported, past)) =
                check_objects(dir.path(), any_history(seed)).await
            else {
                continue;
            };
            if by_structure.is_sound() {
                decoded += 1;
                assert!(past.is_ok(), "seed {seed}: {past:?}");
            } else {
                assert!(!by_ids.is_sound(), "seed {seed}: {:?}", by_structure.faults);
            }
            if by_ids.is_sound() {
                sound += 1;
                assert!(exported, "seed {seed}");
            }
            refused += u64::from(!exported);
        }
    });
    println!("{decoded} decoded, {sound} sound, {refused} not exported");
    // Enough of each kind for a meaningful result.
    assert!(sound > 30 && decoded > sound + 10 && refused > 30);
}
