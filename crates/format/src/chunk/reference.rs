//! References to chunks: what identifies a chunk, and where it is stored.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use super::codec::{ChunkError, Codec, EncodedChunk, MAX_CHUNK};
use super::decode::decode;
use super::range::ByteRange;
use crate::id::{BlobId, ChunkHash};

/// Most bases of one chunk.
pub const MAX_BASES: usize = 64;
/// Most plain bytes of all bases of one chunk.
///
/// Together with [`MAX_DATA_CHUNK`](super::MAX_DATA_CHUNK) it bounds what a hostile reference can make a reader
/// fetch and hold for one read.
pub const MAX_BASE_BYTES: u64 = 4 << 20;

/// A chunk, stored at a location of type `L`.
///
/// The hash is authoritative, the location a hint: a wrong location makes a chunk
/// unreadable, never wrong. The same applies to its bases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk<L> {
    /// BLAKE3-256 of the plain bytes.
    pub hash: ChunkHash,
    /// Length of the plain bytes.
    pub raw_len: u32,
    /// Number of stored bytes.
    pub stored_len: u32,
    /// Encoding of the stored bytes.
    pub codec: Codec,
    /// Location of the stored bytes.
    pub location: L,
    /// The dictionary or patch bases required to decode it.
    pub bases: Bases<Self>,
}

/// A chunk in a finished blob.
pub type ChunkRef = Chunk<Location>;
/// A chunk in a node to be encoded.
pub type PlannedChunk = Chunk<PlannedLocation>;

/// A position in a finished blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The blob.
    pub blob: BlobId,
    /// Offset of the first byte in the blob.
    pub offset: u64,
}

/// A position relative to a blob that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlannedLocation {
    /// In the blob being written, at this distance from the end of its metadata: negative
    /// for nodes, zero or more for data.
    Local(i64),
    /// In a finished blob.
    External(Location),
}

/// The chunks required to decode a chunk, in order: a dictionary, or the bases of a
/// patch. Most chunks have none; the chunks of a directory share theirs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Bases<T = ChunkRef>(Option<Arc<[T]>>);

impl<L> Chunk<L> {
    /// Creates a reference to a chunk of `len` bytes that is stored uncompressed.
    pub fn raw(hash: ChunkHash, len: u32, location: L) -> Self {
        Chunk {
            hash,
            raw_len: len,
            stored_len: len,
            codec: Codec::Raw,
            location,
            bases: Bases::NONE,
        }
    }

    /// Creates a reference to the chunk with the plain bytes `raw`, stored as `encoded`. A
    /// length over the limit saturates, so that encoding the reference fails.
    pub fn encoded(raw: &[u8], encoded: &EncodedChunk, location: L) -> Self {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Chunk {
            stored_len: len(&encoded.bytes),
            codec: encoded.codec,
            ..Chunk::raw(ChunkHash::of(raw), len(raw), location)
        }
    }

    /// Converts the locations of the chunk and of its bases.
    pub fn map_location<M>(&self, convert: &impl Fn(&L) -> M) -> Chunk<M> {
        let bases = self.bases.iter().map(|base| base.map_location(convert));
        Chunk {
            hash: self.hash,
            raw_len: self.raw_len,
            stored_len: self.stored_len,
            codec: self.codec,
            location: convert(&self.location),
            bases: bases.collect(),
        }
    }
}

impl ChunkRef {
    /// Creates a reference that only identifies a node made in memory; nothing is stored
    /// at its location.
    pub fn nominal(blob: BlobId, hash: ChunkHash) -> Self {
        Chunk::raw(hash, 0, Location { blob, offset: 0 })
    }

    /// Creates a reference to decode a node that is not stored yet. References into the
    /// node's own blob then start at offset 0.
    pub fn nominal_node(raw: &[u8]) -> Self {
        ChunkRef::nominal(BlobId::from_bytes([0; 32]), ChunkHash::of(raw))
    }

    /// Returns the range of the stored bytes in the blob.
    pub fn range(&self) -> ByteRange {
        ByteRange::new(self.location.offset, u64::from(self.stored_len))
    }

    /// Decodes stored bytes and verifies the plain ones.
    ///
    /// `raw_len` (at most [`MAX_CHUNK`]) and [`MAX_BASE_BYTES`] bound time and memory,
    /// whatever `stored` contains. `bases` are the plain bytes of the chunk's bases, each
    /// opened by this function.
    ///
    /// # Errors
    /// When the stored length differs from the declared one, the bytes do not decompress
    /// to exactly `raw_len` bytes, the hash differs, or the number of `bases` is wrong.
    pub fn open(&self, stored: Bytes, bases: &[Bytes]) -> Result<Bytes, ChunkError> {
        if self.raw_len > MAX_CHUNK {
            return Err(ChunkError::TooLarge(self.raw_len));
        }
        if stored.len() as u64 != u64::from(self.stored_len) {
            return Err(ChunkError::StoredLength {
                expected: self.stored_len,
                found: stored.len(),
            });
        }
        if bases.len() != self.bases.len() {
            return Err(ChunkError::Bases(bases.len()));
        }
        let dictionary = self.bases.first().map(|base| base.hash);
        let raw = decode(self.codec, stored, self.raw_len, bases, dictionary)?;
        let found = ChunkHash::of(&raw);
        if found != self.hash {
            return Err(ChunkError::Hash {
                expected: self.hash,
                found,
            });
        }
        Ok(raw)
    }
}

impl From<&ChunkRef> for PlannedChunk {
    fn from(chunk: &ChunkRef) -> Self {
        chunk.map_location(&|location| PlannedLocation::External(*location))
    }
}

impl<T> Bases<T> {
    /// No bases: the chunk decodes without others.
    pub const NONE: Self = Bases(None);

    /// Returns bases with one element.
    pub fn one(base: T) -> Self {
        Bases(Some(Arc::new([base])))
    }
}

impl<T> FromIterator<T> for Bases<T> {
    fn from_iter<I: IntoIterator<Item = T>>(bases: I) -> Self {
        bases.into_iter().collect::<Vec<_>>().into()
    }
}

impl<T> From<Vec<T>> for Bases<T> {
    fn from(bases: Vec<T>) -> Self {
        Bases((!bases.is_empty()).then(|| bases.into()))
    }
}

// Derived, it would require `T: Clone`.
impl<T> Clone for Bases<T> {
    fn clone(&self) -> Self {
        Bases(self.0.clone())
    }
}

impl<T> Deref for Bases<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}
