//! Encoding of chunks: zstd, alone or as a patch.

use std::cell::RefCell;
use std::fmt;

use zstd::zstd_safe::{self, CCtx, CParameter};

use super::codec::{Codec, EncodedChunk, MAX_WINDOW_LOG, pays};

/// Smallest window of zstd, as a power of two.
const MIN_WINDOW_LOG: u32 = 10;

/// Compresses `raw` at zstd `level`, or stores it uncompressed if that saves too little.
/// The output is deterministic for a given input, level and zstd version.
pub fn encode_chunk(raw: &[u8], level: i32) -> EncodedChunk {
    thread_local! {
        static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    }
    let compressed = COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(l, _)| *l != level) {
            *slot = zstd::bulk::Compressor::new(level).ok().map(|c| (level, c));
        }
        // Compression only fails if memory is short; storing the chunk raw is always
        // valid.
        slot.as_mut().and_then(|(_, c)| c.compress(raw).ok())
    });
    match compressed {
        Some(bytes) if pays(bytes.len(), raw.len()) => EncodedChunk {
            codec: Codec::Zstd,
            bytes,
        },
        _ => EncodedChunk::raw(raw),
    }
}

/// Encodes a sequence of patches. Reuses the compression context, because creating one
/// costs more than a short patch. The bases must outlive it.
pub struct PatchEncoder<'b> {
    context: Option<CCtx<'b>>,
}

impl fmt::Debug for PatchEncoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatchEncoder").finish_non_exhaustive()
    }
}

impl<'b> PatchEncoder<'b> {
    /// Creates a patcher and its compression context.
    #[expect(clippy::new_without_default, reason = "it takes memory")]
    pub fn new() -> Self {
        PatchEncoder {
            context: CCtx::try_create(),
        }
    }

    /// Encodes `raw` as a patch against `base`: at most
    /// [`MAX_BASE_BYTES`](super::MAX_BASE_BYTES), several bases being concatenated.
    /// `None` if memory is short. The caller decides whether the patch saves enough,
    /// because only the caller knows the size of the chunk without a patch.
    pub fn encode(&mut self, raw: &[u8], base: &'b [u8], level: i32) -> Option<EncodedChunk> {
        let context = self.context.as_mut()?;
        let window = (base.len() + raw.len()).next_power_of_two().ilog2();
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::WindowLog(window.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG)),
        ] {
            context.set_parameter(parameter).ok()?;
        }
        // Applies to this frame only.
        context.ref_prefix(base).ok()?;
        let mut bytes = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
        context.compress2(&mut bytes, raw).ok()?;
        bytes.shrink_to_fit();
        Some(EncodedChunk {
            codec: Codec::Patch,
            bytes,
        })
    }
}

/// Encodes `raw` as a patch against the concatenation of `bases`: see [`PatchEncoder::encode`].
pub fn encode_patch(raw: &[u8], bases: &[&[u8]], level: i32) -> Option<EncodedChunk> {
    let joined;
    let base: &[u8] = match bases {
        [base] => base,
        bases => {
            joined = bases.concat();
            &joined
        }
    };
    PatchEncoder::new().encode(raw, base, level)
}
