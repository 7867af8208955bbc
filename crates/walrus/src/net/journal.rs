//! Persistent log of failures: lines of JSON in the state directory.
//!
//! A separate thread writes them, so that requests do not wait for the disk; if its
//! queue is full, further failures are dropped. The file is readable only by its owner,
//! and bounded: at [`MAX_FILE_BYTES`] it is renamed to `NAME.1`, replacing an older file of
//! that name. Several processes may write to the same file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::failures::Failure;
use walgit_durable::AppendLog;

/// Size limit of a file in bytes: about 4,000 failures.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most failures that wait to be written.
const QUEUE_LEN: usize = 1024;
/// Most failures per write.
const MAX_BATCH: usize = 256;

/// Writer of a failure log file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Started by the first failure: most processes have no failures.
    writer: Mutex<Option<JournalWriter>>,
}

#[derive(Debug)]
struct JournalWriter {
    queue: SyncSender<Failure>,
    thread: JoinHandle<()>,
}

impl Journal {
    /// Creates a journal at this path; the file is opened at the first write.
    pub fn new(path: PathBuf) -> Self {
        Journal {
            path,
            writer: Mutex::default(),
        }
    }

    /// Queues a failure for writing.
    pub(super) fn record(&self, failure: Failure) {
        let mut writer = self.writer.lock();
        if writer.is_none() {
            match start(self.path.clone()) {
                Ok(started) => *writer = Some(started),
                Err(error) => tracing::warn!("cannot write the failure log: {error}"),
            }
        }
        if let Some(writer) = &*writer {
            // A full queue holds a thousand similar failures already.
            let _ = writer.queue.try_send(failure);
        }
    }

    /// Reads all failures logged at `path`, oldest first. Skips invalid lines (of a
    /// newer version, or torn by a crash).
    pub fn read(path: &Path) -> io::Result<Vec<Failure>> {
        let log = AppendLog::new(path.into());
        let mut failures = log.read_with_rotated()?.records;
        // Several processes may have written the file.
        failures.sort_by_key(|failure: &Failure| failure.time);
        Ok(failures)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(JournalWriter { queue, thread }) = self.writer.get_mut().take() {
            // Closing the queue ends the thread after the last failure.
            drop(queue);
            let _ = thread.join();
        }
    }
}

fn start(path: PathBuf) -> io::Result<JournalWriter> {
    let (queue, failures) = sync_channel(QUEUE_LEN);
    let thread = std::thread::Builder::new()
        .name("failures".into())
        .spawn(move || write(&path, &failures))?;
    Ok(JournalWriter { queue, thread })
}

fn write(path: &Path, failures: &Receiver<Failure>) {
    let log = AppendLog::new(path.into());
    while let Ok(first) = failures.recv() {
        let batch = std::iter::once(first).chain(failures.try_iter().take(MAX_BATCH - 1));
        if let Err(error) = append(&log, batch) {
            tracing::warn!("cannot write the failure log {}: {error}", path.display());
        }
    }
}

fn append(log: &AppendLog, failures: impl Iterator<Item = Failure>) -> io::Result<()> {
    let mut log = log.lock()?;
    if log.size() >= MAX_FILE_BYTES {
        log.rotate()?;
    }
    log.append_all(failures)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::super::failures::{FailureHandling, FailureKind};
    use super::*;

    fn failure(number: u32) -> Failure {
        let message = "x".repeat(200);
        Failure::now(
            "http://here/",
            "read",
            FailureKind::Server,
            number,
            FailureHandling::Retried,
            &message,
        )
    }

    #[test]
    fn recorded_failures_are_on_disk_after_drop_and_readable_by_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/failures.jsonl");
        assert_eq!(Journal::read(&path).unwrap(), []);
        let journals = [Journal::new(path.clone()), Journal::new(path.clone())];
        assert!(!path.exists(), "nothing failed yet");
        (0..100).for_each(|number| journals[number as usize % 2].record(failure(number)));
        drop(journals);
        let mut numbers: Vec<u32> = Journal::read(&path)
            .unwrap()
            .iter()
            .map(|failure| failure.attempt)
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let folder = std::fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(folder.mode() & 0o777, 0o700);
    }

    #[test]
    fn the_journal_is_bounded_and_retains_the_latest_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("failures.jsonl");
        let log = AppendLog::new(path.clone());
        for _ in 0..40 {
            append(&log, std::iter::repeat_n(failure(1), 300)).unwrap();
        }
        append(&log, std::iter::once(failure(2))).unwrap();
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        file.write_all(b"{torn").unwrap();
        let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
        let line = serde_json::to_vec(&failure(1)).unwrap().len() as u64 + 1;
        let bound = MAX_FILE_BYTES + 300 * line;
        assert!(size("failures.jsonl") <= bound && size("failures.jsonl.1") <= bound);
        let read = Journal::read(&path).unwrap();
        assert!(read.len() > 3000, "{}", read.len());
        assert_eq!(read.last().map(|failure| failure.attempt), Some(2));
    }
}
