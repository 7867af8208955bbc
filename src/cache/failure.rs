//! Classification of open failures: damaged database or refusal by the system.
//!
//! The difference decides whether a database is set aside. RocksDB wraps system
//! errors in its own, including those labelled "Corruption", so the system error is
//! checked first.

use std::fmt::Display;
use std::io;
use std::path::Path;

use rocksdb::ErrorKind;
use rustix::io::Errno;

use super::error::CacheError;

/// A system error and its remedy.
type Refusal = (Errno, &'static str);

/// System errors that do not indicate damage.
const REFUSALS: [Refusal; 15] = [
    (Errno::NOSPC, SPACE_REMEDY),
    (Errno::DQUOT, SPACE_REMEDY),
    (Errno::FBIG, SPACE_REMEDY),
    (Errno::MFILE, OPEN_FILES_REMEDY),
    (Errno::NFILE, OPEN_FILES_REMEDY),
    (Errno::ACCESS, OWNER_REMEDY),
    (Errno::PERM, OWNER_REMEDY),
    (Errno::ROFS, LOCATION_REMEDY),
    (Errno::IO, DISK_REMEDY),
    (Errno::NXIO, DISK_REMEDY),
    (Errno::NODEV, DISK_REMEDY),
    (Errno::STALE, DISK_REMEDY),
    (Errno::NOMEM, "free some memory"),
    (Errno::AGAIN, "try again"),
    (Errno::BUSY, "try again"),
];
const SPACE_REMEDY: &str = "free some space there, or set XDG_CACHE_HOME to another disk";
const OPEN_FILES_REMEDY: &str = "raise the limit of open files (ulimit -n)";
const OWNER_REMEDY: &str = "make it yours (sudo chown -R \"$USER\"), or set XDG_CACHE_HOME";
const LOCATION_REMEDY: &str = "set XDG_CACHE_HOME to a directory that can be written to";
const DISK_REMEDY: &str = "check the disk (dmesg), or set XDG_CACHE_HOME to another one";

/// Returns the error for a cache that the system prevents from opening.
pub(super) fn cannot_open(dir: &Path, error: &io::Error) -> CacheError {
    let is_same = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    open_error(dir, error, REFUSALS.iter().find(|it| is_same(it.0)))
}

/// Like [`cannot_open`], from an error of RocksDB.
pub(super) fn refused(dir: &Path, error: &rocksdb::Error) -> CacheError {
    open_error(dir, error, refusal(error))
}

fn open_error(dir: &Path, error: impl Display, refusal: Option<&Refusal>) -> CacheError {
    let remedy = refusal.map(|it| format!("; {}", it.1));
    CacheError::Open {
        dir: dir.into(),
        why: format!("{error}{}", remedy.unwrap_or_default()),
    }
}

/// Returns whether an error means that the database in `dir` is damaged, with no
/// other possible cause.
pub(super) fn is_damage(dir: &Path, error: &rocksdb::Error) -> bool {
    if refusal(error).is_some() {
        return false;
    }
    match error.kind() {
        ErrorKind::Corruption => true,
        // A file of the database is missing or replaced by a directory.
        ErrorKind::IOError | ErrorKind::NotFound => {
            dir.is_dir() && (contains(error, Errno::NOENT) || contains(error, Errno::ISDIR))
        }
        _ => false,
    }
}

/// Returns whether an error is a temporary system error.
pub(super) fn is_refusal(error: &rocksdb::Error) -> bool {
    refusal(error).is_some()
}

fn refusal(error: &rocksdb::Error) -> Option<&'static Refusal> {
    REFUSALS.iter().find(|it| contains(error, it.0))
}

/// Returns whether an error contains the C library's message for a system error.
fn contains(error: &rocksdb::Error, errno: Errno) -> bool {
    let text = io::Error::from(errno).to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    error.as_ref().contains(&text[..end])
}
