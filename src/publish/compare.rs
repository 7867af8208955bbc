//! Compares two repositories: whether the new one has the content of the old one, and
//! how many requests reading it takes.

use super::error::PublishError;
use super::plan::join;
use crate::repo::{NEIGHBOUR_BYTES, Node, Repository, Snapshot};
use walgit_format::Kind;
use walgit_format::chunk::ByteRange;

/// Bytes of a file to compare at once.
const COMPARED_BYTES: u64 = 8 << 20;

/// Result of a comparison without differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Comparison {
    /// Files read in both.
    pub files: u64,
    /// Requests to read all of them in the new repository, including its head.
    pub requests: u64,
}

/// Reads the newest commit of both file by file, in walk order. The loader of `new` must
/// be fresh, so that all its requests are counted.
///
/// # Errors
/// [`PublishError::Differs`] for the first different file, or the error of a failed read.
pub async fn compare(old: &Repository, new: &Repository) -> Result<Comparison, PublishError> {
    let (old_snapshot, new_snapshot) = (old.snapshot(0)?, new.snapshot(0)?);
    let mut files = 0;
    let mut pending = vec![(Vec::new(), old_snapshot.root(), new_snapshot.root())];
    while let Some((path, old_node, new_node)) = pending.pop() {
        let old_dir = old_snapshot.directory(&old_node).await?;
        let new_dir = new_snapshot.directory(&new_node).await?;
        if old_dir.entries().len() != new_dir.entries().len() {
            return Err(PublishError::differs(&path));
        }
        let mut children = Vec::new();
        for (at, entry) in old_dir.entries().iter().enumerate() {
            let path = join(&path, &entry.name);
            let old_child = old_snapshot.entry(&old_node, &old_dir, at);
            let new_child = new_snapshot.entry(&new_node, &new_dir, at);
            let same_entry = new_dir.entries()[at].name == entry.name
                && old_child.kind == new_child.kind
                && (entry.kind == Kind::Directory || old_child.size == new_child.size);
            let same = same_entry
                && match entry.kind {
                    Kind::File { .. } => {
                        files += 1;
                        same_bytes((&old_snapshot, &old_child), (&new_snapshot, &new_child)).await?
                    }
                    Kind::Symlink => {
                        old_snapshot.target(&old_child)? == new_snapshot.target(&new_child)?
                    }
                    Kind::Directory | Kind::Submodule => true,
                };
            if !same {
                return Err(PublishError::differs(&path));
            }
            if entry.kind == Kind::Directory {
                children.push((path, old_child, new_child));
            }
        }
        pending.extend(children.into_iter().rev());
    }
    Ok(Comparison {
        files,
        // The head took one request that the cache has not counted.
        requests: new.loader().cache().stats().fetches + 1,
    })
}

async fn same_bytes(
    (old_snapshot, old): (&Snapshot, &Node),
    (new_snapshot, new): (&Snapshot, &Node),
) -> Result<bool, PublishError> {
    let mut at = 0;
    while at < old.size {
        let part = ByteRange::new(at, COMPARED_BYTES.min(old.size - at));
        let bytes = old_snapshot.read(old, part, NEIGHBOUR_BYTES).await?;
        if bytes != new_snapshot.read(new, part, NEIGHBOUR_BYTES).await? {
            return Ok(false);
        }
        at = part.end();
    }
    Ok(true)
}
