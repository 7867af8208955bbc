//! Locations of content before all blobs have IDs.

use super::error::PublishError;
use walgit_format::EncodeError;
use walgit_format::chunk::{Chunk, ChunkRef, Location, MAX_CHUNK};

/// A chunk whose blob may not have an ID yet.
pub(super) type PendingChunk = Chunk<PendingLocation>;

/// Location of a chunk before the IDs of packs are known.
#[derive(Clone, Copy, Debug)]
pub(super) enum PendingLocation {
    /// In a pack of this publish, relative to the end of its metadata.
    Pack { pack: usize, at: i64 },
    /// In a blob of an earlier publish.
    Stored(Location),
}

/// A stored directory, with the data that its parent records.
#[derive(Clone, Debug)]
pub(super) struct StoredDirectory {
    /// Its node.
    pub(super) node: PendingChunk,
    /// Number of nodes below it, including itself.
    pub(super) nodes: u64,
    /// Total bytes of its content.
    pub(super) bytes: u64,
}

/// Returns the reference to a chunk of an earlier publish.
pub(super) fn stored(chunk: &ChunkRef) -> PendingChunk {
    chunk.map_location(&|location| PendingLocation::Stored(*location))
}

/// Checks and converts the length of a chunk.
///
/// # Errors
/// [`PublishError::Encode`] if it exceeds the limit of readers.
pub(super) fn chunk_len(len: usize) -> Result<u32, PublishError> {
    let fits = u32::try_from(len).ok().filter(|len| *len <= MAX_CHUNK);
    let too_long = EncodeError::TooLong {
        what: "it",
        len: len as u64,
        limit: MAX_CHUNK.into(),
    };
    fits.ok_or(PublishError::Encode("a chunk", too_long))
}
