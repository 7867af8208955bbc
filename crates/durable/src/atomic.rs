//! Files that are replaced atomically.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::dir::{Dir, create_private_dir, parent};
use super::ops;
use super::regular::open_regular;

/// Mode of a file that only its owner may read and write.
pub const PRIVATE_FILE_MODE: u32 = 0o600;
/// Prefix of temporary file names; 16 hexadecimal digits follow.
const TEMPORARY_PREFIX: &str = ".walgit-fs.tmp-";

/// Replaces the file at `path` by one that contains `bytes`, with mode 0600, and creates
/// missing parent directories (0700).
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path, PRIVATE_FILE_MODE)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Removes a file durably; returns whether it existed.
pub fn remove_file(path: &Path) -> io::Result<bool> {
    let dir = match Dir::open(parent(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        dir => dir?,
    };
    let removed = unlink(path)?;
    dir.sync()?;
    Ok(removed)
}

/// Like [`remove_file`], but durable only after [`sync_dir`](super::sync_dir).
pub fn unlink(path: &Path) -> io::Result<bool> {
    match ops::remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// A file that is being written. It appears under its name when committed; dropping it
/// earlier removes it.
#[derive(Debug)]
pub struct AtomicFile {
    dir: Dir,
    target: PathBuf,
    temporary: PathBuf,
    /// Locked while the file has a temporary name.
    file: File,
    is_placed: bool,
}

impl AtomicFile {
    /// Creates a file that will be at `path` with this mode, and creates missing parent
    /// directories (0700).
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let parent = parent(path);
        create_private_dir(parent)?;
        sweep_once(parent);
        loop {
            let dir = Dir::open(parent)?;
            let temporary = parent.join(format!("{TEMPORARY_PREFIX}{:016x}", fastrand::u64(..)));
            let file = match ops::create_new(&temporary, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            let file = AtomicFile {
                dir,
                target: path.into(),
                temporary,
                file,
                is_placed: false,
            };
            // Otherwise, another process swept the file before it was locked.
            if file.protect()? {
                return Ok(file);
            }
        }
    }

    /// Locks the file against [`sweep`]; returns whether it still exists.
    fn protect(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            // Without file locks, sweeping is disabled as well.
            Err(fs::TryLockError::Error(_)) => Ok(true),
            Ok(()) => Ok(self.file.metadata()?.nlink() > 0),
        }
    }

    /// Returns the open file, to set its permissions.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Replaces the target file, or creates it.
    pub fn commit(mut self) -> io::Result<()> {
        self.rename(ops::rename)?;
        self.dir.sync()
    }

    /// Creates the target file, which must not exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if it exists; or when I/O fails.
    pub fn commit_new(mut self) -> io::Result<()> {
        self.rename(ops::rename_new)?;
        self.dir.sync()
    }

    /// Like [`AtomicFile::commit`], but the name is durable only after
    /// [`sync_dir`](super::sync_dir): to write many files and flush their directory once.
    ///
    /// # Errors
    /// When I/O fails; the previous file is then still in place.
    pub fn place(mut self) -> io::Result<()> {
        self.rename(ops::rename)
    }

    fn rename(&mut self, rename: fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        ops::sync_file(&self.file, &self.temporary)?;
        rename(&self.temporary, &self.target)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        ops::write_all(&self.file, &self.temporary, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // If this fails, the next process sweeps the file.
            let _ = ops::remove(&self.temporary);
        }
    }
}

/// Sweeps a directory on the first write of this process to it.
fn sweep_once(dir: &Path) {
    static SWEPT_DIRS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut swept = SWEPT_DIRS.lock().unwrap_or_else(PoisonError::into_inner);
    if swept.insert(dir.into()) {
        sweep(dir);
    }
}

/// Whether this is the name of one of our temporary files. The check is strict because
/// user directories contain other files.
fn is_temporary(name: &OsStr) -> bool {
    let number = name
        .to_str()
        .and_then(|name| name.strip_prefix(TEMPORARY_PREFIX));
    number.is_some_and(|it| it.len() == 16 && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Removes the temporary files of crashed processes, which are not locked. Failures are
/// harmless.
pub(super) fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if is_temporary(&entry.file_name()) && entry.file_type().is_ok_and(|it| it.is_file()) {
            let Ok(file) = open_regular(&entry.path()) else {
                continue;
            };
            // A process that has created the file but not locked it yet detects its
            // removal.
            if file.try_lock().is_ok() {
                let _ = ops::remove(&entry.path());
            }
        }
    }
}
