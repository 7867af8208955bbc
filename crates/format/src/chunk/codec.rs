//! Encodings of stored bytes, and the limits of decoding.

use crate::id::ChunkHash;

/// Largest plain size of a chunk of file content, in bytes.
///
/// A file up to this size is one chunk, so reading one byte fetches all of it; larger
/// files are split into chunks of about a quarter of this size. Part of the format: a
/// reader may reject larger chunks.
pub const MAX_DATA_CHUNK: u32 = 1 << 20;
/// Largest plain size of any chunk, directory nodes included, in bytes.
///
/// A limit for decoders, not a format choice: it bounds what a hostile reference can make
/// a reader allocate. A directory of 500,000 entries stays below it.
pub const MAX_CHUNK: u32 = 64 << 20;
/// Largest zstd window a decoder accepts, as a power of two (8 MiB).
///
/// Bounds the memory a hostile frame can ask for; the encoder never needs more
/// because its chunks are at most a few MiB.
pub const MAX_WINDOW_LOG: u32 = 23;
/// Compression must save at least one part in this many; otherwise, decoding costs more
/// than the saved bytes, and the chunk is stored raw.
const MIN_SAVING: usize = 32;

/// The encoding of a stored chunk. Its number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Uncompressed.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// One zstd frame, compressed with the dictionary that is its only base.
    Dictionary = 2,
    /// One zstd frame whose window begins with the concatenated plain bytes of its bases.
    Patch = 3,
}

impl TryFrom<u8> for Codec {
    type Error = ChunkError;

    fn try_from(byte: u8) -> Result<Self, ChunkError> {
        match byte {
            0 => Ok(Codec::Raw),
            1 => Ok(Codec::Zstd),
            2 => Ok(Codec::Dictionary),
            3 => Ok(Codec::Patch),
            other => Err(ChunkError::UnknownCodec(other)),
        }
    }
}

impl Codec {
    /// Whether decoding requires other chunks.
    pub fn has_bases(self) -> bool {
        matches!(self, Codec::Dictionary | Codec::Patch)
    }
}

/// Stored bytes and the codec that opens them.
#[derive(Clone, Debug)]
pub struct EncodedChunk {
    /// Encoding of `bytes`.
    pub codec: Codec,
    /// The stored bytes.
    pub bytes: Vec<u8>,
}

impl EncodedChunk {
    /// Stores the bytes uncompressed.
    pub fn raw(raw: &[u8]) -> Self {
        EncodedChunk {
            codec: Codec::Raw,
            bytes: raw.to_vec(),
        }
    }
}

/// Whether compressing `raw` bytes to `stored` bytes saves enough.
pub(super) fn pays(stored: usize, raw: usize) -> bool {
    stored + raw / MIN_SAVING < raw
}

/// Why stored bytes are not the expected chunk.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ChunkError {
    /// The declared size is over [`MAX_CHUNK`].
    #[error("chunk declares {0} bytes, more than the {MAX_CHUNK} a reader accepts")]
    TooLarge(u32),
    /// Fewer or more bytes than the reference declares.
    #[error("chunk has {found} stored bytes where its reference says {expected}")]
    StoredLength {
        /// Declared by the reference.
        expected: u32,
        /// Received.
        found: usize,
    },
    /// The bytes do not decompress, or not to the declared length.
    #[error("chunk does not decompress to its declared {expected} bytes: {why}")]
    Decode {
        /// Declared plain length.
        expected: u32,
        /// Error of the decoder.
        why: String,
    },
    /// The bytes decompress to different content.
    #[error("chunk hashes to {found} where {expected} was expected")]
    Hash {
        /// The expected hash.
        expected: ChunkHash,
        /// The hash of the received content.
        found: ChunkHash,
    },
    /// Wrong number of bases.
    #[error("chunk has {0} bases, which does not match its codec")]
    Bases(usize),
    /// A codec that this version does not support.
    #[error(
        "chunk uses codec {0}, which this version of walgit-fs does not support; update walgit-fs"
    )]
    UnknownCodec(u8),
}
