//! Locks between processes.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::atomic::PRIVATE_FILE_MODE;
use super::regular::open_regular_with;

/// Maximum wait for a lock that a running process holds.
const RUNNING_HOLDER_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum wait if that process is stopped or unknown.
const STOPPED_HOLDER_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest pause between two attempts.
const MAX_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A lock on a file, held until it is dropped or the process ends.
///
/// The file is created if missing, is never removed, and is separate from the file that
/// the lock protects, which may be replaced.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Acquires an exclusive lock, waiting if necessary.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`], naming the process, if one holds it for more than a
    /// minute, or is stopped; or when the file cannot be opened.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        wait(path, File::try_lock, RUNNING_HOLDER_TIMEOUT)
    }

    /// Like [`FileLock::exclusive`], but waits no longer than `limit`.
    pub fn exclusive_within(path: &Path, limit: Duration) -> io::Result<Self> {
        wait(path, File::try_lock, limit)
    }

    /// Acquires a shared lock, waiting if necessary.
    pub fn shared(path: &Path) -> io::Result<Self> {
        wait(path, File::try_lock_shared, RUNNING_HOLDER_TIMEOUT)
    }

    /// Tries to acquire an exclusive lock; `None` if it is held elsewhere.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        attempt(path, File::try_lock)
    }

    /// Whether `path` still refers to the locked file.
    pub fn is_at(&self, path: &Path) -> bool {
        is_at(&self.file, path)
    }

    /// Returns the locked file, for example to record the holder of the lock in it.
    pub fn as_file(&self) -> &File {
        &self.file
    }
}

/// Whether `path` refers to an open file. False if the file was removed, moved or
/// replaced; true if that cannot be determined.
pub fn is_at(file: &File, path: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
        (_, Err(error)) => !matches!(error.kind(), NotFound | NotADirectory),
        (Err(_), _) => true,
    }
}

fn wait(
    path: &Path,
    lock: fn(&File) -> Result<(), TryLockError>,
    limit: Duration,
) -> io::Result<FileLock> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = attempt(path, lock)? {
            return Ok(lock);
        }
        let waited = started.elapsed();
        if waited > STOPPED_HOLDER_TIMEOUT.min(limit) {
            let holder = LockHolder::of(path);
            if waited > limit || !holder.as_ref().is_some_and(LockHolder::is_running) {
                return Err(timed_out(path, holder));
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(MAX_RETRY_PAUSE);
    }
}

fn attempt(
    path: &Path,
    lock: fn(&File) -> Result<(), TryLockError>,
) -> io::Result<Option<FileLock>> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    loop {
        let file = open_regular_with(options.mode(PRIVATE_FILE_MODE), path)?;
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A user may have removed the file: then other processes lock a new one.
        if is_at(&file, path) {
            return Ok(Some(FileLock { file }));
        }
    }
}

fn timed_out(path: &Path, holder: Option<LockHolder>) -> io::Error {
    let text = match holder {
        Some(holder) => format!(
            "{} is locked by process {holder}; wait until it ends, or end it",
            path.display()
        ),
        None => format!(
            "{} is locked by another process; wait until it ends, or end it",
            path.display()
        ),
    };
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// The process that holds a lock.
struct LockHolder {
    pid: u32,
    name: String,
    state: char,
}

impl LockHolder {
    /// Finds the holder in the kernel's list (`proc(5)`): `N: FLOCK ADVISORY WRITE PID
    /// DEVICE:INODE …`. `None` if it is not visible to this process.
    fn of(path: &Path) -> Option<Self> {
        let inode = format!(":{}", fs::metadata(path).ok()?.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let pid = locks.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // An arrow marks waiting processes, which do not match.
            let is_it = fields.get(1) == Some(&"FLOCK") && fields.get(5)?.ends_with(&inode);
            is_it.then(|| fields[4].parse().ok()).flatten()
        })?;
        // `PID (NAME) STATE …`; the name may contain spaces and parentheses.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        Some(LockHolder {
            pid,
            name: name.into(),
            state: rest.trim_start().chars().next()?,
        })
    }

    /// Whether the process is neither stopped nor dead.
    fn is_running(&self) -> bool {
        !"TtZX".contains(self.state)
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = if self.is_running() { "" } else { ", stopped" };
        write!(f, "{} ({}{stopped})", self.pid, self.name)
    }
}
