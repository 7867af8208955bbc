//! Layout of a quilt: its limits, its index, and the IDs of its members.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::blob_id::{COLUMNS, ROWS};
use walgit_format::chunk::BlobId;

/// Most members of a quilt: one column each, in addition to one for the index.
pub const MAX_MEMBERS: usize = COLUMNS - 1;
/// Most columns of the index (a limit of the network).
pub(super) const INDEX_COLUMNS: u64 = 10;
/// Longest index that a reader accepts, in bytes. The index of a full quilt with long
/// names takes a tenth of it; decoded, it takes several times its length in memory.
pub(super) const MAX_INDEX_LEN: usize = 4 << 20;
/// Most tags of a member that a reader accepts.
pub(super) const MAX_TAGS: usize = 4096;
/// Version of this encoding.
pub(super) const VERSION: u8 = 1;
/// Bytes before the index: version and length.
pub(super) const INDEX_HEADER_LEN: usize = 5;
/// Bytes before a member's identifier: version, length and mask.
pub(super) const MEMBER_HEADER_LEN: usize = 6;
/// Mask bit: the member has tags.
pub(super) const HAS_TAGS: u8 = 1;

/// Tags to find a member by, in addition to its identifier.
pub type Tags = BTreeMap<String, String>;

/// Why bytes are not a quilt, or files cannot form one.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages name the fields.
pub enum QuiltError {
    #[error("a quilt needs at least one file")]
    Empty,
    #[error("{0} files are more than a quilt can hold ({MAX_MEMBERS})")]
    TooMany(usize),
    /// An identifier is empty, too long, ends with a space or has control characters.
    #[error("`{0}` cannot be the identifier of a file in a quilt")]
    Identifier(String),
    #[error("two files have the identifier `{0}`")]
    Duplicate(String),
    #[error("{0} of the quilt is too large for the encoding")]
    TooLarge(&'static str),
    #[error("not a quilt: {0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file in a quilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name within the quilt.
    pub identifier: String,
    /// Its tags.
    pub tags: Tags,
    /// Its bytes.
    pub content: Bytes,
}

/// The location of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Name within the quilt.
    pub identifier: String,
    /// Tags of the member.
    pub tags: Tags,
    /// Its first column.
    pub start: u16,
    /// The column after its last.
    pub end: u16,
}

/// The ID of a member: its quilt and columns. As text: 37 bytes in URL-safe base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PatchId {
    /// The quilt's blob.
    pub quilt: BlobId,
    /// The member's first column.
    pub start: u16,
    /// The column after its last.
    pub end: u16,
}

impl fmt::Display for PatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.quilt.as_bytes().to_vec();
        bytes.push(VERSION);
        bytes.extend(self.start.to_le_bytes());
        bytes.extend(self.end.to_le_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for PatchId {
    type Err = QuiltError;

    fn from_str(text: &str) -> Result<Self, QuiltError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        match bytes.split_first_chunk::<32>() {
            Some((quilt, &[VERSION, a, b, c, d])) => Ok(PatchId {
                quilt: BlobId::from_bytes(*quilt),
                start: u16::from_le_bytes([a, b]),
                end: u16::from_le_bytes([c, d]),
            }),
            _ => Err(QuiltError::Damaged("that is no patch ID of version 1")),
        }
    }
}

/// An entry of the encoded index: a member starts at the end of the previous one.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct IndexEntry {
    pub(super) end: u16,
    pub(super) identifier: String,
    pub(super) tags: Tags,
}

/// Whether text is a valid identifier.
pub(super) fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.trim_end() == text && !text.chars().any(char::is_control)
}

/// Returns the position in the blob of symbol `cell`, counted down the columns from
/// `column`.
pub(super) fn symbol_offset(column: usize, cell: usize, symbol: usize) -> usize {
    let (right, row) = (cell / ROWS, cell % ROWS);
    (row * COLUMNS + column + right) * symbol
}
