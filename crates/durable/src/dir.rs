//! Directories with durable names.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::ops;

/// Mode of a directory that only its owner may enter.
pub const PRIVATE_DIR_MODE: u32 = 0o700;

/// An open directory, so that flushing it needs no further file descriptor.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    /// `None` if the directory is writable but not readable: then it cannot be opened,
    /// and so not flushed.
    file: Option<File>,
}

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            file => Some(file?),
        };
        Ok(Dir {
            path: path.into(),
            file,
        })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        (self.file.as_ref()).map_or(Ok(()), |file| ops::sync_names(file, &self.path))
    }
}

/// Returns the parent directory of `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Flushes the names in a directory: of files that were created, renamed or removed.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    Dir::open(path)?.sync()
}

/// Renames a directory within its parent, after flushing the whole file system that it is
/// on. For trees of many files, most of which other programs may have written.
///
/// # Errors
/// When I/O fails; the directory then has its old name, unless only the last step failed.
pub fn place_dir(from: &Path, to: &Path) -> io::Result<()> {
    ops::sync_file_system(from)?;
    let above = Dir::open(parent(to))?;
    ops::rename(from, to)?;
    above.sync()
}

/// Creates a directory with mode 0700, and its missing parents, durably. An existing
/// directory is not changed.
///
/// # Errors
/// When I/O fails, or the name belongs to something other than a directory.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    create_dir_all(path, PRIVATE_DIR_MODE)
}

/// Creates a directory with this mode, and its missing parents, durably. An existing
/// directory is not changed.
///
/// # Errors
/// When I/O fails, or the name belongs to something other than a directory.
pub fn create_dir_all(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        // Its creator may have crashed before it flushed the name.
        return if is_empty(path) {
            sync_dir(parent(path))
        } else {
            Ok(())
        };
    }
    let above = parent(path);
    if above != path {
        create_dir_all(above, mode)?;
    }
    let above = Dir::open(above)?;
    match ops::create_dir(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Another process created it, and may not have flushed the name yet.
            if !path.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        made => made?,
    }
    above.sync()
}

fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
