//! The daemon's lock, and the record of its holder.
//!
//! The kernel releases the lock when the process ends for any reason. So a free lock
//! means that no daemon is running, and a held one that a daemon is running, whether or
//! not it answers.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::location::{Location, LocationError};

/// Version of the protocol between client and daemon. Increase it when a request or an
/// answer changes its meaning.
pub(super) const PROTOCOL: u32 = 3;

const NAME: &str = "lock";
/// How long processes that only test the lock may hold it.
const GLANCE: Duration = Duration::from_secs(1);

/// Phase of a daemon's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// It is opening the cache.
    Starting,
    /// It answers.
    Running,
    /// It is ending its mounts and closing the cache.
    Stopping,
}

/// The process that holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) version: String,
    pub(super) protocol: u32,
    /// Start time, in seconds since 1970.
    pub(super) started: u64,
    pub(super) phase: Phase,
}

impl Holder {
    /// Describes this process.
    pub(super) fn this() -> Self {
        Holder {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            started: walrus_client::clock::unix_seconds(),
            phase: Phase::Starting,
        }
    }

    /// Whether it speaks the protocol of this process.
    pub(super) fn is_compatible(&self) -> bool {
        self.protocol == PROTOCOL && self.version == env!("CARGO_PKG_VERSION")
    }
}

/// State of the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// No daemon is running.
    No,
    /// A daemon is running; its record, if readable.
    By(Option<Holder>),
}

/// Tests whether a daemon holds the lock.
pub(super) fn look(location: &Location) -> Result<Held, LocationError> {
    let failed = |source| location.failed(NAME, source);
    let file = match location.open_file(NAME, OFlags::RDONLY) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::No),
        Err(error) => return Err(failed(error)),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Held::No),
        Err(Errno::WOULDBLOCK) => {
            let mut text = Vec::new();
            let read = file.take(4096).read_to_end(&mut text);
            read.map_err(failed)?;
            // The record may be being written right now.
            Ok(Held::By(serde_json::from_slice(&text).ok()))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// The held lock.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    holder: Holder,
}

impl Lock {
    /// Takes the lock; `None` if another daemon holds it. Blocks briefly.
    pub(super) fn take(location: &Location) -> Result<Option<Self>, LocationError> {
        let failed = |source| location.failed(NAME, source);
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = location.open_file(NAME, flags).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if begun.elapsed() > GLANCE => return Ok(None),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(failed(error.into())),
            }
        }
        let mut lock = Lock {
            file,
            holder: Holder::this(),
        };
        lock.enter(Phase::Starting);
        Ok(Some(lock))
    }

    /// Whether the path of the directory still leads to this lock.
    pub(super) fn is_at(&self, location: &Location) -> bool {
        walgit_durable::is_at(&self.file, &location.named(NAME))
    }

    /// Returns the record of this process.
    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Records the daemon's phase. On a full disk the file stays empty: then clients
    /// query the socket instead.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.holder.phase = phase;
        if let Err(error) = self.write() {
            tracing::warn!("the daemon's lock file cannot be written: {error}");
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.holder)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }
}
