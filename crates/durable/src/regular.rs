//! Opening of regular files, with protection against other file types.
//!
//! Opening a FIFO would block, and a device may have no end. A user can replace one of
//! our files by either, or specify one on the command line.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a file for reading; never blocks.
///
/// # Errors
/// As [`require_regular`]; when the file cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_regular_with(File::options().read(true), path)
}

/// Like [`open_regular`] with other options, whose custom flags it sets.
pub fn open_regular_with(options: &mut std::fs::OpenOptions, path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let opened = options.custom_flags(flags).open(path);
    require_regular(opened.map_err(|error| match Errno::from_io_error(&error) {
        // A socket, or a FIFO without a reader.
        Some(Errno::NXIO) => not_regular(),
        _ => error,
    })?)
}

/// Returns an open file if it is regular.
///
/// # Errors
/// [`io::ErrorKind::IsADirectory`], or [`io::ErrorKind::InvalidInput`] for any other
/// type.
pub fn require_regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        Ok(file)
    } else if kind.is_dir() {
        let why = "a directory instead of a file; put a file in its place";
        Err(io::Error::new(io::ErrorKind::IsADirectory, why))
    } else {
        Err(not_regular())
    }
}

/// Reads a whole regular file of at most `limit` bytes.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it is larger; otherwise as [`open_regular`].
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let why = format!("file larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

fn not_regular() -> io::Error {
    let why = "not a regular file; put a regular file in its place";
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
