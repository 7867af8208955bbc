//! Chunks close at hand: memory, then RocksDB, then the network.
//!
//! The key is the chunk's hash, so one copy serves every commit, branch and
//! repository. [`Cache::get`] is the whole story of a read below the
//! `Snapshot`:
//!
//! 1. **memory** (`memory`): plain chunks within a byte budget, scan-resistant;
//! 2. **disk** (`disk`): chunks as they were stored, so mostly compressed, in
//!    RocksDB; evicted by recency and frequency (`policy`); decoded and
//!    verified again on the way out, and dropped when they fail;
//! 3. **the store** (`fetch`, `flight`, `span`): one fetch per chunk however
//!    many wait, bringing neighbours that lie next to it in the same blob, each
//!    verified by its own hash.
//!
//! What is fetched ahead of readers ([`Cache::begin`]) takes the same way but
//! for one thing: it gives way (`lane`) to what somebody waits for, and is
//! called off when nobody holds it any more. What is on disk can be decoded and
//! verified ahead of them too ([`Cache::preload`]), on a core that they leave
//! idle; until it is read it lies apart, so that it pushes out nothing.
//!
//! Content that is a blob of its own, known by somebody else's hash, is fetched
//! and proven whole once (`whole`), and is chunks like any other from then on.
//! What must not lie on a disk in the clear ([`BlobStore::at_rest`]) is sealed
//! there (`vault`), names and all.
//!
//! What is in memory or on disk is answered without ever yielding: the driver
//! polls once on the kernel's thread and replies there. A failing disk costs
//! speed, never a read. RocksDB has one owner at a time (`lock`): the user's
//! daemon, or a command that found no daemon and hands it over when it is
//! wanted. Only what RocksDB calls damage is damage (`failure`); then what cannot
//! be fetched again is saved (`salvage`, `pins`).
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

/// Where a cache lives and how large it may grow.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Directory of the database; made if it is not there.
    pub dir: PathBuf,
    /// Stored bytes kept on disk.
    pub disk_bytes: u64,
    /// Plain bytes kept in memory.
    pub memory_bytes: u64,
}

impl CacheConfig {
    /// The cache that settings mean.
    pub fn of(settings: &Settings) -> Self {
        CacheConfig {
            dir: settings.dirs.cache.join("pages"),
            disk_bytes: settings.cache_disk.value,
            memory_bytes: settings.cache_memory.value,
        }
    }
}

/// Where a reader would have a chunk from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is there at once.
    Memory,
    /// It has to be read, decoded and verified.
    Disk,
    /// It has to be fetched.
    Network,
}

/// Part of the memory budget for what was taken from disk ahead of readers, and
/// how much of that is at most of use.
const PRELOADED_PART: u64 = 8;
const MAX_PRELOADED: u64 = 16 << 20;
/// Walkers, each of whom has a fair part of that ahead.
const PRELOADING: u64 = 4;

/// How often it is looked whether another process wants the database.
const WATCH: Duration = Duration::from_millis(50);

/// Plain bytes of a chunk that somebody else's fetch may have brought.
///
/// # Errors
/// When the reference says another length: then it is wrong, and not the bytes.
fn checked(chunk: &ChunkRef, raw: Bytes) -> Result<Bytes, CacheError> {
    if raw.len() as u64 == u64::from(chunk.raw_len) {
        return Ok(raw);
    }
    Err(CacheError::Store(Arc::new(StoreError::Corrupt {
        blob: chunk.at.blob,
        place: "its reference".into(),
        why: format!(
            "chunk {} has {} bytes where it says {}",
            chunk.hash,
            raw.len(),
            chunk.raw_len
        ),
    })))
}

/// The cache of one user.
#[derive(Debug)]
pub struct Cache {
    memory: Memory,
    /// What was taken from disk and nobody has read yet.
    preloaded: Memory,
    disk: Disk,
    /// By the step that they are for.
    flights: [Arc<Flights<Bytes>>; Step::COUNT],
    wholes: Arc<Flights<Arc<[ChunkRef]>>>,
    counters: Arc<Counters>,
    /// A permit for each byte that may be on its way.
    in_flight: Semaphore,
    /// What of that may be ahead of readers.
    lane: Lane,
}

impl Cache {
    /// Opens the cache, or makes it. A damaged database is put aside and a new
    /// one begun: what it held can be fetched again, pins are kept, and learned
    /// profiles are where they can still be read.
    ///
    /// # Errors
    /// [`CacheError::Busy`] when another process has it open, and
    /// [`CacheError::Open`] when the machine refuses; then nothing is touched.
    pub fn open(config: &CacheConfig) -> Result<Arc<Self>, CacheError> {
        Self::open_within(config, Duration::ZERO)
    }

    /// Opens the cache; asks a process that has it open to hand it over and
    /// waits for `patience`. Blocks.
    ///
    /// # Errors
    /// Those of [`Cache::open`].
    pub fn open_within(config: &CacheConfig, patience: Duration) -> Result<Arc<Self>, CacheError> {
        let counters = Arc::new(Counters::default());
        let disk = Disk::open(&config.dir, config.disk_bytes, counters.clone(), patience)?;
        Ok(Self::over(disk, config.memory_bytes, counters))
    }

    /// A cache that keeps nothing on disk.
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

    /// From now on hands the database over as soon as another process wants it,
    /// and goes on in memory.
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

    /// Goes on in memory if the database was removed or moved; whether it was. Blocks.
    pub fn abandon_if_displaced(&self) -> bool {
        self.disk.abandon_if_displaced()
    }

    /// Whether nothing is kept on disk, or not any more.
    pub fn is_released(&self) -> bool {
        self.disk.is_released()
    }

    /// The plain bytes of a chunk if they are in memory or on disk, there under
    /// the key `at_rest` of its store. Never asks the network.
    pub fn local(&self, chunk: &ChunkRef, at_rest: Option<&SecretKey>) -> Option<Bytes> {
        // Another reference to the same chunk may have brought it here. One that
        // says another length is wrong, and its reader must not get these bytes.
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

    /// Takes a chunk that is on disk into memory ahead of its reader. Reads and
    /// computes on this thread.
    pub fn preload(&self, chunk: &ChunkRef, at_rest: Option<&SecretKey>) {
        if self.preloaded.takes(u64::from(chunk.raw_len))
            && self.source(&chunk.hash, at_rest) == Source::Disk
            && let Some(raw) = self.disk.get(&chunk.hash, at_rest)
        {
            Counters::add(&self.counters.preloaded, 1);
            self.preloaded.insert(chunk.hash, raw);
        }
    }

    /// Plain bytes that should be preloaded ahead of one reader at most.
    pub fn preload_bytes(&self) -> u64 {
        self.preloaded.budget() / PRELOADING
    }

    /// Whether [`Cache::local`] would most likely find the chunk; does not
    /// touch the disk or count as a use.
    pub fn holds(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> bool {
        self.source(hash, at_rest) != Source::Network
    }

    /// Where [`Cache::get`] would most likely have the chunk from; does not
    /// touch the disk or count as a use.
    pub fn source(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> Source {
        if self.memory.holds(hash) || self.preloaded.holds(hash) {
            Source::Memory
        } else if self.disk.holds(hash, at_rest) {
            Source::Disk
        } else {
            Source::Network
        }
    }

    /// Whether the chunk is on disk, so that a later session finds it.
    pub fn keeps(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> bool {
        self.disk.holds(hash, at_rest)
    }

    /// The plain bytes of chunk `table[index]`, from wherever they are.
    ///
    /// When it has to be fetched, chunks that follow it in the table and lie
    /// next to it in the blob come in the same ranged read, up to `window`
    /// stored bytes in all.
    ///
    /// # Errors
    /// What the store said. A reader that stops waiting does not stop the
    /// fetch, and a failed fetch is tried anew by the next reader.
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
            // It came along as a neighbour, or failed to: look again. Each
            // round either finds it or leads a flight of its own.
            if landed.is_ok() && !self.memory.holds(&chunk.hash) {
                let _ = flight.kept().await;
            }
        }
    }

    /// Begins to fetch chunk `table[index]` ahead of its readers, with
    /// neighbours as [`Cache::get`] would; `None` where it is here. A reader who
    /// asks for any of them from now on waits for this fetch.
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

    /// As [`Cache::begin`], for what others are decoded with, and may be read as
    /// well: a table without patches. Whoever needs any of it waits for this
    /// fetch, to decode something else with it, too.
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

    /// As [`Cache::begin`], for what must be on disk in the end: `None` only
    /// where it is there already.
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

    /// Keeps stored bytes that arrived with something else, once verified;
    /// gives their plain bytes.
    ///
    /// # Errors
    /// When they are not that chunk, or what it is decoded with is not here.
    pub fn insert(
        &self,
        chunk: &ChunkRef,
        stored: Bytes,
        at_rest: Option<&SecretKey>,
    ) -> Result<Bytes, ChunkError> {
        let bases = self.bases_here(chunk, at_rest);
        let raw = fetch::detached(chunk, bases.open(chunk, stored.clone())?);
        self.memory.insert(chunk.hash, raw.clone());
        // A failing disk costs speed, never a read.
        let kept = standing(chunk.clone(), stored, &raw);
        let _ = self.disk.put(&[kept], at_rest);
        Ok(raw)
    }

    /// A small durable record, as it was set last.
    pub fn record(&self, space: Space, key: &[u8], at_rest: Option<&SecretKey>) -> Option<Vec<u8>> {
        self.disk.record(space, key, at_rest)
    }

    /// Sets a small durable record.
    pub fn set_record(&self, space: Space, key: &[u8], value: &[u8], at_rest: Option<&SecretKey>) {
        self.disk.set_record(space, key, value, at_rest);
    }

    /// The names of the records of a space, and their lengths in bytes; but for
    /// those that are sealed, whose names are nobody's to know.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn records(&self, space: Space) -> Result<Vec<(Vec<u8>, u64)>, CacheError> {
        self.disk.records(space)
    }

    /// Forgets a record that is not sealed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_record(&self, space: Space, key: &[u8]) -> Result<(), CacheError> {
        self.disk.remove_record(space, key)
    }

    /// Figures since the cache was opened, and its present size.
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

    /// Forgets every chunk and, but for what is to be kept, every record.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn clear(&self, keep: Keep) -> Result<(), CacheError> {
        self.memory.clear();
        self.preloaded.clear();
        self.disk.clear(keep)
    }

    /// Removes a cache that cannot be opened, pins too.
    ///
    /// # Errors
    /// [`CacheError::Busy`] when a process has it open and keeps it for `patience`.
    pub fn erase(config: &CacheConfig, patience: Duration) -> Result<(), CacheError> {
        database::erase(&config.dir, patience)?;
        pins::PinDir::beside(&config.dir).remove_all()
    }

    /// Reads and re-hashes every chunk on disk, dropping what fails. Calls
    /// `progress` with how many are done, of how many.
    ///
    /// # Errors
    /// When the disk cannot be read at all.
    pub fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<VerifyReport, CacheError> {
        self.disk.verify(progress)
    }

    /// Waits until what was evicted has been given back to the file system,
    /// and what was kept is durable.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn settle(&self) -> Result<(), CacheError> {
        self.disk.settle()
    }
}
