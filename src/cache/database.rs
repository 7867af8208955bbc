//! The RocksDB under the cache: its settings, and what to do when it is damaged.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache as BlockCache, ColumnFamilyDescriptor, DB, DBCompressionType, Options,
};
use rustix::fs::{FlockOperation, flock};

use super::CacheError;

pub(super) const PAGES: &str = "pages";
pub(super) const MARKS: &str = "marks";
pub(super) const RECORDS: &str = "records";

/// Values from this size on go to blob files; smaller ones cost less in the
/// tree itself.
const MIN_BLOB_VALUE: u64 = 512;
/// Memory for blocks of keys and small values.
const BLOCK_CACHE: usize = 8 << 20;
/// Memory that collects writes before they become a file.
const WRITE_BUFFER: usize = 8 << 20;

/// The database, which nobody else opens meanwhile.
pub(super) struct Database {
    db: DB,
    // Let go of when the database is closed.
    _alone: File,
}

impl Deref for Database {
    type Target = DB;

    fn deref(&self) -> &DB {
        &self.db
    }
}

/// Opens the database in a directory, or makes it. A damaged one is moved aside
/// and a new one begun: what it held can be fetched again.
pub(super) fn open_or_renew(dir: &Path) -> Result<Database, CacheError> {
    private_dir(dir)?;
    let alone = alone(dir)?;
    let error = match open_db(dir) {
        Ok(db) => return Ok(Database { db, _alone: alone }),
        Err(error) => error,
    };
    // By a program from before there was a lock of our own.
    if is_locked(&error) {
        return Err(CacheError::Busy { dir: dir.into() });
    }
    let aside = move_aside(dir)?;
    tracing::warn!(
        "the cache in {} is damaged ({error}); it was moved to {} and a new one begun",
        dir.display(),
        aside.display()
    );
    let db = open_db(dir).map_err(|error| CacheError::Open {
        dir: dir.into(),
        why: error.into_string(),
    })?;
    Ok(Database { db, _alone: alone })
}

/// Locks a file beside the database's directory.
///
/// RocksDB has a lock too, and takes it when it has already tidied up its logs:
/// of several that open at once, some would find files gone, which looks like
/// damage, and move the database aside that another is using.
fn alone(dir: &Path) -> Result<File, CacheError> {
    let mut name = dir.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error: io::Error| CacheError::Open {
        dir: dir.into(),
        why: error.to_string(),
    };
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(name)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(CacheError::Busy { dir: dir.into() }),
        Err(error) => Err(failed(error.into())),
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_max_total_wal_size(32 << 20);
    options.increase_parallelism(2);
    options.set_stats_dump_period_sec(0);
    options
}

fn open_db(dir: &Path) -> Result<DB, rocksdb::Error> {
    let block_cache = BlockCache::new_lru_cache(BLOCK_CACHE);
    let tree = || {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&block_cache);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        // Values come compressed, keys are hashes: nothing left to compress.
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(WRITE_BUFFER);
        options.set_max_write_buffer_number(3);
        options
    };
    let mut pages = tree();
    pages.set_enable_blob_files(true);
    pages.set_min_blob_size(MIN_BLOB_VALUE);
    pages.set_blob_file_size(32 << 20);
    pages.set_blob_compression_type(DBCompressionType::None);
    pages.set_enable_blob_gc(true);
    pages.set_blob_gc_age_cutoff(1.0);
    pages.set_blob_gc_force_threshold(0.5);
    let families = [(PAGES, pages), (MARKS, tree()), (RECORDS, tree())]
        .map(|(name, options)| ColumnFamilyDescriptor::new(name, options));
    DB::open_cf_descriptors(&options(), dir, families)
}

/// What the files occupy, garbage included, in bytes.
pub(super) fn real_bytes(db: &DB) -> u64 {
    let of = |property: &str| -> u64 {
        [PAGES, MARKS, RECORDS]
            .into_iter()
            .filter_map(|name| db.cf_handle(name))
            .filter_map(|family| db.property_int_value_cf(family, property).ok().flatten())
            .sum()
    };
    of("rocksdb.total-blob-file-size") + of("rocksdb.total-sst-files-size")
}

/// Gives the space of what was deleted back to the file system.
pub(super) fn collect(db: &DB) {
    for name in [MARKS, PAGES] {
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
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| CacheError::Open {
            dir: dir.into(),
            why: error.to_string(),
        })
}

/// Moves a damaged database out of the way; the one moved before is removed,
/// so that damage never fills the disk.
fn move_aside(dir: &Path) -> Result<PathBuf, CacheError> {
    let mut name = dir.as_os_str().to_owned();
    name.push(".broken");
    let aside = PathBuf::from(name);
    let moved = match std::fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::fs::rename(dir, &aside),
    };
    moved.map_err(|error| CacheError::Open {
        dir: dir.into(),
        why: error.to_string(),
    })?;
    private_dir(dir)?;
    Ok(aside)
}
