//! What can be wrong with bytes that hash right: pure, so that decoders can be
//! fuzzed by themselves.

/// Verified bytes that are nevertheless not a well-formed node: their author,
/// not the gateway, made them so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedNode {
    /// It ends in the middle of something, or declares more than it holds.
    #[error("it ends too early")]
    Truncated,
    /// Bytes after its end.
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    /// An integer over its range or not in its shortest form.
    #[error("an integer is out of range or not in its shortest form")]
    Integer,
    /// A byte string over its bound.
    #[error("a string of {len} bytes where at most {most} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// The bound.
        most: usize,
    },
    /// More entries than a directory may have.
    #[error("it has {count} entries, more than the {most} a directory may have")]
    TooMany {
        /// How many.
        count: usize,
        /// The bound.
        most: usize,
    },
    /// Decoded, it would take more memory than input of its length may.
    #[error("decoded, it would take more than the {} MiB of memory allowed for it", limit.div_ceil(1 << 20))]
    OverBudget {
        /// The bound, in bytes.
        limit: u64,
    },
    /// Chunks out of the order that the format asks for, or used twice.
    #[error("its {0} use chunks twice or out of order")]
    Runs(&'static str),
    /// More dictionaries than a reader accepts.
    #[error("its dictionaries are more than {} or have more than {} MiB together", crate::chunk::budget::MAX_DICTIONARIES, crate::chunk::budget::MAX_DICTIONARY_BYTES >> 20)]
    Dictionaries,
    /// Nobody waited for it any more.
    #[error("decoding it was cancelled")]
    Stopped,
    /// Another kind of node, or none.
    #[error("it is not a {expected} (first byte {found:#04x})")]
    Kind {
        /// What should be here.
        expected: &'static str,
        /// The first byte.
        found: u8,
    },
    /// Written by a newer program.
    #[error("it has format version {0}, which this walgit-fs does not know; update it")]
    Version(u8),
    /// A name no directory may hold.
    #[error("the name `{0}` is not allowed in a directory")]
    Name(String),
    /// A name of a branch or tag that git refuses.
    #[error("the ref name `{name}` is not allowed: {why}")]
    RefName {
        /// The name, escaped.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Names out of order or twice.
    #[error("the name `{0}` is out of order or there twice")]
    Order(String),
    /// A reference to something that is not in the node.
    #[error("it refers to entry {0} of a table that has no such entry")]
    Index(u64),
    /// Sizes or counts that do not add up.
    #[error("its {0} do not add up")]
    Sum(&'static str),
    /// A location past any blob.
    #[error("it refers to bytes outside any blob")]
    Location,
    /// A chunk with bases that no chunk may have.
    #[error("it has {0}")]
    Base(&'static str),
    /// JSON that is not what it should be.
    #[error("{0}")]
    Json(String),
    /// A chunk with a bad codec or size.
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
