//! Logs: files of one JSON record a line.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::atomic::{AtomicFile, PRIVATE_FILE};
use super::dir::{create_private_dir, parent, sync_dir};
use super::regular::{open_regular_with, read_regular};
use super::{FileLock, ops};

/// A file of JSON records, one a line, that several processes may append to.
#[derive(Clone, Debug)]
pub struct AppendLog {
    path: PathBuf,
    /// The inode that is known to have its name on disk; 0 for none. A process that
    /// was killed while it replaced the log may have left another one.
    named: Arc<AtomicU64>,
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<T> {
    /// The records, oldest first.
    pub records: Vec<T>,
    /// How many lines are not such records: damaged, or of another version. A last
    /// line that a crash cut short does not count: it was never reported as appended.
    pub unreadable: usize,
}

/// A log that no other process reads or writes meanwhile.
#[derive(Debug)]
pub struct LockedLog {
    path: PathBuf,
    named: Arc<AtomicU64>,
    _lock: FileLock,
}

impl AppendLog {
    /// The log at `path`, which need not exist yet. `PATH.lock` is its lock.
    pub fn new(path: PathBuf) -> Self {
        let named = Arc::default();
        AppendLog { path, named }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock_path(&self) -> PathBuf {
        beside(&self.path, ".lock")
    }

    /// Waits until no other process uses the log.
    ///
    /// # Errors
    /// As [`FileLock::exclusive`]; or when the directory cannot be made.
    pub fn lock(&self) -> io::Result<LockedLog> {
        create_private_dir(parent(&self.path))?;
        Ok(LockedLog {
            path: self.path.clone(),
            named: self.named.clone(),
            _lock: FileLock::exclusive(&self.lock_path())?,
        })
    }

    /// Appends a record and waits until it is on disk.
    ///
    /// # Errors
    /// When the disk refuses, or the lock cannot be had; then it is not appended.
    pub fn append(&self, record: &impl Serialize) -> io::Result<()> {
        self.lock()?.append(record)
    }

    /// All records; none where there is no file.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or the lock cannot be had.
    pub fn read<T: DeserializeOwned>(&self) -> io::Result<Records<T>> {
        self.reading(read)
    }

    /// The same, after those that [`LockedLog::rotate`] put aside last.
    ///
    /// # Errors
    /// As [`AppendLog::read`].
    pub fn read_with_rotated<T: DeserializeOwned>(&self) -> io::Result<Records<T>> {
        self.reading(|path| {
            let mut all = read(&beside(path, ".1"))?;
            let newer = read(path)?;
            all.records.extend(newer.records);
            all.unreadable += newer.unreadable;
            Ok(all)
        })
    }

    fn reading<T>(&self, read: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
        let lock = match FileLock::shared(&self.lock_path()) {
            // There is no directory, or nobody can write here.
            Err(error)
                if matches!(
                    error.kind(),
                    NotFound | PermissionDenied | ReadOnlyFilesystem
                ) =>
            {
                None
            }
            lock => Some(lock?),
        };
        let records = read(&self.path);
        drop(lock);
        records
    }
}

impl LockedLog {
    /// As [`AppendLog::read`].
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read<T: DeserializeOwned>(&self) -> io::Result<Records<T>> {
        read(&self.path)
    }

    /// The length of the file, in bytes; 0 where there is none.
    pub fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |it| it.len())
    }

    /// As [`AppendLog::append`].
    ///
    /// # Errors
    /// When the disk refuses; then it is not appended.
    pub fn append(&mut self, record: &impl Serialize) -> io::Result<()> {
        self.append_all([record])
    }

    /// Appends records with a single write and waits until they are on disk.
    ///
    /// # Errors
    /// When the disk refuses; then none is appended, as far as the disk permits.
    pub fn append_all(&mut self, records: impl IntoIterator<Item: Serialize>) -> io::Result<()> {
        let mut lines = to_lines(records)?;
        let file = self.open()?;
        let metadata = file.metadata()?;
        let len = metadata.len();
        if self.named.load(Ordering::SeqCst) != metadata.ino() {
            sync_dir(parent(&self.path))?;
            self.named.store(metadata.ino(), Ordering::SeqCst);
        }
        let end = match Tail::of(&file, len)? {
            Tail::Complete => len,
            Tail::Unterminated => {
                lines.insert(0, b'\n');
                len
            }
            Tail::Torn { start } => {
                ops::truncate(&file, &self.path, start)?;
                start
            }
        };
        let written = ops::write_all(&file, &self.path, &lines)
            .and_then(|()| ops::sync_file(&file, &self.path));
        if written.is_err() {
            // Else the next one removes it.
            let _ = ops::truncate(&file, &self.path, end);
        }
        written
    }

    /// Puts `records` in the place of all that are there.
    ///
    /// # Errors
    /// When the disk refuses; then those that were there are there still.
    pub fn replace(&mut self, records: impl IntoIterator<Item: Serialize>) -> io::Result<()> {
        let mut file = AtomicFile::create(&self.path, PRIVATE_FILE)?;
        io::Write::write_all(&mut file, &to_lines(records)?)?;
        file.commit()
    }

    /// Renames the log to `PATH.1`, in place of what was rotated before; the next
    /// record begins a new one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn rotate(&mut self) -> io::Result<()> {
        ops::rename(&self.path, &beside(&self.path, ".1"))?;
        sync_dir(parent(&self.path))
    }

    fn open(&self) -> io::Result<File> {
        match ops::create_new(&self.path, PRIVATE_FILE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open_regular_with(File::options().read(true).append(true), &self.path)
            }
            file => file,
        }
    }
}

/// The path with `ending` appended to its file name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

fn to_lines(records: impl IntoIterator<Item: Serialize>) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for record in records {
        serde_json::to_writer(&mut lines, &record)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Records<T>> {
    let text = match read_regular(path, u64::MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        text => text?,
    };
    let mut found = Records {
        records: Vec::new(),
        unreadable: 0,
    };
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let mut lines = lines
        .filter(|line| !line.trim_ascii().is_empty())
        .peekable();
    while let Some(line) = lines.next() {
        match serde_json::from_slice(line) {
            Ok(record) => found.records.push(record),
            Err(_) if lines.peek().is_none() && !is_whole(line) => {}
            Err(_) => found.unreadable += 1,
        }
    }
    Ok(found)
}

/// Whether a line was written to its end. On some file systems, parts of a line may be
/// missing in the middle of it.
fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// How a log ends.
enum Tail {
    /// With a whole record and its line feed, or it is empty.
    Complete,
    /// With a record whose line feed is missing: torn by a crash there, or written
    /// by an editor.
    Unterminated,
    /// With a part of a record, that a crash left.
    Torn {
        /// Where it begins.
        start: u64,
    },
}

impl Tail {
    fn of(file: &File, len: u64) -> io::Result<Self> {
        let (start, line) = last_line(file, len)?;
        Ok(if line.is_empty() {
            Tail::Complete
        } else if !is_whole(&line) {
            Tail::Torn { start }
        } else if line.ends_with(b"\n") {
            Tail::Complete
        } else {
            Tail::Unterminated
        })
    }
}

/// The last line of a file of `len` bytes, with its line feed if it has one, and where
/// it begins.
fn last_line(file: &File, len: u64) -> io::Result<(u64, Vec<u8>)> {
    /// Bytes that are searched at once.
    const BLOCK: u64 = 64 << 10;
    let mut line: Vec<u8> = Vec::new();
    let mut start = len;
    while start > 0 {
        let from = start.saturating_sub(BLOCK);
        let mut block = vec![0; (start - from) as usize];
        file.read_exact_at(&mut block, from)?;
        // The line feed at the very end ends this line, not the one before.
        let searched = block.len() - usize::from(start == len);
        let before = block[..searched].iter().rposition(|byte| *byte == b'\n');
        let kept = before.map_or(0, |at| at + 1);
        start = from + kept as u64;
        line.splice(..0, block.drain(kept..));
        if before.is_some() {
            break;
        }
    }
    Ok((start, line))
}
