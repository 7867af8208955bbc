//! Maps errors to error numbers.

use fuser::Errno;

use crate::cache::CacheError;
use crate::repo::RepoError;
use walrus_client::StoreError;

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum OpError {
    /// An expected error, such as a missing attribute.
    Errno(Errno),
    /// The repository could not be read.
    Repo(RepoError),
}

impl From<RepoError> for OpError {
    fn from(error: RepoError) -> Self {
        OpError::Repo(error)
    }
}

impl From<Errno> for OpError {
    fn from(errno: Errno) -> Self {
        OpError::Errno(errno)
    }
}

/// The error number for the kernel.
pub(super) fn of(error: &RepoError) -> Errno {
    match error {
        RepoError::NoNode(_) => Errno::ESTALE,
        RepoError::NotADirectory => Errno::ENOTDIR,
        RepoError::IsADirectory => Errno::EISDIR,
        RepoError::NotASymlink => Errno::EINVAL,
        RepoError::TooDeep(_) => Errno::ELOOP,
        RepoError::NoRef { .. } => Errno::ENOENT,
        RepoError::Memory { .. } => Errno::ENOMEM,
        // Lost, corrupt, malformed or unreachable: an I/O error.
        _ => Errno::EIO,
    }
}

/// Whether the content did not pass verification, rather than being unreachable.
pub(super) fn is_integrity(error: &RepoError) -> bool {
    match error {
        RepoError::Cache(CacheError::Store(error)) | RepoError::Store(error) => {
            matches!(**error, StoreError::Corrupt { .. })
        }
        RepoError::Malformed { .. } | RepoError::Subtree { .. } => true,
        _ => false,
    }
}
