//! Stored chunks in RocksDB, within a byte budget.
//!
//! Three column families: `pages` (hash → codec, plain length, stored bytes),
//! `marks` (hash → size and age, all that eviction needs to know, so that
//! opening does not read content), `records` (small durable notes of other
//! rooms). Content lies in RocksDB's blob files, so that compaction does not
//! rewrite it.
//!
//! Writes go through the write-ahead log without waiting for the disk: after
//! `kill -9` what was written is there, after a power cut the tail may be
//! missing, and either way every entry is hashed on its way out.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rocksdb::{ColumnFamily, IteratorMode, WriteBatch};
use serde::{Deserialize, Serialize};

use super::database::{self, Database, MARKS, PAGES, RECORDS};
use super::policy::Policy;
use super::stats::Counters;
use super::vault;
use super::{CacheError, VerifyReport};
use crate::chunk::{Bases, BlobId, ChunkHash, ChunkRef, Codec, Location, SecretKey};

/// Eviction stops at this part of the budget, so that it works in batches.
const EVICT_TO_PERCENT: u64 = 95;
/// Files may exceed the budget by this much before garbage is collected.
const REAL_SIZE_PERCENT: u64 = 125;
/// Rounds of one collection, so that a steady writer cannot keep it going.
const MAX_ROUNDS: usize = 3;
/// Codec and plain length before the stored bytes.
const VALUE_HEADER: usize = 5;

/// What is left when a cache is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// What was learned about the order in which files are opened.
    Learned,
}

/// Whose records they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Where the heads of blobs are: see `repo::Loader`.
    Heads,
    /// Where manifests are: see `repo::Loader`.
    Manifests,
    /// Which chunks a blob that is a file consists of: see `whole`.
    Wholes,
    /// What was learned about the order in which files are opened: see
    /// `prefetch::Guide`.
    Profiles,
    /// What is to stay: see `pins`.
    Pins,
}

impl Space {
    pub(super) fn prefix(self) -> u8 {
        match self {
            Space::Heads => b'h',
            Space::Manifests => b'm',
            Space::Wholes => b'w',
            Space::Profiles => b'p',
            Space::Pins => b'k',
        }
    }
}

pub(super) struct Disk {
    pub(super) db: Arc<Database>,
    policy: Mutex<Policy>,
    counters: Arc<Counters>,
    /// Age of the next mark.
    next: AtomicU64,
    collecting: Arc<AtomicBool>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.db.path())
            .finish_non_exhaustive()
    }
}

impl Disk {
    pub(super) fn open(
        dir: &Path,
        budget: u64,
        counters: Arc<Counters>,
    ) -> Result<Self, CacheError> {
        let db = database::open_or_renew(dir)?;
        let disk = Disk {
            db: Arc::new(db),
            policy: Mutex::new(Policy::new(budget)),
            counters,
            next: AtomicU64::new(0),
            collecting: Arc::default(),
        };
        disk.load_pins()?;
        disk.load_marks()?;
        disk.evict();
        Ok(disk)
    }

    fn load_marks(&self) -> Result<(), CacheError> {
        let mut marks: Vec<(u64, ChunkHash, u32, bool)> = Vec::new();
        for item in self
            .db
            .iterator_cf(self.family(MARKS)?, IteratorMode::Start)
        {
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

    /// Where it lies; for temporary files that belong on the same disk.
    pub(super) fn dir(&self) -> &Path {
        self.db.path()
    }

    pub(super) fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn family(&self, name: &'static str) -> Result<&ColumnFamily, CacheError> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| CacheError::Database(format!("it has no column family `{name}`")))
    }

    pub(super) fn holds(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> bool {
        self.policy().holds(&vault::page_name(hash, at_rest))
    }

    /// The plain bytes of a chunk, verified.
    pub(super) fn get(&self, hash: &ChunkHash, at_rest: Option<&SecretKey>) -> Option<Bytes> {
        let name = &vault::page_name(hash, at_rest);
        if !self.policy().holds(name) {
            return None;
        }
        let value = match self
            .family(PAGES)
            .map(|f| self.db.get_cf(f, name.as_bytes()))
        {
            Ok(Ok(Some(value))) => value,
            Ok(Ok(None)) => {
                self.drop_entries(&[*name]);
                return None;
            }
            Ok(Err(error)) => {
                self.failed(&error.into());
                self.drop_entries(&[*name]);
                return None;
            }
            Err(error) => {
                self.failed(&error);
                return None;
            }
        };
        match vault::unseal(name, value, at_rest).and_then(|value| open_value(hash, value)) {
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

    /// Keeps chunks as they are stored, each standing alone, sealed under `at_rest` if there is one.
    ///
    /// # Errors
    /// What the disk said. It is noted: who can do without may go on.
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
                // What would fill most of the budget by itself is not kept.
                stored.len() as u64 <= budget / 4 && !self.policy().holds(name)
            })
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.write(&fresh, at_rest)
            .inspect_err(|error| self.failed(error))?;
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
        chunks: &[(ChunkHash, &ChunkRef, &Bytes)],
        at_rest: Option<&SecretKey>,
    ) -> Result<(), CacheError> {
        let (pages, marks) = (self.family(PAGES)?, self.family(MARKS)?);
        let mut batch = WriteBatch::default();
        for (name, chunk, stored) in chunks {
            let mut value = Vec::with_capacity(VALUE_HEADER + stored.len());
            value.push(chunk.at.codec as u8);
            value.extend_from_slice(&chunk.raw_len.to_le_bytes());
            value.extend_from_slice(stored);
            let value = vault::seal(name, value, at_rest)?;
            let age = self.next.fetch_add(1, Ordering::Relaxed);
            batch.put_cf(pages, name.as_bytes(), value);
            batch.put_cf(
                marks,
                name.as_bytes(),
                encode_mark(age, stored.len() as u32, false),
            );
        }
        Ok(self.db.write(batch)?)
    }

    /// Brings the size under the budget.
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

    /// Forgets entries, in the policy and on disk.
    fn drop_entries(&self, hashes: &[ChunkHash]) {
        {
            let mut policy = self.policy();
            hashes.iter().for_each(|hash| policy.remove(hash));
        }
        self.delete(hashes);
    }

    fn delete(&self, hashes: &[ChunkHash]) {
        let delete = || -> Result<(), CacheError> {
            let (pages, marks) = (self.family(PAGES)?, self.family(MARKS)?);
            let mut batch = WriteBatch::default();
            for hash in hashes {
                batch.delete_cf(pages, hash.as_bytes());
                batch.delete_cf(marks, hash.as_bytes());
            }
            Ok(self.db.write(batch)?)
        };
        if let Err(error) = delete() {
            self.failed(&error);
        }
    }

    /// Gives the space of evicted content back to the file system, one
    /// collection at a time.
    fn collect_in_background(&self) {
        if self.collecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (db, collecting) = (self.db.clone(), self.collecting.clone());
        let limit = self.real_limit();
        let started = std::thread::Builder::new()
            .name("cache-collect".into())
            .spawn({
                let collecting = collecting.clone();
                move || {
                    // What is evicted meanwhile may take another round.
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
        self.save_proven()?;
        let pages = self.family(PAGES)?;
        self.db.flush_cf(pages)?;
        if self.real_bytes() > self.real_limit() {
            database::collect(&self.db);
        }
        Ok(self.db.flush_wal(true)?)
    }

    /// Writes down which entries have proven themselves, so that the next
    /// session does not mistake them for newcomers.
    fn save_proven(&self) -> Result<(), CacheError> {
        let marks = self.family(MARKS)?;
        let proven: Vec<ChunkHash> = {
            let policy = self.policy();
            let all = policy.hashes();
            all.into_iter().filter(|h| policy.proven(h)).collect()
        };
        let mut batch = WriteBatch::default();
        for hash in proven {
            if let Some(value) = self.db.get_cf(marks, hash.as_bytes())?
                && let Some((age, hash, size, false)) = decode_mark(hash.as_bytes(), &value)
            {
                batch.put_cf(marks, hash.as_bytes(), encode_mark(age, size, true));
            }
        }
        Ok(self.db.write(batch)?)
    }

    /// How many entries, and their stored bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let policy = self.policy();
        (policy.len(), policy.bytes())
    }

    pub(super) fn budget(&self) -> u64 {
        self.policy().budget()
    }

    /// What the files occupy, garbage included.
    pub(super) fn real_bytes(&self) -> u64 {
        database::real_bytes(&self.db)
    }

    /// How much they may occupy before garbage is collected.
    fn real_limit(&self) -> u64 {
        self.budget() / 100 * REAL_SIZE_PERCENT
    }

    pub(super) fn record(
        &self,
        space: Space,
        key: &[u8],
        at_rest: Option<&SecretKey>,
    ) -> Option<Vec<u8>> {
        let key = record_key(space, key, at_rest);
        let found = (self.family(RECORDS)).and_then(|f| Ok(self.db.get_cf(f, &key)?));
        let value = found.unwrap_or_else(|error| {
            self.failed(&error);
            None
        })?;
        vault::unseal(&ChunkHash::of(&key), value, at_rest)
    }

    pub(super) fn set_record(
        &self,
        space: Space,
        key: &[u8],
        value: &[u8],
        at_rest: Option<&SecretKey>,
    ) {
        let key = record_key(space, key, at_rest);
        let set = vault::seal(&ChunkHash::of(&key), value.to_vec(), at_rest)
            .and_then(|value| Ok(self.db.put_cf(self.family(RECORDS)?, &key, value)?));
        if let Err(error) = set {
            self.failed(&error);
        }
    }

    /// Names and lengths of records that are not sealed.
    pub(super) fn records(&self, space: Space) -> Result<Vec<(Vec<u8>, u64)>, CacheError> {
        let records = self.family(RECORDS)?;
        let mut found = Vec::new();
        let from = [space.prefix()];
        for item in self.db.prefix_iterator_cf(records, from) {
            let (key, value) = item?;
            match key.split_first() {
                Some((prefix, name)) if *prefix == space.prefix() => {
                    if !vault::is_sealed(&value) {
                        found.push((name.to_vec(), value.len() as u64));
                    }
                }
                _ => break,
            }
        }
        Ok(found)
    }

    pub(super) fn remove_record(&self, space: Space, key: &[u8]) -> Result<(), CacheError> {
        let key = record_key(space, key, None);
        Ok(self.db.delete_cf(self.family(RECORDS)?, key)?)
    }

    pub(super) fn clear(&self, keep: Keep) -> Result<(), CacheError> {
        let cleared = self.forget_all(keep);
        // Without its folder, the database notices only when it has to write.
        match self.dir().exists() {
            true => cleared,
            false => Err(CacheError::Gone {
                dir: self.dir().into(),
            }),
        }
    }

    fn forget_all(&self, keep: Keep) -> Result<(), CacheError> {
        self.forget_pins()?;
        let hashes = self.policy().hashes();
        self.drop_entries(&hashes);
        let records = self.family(RECORDS)?;
        let mut batch = WriteBatch::default();
        for item in self.db.iterator_cf(records, IteratorMode::Start) {
            let key = item?.0;
            let learned = key.first() == Some(&Space::Profiles.prefix());
            if !(learned && keep == Keep::Learned) {
                batch.delete_cf(records, key);
            }
        }
        self.db.write(batch)?;
        for name in [PAGES, MARKS, RECORDS] {
            self.db.flush_cf(self.family(name)?)?;
        }
        database::collect(&self.db);
        Ok(())
    }

    pub(super) fn verify(
        &self,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<VerifyReport, CacheError> {
        let hashes = self.policy().hashes();
        let pages = self.family(PAGES)?;
        let total = hashes.len() as u64;
        let mut report = VerifyReport::default();
        for (done, hash) in hashes.into_iter().enumerate() {
            let value = self.db.get_cf(pages, hash.as_bytes()).ok().flatten();
            let good = value.is_some_and(|value| match vault::is_sealed(&value) {
                true => vault::is_undamaged(&value),
                false => open_value(&hash, value).is_some(),
            });
            match good {
                true => report.good += 1,
                false => {
                    report.dropped += 1;
                    self.drop_entries(&[hash]);
                }
            }
            progress(done as u64 + 1, total);
        }
        Counters::add(&self.counters.corrupt_dropped, report.dropped);
        Ok(report)
    }

    fn failed(&self, error: &CacheError) {
        // A full disk fails at every write; say so once, count the rest.
        if self.counters.disk_errors.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("{error}; going on without keeping what is read on disk");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.save_proven() {
            self.failed(&error);
        }
    }
}

fn record_key(space: Space, key: &[u8], at_rest: Option<&SecretKey>) -> Vec<u8> {
    let mut whole = vec![space.prefix()];
    match at_rest {
        None => whole.extend_from_slice(key),
        // Which blobs somebody reads is their business too.
        Some(secret) => whole.extend_from_slice(&secret.name(ChunkHash::of(key).as_bytes())),
    }
    whole
}

fn encode_mark(age: u64, size: u32, proven: bool) -> [u8; 13] {
    let mut value = [0; 13];
    value[..8].copy_from_slice(&age.to_le_bytes());
    value[8..12].copy_from_slice(&size.to_le_bytes());
    value[12] = u8::from(proven);
    value
}

fn decode_mark(key: &[u8], value: &[u8]) -> Option<(u64, ChunkHash, u32, bool)> {
    let hash = ChunkHash::from_bytes(key.try_into().ok()?);
    let (age, rest) = value.split_first_chunk::<8>()?;
    let (size, rest) = rest.split_first_chunk::<4>()?;
    let proven = *rest.first()? == 1;
    let (age, size) = (u64::from_le_bytes(*age), u32::from_le_bytes(*size));
    Some((age, hash, size, proven))
}

/// Opens a value as any stored chunk is opened: within bounds, then by hash.
fn open_value(hash: &ChunkHash, value: Vec<u8>) -> Option<Bytes> {
    let value = Bytes::from(value);
    let (header, _) = value.split_first_chunk::<VALUE_HEADER>()?;
    let [codec, a, b, c, d] = *header;
    let stored = value.slice(VALUE_HEADER..);
    let chunk = ChunkRef {
        hash: *hash,
        raw_len: u32::from_le_bytes([a, b, c, d]),
        at: Location {
            blob: BlobId::from_bytes([0; 32]),
            offset: 0,
            stored_len: u32::try_from(stored.len()).ok()?,
            codec: Codec::try_from(codec).ok()?,
        },
        // What is kept stands alone.
        bases: Bases::NONE,
    };
    chunk.open(stored, &[]).ok()
}
