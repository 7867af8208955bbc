//! Errors of leases.

use std::io;
use std::path::{Path, PathBuf};

use walgit_format::chunk::BlobId;

/// Leases cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A file operation failed.
    #[error("lease {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A lease file is damaged.
    #[error(
        "lease {} is damaged ({why}), so what is in use is unknown; unmount all folders, let publishes finish, then remove the file",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The file was removed while its process is running.
    #[error("lease {} was removed while it was in use; start again", .0.display())]
    Removed(PathBuf),
    /// Another collector is running.
    #[error("another walgit-fs gc is running; let it finish")]
    Busy,
    /// A collector is deleting the blob to claim and makes no progress.
    #[error(
        "blob {blob} is being deleted by walgit-fs gc (process {pid}), which makes no progress; end that process, then try again"
    )]
    Deleting {
        /// The blob.
        blob: BlobId,
        /// Process ID of the collector.
        pid: String,
    },
}

impl LeaseError {
    /// Whether the error is a lack of write permission.
    pub fn is_read_only(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let LeaseError::Io { source, .. } = self else {
            return false;
        };
        matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
    }
}

/// Error of a file operation.
pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> LeaseError {
    let path = path.to_owned();
    |source| LeaseError::Io { path, source }
}
