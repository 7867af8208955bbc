//! Requests that fetch missing chunks.

use std::collections::HashSet;

use crate::cache::{MAX_GAP_BYTES, PrefetchGoal};
use crate::repo::{PendingFetch, Snapshot};
use walgit_format::chunk::{ChunkRef, Codec};

/// Returns the chunks that are not in the cache.
pub(super) fn missing(
    snapshot: &Snapshot,
    chunks: impl IntoIterator<Item = ChunkRef>,
) -> Vec<ChunkRef> {
    let chunks = chunks.into_iter();
    chunks
        .filter(|chunk| !snapshot.cache().contains(&chunk.hash))
        .collect()
}

/// Starts to fetch missing chunks in storage order, in requests of up to `length`
/// bytes. Must be called within a runtime.
///
/// Missing bases share requests with the chunks that are not patches, and precede
/// the patches; otherwise each patch would request its own base.
pub(super) fn begin(snapshot: &Snapshot, missing: &[ChunkRef], length: u64) -> Vec<PendingFetch> {
    let is_patch = |chunk: &&ChunkRef| chunk.codec == Codec::Patch;
    let (patches, plain): (Vec<_>, Vec<_>) = missing.iter().partition(is_patch);
    if patches.is_empty() {
        return run(snapshot, missing, length, PrefetchGoal::Read);
    }
    let bases = patches.iter().flat_map(|patch| patch.bases.iter());
    let bases = bases.filter(|base| !snapshot.cache().contains(&base.hash));
    let mut plain: Vec<ChunkRef> = plain.into_iter().chain(bases).cloned().collect();
    plain.sort_unstable_by_key(|chunk| (chunk.location.blob, chunk.location.offset));
    plain.dedup_by_key(|chunk| chunk.hash);
    let patches: Vec<ChunkRef> = patches.into_iter().cloned().collect();
    let mut started = run(snapshot, &plain, length, PrefetchGoal::Base);
    started.extend(run(snapshot, &patches, length, PrefetchGoal::Read));
    started
}

/// Starts the requests one by one, skipping chunks that an earlier one delivers.
fn run(
    snapshot: &Snapshot,
    missing: &[ChunkRef],
    length: u64,
    goal: PrefetchGoal,
) -> Vec<PendingFetch> {
    let mut started = Vec::new();
    let mut at = 0;
    while at < missing.len() {
        let fetch = snapshot.begin_chunks(missing, at, length, goal);
        at += 1;
        let Some(fetch) = fetch else {
            continue;
        };
        // A joined fetch may deliver fewer chunks than a new one would.
        let delivered: HashSet<_> = fetch.chunks().iter().collect();
        while missing
            .get(at)
            .is_some_and(|next| delivered.contains(&next.hash))
        {
            at += 1;
        }
        started.push(fetch);
    }
    started
}

/// Returns the index at which each request for `chunks` starts. `chunks` are in
/// storage order; each request has up to `length` bytes.
pub(super) fn starts(chunks: &[ChunkRef], length: u64) -> Vec<usize> {
    let mut starts: Vec<usize> = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let follows = starts.last().is_some_and(|&first| {
            let (first, before) = (&chunks[first].location, &chunks[at - 1]);
            let end = chunk.range().end();
            first.blob == chunk.location.blob
                && chunk.location.offset.saturating_sub(before.range().end()) <= MAX_GAP_BYTES
                && end - first.offset <= length
        });
        if !follows {
            starts.push(at);
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use walgit_format::chunk::{BlobId, ChunkHash, Location};

    fn chunk(blob: u8, offset: u64, stored_len: u32) -> ChunkRef {
        ChunkRef::raw(
            ChunkHash::of(&offset.to_le_bytes()),
            stored_len,
            Location {
                blob: BlobId::from_bytes([blob; 32]),
                offset,
            },
        )
    }

    const REQUEST_BYTES: u64 = 1 << 20;

    #[test]
    fn neighbours_share_a_request_up_to_its_length() {
        let near = [chunk(1, 0, 100), chunk(1, 100, 100), chunk(1, 300, 50)];
        assert_eq!(starts(&near, REQUEST_BYTES), [0]);
        let far = [
            chunk(1, 0, 100),
            chunk(1, 100_000, 100),
            chunk(2, 100_100, 1),
        ];
        assert_eq!(starts(&far, REQUEST_BYTES), [0, 1, 2]);
        let long: Vec<_> = (0..5).map(|n| chunk(1, n * 400_000, 400_000)).collect();
        assert_eq!(starts(&long, REQUEST_BYTES), [0, 2, 4]);
        assert!(starts(&[], REQUEST_BYTES).is_empty());
    }
}
