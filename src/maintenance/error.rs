//! Errors of renewal and garbage collection.

use std::io;
use std::path::PathBuf;

use crate::cache::CacheError;
use crate::leases::{LeaseError, OtherUser};
use crate::lifecycle::LogError;
use crate::lifecycle::policy::PolicyError;
use crate::repo::refs::RefStoreError;
use walrus_client::StoreError;

/// Reason why a renewal or a collection failed.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The names cannot be read.
    #[error(transparent)]
    Refs(#[from] RefStoreError),
    /// The ledger or the journal cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A retention rule is invalid.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The blobs in use are unknown.
    #[error("{0}; nothing was deleted")]
    Leases(#[from] LeaseError),
    /// A mount of this store has no lease.
    #[error(
        "the mount on {} has no lease, so the blobs that it needs are unknown and nothing more was \
         deleted; unmount it (walgit-fs unmount), then run gc again",
        list(.0)
    )]
    MountWithoutLease(Vec<PathBuf>),
    /// Activity is unknown, so retention rules cannot be applied.
    #[error("{0}; nothing was deleted, because retention rules depend on that file")]
    Activity(io::Error),
    /// The times of the last mounts are unknown.
    #[error("{0}; learned profiles were kept, because their age depends on that file")]
    LastMounts(io::Error),
    /// Another user's names for this store cannot be read.
    #[error(
        "the names in {} refer to blobs of this store and cannot be read ({why}), so nothing was \
         deleted; restore them, or remove {} if they are lost",
        names.display(), file.display()
    )]
    OtherUser {
        /// The directory of those names.
        names: PathBuf,
        /// The reason.
        why: String,
        /// The file that registers that user.
        file: PathBuf,
    },
    /// The kernel's mount table cannot be read.
    #[error("the mounts are unknown ({0}), so nothing was deleted; is /proc mounted?")]
    MountTable(io::Error),
    /// Another collector is running.
    #[error("another walgit-fs gc is running; wait until it has finished")]
    Busy,
    /// A fault point stopped the run.
    #[error("stopped: {0}")]
    Stopped(#[from] io::Error),
}

impl MaintenanceError {
    /// Creates the error for unreadable data of another user of the store.
    pub(super) fn other_user(other: &OtherUser, why: impl std::fmt::Display) -> Self {
        MaintenanceError::OtherUser {
            names: other.user.names.clone(),
            why: why.to_string(),
            file: other.file.clone(),
        }
    }
}

fn list(folders: &[PathBuf]) -> String {
    let folders = folders.iter().map(|folder| folder.display().to_string());
    folders.collect::<Vec<_>>().join(", ")
}
