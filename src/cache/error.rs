//! Errors of the cache.

use std::path::PathBuf;
use std::sync::Arc;

use walrus_client::StoreError;

/// Reason why a chunk or the cache is not available. Cheap to clone: one failed
/// fetch answers all of its waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// The store failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// Another process has the cache open.
    #[error("the cache in {} is in use by {holder}; wait until it ends, or end it", dir.display())]
    Busy {
        /// Directory of the cache.
        dir: PathBuf,
        /// The process, with its ID if known.
        holder: String,
    },
    /// The cache was handed over to another process while in use.
    #[error("the cache was handed over to another walgit-fs process; try again")]
    Released,
    /// A pin cannot be read or written.
    #[error("cannot read or write the pin {}: {why}", path.display())]
    Pins {
        /// Path of the pin file.
        path: PathBuf,
        /// Error of the system.
        why: String,
    },
    /// The cache cannot be opened or created.
    #[error("the cache in {} cannot be opened: {why}", dir.display())]
    Open {
        /// Directory of the cache.
        dir: PathBuf,
        /// Error of RocksDB or the system, and a remedy.
        why: String,
    },
    /// The cache was removed while in use.
    #[error(
        "the cache in {} was removed while in use; unmount all repositories, and it is recreated after half a minute",
        dir.display()
    )]
    Gone {
        /// Directory of the cache.
        dir: PathBuf,
    },
    /// Pins exceed their part of the budget.
    #[error(
        "pins would take {} MiB, and at most {} MiB are allowed; raise the budget of the cache ([cache] disk) or unpin something",
        needed.div_ceil(1 << 20),
        budget >> 20
    )]
    PinsTooLarge {
        /// Stored bytes of all pins.
        needed: u64,
        /// Maximum stored bytes of all pins.
        budget: u64,
    },
    /// RocksDB failed at an operation that the user requested.
    #[error("the cache database failed: {0}")]
    Database(String),
    /// The fetch ended without a result: its task was cancelled or panicked.
    #[error("the fetch was interrupted")]
    Interrupted,
}

impl From<StoreError> for CacheError {
    fn from(error: StoreError) -> Self {
        CacheError::Store(Arc::new(error))
    }
}

impl From<rocksdb::Error> for CacheError {
    fn from(error: rocksdb::Error) -> Self {
        CacheError::Database(error.into_string())
    }
}
