//! Present storage of a repository, and alternative layouts of the same content, for a
//! comparison of costs.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::walk::{Dependency, Walk};
use crate::repo::{Node, RepoError, Repository, Snapshot};
use walgit_format::chunk::{BlobId, ChunkHash, PAYLOAD_OVERHEAD};
use walgit_format::{Content, Directory, Entry, Kind};
use walrus_encoding::cost::Bill;
use walrus_encoding::quilt::{self, MAX_MEMBERS};

/// File bytes per quilt: with the unused parts of columns, well below the limit of
/// publishers.
const MAX_QUILT_BYTES: u64 = 64 << 20;
/// Concurrent blob length requests.
const QUERY_CONCURRENCY: usize = 16;

/// Storage of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Trees that were read: of branches, tags and commits.
    pub trees: u64,
    /// Distinct files in these trees.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Bill of the present layout.
    pub now: Bill,
    /// Needed blobs that the store does not have.
    pub missing: Vec<BlobId>,
    /// Bill with one plain blob per file.
    pub alone: Bill,
    /// Bill with plain files of similar size in quilts.
    pub quilts: Bill,
}

/// Measures a repository: reads its directories, but no content.
pub async fn usage(repository: &Repository) -> Result<Usage, RepoError> {
    let mut found = TreeContents::default();
    let mut roots = HashSet::new();
    for commit in 0..repository.head().commits.len() {
        let snapshot = repository.snapshot(commit)?;
        if roots.insert(snapshot.commit().root.hash) {
            found.tree(&snapshot).await?;
        }
    }
    let mut blobs: BTreeSet<BlobId> = repository.blob().into_iter().collect();
    // A head also names blobs that only earlier heads needed.
    if !repository.is_derived() {
        let mut walk = Walk::of(repository);
        while let Some(batch) = walk.next().await {
            for found in batch {
                blobs.extend(found.blobs());
                if let Dependency::Unreadable(why) = found.dependency {
                    return Err(why);
                }
            }
        }
    }
    blobs.retain(|blob| !found.wholes.contains_key(blob));
    let store = repository.store();
    let lens = blobs.into_iter().map(|blob| async move {
        let len = store.len(blob).await?;
        Ok::<_, RepoError>((blob, len))
    });
    let lens: Vec<_> = (futures_util::stream::iter(lens).buffered(QUERY_CONCURRENCY))
        .try_collect()
        .await?;
    let stored = lens.iter().filter_map(|(_, len)| *len);
    let missing = lens.iter().filter(|(_, len)| len.is_none());
    let files: Vec<(u64, u64)> = found.files.into_values().collect();
    Ok(Usage {
        trees: roots.len() as u64,
        files: files.len() as u64,
        bytes: files.iter().map(|(_, len)| len).sum(),
        now: stored.chain(found.wholes.into_values()).collect(),
        missing: missing.map(|(blob, _)| *blob).collect(),
        alone: files.iter().map(|(_, len)| *len).collect(),
        quilts: quilts(files),
    })
}

/// Content of trees.
#[derive(Default)]
struct TreeContents {
    /// Lengths of name and content of each distinct file.
    files: HashMap<ChunkHash, (u64, u64)>,
    /// Stored length of each file that is a blob.
    wholes: HashMap<BlobId, u64>,
    /// Visited directories.
    seen: HashSet<ChunkHash>,
}

impl TreeContents {
    async fn tree(&mut self, snapshot: &Snapshot) -> Result<(), RepoError> {
        let mut pending: Vec<Node> = vec![snapshot.root()];
        while let Some(node) = pending.pop() {
            let known = snapshot.node_of(&node);
            if known.is_some_and(|chunk| !self.seen.insert(chunk.hash)) {
                continue;
            }
            let directory = snapshot.directory(&node).await?;
            for (at, entry) in directory.entries().iter().enumerate() {
                match (&entry.content, entry.kind) {
                    (Content::Directory { .. }, _) => {
                        pending.push(snapshot.entry(&node, &directory, at));
                    }
                    (_, Kind::File { .. }) => self.file(&directory, entry),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, directory: &Directory, entry: &Entry) {
        let hash = match &entry.content {
            Content::Inline(bytes) => ChunkHash::of(bytes),
            Content::Chunks { first, count } => {
                let run = &directory.chunks()[*first as usize..(*first + *count) as usize];
                match run {
                    [one] => one.hash,
                    run => ChunkHash::of(
                        &run.iter()
                            .flat_map(|c| *c.hash.as_bytes())
                            .collect::<Vec<_>>(),
                    ),
                }
            }
            Content::List { index } | Content::Part { index, .. } => {
                directory.chunks()[*index as usize].hash
            }
            Content::Whole { index } => {
                let whole = &directory.wholes()[*index as usize];
                let around = if whole.sealed { PAYLOAD_OVERHEAD } else { 0 };
                self.wholes.insert(whole.blob, whole.size + around);
                whole.name()
            }
            Content::Directory { .. } => return,
        };
        self.files
            .insert(hash, (entry.name.len() as u64, entry.size));
    }
}

/// Groups files of similar size: a member takes whole columns of its quilt, so small
/// files beside a large one would waste space.
fn quilts(mut files: Vec<(u64, u64)>) -> Bill {
    files.sort_unstable_by_key(|(_, len)| *len);
    let mut bill = Bill::default();
    let mut rest = &files[..];
    while !rest.is_empty() {
        let mut bytes = 0u64;
        let fits = |(_, len): &&(u64, u64)| {
            bytes = bytes.saturating_add(*len);
            bytes <= MAX_QUILT_BYTES
        };
        let count = rest.iter().take(MAX_MEMBERS).take_while(fits).count();
        let (together, others) = rest.split_at(count.max(1));
        match quilt::blob_len(together) {
            Ok(len) if count > 0 => bill.add(len),
            // Files that are too long for a quilt become blobs.
            _ => together.iter().for_each(|(_, len)| bill.add(*len)),
        }
        rest = others;
    }
    bill
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_share_a_quilt_and_large_ones_are_alone() {
        let small = vec![(10, 1000); 1000];
        assert_eq!(quilts(small).blobs, 2);
        let mut mixed = vec![(10, 1000); 600];
        mixed.push((10, 200 << 20));
        let bill = quilts(mixed);
        assert_eq!(bill.blobs, 2);
        assert!(bill.bytes < 201 << 20, "{bill:?}");
        assert_eq!(quilts(Vec::new()), Bill::default());
    }
}
