//! Counters and statistics of the cache.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Counters since the cache was opened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) memory_hits: AtomicU64,
    pub(super) disk_hits: AtomicU64,
    pub(super) preloaded: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) fetches: AtomicU64,
    pub(super) fetched_bytes: AtomicU64,
    pub(super) failed_fetches: AtomicU64,
    pub(super) called_off: AtomicU64,
    pub(super) corrupt_dropped: AtomicU64,
    pub(super) evictions: AtomicU64,
    pub(super) disk_errors: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
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
    /// Reads answered from memory.
    pub memory_hits: u64,
    /// Reads answered from disk.
    pub disk_hits: u64,
    /// Chunks preloaded from disk into memory for a walk.
    pub preloaded: u64,
    /// Reads that had to wait for the network.
    pub misses: u64,
    /// Requests to a store.
    pub fetches: u64,
    /// Stored bytes that these requests returned.
    pub fetched_bytes: u64,
    /// Requests that failed.
    pub failed_fetches: u64,
    /// Prefetch requests that were cancelled because they were no longer needed.
    pub called_off: u64,
    /// Entries on disk that failed verification and were dropped.
    pub corrupt_dropped: u64,
    /// Evicted entries.
    pub evictions: u64,
    /// Writes or reads that failed in RocksDB.
    pub disk_errors: u64,
}

/// Result of [`super::Cache::verify`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Entries with the right hash.
    pub good: u64,
    /// Entries with a wrong hash, now dropped.
    pub dropped: u64,
}
