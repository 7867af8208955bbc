//! The cache: memory, disk, fetches in progress, and counters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::database;
use super::disk::Disk;
use super::error::CacheError;
use super::limits::MAX_IN_FLIGHT_BYTES;
use super::lock;
use super::memory::Memory;
use super::pin_dir::PinDir;
use super::prefetch_budget::PrefetchBudget;
use super::records::{ClearScope, RecordNamespace};
use super::single_flight::InFlightTable;
use super::stats::{CacheCounters, CacheStats, VerifyReport};
use crate::config::Settings;
use walgit_format::chunk::ChunkRef;
use walrus_client::BlobStore;

/// Location and budgets of a cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Directory of the database; created if missing.
    pub dir: PathBuf,
    /// Budget of stored bytes on disk.
    pub disk_bytes: u64,
    /// Budget of plain bytes in memory.
    pub memory_bytes: u64,
}

impl CacheConfig {
    /// Returns the cache configuration of `settings`.
    pub fn of(settings: &Settings) -> Self {
        CacheConfig {
            dir: settings.dirs.cache.join("pages"),
            disk_bytes: settings.cache_disk.value,
            memory_bytes: settings.cache_memory.value,
        }
    }
}

/// Divisor of the memory budget for preloaded chunks, and the upper limit of their
/// budget in bytes.
const PRELOAD_DIVISOR: u64 = 8;
const MAX_PRELOAD_BYTES: u64 = 16 << 20;
/// Number of concurrent walks that share the preload budget.
const PRELOADING_WALKS: u64 = 4;

/// Interval at which the cache checks whether another process wants the database.
const HANDOVER_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Purpose of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchPurpose {
    /// To be read.
    Content,
    /// To decode content.
    Base,
    /// To decode a base.
    Dictionary,
}

/// Chunk `table[index]` of a store, with the chunks that follow in the table and are
/// adjacent in the blob, in one ranged read of at most `window` stored bytes.
#[derive(Clone, Copy)]
pub(super) struct ChunkRequest<'a> {
    pub(super) store: &'a Arc<dyn BlobStore>,
    pub(super) table: &'a [ChunkRef],
    pub(super) index: usize,
    pub(super) window: u64,
    pub(super) purpose: FetchPurpose,
}

/// Fetches in progress by purpose. A fetch never waits for another of the same
/// purpose: two fetches that each deliver what the other needs would deadlock.
#[derive(Debug, Default)]
pub(super) struct InFlightTables {
    content: Arc<InFlightTable<Bytes>>,
    bases: Arc<InFlightTable<Bytes>>,
    dictionaries: Arc<InFlightTable<Bytes>>,
    /// Files that are a blob each.
    pub(super) raw_files: Arc<InFlightTable<Arc<[ChunkRef]>>>,
}

impl InFlightTables {
    /// Returns the table of chunks that are fetched for `purpose`.
    pub(super) fn chunks(&self, purpose: FetchPurpose) -> &Arc<InFlightTable<Bytes>> {
        match purpose {
            FetchPurpose::Content => &self.content,
            FetchPurpose::Base => &self.bases,
            FetchPurpose::Dictionary => &self.dictionaries,
        }
    }
}

/// Chunk cache of one user.
#[derive(Debug)]
pub struct Cache {
    pub(super) memory: Memory,
    /// Chunks that were preloaded from disk but not read yet.
    pub(super) preloaded: Memory,
    pub(super) disk: Disk,
    pub(super) in_flight: InFlightTables,
    pub(super) counters: Arc<CacheCounters>,
    /// One permit per byte in flight.
    pub(super) in_flight_bytes: Semaphore,
    /// Part of the in-flight budget that prefetches may use.
    pub(super) prefetch_budget: PrefetchBudget,
}

impl Cache {
    /// Opens or creates the cache. A damaged database is set aside and replaced by
    /// a new one: chunks can be fetched again, pins are kept, and learned profiles
    /// are recovered if still readable.
    ///
    /// # Errors
    /// [`CacheError::Busy`] if another process has the cache open;
    /// [`CacheError::Open`] if the system refuses access, in which case nothing is
    /// changed.
    pub fn open(config: &CacheConfig) -> Result<Arc<Self>, CacheError> {
        Self::open_within(config, Duration::ZERO)
    }

    /// Like [`Cache::open`], but if another process has the cache open, asks it to hand
    /// the cache over and waits up to `timeout`. Blocks.
    pub fn open_within(config: &CacheConfig, timeout: Duration) -> Result<Arc<Self>, CacheError> {
        let counters = Arc::new(CacheCounters::default());
        let disk = Disk::open(&config.dir, config.disk_bytes, counters.clone(), timeout)?;
        Ok(Self::with_disk(disk, config.memory_bytes, counters))
    }

    /// Creates a cache that stores nothing on disk.
    pub fn in_memory(config: &CacheConfig) -> Arc<Self> {
        let counters = Arc::new(CacheCounters::default());
        let disk = Disk::none(&config.dir, counters.clone());
        Self::with_disk(disk, config.memory_bytes, counters)
    }

    fn with_disk(disk: Disk, memory_bytes: u64, counters: Arc<CacheCounters>) -> Arc<Self> {
        let preloaded = (memory_bytes / PRELOAD_DIVISOR).min(MAX_PRELOAD_BYTES);
        Arc::new(Cache {
            memory: Memory::new(memory_bytes - preloaded),
            preloaded: Memory::new(preloaded),
            disk,
            in_flight: InFlightTables::default(),
            counters,
            in_flight_bytes: Semaphore::new(MAX_IN_FLIGHT_BYTES as usize),
            prefetch_budget: PrefetchBudget::default(),
        })
    }

    /// Starts a thread that hands the database over as soon as another process
    /// wants it; the cache then continues in memory.
    pub fn hand_over_when_wanted(self: &Arc<Self>) {
        let cache = Arc::downgrade(self);
        let watch = move || {
            while let Some(cache) = cache.upgrade() {
                if lock::is_wanted(cache.disk.dir()) {
                    cache.disk.release();
                    return;
                }
                drop(cache);
                std::thread::sleep(HANDOVER_POLL_INTERVAL);
            }
        };
        let started = std::thread::Builder::new().name("cache-watch".into());
        if let Err(error) = started.spawn(watch) {
            tracing::debug!("cannot watch for processes that want the cache: {error}");
        }
    }

    /// Continues in memory if the database was removed or moved, and returns
    /// whether it was. Blocks.
    pub fn abandon_if_displaced(&self) -> bool {
        self.disk.abandon_if_displaced()
    }

    /// Returns whether the cache has no disk, or has released it.
    pub fn is_released(&self) -> bool {
        self.disk.is_released()
    }

    /// Maximum number of plain bytes to preload per reader.
    pub fn preload_bytes(&self) -> u64 {
        self.preloaded.budget() / PRELOADING_WALKS
    }

    /// Lists the keys of the records in a namespace with their lengths in bytes.
    /// Encrypted records are omitted because their keys are secret.
    pub fn records(&self, space: RecordNamespace) -> Result<Vec<(Vec<u8>, u64)>, CacheError> {
        self.disk.records(space)
    }

    /// Removes an unencrypted record.
    pub fn remove_record(&self, space: RecordNamespace, key: &[u8]) -> Result<(), CacheError> {
        self.disk.remove_record(space, key)
    }

    /// Returns counters since the cache was opened, and its current size.
    pub fn stats(&self) -> CacheStats {
        let (disk_entries, disk_bytes) = self.disk.size();
        let (memory, preloaded) = (self.memory.size(), self.preloaded.size());
        CacheStats {
            memory_entries: memory.0 + preloaded.0,
            memory_bytes: memory.1 + preloaded.1,
            memory_budget: self.memory.budget() + self.preloaded.budget(),
            disk_entries,
            disk_bytes,
            disk_budget: self.disk.budget(),
            disk_real_bytes: self.disk.real_bytes(),
            ..self.counters.to_stats()
        }
    }

    /// Removes all chunks, and all records except those in `scope`.
    pub fn clear(&self, scope: ClearScope) -> Result<(), CacheError> {
        self.memory.clear();
        self.preloaded.clear();
        self.disk.clear(scope)
    }

    /// Removes a cache that cannot be opened, including its pins.
    ///
    /// # Errors
    /// [`CacheError::Busy`] if a process has it open and does not release it within
    /// `timeout`.
    pub fn erase(config: &CacheConfig, timeout: Duration) -> Result<(), CacheError> {
        database::erase(&config.dir, timeout)?;
        PinDir::of(&config.dir).remove_all()
    }

    /// Reads and hashes every chunk on disk and drops those that fail. Calls
    /// `progress` with the number of chunks checked and the total.
    pub fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<VerifyReport, CacheError> {
        self.disk.verify(progress)
    }

    /// Waits until the space of evicted chunks is returned to the file system and
    /// all writes are durable.
    pub fn settle(&self) -> Result<(), CacheError> {
        self.disk.settle()
    }
}
