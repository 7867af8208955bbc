//! Classification of open failures: damaged database or refusal by the system.
//!
//! The difference decides whether a database is set aside. RocksDB wraps system
//! errors in its own, including those labelled "Corruption", so the system error is
//! checked first.

use std::io;
use std::path::Path;

use rocksdb::ErrorKind;
use rustix::io::Errno;

use super::CacheError;

/// System errors that do not indicate damage, each with a remedy.
const REFUSALS: [(Errno, &str); 15] = [
    (Errno::NOSPC, SPACE),
    (Errno::DQUOT, SPACE),
    (Errno::FBIG, SPACE),
    (Errno::MFILE, FILES),
    (Errno::NFILE, FILES),
    (Errno::ACCESS, OWNER),
    (Errno::PERM, OWNER),
    (Errno::ROFS, ELSEWHERE),
    (Errno::IO, DISK),
    (Errno::NXIO, DISK),
    (Errno::NODEV, DISK),
    (Errno::STALE, DISK),
    (Errno::NOMEM, "free some memory"),
    (Errno::AGAIN, "try again"),
    (Errno::BUSY, "try again"),
];
const SPACE: &str = "free some space there, or set XDG_CACHE_HOME to another disk";
const FILES: &str = "raise the limit of open files (ulimit -n)";
const OWNER: &str = "make it yours (sudo chown -R \"$USER\"), or set XDG_CACHE_HOME";
const ELSEWHERE: &str = "set XDG_CACHE_HOME to a directory that can be written to";
const DISK: &str = "check the disk (dmesg), or set XDG_CACHE_HOME to another one";

/// Returns the error for a cache that the system prevents from opening.
pub(super) fn cannot_open(dir: &Path, error: &io::Error) -> CacheError {
    let refusal = (REFUSALS.iter()).find(|it| error.raw_os_error() == Some(it.0.raw_os_error()));
    let remedy = refusal.map(|it| format!("; {}", it.1));
    CacheError::Open {
        dir: dir.into(),
        why: format!("{error}{}", remedy.unwrap_or_default()),
    }
}

/// Like [`cannot_open`], from an error of RocksDB.
pub(super) fn refused(dir: &Path, error: &rocksdb::Error) -> CacheError {
    let remedy = refusal(error.as_ref()).map(|it| format!("; {}", it.1));
    CacheError::Open {
        dir: dir.into(),
        why: format!("{error}{}", remedy.unwrap_or_default()),
    }
}

/// Returns whether an error means that the database in `dir` is damaged, with no
/// other possible cause.
pub(super) fn is_damage(dir: &Path, error: &rocksdb::Error) -> bool {
    if refusal(error.as_ref()).is_some() {
        return false;
    }
    match error.kind() {
        ErrorKind::Corruption => true,
        // A file of the database is missing or replaced by a directory.
        ErrorKind::IOError | ErrorKind::NotFound => {
            let says = |errno: Errno| error.as_ref().contains(&text(errno));
            dir.is_dir() && (says(Errno::NOENT) || says(Errno::ISDIR))
        }
        _ => false,
    }
}

/// Returns whether an error is a temporary system error.
pub(super) fn is_refusal(error: &rocksdb::Error) -> bool {
    refusal(error.as_ref()).is_some()
}

fn refusal(said: &str) -> Option<&'static (Errno, &'static str)> {
    REFUSALS.iter().find(|it| said.contains(&text(it.0)))
}

/// Returns the C library's message for an error.
fn text(errno: Errno) -> String {
    let said = io::Error::from(errno).to_string();
    let end = said.find(" (os error").unwrap_or(said.len());
    said[..end].to_owned()
}
