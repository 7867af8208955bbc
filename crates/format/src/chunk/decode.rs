//! Decoding of stored bytes.

use std::cell::RefCell;

use bytes::Bytes;
use zstd::bulk::Decompressor;
use zstd::zstd_safe::{self, DCtx, DParameter};

use super::codec::{ChunkError, Codec, MAX_WINDOW_LOG};
use super::dictionary;
use crate::id::ChunkHash;

/// Decodes to exactly `raw_len` bytes, or fails. `bases` are the verified plain bytes
/// of the bases, and `dictionary` is the hash of the first one. Does not verify the
/// content.
pub(super) fn decode(
    codec: Codec,
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
    if codec != Codec::Raw {
        check_frame(&stored, raw_len).map_err(wrong)?;
    }
    let raw = match (codec, bases, dictionary) {
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
        (Codec::Dictionary, [base], Some(hash)) => dictionary::decompress(hash, base, &stored, len),
        (Codec::Dictionary, ..) => return Err(ChunkError::Bases(bases.len())),
        (Codec::Patch, [], _) => return Err(ChunkError::Bases(0)),
        (Codec::Patch, [base], _) => apply(base, &stored, len),
        (Codec::Patch, bases, _) => apply(&bases.concat(), &stored, len),
    };
    let raw = raw.map_err(|error| wrong(error.to_string()))?;
    if raw.len() == len {
        Ok(Bytes::from(raw))
    } else {
        Err(wrong(format!("it gives {}", raw.len())))
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
