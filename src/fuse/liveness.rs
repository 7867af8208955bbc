//! Whether mounts answer, without ever waiting for one that does not.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::table::{MountEntry, MountTable};

/// How long a mount may take to answer: the kernel passes one request on, which is
/// answered from memory.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Whether a mount answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It does.
    Answers,
    /// Its daemon is gone: it never will.
    Dead,
    /// Its daemon is there and did not answer in time.
    Silent,
    /// Another mount lies over it, so no path leads to it.
    Hidden,
    /// The system does not let this process ask: it is another user's.
    Unknown,
}

/// Runs `work` on a thread of its own and waits for it, but not for longer than
/// `patience`. A request that a file system does not answer ends with the process.
pub fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    start(work)?.recv_timeout(patience).ok()
}

fn start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<mpsc::Receiver<T>> {
    let (done, result) = mpsc::channel();
    let run = move || {
        // Nobody receives it where it came too late.
        let _ = done.send(work());
    };
    thread::Builder::new().spawn(run).ok()?;
    Some(result)
}

/// Asks all these mounts at once; takes at most [`PATIENCE`].
pub fn liveness(table: &MountTable, entries: &[&MountEntry]) -> Vec<Liveness> {
    let asked: Vec<_> = entries
        .iter()
        .map(|entry| {
            table.is_visible(entry).then(|| {
                let mountpoint = entry.mountpoint.clone();
                start(move || answer(&rustix::fs::statfs(&mountpoint)))
            })
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let wait = |result: mpsc::Receiver<Liveness>| {
        let left = deadline.saturating_duration_since(Instant::now());
        result.recv_timeout(left).unwrap_or(Liveness::Silent)
    };
    asked
        .into_iter()
        .map(|asked| match asked {
            None => Liveness::Hidden,
            Some(None) => Liveness::Unknown,
            Some(Some(result)) => wait(result),
        })
        .collect()
}

/// The kernel may keep attributes and whole directories for a day, so `stat` and even
/// `ls` go on working after the daemon died. It never answers `statfs` by itself,
/// except with zeros to those who may not enter.
fn answer(statfs: &Result<rustix::fs::StatFs, Errno>) -> Liveness {
    match statfs {
        Ok(space) if space.f_bsize == 0 => Liveness::Unknown,
        Ok(_) => Liveness::Answers,
        Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::CONNREFUSED) => Liveness::Dead,
        Err(_) => Liveness::Unknown,
    }
}
