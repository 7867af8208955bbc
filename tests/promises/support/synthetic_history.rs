//! Synthetic histories, valid or not, with correct chunk hashes.

use bytes::Bytes;
use walgit_format::archive::{
    ArchivedRef, CommitMark, ContentGroup, Group, PlannedSegment, Segment, StoredEntry, TreeTarget,
    encode_group, encode_tree,
};
use walgit_format::blob::BlobBuilder;
use walgit_format::chunk::{BlobId, ChunkHash};
use walgit_format::commits::encode_commits;
use walgit_format::directory::{self, PlannedContent, PlannedEntry};
use walgit_format::head::{
    Attachment, AttachmentKind, CommitId, GitId, PlannedCommit, PlannedHead, Signature,
};
use walgit_format::{Kind, PlannedChunk};
use walrus_client::{BlobWriter as _, LocalDir, PutOptions};
use walrus_encoding::blob_id::blob_id;

use super::{World, block_on};

/// Contents of the files `a` and `b`.
pub(crate) const CONTENTS: [&str; 2] = ["hello\n", "world\n"];

/// A history of one commit with one tree of two files, as parts that tests can change
/// before storing it.
#[derive(Clone)]
pub(crate) struct SyntheticHistory {
    pub(crate) contents: Vec<u8>,
    pub(crate) tree: Vec<StoredEntry>,
    pub(crate) commits: Vec<Vec<u8>>,
    pub(crate) tags: Vec<Vec<u8>>,
    /// Replacements of the groups of trees and tags, and of the chunk of commits.
    pub(crate) trees_instead: Option<Vec<u8>>,
    pub(crate) tags_instead: Option<Vec<u8>>,
    pub(crate) commits_instead: Option<Vec<u8>>,
    /// Chunks from number 3 on.
    pub(crate) extra_chunks: Vec<Vec<u8>>,
    /// Files of the mounted tree with their content.
    pub(crate) shown: Vec<(&'static str, Vec<u8>)>,
    /// The commit that is checked out.
    pub(crate) tip: GitId,
    pub(crate) segment: PlannedSegment,
}

/// A repository of one blob.
pub(crate) struct RepositoryBlob {
    pub(crate) id: BlobId,
    pub(crate) bytes: Bytes,
    pub(crate) root: ChunkHash,
}

pub(crate) fn id(kind: gix::objs::Kind, bytes: &[u8]) -> GitId {
    let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, bytes).unwrap();
    GitId(id.as_slice().to_vec())
}

pub(crate) fn commit(tree: &GitId, parents: &[&GitId]) -> Vec<u8> {
    let parents = parents.iter().map(|parent| format!("parent {parent}\n"));
    let person = "Ada <ada@example.org> 1700000000 +0000";
    let parents: String = parents.collect();
    format!("tree {tree}\n{parents}author {person}\ncommitter {person}\n\nmade\n").into_bytes()
}

pub(crate) fn branch(name: &str, id: &GitId) -> ArchivedRef {
    ArchivedRef {
        name: Bytes::copy_from_slice(name.as_bytes()),
        id: id.clone(),
    }
}

impl SyntheticHistory {
    pub(crate) fn new() -> Self {
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
            target: TreeTarget::Number(number),
        });
        let commit = commit(&id(Tree, &raw), &[]);
        let tip = id(Commit, &commit);
        SyntheticHistory {
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
            trees_instead: None,
            tags_instead: None,
            commits_instead: None,
            shown: (names.into_iter())
                .zip(CONTENTS.map(|it| it.as_bytes().to_vec()))
                .collect(),
            extra_chunks: Vec::new(),
            tip,
        }
    }

    /// Encodes it as a blob.
    pub(crate) fn build(mut self) -> RepositoryBlob {
        let mut builder = BlobBuilder::new();
        let mut push = |raw: &[u8]| builder.push_node(raw);
        let trees = || encode_group(&[encode_tree(&self.tree).unwrap()]).unwrap();
        let trees = self.trees_instead.clone().unwrap_or_else(trees);
        let tags = || encode_group(&self.tags).unwrap();
        let tags = self.tags_instead.clone().unwrap_or_else(tags);
        let commits = || {
            let unnamed = GitId::default();
            encode_commits(self.commits.iter().map(|raw| (&unnamed, &raw[..]))).unwrap()
        };
        let commits = self.commits_instead.clone().unwrap_or_else(commits);
        let chunks: Vec<PlannedChunk> = [trees, self.contents, tags]
            .iter()
            .chain(&self.extra_chunks)
            .map(|raw| push(raw))
            .collect();
        let commits = push(&commits);
        let shown = self.shown.into_iter().map(|(name, content)| PlannedEntry {
            name: name.into(),
            kind: Kind::File { executable: false },
            size: content.len() as u64,
            content: PlannedContent::Inline(content.into()),
        });
        let shown: Vec<PlannedEntry> = shown.collect();
        let bytes = shown.iter().map(|entry| entry.size).sum();
        let root = push(&directory::encode_unchecked(&shown, 0).unwrap());
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
                nodes: 1 + shown.len() as u64,
                bytes,
                author: Signature::default(),
                committer: Signature::default(),
                message: Bytes::new(),
                parents: Vec::new(),
            }],
            attachments: vec![
                attached(AttachmentKind::GitCommits, commits),
                attached(AttachmentKind::Archive, segment),
            ],
            ..PlannedHead::default()
        };
        let head = builder.push_node(&head.encode_unchecked(builder.next_node_end()).unwrap());
        let bytes = Bytes::from(builder.finish_with_head(&head).unwrap());
        RepositoryBlob {
            id: blob_id(&bytes).unwrap(),
            bytes,
            root: head.hash,
        }
    }

    /// Stores it; returns its address.
    pub(crate) fn store(self, world: &World) -> String {
        let RepositoryBlob { id, bytes, root } = self.build();
        let local = world.path().join("data/walgit-fs/local");
        let local = LocalDir::open(&local, 1 << 30).unwrap();
        block_on(local.put(id, bytes, &PutOptions::default())).unwrap();
        format!("walrus://{id}?root={root}")
    }
}
