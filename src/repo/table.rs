//! The chunk table at the front of every node: which chunks it refers to and
//! where they lie.
//!
//! A node cannot name the blob it lies in, because a blob's ID is a hash of
//! its content. So a location is written either as (another blob, offset) or
//! as *distance from the end of the node's own stored bytes* within the same
//! blob. Everything a node refers to in its own blob lies after it, so a blob
//! is laid out from its end, once, with no offset ever revised; and the same
//! node bytes mean the same in whichever blob they lie, once the reader knows
//! by which reference it came to them.

use super::malformed::MalformedNode;
use super::wire::{Reader, Write};
use crate::chunk::{BlobId, ByteRange, ChunkHash, ChunkRef, Codec, Location, MAX_CHUNK};

/// A chunk as the one who writes a node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlacedChunk {
    /// BLAKE3-256 of its plain bytes.
    pub hash: ChunkHash,
    /// Length of its plain bytes.
    pub raw_len: u32,
    /// How many bytes are stored.
    pub stored_len: u32,
    /// How they are encoded.
    pub codec: Codec,
    /// Where they are.
    pub place: Place,
}

/// Where a chunk lies, seen from a blob that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the blob being written, at this distance from the end of its
    /// metadata: negative for nodes, zero or more for data.
    Here(i64),
    /// In a finished blob, at this offset.
    There(BlobId, u64),
}

impl From<ChunkRef> for PlacedChunk {
    fn from(chunk: ChunkRef) -> Self {
        PlacedChunk {
            hash: chunk.hash,
            raw_len: chunk.raw_len,
            stored_len: chunk.at.stored_len,
            codec: chunk.at.codec,
            place: Place::There(chunk.at.blob, chunk.at.offset),
        }
    }
}

/// Least bytes a table entry takes: codec, blob, offset, length, hash.
const LEAST_ENTRY: usize = 4 + 32;

/// Where a node lies, which is what its relative locations start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    blob: BlobId,
    end: u64,
}

impl Origin {
    /// The origin of the node that `reference` leads to.
    pub(super) fn of(reference: &ChunkRef) -> Self {
        Origin {
            blob: reference.at.blob,
            end: reference.at.range().end(),
        }
    }
}

/// Reads the table of a node that lies at `origin`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    origin: Origin,
) -> Result<Vec<ChunkRef>, MalformedNode> {
    let blob_count = reader.count(32)?;
    let mut blobs = Vec::with_capacity(blob_count);
    for _ in 0..blob_count {
        blobs.push(BlobId::from_bytes(reader.array()?));
    }
    let count = reader.count(LEAST_ENTRY)?;
    let mut chunks = Vec::with_capacity(count);
    let mut follows = ByteRange::new(0, 0);
    for _ in 0..count {
        let codec = Codec::try_from(reader.byte()?)?;
        let blob = reader.uint()?;
        let step = reader.sint()?;
        let offset = follows
            .end()
            .checked_add_signed(step)
            .ok_or(MalformedNode::Location)?;
        let stored_len = reader.uint32()?;
        let raw_len = match codec {
            Codec::Raw => stored_len,
            Codec::Zstd => reader.uint32()?,
        };
        if raw_len > MAX_CHUNK || stored_len > MAX_CHUNK {
            return Err(crate::chunk::ChunkError::TooLarge(raw_len.max(stored_len)).into());
        }
        let hash = ChunkHash::from_bytes(reader.array()?);
        follows = ByteRange::new(offset, u64::from(stored_len));
        let (blob, offset) = match usize::try_from(blob).ok() {
            Some(0) => (
                origin.blob,
                offset
                    .checked_add(origin.end)
                    .ok_or(MalformedNode::Location)?,
            ),
            Some(index) if index <= blobs.len() => (blobs[index - 1], offset),
            _ => return Err(MalformedNode::Index(blob)),
        };
        if offset.checked_add(u64::from(stored_len)).is_none() {
            return Err(MalformedNode::Location);
        }
        chunks.push(ChunkRef {
            hash,
            raw_len,
            at: Location {
                blob,
                offset,
                stored_len,
                codec,
            },
        });
    }
    Ok(chunks)
}

/// Writes the table of a node whose stored bytes will end at `end` (as in
/// [`Place::Here`]).
pub(super) fn write(out: &mut Vec<u8>, chunks: &[PlacedChunk], end: i64) {
    let mut blobs: Vec<BlobId> = Vec::new();
    let numbers: Vec<(u64, u64)> = chunks
        .iter()
        .map(|chunk| match chunk.place {
            // Laid out from the end, what is referred to lies after the node.
            Place::Here(at) => (0, at.saturating_sub(end).max(0) as u64),
            Place::There(blob, offset) => {
                let known = blobs.iter().rposition(|&b| b == blob);
                let index = known.unwrap_or_else(|| {
                    blobs.push(blob);
                    blobs.len() - 1
                });
                (index as u64 + 1, offset)
            }
        })
        .collect();
    out.uint(blobs.len() as u64);
    for blob in &blobs {
        out.extend_from_slice(blob.as_bytes());
    }
    out.uint(chunks.len() as u64);
    let mut follows = 0u64;
    for (chunk, (blob, offset)) in chunks.iter().zip(numbers) {
        out.push(chunk.codec as u8);
        out.uint(blob);
        out.sint(offset.wrapping_sub(follows) as i64);
        out.uint(u64::from(chunk.stored_len));
        if chunk.codec != Codec::Raw {
            out.uint(u64::from(chunk.raw_len));
        }
        out.extend_from_slice(chunk.hash.as_bytes());
        follows = offset + u64::from(chunk.stored_len);
    }
}
