//! Logs: files with one JSON record per line.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::atomic::{AtomicFile, PRIVATE_FILE_MODE};
use super::dir::{create_private_dir, parent, sync_dir};
use super::regular::{open_regular_with, read_regular};
use super::{FileLock, ops};

/// A file of JSON records, one per line, to which several processes may append.
#[derive(Clone, Debug)]
pub struct AppendLog {
    path: PathBuf,
    /// Inode whose name is known to be on disk; 0 if there is none. A process killed
    /// while it replaced the log may have left a file whose name is not durable.
    named: Arc<AtomicU64>,
}

/// The content of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<T> {
    /// The records, oldest first.
    pub records: Vec<T>,
    /// Number of lines that are not valid records: damaged, or of another version. A
    /// final line truncated by a crash does not count: it was never reported as appended.
    pub unreadable: usize,
}

/// A log locked by this process: no other process reads or writes it.
#[derive(Debug)]
pub struct LockedLog {
    path: PathBuf,
    named: Arc<AtomicU64>,
    _lock: FileLock,
}

impl AppendLog {
    /// Creates a handle for the log at `path`, which need not exist yet. `PATH.lock` is
    /// its lock.
    pub fn new(path: PathBuf) -> Self {
        let named = Arc::default();
        AppendLog { path, named }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock_path(&self) -> PathBuf {
        with_suffix(&self.path, ".lock")
    }

    /// Locks the log, waiting if necessary.
    ///
    /// # Errors
    /// As [`FileLock::exclusive`]; or when the directory cannot be created.
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
    /// When I/O fails, or the lock cannot be acquired; the record is not appended.
    pub fn append(&self, record: &impl Serialize) -> io::Result<()> {
        self.lock()?.append(record)
    }

    /// Reads all records; none if there is no file.
    ///
    /// # Errors
    /// When the file exists and cannot be read, or the lock cannot be acquired.
    pub fn read<T: DeserializeOwned>(&self) -> io::Result<Records<T>> {
        self.reading(read)
    }

    /// Like [`AppendLog::read`], preceded by the records of the last
    /// [`LockedLog::rotate`].
    pub fn read_with_rotated<T: DeserializeOwned>(&self) -> io::Result<Records<T>> {
        self.reading(|path| {
            let mut all = read(&with_suffix(path, ".1"))?;
            let newer = read(path)?;
            all.records.extend(newer.records);
            all.unreadable += newer.unreadable;
            Ok(all)
        })
    }

    fn reading<T>(&self, read: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
        let lock = match FileLock::shared(&self.lock_path()) {
            // The directory does not exist or is not writable: reads without a lock.
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
    /// Reads all records, as [`AppendLog::read`].
    pub fn read<T: DeserializeOwned>(&self) -> io::Result<Records<T>> {
        read(&self.path)
    }

    /// Returns the length of the file, in bytes; 0 if there is none.
    pub fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |it| it.len())
    }

    /// Appends a record, as [`AppendLog::append`].
    ///
    /// # Errors
    /// When I/O fails; the record is not appended.
    pub fn append(&mut self, record: &impl Serialize) -> io::Result<()> {
        self.append_all([record])
    }

    /// Appends records with a single write and waits until they are on disk.
    ///
    /// # Errors
    /// When I/O fails; no record is then appended, as far as the disk permits.
    pub fn append_all(&mut self, records: impl IntoIterator<Item: Serialize>) -> io::Result<()> {
        let mut lines = to_lines(records)?;
        let file = self.open()?;
        let metadata = file.metadata()?;
        let len = metadata.len();
        if self.named.load(Ordering::SeqCst) != metadata.ino() {
            sync_dir(parent(&self.path))?;
            self.named.store(metadata.ino(), Ordering::SeqCst);
        }
        let end = match LogTail::of(&file, len)? {
            LogTail::Complete => len,
            LogTail::Unterminated => {
                lines.insert(0, b'\n');
                len
            }
            LogTail::Torn { start } => {
                ops::truncate(&file, &self.path, start)?;
                start
            }
        };
        let written = ops::write_all(&file, &self.path, &lines)
            .and_then(|()| ops::sync_file(&file, &self.path));
        if written.is_err() {
            // If this fails, the next append truncates the file.
            let _ = ops::truncate(&file, &self.path, end);
        }
        written
    }

    /// Replaces all records by `records`.
    ///
    /// # Errors
    /// When I/O fails; the previous records are then still in place.
    pub fn replace(&mut self, records: impl IntoIterator<Item: Serialize>) -> io::Result<()> {
        let mut file = AtomicFile::create(&self.path, PRIVATE_FILE_MODE)?;
        io::Write::write_all(&mut file, &to_lines(records)?)?;
        file.commit()
    }

    /// Renames the log to `PATH.1`, replacing the previous rotation; the next record
    /// starts a new file.
    pub fn rotate(&mut self) -> io::Result<()> {
        ops::rename(&self.path, &with_suffix(&self.path, ".1"))?;
        sync_dir(parent(&self.path))
    }

    fn open(&self) -> io::Result<File> {
        match ops::create_new(&self.path, PRIVATE_FILE_MODE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open_regular_with(File::options().read(true).append(true), &self.path)
            }
            file => file,
        }
    }
}

/// Returns the path with `ending` appended to its file name.
fn with_suffix(path: &Path, ending: &str) -> PathBuf {
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

/// Whether a line was written completely. On some file systems, parts in the middle of a
/// line may be missing.
fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// The end of a log.
enum LogTail {
    /// A complete record and its line feed, or an empty log.
    Complete,
    /// A record without a line feed: truncated there by a crash, or written by an editor.
    Unterminated,
    /// A partial record, left by a crash.
    Torn {
        /// Offset of the record.
        start: u64,
    },
}

impl LogTail {
    fn of(file: &File, len: u64) -> io::Result<Self> {
        let (start, line) = last_line(file, len)?;
        Ok(if line.is_empty() {
            LogTail::Complete
        } else if !is_whole(&line) {
            LogTail::Torn { start }
        } else if line.ends_with(b"\n") {
            LogTail::Complete
        } else {
            LogTail::Unterminated
        })
    }
}

/// Returns the last line of a file of `len` bytes, with its line feed if present, and its
/// offset.
fn last_line(file: &File, len: u64) -> io::Result<(u64, Vec<u8>)> {
    /// Bytes that are searched at once.
    const SEARCH_BLOCK_LEN: u64 = 64 << 10;
    let mut line: Vec<u8> = Vec::new();
    let mut start = len;
    while start > 0 {
        let from = start.saturating_sub(SEARCH_BLOCK_LEN);
        let mut block = vec![0; (start - from) as usize];
        file.read_exact_at(&mut block, from)?;
        // A line feed at the very end terminates this line, not the previous one.
        let searched = block.len() - usize::from(start == len);
        let before = block[..searched].iter().rposition(|byte| *byte == b'\n');
        let line_start = before.map_or(0, |at| at + 1);
        start = from + line_start as u64;
        line.splice(..0, block.drain(line_start..));
        if before.is_some() {
            break;
        }
    }
    Ok((start, line))
}
