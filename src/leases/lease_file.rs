//! Reading of lease files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::{LeaseError, failed};
use walgit_durable::open_regular;

/// Returns the files of a directory with their extensions; none if it does not exist.
pub(super) fn files(dir: &Path) -> Result<Vec<(PathBuf, String)>, LeaseError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(dir))?.path();
        let ending = path.extension().unwrap_or_default();
        let ending = ending.to_string_lossy().into_owned();
        found.push((path, ending));
    }
    Ok(found)
}

/// A lease file, and whether its process is alive.
pub(super) struct LeaseFile {
    file: File,
    pub(super) text: Vec<u8>,
    pub(super) is_held: bool,
}

impl LeaseFile {
    /// Opens and reads the file; `None` if it was removed.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, LeaseError> {
        let read = || -> io::Result<LeaseFile> {
            let mut file = open_regular(path)?;
            let is_held = match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => false,
                Err(rustix::io::Errno::WOULDBLOCK) => true,
                Err(error) => return Err(error.into()),
            };
            let mut text = Vec::new();
            io::Read::read_to_end(&mut file, &mut text)?;
            Ok(LeaseFile {
                file,
                text,
                is_held,
            })
        };
        match read() {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(path)(error)),
        }
    }

    /// Returns the complete lines. Bytes after the last line end were never in force: the
    /// process died, or the disk was full, during the write.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let end = self.text.iter().rposition(|&byte| byte == b'\n');
        let complete = &self.text[..end.map_or(0, |end| end + 1)];
        let lines = complete.split_inclusive(|&byte| byte == b'\n');
        lines.map(|line| &line[..line.len() - 1])
    }

    /// Returns the time of the last change, in seconds since 1970.
    pub(super) fn changed(&self, path: &Path) -> Result<u64, LeaseError> {
        let at = (self.file.metadata()).and_then(|it| it.modified());
        let since = (at.map_err(failed(path))?).duration_since(std::time::UNIX_EPOCH);
        Ok(since.map_or(0, |since| since.as_secs()))
    }
}

/// Whether less than `grace` seconds have passed. A time in the future counts as recent:
/// the clock was set back.
pub(super) fn is_recent(at: u64, now: u64, grace: u64) -> bool {
    now.saturating_sub(at) < grace
}
