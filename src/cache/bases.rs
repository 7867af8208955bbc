//! Resolution of bases: the chunks that other chunks are decoded with are cached
//! before those chunks are fetched.
//!
//! A chunk waits for its bases, and a base for its dictionary. Each of these steps
//! has separate flights, so that no flight waits for another of the same step: two
//! flights that each deliver what the other needs would deadlock.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::span::Span;
use super::{Cache, CacheError};
use walgit_format::chunk::{ChunkError, ChunkHash, ChunkRef, Codec, MAX_BASE_BYTES, seal};
use walrus_client::BlobStore;

/// Purpose of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To be read.
    Content = 0,
    /// To decode content.
    Base = 1,
    /// To decode a base.
    Dictionary = 2,
}

impl Step {
    /// Number of steps.
    pub(super) const COUNT: usize = 3;

    fn below(self) -> Self {
        match self {
            Step::Content => Step::Base,
            Step::Base | Step::Dictionary => Step::Dictionary,
        }
    }
}

/// Window for neighbours of a fetched base, in stored bytes: bases of one directory
/// were adjacent when they were stored.
const BASE_WINDOW: u64 = 64 << 10;
/// Maximum plain bytes of bases held for one fetch, in addition to those of its
/// first chunk. Neighbours that need more are left out.
const BASE_ROOM: u64 = 4 * MAX_BASE_BYTES;
/// zstd level for chunks that are recompressed without bases for the disk cache.
const STANDING_LEVEL: i32 = 3;

/// Plain bytes of bases, by hash.
#[derive(Debug, Default)]
pub(super) struct BaseBytes(HashMap<ChunkHash, Bytes>);

impl BaseBytes {
    /// Decodes a chunk with these bases.
    pub(super) fn open(&self, chunk: &ChunkRef, stored: Bytes) -> Result<Bytes, ChunkError> {
        if chunk.bases.is_empty() {
            return chunk.open(stored, &[]);
        }
        let found = chunk.bases.iter().map_while(|base| self.0.get(&base.hash));
        let found: Vec<Bytes> = found.cloned().collect();
        chunk.open(stored, &found)
    }
}

impl Cache {
    /// Returns the bases of a span's chunks, fetching those that are not cached.
    /// Removes neighbours from the span whose bases exceed the limit.
    ///
    /// # Errors
    /// If a base of the first chunk is not available.
    pub(super) async fn bases(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        span: &mut Span,
        step: Step,
    ) -> Result<BaseBytes, CacheError> {
        let mut room = BASE_ROOM + MAX_BASE_BYTES;
        let mut wanted: HashMap<ChunkHash, ChunkRef> = HashMap::new();
        let mut demanded = true;
        span.chunks.retain(|chunk| {
            let new: Vec<&ChunkRef> = (chunk.bases.iter())
                .filter(|base| !wanted.contains_key(&base.hash))
                .collect();
            let bytes: u64 = new.iter().map(|base| u64::from(base.raw_len)).sum();
            let fits = std::mem::take(&mut demanded) || bytes <= room;
            if fits {
                room = room.saturating_sub(bytes);
                wanted.extend(new.into_iter().map(|base| (base.hash, base.clone())));
            }
            fits
        });
        if wanted.is_empty() {
            return Ok(BaseBytes::default());
        }
        let mut table: Vec<ChunkRef> = wanted.into_values().collect();
        table.sort_unstable_by_key(|base| (*base.location.blob.as_bytes(), base.location.offset));
        let gets = (0..table.len())
            .map(|index| self.get_for(store, &table, index, BASE_WINDOW, step.below()));
        let got = join_all(gets).await;
        let needed = &span.chunks[0].bases;
        let mut found = BaseBytes::default();
        for (base, got) in table.iter().zip(got) {
            match got {
                Ok(raw) => _ = found.0.insert(base.hash, raw),
                Err(why) if needed.iter().any(|it| it.hash == base.hash) => return Err(why),
                // A base of a neighbour: leave that neighbour out.
                Err(_) => {}
            }
        }
        span.chunks.retain(|chunk| {
            chunk
                .bases
                .iter()
                .all(|base| found.0.contains_key(&base.hash))
        });
        Ok(found)
    }

    /// Returns the cached bases of a chunk.
    pub(super) fn bases_here(
        &self,
        chunk: &ChunkRef,
        at_rest: Option<&walgit_format::chunk::SecretKey>,
    ) -> BaseBytes {
        let here = chunk.bases.iter().filter_map(|base| {
            let raw = self.local(base, at_rest)?;
            Some((base.hash, raw))
        });
        BaseBytes(here.collect())
    }
}

/// Returns a chunk in its form on disk. A chunk with bases could not be decoded
/// after their eviction, so it is recompressed without them.
pub(super) fn standing(chunk: ChunkRef, stored: Bytes, raw: &Bytes) -> (ChunkRef, Bytes) {
    if !chunk.codec.has_bases() {
        return (chunk, stored);
    }
    let sealed = seal(raw, STANDING_LEVEL);
    let mut alone = ChunkRef::nominal(chunk.location.blob, chunk.hash);
    alone.raw_len = chunk.raw_len;
    alone.codec = sealed.codec;
    alone.stored_len = sealed.bytes.len() as u32;
    debug_assert!(matches!(alone.codec, Codec::Raw | Codec::Zstd));
    (alone, sealed.bytes.into())
}
