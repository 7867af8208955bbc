//! Resolution of bases: the chunks that other chunks are decoded with are cached
//! before those chunks are fetched.
//!
//! A chunk waits for its bases, and a base for its dictionary; see
//! [`FetchPurpose`].

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::chunk_cache::{Cache, ChunkRequest, FetchPurpose};
use super::coalesce::CoalescedRange;
use super::error::CacheError;
use walgit_format::chunk::{ChunkError, ChunkHash, ChunkRef, Codec, MAX_BASE_BYTES, encode_chunk};
use walrus_client::BlobStore;

/// Window for neighbours of a fetched base, in stored bytes: bases of one directory
/// were adjacent when they were stored.
const BASE_WINDOW_BYTES: u64 = 64 << 10;
/// Maximum plain bytes of bases held for one fetch, including those of its first
/// chunk. Neighbours that need more are left out.
const MAX_FETCH_BASE_BYTES: u64 = 5 * MAX_BASE_BYTES;
/// zstd level for chunks that are recompressed without bases for the disk cache.
const STANDALONE_LEVEL: i32 = 3;

/// Plain bytes of bases, by hash.
#[derive(Debug, Default)]
pub(super) struct BaseBytes(HashMap<ChunkHash, Bytes>);

impl FromIterator<(ChunkHash, Bytes)> for BaseBytes {
    fn from_iter<I: IntoIterator<Item = (ChunkHash, Bytes)>>(bases: I) -> Self {
        BaseBytes(bases.into_iter().collect())
    }
}

impl BaseBytes {
    /// Decodes a chunk with these bases.
    pub(super) fn open(&self, chunk: &ChunkRef, stored: Bytes) -> Result<Bytes, ChunkError> {
        let found = chunk.bases.iter().map_while(|base| self.0.get(&base.hash));
        let found: Vec<Bytes> = found.cloned().collect();
        chunk.open(stored, &found)
    }
}

impl Cache {
    /// Returns the bases of the chunks of a range, fetching those that are not cached.
    /// Removes neighbours from the range whose bases exceed the limit.
    ///
    /// # Errors
    /// If a base of the first chunk is not available.
    pub(super) async fn fetch_bases(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        read: &mut CoalescedRange,
        purpose: FetchPurpose,
    ) -> Result<BaseBytes, CacheError> {
        let mut budget = MAX_FETCH_BASE_BYTES;
        let mut wanted: HashMap<ChunkHash, ChunkRef> = HashMap::new();
        let mut is_first = true;
        read.chunks.retain(|chunk| {
            let new: Vec<&ChunkRef> = (chunk.bases.iter())
                .filter(|base| !wanted.contains_key(&base.hash))
                .collect();
            let bytes: u64 = new.iter().map(|base| u64::from(base.raw_len)).sum();
            let fits = std::mem::take(&mut is_first) || bytes <= budget;
            if fits {
                budget = budget.saturating_sub(bytes);
                wanted.extend(new.into_iter().map(|base| (base.hash, base.clone())));
            }
            fits
        });
        if wanted.is_empty() {
            return Ok(BaseBytes::default());
        }
        let mut table: Vec<ChunkRef> = wanted.into_values().collect();
        table.sort_unstable_by_key(|base| (*base.location.blob.as_bytes(), base.location.offset));
        let purpose = match purpose {
            FetchPurpose::Content => FetchPurpose::Base,
            FetchPurpose::Base | FetchPurpose::Dictionary => FetchPurpose::Dictionary,
        };
        let gets = (0..table.len()).map(|index| {
            self.get_for(ChunkRequest {
                store,
                table: &table,
                index,
                window: BASE_WINDOW_BYTES,
                purpose,
            })
        });
        let results = join_all(gets).await;
        let needed = &read.chunks[0].bases;
        let mut found = BaseBytes::default();
        for (base, result) in table.iter().zip(results) {
            match result {
                Ok(raw) => _ = found.0.insert(base.hash, raw),
                Err(error) if needed.iter().any(|it| it.hash == base.hash) => return Err(error),
                // A base of a neighbour: leave that neighbour out.
                Err(_) => {}
            }
        }
        (read.chunks)
            .retain(|chunk| (chunk.bases.iter()).all(|base| found.0.contains_key(&base.hash)));
        Ok(found)
    }
}

/// Returns a chunk in its form on disk. A chunk with bases could not be decoded
/// after their eviction, so it is recompressed without them.
pub(super) fn recompress_standalone(
    chunk: ChunkRef,
    stored: Bytes,
    raw: &Bytes,
) -> (ChunkRef, Bytes) {
    if !chunk.codec.has_bases() {
        return (chunk, stored);
    }
    let sealed = encode_chunk(raw, STANDALONE_LEVEL);
    let mut standalone = ChunkRef::nominal(chunk.location.blob, chunk.hash);
    standalone.raw_len = chunk.raw_len;
    standalone.codec = sealed.codec;
    standalone.stored_len = sealed.bytes.len() as u32;
    debug_assert!(matches!(sealed.codec, Codec::Raw | Codec::Zstd));
    (standalone, sealed.bytes.into())
}
