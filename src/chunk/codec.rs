//! How stored bytes are encoded, and the bounds within which they are decoded.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;

use super::ChunkError;

/// Largest zstd window a decoder accepts, as a power of two (8 MiB).
///
/// Bounds the memory a hostile frame can ask for; the encoder never needs more
/// because its chunks are at most a few MiB.
pub const MAX_WINDOW_LOG: u32 = 23;

/// A chunk is stored compressed only when that saves at least one part in
/// this many: below, decoding would cost more than the bytes saved.
const MIN_SAVING: usize = 32;

/// The encoding of a stored chunk. Its number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl TryFrom<u8> for Codec {
    type Error = ChunkError;

    fn try_from(byte: u8) -> Result<Self, ChunkError> {
        match byte {
            0 => Ok(Codec::Raw),
            1 => Ok(Codec::Zstd),
            other => Err(ChunkError::UnknownCodec(other)),
        }
    }
}

impl Codec {
    /// Decodes to exactly `raw_len` bytes, or fails. Does not verify content.
    pub(super) fn decode(self, stored: Bytes, raw_len: u32) -> Result<Bytes, ChunkError> {
        let wrong = |why: String| ChunkError::Decode {
            expected: raw_len,
            why,
        };
        match self {
            Codec::Raw if stored.len() == raw_len as usize => Ok(stored),
            Codec::Raw => Err(wrong(format!("it is {} bytes, uncompressed", stored.len()))),
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(&stored[..])
                    .map_err(|e| wrong(e.to_string()))?
                    .single_frame();
                decoder
                    .window_log_max(MAX_WINDOW_LOG)
                    .map_err(|e| wrong(e.to_string()))?;
                let mut raw = Vec::new();
                // One byte over the declared length is enough to know it lies.
                // The buffer grows with what really comes out, so a reference
                // that declares much and delivers little costs little.
                raw.reserve_exact((raw_len as usize).min(stored.len().saturating_mul(64)));
                (&mut decoder)
                    .take(u64::from(raw_len) + 1)
                    .read_to_end(&mut raw)
                    .map_err(|e| wrong(e.to_string()))?;
                if raw.len() != raw_len as usize {
                    return Err(wrong(format!("it gives {} or more", raw.len())));
                }
                if !decoder.finish().is_empty() {
                    return Err(wrong("bytes follow its frame".into()));
                }
                Ok(Bytes::from(raw))
            }
        }
    }
}

/// Stored bytes and the codec that opens them.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// How `bytes` are encoded.
    pub codec: Codec,
    /// What is to be stored.
    pub bytes: Vec<u8>,
}

/// Encodes `raw` at zstd `level`, or leaves it as it is where that would not
/// pay. The same input, level and version of zstd give the same bytes.
pub fn seal(raw: &[u8], level: i32) -> Sealed {
    thread_local! {
        static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    }
    let compressed = COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(l, _)| *l != level) {
            *slot = zstd::bulk::Compressor::new(level).ok().map(|c| (level, c));
        }
        // Compression fails only for want of memory; then the chunk is stored
        // as it is, which is always right.
        slot.as_mut().and_then(|(_, c)| c.compress(raw).ok())
    });
    match compressed {
        Some(bytes) if bytes.len() + raw.len() / MIN_SAVING < raw.len() => Sealed {
            codec: Codec::Zstd,
            bytes,
        },
        _ => Sealed {
            codec: Codec::Raw,
            bytes: raw.to_vec(),
        },
    }
}
