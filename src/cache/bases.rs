//! What chunks are decoded with is here before they are fetched.
//!
//! A chunk waits for its bases, and they for their dictionary. Each of these
//! steps has its own fetches, so that none ever waits for one of its own kind:
//! two that bring along what the other waits for would wait for ever.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::span::Span;
use super::{Cache, CacheError};
use walgit_format::chunk::{ChunkError, ChunkHash, ChunkRef, Codec, MAX_BASE_BYTES, seal};
use walrus_client::BlobStore;

/// What something is fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To be read.
    Content = 0,
    /// To decode content with.
    Base = 1,
    /// To decode a base with.
    Dictionary = 2,
}

impl Step {
    /// How many there are.
    pub(super) const COUNT: usize = 3;

    fn below(self) -> Self {
        match self {
            Step::Content => Step::Base,
            Step::Base | Step::Dictionary => Step::Dictionary,
        }
    }
}

/// Stored bytes of neighbours that a fetched base brings along: bases of one
/// directory lay next to each other when they were stored.
const BASE_WINDOW: u64 = 64 << 10;
/// Plain bytes of bases held for one fetch beyond those that its first chunk
/// needs: neighbours that need more do not come along.
const BASE_ROOM: u64 = 4 * MAX_BASE_BYTES;
/// zstd level of what is compressed anew to stand alone on disk.
const STANDING_LEVEL: i32 = 3;

/// Plain bytes of bases, by hash.
#[derive(Debug, Default)]
pub(super) struct BaseBytes(HashMap<ChunkHash, Bytes>);

impl BaseBytes {
    /// Opens a chunk whose bases are among these.
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
    /// The bases of a span's chunks, fetched where they are not here. Those
    /// neighbours that would need too much are left out of it.
    ///
    /// # Errors
    /// When a base of the first chunk cannot be had.
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
        table.sort_unstable_by_key(|base| (*base.at.blob.as_bytes(), base.at.offset));
        let gets = (0..table.len())
            .map(|index| self.get_for(store, &table, index, BASE_WINDOW, step.below()));
        let got = join_all(gets).await;
        let needed = &span.chunks[0].bases;
        let mut found = BaseBytes::default();
        for (base, got) in table.iter().zip(got) {
            match got {
                Ok(raw) => _ = found.0.insert(base.hash, raw),
                Err(why) if needed.iter().any(|it| it.hash == base.hash) => return Err(why),
                // A neighbour's: then that does not come along.
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

    /// The bases of a chunk as far as they are at hand.
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

/// A chunk as it is kept on disk: what needs others there could not be opened
/// once they were evicted, so it is compressed anew.
pub(super) fn standing(chunk: ChunkRef, stored: Bytes, raw: &Bytes) -> (ChunkRef, Bytes) {
    if !chunk.at.codec.has_bases() {
        return (chunk, stored);
    }
    let sealed = seal(raw, STANDING_LEVEL);
    let mut alone = ChunkRef::nominal(chunk.at.blob, chunk.hash);
    alone.raw_len = chunk.raw_len;
    alone.at.codec = sealed.codec;
    alone.at.stored_len = sealed.bytes.len() as u32;
    debug_assert!(matches!(alone.at.codec, Codec::Raw | Codec::Zstd));
    (alone, sealed.bytes.into())
}
