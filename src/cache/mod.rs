//! Chunk cache: memory, then RocksDB, then the network.
//!
//! Chunks are keyed by hash, so one copy serves every commit, branch and
//! repository. [`Cache::get`] implements the complete read path below `Snapshot`:
//!
//! 1. **memory** (`memory`): plain chunks within a byte budget, scan-resistant;
//! 2. **disk** (`disk`): chunks in their stored form, mostly compressed, in
//!    RocksDB; evicted by recency and frequency (`policy`); decoded and verified on
//!    every read, and dropped if verification fails;
//! 3. **store** (`fetch`, `flight`, `span`): single flight per chunk; a fetch
//!    includes adjacent chunks of the same blob, each verified by its own hash.
//!
//! Prefetches ([`Cache::begin`]) use the same path, but yield to demand reads
//! (`lane`) and are cancelled when the last handle is dropped. [`Cache::preload`]
//! decodes and verifies chunks on disk before they are read, on an idle core;
//! preloaded chunks have a separate budget until they are read, so they evict
//! nothing.
//!
//! Content that is a blob of its own, identified by a foreign hash, is fetched and
//! verified as a whole once (`whole`), and is stored as ordinary chunks afterwards.
//! Content that must not be on disk in plain text ([`BlobStore::at_rest`]) is
//! encrypted there, including its names (`vault`).
//!
//! Hits in memory or on disk never yield: the driver polls once on the kernel's
//! thread and replies there. A failing disk reduces speed but never fails a read.
//! One process at a time owns RocksDB (`lock`): the user's daemon, or a command
//! that found no daemon and hands the database over on request. Only errors that
//! RocksDB reports as corruption count as damage (`failure`); data that cannot be
//! fetched again is then recovered (`salvage`, `pins`).
//!
//! May touch: `walrus`, `chunk`.

mod bases;
mod database;
mod disk;
mod entry;
mod error;
mod failure;
mod fetch;
mod flight;
mod lane;
mod lock;
mod memory;
mod pins;
mod policy;
mod records;
mod salvage;
mod span;
mod stats;
mod upkeep;
mod vault;
mod whole;

pub use error::CacheError;
pub use flight::Underway;
pub use lane::request_bytes;
pub use pins::Pin;
pub use records::{Keep, Space};
pub use span::MAX_GAP;
pub use stats::{CacheStats, VerifyReport};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::config::Settings;
use bases::{Step, standing};
use disk::Disk;
use fetch::IN_FLIGHT;
use flight::{Flights, Urgency};
use lane::Lane;
use memory::Memory;
use stats::Counters;
use walgit_format::chunk::{ChunkError, ChunkHash, ChunkRef, SecretKey};
use walrus_client::{BlobStore, StoreError};

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

/// Residency of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Available immediately.
    Memory,
    /// Must be read, decoded and verified.
    Disk,
    /// Must be fetched.
    Network,
}

/// Divisor of the memory budget for preloaded chunks, and the upper limit of their
/// budget in bytes.
const PRELOADED_PART: u64 = 8;
const MAX_PRELOADED: u64 = 16 << 20;
/// Number of concurrent walks that share the preload budget.
const PRELOADING: u64 = 4;

/// Interval at which the cache checks whether another process wants the database.
const WATCH: Duration = Duration::from_millis(50);

/// Checks the plain bytes of a chunk that another reference's fetch may have
/// delivered.
///
/// # Errors
/// If the reference states a different length: the reference is wrong, not the
/// bytes.
fn checked(chunk: &ChunkRef, raw: Bytes) -> Result<Bytes, CacheError> {
    if raw.len() as u64 == u64::from(chunk.raw_len) {
        return Ok(raw);
    }
    Err(CacheError::Store(Arc::new(StoreError::Corrupt {
        blob: chunk.location.blob,
        place: "its reference".into(),
        why: format!(
            "chunk {} has {} bytes where it says {}",
            chunk.hash,
            raw.len(),
            chunk.raw_len
        ),
    })))
}

/// Chunk cache of one user.
#[derive(Debug)]
pub struct Cache {
    memory: Memory,
    /// Chunks that were preloaded from disk but not read yet.
    preloaded: Memory,
    disk: Disk,
    /// Fetches in progress, indexed by [`Step`].
    flights: [Arc<Flights<Bytes>>; Step::COUNT],
    wholes: Arc<Flights<Arc<[ChunkRef]>>>,
    counters: Arc<Counters>,
    /// One permit per byte in flight.
    in_flight: Semaphore,
    /// Part of the in-flight budget that prefetches may use.
    lane: Lane,
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

    /// Opens the cache; if another process has it open, asks that process to hand
    /// it over and waits up to `patience`. Blocks.
    ///
    /// # Errors
    /// Same as [`Cache::open`].
    pub fn open_within(config: &CacheConfig, patience: Duration) -> Result<Arc<Self>, CacheError> {
        let counters = Arc::new(Counters::default());
        let disk = Disk::open(&config.dir, config.disk_bytes, counters.clone(), patience)?;
        Ok(Self::over(disk, config.memory_bytes, counters))
    }

    /// Creates a cache that stores nothing on disk.
    pub fn in_memory(config: &CacheConfig) -> Arc<Self> {
        let counters = Arc::new(Counters::default());
        let disk = Disk::none(&config.dir, counters.clone());
        Self::over(disk, config.memory_bytes, counters)
    }

    fn over(disk: Disk, memory_bytes: u64, counters: Arc<Counters>) -> Arc<Self> {
        let preloaded = (memory_bytes / PRELOADED_PART).min(MAX_PRELOADED);
        Arc::new(Cache {
            memory: Memory::new(memory_bytes - preloaded),
            preloaded: Memory::new(preloaded),
            disk,
            flights: Default::default(),
            wholes: Arc::default(),
            counters,
            in_flight: Semaphore::new(IN_FLIGHT as usize),
            lane: Lane::default(),
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
                std::thread::sleep(WATCH);
            }
        };
        let started = std::thread::Builder::new().name("cache-watch".into());
        if let Err(error) = started.spawn(watch) {
            tracing::debug!("the cache is not handed over: {error}");
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

    /// Returns the plain bytes of a chunk if it is in memory, or on disk under the
    /// key `at_rest` of its store. Never accesses the network.
    pub fn local(&self, chunk: &ChunkRef, at_rest: Option<&SecretKey>) -> Option<Bytes> {
        // The cached chunk may come from another reference to the same hash. A
        // reference with a different length is wrong, and its reader must not get
        // these bytes.
        let is_right = |raw: &Bytes| raw.len() as u64 == u64::from(chunk.raw_len);
        if let Some(raw) = self.memory.get(&chunk.hash) {
            Counters::add(&self.counters.memory_hits, 1);
            return Some(raw).filter(is_right);
        }
        let preloaded = self.preloaded.take(&chunk.hash);
        let raw = preloaded.or_else(|| self.disk.get(&chunk.hash, at_rest))?;
        if !is_right(&raw) {
            return None;
        }
        Counters::add(&self.counters.disk_hits, 1);
        self.memory.insert(chunk.hash, raw.clone());
        Some(raw)
    }

    /// Loads a chunk from disk into memory before it is read. Reads and decodes on
    /// the calling thread.
    pub fn preload(&self, chunk: &ChunkRef, at_rest: Option<&SecretKey>) {
        if self.preloaded.takes(u64::from(chunk.raw_len))
            && self.source(&chunk.hash, at_rest) == Source::Disk
            && let Some(raw) = self.disk.get(&chunk.hash, at_rest)
        {
            Counters::add(&self.counters.preloaded, 1);
            self.preloaded.insert(chunk.hash, raw);
        }
    }

    /// Maximum number of plain bytes to preload per reader.
    pub fn preload_bytes(&self) -> u64 {
        self.preloaded.budget() / PRELOADING
    }

    /// Returns whether [`Cache::local`] would probably find the chunk. Does not
    /// access the disk or count as a use.
    pub fn holds(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> bool {
        self.source(hash, at_rest) != Source::Network
    }

    /// Returns where [`Cache::get`] would probably find the chunk. Does not access
    /// the disk or count as a use.
    pub fn source(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> Source {
        if self.memory.holds(hash) || self.preloaded.holds(hash) {
            Source::Memory
        } else if self.disk.holds(hash, at_rest) {
            Source::Disk
        } else {
            Source::Network
        }
    }

    /// Returns whether the chunk is on disk and so survives this session.
    pub fn keeps(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> bool {
        self.disk.holds(hash, at_rest)
    }

    /// Returns the plain bytes of chunk `table[index]` from memory, disk or
    /// network.
    ///
    /// A fetch also reads chunks that follow in the table and are adjacent in the
    /// blob, in the same ranged read of at most `window` stored bytes.
    ///
    /// # Errors
    /// The error of the store. Dropping the future does not cancel the fetch; the
    /// next reader retries a failed fetch.
    pub async fn get(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
    ) -> Result<Bytes, CacheError> {
        (self.get_for(store, table, index, window, Step::Content)).await
    }

    async fn get_for(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
        step: Step,
    ) -> Result<Bytes, CacheError> {
        let chunk = &table[index];
        let mut missed = false;
        loop {
            if let Some(raw) = self.local(chunk, store.at_rest()) {
                return Ok(raw);
            }
            if !missed {
                missed = true;
                Counters::add(&self.counters.misses, 1);
            }
            let (flight, _) = self.lead(store, table, index, window, step, Urgency::Now);
            let landed = flight.landed().await;
            if flight.demanded() == chunk.hash {
                return checked(chunk, landed?);
            }
            // The chunk was a neighbour in this fetch, or failed verification: look
            // again. Each iteration either finds it or starts its own fetch.
            if landed.is_ok() && !self.memory.holds(&chunk.hash) {
                let _ = flight.kept().await;
            }
        }
    }

    /// Starts a prefetch of chunk `table[index]`, with neighbours as in
    /// [`Cache::get`]; returns `None` if the chunk is cached. Later reads of any of
    /// these chunks wait for this fetch.
    ///
    /// Must be called within a runtime.
    pub fn begin(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
    ) -> Option<Underway<Bytes>> {
        let here = self.holds(&table[index].hash, store.at_rest());
        (!here).then(|| self.ahead(store, table, index, window, Step::Content))
    }

    /// Like [`Cache::begin`], for bases of other chunks that may also be read
    /// themselves; the table contains no patches. Fetches that need one of these
    /// chunks as a base also wait for this fetch.
    pub fn begin_bases(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
    ) -> Option<Underway<Bytes>> {
        let here = self.holds(&table[index].hash, store.at_rest());
        (!here).then(|| self.ahead(store, table, index, window, Step::Base))
    }

    /// Like [`Cache::begin`], for chunks that must end up on disk: returns `None`
    /// only if the chunk is on disk already.
    pub fn begin_keeping(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
    ) -> Option<Underway<Bytes>> {
        let here = self.keeps(&table[index].hash, store.at_rest());
        (!here).then(|| self.ahead(store, table, index, window, Step::Content))
    }

    fn ahead(
        self: &Arc<Self>,
        store: &Arc<dyn BlobStore>,
        table: &[ChunkRef],
        index: usize,
        window: u64,
        step: Step,
    ) -> Underway<Bytes> {
        let (flight, step) = self.lead(store, table, index, window, step, Urgency::Ahead);
        Underway::of(&self.flights[step as usize], flight)
    }

    /// Verifies and caches stored bytes that arrived with another object, and
    /// returns their plain bytes.
    ///
    /// # Errors
    /// If the bytes do not match the chunk, or a base is not cached.
    pub fn insert(
        &self,
        chunk: &ChunkRef,
        stored: Bytes,
        at_rest: Option<&SecretKey>,
    ) -> Result<Bytes, ChunkError> {
        let bases = self.bases_here(chunk, at_rest);
        let raw = fetch::detached(chunk, bases.open(chunk, stored.clone())?);
        self.memory.insert(chunk.hash, raw.clone());
        // A failing disk reduces speed but never fails a read.
        let kept = standing(chunk.clone(), stored, &raw);
        let _ = self.disk.put(&[kept], at_rest);
        Ok(raw)
    }

    /// Returns the last value of a small durable record.
    pub fn record(&self, space: Space, key: &[u8], at_rest: Option<&SecretKey>) -> Option<Vec<u8>> {
        self.disk.record(space, key, at_rest)
    }

    /// Sets a small durable record.
    pub fn set_record(&self, space: Space, key: &[u8], value: &[u8], at_rest: Option<&SecretKey>) {
        self.disk.set_record(space, key, value, at_rest);
    }

    /// Lists the keys of the records in a space with their lengths in bytes. Sealed
    /// records are omitted because their keys are secret.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn records(&self, space: Space) -> Result<Vec<(Vec<u8>, u64)>, CacheError> {
        self.disk.records(space)
    }

    /// Removes an unsealed record.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remove_record(&self, space: Space, key: &[u8]) -> Result<(), CacheError> {
        self.disk.remove_record(space, key)
    }

    /// Returns counters since the cache was opened, and its current size.
    pub fn stats(&self) -> CacheStats {
        let (disk_entries, disk_bytes) = self.disk.size();
        let (memory, preloaded) = (self.memory.size(), self.preloaded.size());
        let c = &self.counters;
        CacheStats {
            memory_entries: memory.0 + preloaded.0,
            memory_bytes: memory.1 + preloaded.1,
            memory_budget: self.memory.budget() + self.preloaded.budget(),
            disk_entries,
            disk_bytes,
            disk_budget: self.disk.budget(),
            disk_real_bytes: self.disk.real_bytes(),
            memory_hits: Counters::get(&c.memory_hits),
            disk_hits: Counters::get(&c.disk_hits),
            preloaded: Counters::get(&c.preloaded),
            misses: Counters::get(&c.misses),
            fetches: Counters::get(&c.fetches),
            fetched_bytes: Counters::get(&c.fetched_bytes),
            failed_fetches: Counters::get(&c.failed_fetches),
            called_off: Counters::get(&c.called_off),
            corrupt_dropped: Counters::get(&c.corrupt_dropped),
            evictions: Counters::get(&c.evictions),
            disk_errors: Counters::get(&c.disk_errors),
        }
    }

    /// Removes all chunks, and all records except those that `keep` names.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn clear(&self, keep: Keep) -> Result<(), CacheError> {
        self.memory.clear();
        self.preloaded.clear();
        self.disk.clear(keep)
    }

    /// Removes a cache that cannot be opened, including its pins.
    ///
    /// # Errors
    /// [`CacheError::Busy`] if a process has it open and does not release it within
    /// `patience`.
    pub fn erase(config: &CacheConfig, patience: Duration) -> Result<(), CacheError> {
        database::erase(&config.dir, patience)?;
        pins::PinDir::beside(&config.dir).remove_all()
    }

    /// Reads and hashes every chunk on disk and drops those that fail. Calls
    /// `progress` with the number of chunks checked and the total.
    ///
    /// # Errors
    /// If the disk cannot be read at all.
    pub fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<VerifyReport, CacheError> {
        self.disk.verify(progress)
    }

    /// Waits until the space of evicted chunks is returned to the file system and
    /// all writes are durable.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn settle(&self) -> Result<(), CacheError> {
        self.disk.settle()
    }
}
