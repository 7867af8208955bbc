//! Locations of content before all blobs have IDs.

use super::PublishError;
use walgit_format::chunk::{Bases, BlobId, ChunkHash, ChunkRef, Codec, MAX_CHUNK};
use walgit_format::{EncodeError, PlacedChunk};

/// A data chunk and its location.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) hash: ChunkHash,
    pub(super) raw_len: u32,
    pub(super) stored_len: u32,
    pub(super) codec: Codec,
    pub(super) spot: Spot,
    /// The bases for decoding.
    pub(super) bases: Bases<Placed>,
}

/// Location of a chunk before the IDs of packs are known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// In a pack of this publish, at an offset from the start of its data.
    Pack { pack: usize, at: i64 },
    /// In a blob of an earlier publish.
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

/// Checks and converts the length of a chunk.
///
/// # Errors
/// [`PublishError::Encode`] if it exceeds the limit of readers.
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

/// An item to refer to, whose blob may still be open: `Blobs::place` returns its present
/// location.
#[derive(Clone)]
pub(super) enum Stored {
    /// Content in a pack, or stored earlier.
    Data(Placed),
    /// Written by this publish, in the node blob with this number.
    Made(PlacedChunk, usize),
    /// Stored earlier.
    Old(PlacedChunk),
}

/// A stored directory.
#[derive(Clone, Debug)]
pub(super) struct KnownDirectory {
    /// Its node.
    pub(super) node: ChunkRef,
    /// Number of nodes below it, including itself.
    pub(super) nodes: u64,
    /// Total bytes of its content.
    pub(super) bytes: u64,
}
