//! Content-defined chunking: an insertion does not move later cuts.

use std::io::{self, Read};

use bytes::Bytes;
use fastcdc::v2020::{Error, FastCDC, StreamCDC};

use walgit_format::chunk::MAX_DATA_CHUNK;

/// Bounds of the size of a chunk, in bytes.
const MIN_CHUNK_BYTES: usize = 64 << 10;
const AVERAGE_CHUNK_BYTES: usize = 256 << 10;
const MAX_CHUNK: usize = MAX_DATA_CHUNK as usize;

/// Splits content in memory; content of at most [`MAX_CHUNK`] bytes is a single chunk.
pub(super) fn split(raw: &Bytes) -> Vec<Bytes> {
    if raw.len() <= MAX_CHUNK {
        return vec![raw.clone()];
    }
    FastCDC::new(raw, MIN_CHUNK_BYTES, AVERAGE_CHUNK_BYTES, MAX_CHUNK)
        .map(|chunk| raw.slice(chunk.offset..chunk.offset + chunk.length))
        .collect()
}

/// Splits content while reading it.
pub(super) fn split_stream(input: impl Read) -> impl Iterator<Item = io::Result<Bytes>> {
    let chunks = StreamCDC::new(input, MIN_CHUNK_BYTES, AVERAGE_CHUNK_BYTES, MAX_CHUNK);
    chunks.map(|chunk| match chunk {
        Ok(chunk) => Ok(chunk.data.into()),
        Err(Error::IoError(error)) => Err(error),
        Err(other) => Err(io::Error::other(other.to_string())),
    })
}
