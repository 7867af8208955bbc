//! Items that a head needs, and where it needs them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::repo::RepoError;
use walgit_format::chunk::{BlobId, ChunkRef, WholeBlob};
use walgit_format::head::AttachmentKind;

/// Role of a needed chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkRole {
    /// Node of a directory.
    Directory,
    /// List of chunks of a large file.
    List,
    /// Content of a file.
    Content,
    /// A dictionary or a base of a patch, which others are decoded with.
    Base,
    /// Data of an attachment.
    Attachment,
    /// Commits, trees or tags of the head's history.
    Objects,
}

impl ChunkRole {
    /// Whether the chunk is a node of a tree.
    pub fn is_node(self) -> bool {
        matches!(self, ChunkRole::Directory | ChunkRole::List)
    }
}

/// Where an item is needed.
#[derive(Debug, PartialEq, Eq)]
pub enum ItemPath {
    /// By the head itself.
    Head,
    /// By an attachment.
    Attachment(AttachmentKind),
    /// The root of a tree; with the name of the tree if there are several.
    Root(Option<String>),
    /// In a directory: its path, the name of the entry, and the bytes of content.
    Entry(Arc<ItemPath>, Bytes, u64),
}

impl ItemPath {
    /// Returns the path from the root of the tree; empty for the root, and for items
    /// outside of trees.
    pub fn path(&self) -> Vec<u8> {
        self.split().1
    }

    /// Returns the path without entries, and those entries.
    fn split(&self) -> (&ItemPath, Vec<u8>) {
        let (mut top, mut names) = (self, Vec::new());
        while let ItemPath::Entry(above, name, _) = top {
            names.push(&name[..]);
            top = above;
        }
        names.reverse();
        (top, names.join(&b'/'))
    }
}

impl fmt::Display for ItemPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (top, path) = self.split();
        let path = String::from_utf8_lossy(&path);
        f.write_str(match top {
            ItemPath::Head => "the head",
            ItemPath::Attachment(kind) => match kind {
                AttachmentKind::GitCommits => "the list of commits",
                AttachmentKind::GitIds => "the list of git IDs of directories",
                AttachmentKind::Manifests | AttachmentKind::Objects => "its original manifests",
                AttachmentKind::Prior => "the list of files that changed together",
                AttachmentKind::Learned => "its learned profile",
                AttachmentKind::Archive => "its history",
                AttachmentKind::Dictionaries => "its dictionaries",
                AttachmentKind::Other(number) => {
                    return write!(f, "its attachment of kind {number}");
                }
            },
            _ if path.is_empty() => "the root directory",
            _ => &path,
        })?;
        match top {
            ItemPath::Root(Some(tree)) => write!(f, " of {tree}"),
            _ => Ok(()),
        }
    }
}

/// A dependency of a head.
#[derive(Clone, Debug)]
pub enum Dependency {
    /// A chunk, with everything that it is decoded with: see [`with_bases`].
    Chunk(ChunkRef, ChunkRole),
    /// A blob that is one file.
    Whole(WholeBlob),
    /// A blob that was read and verified when the head in it was opened.
    Opened(BlobId),
    /// A referenced blob that this version cannot interpret. It may be needed, and need
    /// not exist.
    Perhaps(BlobId),
    /// An unreadable node: everything below it is unknown.
    Unreadable(RepoError),
}

/// A dependency and its path.
#[derive(Clone, Debug)]
pub struct WalkItem {
    /// The path.
    pub path: Arc<ItemPath>,
    /// The dependency.
    pub dependency: Dependency,
}

impl WalkItem {
    pub(super) fn new(path: &Arc<ItemPath>, dependency: Dependency) -> Self {
        WalkItem {
            path: path.clone(),
            dependency,
        }
    }

    /// Returns the blobs that it needs, with duplicates.
    pub fn blobs(&self) -> impl Iterator<Item = BlobId> + '_ {
        let (chunk, blob) = match &self.dependency {
            Dependency::Chunk(chunk, role) => (Some((chunk, *role)), None),
            Dependency::Whole(whole) => (None, Some(whole.blob)),
            Dependency::Opened(blob) | Dependency::Perhaps(blob) => (None, Some(*blob)),
            Dependency::Unreadable(_) => (None, None),
        };
        (chunk
            .into_iter()
            .flat_map(|(chunk, role)| with_bases(chunk, role)))
        .map(|(chunk, _)| chunk.location.blob)
        .chain(blob)
    }
}

/// Returns a chunk and everything that it is decoded with, dependencies first.
pub fn with_bases(
    chunk: &ChunkRef,
    role: ChunkRole,
) -> impl Iterator<Item = (&ChunkRef, ChunkRole)> {
    let below = chunk.bases.iter().flat_map(|base| base.bases.iter());
    (below.chain(chunk.bases.iter()))
        .map(|base| (base, ChunkRole::Base))
        .chain(std::iter::once((chunk, role)))
}

/// Fingerprint of a chunk and its location; collisions are practically impossible.
pub(crate) fn fingerprint(chunk: &ChunkRef) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chunk.hash.as_bytes());
    hasher.update(chunk.location.blob.as_bytes());
    hasher.update(&chunk.location.offset.to_le_bytes());
    hasher.update(&chunk.stored_len.to_le_bytes());
    hasher.update(&[chunk.codec as u8]);
    for base in chunk.bases.iter() {
        hasher.update(base.hash.as_bytes());
        hasher.update(base.location.blob.as_bytes());
        hasher.update(&base.location.offset.to_le_bytes());
    }
    let mut name = [0; 16];
    name.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    name
}
