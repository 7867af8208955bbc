//! Stored chunks in RocksDB, within a byte budget.
//!
//! The column families are those of `schema`. Content is in RocksDB's blob files, so
//! that compaction does not rewrite it.
//!
//! Writes go through the write-ahead log without waiting for the disk: after `kill
//! -9` all writes are present, after a power failure the tail may be missing. In
//! both cases every entry is hashed when it is read.
//!
//! The database can be closed while the cache is in use ([`Disk::release`]): from
//! then on the disk cache is empty. When the disk refuses a write (because it is
//! full), reads continue, writes pause for [`WRITE_PAUSE`], and at most one warning is
//! printed per [`WARNING_INTERVAL`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use rocksdb::{IteratorMode, WriteBatch};

use super::at_rest::AtRest;
use super::database::{self, Database};
use super::error::CacheError;
use super::failure::is_refusal;
use super::lock::CacheLock;
use super::pin_dir::PinDir;
use super::policy::EvictionPolicy;
use super::schema::{METADATA, PAGES, decode_metadata, encode_metadata, encode_page, open_page};
use super::stats::CacheCounters;
use walgit_format::chunk::{ChunkHash, ChunkRef};

/// Eviction stops at this percentage of the budget, so that it works in batches.
const EVICT_TO_PERCENT: u64 = 95;
/// Percentage of the budget that the files may reach before garbage is collected.
const MAX_FILES_PERCENT: u64 = 125;
/// Maximum rounds of one collection, so that a steady writer cannot prolong it
/// forever.
const MAX_COLLECTION_ROUNDS: usize = 3;
/// How long writes pause after the disk has refused one.
const WRITE_PAUSE: Duration = Duration::from_secs(5);
/// Minimum time between two warnings about a failing disk.
const WARNING_INTERVAL: Duration = Duration::from_secs(600);

pub(super) struct Disk {
    dir: PathBuf,
    /// `None` after release, and in a cache without a disk.
    db: RwLock<Option<Arc<Database>>>,
    /// Exclusive right to open the database; `None` after release.
    lock: Mutex<Option<Arc<CacheLock>>>,
    /// Held while the database is reopened.
    pub(super) reopening: Mutex<()>,
    pub(super) pins: PinDir,
    policy: Mutex<EvictionPolicy>,
    pub(super) counters: Arc<CacheCounters>,
    /// Age of the next entry.
    next_age: AtomicU64,
    collecting: Arc<AtomicBool>,
    failures: Mutex<DiskFailures>,
}

/// Recent disk failures.
#[derive(Debug, Default)]
pub(super) struct DiskFailures {
    /// Time and error of the last failed write.
    pub(super) last_write: Option<(Instant, CacheError)>,
    warned: Option<Instant>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Disk {
    pub(super) fn open(
        dir: &Path,
        budget: u64,
        counters: Arc<CacheCounters>,
        timeout: Duration,
    ) -> Result<Self, CacheError> {
        let (db, salvaged) = database::open(dir, timeout)?;
        let disk = Disk::with(dir, budget, counters, Some(db));
        if let Some(salvaged) = salvaged {
            disk.restore(salvaged);
        }
        disk.move_old_pins()?;
        disk.load_pins()?;
        disk.load_metadata()?;
        disk.evict();
        Ok(disk)
    }

    /// Creates a disk cache that holds nothing.
    pub(super) fn none(dir: &Path, counters: Arc<CacheCounters>) -> Self {
        Disk::with(dir, 0, counters, None)
    }

    fn with(dir: &Path, budget: u64, counters: Arc<CacheCounters>, db: Option<Database>) -> Self {
        Disk {
            dir: dir.into(),
            lock: Mutex::new(db.as_ref().map(Database::lock)),
            reopening: Mutex::default(),
            db: RwLock::new(db.map(Arc::new)),
            pins: PinDir::of(dir),
            policy: Mutex::new(EvictionPolicy::new(budget)),
            counters,
            next_age: AtomicU64::new(0),
            collecting: Arc::default(),
            failures: Mutex::default(),
        }
    }

    fn load_metadata(&self) -> Result<(), CacheError> {
        let db = self.db()?;
        let mut entries: Vec<(u64, ChunkHash, u32, bool)> = Vec::new();
        for item in db.iterator_cf(db.family(METADATA)?, IteratorMode::Start) {
            let (key, value) = item?;
            entries.extend(decode_metadata(&key, &value));
        }
        entries.sort_unstable();
        let mut policy = self.policy();
        for (_, hash, size, promoted) in &entries {
            policy.insert(*hash, *size, *promoted);
        }
        let next = entries.last().map_or(0, |last| last.0 + 1);
        self.next_age.store(next, Ordering::Relaxed);
        Ok(())
    }

    /// Directory of the database; for temporary files on the same disk.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn policy(&self) -> MutexGuard<'_, EvictionPolicy> {
        self.policy.lock()
    }

    pub(super) fn failures(&self) -> MutexGuard<'_, DiskFailures> {
        self.failures.lock()
    }

    pub(super) fn db(&self) -> Result<Arc<Database>, CacheError> {
        self.db.read().clone().ok_or(CacheError::Released)
    }

    /// Returns the database, unless it refused a write within the last [`WRITE_PAUSE`].
    pub(super) fn db_to_write(&self) -> Result<Arc<Database>, CacheError> {
        let failure = self.failures().last_write.clone();
        match failure {
            None => self.db(),
            Some((at, error)) if at.elapsed() < WRITE_PAUSE => Err(error),
            Some((_, error)) => self.reopen(error),
        }
    }

    /// Reopens the database when space is available: RocksDB accepts no writes
    /// after one has failed.
    fn reopen(&self, error: CacheError) -> Result<Arc<Database>, CacheError> {
        let Some(_reopening) = self.reopening.try_lock() else {
            return Err(error);
        };
        self.failures().last_write = Some((Instant::now(), error));
        database::check_space(&self.dir)?;
        let lock = self.lock().clone().ok_or(CacheError::Released)?;
        self.close()?;
        let db = Arc::new(database::reopen(&self.dir, lock)?);
        self.set(Some(db.clone()));
        self.load_metadata()?;
        Ok(db)
    }

    pub(super) fn set(&self, db: Option<Arc<Database>>) -> Option<Arc<Database>> {
        std::mem::replace(&mut *self.db.write(), db)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Arc<CacheLock>>> {
        self.lock.lock()
    }

    pub(super) fn is_released(&self) -> bool {
        self.lock().is_none()
    }

    /// Closes the database, so that another process can open it. Requests in
    /// progress complete; later requests find nothing.
    pub(super) fn release(&self) {
        // Wait for a concurrent reopen.
        let _reopening = self.reopening.lock();
        self.lock().take();
        self.take();
    }

    /// Abandons the database if it was removed or moved, and returns whether it
    /// was. Does not close it: that would write files where another process may
    /// have created a database.
    pub(super) fn abandon_if_displaced(&self) -> bool {
        let is_displaced = |lock: &Arc<CacheLock>| !lock.is_of(&self.dir);
        if !self.lock().as_ref().is_some_and(is_displaced) {
            return false;
        }
        let _reopening = self.reopening.lock();
        let lock = self.lock().take();
        std::mem::forget((lock, self.take()));
        true
    }

    pub(super) fn take(&self) -> Option<Arc<Database>> {
        let db = self.set(None);
        if let Some(db) = &db {
            // A compaction may take seconds.
            db.cancel_all_background_work(false);
        }
        self.policy().clear_entries();
        db
    }

    pub(super) fn contains(&self, hash: &ChunkHash, at_rest: AtRest<'_>) -> bool {
        self.policy().contains(&at_rest.page_name(hash))
    }

    /// Returns the verified plain bytes of a chunk.
    pub(super) fn get(&self, hash: &ChunkHash, at_rest: AtRest<'_>) -> Option<Bytes> {
        let name = &at_rest.page_name(hash);
        if !self.policy().contains(name) {
            return None;
        }
        let db = self.db().ok()?;
        let value = match db.get_cf(db.family(PAGES).ok()?, name.as_bytes()) {
            Ok(Some(value)) => value,
            Ok(None) => {
                self.drop_entries(&[*name]);
                return None;
            }
            Err(error) => {
                // A read that fails now may succeed later.
                let passes = is_refusal(&error);
                self.failed(&error.into());
                if !passes {
                    self.drop_entries(&[*name]);
                }
                return None;
            }
        };
        match (at_rest.decrypt(name, value)).and_then(|value| open_page(hash, value)) {
            Some(raw) => {
                self.policy().record_use(name);
                Some(raw)
            }
            None => {
                tracing::warn!("dropped a damaged cache entry, page {name}");
                CacheCounters::add(&self.counters.corrupt_dropped, 1);
                self.drop_entries(&[*name]);
                None
            }
        }
    }

    /// Stores chunks in their stored form, each without bases.
    ///
    /// # Errors
    /// The error of the disk. It is recorded, so callers may ignore it.
    pub(super) fn put(
        &self,
        chunks: &[(ChunkRef, Bytes)],
        at_rest: AtRest<'_>,
    ) -> Result<(), CacheError> {
        let budget = self.policy().budget();
        let new: Vec<(ChunkHash, &ChunkRef, &Bytes)> = chunks
            .iter()
            .map(|(chunk, stored)| (at_rest.page_name(&chunk.hash), chunk, stored))
            .filter(|(name, _, stored)| {
                // A chunk that would fill much of the budget is not stored.
                stored.len() as u64 <= budget / 4 && !self.policy().contains(name)
            })
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let db = self.db_to_write()?;
        (self.write(&db, &new, at_rest)).inspect_err(|error| self.write_failed(error))?;
        self.write_succeeded();
        {
            let mut policy = self.policy();
            for (name, _, stored) in new {
                policy.insert(name, stored.len() as u32, false);
            }
        }
        self.evict();
        Ok(())
    }

    fn write(
        &self,
        db: &Database,
        chunks: &[(ChunkHash, &ChunkRef, &Bytes)],
        at_rest: AtRest<'_>,
    ) -> Result<(), CacheError> {
        let (pages, metadata) = (db.family(PAGES)?, db.family(METADATA)?);
        let mut batch = WriteBatch::default();
        for (name, chunk, stored) in chunks {
            let value = at_rest.encrypt(name, encode_page(chunk, stored))?;
            let age = self.next_age.fetch_add(1, Ordering::Relaxed);
            batch.put_cf(pages, name.as_bytes(), value);
            let entry = encode_metadata(age, stored.len() as u32, false);
            batch.put_cf(metadata, name.as_bytes(), entry);
        }
        Ok(db.write(batch)?)
    }

    /// Evicts entries until the size is within the budget.
    fn evict(&self) {
        let evicted = {
            let mut policy = self.policy();
            let budget = policy.budget();
            if policy.bytes() <= budget {
                return;
            }
            policy.evict_to(budget / 100 * EVICT_TO_PERCENT)
        };
        CacheCounters::add(&self.counters.evictions, evicted.len() as u64);
        self.delete(&evicted);
        if self.real_bytes() > self.real_limit() {
            self.collect_in_background();
        }
    }

    /// Removes entries from the policy and the disk.
    pub(super) fn drop_entries(&self, hashes: &[ChunkHash]) {
        {
            let mut policy = self.policy();
            hashes.iter().for_each(|hash| policy.remove(hash));
        }
        self.delete(hashes);
    }

    fn delete(&self, hashes: &[ChunkHash]) {
        let Ok(db) = self.db_to_write() else {
            return;
        };
        let delete = || -> Result<(), CacheError> {
            let (pages, metadata) = (db.family(PAGES)?, db.family(METADATA)?);
            let mut batch = WriteBatch::default();
            for hash in hashes {
                batch.delete_cf(pages, hash.as_bytes());
                batch.delete_cf(metadata, hash.as_bytes());
            }
            Ok(db.write(batch)?)
        };
        if let Err(error) = delete() {
            self.write_failed(&error);
        }
    }

    /// Returns the space of evicted content to the file system, one collection at a
    /// time.
    fn collect_in_background(&self) {
        let Ok(db) = self.db() else {
            return;
        };
        if self.collecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let collecting = self.collecting.clone();
        let limit = self.real_limit();
        let collect = move || {
            // Evictions during a round may require another.
            for _ in 0..MAX_COLLECTION_ROUNDS {
                database::collect(&db);
                if database::real_bytes(&db) <= limit {
                    break;
                }
            }
            collecting.store(false, Ordering::Release);
        };
        let thread = std::thread::Builder::new().name("cache-collect".into());
        if thread.spawn(collect).is_err() {
            self.collecting.store(false, Ordering::Release);
        }
    }

    pub(super) fn settle(&self) -> Result<(), CacheError> {
        let db = self.db()?;
        self.save_promoted(&db)?;
        db.flush_cf(db.family(PAGES)?)?;
        if self.real_bytes() > self.real_limit() {
            database::collect(&db);
        }
        Ok(db.flush_wal(true)?)
    }

    /// Records which entries were promoted, so that the next session does not treat
    /// them as new.
    fn save_promoted(&self, db: &Database) -> Result<(), CacheError> {
        let metadata = db.family(METADATA)?;
        let promoted = self.policy().promoted();
        let mut batch = WriteBatch::default();
        for hash in promoted {
            if let Some(value) = db.get_cf(metadata, hash.as_bytes())?
                && let Some((age, hash, size, false)) = decode_metadata(hash.as_bytes(), &value)
            {
                batch.put_cf(metadata, hash.as_bytes(), encode_metadata(age, size, true));
            }
        }
        Ok(db.write(batch)?)
    }

    /// Number of entries and their stored bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let policy = self.policy();
        (policy.len(), policy.bytes())
    }

    pub(super) fn budget(&self) -> u64 {
        self.policy().budget()
    }

    /// Size of the files in bytes, including garbage.
    pub(super) fn real_bytes(&self) -> u64 {
        self.db().map_or(0, |db| database::real_bytes(&db))
    }

    /// Size that the files may reach before garbage is collected.
    fn real_limit(&self) -> u64 {
        self.budget() / 100 * MAX_FILES_PERCENT
    }

    /// Records a successful write.
    pub(super) fn write_succeeded(&self) {
        let mut failures = self.failures();
        if failures.last_write.take().is_some() {
            tracing::info!(
                "writes to the cache in {} succeed again",
                self.dir.display()
            );
        }
    }

    pub(super) fn write_failed(&self, error: &CacheError) {
        self.failures().last_write = Some((Instant::now(), error.clone()));
        self.failed(error);
    }

    /// Records a failure. A full disk fails at every write: counts each, but warns
    /// at most once per [`WARNING_INTERVAL`].
    pub(super) fn failed(&self, error: &CacheError) {
        CacheCounters::add(&self.counters.disk_errors, 1);
        let mut failures = self.failures();
        if (failures.warned).is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            failures.warned = Some(Instant::now());
            drop(failures);
            tracing::warn!(
                "the cache in {} fails ({error}); reads continue without caching on disk",
                self.dir.display()
            );
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.failures().last_write.is_none()
            && let Ok(db) = self.db()
            && let Err(error) = self.save_promoted(&db)
        {
            self.failed(&error);
        }
    }
}
