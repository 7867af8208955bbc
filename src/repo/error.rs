//! What can be wrong with a repository.

use super::refs::RefStoreError;
use crate::cache::CacheError;
use walgit_format::MalformedNode;
use walgit_format::chain::ChainError;
use walgit_format::chunk::{BlobId, ChunkHash, PayloadError, PrivateError};
use walrus_client::StoreError;

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
    /// It is encrypted, and no key fits.
    #[error("{what}: {why}")]
    Sealed {
        /// What cannot be opened.
        what: String,
        /// Why not.
        why: PayloadError,
    },
    /// It is a private repository, and cannot be opened.
    #[error("{what}: {why}")]
    Private {
        /// What cannot be opened.
        what: String,
        /// Why not.
        why: PrivateError,
    },
    /// The chain does not say.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A name leads nowhere.
    #[error("{why} (network {network})")]
    Name {
        /// What is wrong.
        why: std::sync::Arc<RefStoreError>,
        /// The network whose names were looked at.
        network: String,
    },
    /// More than a reader accepts.
    #[error("the repository has {0}")]
    TooLarge(String),
    /// A mount keeps as much as it may.
    #[error(
        "{name} takes more than the {} MiB of memory that one mount may use; look at fewer of its large directories and old commits at once",
        limit >> 20
    )]
    Memory {
        /// What the user calls what is mounted.
        name: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Nothing was ever committed.
    #[error("{0} has no commits yet")]
    NoCommits(String),
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

impl RepoError {
    /// Whether what is stored is not what it should be, or is not stored at all:
    /// trying again does not help.
    pub fn is_lasting(&self) -> bool {
        match self {
            RepoError::Store(error) | RepoError::Cache(CacheError::Store(error)) => matches!(
                **error,
                StoreError::NotFound { .. }
                    | StoreError::OutOfRange { .. }
                    | StoreError::Corrupt { .. }
            ),
            RepoError::NotARepository { .. }
            | RepoError::Malformed { .. }
            | RepoError::Subtree { .. }
            | RepoError::TooLarge(_)
            | RepoError::TooDeep(_) => true,
            _ => false,
        }
    }

    /// Whether the store does not have it at all, rather than failing to give it.
    pub fn is_missing(&self) -> bool {
        match self {
            RepoError::Store(error) | RepoError::Cache(CacheError::Store(error)) => {
                matches!(**error, StoreError::NotFound { .. })
            }
            _ => false,
        }
    }
}

impl From<StoreError> for RepoError {
    fn from(error: StoreError) -> Self {
        RepoError::Store(std::sync::Arc::new(error))
    }
}

impl From<crate::offload::Interrupted> for RepoError {
    fn from(_: crate::offload::Interrupted) -> Self {
        RepoError::Cache(CacheError::Interrupted)
    }
}
