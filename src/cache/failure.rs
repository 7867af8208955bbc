//! Why a database does not open: it is damaged, or the machine refuses.
//!
//! The difference decides whether a database is put aside. RocksDB wraps
//! errors of the system in errors of its own, also in those that say
//! "Corruption", so what the system said comes first.

use std::io;
use std::path::Path;

use rocksdb::ErrorKind;
use rustix::io::Errno;

use super::CacheError;

/// Errors of the system that say nothing about the database, and what helps.
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

/// The error for a cache that the system keeps from being opened.
pub(super) fn cannot_open(dir: &Path, error: &io::Error) -> CacheError {
    let refusal = (REFUSALS.iter()).find(|it| error.raw_os_error() == Some(it.0.raw_os_error()));
    let remedy = refusal.map(|it| format!("; {}", it.1));
    CacheError::Open {
        dir: dir.into(),
        why: format!("{error}{}", remedy.unwrap_or_default()),
    }
}

/// The same, from what RocksDB said.
pub(super) fn refused(dir: &Path, error: &rocksdb::Error) -> CacheError {
    let remedy = refusal(error.as_ref()).map(|it| format!("; {}", it.1));
    CacheError::Open {
        dir: dir.into(),
        why: format!("{error}{}", remedy.unwrap_or_default()),
    }
}

/// Whether an error says that the database in `dir` is damaged, and nothing
/// else could be the cause.
pub(super) fn is_damage(dir: &Path, error: &rocksdb::Error) -> bool {
    if refusal(error.as_ref()).is_some() {
        return false;
    }
    match error.kind() {
        ErrorKind::Corruption => true,
        // A file of the database is gone, or a directory is in its place.
        ErrorKind::IOError | ErrorKind::NotFound => {
            let says = |errno: Errno| error.as_ref().contains(&text(errno));
            dir.is_dir() && (says(Errno::NOENT) || says(Errno::ISDIR))
        }
        _ => false,
    }
}

/// Whether an error is the system's, and passes.
pub(super) fn is_refusal(error: &rocksdb::Error) -> bool {
    refusal(error.as_ref()).is_some()
}

fn refusal(said: &str) -> Option<&'static (Errno, &'static str)> {
    REFUSALS.iter().find(|it| said.contains(&text(it.0)))
}

/// What the C library says of an error.
fn text(errno: Errno) -> String {
    let said = io::Error::from(errno).to_string();
    let end = said.find(" (os error").unwrap_or(said.len());
    said[..end].to_owned()
}
