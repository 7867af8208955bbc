//! Measurement of the layout of a head.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::cache::MAX_GAP_BYTES;
use crate::lifecycle::walk::{ChunkRole, Dependency, ItemPath, Walk, with_bases};
use crate::repo::{RepoError, Repository, Tier};
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, Codec};

/// Concurrent blob length requests.
const QUERY_CONCURRENCY: usize = 16;
/// Stored bytes per request of a walk.
const MAX_REQUEST_BYTES: u64 = 4 << 20;

/// Use of a blob by a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlobUse {
    /// Needed bytes of the blob.
    pub live: u64,
    /// Needed bytes that are nodes (directories and lists); every compaction rewrites
    /// these.
    pub nodes: u64,
    /// Length of the blob in bytes.
    pub len: u64,
    /// Whether the blob is a single file.
    pub plain: bool,
}

/// The layout of a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadLayout {
    /// The blobs that the head needs.
    pub blobs: BTreeMap<BlobId, BlobUse>,
    /// Requests to read all trees of the head; adjacent ranges count as one request, up
    /// to 4 MiB.
    pub requests: u64,
    /// Stored bytes of the trees and their content.
    pub tree_bytes: u64,
    /// Number and bytes of files that would move to another tier.
    pub moves: (u64, u64),
    /// Content that is a patch against a chunk outside of all trees: the blob of the
    /// base, and the approximate size of the content without the patch, in bytes.
    pub patched: Vec<(BlobId, u64)>,
}

/// A file that the measurement found; inline files are not reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct MeasuredFile<'a> {
    /// Location in the tree.
    pub place: &'a ItemPath,
    /// Length in bytes.
    pub size: u64,
    /// Whether the file is compressible, as far as its stored form shows.
    pub shrinks: bool,
    /// Tier in which the file is stored.
    pub tier: Tier,
}

/// Measures the layout of a head; `moves` decides which files should move to another
/// tier.
pub(super) async fn measure(
    repository: &Repository,
    moves: &(dyn Fn(&MeasuredFile<'_>) -> bool + Sync),
) -> Result<HeadLayout, RepoError> {
    let mut layout = HeadLayout::default();
    // Keyed by location, so that shared content counts once.
    let mut seen: HashMap<(BlobId, u64), (u32, bool)> = HashMap::new();
    let mut file: Option<Arc<ItemPath>> = None;
    // Content of the trees, and patches with their bases.
    let mut content: HashSet<ChunkHash> = HashSet::new();
    let mut patches: HashMap<ChunkHash, ChunkRef> = HashMap::new();
    let mut walk = Walk::of(repository);
    while let Some(batch) = walk.next().await {
        for found in batch {
            let (chunk, role) = match found.dependency {
                Dependency::Chunk(chunk, role) => (chunk, role),
                Dependency::Unreadable(why) => return Err(why),
                Dependency::Opened(blob) | Dependency::Perhaps(blob) => {
                    layout.blobs.entry(blob).or_default();
                    continue;
                }
                Dependency::Whole(_) => continue,
            };
            if role == ChunkRole::Content && file.as_ref() != Some(&found.path) {
                if let ItemPath::Entry(_, _, size) = *found.path {
                    let found = of_file(&found.path, size, &chunk);
                    if moves(&found) {
                        layout.moves = (layout.moves.0 + 1, layout.moves.1 + size);
                    }
                }
                file = Some(found.path.clone());
            }
            let in_tree = role != ChunkRole::Attachment;
            if role == ChunkRole::Content && matches!(*found.path, ItemPath::Entry(..)) {
                content.insert(chunk.hash);
                if let (Codec::Patch, [base, ..]) = (chunk.codec, &chunk.bases[..]) {
                    patches.insert(chunk.hash, base.clone());
                }
            }
            for (chunk, role) in with_bases(&chunk, role) {
                let at = (chunk.location.blob, chunk.location.offset);
                let known = seen.entry(at).or_insert((0, false));
                known.1 |= in_tree;
                if known.0 == 0 {
                    known.0 = chunk.stored_len;
                    layout.note(chunk, role);
                }
            }
        }
    }
    layout.patched = (patches.into_values())
        .filter(|base| !content.contains(&base.hash))
        .map(|base| (base.location.blob, u64::from(base.stored_len)))
        .collect();
    layout.patched.sort_unstable();
    let mut ranges: Vec<(BlobId, u64, u64)> = (seen.into_iter())
        .filter(|(_, (_, in_tree))| *in_tree)
        .map(|((blob, offset), (len, _))| (blob, offset, offset + u64::from(len)))
        .collect();
    ranges.sort_unstable();
    layout.tree_bytes = ranges.iter().map(|(_, start, end)| end - start).sum();
    layout.requests = requests(&ranges);
    let blobs: Vec<BlobId> = layout.blobs.keys().copied().collect();
    let lens = futures_util::stream::iter(blobs)
        .map(|blob| async move { Ok::<_, RepoError>((blob, repository.store().len(blob).await?)) })
        .buffered(QUERY_CONCURRENCY);
    let lens: Vec<(BlobId, Option<u64>)> = lens.try_collect().await?;
    for (blob, len) in lens {
        if let Some(held) = layout.blobs.get_mut(&blob) {
            held.len = len.unwrap_or(0).max(held.live);
        }
    }
    Ok(layout)
}

fn of_file<'a>(place: &'a ItemPath, size: u64, first: &ChunkRef) -> MeasuredFile<'a> {
    MeasuredFile {
        place,
        size,
        shrinks: first.codec != Codec::Raw,
        tier: Tier::of(std::slice::from_ref(first)),
    }
}

impl HeadLayout {
    fn note(&mut self, chunk: &ChunkRef, role: ChunkRole) {
        let held = self.blobs.entry(chunk.location.blob).or_default();
        let len = u64::from(chunk.stored_len);
        held.live += len;
        held.plain |= Tier::of(std::slice::from_ref(chunk)) == Tier::Walrus;
        if matches!(role, ChunkRole::Directory | ChunkRole::List) {
            held.nodes += len;
        }
    }
}

/// Counts the requests that read these sorted ranges.
fn requests(ranges: &[(BlobId, u64, u64)]) -> u64 {
    let mut requests = 0;
    let mut last: Option<(BlobId, u64, u64)> = None;
    for &(blob, start, end) in ranges {
        match &mut last {
            Some((of, from, to))
                if *of == blob
                    && start <= *to + MAX_GAP_BYTES
                    && end - *from <= MAX_REQUEST_BYTES =>
            {
                *to = end.max(*to);
            }
            _ => {
                requests += 1;
                last = Some((blob, start, end));
            }
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_ranges_are_one_request_up_to_the_limit() {
        let blob = |n| BlobId::from_bytes([n; 32]);
        assert_eq!(requests(&[]), 0);
        let near = [
            (blob(1), 0, 100),
            (blob(1), 100, 200),
            (blob(1), 4000, 5000),
        ];
        assert_eq!(requests(&near), 1);
        let far = [(blob(1), 0, 100), (blob(1), 10_000, 10_100)];
        assert_eq!(requests(&far), 2);
        assert_eq!(requests(&[(blob(1), 0, 100), (blob(2), 100, 200)]), 2);
        let long: Vec<_> = (0..10).map(|n| (blob(1), n << 20, (n + 1) << 20)).collect();
        assert_eq!(requests(&long), 3);
    }
}
