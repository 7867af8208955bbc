//! Recovery from a damaged database: it is moved aside, never deleted immediately,
//! and the records that cannot be fetched again are extracted.
//!
//! `pages.damaged-TIME` is a database that was set aside; the newest [`MAX_BACKUPS`]
//! are kept. Pins are not part of the database (see `pin_dir`), so damage does not
//! affect them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::{DB, IteratorMode, Options};

use super::error::CacheError;
use super::failure::cannot_open;
use super::lock::sibling_path;
use super::schema::{RECORDS, RawRecord};
use walrus_client::clock::unix_seconds;

/// Maximum number of kept backups of damaged databases.
const MAX_BACKUPS: usize = 2;
const DAMAGED_SUFFIX: &str = ".damaged-";

/// Recovered parts of a damaged database.
pub(super) struct Salvaged {
    /// Error of RocksDB.
    pub(super) damage: String,
    /// Path of the backup.
    pub(super) backup: PathBuf,
    /// Keys and values of the records, or why they cannot be read.
    pub(super) records: Result<Vec<RawRecord>, String>,
}

/// Moves the database in `dir` aside and reads its records.
pub(super) fn set_aside(dir: &Path, damage: &str) -> Result<Salvaged, CacheError> {
    let backup = unused_name(dir);
    fs::rename(dir, &backup).map_err(|error| cannot_open(dir, &error))?;
    remove_oldest(dir);
    let scratch = sibling_path(dir, ".salvage");
    let _ = fs::remove_dir_all(&scratch);
    let records = read_records(&backup, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    Ok(Salvaged {
        damage: damage.into(),
        backup,
        records,
    })
}

fn unused_name(dir: &Path) -> PathBuf {
    let now = unix_seconds();
    let names = (0u32..).map(|n| match n {
        0 => sibling_path(dir, &format!("{DAMAGED_SUFFIX}{now:012}")),
        n => sibling_path(dir, &format!("{DAMAGED_SUFFIX}{now:012}-{n}")),
    });
    let mut free = names.filter(|path| fs::symlink_metadata(path).is_err());
    free.next()
        .unwrap_or_else(|| sibling_path(dir, DAMAGED_SUFFIX))
}

fn remove_oldest(dir: &Path) {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return;
    };
    let prefix = format!("{}{DAMAGED_SUFFIX}", name.to_string_lossy());
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort_unstable();
    let old = found.len().saturating_sub(MAX_BACKUPS);
    for path in &found[..old] {
        tracing::warn!(
            "removing {}: only the {MAX_BACKUPS} newest damaged caches are kept",
            path.display()
        );
        let _ = fs::remove_dir_all(path);
    }
}

/// Reads the records of the database in `backup` from a copy without content that
/// RocksDB repairs.
fn read_records(backup: &Path, scratch: &Path) -> Result<Vec<RawRecord>, String> {
    copy(backup, scratch).map_err(|error| error.to_string())?;
    let options = Options::default();
    DB::repair(&options, scratch).map_err(rocksdb::Error::into_string)?;
    let opened = DB::open_cf_for_read_only(&options, scratch, [RECORDS], false);
    let db = opened.map_err(rocksdb::Error::into_string)?;
    let records = db.cf_handle(RECORDS).ok_or("no column family of records")?;
    let mut found = Vec::new();
    for item in db.iterator_cf(records, IteratorMode::Start) {
        found.push(item.map_err(rocksdb::Error::into_string)?);
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = path.extension().unwrap_or_default().to_string_lossy();
        match &*kind {
            // Content can be fetched again.
            "blob" => {}
            // Tables are immutable, so a hard link suffices.
            "sst" if fs::hard_link(&path, &copy).is_ok() => {}
            _ if entry.file_type()?.is_file() => {
                fs::copy(&path, &copy)?;
            }
            _ => {}
        }
    }
    Ok(())
}
