//! RocksDB database of the cache: options, opening and recovery.

use std::fs;
use std::io;
use std::ops::{Deref, RangeInclusive};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, Cache as BlockCache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompressionType, Options,
};
use rustix::fs::{Access, AtFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::CacheError;
use super::failure::{cannot_open, is_damage, refused};
use super::lock::{self, CacheLock};
use super::salvage::{self, Salvaged};
use super::schema::{METADATA, PAGES, RECORDS};

/// Values of at least this size go to blob files; smaller ones cost less in the LSM
/// tree.
const MIN_BLOB_VALUE_LEN: u64 = 512;
/// Memory for blocks of keys and small values, in bytes.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// Memory that buffers writes before they are flushed to a file, in bytes.
const WRITE_BUFFER_BYTES: usize = 8 << 20;
/// Number of files that the database keeps open.
const OPEN_FILES: RangeInclusive<u64> = 20..=256;
/// Minimum number of files that the process must be able to open: those of the
/// database, and as many for all other purposes.
const MIN_PROCESS_FILES: u64 = 64;
/// Suffix of a database that is being removed.
const REMOVED_SUFFIX: &str = ".removed";
/// Space in bytes that opening needs in addition to the replayed log.
const MIN_FREE_BYTES: u64 = 1 << 20;

/// An open database, locked against other processes.
pub(super) struct Database {
    db: DB,
    // Released when the database is closed.
    lock: Arc<CacheLock>,
}

impl Deref for Database {
    type Target = DB;

    fn deref(&self) -> &DB {
        &self.db
    }
}

impl Database {
    pub(super) fn lock(&self) -> Arc<CacheLock> {
        self.lock.clone()
    }

    pub(super) fn family(&self, name: &'static str) -> Result<&ColumnFamily, CacheError> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| CacheError::Database(format!("no column family `{name}`")))
    }
}

/// Opens or creates the database in a directory. A damaged database is set aside
/// and replaced by a new one: pages can be fetched again, and records that cannot
/// be are salvaged. If the system refuses access, nothing is changed.
///
/// # Errors
/// [`CacheError::Busy`] if another process has it open and does not release it
/// within `timeout`; [`CacheError::Open`] if the system refuses access.
pub(super) fn open(
    dir: &Path,
    timeout: Duration,
) -> Result<(Database, Option<Salvaged>), CacheError> {
    private_dir(dir)?;
    let lock = Arc::new(lock::acquire(dir, timeout)?);
    let files = open_files(dir)?;
    remove_all(&lock::sibling_path(dir, REMOVED_SUFFIX));
    check_access(dir)?;
    check_space(dir)?;
    let damage = match check_current(dir).map(|()| open_db(dir, files)) {
        Ok(Ok(db)) => return Ok((Database { db, lock }, None)),
        Ok(Err(error)) if is_locked(&error) => {
            let holder = "a walgit-fs process of another version".into();
            let dir = dir.into();
            return Err(CacheError::Busy { dir, holder });
        }
        Ok(Err(error)) if !is_damage(dir, &error) => return Err(refused(dir, &error)),
        Ok(Err(error)) => error.into_string(),
        Err(damage) => damage,
    };
    let salvaged = salvage::set_aside(dir, &damage)?;
    private_dir(dir)?;
    let db = open_db(dir, files).map_err(|error| refused(dir, &error))?;
    Ok((Database { db, lock }, Some(salvaged)))
}

/// Reopens a database that this process has closed.
pub(super) fn reopen(dir: &Path, lock: Arc<CacheLock>) -> Result<Database, CacheError> {
    let db = open_db(dir, open_files(dir)?).map_err(|error| refused(dir, &error))?;
    Ok(Database { db, lock })
}

/// Replaces a database that this process has closed by a new one.
pub(super) fn renew(dir: &Path, lock: Arc<CacheLock>) -> Result<Database, CacheError> {
    remove(dir)?;
    private_dir(dir)?;
    reopen(dir, lock)
}

/// Removes a database that no process has open, even if it cannot be opened.
///
/// # Errors
/// [`CacheError::Busy`] if a process has it open and does not release it within
/// `timeout`.
pub(super) fn erase(dir: &Path, timeout: Duration) -> Result<(), CacheError> {
    let _lock = lock::acquire(dir, timeout)?;
    remove(dir)
}

/// Removes the files of a database, after a rename: a partially removed one would
/// look damaged.
fn remove(dir: &Path) -> Result<(), CacheError> {
    let failed = |error: io::Error| cannot_open(dir, &error);
    let removed = lock::sibling_path(dir, REMOVED_SUFFIX);
    remove_all(&removed);
    match fs::rename(dir, &removed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => {
            remove_all(&removed);
            Ok(())
        }
    }
}

fn remove_all(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {error}", dir.display());
    }
}

/// Raises the limit of open files as far as permitted, and returns how many the
/// database may use.
fn open_files(dir: &Path) -> Result<u64, CacheError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let raised = setrlimit(Resource::Nofile, raised).map(|()| limit.maximum);
    let limit = raised.unwrap_or(limit.current).unwrap_or(u64::MAX);
    if limit < MIN_PROCESS_FILES {
        return Err(CacheError::Open {
            dir: dir.into(),
            why: format!(
                "a process may open only {limit} files, and {MIN_PROCESS_FILES} are needed; raise the limit (ulimit -n)"
            ),
        });
    }
    Ok(((limit - MIN_PROCESS_FILES) / 2).clamp(*OPEN_FILES.start(), *OPEN_FILES.end()))
}

/// Detects files without read or write permission before RocksDB does, because
/// RocksDB would already have changed files by then.
fn check_access(dir: &Path) -> Result<(), CacheError> {
    let failed = |error: io::Error| cannot_open(dir, &error);
    let access = |path: &Path| {
        let wanted = Access::READ_OK | Access::WRITE_OK;
        rustix::fs::accessat(rustix::fs::CWD, path, wanted, AtFlags::EACCESS)
    };
    access(dir).map_err(|error| failed(error.into()))?;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Err(error) = access(&path) {
            let CacheError::Open { dir, why } = failed(error.into()) else {
                continue;
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let why = format!("{name}: {why}");
            return Err(CacheError::Open { dir, why });
        }
    }
    Ok(())
}

/// Checks that there is enough space for the writes of opening.
pub(super) fn check_space(dir: &Path) -> Result<(), CacheError> {
    let failed = |error: Errno| cannot_open(dir, &error.into());
    let disk = rustix::fs::statvfs(dir).map_err(failed)?;
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(failed(Errno::ROFS));
    }
    let root = rustix::process::geteuid().is_root();
    let blocks = if root { disk.f_bfree } else { disk.f_bavail };
    let logs = fs::read_dir(dir).into_iter().flatten().flatten();
    let logs = logs.filter(|entry| entry.path().extension().is_some_and(|it| it == "log"));
    let logs: u64 = (logs.filter_map(|entry| entry.metadata().ok()))
        .map(|metadata| metadata.len())
        .sum();
    // Some network file systems report nothing.
    let is_reported = disk.f_blocks > 0;
    if is_reported && blocks.saturating_mul(disk.f_frsize) < MIN_FREE_BYTES + logs {
        return Err(failed(Errno::NOSPC));
    }
    Ok(())
}

/// Checks that `CURRENT` exists if other files do. Without it RocksDB would create
/// a new database and delete them.
fn check_current(dir: &Path) -> Result<(), String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_content = |name: &str| name.starts_with("MANIFEST-") || name.ends_with(".sst");
    if !dir.join("CURRENT").exists() && names.any(|name| is_content(&name)) {
        return Err("the file CURRENT is missing".into());
    }
    Ok(())
}

fn options(files: u64) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(i32::try_from(files).unwrap_or(i32::MAX));
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_max_total_wal_size(32 << 20);
    options.increase_parallelism(2);
    options.set_stats_dump_period_sec(0);
    options
}

fn open_db(dir: &Path, files: u64) -> Result<DB, rocksdb::Error> {
    let block_cache = BlockCache::new_lru_cache(BLOCK_CACHE_BYTES);
    let tree = || {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&block_cache);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        // Values are compressed already, and keys are hashes: compression gains
        // nothing.
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        options.set_max_write_buffer_number(3);
        options
    };
    let mut pages = tree();
    pages.set_enable_blob_files(true);
    pages.set_min_blob_size(MIN_BLOB_VALUE_LEN);
    pages.set_blob_file_size(32 << 20);
    pages.set_blob_compression_type(DBCompressionType::None);
    pages.set_enable_blob_gc(true);
    pages.set_blob_gc_age_cutoff(1.0);
    pages.set_blob_gc_force_threshold(0.5);
    let families = [(PAGES, pages), (METADATA, tree()), (RECORDS, tree())]
        .map(|(name, options)| ColumnFamilyDescriptor::new(name, options));
    DB::open_cf_descriptors(&options(files), dir, families)
}

/// Size of the files in bytes, including garbage.
pub(super) fn real_bytes(db: &DB) -> u64 {
    let of = |property: &str| -> u64 {
        [PAGES, METADATA, RECORDS]
            .into_iter()
            .filter_map(|name| db.cf_handle(name))
            .filter_map(|family| db.property_int_value_cf(family, property).ok().flatten())
            .sum()
    };
    of("rocksdb.total-blob-file-size") + of("rocksdb.total-sst-files-size")
}

/// Returns the space of deleted values to the file system.
pub(super) fn collect(db: &DB) {
    for name in [METADATA, PAGES] {
        if let Some(family) = db.cf_handle(name) {
            db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
        }
    }
}

fn is_locked(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    text.contains("lock hold by current process") || text.contains("While lock file")
}

fn private_dir(dir: &Path) -> Result<(), CacheError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| cannot_open(dir, &error))
}
