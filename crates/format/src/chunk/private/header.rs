//! The header of a sealed blob, and the layout of its blocks.

use crate::chunk::range::ByteRange;
use crate::chunk::secret::TAG_LEN;

/// Plain bytes per block.
///
/// Reading one byte fetches and opens a whole block; its tag of 16 bytes adds a
/// thousandth. Part of the format.
pub const BLOCK_LEN: u64 = 16 << 10;
/// Length of the header in bytes.
pub const PRIVATE_HEADER_LEN: usize = 80;
/// Magic number of a sealed blob.
pub const PRIVATE_MAGIC: &[u8; 8] = b"WGSEALED";

/// Version of this layout; older versions of the program reject newer ones.
pub(super) const VERSION: u16 = 1;
/// Stored bytes per block.
pub(super) const SEALED_BLOCK_LEN: usize = BLOCK_LEN as usize + TAG_LEN;
/// Fields of the header before key check and checksum.
pub(super) const FIELDS_LEN: usize = 48;
pub(super) const CHECK_LEN: usize = 16;

/// Why the blob of a private repository cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateError {
    /// Not a sealed blob.
    #[error("the blob is not encrypted (no WGSEALED at the start)")]
    NotPrivate,
    /// A newer version of the format.
    #[error(
        "the encryption has version {0}, and this walgit-fs reads up to {VERSION}; update walgit-fs"
    )]
    Version(u16),
    /// Its header or its length is damaged.
    #[error("the encrypted blob is damaged")]
    Damaged,
    /// No key is given.
    #[error(
        "the repository is encrypted; pass its key with --key FILE, or store it with walgit-fs key add NAME FILE"
    )]
    NoKey,
    /// The blob is intact, but sealed with another key.
    #[error(
        "the repository is encrypted with a different key; pass it with --key FILE, or store it with walgit-fs key add NAME FILE"
    )]
    WrongKey,
    /// A block that is damaged.
    #[error("encrypted block {0} is damaged")]
    Block(u32),
    /// More bytes than a blob can hold.
    #[error("{0} bytes are more than one encrypted blob holds")]
    TooLong(u64),
}

/// Whether bytes are the start of a sealed blob.
pub fn is_private(bytes: &[u8]) -> bool {
    bytes.starts_with(PRIVATE_MAGIC)
}

/// Returns the stored length of `plain` bytes; `None` if a blob cannot hold them.
pub fn private_len(plain: u64) -> Option<u64> {
    let blocks = u32::try_from(plain.div_ceil(BLOCK_LEN).max(1)).ok()?;
    Some(PRIVATE_HEADER_LEN as u64 + u64::from(blocks) * SEALED_BLOCK_LEN as u64)
}

/// Returns how many plain bytes fit into `stored` bytes.
pub fn private_capacity(stored: u64) -> u64 {
    stored.saturating_sub(PRIVATE_HEADER_LEN as u64) / SEALED_BLOCK_LEN as u64 * BLOCK_LEN
}

/// The header of a sealed blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateHeader {
    pub(super) blocks: u32,
    pub(super) salt: [u8; 32],
    pub(super) check: [u8; CHECK_LEN],
}

impl PrivateHeader {
    /// Decodes the header from the first bytes of a blob.
    ///
    /// # Errors
    /// [`PrivateError`]. A valid header does not authenticate its author: see
    /// [`PrivateKeys::unlock`](super::PrivateKeys::unlock).
    pub fn decode(bytes: &[u8]) -> Result<Self, PrivateError> {
        if !is_private(bytes) {
            return Err(PrivateError::NotPrivate);
        }
        let bytes: &[u8; PRIVATE_HEADER_LEN] = bytes.first_chunk().ok_or(PrivateError::Damaged)?;
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(PrivateError::Version(version));
        }
        let (mut salt, mut check) = ([0; 32], [0; CHECK_LEN]);
        salt.copy_from_slice(&bytes[16..FIELDS_LEN]);
        check.copy_from_slice(&bytes[FIELDS_LEN..FIELDS_LEN + CHECK_LEN]);
        let header = PrivateHeader {
            blocks: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            salt,
            check,
        };
        // Compares the checksum as well: a header has exactly one encoding.
        if header.encode() != *bytes || header.blocks == 0 {
            return Err(PrivateError::Damaged);
        }
        Ok(header)
    }

    /// Returns the number of blocks; at least one.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the stored length of the blob, in bytes.
    pub fn stored_len(&self) -> u64 {
        PRIVATE_HEADER_LEN as u64 + u64::from(self.blocks) * SEALED_BLOCK_LEN as u64
    }

    pub(super) fn fields(&self) -> [u8; FIELDS_LEN] {
        let mut bytes = [0; FIELDS_LEN];
        bytes[..8].copy_from_slice(PRIVATE_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[16..].copy_from_slice(&self.salt);
        bytes
    }

    pub(super) fn encode(&self) -> [u8; PRIVATE_HEADER_LEN] {
        let mut bytes = [0; PRIVATE_HEADER_LEN];
        bytes[..FIELDS_LEN].copy_from_slice(&self.fields());
        bytes[FIELDS_LEN..FIELDS_LEN + CHECK_LEN].copy_from_slice(&self.check);
        let sum = blake3::hash(&bytes[..FIELDS_LEN + CHECK_LEN]);
        bytes[FIELDS_LEN + CHECK_LEN..].copy_from_slice(&sum.as_bytes()[..CHECK_LEN]);
        bytes
    }
}

/// A run of blocks that contains a range of plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Number of the first block.
    pub first: u32,
    /// Number of blocks; at least one.
    pub count: u32,
}

impl Blocks {
    /// Returns the blocks that contain `range`; `None` if no blob can have all of them.
    pub fn holding(range: ByteRange) -> Option<Self> {
        let first = range.start() / BLOCK_LEN;
        let end = range.end().div_ceil(BLOCK_LEN).max(first + 1);
        Some(Blocks {
            first: u32::try_from(first).ok()?,
            count: u32::try_from(end).ok()?.checked_sub(first as u32)?,
        })
    }

    /// Returns the number of the block after the last.
    pub fn end(&self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }

    /// Returns their range in the stored blob.
    pub fn stored(&self) -> ByteRange {
        let start = PRIVATE_HEADER_LEN as u64 + u64::from(self.first) * SEALED_BLOCK_LEN as u64;
        ByteRange::new(start, u64::from(self.count) * SEALED_BLOCK_LEN as u64)
    }

    /// Returns `range` relative to the plain bytes of these blocks.
    pub fn within(&self, range: ByteRange) -> std::ops::Range<usize> {
        let start = (range.start() - u64::from(self.first) * BLOCK_LEN) as usize;
        start..start + range.len() as usize
    }
}
