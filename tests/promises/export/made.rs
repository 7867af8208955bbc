//! Histories made by hand: what no publish would make is refused, and does no
//! harm.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use walgit_fs::repo::PlacedChunk;
use walgit_fs::repo::archive::{
    ArchivedRef, CommitMark, ContentGroup, Group, PlannedSegment, Run, Segment, StoredEntry,
    Target, encode_group, encode_tree,
};
use walgit_fs::repo::blob::BlobBuilder;
use walgit_fs::repo::commits::encode_commits;
use walgit_fs::repo::directory;
use walgit_fs::repo::head::{
    Attachment, AttachmentKind, CommitId, GitId, PlannedCommit, PlannedHead, Signature,
};
use walgit_fs::walrus::blob_id::blob_id;
use walgit_fs::walrus::{BlobStore as _, LocalDir, PutOptions};

use super::left;
use crate::support::tree::{git, noise};
use crate::support::{World, block_on};

const CONTENTS: [&str; 2] = ["hello\n", "world\n"];

/// A history of one commit with one tree of two files, as parts that can be
/// changed before it is stored.
struct Made {
    contents: Vec<u8>,
    tree: Vec<StoredEntry>,
    commits: Vec<Vec<u8>>,
    tags: Vec<Vec<u8>>,
    /// Chunks from number 3 on.
    more: Vec<Vec<u8>>,
    /// The commit that is checked out.
    tip: GitId,
    segment: PlannedSegment,
}

fn id(kind: gix::objs::Kind, bytes: &[u8]) -> GitId {
    let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, bytes).unwrap();
    GitId(id.as_slice().to_vec())
}

fn commit(tree: &GitId, parents: &[&GitId]) -> Vec<u8> {
    let parents = parents.iter().map(|parent| format!("parent {parent}\n"));
    let person = "Ada <ada@example.org> 1700000000 +0000";
    let parents: String = parents.collect();
    format!("tree {tree}\n{parents}author {person}\ncommitter {person}\n\nmade\n").into_bytes()
}

fn branch(name: &str, id: &GitId) -> ArchivedRef {
    ArchivedRef {
        name: Bytes::copy_from_slice(name.as_bytes()),
        id: id.clone(),
    }
}

impl Made {
    fn new() -> Self {
        use gix::objs::Kind::{Blob, Commit, Tree};
        let mut raw = Vec::new();
        let names = ["a", "b"];
        for (name, content) in names.iter().zip(CONTENTS) {
            raw.extend_from_slice(format!("100644 {name}\0").as_bytes());
            raw.extend_from_slice(&id(Blob, content.as_bytes()).0);
        }
        let entries = names.iter().zip(1..).map(|(name, number)| StoredEntry {
            mode: Bytes::from_static(b"100644"),
            name: Bytes::copy_from_slice(name.as_bytes()),
            target: Target::Number(number),
        });
        let commit = commit(&id(Tree, &raw), &[]);
        let tip = id(Commit, &commit);
        Made {
            contents: CONTENTS.concat().into_bytes(),
            tree: entries.collect(),
            segment: Segment {
                chunks: Vec::new(),
                before: 0,
                trees: vec![Group { chunk: 0, count: 1 }],
                contents: vec![ContentGroup {
                    chunk: 1,
                    ends: vec![6, 12],
                }],
                files: Vec::new(),
                tags: vec![2],
                commits: vec![CommitMark {
                    name: CommitMark::name(&tip.0),
                    tree: 0,
                }],
                refs: vec![branch("refs/heads/main", &tip)],
                head: Bytes::from_static(b"refs/heads/main"),
                shallow: Vec::new(),
            },
            commits: vec![commit],
            tags: Vec::new(),
            more: Vec::new(),
            tip,
        }
    }

    /// Stores it; its address.
    fn store(mut self, world: &World) -> String {
        let mut builder = BlobBuilder::new();
        let mut push = |raw: &[u8]| builder.push_node(raw);
        let chunks: Vec<PlacedChunk> = [
            encode_group(&[encode_tree(&self.tree).unwrap()]).unwrap(),
            self.contents,
            encode_group(&self.tags).unwrap(),
        ]
        .iter()
        .chain(&self.more)
        .map(|raw| push(raw))
        .collect();
        let unnamed = GitId::default();
        let commits =
            push(&encode_commits(self.commits.iter().map(|raw| (&unnamed, &raw[..]))).unwrap());
        let root = push(&directory::encode_unchecked(&[], 0).unwrap());
        self.segment.chunks = chunks;
        let segment = builder.push_node(
            &self
                .segment
                .encode_unchecked(builder.next_node_end())
                .unwrap(),
        );
        let attached = |kind, chunk| Attachment {
            kind,
            chunks: vec![chunk],
        };
        let head = PlannedHead {
            commits: vec![PlannedCommit {
                id: CommitId::Git(self.tip),
                root,
                // The trees of the history may be larger than the one shown.
                nodes: 1000,
                bytes: 0,
                author: Signature::default(),
                committer: Signature::default(),
                message: Vec::new(),
                parents: Vec::new(),
            }],
            attachments: vec![
                attached(AttachmentKind::GitCommits, commits),
                attached(AttachmentKind::Archive, segment),
            ],
            ..PlannedHead::default()
        };
        let head = builder.push_node(&head.encode_unchecked(builder.next_node_end()).unwrap());
        let blob = Bytes::from(builder.finish_with_head(&head).unwrap());
        let id = blob_id(&blob).unwrap();
        let local = world.path().join("data/walgit-fs/local");
        let local = LocalDir::open(&local, 1 << 30).unwrap();
        block_on(local.put(id, blob, &PutOptions::default())).unwrap();
        format!("walrus://{id}?root={}", head.hash)
    }
}

#[track_caller]
fn exported(world: &World, made: Made) -> std::path::PathBuf {
    let dir = world.path().join("copy");
    world.run(&["export", &made.store(world), dir.to_str().unwrap()]);
    dir
}

/// It is refused, because of this, and nothing is written anywhere.
#[track_caller]
fn refused(change: impl FnOnce(&mut Made), because: &str) {
    let world = World::new();
    let mut made = Made::new();
    change(&mut made);
    let dir = world.path().join("copy");
    let said = world.fail(&["export", &made.store(&world), dir.to_str().unwrap()]);
    assert!(said.contains(because), "{said}");
    assert_eq!(left(&world), [""; 0]);
}

fn file(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn what_is_made_by_hand_and_right_is_exported() {
    let world = World::new();
    let dir = exported(&world, Made::new());
    git(&dir, &["fsck", "--full", "--strict"]);
    assert_eq!(
        (file(&dir, "a"), file(&dir, "b")),
        (CONTENTS[0].into(), CONTENTS[1].into())
    );
}

#[test]
fn an_object_that_is_stored_twice_is_written_once() {
    let world = World::new();
    let mut made = Made::new();
    // The same contents once more, as chunks; and what is too large to be held.
    let contents = || CONTENTS.concat().into_bytes();
    let large = || [noise(3 << 20, 1), noise(3 << 20, 2)];
    made.more = vec![contents(), contents(), contents()];
    made.more.extend(large().into_iter().chain(large()));
    made.more.push(contents());
    let runs = [(3, 1), (4, 1), (5, 1), (6, 2), (8, 2), (10, 1)];
    made.segment.files = runs.map(|(first, count)| Run { first, count }).into();
    let dir = exported(&world, made);
    git(&dir, &["fsck", "--full", "--strict"]);
    let all = git(&dir, &["cat-file", "--batch-all-objects", "--batch-check"]);
    // Two files, both together, a large one, a tree and a commit.
    assert_eq!(all.lines().count(), 6, "{all}");
}

#[test]
fn without_a_branch_that_is_checked_out_head_is_the_commit() {
    let world = World::new();
    let mut made = Made::new();
    made.segment.head = Bytes::new();
    let tip = made.tip.to_string();
    let dir = exported(&world, made);
    assert_eq!(file(&dir, ".git/HEAD").trim(), tip);
    assert_eq!(git(&dir, &["status", "--porcelain"]), "");
}

#[test]
fn a_content_that_is_not_what_was_committed_is_found() {
    refused(|made| made.contents[0] = b'H', "has the tree");
    refused(|made| made.segment.contents[0].ends[0] = 5, "has the tree");
    refused(
        |made| made.tree[0].mode = Bytes::from_static(b"100755"),
        "has the tree",
    );
    refused(
        |made| made.tree[1].name = Bytes::from_static(b"c"),
        "has the tree",
    );
    refused(|made| made.tree.truncate(1), "has the tree");
}

#[test]
fn what_is_missing_is_named() {
    refused(|made| made.segment.commits.clear(), "does not hold");
    refused(|made| made.commits.clear(), "does not hold");
    let nowhere = GitId(vec![7; 20]);
    let name = nowhere.to_string();
    refused(
        |made| made.segment.refs.push(branch("refs/tags/v1", &nowhere)),
        &name,
    );
    // A parent.
    refused(
        |made| {
            let tree = String::from_utf8(made.commits[0][5..45].to_vec()).unwrap();
            let digits = (0..20).map(|at| u8::from_str_radix(&tree[at * 2..at * 2 + 2], 16));
            let tree = GitId(digits.collect::<Result<_, _>>().unwrap());
            made.commits = vec![commit(&tree, &[&nowhere])];
            made.tip = id(gix::objs::Kind::Commit, &made.commits[0]);
            made.segment.refs = vec![branch("refs/heads/main", &made.tip)];
        },
        &name,
    );
    // What a tag leads to.
    refused(
        |made| {
            let tag =
                format!("object {nowhere}\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nx\n");
            made.tags = vec![tag.into_bytes()];
            let tag = id(gix::objs::Kind::Tag, &made.tags[0]);
            made.segment.refs.push(branch("refs/tags/v1", &tag));
        },
        &name,
    );
}

#[test]
fn trees_that_hold_what_comes_after_them_are_refused() {
    for number in [0, 3, u64::MAX - 1] {
        refused(
            |made| made.tree[0].target = Target::Number(number),
            "malformed",
        );
    }
    refused(
        |made| made.tree[0].target = Target::Id(Bytes::from_static(&[7; 20])),
        "malformed",
    );
    refused(|made| made.segment.trees[0].count = 2, "malformed");
}

#[test]
fn names_of_refs_lead_nowhere_else() {
    for name in [
        "refs/heads/../../../../evil",
        "/tmp/evil",
        "refs/heads/a\nrefs/heads/b",
        "refs/heads/main/below",
        "HEAD",
        "config",
    ] {
        refused(
            |made| {
                let tip = made.tip.clone();
                made.segment.refs.push(branch(name, &tip));
            },
            // Refused when the history is read, or else when it is written for git.
            "allow",
        );
    }
}
