//! The tree of one commit: nodes by number or by name.

use std::sync::Arc;

use bytes::Bytes;

use super::derived_tree::MAX_DEPTH;
use super::error::RepoError;
use super::repository::Repository;
use walgit_format::chunk::{ChunkRef, WholeBlob};
use walgit_format::{Commit, Content, Directory, Entry, Kind};

/// Stored bytes of neighbours to fetch together with a chunk on file reads: at 20
/// Mbit/s they take 50 ms, a round trip to a distant gateway.
pub const NEIGHBOUR_BYTES: u64 = 128 << 10;

/// The number of a node: 1 for the root, then its position in a preorder walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub u64);

impl NodeIndex {
    /// The root directory.
    pub const ROOT: NodeIndex = NodeIndex(1);
}

/// A file, directory, symlink or submodule of a [`Snapshot`].
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number.
    pub index: NodeIndex,
    /// Its kind.
    pub kind: Kind,
    /// Bytes of content; for a directory, the sum over the files in it.
    pub size: u64,
    /// Its entry in the parent directory.
    pub(super) location: NodeLocation,
}

impl Node {
    /// The number of its parent directory; `None` for the root.
    pub fn folder(&self) -> Option<NodeIndex> {
        let (_, entry) = self.entry()?;
        Some(NodeIndex(self.index.0 - entry.offset))
    }

    /// Its entry, and the directory that lists it; `None` for the root.
    pub(super) fn entry(&self) -> Option<(&Arc<Directory>, &Entry)> {
        match &self.location {
            NodeLocation::Root(_) => None,
            NodeLocation::Entry(parent, at) => Some((parent, &parent.entries()[*at])),
        }
    }

    /// Its first chunks: all content chunks of a small file, the list of a large file, or
    /// the node of a directory.
    pub fn chunks(&self) -> &[ChunkRef] {
        match &self.location {
            NodeLocation::Root(root) => std::slice::from_ref(root),
            NodeLocation::Entry(parent, at) => parent.chunks_of(&parent.entries()[*at].content),
        }
    }

    /// The table that lists its first chunk and the neighbours, and the index there.
    pub(super) fn table(&self) -> (&[ChunkRef], usize) {
        match self
            .entry()
            .map(|(parent, entry)| (parent.chunks(), &entry.content))
        {
            Some((
                table,
                Content::Chunks { first: index, .. }
                | Content::List { index }
                | Content::Part { index, .. }
                | Content::Directory { index, .. },
            )) => (table, *index as usize),
            _ => (self.chunks(), 0),
        }
    }

    /// The blob of a file, if the file is stored as one blob.
    pub fn whole(&self) -> Option<&WholeBlob> {
        let (parent, entry) = self.entry()?;
        match entry.content {
            Content::Whole { index } => Some(&parent.wholes()[index as usize]),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum NodeLocation {
    /// The root.
    Root(ChunkRef),
    /// An entry of this directory.
    Entry(Arc<Directory>, usize),
}

/// The tree of one commit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) repository: Repository,
    commit: usize,
}

impl Snapshot {
    pub(super) fn new(repository: Repository, commit: usize) -> Self {
        Snapshot { repository, commit }
    }

    /// The repository of the tree.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The commit of the tree.
    pub fn commit(&self) -> &Commit {
        &self.repository.head().commits[self.commit]
    }

    /// The root directory.
    pub fn root(&self) -> Node {
        let commit = self.commit();
        Node {
            index: NodeIndex::ROOT,
            kind: Kind::Directory,
            size: commit.bytes,
            location: NodeLocation::Root(commit.root.clone()),
        }
    }

    /// The node with this number.
    ///
    /// # Errors
    /// [`RepoError::NoNode`], or an error reading a directory above it.
    pub async fn node(&self, index: NodeIndex) -> Result<Node, RepoError> {
        self.descend(index, |_, _, _| {}).await
    }

    /// Finds the node with this number, and calls `step` for every directory above it
    /// with its content and the index of the entry that leads to the node.
    pub async fn descend(
        &self,
        index: NodeIndex,
        mut step: impl FnMut(&Node, &Arc<Directory>, usize),
    ) -> Result<Node, RepoError> {
        let mut node = self.root();
        for _ in 0..MAX_DEPTH {
            if node.index == index {
                return Ok(node);
            }
            let directory = self.directory(&node).await?;
            let offset = index.0.wrapping_sub(node.index.0);
            let entry = directory
                .holding(offset)
                .ok_or(RepoError::NoNode(index.0))?;
            step(&node, &directory, entry);
            node = self.entry(&node, &directory, entry);
        }
        Err(RepoError::TooDeep(MAX_DEPTH))
    }

    /// The node called `name` in directory `parent`, if any.
    pub async fn lookup(&self, parent: &Node, name: &[u8]) -> Result<Option<Node>, RepoError> {
        let directory = self.directory(parent).await?;
        Ok(directory
            .find(name)
            .map(|entry| self.entry(parent, &directory, entry)))
    }

    /// The node at this path from the root (components separated by `/`), if any.
    /// Does not follow symlinks.
    pub async fn walk(&self, path: &[u8]) -> Result<Option<Node>, RepoError> {
        let mut node = self.root();
        for name in path.split(|&byte| byte == b'/').filter(|n| !n.is_empty()) {
            if node.kind != Kind::Directory {
                return Ok(None);
            }
            match self.lookup(&node, name).await? {
                Some(child) => node = child,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// Entry number `entry` of `directory`, the content of `parent`.
    pub fn entry(&self, parent: &Node, directory: &Arc<Directory>, entry: usize) -> Node {
        let found = &directory.entries()[entry];
        Node {
            index: NodeIndex(parent.index.0 + found.offset),
            kind: found.kind,
            size: found.size,
            location: NodeLocation::Entry(directory.clone(), entry),
        }
    }

    /// The entries of a directory. A submodule has none.
    ///
    /// # Errors
    /// [`RepoError::NotADirectory`]; [`RepoError::Subtree`] if its number of nodes
    /// differs from the one in its parent; or a read error.
    pub async fn directory(&self, node: &Node) -> Result<Arc<Directory>, RepoError> {
        let loader = self.repository.loader();
        let account = &self.repository.access().account;
        let nodes = match node.entry() {
            None => self.commit().nodes,
            Some((_, entry)) => match entry.content {
                Content::Directory { nodes, .. } => nodes,
                _ => return Err(RepoError::NotADirectory),
            },
        };
        let (table, index) = node.table();
        let directory = match self.repository.derived(&table[index].hash) {
            Some(derived) => derived.clone(),
            None => {
                let store = self.repository.store();
                loader.directory(account, store, table, index).await?
            }
        };
        if directory.nodes() != nodes {
            return Err(RepoError::Subtree {
                hash: table[index].hash,
                expected: nodes,
                found: directory.nodes(),
            });
        }
        Ok(directory)
    }

    /// The target of a symlink.
    pub fn target(&self, node: &Node) -> Result<Bytes, RepoError> {
        match node.entry().map(|(_, entry)| (entry.kind, &entry.content)) {
            Some((Kind::Symlink, Content::Inline(target))) => Ok(target.clone()),
            _ => Err(RepoError::NotASymlink),
        }
    }
}

/// Whether two files, links or directories are equal in kind and content, judging by
/// their hashes; ignores names and locations.
pub fn same_content((a, in_a): (&Entry, &Directory), (b, in_b): (&Entry, &Directory)) -> bool {
    let same_chunks = || {
        let (chunks_a, chunks_b) = (in_a.chunks_of(&a.content), in_b.chunks_of(&b.content));
        (chunks_a.iter().map(|it| it.hash)).eq(chunks_b.iter().map(|it| it.hash))
    };
    let content = match (&a.content, &b.content) {
        (Content::Inline(a), Content::Inline(b)) => a == b,
        (Content::Chunks { .. }, Content::Chunks { .. })
        | (Content::List { .. }, Content::List { .. })
        | (Content::Directory { .. }, Content::Directory { .. }) => same_chunks(),
        (Content::Part { start: a, .. }, Content::Part { start: b, .. }) => a == b && same_chunks(),
        (Content::Whole { index: a }, Content::Whole { index: b }) => {
            let (a, b) = (&in_a.wholes()[*a as usize], &in_b.wholes()[*b as usize]);
            // Equal content in different blobs is equal.
            a.size == b.size && a.proof == b.proof && (a.blob == b.blob || a.is_hashed())
        }
        _ => false,
    };
    content && a.kind == b.kind && a.size == b.size
}
