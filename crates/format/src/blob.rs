//! The layout of a blob: a fixed header, nodes, data.
//!
//! ```text
//! 0         64                                    m                    end
//! | header  | head | directories, breadth first … | lists | data chunks | 0…
//! ```
//!
//! A reader with only the blob's ID and the head's hash fetches the first [`MIN_BLOB_LEN`]
//! bytes, which every blob with a head has. They contain the head, the root directory and
//! as many directories as fit: mount and `ls` take one round trip. Only the header is
//! parsed before it is verified: its fixed fields at fixed offsets locate the head, whose
//! hash is then verified.
//!
//! A blob is built from its end: data first, then nodes from the deepest up, each encoded
//! once the locations of its references are known (see [`PlannedLocation`]).

use super::encode::{EncodeError, check_len};
use crate::chunk::{
    Bases, BlobId, Chunk, ChunkHash, ChunkRef, Codec, Location, MAX_CHUNK, PlannedChunk,
    PlannedLocation, encode_chunk,
};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 64;

/// Minimum length of a blob with a head; shorter ones are padded with zeros.
///
/// An aggregator rejects (416) a range that ends past the blob, so every such blob must
/// be at least as long as the first read. The network bills 64 MB for any blob, so 64 KiB
/// are negligible.
pub const MIN_BLOB_LEN: u64 = 64 << 10;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Kind of the blob.
    pub kind: BlobKind,
    /// The head, which starts at offset [`HEADER_LEN`].
    pub head: Chunk<()>,
    /// Bytes of nodes after the header, the head included.
    pub node_bytes: u32,
}

/// Why the first bytes of a blob are not a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The magic number is missing.
    #[error("the blob does not start with WALGITFS")]
    Magic,
    /// A newer version of the format.
    #[error(
        "the blob has format version {0}, and this walgit-fs reads up to {VERSION}; update walgit-fs"
    )]
    Version(u16),
    /// A field out of range.
    #[error("the header of the blob is damaged")]
    Damaged,
    /// A blob of data or of nodes without a head.
    #[error("the blob is a part of a repository; mount the address that `publish` printed")]
    NoHead,
}

impl Header {
    /// Decodes the header from the first bytes of a blob.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(HeaderError::Magic)?;
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
            head: Chunk {
                hash: ChunkHash::from_bytes(hash),
                raw_len: u32_at(20),
                stored_len: u32_at(16),
                codec: Codec::try_from(bytes[12]).map_err(|_| HeaderError::Damaged)?,
                location: (),
                // Nodes are never patches.
                bases: Bases::NONE,
            },
            node_bytes: u32_at(56),
        };
        if header.head.stored_len.max(header.head.raw_len) > MAX_CHUNK {
            return Err(HeaderError::Damaged);
        }
        Ok(header)
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let kind: u16 = match self.kind {
            BlobKind::Head => 1,
            BlobKind::Nodes => 2,
            BlobKind::Data => 3,
        };
        bytes[10..12].copy_from_slice(&kind.to_le_bytes());
        bytes[12] = self.head.codec as u8;
        bytes[16..20].copy_from_slice(&self.head.stored_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.head.raw_len.to_le_bytes());
        bytes[24..56].copy_from_slice(self.head.hash.as_bytes());
        bytes[56..60].copy_from_slice(&self.node_bytes.to_le_bytes());
        bytes
    }

    /// Returns the reference to the head of `blob`, if it has one.
    pub fn head(&self, blob: BlobId) -> Result<ChunkRef, HeaderError> {
        if self.kind != BlobKind::Head {
            return Err(HeaderError::NoHead);
        }
        let offset = HEADER_LEN as u64;
        Ok(self.head.map_location(&|()| Location { blob, offset }))
    }
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
        HEADER_LEN as u64 + self.node_bytes + self.data.len() as u64
    }

    /// Whether the blob is empty.
    pub fn is_empty(&self) -> bool {
        self.node_bytes == 0 && self.data.is_empty()
    }

    /// Appends stored bytes to the data and returns their location.
    pub fn push_data(&mut self, stored: &[u8]) -> PlannedLocation {
        let at = self.data.len() as i64;
        self.data.extend_from_slice(stored);
        PlannedLocation::Local(at)
    }

    /// Returns the end of the next node's stored bytes, which its encoder requires.
    pub fn next_node_end(&self) -> i64 {
        -(self.node_bytes as i64)
    }

    /// Inserts a node before the existing nodes. `raw` must have been encoded with
    /// [`BlobBuilder::next_node_end`].
    pub fn push_node(&mut self, raw: &[u8]) -> PlannedChunk {
        let sealed = encode_chunk(raw, NODE_LEVEL);
        self.node_bytes += sealed.bytes.len() as u64;
        let location = PlannedLocation::Local(self.next_node_end());
        let chunk = Chunk::encoded(raw, &sealed, location);
        self.nodes.push(sealed.bytes);
        chunk
    }

    /// Converts a position (as in [`PlannedLocation::Local`]) to an offset in the finished
    /// blob.
    pub fn offset(&self, here: i64) -> u64 {
        (HEADER_LEN as u64 + self.node_bytes).saturating_add_signed(here)
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
        let kind = if self.nodes.is_empty() {
            BlobKind::Data
        } else {
            BlobKind::Nodes
        };
        let no_head = Chunk::raw(ChunkHash::from_bytes([0; 32]), 0, ());
        self.assemble(kind, no_head)
    }

    /// Finishes a blob whose last pushed node is `head`.
    pub fn finish_with_head(self, head: &PlannedChunk) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = self.assemble(BlobKind::Head, head.map_location(&|_| ()))?;
        bytes.resize(bytes.len().max(MIN_BLOB_LEN as usize), 0);
        Ok(bytes)
    }

    fn assemble(self, kind: BlobKind, head: Chunk<()>) -> Result<Vec<u8>, EncodeError> {
        check_len(
            "the nodes of a blob",
            self.node_bytes as usize,
            MAX_NODE_BYTES as usize,
        )?;
        let header = Header {
            kind,
            head,
            node_bytes: self.node_bytes as u32,
        };
        let mut bytes = Vec::with_capacity(self.len() as usize);
        bytes.extend_from_slice(&header.encode());
        for node in self.nodes.iter().rev() {
            bytes.extend_from_slice(node);
        }
        bytes.extend_from_slice(&self.data);
        Ok(bytes)
    }
}
