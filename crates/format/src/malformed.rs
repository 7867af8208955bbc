//! Errors of decoding bytes whose hash is right. Free of I/O, so that decoders can be
//! fuzzed by themselves.

/// Verified bytes that are not a well-formed node: the author, not the gateway, is at
/// fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedNode {
    /// The input ends early, or declares more elements than it holds.
    #[error("the data ends too early")]
    Truncated,
    /// Bytes after the end of the node.
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    /// An integer out of range or not in its shortest form.
    #[error("an integer is out of range or not in its shortest form")]
    Integer,
    /// A byte string over its limit.
    #[error("a string of {len} bytes where at most {limit} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// More entries than a directory may have.
    #[error("a directory of {count} entries, more than the {limit} a directory may have")]
    TooMany {
        /// Number of entries.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Decoding needs more memory than an input of this length may use.
    #[error("decoded, it would take more than the {} MiB of memory allowed for it", limit.div_ceil(1 << 20))]
    OverBudget {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Chunks out of order, or used twice.
    #[error("the {0} use chunks twice or out of order")]
    Runs(&'static str),
    /// More dictionaries than a reader accepts.
    #[error("the dictionaries are more than {} or have more than {} MiB together", crate::chunk::budget::MAX_DICTIONARIES, crate::chunk::budget::MAX_DICTIONARY_BYTES >> 20)]
    Dictionaries,
    /// The decoder was cancelled because its result is no longer needed.
    #[error("decoding it was cancelled")]
    Stopped,
    /// A different kind of node, or not a node.
    #[error("not a {expected} (first byte {found:#04x})")]
    Kind {
        /// The expected kind.
        expected: &'static str,
        /// The first byte.
        found: u8,
    },
    /// A newer version of the format.
    #[error("format version {0}, which this walgit-fs does not support; update walgit-fs")]
    Version(u8),
    /// A name that a directory must not contain.
    #[error("the name `{0}` is not allowed in a directory")]
    Name(String),
    /// A branch or tag name that git rejects.
    #[error("the ref name `{name}` is not allowed: {why}")]
    RefName {
        /// The name, escaped.
        name: String,
        /// Reason of the rejection.
        why: String,
    },
    /// Names unsorted or duplicate.
    #[error("the name `{0}` is a duplicate or out of order")]
    Order(String),
    /// A reference to an element that is not in the node.
    #[error("table index {0} is out of range")]
    Index(u64),
    /// Sizes or counts that do not add up.
    #[error("inconsistent {0}")]
    Sum(&'static str),
    /// A location beyond the end of any blob.
    #[error("a reference to bytes outside any blob")]
    Location,
    /// A chunk with bases that are not allowed.
    #[error("it has {0}")]
    Base(&'static str),
    /// Invalid JSON, or JSON of a different structure.
    #[error("{0}")]
    Json(String),
    /// A chunk with an invalid codec or size.
    #[error("{0}")]
    Chunk(#[from] crate::chunk::ChunkError),
}

impl From<crate::chunk::Refused> for MalformedNode {
    fn from(refused: crate::chunk::Refused) -> Self {
        match refused {
            crate::chunk::Refused::OverBudget { limit } => MalformedNode::OverBudget { limit },
            crate::chunk::Refused::Stopped => MalformedNode::Stopped,
        }
    }
}
