//! Counters and statistics of the cache.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Defines the counters, and statistics that contain their values.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the cache was opened.
        #[derive(Debug, Default)]
        pub(super) struct CacheCounters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl CacheCounters {
            /// Returns statistics without sizes.
            pub(super) fn to_stats(&self) -> CacheStats {
                CacheStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    ..CacheStats::default()
                }
            }
        }

        /// Statistics of a cache. Sizes in bytes; counts since the cache was opened.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct CacheStats {
            /// Chunks in memory.
            pub memory_entries: u64,
            /// Plain bytes in memory.
            pub memory_bytes: u64,
            /// Maximum plain bytes in memory.
            pub memory_budget: u64,
            /// Chunks on disk.
            pub disk_entries: u64,
            /// Stored bytes on disk.
            pub disk_bytes: u64,
            /// Maximum stored bytes on disk.
            pub disk_budget: u64,
            /// Size of the database files, including garbage.
            pub disk_real_bytes: u64,
            $($(#[$doc])* pub $name: u64,)*
        }
    };
}

counters! {
    /// Reads answered from memory.
    memory_hits,
    /// Reads answered from disk.
    disk_hits,
    /// Chunks preloaded from disk into memory for a walk.
    preloaded,
    /// Reads that had to wait for the network.
    misses,
    /// Requests to a store.
    fetches,
    /// Stored bytes that these requests returned.
    fetched_bytes,
    /// Requests that failed.
    failed_fetches,
    /// Prefetch requests that were cancelled because they were no longer needed.
    called_off,
    /// Entries on disk that failed verification and were dropped.
    corrupt_dropped,
    /// Evicted entries.
    evictions,
    /// Writes or reads that failed in RocksDB.
    disk_errors,
}

impl CacheCounters {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// Result of [`super::Cache::verify`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Entries with the right hash.
    pub good: u64,
    /// Entries with a wrong hash, now dropped.
    pub dropped: u64,
}
