//! Encodings of stored bytes, and the limits of decoding.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use zstd::bulk::Decompressor;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter};

use super::{ChunkError, ChunkHash, dictionary};

/// Largest zstd window a decoder accepts, as a power of two (8 MiB).
///
/// Bounds the memory a hostile frame can ask for; the encoder never needs more
/// because its chunks are at most a few MiB.
pub const MAX_WINDOW_LOG: u32 = 23;

/// Smallest window of zstd, as a power of two.
const MIN_WINDOW_LOG: u32 = 10;

/// Compression must save at least one part in this many; otherwise, decoding costs more
/// than the saved bytes, and the chunk is stored raw.
const MIN_SAVING: usize = 32;

/// The encoding of a stored chunk. Its number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Uncompressed.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// One zstd frame, compressed with the dictionary that is its only base.
    Dictionary = 2,
    /// One zstd frame whose window begins with the concatenated plain bytes of its bases.
    Patch = 3,
}

impl TryFrom<u8> for Codec {
    type Error = ChunkError;

    fn try_from(byte: u8) -> Result<Self, ChunkError> {
        match byte {
            0 => Ok(Codec::Raw),
            1 => Ok(Codec::Zstd),
            2 => Ok(Codec::Dictionary),
            3 => Ok(Codec::Patch),
            other => Err(ChunkError::UnknownCodec(other)),
        }
    }
}

impl Codec {
    /// Whether decoding requires other chunks.
    pub fn has_bases(self) -> bool {
        matches!(self, Codec::Dictionary | Codec::Patch)
    }

    /// Decodes to exactly `raw_len` bytes, or fails. `bases` are the verified plain bytes
    /// of the bases, and `dictionary` is the hash of the first one. Does not verify the
    /// content.
    pub(super) fn decode(
        self,
        stored: Bytes,
        raw_len: u32,
        bases: &[Bytes],
        dictionary: Option<ChunkHash>,
    ) -> Result<Bytes, ChunkError> {
        let wrong = |why: String| ChunkError::Decode {
            expected: raw_len,
            why,
        };
        // A decoder stops at the declared length and does not touch unused memory:
        // declaring much and delivering little is cheap.
        let len = raw_len as usize;
        if self != Codec::Raw {
            check_frame(&stored, raw_len).map_err(wrong)?;
        }
        let raw = match (self, bases, dictionary) {
            (Codec::Raw, ..) if stored.len() == len => return Ok(stored),
            (Codec::Raw, ..) => {
                return Err(wrong(format!("it is {} bytes, uncompressed", stored.len())));
            }
            (Codec::Zstd, ..) => DECOMPRESSOR.with_borrow_mut(|slot| {
                let decompressor = match slot {
                    Some(ready) => ready,
                    None => slot.insert(decompressor()?),
                };
                decompressor.decompress(&stored, len)
            }),
            (Codec::Dictionary, [base], Some(hash)) => {
                dictionary::decompress(hash, base, &stored, len)
            }
            (Codec::Dictionary, ..) => return Err(ChunkError::Bases(bases.len())),
            (Codec::Patch, [], _) => return Err(ChunkError::Bases(0)),
            (Codec::Patch, [base], _) => apply(base, &stored, len),
            (Codec::Patch, bases, _) => apply(&bases.concat(), &stored, len),
        };
        let raw = raw.map_err(|error| wrong(error.to_string()))?;
        match raw.len() == len {
            true => Ok(Bytes::from(raw)),
            false => Err(wrong(format!("it gives {}", raw.len()))),
        }
    }
}

/// Applies a patch to its base.
fn apply(base: &[u8], stored: &[u8], len: usize) -> std::io::Result<Vec<u8>> {
    let mut context = DCtx::try_create().ok_or(std::io::ErrorKind::OutOfMemory)?;
    let named = |code| std::io::Error::other(zstd_safe::get_error_name(code));
    (context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))).map_err(named)?;
    context.ref_prefix(base).map_err(named)?;
    let mut raw = Vec::with_capacity(len);
    context.decompress(&mut raw, stored).map_err(named)?;
    Ok(raw)
}

thread_local! {
    /// Creating one costs more than decoding a small file.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompressor() -> std::io::Result<Decompressor<'static>> {
    let mut decompressor = Decompressor::new()?;
    decompressor.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
    Ok(decompressor)
}

/// Checks that stored bytes are exactly one frame that does not declare a different
/// length.
fn check_frame(stored: &[u8], raw_len: u32) -> Result<(), String> {
    match zstd_safe::find_frame_compressed_size(stored) {
        Ok(len) if len == stored.len() => {}
        Ok(_) => return Err("bytes follow its frame".into()),
        Err(code) => return Err(zstd_safe::get_error_name(code).into()),
    }
    match zstd_safe::get_frame_content_size(stored) {
        Ok(Some(size)) if size != u64::from(raw_len) => Err(format!("it says {size}")),
        _ => Ok(()),
    }
}

/// Stored bytes and the codec that opens them.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Encoding of `bytes`.
    pub codec: Codec,
    /// The stored bytes.
    pub bytes: Vec<u8>,
}

impl Sealed {
    /// Stores the bytes uncompressed.
    pub fn raw(raw: &[u8]) -> Self {
        Sealed {
            codec: Codec::Raw,
            bytes: raw.to_vec(),
        }
    }
}

/// Whether compressing `raw` bytes to `stored` bytes saves enough.
pub(super) fn pays(stored: usize, raw: usize) -> bool {
    stored + raw / MIN_SAVING < raw
}

/// Compresses `raw` at zstd `level`, or stores it uncompressed if that saves too little.
/// The output is deterministic for a given input, level and zstd version.
pub fn seal(raw: &[u8], level: i32) -> Sealed {
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
        Some(bytes) if pays(bytes.len(), raw.len()) => Sealed {
            codec: Codec::Zstd,
            bytes,
        },
        _ => Sealed::raw(raw),
    }
}

/// Encodes a sequence of patches. Reuses the compression context, because creating one
/// costs more than a short patch. The bases must outlive it.
pub struct Patcher<'b> {
    context: Option<CCtx<'b>>,
}

impl fmt::Debug for Patcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patcher").finish_non_exhaustive()
    }
}

impl<'b> Patcher<'b> {
    /// Creates a patcher and its compression context.
    #[expect(clippy::new_without_default, reason = "it takes memory")]
    pub fn new() -> Self {
        Patcher {
            context: CCtx::try_create(),
        }
    }

    /// Encodes `raw` as a patch against `base`: at most
    /// [`MAX_BASE_BYTES`](super::MAX_BASE_BYTES), several bases being concatenated.
    /// `None` if memory is short. The caller decides whether the patch saves enough,
    /// because only the caller knows the size of the chunk without a patch.
    pub fn seal(&mut self, raw: &[u8], base: &'b [u8], level: i32) -> Option<Sealed> {
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
        Some(Sealed {
            codec: Codec::Patch,
            bytes,
        })
    }
}

/// Encodes `raw` as a patch against the concatenation of `bases`: see [`Patcher::seal`].
pub fn seal_patch(raw: &[u8], bases: &[&[u8]], level: i32) -> Option<Sealed> {
    let joined;
    let base: &[u8] = match bases {
        [base] => base,
        bases => {
            joined = bases.concat();
            &joined
        }
    };
    Patcher::new().seal(raw, base, level)
}
