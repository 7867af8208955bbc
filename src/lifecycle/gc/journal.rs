//! State of a collector that persists between runs.
//!
//! - Intended deletions and their results: one line is on disk before a blob is deleted,
//!   another after. An intent without a result marks an interrupted run; the next run
//!   checks that blob again.
//! - Deleted blobs, so that their ledger entries no longer count.
//! - The time when something was first seen to be unneeded, if no other record has it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use walgit_durable::{AppendLog, FileLock, read_regular};
use walgit_format::chunk::BlobId;

/// Number of lines after which the file is compacted.
const LONG: usize = 10_000;

/// An event of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// The blob is about to be deleted.
    Intended,
    /// The blob is deleted, or forgotten.
    Done,
    /// The blob is kept after all.
    Kept,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    at: u64,
    blob: BlobId,
    event: Event,
    #[serde(default)]
    len: u64,
}

/// The journal of a collector.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// Base name of the files.
    name: &'static str,
    log: AppendLog,
    /// Held while the collector runs; `None` if the journal is read-only.
    alone: Option<FileLock>,
    lines: usize,
    last: HashMap<BlobId, Line>,
    seen: BTreeMap<String, u64>,
    /// Entries that this run queried: all others are needed again, or gone.
    asked: BTreeMap<String, u64>,
}

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another collector is running.
    #[error("another walgit-fs gc is running; let it finish")]
    Busy,
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl Journal {
    /// Opens the journal called `name` in `dir`, which need not exist yet. Only one
    /// collector may have it open, unless it is `read_only` and never written.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(dir: &Path, name: &'static str, read_only: bool) -> Result<Self, JournalError> {
        let path = dir.join(format!("{name}.jsonl"));
        let failed = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        let alone = if read_only {
            None
        } else {
            walgit_durable::create_private_dir(dir).map_err(failed)?;
            let lock = FileLock::try_exclusive(&dir.join(format!("{name}.lock")));
            Some(lock.map_err(failed)?.ok_or(JournalError::Busy)?)
        };
        // Read only now that the lock is held: another collector may have written before.
        let log = AppendLog::new(path.clone());
        let lines = log.read::<Line>().map_err(failed)?.records;
        let seen = dir.join(format!("{name}-seen.json"));
        let seen = read_regular(&seen, u64::MAX).unwrap_or_default();
        Ok(Journal {
            dir: dir.into(),
            name,
            log,
            alone,
            lines: lines.len(),
            last: lines.into_iter().map(|line| (line.blob, line)).collect(),
            seen: serde_json::from_slice(&seen).unwrap_or_default(),
            asked: BTreeMap::new(),
        })
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::Io {
            path: self.log.path().into(),
            source,
        }
    }

    fn write(&mut self, lines: Vec<Line>) -> Result<(), JournalError> {
        if self.alone.is_some() && !lines.is_empty() {
            let append = || self.log.lock()?.append_all(&lines);
            append().map_err(|source| self.failed(source))?;
            self.lines += lines.len();
        }
        self.last
            .extend(lines.into_iter().map(|line| (line.blob, line)));
        Ok(())
    }

    /// Records that blobs, with their lengths, are about to be deleted.
    ///
    /// # Errors
    /// When the record cannot be written: then the blobs must not be deleted.
    pub fn intend(
        &mut self,
        blobs: impl IntoIterator<Item = (BlobId, u64)>,
        at: u64,
    ) -> Result<(), JournalError> {
        let line = |(blob, len)| Line {
            at,
            blob,
            event: Event::Intended,
            len,
        };
        self.write(blobs.into_iter().map(line).collect())
    }

    /// Records that blobs are deleted, or forgotten.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn done(
        &mut self,
        blobs: impl IntoIterator<Item = BlobId>,
        at: u64,
    ) -> Result<(), JournalError> {
        self.note(blobs, Event::Done, at)
    }

    /// Records that blobs are kept after all.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn kept(
        &mut self,
        blobs: impl IntoIterator<Item = BlobId>,
        at: u64,
    ) -> Result<(), JournalError> {
        self.note(blobs, Event::Kept, at)
    }

    fn note(
        &mut self,
        blobs: impl IntoIterator<Item = BlobId>,
        event: Event,
        at: u64,
    ) -> Result<(), JournalError> {
        let line = |blob| Line {
            at,
            blob,
            event,
            len: 0,
        };
        self.write(blobs.into_iter().map(line).collect())
    }

    /// Returns the blobs that an interrupted run was about to delete.
    pub fn unfinished(&self) -> impl Iterator<Item = BlobId> + '_ {
        let intended = |line: &&Line| line.event == Event::Intended;
        self.last.values().filter(intended).map(|line| line.blob)
    }

    /// Whether a blob that was stored at `since` is known to be gone.
    pub fn is_gone(&self, blob: &BlobId, since: u64) -> bool {
        let last = self.last.get(blob);
        last.is_some_and(|line| line.event == Event::Done && line.at > since)
    }

    /// Returns when something was first seen: `now` if it is new.
    pub fn first_seen(&mut self, what: &str, now: u64) -> u64 {
        let since = self.seen.get(what).copied().unwrap_or(now);
        self.asked.insert(what.into(), since);
        since
    }

    /// Like [`Journal::first_seen`], but records nothing.
    pub fn seen(&self, what: &str) -> Option<u64> {
        self.asked
            .get(what)
            .or_else(|| self.seen.get(what))
            .copied()
    }

    /// Saves the times of first sight that this run queried.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_seen(&self) -> Result<(), JournalError> {
        if self.alone.is_none() {
            return Ok(());
        }
        let path = self.dir.join(format!("{}-seen.json", self.name));
        let json = serde_json::to_vec(&self.asked).map_err(io::Error::from);
        json.and_then(|json| walgit_durable::write_atomic(&path, &json))
            .map_err(|source| JournalError::Io { path, source })
    }

    /// Compacts the journal if it has grown long.
    ///
    /// # Errors
    /// When the file cannot be written; then the old one remains.
    pub fn settle(&mut self) -> Result<(), JournalError> {
        if self.alone.is_none() || self.lines <= LONG.max(2 * self.last.len()) {
            return Ok(());
        }
        let replace = || self.log.lock()?.replace(self.last.values());
        replace().map_err(|source| self.failed(source))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    fn blob(fill: u8) -> BlobId {
        BlobId::from_bytes([fill; 32])
    }

    #[test]
    fn what_was_intended_and_not_done_is_known_to_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), "gc", false).unwrap();
        journal.intend([1, 2].map(|n| (blob(n), 100)), 5).unwrap();
        journal.done([blob(1)], 6).unwrap();
        assert!(matches!(
            Journal::open(dir.path(), "gc", false),
            Err(JournalError::Busy)
        ));
        drop(journal);
        // Killed in the middle of a line.
        let path = dir.path().join("gc.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"at\":7,\"blo").unwrap();
        drop(file);
        let mut journal = Journal::open(dir.path(), "gc", false).unwrap();
        assert_eq!(journal.unfinished().collect::<Vec<_>>(), [blob(2)]);
        assert!(journal.is_gone(&blob(1), 5));
        assert!(!journal.is_gone(&blob(1), 6), "stored again since");
        assert!(!journal.is_gone(&blob(2), 0));
        journal.kept([blob(2)], 8).unwrap();
        assert!(!journal.is_gone(&blob(2), 0));
        drop(journal);
        let journal = Journal::open(dir.path(), "gc", false).unwrap();
        assert_eq!(journal.unfinished().count(), 0);
    }

    #[test]
    fn what_was_seen_first_is_remembered_as_long_as_it_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let run = |what: &[&str], now| -> Vec<u64> {
            let mut journal = Journal::open(dir.path(), "gc", false).unwrap();
            let seen = what.iter().map(|what| journal.first_seen(what, now));
            let seen = seen.collect();
            journal.keep_seen().unwrap();
            seen
        };
        assert_eq!(run(&["a", "b"], 10), [10, 10]);
        assert_eq!(run(&["a"], 20), [10]);
        assert_eq!(run(&["a", "b"], 30), [10, 30]);
        let mut only_told = Journal::open(dir.path(), "gc", true).unwrap();
        only_told.intend([(blob(1), 1)], 1).unwrap();
        only_told.first_seen("c", 40);
        only_told.keep_seen().unwrap();
        assert_eq!(run(&["a", "c"], 50), [10, 50]);
    }
}
