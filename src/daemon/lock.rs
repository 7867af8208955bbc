//! The daemon's lock, and the record of its holder.
//!
//! The kernel releases the lock when the process ends for any reason. So a free lock
//! means that no daemon is running, and a held one that a daemon is running, whether or
//! not it answers.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::daemon_dir::{DaemonDir, DaemonDirError};

/// Version of the protocol between client and daemon. Increase it when a request or an
/// answer changes its meaning.
pub(super) const PROTOCOL_VERSION: u32 = 3;

const FILE_NAME: &str = "lock";
/// How long processes that only test the lock may hold it.
const MAX_TEST_TIME: Duration = Duration::from_secs(1);

/// Phase of a daemon's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is opening the cache.
    Starting,
    /// It answers.
    Running,
    /// It is ending its mounts and closing the cache.
    Stopping,
}

/// The process that holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LockRecord {
    pub(super) pid: u32,
    pub(super) version: String,
    pub(super) protocol: u32,
    /// Start time, in seconds since 1970.
    pub(super) started: u64,
    pub(super) phase: Phase,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
        })
    }
}

impl LockRecord {
    /// Describes this process.
    pub(super) fn this() -> Self {
        LockRecord {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL_VERSION,
            started: walrus_client::clock::unix_seconds(),
            phase: Phase::Starting,
        }
    }

    /// Whether it speaks the protocol of this process.
    pub(super) fn is_compatible(&self) -> bool {
        self.protocol == PROTOCOL_VERSION && self.version == env!("CARGO_PKG_VERSION")
    }
}

/// State of the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LockState {
    /// No daemon is running.
    Free,
    /// A daemon is running; its record, if readable.
    Held(Option<LockRecord>),
}

/// Tests whether a daemon holds the lock.
pub(super) fn state(dir: &DaemonDir) -> Result<LockState, DaemonDirError> {
    let failed = |source| dir.failed(FILE_NAME, source);
    let file = match dir.open_file(FILE_NAME, OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free),
        file => file.map_err(failed)?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(LockState::Free),
        Err(Errno::WOULDBLOCK) => {
            let mut text = Vec::new();
            file.take(4096).read_to_end(&mut text).map_err(failed)?;
            // The record may be incomplete, because it is being written.
            Ok(LockState::Held(serde_json::from_slice(&text).ok()))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// The held lock.
#[derive(Debug)]
pub(super) struct DaemonLock {
    file: File,
    record: LockRecord,
}

impl DaemonLock {
    /// Takes the lock; `None` if another daemon holds it. Blocks briefly.
    pub(super) fn take(dir: &DaemonDir) -> Result<Option<Self>, DaemonDirError> {
        let failed = |source| dir.failed(FILE_NAME, source);
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = dir.open_file(FILE_NAME, flags).map_err(failed)?;
        let start_time = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if start_time.elapsed() > MAX_TEST_TIME => return Ok(None),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(failed(error.into())),
            }
        }
        let mut lock = DaemonLock {
            file,
            record: LockRecord::this(),
        };
        lock.set_phase(Phase::Starting);
        Ok(Some(lock))
    }

    /// Whether the path of the directory still leads to this lock.
    pub(super) fn is_at(&self, dir: &DaemonDir) -> bool {
        walgit_durable::is_at(&self.file, &dir.named(FILE_NAME))
    }

    /// Returns the record of this process.
    pub(super) fn record(&self) -> &LockRecord {
        &self.record
    }

    /// Records the daemon's phase. On a full disk the file stays empty: then clients
    /// query the socket instead.
    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.record.phase = phase;
        if let Err(error) = self.write() {
            tracing::warn!("the daemon's lock file cannot be written: {error}");
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.record)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }
}
