//! Stores chunks: deduplicated, as patches if that pays, on all cores.

use std::collections::HashSet;

use bytes::Bytes;
use rayon::prelude::*;

use super::compress::FileCodec;
use super::delta::{PatchBase, RecentChunks};
use super::error::PublishError;
use super::packs::Packs;
use super::pending_chunk::{PendingChunk, chunk_len};
use super::sketch::Sketch;
use walgit_format::chunk::{Bases, ChunkHash, Codec, EncodedChunk, PatchEncoder};

/// A chunk of a file to store.
pub(super) struct RawChunk<'a> {
    raw: Bytes,
    hash: ChunkHash,
    codec: FileCodec<'a>,
    /// Sketch for finding similar content; `None` for a chunk that is stored already or
    /// cannot be a patch.
    sketch: Option<Sketch>,
    /// The previous version.
    pub(super) version: Option<PatchBase>,
}

impl<'a> RawChunk<'a> {
    /// Hashes and sketches a chunk of a file with this codec.
    pub(super) fn new(raw: Bytes, codec: FileCodec<'a>, packs: &Packs) -> Self {
        let hash = ChunkHash::of(&raw);
        let new = packs.find(&hash).is_none() && codec.may_patch(raw.len());
        RawChunk {
            sketch: new.then(|| Sketch::of(&raw)),
            raw,
            hash,
            codec,
            version: None,
        }
    }

    /// Whether a previous version is useful as a base.
    pub(super) fn wants_base(&self) -> bool {
        self.sketch.is_some()
    }

    /// Encodes the chunk, as a patch against `base` if that pays.
    fn encode<'b>(&self, base: Option<&'b PatchBase>, patcher: &mut PatchEncoder<'b>) -> Encoding {
        let (sealed, bases) = match base {
            Some(base) => match self.codec.encode_patch(&self.raw, &base.raw, patcher) {
                Ok(patch) => return Encoding::Patch(patch, base.clone()),
                Err(standalone) => standalone,
            },
            None => self.codec.encode(&self.raw),
        };
        Encoding::Standalone(sealed, bases)
    }
}

/// Stores chunks in order, and retains recent ones as possible bases.
pub(super) struct ChunkWriter<'a> {
    pub(super) packs: &'a mut Packs,
    recent: RecentChunks,
}

/// Encoded form of a chunk.
enum Encoding {
    /// It is stored already, or will be when it is placed.
    Stored,
    Standalone(EncodedChunk, Bases<PendingChunk>),
    Patch(EncodedChunk, PatchBase),
}

impl<'a> ChunkWriter<'a> {
    /// Starts without possible bases.
    pub(super) fn new(packs: &'a mut Packs) -> Self {
        ChunkWriter {
            packs,
            recent: RecentChunks::default(),
        }
    }

    /// Stores new chunks; returns the locations of all.
    pub(super) fn store(
        &mut self,
        chunks: Vec<RawChunk<'_>>,
    ) -> Result<Vec<PendingChunk>, PublishError> {
        let bases = self.choose_bases(&chunks);
        let encodings: Vec<Encoding> = (chunks.par_iter().zip(&bases))
            .map_init(PatchEncoder::new, |patcher, (chunk, base)| match base {
                None => Encoding::Stored,
                Some(base) => chunk.encode(base.as_ref(), patcher),
            })
            .collect();
        let chunks = chunks.into_iter().zip(encodings);
        chunks
            .map(|(chunk, encoding)| self.place(chunk, encoding))
            .collect()
    }

    /// Selects a base for each chunk; `None` for chunks that are not encoded.
    fn choose_bases(&mut self, chunks: &[RawChunk<'_>]) -> Vec<Option<Option<PatchBase>>> {
        let mut seen: HashSet<ChunkHash> = HashSet::new();
        let mut choose = |chunk: &RawChunk<'_>| {
            if self.packs.find(&chunk.hash).is_some() || !seen.insert(chunk.hash) {
                return None;
            }
            let Some(sketch) = &chunk.sketch else {
                return Some(None);
            };
            let similar = || self.recent.most_similar(sketch).cloned();
            let base = chunk.version.clone().or_else(similar);
            if base.is_none() {
                // It will be stored whole, so it can be a base of later chunks.
                (self.recent).add(chunk.hash, chunk.raw.clone(), sketch.clone());
            }
            Some(base)
        };
        chunks.iter().map(&mut choose).collect()
    }

    fn place(
        &mut self,
        chunk: RawChunk<'_>,
        encoding: Encoding,
    ) -> Result<PendingChunk, PublishError> {
        let (sealed, bases) = match encoding {
            Encoding::Stored => {
                let missing = PublishError::Internal("a stored chunk has no location");
                return self.packs.find(&chunk.hash).ok_or(missing);
            }
            Encoding::Standalone(sealed, bases) => {
                if let (Some(sketch), Some(_)) = (chunk.sketch, chunk.version) {
                    (self.recent).add(chunk.hash, chunk.raw.clone(), sketch);
                }
                (sealed, bases)
            }
            Encoding::Patch(sealed, base) => {
                let stored = base.stored.or_else(|| self.packs.find(&base.hash));
                let whole = stored.filter(|base| base.codec != Codec::Patch);
                let missing = PublishError::Internal("the base of a patch is not stored");
                (sealed, Bases::one(whole.ok_or(missing)?))
            }
        };
        let len = chunk_len(chunk.raw.len())?;
        self.packs.add(chunk.hash, len, &sealed, bases)
    }
}
