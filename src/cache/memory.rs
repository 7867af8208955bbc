//! Plain chunks in memory, within a byte budget.
//!
//! The library's policy (similar to S3-FIFO) keeps reused entries when a scan reads
//! everything once.

use bytes::Bytes;
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use walgit_format::chunk::{ChunkHash, ChunkRef, Codec};

/// Overhead of an entry in bytes: key, hash table, `Bytes` itself.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// Divisor of the budget for the largest cached chunk: a larger one would evict
/// everything else.
const MAX_CHUNK_DIVISOR: u64 = 8;

/// Part of the budget for reused entries. The rest is for new entries, and must
/// hold a whole read-ahead window until it is read.
const HOT_FRACTION: f64 = 0.5;

#[derive(Clone)]
struct ByBytes;

impl Weighter<ChunkHash, Bytes> for ByBytes {
    fn weight(&self, _: &ChunkHash, raw: &Bytes) -> u64 {
        ENTRY_OVERHEAD_BYTES + raw.len() as u64
    }
}

pub(super) struct Memory {
    chunks: quick_cache::sync::Cache<ChunkHash, Bytes, ByBytes>,
    budget: u64,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("entries", &self.chunks.len())
            .finish_non_exhaustive()
    }
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        // The hint sizes tables and the list of recently evicted keys.
        let items = (budget / 8192).clamp(64, 1 << 16) as usize;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(budget)
            .hot_allocation(HOT_FRACTION)
            .build();
        let chunks = match options {
            Ok(options) => quick_cache::sync::Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            Err(_) => quick_cache::sync::Cache::with_weighter(items, budget, ByBytes),
        };
        Memory { chunks, budget }
    }

    pub(super) fn get(&self, hash: &ChunkHash) -> Option<Bytes> {
        self.chunks.get(hash)
    }

    pub(super) fn contains(&self, hash: &ChunkHash) -> bool {
        self.chunks.peek(hash).is_some()
    }

    /// Removes and returns a chunk.
    pub(super) fn take(&self, hash: &ChunkHash) -> Option<Bytes> {
        self.chunks.remove(hash).map(|(_, raw)| raw)
    }

    /// Returns whether a chunk of `len` plain bytes is accepted.
    pub(super) fn accepts(&self, len: u64) -> bool {
        len <= self.budget / MAX_CHUNK_DIVISOR
    }

    pub(super) fn insert(&self, hash: ChunkHash, raw: Bytes) {
        if self.accepts(raw.len() as u64) {
            self.chunks.insert(hash, raw);
        }
    }

    /// Number of chunks and their plain bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let entries = self.chunks.len() as u64;
        let overhead = entries * ENTRY_OVERHEAD_BYTES;
        (entries, self.chunks.weight().saturating_sub(overhead))
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    pub(super) fn clear(&self) {
        self.chunks.clear();
    }
}

/// Copies plain bytes if they are a slice of the response, so that an uncompressed
/// chunk does not keep the whole response in memory.
pub(super) fn detach(chunk: &ChunkRef, raw: Bytes) -> Bytes {
    match chunk.codec {
        Codec::Raw => Bytes::copy_from_slice(&raw),
        Codec::Zstd | Codec::Dictionary | Codec::Patch => raw,
    }
}
