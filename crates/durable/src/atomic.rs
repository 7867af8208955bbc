//! Files that are replaced whole or not at all.

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
pub const PRIVATE_FILE: u32 = 0o600;
/// What the names of temporary files begin with; 16 hexadecimal digits follow.
const TEMPORARY: &str = ".walgit-fs.tmp-";

/// Puts `bytes` in the place of the file at `path`, with mode 0600, and makes the
/// directories above it (0700) where they are missing.
///
/// # Errors
/// When the disk refuses; see the [contract](super).
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path, PRIVATE_FILE)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Removes a file durably; whether there was one.
///
/// # Errors
/// When the disk refuses.
pub fn remove_file(path: &Path) -> io::Result<bool> {
    let dir = match Dir::open(parent(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        dir => dir?,
    };
    let removed = unlink(path)?;
    dir.sync()?;
    Ok(removed)
}

/// As [`remove_file`], but durable only after [`sync_dir`](super::sync_dir).
///
/// # Errors
/// When the disk refuses.
pub fn unlink(path: &Path) -> io::Result<bool> {
    match ops::remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// The content of a file that is being written. It appears under its name when it
/// is committed; dropped before, it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    dir: Dir,
    target: PathBuf,
    temporary: PathBuf,
    /// Locked as long as the file has a temporary name.
    file: File,
    is_placed: bool,
}

impl AtomicFile {
    /// Begins a file that is to be at `path`, with this mode, and makes the
    /// directories above it (0700) where they are missing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let parent = parent(path);
        create_private_dir(parent)?;
        sweep_once(parent);
        loop {
            let dir = Dir::open(parent)?;
            let temporary = parent.join(format!("{TEMPORARY}{:016x}", fastrand::u64(..)));
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
            // Else it was swept before it was locked.
            if file.protect()? {
                return Ok(file);
            }
        }
    }

    /// Locks the file against [`sweep`]; whether it is there still.
    fn protect(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            // Without locks, nothing is swept either.
            Err(fs::TryLockError::Error(_)) => Ok(true),
            Ok(()) => Ok(self.file.metadata()?.nlink() > 0),
        }
    }

    /// The open file, to set its permissions.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Puts it in the place of what is there.
    ///
    /// # Errors
    /// When the disk refuses; see the [contract](super).
    pub fn commit(mut self) -> io::Result<()> {
        self.rename(ops::rename)?;
        self.dir.sync()
    }

    /// Gives it its name, which must be free.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where it is not; or when the disk refuses.
    pub fn commit_new(mut self) -> io::Result<()> {
        self.rename(ops::rename_new)?;
        self.dir.sync()
    }

    /// As [`AtomicFile::commit`], but the name is durable only after
    /// [`sync_dir`](super::sync_dir): for who writes many files and flushes their
    /// directory once.
    ///
    /// # Errors
    /// When the disk refuses; then the file that was there is there still.
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
            // What stays is swept by the next process.
            let _ = ops::remove(&self.temporary);
        }
    }
}

/// Sweeps a directory the first time that this process writes to it.
fn sweep_once(dir: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if swept.insert(dir.into()) {
        sweep(dir);
    }
}

/// Whether this names a temporary file of ours: in a directory of the user's, nothing
/// else may be taken for one.
fn is_temporary(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY));
    number.is_some_and(|it| it.len() == 16 && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Removes the temporary files of processes that crashed: those that nobody has
/// locked. A failure harms nothing.
pub(super) fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if is_temporary(&entry.file_name()) && entry.file_type().is_ok_and(|it| it.is_file()) {
            let Ok(file) = open_regular(&entry.path()) else {
                continue;
            };
            // Who made it and has not locked it yet sees that it is gone.
            if file.try_lock().is_ok() {
                let _ = ops::remove(&entry.path());
            }
        }
    }
}
