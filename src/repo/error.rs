//! What can be wrong with a repository.

use crate::cache::CacheError;
use crate::chunk::{BlobId, ChunkHash};
use crate::walrus::StoreError;

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
    /// A chunk with a bad codec or size.
    #[error("{0}")]
    Chunk(#[from] crate::chunk::ChunkError),
}

/// Why something of a repository cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepoError {
    /// The bytes could not be had.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The blob could not be had.
    #[error(transparent)]
    Store(std::sync::Arc<StoreError>),
    /// The blob is there and is not ours.
    #[error("blob {blob} is not a WalGit repository: {why}")]
    NotARepository {
        /// The blob.
        blob: BlobId,
        /// What is wrong with it.
        why: String,
    },
    /// Verified, yet malformed: refuse to show it.
    #[error("{what} {hash} is malformed: {why}")]
    Malformed {
        /// Kind of node.
        what: &'static str,
        /// Its hash.
        hash: ChunkHash,
        /// What is wrong with it.
        why: MalformedNode,
    },
    /// A subtree is not what its parent says of it.
    #[error("directory {hash} has {found} nodes where its parent says {expected}")]
    Subtree {
        /// The directory.
        hash: ChunkHash,
        /// As its parent says.
        expected: u64,
        /// As it says.
        found: u64,
    },
    /// No node has this number.
    #[error("no file or directory has number {0} here")]
    NoNode(u64),
    /// Deeper than any path the kernel could name.
    #[error("directories are nested deeper than {0}")]
    TooDeep(usize),
    /// Not a directory.
    #[error("it is not a directory")]
    NotADirectory,
    /// Not a file.
    #[error("it is a directory")]
    IsADirectory,
    /// Not a symlink.
    #[error("it is not a symbolic link")]
    NotASymlink,
    /// No such branch, tag or commit.
    #[error("no branch, tag or commit is called `{name}`; there are: {known}")]
    NoRef {
        /// As asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl From<StoreError> for RepoError {
    fn from(error: StoreError) -> Self {
        RepoError::Store(std::sync::Arc::new(error))
    }
}
