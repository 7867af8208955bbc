//! Ownership of the cache's database.
//!
//! RocksDB has one owner at a time. The owner locks `pages.lock` beside the
//! database and writes its process ID there. RocksDB's own lock is taken only after
//! it has cleaned up its logs: of several processes that open at once, some would
//! find files missing, which looks like damage.
//!
//! A process that waits for the database holds a lock on `pages.wanted`. A command
//! that can continue without the database checks for that ([`is_wanted`]) and hands
//! it over. All locks end with their process.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::CacheError;
use super::failure::cannot_open;
use walgit_durable::{FileLock, open_regular};

/// Interval between attempts to take a lock.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum length of a displayed command line, in characters.
const MAX_COMMAND_CHARS: usize = 60;

/// Exclusive right to open the database; released on drop.
#[derive(Debug)]
pub(super) struct CacheLock {
    file: FileLock,
}

impl CacheLock {
    /// Returns whether this is still the lock file of the database in `dir`.
    pub(super) fn is_of(&self, dir: &Path) -> bool {
        self.file.is_at(&sibling_path(dir, ".lock"))
    }
}

/// Acquires the lock of the database in `dir`; asks the owner to hand it over and
/// waits up to `timeout`.
///
/// # Errors
/// [`CacheError::Busy`], with the owning process.
pub(super) fn acquire(dir: &Path, timeout: Duration) -> Result<CacheLock, CacheError> {
    // Another process is waiting already.
    if timeout.is_zero() && is_wanted(dir) {
        return Err(busy(dir));
    }
    if let Some(lock) = try_acquire(dir)? {
        return Ok(lock);
    }
    if timeout.is_zero() {
        return Err(busy(dir));
    }
    let wanted = FileLock::shared(&sibling_path(dir, ".wanted"));
    let _wanted = wanted.map_err(|error| cannot_open(dir, &error))?;
    let end = Instant::now() + timeout;
    loop {
        std::thread::sleep(POLL_INTERVAL);
        if let Some(lock) = try_acquire(dir)? {
            return Ok(lock);
        }
        if Instant::now() >= end {
            return Err(busy(dir));
        }
    }
}

/// Returns whether another process waits for the database in `dir`.
pub(super) fn is_wanted(dir: &Path) -> bool {
    matches!(
        FileLock::try_exclusive(&sibling_path(dir, ".wanted")),
        Ok(None)
    )
}

/// Returns a path beside the database.
pub(super) fn sibling_path(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn try_acquire(dir: &Path) -> Result<Option<CacheLock>, CacheError> {
    let locked = FileLock::try_exclusive(&sibling_path(dir, ".lock"));
    let Some(lock) = locked.map_err(|error| cannot_open(dir, &error))? else {
        return Ok(None);
    };
    // Used only in messages; empty if the disk is full.
    let mut file = lock.as_file();
    let mut write_pid = || -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    let _ = write_pid();
    Ok(Some(CacheLock { file: lock }))
}

fn busy(dir: &Path) -> CacheError {
    CacheError::Busy {
        dir: dir.into(),
        holder: holder(dir).unwrap_or_else(|| "another walgit-fs process".into()),
    }
}

/// Returns the process that holds the lock, if known.
fn holder(dir: &Path) -> Option<String> {
    let mut text = String::new();
    let file = open_regular(&sibling_path(dir, ".lock")).ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    let pid: u32 = text.trim().parse().ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let (program, arguments) = line.trim_end().split_once(' ').unwrap_or((&line, ""));
    let program = program.rsplit('/').next().unwrap_or(program);
    let shown = format!("{program} {arguments}");
    let shown: String = (shown
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_COMMAND_CHARS))
    .collect();
    Some(format!("process {pid} ({})", shown.trim_end()))
}
