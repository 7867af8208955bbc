//! What can go wrong below a read.

use std::path::PathBuf;
use std::sync::Arc;

use walrus_client::StoreError;

/// Why a chunk cannot be had, or the cache not be used. Cheap to clone: one
/// failed fetch answers all who waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// The store failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// Another process has it open.
    #[error("the cache in {} is in use by {holder}; wait until it ends, or end it", dir.display())]
    Busy {
        /// Its directory.
        dir: PathBuf,
        /// The process, with its number where that is known.
        holder: String,
    },
    /// It was handed over to another process while it was in use.
    #[error("the cache was handed over to another walgit-fs process, which needs it; try again")]
    Released,
    /// A pin cannot be read or written.
    #[error("the pin {}: {why}", path.display())]
    Pins {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It cannot be opened or made.
    #[error("the cache in {} cannot be opened: {why}", dir.display())]
    Open {
        /// Its directory.
        dir: PathBuf,
        /// What RocksDB or the system said, and what helps.
        why: String,
    },
    /// Somebody removed it while it was in use.
    #[error(
        "the cache in {} was removed while it is in use; unmount everything, and it is made anew half a minute later",
        dir.display()
    )]
    Gone {
        /// Its directory.
        dir: PathBuf,
    },
    /// Pins may take a part of the budget, not all of it.
    #[error(
        "what is pinned would take {} MiB of the {} MiB that pins may take; raise the cache's budget ([cache] disk) or unpin something",
        needed.div_ceil(1 << 20),
        budget >> 20
    )]
    PinsTooLarge {
        /// Stored bytes of all pins.
        needed: u64,
        /// Most they may be.
        budget: u64,
    },
    /// RocksDB failed at something the user asked for.
    #[error("the cache database failed: {0}")]
    Database(String),
    /// The fetch ended without an answer: its task was cancelled or panicked.
    #[error("the fetch was interrupted")]
    Interrupted,
}

impl From<rocksdb::Error> for CacheError {
    fn from(error: rocksdb::Error) -> Self {
        CacheError::Database(error.into_string())
    }
}
