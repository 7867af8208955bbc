//! The tree that is going to be published, before it has places in blobs.

use std::path::PathBuf;

use bytes::Bytes;

use super::known::{Known, KnownDirectory};
use super::packs::Placed;
use crate::repo::head::{GitId, Ref, Signature};
use crate::repo::{Kind, git};

/// Number of a directory in [`Plan::directories`].
pub(super) type DirectoryNumber = usize;

/// Everything that is going to be published.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Every directory that is not known already; parents before children.
    pub(super) directories: Vec<PlannedDirectory>,
    /// Files whose content is needed, in the order of their packs.
    pub(super) files: Vec<FileJob>,
    /// Where the files of a git repository come from.
    pub(super) git: Option<gix::ThreadSafeRepository>,
    /// Commits with their trees, the default branch's first.
    pub(super) commits: Vec<CommitPlan>,
    /// The default branch; empty for a plain folder or a detached head.
    pub(super) default_branch: Vec<u8>,
    /// Branches and tags.
    pub(super) refs: Vec<Ref>,
    /// Raw commit objects of the whole history, oldest first.
    pub(super) history: Vec<(GitId, Bytes)>,
    /// What was left out, and why.
    pub(super) warnings: Vec<String>,
}

/// A commit whose tree is published.
#[derive(Debug)]
pub(super) struct CommitPlan {
    pub(super) id: GitId,
    pub(super) tree: TreePlan,
    pub(super) author: Signature,
    pub(super) committer: Signature,
    pub(super) message: Vec<u8>,
    pub(super) parents: Vec<GitId>,
}

/// A directory, new or known.
#[derive(Clone, Debug)]
pub(super) enum TreePlan {
    New(DirectoryNumber),
    Known(KnownDirectory),
}

/// A directory that may have to be written.
#[derive(Debug)]
pub(super) struct PlannedDirectory {
    /// Its path from the root; names joined with `/`.
    pub(super) path: Vec<u8>,
    /// Sorted by name.
    pub(super) entries: Vec<EntryPlan>,
    /// What git calls it, and its raw tree where that cannot be rebuilt.
    pub(super) git: Option<(GitId, Bytes)>,
    /// The directory published before that holds the very same.
    pub(super) same_as: Option<KnownDirectory>,
}

/// An entry of a [`PlannedDirectory`].
#[derive(Debug)]
pub(super) struct EntryPlan {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) git: Option<GitId>,
    pub(super) size: u64,
    pub(super) content: ContentPlan,
}

/// Content of an [`EntryPlan`].
#[derive(Clone, Debug)]
pub(super) enum ContentPlan {
    /// Not read yet.
    Pending,
    Inline(Vec<u8>),
    Chunks(Vec<Placed>),
    /// A chunk list stored before.
    List(Placed),
    Tree(TreePlan),
}

/// A file to be read.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) source: FileSource,
    pub(super) directory: DirectoryNumber,
    pub(super) entry: usize,
    /// Bytes expected.
    pub(super) size: u64,
}

/// Where a file's content is.
#[derive(Debug)]
pub(super) enum FileSource {
    Git(gix::ObjectId),
    Path(PathBuf),
}

/// Most commits are a few hundred bytes; chunks of about this size compress
/// well and are few.
const COMMITS_CHUNK: usize = 256 << 10;

impl Plan {
    /// Files and directories in the published trees.
    pub(super) fn counts(&self, known: &Known) -> (u64, u64) {
        let (mut files, mut directories) = (0, self.directories.len() as u64);
        let roots = self.commits.iter().map(|commit| &commit.tree);
        let entries = self.directories.iter().flat_map(|d| &d.entries);
        let below = entries.filter_map(|entry| match &entry.content {
            ContentPlan::Tree(tree) => Some(tree),
            _ => {
                files += 1;
                None
            }
        });
        let mut in_known = (0, 0);
        for tree in roots.chain(below) {
            if let TreePlan::Known(tree) = tree {
                let (files, directories) = known.counts(tree);
                in_known = (in_known.0 + files, in_known.1 + directories);
            }
        }
        files += in_known.0;
        directories += in_known.1;
        (files, directories)
    }

    /// Whether the head published before is just what this plan would make.
    pub(super) fn is_known(&self, known: &Known) -> bool {
        let Some(previous) = known.previous() else {
            return false;
        };
        let head = previous.head();
        let same_commit = |(plan, commit): (&CommitPlan, &crate::repo::Commit)| {
            let tree = match &plan.tree {
                TreePlan::Known(tree) => Some(tree),
                TreePlan::New(number) => self.directories[*number].same_as.as_ref(),
            };
            plan.id == commit.id && tree.is_some_and(|tree| tree.node.hash == commit.root.hash)
        };
        let mut refs = self.refs.clone();
        refs.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        self.commits.len() == head.commits.len()
            && self.commits.iter().zip(&head.commits).all(same_commit)
            && refs == head.refs
            && self.default_branch == head.default_branch
    }

    /// Finds the directories that hold just what one of the same path held
    /// before, from the deepest up, so that a parent sees its children's.
    pub(super) fn reuse_directories(&mut self, known: &Known) {
        for number in (0..self.directories.len()).rev() {
            let directory = &self.directories[number];
            let same = known
                .directory_at(&directory.path)
                .filter(|old| old.holds(directory, &self.directories));
            self.directories[number].same_as = same.map(|old| old.reference.clone());
        }
    }

    /// The history in chunks of whole commits. Cut after every so many bytes
    /// from the oldest on, so that a history that grows keeps its old chunks.
    pub(super) fn commit_chunks(&self) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut pending: Vec<&[u8]> = Vec::new();
        let mut len = 0;
        for (_, commit) in &self.history {
            pending.push(commit);
            len += commit.len();
            if len >= COMMITS_CHUNK {
                chunks.push(git::encode_commits(pending.drain(..)));
                len = 0;
            }
        }
        if !pending.is_empty() {
            chunks.push(git::encode_commits(pending));
        }
        chunks
    }
}
