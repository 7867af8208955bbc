//! Coalescing of reads: selection of the neighbours that are fetched with a chunk.
//!
//! Chunks of one directory are adjacent in a pack, in the order in which `tar` and
//! `grep -r` read them. A slightly longer ranged read costs a few milliseconds and
//! saves whole round trips.

use super::limits::MAX_GAP_BYTES;
use walgit_format::chunk::{ByteRange, ChunkHash, ChunkRef};

/// Maximum number of table entries to search for neighbours; bounds the work of a
/// miss in a huge directory.
const MAX_EXAMINED_CHUNKS: usize = 1024;

/// Maximum plain bytes of neighbours per stored byte of the window: several times
/// the ratio of legitimate chunks. Without it, highly compressed chunks could add
/// gigabytes.
const MAX_PLAIN_RATIO: u64 = 8;
/// Plain bytes that neighbours may always have, however small the window is.
const MIN_PLAIN_BYTES: u64 = 1 << 20;

/// A range of one blob and the chunks in it: the requested one first, then
/// neighbours by offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoalescedRange {
    pub(super) range: ByteRange,
    pub(super) chunks: Vec<ChunkRef>,
}

impl CoalescedRange {
    /// Bytes in memory after arrival: stored or plain, whichever is larger.
    pub(super) fn weight(&self) -> u64 {
        let plain = self.chunks.iter().map(|chunk| u64::from(chunk.raw_len));
        plain.sum::<u64>().max(self.range.len())
    }
}

/// Returns the range to fetch for `table[index]`: at most `window` stored bytes
/// unless the chunk itself is larger. Skips chunks that are cached.
pub(super) fn coalesce(
    table: &[ChunkRef],
    index: usize,
    window: u64,
    is_cached: impl Fn(&ChunkHash) -> bool,
) -> CoalescedRange {
    let requested = &table[index];
    let mut range = requested.range();
    let mut chunks = vec![requested.clone()];
    let mut plain = MIN_PLAIN_BYTES.max(window.saturating_mul(MAX_PLAIN_RATIO));
    for next in table[index + 1..].iter().take(MAX_EXAMINED_CHUNKS) {
        // A duplicate of an earlier chunk is elsewhere; its successors may still be
        // adjacent.
        if next.location.blob != requested.location.blob || next.location.offset < range.end() {
            continue;
        }
        let end = next.range().end();
        if next.location.offset - range.end() > MAX_GAP_BYTES || end - range.start() > window {
            break;
        }
        if is_cached(&next.hash) {
            continue;
        }
        let Some(rest) = plain.checked_sub(u64::from(next.raw_len)) else {
            break;
        };
        plain = rest;
        range = ByteRange::new(range.start(), end - range.start());
        chunks.push(next.clone());
    }
    CoalescedRange { range, chunks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walgit_format::chunk::{BlobId, Location};

    fn table(lens: &[u32]) -> Vec<ChunkRef> {
        let mut offset = 64;
        (lens.iter().enumerate())
            .map(|(i, &len)| {
                let blob = BlobId::from_bytes([1; 32]);
                let location = Location { blob, offset };
                offset += u64::from(len);
                ChunkRef::raw(ChunkHash::of(&[i as u8]), len, location)
            })
            .collect()
    }

    #[test]
    fn neighbours_are_included_up_to_the_window() {
        let table = table(&[100, 100, 100, 100]);
        let read = coalesce(&table, 1, 200, |_| false);
        assert_eq!(read.range, ByteRange::new(164, 200));
        assert_eq!(read.chunks, table[1..3]);
    }

    #[test]
    fn neighbours_that_decompress_to_much_are_excluded() {
        let mut table = table(&[100, 100, 100]);
        table[1].raw_len = 512 << 10;
        table[2].raw_len = (512 << 10) + 1;
        let read = coalesce(&table, 0, 300, |_| false);
        assert_eq!(read.chunks, table[..2]);
        assert_eq!(read.weight(), (512 << 10) + 100);
    }

    #[test]
    fn without_a_window_a_chunk_is_fetched_alone() {
        let table = table(&[100, 100]);
        assert_eq!(coalesce(&table, 0, 0, |_| false).chunks, table[..1]);
    }

    #[test]
    fn cached_neighbours_are_skipped_and_large_gaps_end_the_range() {
        let near = table(&[10, 4000, 10]);
        let is_cached = |hash: &ChunkHash| *hash == near[1].hash;
        assert_eq!(
            coalesce(&near, 0, 1 << 20, is_cached).chunks,
            [near[0].clone(), near[2].clone()]
        );
        let far = table(&[10, 5000, 10]);
        let is_cached = |hash: &ChunkHash| *hash == far[1].hash;
        assert_eq!(coalesce(&far, 0, 1 << 20, is_cached).chunks, far[..1]);
    }

    #[test]
    fn other_blobs_and_earlier_duplicates_are_skipped() {
        let mut table = table(&[10, 10, 10, 10]);
        table[2].location.blob = BlobId::from_bytes([2; 32]);
        table[1].location.offset = 0;
        assert_eq!(
            coalesce(&table, 0, 1 << 20, |_| false).chunks,
            [table[0].clone(), table[3].clone()]
        );
    }
}
