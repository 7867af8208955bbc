//! Compares two repositories: whether the new one has the content of the old one, and
//! how many requests reading it takes.

use super::PublishError;
use crate::repo::{NEIGHBOURS, Node, Repository, Snapshot};
use walgit_format::Kind;
use walgit_format::chunk::ByteRange;

/// Bytes of a file to compare at once.
const PART: u64 = 8 << 20;

/// Result of a comparison without differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Compared {
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
pub async fn compare(old: &Repository, new: &Repository) -> Result<Compared, PublishError> {
    let (before, after) = (old.snapshot(0)?, new.snapshot(0)?);
    let mut files = 0;
    let mut pending = vec![(Vec::new(), before.root(), after.root())];
    while let Some((path, old_node, new_node)) = pending.pop() {
        let (old_dir, new_dir) = (
            before.directory(&old_node).await?,
            after.directory(&new_node).await?,
        );
        if old_dir.entries().len() != new_dir.entries().len() {
            return Err(differs(&path));
        }
        let mut below = Vec::new();
        for (at, entry) in old_dir.entries().iter().enumerate() {
            let path = super::git::join(&path, &entry.name);
            let old_child = before.entry(&old_node, &old_dir, at);
            let new_child = after.entry(&new_node, &new_dir, at);
            let same = new_dir.entries()[at].name == entry.name
                && old_child.kind == new_child.kind
                && (entry.kind == Kind::Directory || old_child.size == new_child.size);
            if !same {
                return Err(differs(&path));
            }
            match entry.kind {
                Kind::Directory => below.push((path, old_child, new_child)),
                Kind::File { .. } => {
                    if !same_bytes((&before, &old_child), (&after, &new_child)).await? {
                        return Err(differs(&path));
                    }
                    files += 1;
                }
                Kind::Symlink if before.target(&old_child)? != after.target(&new_child)? => {
                    return Err(differs(&path));
                }
                Kind::Symlink | Kind::Submodule => {}
            }
        }
        pending.extend(below.into_iter().rev());
    }
    Ok(Compared {
        files,
        // The head took one request that the cache has not counted.
        requests: new.loader().cache().stats().fetches + 1,
    })
}

async fn same_bytes(
    (before, old): (&Snapshot, &Node),
    (after, new): (&Snapshot, &Node),
) -> Result<bool, PublishError> {
    let mut at = 0;
    while at < old.size {
        let part = ByteRange::new(at, PART.min(old.size - at));
        let one = before.read(old, part, NEIGHBOURS).await?;
        if one != after.read(new, part, NEIGHBOURS).await? {
            return Ok(false);
        }
        at = part.end();
    }
    Ok(true)
}

fn differs(path: &[u8]) -> PublishError {
    PublishError::Differs(String::from_utf8_lossy(path).into_owned())
}
