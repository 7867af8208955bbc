//! Locations of content before all blobs have IDs.

use super::PublishError;
use walgit_format::EncodeError;
use walgit_format::chunk::{Chunk, ChunkRef, Location, MAX_CHUNK, PlannedChunk};

/// A data chunk and its location.
pub(super) type Placed = Chunk<Spot>;

/// Location of a chunk before the IDs of packs are known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// In a pack of this publish, at an offset from the start of its data.
    Pack { pack: usize, at: i64 },
    /// In a blob of an earlier publish.
    Blob(Location),
}

/// Returns the reference to a chunk of an earlier publish.
pub(super) fn known(chunk: &ChunkRef) -> Placed {
    chunk.map_location(&|location| Spot::Blob(*location))
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
    Made(PlannedChunk, usize),
    /// Stored earlier.
    Old(PlannedChunk),
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
