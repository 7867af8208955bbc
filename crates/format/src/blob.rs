//! The layout of a blob: a fixed header, nodes, data.
//!
//! ```text
//! 0         64                                    m                    end
//! | header  | head | directories, breadth first … | lists | data chunks | 0…
//! ```
//!
//! A reader with only the blob's ID and the head's hash fetches the first [`MIN_BLOB`]
//! bytes, which every blob with a head has. They contain the head, the root directory and
//! as many directories as fit: mount and `ls` take one round trip. Only the header is
//! parsed before it is verified: its fixed fields at fixed offsets locate the head, whose
//! hash is then verified.
//!
//! A blob is built from its end: data first, then nodes from the deepest up, each encoded
//! once the locations of its references are known (see [`Place`]).

use super::encode::EncodeError;
use super::table::{Place, PlacedChunk};
use crate::chunk::{Bases, BlobId, ChunkHash, ChunkRef, Codec, Location, MAX_CHUNK, seal};

/// Length of the header in bytes.
pub const HEADER: usize = 64;

/// Minimum length of a blob with a head; shorter ones are padded with zeros.
///
/// An aggregator rejects (416) a range that ends past the blob, so every such blob must
/// be at least as long as the first read. The network bills 64 MB for any blob, so 64 KiB
/// are negligible.
pub const MIN_BLOB: u64 = 64 << 10;

/// Most bytes of nodes in one blob: the header counts them in 32 bits.
pub const MAX_NODE_BYTES: u64 = u32::MAX as u64;

/// Version of the format; older versions of the program reject newer ones.
pub const VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"WALGITFS";

/// zstd level of nodes. Nodes are mostly hashes, which do not compress, so a higher level
/// only costs time.
const NODE_LEVEL: i32 = 3;

/// The kind of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobKind {
    /// A head, its nodes, data.
    Head,
    /// Nodes that did not fit into the blob of their head.
    Nodes,
    /// Data chunks.
    Data,
}

/// The fixed fields at the start of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Kind of the blob.
    pub kind: BlobKind,
    /// Encoding of the head, which starts at offset [`HEADER`].
    pub head_codec: Codec,
    /// Stored length of the head.
    pub head_stored: u32,
    /// Plain length of the head.
    pub head_raw: u32,
    /// Hash of the head.
    pub head_hash: ChunkHash,
    /// Bytes of nodes after the header, the head included.
    pub node_bytes: u32,
}

/// Why the first bytes of a blob are not a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The magic number is missing.
    #[error("it does not start with WALGITFS")]
    Magic,
    /// A newer version of the format.
    #[error("it is of format version {0}, this walgit-fs reads up to {VERSION}; update it")]
    Version(u16),
    /// A field out of range.
    #[error("its header is damaged")]
    Damaged,
    /// A blob of data or of nodes without a head.
    #[error("it is a part of a repository; mount the address that `publish` printed")]
    NoHead,
}

impl Header {
    /// Decodes the header from the first bytes of a blob.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER] = bytes.first_chunk().ok_or(HeaderError::Magic)?;
        if &bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if u16_at(8) != VERSION {
            return Err(HeaderError::Version(u16_at(8)));
        }
        let kind = match u16_at(10) {
            1 => BlobKind::Head,
            2 => BlobKind::Nodes,
            3 => BlobKind::Data,
            _ => return Err(HeaderError::Damaged),
        };
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[24..56]);
        let header = Header {
            kind,
            head_codec: Codec::try_from(bytes[12]).map_err(|_| HeaderError::Damaged)?,
            head_stored: u32_at(16),
            head_raw: u32_at(20),
            head_hash: ChunkHash::from_bytes(hash),
            node_bytes: u32_at(56),
        };
        if header.head_stored > MAX_CHUNK || header.head_raw > MAX_CHUNK {
            return Err(HeaderError::Damaged);
        }
        Ok(header)
    }

    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let kind: u16 = match self.kind {
            BlobKind::Head => 1,
            BlobKind::Nodes => 2,
            BlobKind::Data => 3,
        };
        bytes[10..12].copy_from_slice(&kind.to_le_bytes());
        bytes[12] = self.head_codec as u8;
        bytes[16..20].copy_from_slice(&self.head_stored.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.head_raw.to_le_bytes());
        bytes[24..56].copy_from_slice(self.head_hash.as_bytes());
        bytes[56..60].copy_from_slice(&self.node_bytes.to_le_bytes());
        bytes
    }

    /// Returns the reference to the head of `blob`, if it has one.
    pub fn head(&self, blob: BlobId) -> Result<ChunkRef, HeaderError> {
        if self.kind != BlobKind::Head {
            return Err(HeaderError::NoHead);
        }
        Ok(ChunkRef {
            hash: self.head_hash,
            raw_len: self.head_raw,
            at: Location {
                blob,
                offset: HEADER as u64,
                stored_len: self.head_stored,
                codec: self.head_codec,
            },
            bases: Bases::NONE,
        })
    }
}

/// Returns the length of a chunk, saturated at `u32::MAX`. Encoding a reference to a
/// chunk over the limit fails.
fn chunk_len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A builder of a blob, which starts at the end of the blob.
#[derive(Clone, Debug, Default)]
pub struct BlobBuilder {
    /// Stored nodes, deepest first.
    nodes: Vec<Vec<u8>>,
    node_bytes: u64,
    data: Vec<u8>,
}

impl BlobBuilder {
    /// Creates an empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the current length of the blob, without padding.
    pub fn len(&self) -> u64 {
        HEADER as u64 + self.node_bytes + self.data.len() as u64
    }

    /// Whether the blob is empty.
    pub fn is_empty(&self) -> bool {
        self.node_bytes == 0 && self.data.is_empty()
    }

    /// Appends stored bytes to the data and returns their location.
    pub fn push_data(&mut self, stored: &[u8]) -> Place {
        let at = self.data.len() as i64;
        self.data.extend_from_slice(stored);
        Place::Here(at)
    }

    /// Returns the end of the next node's stored bytes, which its encoder requires.
    pub fn next_node_end(&self) -> i64 {
        -(self.node_bytes as i64)
    }

    /// Inserts a node before the existing nodes. `raw` must have been encoded with
    /// [`BlobBuilder::next_node_end`].
    pub fn push_node(&mut self, raw: &[u8]) -> PlacedChunk {
        let sealed = seal(raw, NODE_LEVEL);
        self.node_bytes += sealed.bytes.len() as u64;
        let chunk = PlacedChunk {
            hash: ChunkHash::of(raw),
            raw_len: chunk_len(raw),
            stored_len: chunk_len(&sealed.bytes),
            codec: sealed.codec,
            place: Place::Here(self.next_node_end()),
            bases: Bases::NONE,
        };
        self.nodes.push(sealed.bytes);
        chunk
    }

    /// Converts a position (as in [`Place::Here`]) to an offset in the finished blob.
    pub fn offset(&self, here: i64) -> u64 {
        (HEADER as u64 + self.node_bytes).saturating_add_signed(here)
    }

    /// Returns the bytes of nodes.
    pub fn node_bytes(&self) -> u64 {
        self.node_bytes
    }

    /// Finishes a blob without a head.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] over [`MAX_NODE_BYTES`] of nodes.
    pub fn finish(self) -> Result<Vec<u8>, EncodeError> {
        let kind = match self.nodes.is_empty() {
            true => BlobKind::Data,
            false => BlobKind::Nodes,
        };
        let header = Header {
            kind,
            head_codec: Codec::Raw,
            head_stored: 0,
            head_raw: 0,
            head_hash: ChunkHash::from_bytes([0; 32]),
            node_bytes: self.checked_node_bytes()?,
        };
        Ok(self.assemble(header))
    }

    fn checked_node_bytes(&self) -> Result<u32, EncodeError> {
        u32::try_from(self.node_bytes).map_err(|_| EncodeError::TooLong {
            what: "the nodes of a blob",
            len: self.node_bytes,
            most: MAX_NODE_BYTES,
        })
    }

    /// Finishes a blob whose last pushed node is `head`.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] over [`MAX_NODE_BYTES`] of nodes.
    pub fn finish_with_head(self, head: &PlacedChunk) -> Result<Vec<u8>, EncodeError> {
        let header = Header {
            kind: BlobKind::Head,
            head_codec: head.codec,
            head_stored: head.stored_len,
            head_raw: head.raw_len,
            head_hash: head.hash,
            node_bytes: self.checked_node_bytes()?,
        };
        let mut bytes = self.assemble(header);
        bytes.resize(bytes.len().max(MIN_BLOB as usize), 0);
        Ok(bytes)
    }

    fn assemble(self, header: Header) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() as usize);
        bytes.extend_from_slice(&header.encode());
        for node in self.nodes.iter().rev() {
            bytes.extend_from_slice(node);
        }
        bytes.extend_from_slice(&self.data);
        bytes
    }
}
