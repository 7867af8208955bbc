//! Stored chunks in RocksDB, within a byte budget.
//!
//! Three column families: `pages` (hash → codec, plain length, stored bytes),
//! `marks` (hash → size and age, all that eviction needs, so that opening does not
//! read content), `records` (small durable records of other modules). Content is in
//! RocksDB's blob files, so that compaction does not rewrite it.
//!
//! Writes go through the write-ahead log without waiting for the disk: after `kill
//! -9` all writes are present, after a power failure the tail may be missing. In
//! both cases every entry is hashed when it is read.
//!
//! The database can be closed while the cache is in use ([`Disk::release`]): from
//! then on the disk cache is empty. When the disk refuses a write (because it is
//! full), reads continue, writes pause for [`PAUSE`], and at most one warning is
//! printed per [`QUIET`].

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocksdb::{IteratorMode, WriteBatch};

use super::CacheError;
use super::database::{self, Database, MARKS, PAGES};
use super::entry::{decode_mark, encode_mark, encode_page, open_page};
use super::failure::is_refusal;
use super::lock::Lock;
use super::pins::PinDir;
use super::policy::Policy;
use super::stats::Counters;
use super::vault;
use walgit_format::chunk::{ChunkHash, ChunkRef, SecretKey};

/// Eviction stops at this percentage of the budget, so that it works in batches.
const EVICT_TO_PERCENT: u64 = 95;
/// Percentage of the budget that the files may reach before garbage is collected.
const REAL_SIZE_PERCENT: u64 = 125;
/// Maximum rounds of one collection, so that a steady writer cannot prolong it
/// forever.
const MAX_ROUNDS: usize = 3;
/// How long writes pause after the disk has refused one.
const PAUSE: Duration = Duration::from_secs(5);
/// Minimum time between two warnings about a failing disk.
const QUIET: Duration = Duration::from_secs(600);

pub(super) struct Disk {
    dir: PathBuf,
    /// `None` after release, and in a cache without a disk.
    db: RwLock<Option<Arc<Database>>>,
    /// Exclusive right to open the database; `None` after release.
    lock: Mutex<Option<Arc<Lock>>>,
    /// Held while the database is reopened.
    pub(super) reopening: Mutex<()>,
    pub(super) pins: PinDir,
    policy: Mutex<Policy>,
    pub(super) counters: Arc<Counters>,
    /// Age of the next mark.
    next: AtomicU64,
    collecting: Arc<AtomicBool>,
    refused: Mutex<Refused>,
}

/// Recent disk failures.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Time and error of the last failed write.
    pub(super) write: Option<(Instant, CacheError)>,
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
        counters: Arc<Counters>,
        patience: Duration,
    ) -> Result<Self, CacheError> {
        let (db, salvaged) = database::open(dir, patience)?;
        let disk = Disk::with(dir, budget, counters, Some(db));
        if let Some(salvaged) = salvaged {
            disk.restore(salvaged);
        }
        disk.move_old_pins()?;
        disk.load_pins()?;
        disk.load_marks()?;
        disk.evict();
        Ok(disk)
    }

    /// Creates a disk cache that holds nothing.
    pub(super) fn none(dir: &Path, counters: Arc<Counters>) -> Self {
        Disk::with(dir, 0, counters, None)
    }

    fn with(dir: &Path, budget: u64, counters: Arc<Counters>, db: Option<Database>) -> Self {
        Disk {
            dir: dir.into(),
            lock: Mutex::new(db.as_ref().map(Database::lock)),
            reopening: Mutex::default(),
            db: RwLock::new(db.map(Arc::new)),
            pins: PinDir::beside(dir),
            policy: Mutex::new(Policy::new(budget)),
            counters,
            next: AtomicU64::new(0),
            collecting: Arc::default(),
            refused: Mutex::default(),
        }
    }

    fn load_marks(&self) -> Result<(), CacheError> {
        let db = self.db()?;
        let mut marks: Vec<(u64, ChunkHash, u32, bool)> = Vec::new();
        for item in db.iterator_cf(db.family(MARKS)?, IteratorMode::Start) {
            let (key, value) = item?;
            if let Some(mark) = decode_mark(&key, &value) {
                marks.push(mark);
            }
        }
        marks.sort_unstable();
        let mut policy = self.policy();
        for (_, hash, size, proven) in &marks {
            policy.insert(*hash, *size, *proven);
        }
        let next = marks.last().map_or(0, |last| last.0 + 1);
        self.next.store(next, Ordering::Relaxed);
        Ok(())
    }

    /// Directory of the database; for temporary files on the same disk.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn db(&self) -> Result<Arc<Database>, CacheError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        db.clone().ok_or(CacheError::Released)
    }

    /// Returns the database, unless it refused a write within the last [`PAUSE`].
    pub(super) fn db_to_write(&self) -> Result<Arc<Database>, CacheError> {
        let refused = self.refused().write.clone();
        match refused {
            None => self.db(),
            Some((at, error)) if at.elapsed() < PAUSE => Err(error),
            Some((_, error)) => self.reopen(error),
        }
    }

    /// Reopens the database when space is available: RocksDB accepts no writes
    /// after one has failed.
    fn reopen(&self, error: CacheError) -> Result<Arc<Database>, CacheError> {
        let Ok(_alone) = self.reopening.try_lock() else {
            return Err(error);
        };
        self.refused().write = Some((Instant::now(), error));
        database::check_space(&self.dir)?;
        let lock = self.lock().clone().ok_or(CacheError::Released)?;
        self.close()?;
        let db = Arc::new(database::reopen(&self.dir, lock)?);
        self.set(Some(db.clone()));
        self.load_marks()?;
        Ok(db)
    }

    pub(super) fn set(&self, db: Option<Arc<Database>>) -> Option<Arc<Database>> {
        let mut place = self.db.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, db)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Arc<Lock>>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_released(&self) -> bool {
        self.lock().is_none()
    }

    /// Closes the database, so that another process can open it. Requests in
    /// progress complete; later requests find nothing.
    pub(super) fn release(&self) {
        // Wait for a concurrent reopen.
        let _alone = self.reopening.lock();
        self.lock().take();
        self.take();
    }

    /// Abandons the database if it was removed or moved, and returns whether it
    /// was. Does not close it: that would write files where another process may
    /// have created a database.
    pub(super) fn abandon_if_displaced(&self) -> bool {
        let is_displaced = |lock: &Arc<Lock>| !lock.is_of(&self.dir);
        if !self.lock().as_ref().is_some_and(is_displaced) {
            return false;
        }
        let _alone = self.reopening.lock();
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
        self.policy().forget_entries();
        db
    }

    pub(super) fn holds(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> bool {
        self.policy().holds(&vault::page_name(hash, at_rest))
    }

    /// Returns the verified plain bytes of a chunk.
    pub(super) fn get(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> Option<Bytes> {
        let name = &vault::page_name(hash, at_rest);
        if !self.policy().holds(name) {
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
        match vault::unseal(name, value, at_rest).and_then(|value| open_page(hash, value)) {
            Some(raw) => {
                self.policy().used(name);
                Some(raw)
            }
            None => {
                tracing::warn!("dropped a damaged cache entry, page {name}");
                Counters::add(&self.counters.corrupt_dropped, 1);
                self.drop_entries(&[*name]);
                None
            }
        }
    }

    /// Stores chunks in their stored form, each without bases, sealed under
    /// `at_rest` if set.
    ///
    /// # Errors
    /// The error of the disk. It is recorded, so callers may ignore it.
    pub(super) fn put(
        &self,
        chunks: &[(ChunkRef, Bytes)],
        at_rest: Option<&SecretKey>,
    ) -> Result<(), CacheError> {
        let budget = self.policy().budget();
        let fresh: Vec<(ChunkHash, &ChunkRef, &Bytes)> = chunks
            .iter()
            .map(|(chunk, stored)| (vault::page_name(&chunk.hash, at_rest), chunk, stored))
            .filter(|(name, _, stored)| {
                // A chunk that would fill much of the budget is not stored.
                stored.len() as u64 <= budget / 4 && !self.policy().holds(name)
            })
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let db = self.db_to_write()?;
        self.write(&db, &fresh, at_rest)
            .inspect_err(|error| self.write_failed(error))?;
        self.wrote();
        {
            let mut policy = self.policy();
            for (name, _, stored) in fresh {
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
        at_rest: Option<&SecretKey>,
    ) -> Result<(), CacheError> {
        let (pages, marks) = (db.family(PAGES)?, db.family(MARKS)?);
        let mut batch = WriteBatch::default();
        for (name, chunk, stored) in chunks {
            let value = vault::seal(name, encode_page(chunk, stored), at_rest)?;
            let age = self.next.fetch_add(1, Ordering::Relaxed);
            batch.put_cf(pages, name.as_bytes(), value);
            batch.put_cf(
                marks,
                name.as_bytes(),
                encode_mark(age, stored.len() as u32, false),
            );
        }
        Ok(db.write(batch)?)
    }

    /// Evicts entries until the size is within the budget.
    fn evict(&self) {
        let evicted = {
            let mut policy = self.policy();
            match policy.bytes() > policy.budget() {
                true => {
                    let target = policy.budget() / 100 * EVICT_TO_PERCENT;
                    policy.evict_to(target)
                }
                false => return,
            }
        };
        Counters::add(&self.counters.evictions, evicted.len() as u64);
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
            let (pages, marks) = (db.family(PAGES)?, db.family(MARKS)?);
            let mut batch = WriteBatch::default();
            for hash in hashes {
                batch.delete_cf(pages, hash.as_bytes());
                batch.delete_cf(marks, hash.as_bytes());
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
        let started = std::thread::Builder::new()
            .name("cache-collect".into())
            .spawn({
                let collecting = collecting.clone();
                move || {
                    // Evictions during a round may require another.
                    for _ in 0..MAX_ROUNDS {
                        database::collect(&db);
                        if database::real_bytes(&db) <= limit {
                            break;
                        }
                    }
                    collecting.store(false, Ordering::Release);
                }
            });
        if started.is_err() {
            collecting.store(false, Ordering::Release);
        }
    }

    pub(super) fn settle(&self) -> Result<(), CacheError> {
        let db = self.db()?;
        self.save_proven(&db)?;
        db.flush_cf(db.family(PAGES)?)?;
        if self.real_bytes() > self.real_limit() {
            database::collect(&db);
        }
        Ok(db.flush_wal(true)?)
    }

    /// Records which entries have proven themselves, so that the next session does
    /// not treat them as new.
    fn save_proven(&self, db: &Database) -> Result<(), CacheError> {
        let marks = db.family(MARKS)?;
        let proven: Vec<ChunkHash> = {
            let policy = self.policy();
            let all = policy.hashes();
            all.into_iter().filter(|h| policy.proven(h)).collect()
        };
        let mut batch = WriteBatch::default();
        for hash in proven {
            if let Some(value) = db.get_cf(marks, hash.as_bytes())?
                && let Some((age, hash, size, false)) = decode_mark(hash.as_bytes(), &value)
            {
                batch.put_cf(marks, hash.as_bytes(), encode_mark(age, size, true));
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
        self.budget() / 100 * REAL_SIZE_PERCENT
    }

    /// Records a successful write.
    pub(super) fn wrote(&self) {
        let mut refused = self.refused();
        if refused.write.take().is_some() {
            tracing::info!("the cache in {} is written to again", self.dir.display());
        }
    }

    pub(super) fn write_failed(&self, error: &CacheError) {
        self.refused().write = Some((Instant::now(), error.clone()));
        self.failed(error);
    }

    /// Records a failure. A full disk fails at every write: counts each, but warns
    /// at most once per [`QUIET`].
    pub(super) fn failed(&self, error: &CacheError) {
        self.counters.disk_errors.fetch_add(1, Ordering::Relaxed);
        let warn = {
            let mut refused = self.refused();
            let warn = refused.warned.is_none_or(|at| at.elapsed() >= QUIET);
            if warn {
                refused.warned = Some(Instant::now());
            }
            warn
        };
        if warn {
            tracing::warn!(
                "the cache in {} fails ({error}); reads go on, and what is read is not kept on disk",
                self.dir.display()
            );
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.refused().write.is_none()
            && let Ok(db) = self.db()
            && let Err(error) = self.save_proven(&db)
        {
            self.failed(&error);
        }
    }
}
