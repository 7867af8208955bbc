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

use super::error::MaintenanceError;
use crate::lifecycle::LogError;
use walgit_durable::{AppendLog, FileLock, read_regular, write_atomic};
use walgit_format::chunk::BlobId;

/// Number of lines after which the file is compacted.
const COMPACTION_THRESHOLD: usize = 10_000;

/// An event of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum JournalEvent {
    /// The blob is about to be deleted.
    Intended,
    /// The blob is deleted, or forgotten.
    Done,
    /// The blob is kept after all.
    Kept,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct JournalRecord {
    at: u64,
    blob: BlobId,
    event: JournalEvent,
    #[serde(default)]
    len: u64,
}

/// The journal of a collector.
#[derive(Debug)]
pub(super) struct CollectionJournal {
    log: AppendLog,
    /// File with the times of first sight.
    first_seen_path: PathBuf,
    /// Held while the collector runs; `None` if the journal is read-only.
    lock: Option<FileLock>,
    lines: usize,
    last: HashMap<BlobId, JournalRecord>,
    first_seen: BTreeMap<String, u64>,
    /// Entries that this run queried: all others are needed again, or gone.
    queried: BTreeMap<String, u64>,
}

impl CollectionJournal {
    /// Opens the journal called `name` in `dir`, which need not exist yet. Only one
    /// collector may have it open, unless it is `read_only` and never written.
    pub(super) fn open(dir: &Path, name: &str, read_only: bool) -> Result<Self, MaintenanceError> {
        let path = dir.join(format!("{name}.jsonl"));
        let failed = LogError::at(&path);
        let lock = if read_only {
            None
        } else {
            walgit_durable::create_private_dir(dir).map_err(&failed)?;
            let lock = FileLock::try_exclusive(&dir.join(format!("{name}.lock")));
            Some(lock.map_err(&failed)?.ok_or(MaintenanceError::Busy)?)
        };
        // Read only now that the lock is held: another collector may have written before.
        let log = AppendLog::new(path.clone());
        let lines = log.read::<JournalRecord>().map_err(&failed)?.records;
        let first_seen_path = dir.join(format!("{name}-seen.json"));
        let first_seen = read_regular(&first_seen_path, u64::MAX).unwrap_or_default();
        Ok(CollectionJournal {
            log,
            first_seen: serde_json::from_slice(&first_seen).unwrap_or_default(),
            first_seen_path,
            lock,
            lines: lines.len(),
            last: lines.into_iter().map(|line| (line.blob, line)).collect(),
            queried: BTreeMap::new(),
        })
    }

    /// Records an event of blobs, which are given with their lengths. If an intent cannot
    /// be recorded, the blobs must not be deleted.
    pub(super) fn record(
        &mut self,
        event: JournalEvent,
        blobs: impl IntoIterator<Item = (BlobId, u64)>,
        at: u64,
    ) -> Result<(), MaintenanceError> {
        let line = |(blob, len)| JournalRecord {
            at,
            blob,
            event,
            len,
        };
        let lines: Vec<JournalRecord> = blobs.into_iter().map(line).collect();
        if self.lock.is_some() && !lines.is_empty() {
            let append = || self.log.lock()?.append_all(&lines);
            append().map_err(LogError::at(self.log.path()))?;
            self.lines += lines.len();
        }
        (self.last).extend(lines.into_iter().map(|line| (line.blob, line)));
        Ok(())
    }

    /// Returns the blobs that an interrupted run was about to delete.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = BlobId> + '_ {
        let intended = |line: &&JournalRecord| line.event == JournalEvent::Intended;
        self.last.values().filter(intended).map(|line| line.blob)
    }

    /// Whether a blob that was stored at `since` is known to be gone.
    pub(super) fn is_deleted(&self, blob: &BlobId, since: u64) -> bool {
        let last = self.last.get(blob);
        last.is_some_and(|line| line.event == JournalEvent::Done && line.at > since)
    }

    /// Returns when something was first seen: `now` if it is new.
    pub(super) fn first_seen(&mut self, key: &str, now: u64) -> u64 {
        let since = self.first_seen.get(key).copied().unwrap_or(now);
        self.queried.insert(key.into(), since);
        since
    }

    /// Like [`CollectionJournal::first_seen`], but records nothing.
    pub(super) fn known_first_seen(&self, key: &str) -> Option<u64> {
        let known = self.queried.get(key).or_else(|| self.first_seen.get(key));
        known.copied()
    }

    /// Saves the times of first sight that this run queried.
    pub(super) fn save_first_seen(&self) -> Result<(), MaintenanceError> {
        if self.lock.is_none() {
            return Ok(());
        }
        let json = serde_json::to_vec(&self.queried).map_err(io::Error::from);
        let saved = json.and_then(|json| write_atomic(&self.first_seen_path, &json));
        Ok(saved.map_err(LogError::at(&self.first_seen_path))?)
    }

    /// Compacts the journal if it has grown long. If that fails, the old file remains.
    pub(super) fn compact(&mut self) -> Result<(), MaintenanceError> {
        let threshold = COMPACTION_THRESHOLD.max(2 * self.last.len());
        if self.lock.is_none() || self.lines <= threshold {
            return Ok(());
        }
        let replace = || self.log.lock()?.replace(self.last.values());
        Ok(replace().map_err(LogError::at(self.log.path()))?)
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
    fn unfinished_deletions_are_known_to_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = CollectionJournal::open(dir.path(), "gc", false).unwrap();
        let intended = [1, 2].map(|n| (blob(n), 100));
        journal.record(JournalEvent::Intended, intended, 5).unwrap();
        journal
            .record(JournalEvent::Done, [(blob(1), 0)], 6)
            .unwrap();
        assert!(matches!(
            CollectionJournal::open(dir.path(), "gc", false),
            Err(MaintenanceError::Busy)
        ));
        drop(journal);
        // Killed in the middle of a line.
        let path = dir.path().join("gc.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"at\":7,\"blo").unwrap();
        drop(file);
        let mut journal = CollectionJournal::open(dir.path(), "gc", false).unwrap();
        assert_eq!(journal.unfinished().collect::<Vec<_>>(), [blob(2)]);
        assert!(journal.is_deleted(&blob(1), 5));
        assert!(!journal.is_deleted(&blob(1), 6), "stored again since");
        assert!(!journal.is_deleted(&blob(2), 0));
        journal
            .record(JournalEvent::Kept, [(blob(2), 0)], 8)
            .unwrap();
        assert!(!journal.is_deleted(&blob(2), 0));
        drop(journal);
        let journal = CollectionJournal::open(dir.path(), "gc", false).unwrap();
        assert_eq!(journal.unfinished().count(), 0);
    }

    #[test]
    fn first_sight_is_remembered_while_the_key_is_queried() {
        let dir = tempfile::tempdir().unwrap();
        let run = |what: &[&str], now| -> Vec<u64> {
            let mut journal = CollectionJournal::open(dir.path(), "gc", false).unwrap();
            let seen = what.iter().map(|what| journal.first_seen(what, now));
            let seen = seen.collect();
            journal.save_first_seen().unwrap();
            seen
        };
        assert_eq!(run(&["a", "b"], 10), [10, 10]);
        assert_eq!(run(&["a"], 20), [10]);
        assert_eq!(run(&["a", "b"], 30), [10, 30]);
        let mut read_only = CollectionJournal::open(dir.path(), "gc", true).unwrap();
        read_only
            .record(JournalEvent::Intended, [(blob(1), 1)], 1)
            .unwrap();
        read_only.first_seen("c", 40);
        read_only.save_first_seen().unwrap();
        assert_eq!(run(&["a", "c"], 50), [10, 50]);
    }
}
