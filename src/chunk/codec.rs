//! How stored bytes are encoded, and the bounds within which they are decoded.

use std::cell::RefCell;

use bytes::Bytes;
use zstd::bulk::Decompressor;
use zstd::zstd_safe::{self, DParameter};

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
                check_frame(&stored, raw_len).map_err(wrong)?;
                let raw = DECOMPRESSOR.with_borrow_mut(|slot| {
                    let decompressor = match slot {
                        Some(ready) => ready,
                        None => slot.insert(decompressor()?),
                    };
                    // It stops where the room ends, and room it does not use is
                    // never touched: who declares much and delivers little
                    // costs little.
                    decompressor.decompress(&stored, raw_len as usize)
                });
                let raw = raw.map_err(|error| wrong(error.to_string()))?;
                match raw.len() == raw_len as usize {
                    true => Ok(Bytes::from(raw)),
                    false => Err(wrong(format!("it gives {}", raw.len()))),
                }
            }
        }
    }
}

thread_local! {
    /// Making one costs more than decoding a small file with it.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompressor() -> std::io::Result<Decompressor<'static>> {
    let mut decompressor = Decompressor::new()?;
    decompressor.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
    Ok(decompressor)
}

/// Whether stored bytes are one frame and nothing else, which does not say by
/// itself that it is of another length.
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
