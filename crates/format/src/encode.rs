//! Why a value cannot be written in the format.
//!
//! An encoder never guesses: what it cannot express is an error, and every node
//! is decoded once before it is stored, so that no reader ever meets a node of
//! ours that it refuses.

use super::malformed::MalformedNode;

/// A value that the format cannot express.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A reference within a blob that leads backwards.
    #[error("it refers to bytes before itself in its own blob")]
    Backwards,
    /// A reference past the largest offset.
    #[error("it refers to bytes past the end of any blob")]
    Offset,
    /// A blob or a base that is missing from the node's table.
    #[error("its table lacks {0}")]
    NotInTable(&'static str),
    /// A chunk whose codec and lengths or bases contradict each other.
    #[error("a chunk has {0}")]
    Chunk(&'static str),
    /// Something longer than the format allows.
    #[error("{what} takes {len} bytes, more than {most}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The longest allowed.
        most: u64,
    },
    /// An entry whose content does not suit its kind.
    #[error("an entry has content or a size that its kind does not allow")]
    Entry,
    /// A reader would refuse it.
    #[error("a reader would refuse it: {0}")]
    Refused(#[from] MalformedNode),
    /// A reader would understand something else.
    #[error("a reader would find {0} other than those written")]
    Differs(&'static str),
}

/// Refuses what is longer than the format allows.
pub(super) fn check_len(what: &'static str, len: usize, most: usize) -> Result<(), EncodeError> {
    if len > most {
        let (len, most) = (len as u64, most as u64);
        return Err(EncodeError::TooLong { what, len, most });
    }
    Ok(())
}
