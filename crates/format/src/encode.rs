//! Errors of encoding a value.
//!
//! An encoder never guesses: a value that the format cannot express is an error. Every
//! node is decoded once before it is stored, so no reader rejects a node that this crate
//! wrote.

use super::malformed::MalformedNode;

/// A value that the format cannot express.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A backward reference within a blob.
    #[error("a node refers to bytes before itself in its own blob")]
    Backwards,
    /// A reference beyond the largest offset.
    #[error("a node refers to bytes past the end of any blob")]
    Offset,
    /// A blob or base that is missing from the node's table.
    #[error("the table of the node lacks {0}")]
    NotInTable(&'static str),
    /// A chunk whose codec contradicts its lengths or bases.
    #[error("a chunk has {0}")]
    Chunk(&'static str),
    /// A value longer than the format allows.
    #[error("{what} takes {len} bytes, more than {limit}")]
    TooLong {
        /// Name of the value.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// An entry whose content does not match its kind.
    #[error("an entry has content or a size that its kind does not allow")]
    Entry,
    /// A reader would reject it.
    #[error("a reader would reject it: {0}")]
    Refused(#[from] MalformedNode),
    /// A reader would decode a different value.
    #[error("decoding returns other {0}")]
    Differs(&'static str),
}

/// Rejects a length over the limit of the format.
pub(super) fn check_len(what: &'static str, len: usize, limit: usize) -> Result<(), EncodeError> {
    if len > limit {
        let (len, limit) = (len as u64, limit as u64);
        return Err(EncodeError::TooLong { what, len, limit });
    }
    Ok(())
}
