//! The lock that a living daemon holds, and what it says about its holder.
//!
//! The kernel drops the lock with the process, however that ends. So a free lock
//! means that no daemon runs, and a held one that one does, whether or not it answers.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::location::{Location, LocationError};

/// Version of what client and daemon say to each other. Increase it whenever a
/// request or an answer changes its meaning.
pub(super) const PROTOCOL: u32 = 3;

const NAME: &str = "lock";
/// How long a lock may be held by those who only look whether it is held.
const GLANCE: Duration = Duration::from_secs(1);

/// What a daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// It opens the cache.
    Starting,
    /// It answers.
    Running,
    /// It ends its mounts and closes the cache.
    Stopping,
}

/// The process that holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) version: String,
    pub(super) protocol: u32,
    /// When it started, in seconds since 1970.
    pub(super) started: u64,
    pub(super) phase: Phase,
}

impl Holder {
    /// This process.
    pub(super) fn this() -> Self {
        Holder {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            started: walrus_client::clock::unix_seconds(),
            phase: Phase::Starting,
        }
    }

    /// Whether it understands this process, and is understood.
    pub(super) fn is_compatible(&self) -> bool {
        self.protocol == PROTOCOL && self.version == env!("CARGO_PKG_VERSION")
    }
}

/// What a look at the lock shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// No daemon runs.
    No,
    /// One runs; who, where it has said so.
    By(Option<Holder>),
}

/// Looks whether a daemon holds the lock.
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
            // It may be being written at this moment.
            Ok(Held::By(serde_json::from_slice(&text).ok()))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// The lock, held.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    holder: Holder,
}

impl Lock {
    /// Takes it; `None` where another daemon holds it. Blocks for a moment.
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

    /// Whether the path of the directory still leads to it.
    pub(super) fn is_at(&self, location: &Location) -> bool {
        walgit_durable::is_at(&self.file, &location.named(NAME))
    }

    /// This process, as others see it.
    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Tells what the daemon does now. On a full disk the file stays empty: then
    /// clients learn from the socket what there is to know.
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
