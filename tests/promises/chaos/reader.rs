//! A reader of files, ranges, directories and attributes that verifies each result.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::Advice;
use rustix::io::Errno;

use super::statistics::{MAX_DURATION, Statistics};

/// Errors that are allowed during an outage of the network or of the daemon.
const OUTAGE_ERRNOS: [Errno; 4] = [
    Errno::IO,
    Errno::TIMEDOUT,
    Errno::NOTCONN,
    Errno::CONNABORTED,
];
/// Bytes per read.
const READ_SIZE: usize = 128 << 10;

/// Expected files with their content, and directories with their names.
#[derive(Debug)]
pub(super) struct Checkout {
    files: Vec<(PathBuf, Vec<u8>)>,
    folders: Vec<(PathBuf, BTreeSet<OsString>)>,
}

impl Checkout {
    pub(super) fn of(root: &Path) -> Self {
        let mut found = Checkout {
            files: Vec::new(),
            folders: Vec::new(),
        };
        let mut pending = vec![PathBuf::new()];
        while let Some(folder) = pending.pop() {
            let mut names = BTreeSet::new();
            for entry in fs::read_dir(root.join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = folder.join(entry.file_name());
                names.insert(entry.file_name());
                match entry.file_type().unwrap().is_dir() {
                    true => pending.push(path),
                    false => {
                        let content = fs::read(entry.path()).unwrap();
                        found.files.push((path, content));
                    }
                }
            }
            found.folders.push((folder, names));
        }
        found.files.sort();
        found
    }
}

/// State that readers share.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub(super) stop: AtomicBool,
    /// Odd during a remount, when the mountpoint is empty for a moment.
    pub(super) remounts: AtomicU64,
}

pub(super) struct Reader {
    pub(super) mount: PathBuf,
    pub(super) checkout: Arc<Checkout>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) signals: Arc<Signals>,
    pub(super) rng: fastrand::Rng,
}

impl Reader {
    pub(super) fn work(mut self) {
        while !self.signals.stop.load(Ordering::Relaxed) {
            let remounts = self.signals.remounts.load(Ordering::SeqCst);
            let checkout = self.checkout.clone();
            let kind = self.rng.usize(..10);
            let done = if kind < 7 {
                let (name, content) = &checkout.files[self.rng.usize(..checkout.files.len())];
                match kind {
                    0..3 => self.read(name, content, 0..content.len()),
                    3..6 => {
                        let from = self.rng.usize(..=content.len());
                        let len = self.rng.usize(..=2 * READ_SIZE);
                        self.read(name, content, from..content.len().min(from + len))
                    }
                    _ => self.stat(name, content),
                }
            } else {
                let folders = &checkout.folders;
                let (name, names) = &folders[self.rng.usize(..folders.len())];
                self.list(name, names)
            };
            let undisturbed = remounts.is_multiple_of(2)
                && remounts == self.signals.remounts.load(Ordering::SeqCst);
            match done {
                Ok(()) => {}
                Err(ReadFailure::Content(what)) => self.statistics.record_error(what),
                // Between two mounts the mountpoint is empty.
                Err(ReadFailure::Missing(what)) if undisturbed => {
                    self.statistics.record_error(what)
                }
                Err(ReadFailure::Missing(_)) => {}
                Err(ReadFailure::Away) => std::thread::sleep(Duration::from_millis(20)),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn perform<T>(
        &self,
        verb: &str,
        name: &Path,
        call: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, ReadFailure> {
        let what = || format!("{verb} of {}", name.display());
        let done = self.statistics.timed(what, MAX_DURATION, call);
        done.map_err(|error| match error.raw_os_error() {
            Some(code) if OUTAGE_ERRNOS.iter().any(|away| away.raw_os_error() == code) => {
                ReadFailure::Away
            }
            _ => ReadFailure::Missing(format!("{}: {error}", what())),
        })
    }

    fn read(
        &mut self,
        name: &Path,
        content: &[u8],
        range: std::ops::Range<usize>,
    ) -> Result<(), ReadFailure> {
        let path = self.mount.join(name);
        let file = self.perform("open", name, || File::open(&path))?;
        if self.rng.u8(..4) != 0 {
            // The page cache would answer.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        let mut at = range.start;
        let mut piece = vec![0; READ_SIZE];
        while at < range.end {
            let read_len = READ_SIZE.min(range.end - at);
            let read = || file.read_at(&mut piece[..read_len], at as u64);
            let got = self.perform("read", name, read)?;
            if piece[..got] != content[at..at + got] || got == 0 {
                let what = format!("{got} bytes at {at} of {}", name.display());
                return Err(ReadFailure::Content(what));
            }
            self.statistics.record_read(got);
            at += got;
        }
        Ok(())
    }

    fn stat(&self, name: &Path, content: &[u8]) -> Result<(), ReadFailure> {
        let path = self.mount.join(name);
        let len = self.perform("stat", name, || fs::metadata(&path))?.len();
        match len == content.len() as u64 {
            true => Ok(()),
            false => Err(ReadFailure::Content(format!(
                "{} has {len} bytes",
                name.display()
            ))),
        }
    }

    fn list(&self, name: &Path, names: &BTreeSet<OsString>) -> Result<(), ReadFailure> {
        let path = self.mount.join(name);
        let list = || {
            fs::read_dir(&path)?
                .map(|entry| Ok(entry?.file_name()))
                .collect()
        };
        let found: BTreeSet<OsString> = self.perform("list", name, list)?;
        match found == *names {
            true => Ok(()),
            false => {
                let found = found.len();
                let what = format!("{} lists {found} of {}", name.display(), names.len());
                Err(ReadFailure::Missing(what))
            }
        }
    }
}

enum ReadFailure {
    /// Wrong bytes: never allowed.
    Content(String),
    /// A missing file: allowed only while nothing is mounted.
    Missing(String),
    /// An outage: allowed.
    Away,
}
