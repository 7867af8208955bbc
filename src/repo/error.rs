//! Errors of opening and reading a repository.

use super::refs::RefStoreError;
use crate::cache::CacheError;
use walgit_format::MalformedNode;
use walgit_format::chain::ChainError;
use walgit_format::chunk::{BlobId, ChunkHash, PayloadError, PrivateError};
use walrus_client::StoreError;

/// Why a repository or part of it cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepoError {
    /// A chunk could not be read.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A blob could not be read.
    #[error(transparent)]
    Store(std::sync::Arc<StoreError>),
    /// The blob does not contain a repository.
    #[error("blob {blob} is not a WalGit repository: {why}")]
    NotARepository {
        /// The blob.
        blob: BlobId,
        /// The reason.
        why: String,
    },
    /// The content is authentic but malformed.
    #[error("{what} {hash} is malformed: {why}")]
    Malformed {
        /// Kind of node.
        what: &'static str,
        /// Its hash.
        hash: ChunkHash,
        /// The reason.
        why: MalformedNode,
    },
    /// A subtree does not match its reference in the parent.
    #[error("directory {hash} has {found} nodes instead of {expected}, as its parent declares")]
    Subtree {
        /// The directory.
        hash: ChunkHash,
        /// Value in the parent.
        expected: u64,
        /// Value in the directory itself.
        found: u64,
    },
    /// An encrypted file or manifest that no key decrypts.
    #[error("{what}: {why}")]
    Sealed {
        /// The encrypted object.
        what: String,
        /// The reason.
        why: PayloadError,
    },
    /// A private repository that cannot be decrypted.
    #[error("{what}: {why}")]
    Private {
        /// The encrypted object.
        what: String,
        /// The reason.
        why: PrivateError,
    },
    /// The chain did not provide an answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A name cannot be resolved.
    #[error("{why} (network {network})")]
    Name {
        /// The reason.
        why: std::sync::Arc<RefStoreError>,
        /// The network of the name.
        network: String,
    },
    /// The content exceeds a limit.
    #[error("the repository has {0}")]
    TooLarge(String),
    /// The mount exceeds its memory limit.
    #[error(
        "{name} exceeds the {} MiB of memory that one mount may use; open fewer large directories and old commits at a time",
        limit >> 20
    )]
    Memory {
        /// The user's name for the mounted repository.
        name: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The repository has no commits.
    #[error("{0} has no commits yet")]
    NoCommits(String),
    /// No node has this number.
    #[error("no file or directory has number {0} here")]
    NoNode(u64),
    /// Directories are nested deeper than any path that the kernel accepts.
    #[error("directories are nested deeper than {0}")]
    TooDeep(usize),
    /// Not a directory.
    #[error("not a directory")]
    NotADirectory,
    /// Not a file.
    #[error("a directory, not a file")]
    IsADirectory,
    /// Not a symlink.
    #[error("not a symbolic link")]
    NotASymlink,
    /// No such branch, tag or commit.
    #[error("no branch, tag or commit is called `{name}`; there are: {known}")]
    NoRef {
        /// The requested name.
        name: String,
        /// Description of the known refs.
        known: String,
    },
}

impl RepoError {
    /// Whether the stored data is wrong or missing, so that a retry does not help.
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

    /// Whether the store does not have the data, rather than failing to return it.
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
