//! Where things lie while not all blobs have their IDs yet.

use super::PublishError;
use walgit_format::chunk::{Bases, BlobId, ChunkHash, ChunkRef, Codec, MAX_CHUNK};
use walgit_format::{EncodeError, PlacedChunk};

/// A chunk of data and where it lies.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) hash: ChunkHash,
    pub(super) raw_len: u32,
    pub(super) stored_len: u32,
    pub(super) codec: Codec,
    pub(super) spot: Spot,
    /// What it is decoded with.
    pub(super) bases: Bases<Placed>,
}

/// Where a chunk lies while IDs of packs are not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// In a pack of this publish; offset from the start of its data.
    Pack { pack: usize, at: i64 },
    /// In a blob of an earlier one.
    Blob(BlobId, u64),
}

impl Placed {
    pub(super) fn known(chunk: &ChunkRef) -> Self {
        Placed {
            hash: chunk.hash,
            raw_len: chunk.raw_len,
            stored_len: chunk.at.stored_len,
            codec: chunk.at.codec,
            spot: Spot::Blob(chunk.at.blob, chunk.at.offset),
            bases: chunk
                .bases
                .iter()
                .map(Placed::known)
                .collect::<Vec<_>>()
                .into(),
        }
    }
}

/// The length of a chunk.
///
/// # Errors
/// [`PublishError::Encode`] for one that no reader accepts.
pub(super) fn chunk_len(len: usize) -> Result<u32, PublishError> {
    let fits = u32::try_from(len).ok().filter(|len| *len <= MAX_CHUNK);
    fits.ok_or(PublishError::Encode {
        what: "a chunk",
        why: EncodeError::TooLong {
            what: "it",
            len: len as u64,
            most: MAX_CHUNK.into(),
        },
    })
}

/// Something that can be referred to, while the blob it is in may still be
/// open: `Blobs::place` tells where it is by now.
#[derive(Clone)]
pub(super) enum Stored {
    /// Content in a pack, or stored before.
    Data(Placed),
    /// Made here: in the blob of nodes with this number.
    Made(PlacedChunk, usize),
    /// Stored before.
    Old(PlacedChunk),
}

/// A directory that is stored.
#[derive(Clone, Debug)]
pub(super) struct KnownDirectory {
    /// Its node.
    pub(super) node: ChunkRef,
    /// How many nodes it holds, itself included.
    pub(super) nodes: u64,
    /// Bytes of content in it.
    pub(super) bytes: u64,
}
