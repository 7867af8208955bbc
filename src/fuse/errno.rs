//! Maps errors to error numbers.

use fuser::Errno;

use crate::cache::CacheError;
use crate::repo::RepoError;
use walrus_client::StoreError;

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// An expected error, such as a missing attribute.
    Plain(Errno),
    /// The repository could not be read.
    Repo(RepoError),
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        Failure::Repo(error)
    }
}

impl Failure {
    /// The error number for the kernel.
    pub(super) fn errno(&self) -> Errno {
        match self {
            Failure::Plain(errno) => *errno,
            Failure::Repo(RepoError::NoNode(_)) => Errno::ESTALE,
            Failure::Repo(RepoError::NotADirectory) => Errno::ENOTDIR,
            Failure::Repo(RepoError::IsADirectory) => Errno::EISDIR,
            Failure::Repo(RepoError::NotASymlink) => Errno::EINVAL,
            Failure::Repo(RepoError::TooDeep(_)) => Errno::ELOOP,
            Failure::Repo(RepoError::NoRef { .. }) => Errno::ENOENT,
            Failure::Repo(RepoError::Memory { .. }) => Errno::ENOMEM,
            // Lost, corrupt, malformed or unreachable: an I/O error.
            Failure::Repo(_) => Errno::EIO,
        }
    }

    /// Whether the content did not pass verification, rather than being unreachable.
    pub(super) fn is_integrity(&self) -> bool {
        let corrupt = |error: &StoreError| matches!(error, StoreError::Corrupt { .. });
        match self {
            Failure::Repo(RepoError::Cache(CacheError::Store(error))) => corrupt(error),
            Failure::Repo(RepoError::Store(error)) => corrupt(error),
            Failure::Repo(RepoError::Malformed { .. } | RepoError::Subtree { .. }) => true,
            _ => false,
        }
    }
}
