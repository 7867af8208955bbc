//! Checks whether mounts respond, without blocking on those that do not.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::Serialize;

use super::mount_table::{MountEntry, MountTable};

/// Maximum response time of a mount: the kernel forwards one request, which is
/// answered from memory.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether a mount responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// It responds.
    #[serde(rename = "served")]
    Responds,
    /// Its daemon is gone: it will never respond.
    Dead,
    /// Its daemon exists but did not respond in time.
    #[serde(rename = "not_responding")]
    Unresponsive,
    /// Another mount covers it, so no path leads to it.
    Hidden,
    /// A daemon serves it, but no path leads to it: it was detached while in use, or
    /// belongs to another mount namespace. [`liveness`] does not find such mounts.
    Detached,
    /// This process has no permission to check a mount of another user.
    Unknown,
}

/// Runs `work` on a separate thread. A request that a file system never answers ends with
/// the process.
fn start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<mpsc::Receiver<T>> {
    let (done, result) = mpsc::channel();
    let run = move || {
        // Fails if the receiver has timed out.
        let _ = done.send(work());
    };
    thread::Builder::new().spawn(run).ok()?;
    Some(result)
}

/// Checks all these mounts concurrently; takes at most [`RESPONSE_TIMEOUT`].
pub fn liveness(table: &MountTable, entries: &[&MountEntry]) -> Vec<Liveness> {
    let start = |entry: &&MountEntry| {
        let mountpoint = entry.mountpoint.clone();
        let is_visible = table.is_visible(entry);
        is_visible.then(|| start(move || state_of(&rustix::fs::statfs(&mountpoint))))
    };
    let started: Vec<_> = entries.iter().map(start).collect();
    let deadline = Instant::now() + RESPONSE_TIMEOUT;
    let wait = |result| match result {
        None => Liveness::Hidden,
        Some(None) => Liveness::Unknown,
        Some(Some(result)) => {
            let result: mpsc::Receiver<Liveness> = result;
            let left = deadline.saturating_duration_since(Instant::now());
            result.recv_timeout(left).unwrap_or(Liveness::Unresponsive)
        }
    };
    started.into_iter().map(wait).collect()
}

/// Interprets the result of `statfs`. The kernel may cache attributes and whole
/// directories for a day, so `stat` and even `ls` work after the daemon died. It
/// never answers `statfs` from a cache, but returns zeros to users without access.
fn state_of(statfs: &Result<rustix::fs::StatFs, Errno>) -> Liveness {
    match statfs {
        Ok(space) if space.f_bsize == 0 => Liveness::Unknown,
        Ok(_) => Liveness::Responds,
        Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::CONNREFUSED) => Liveness::Dead,
        Err(_) => Liveness::Unknown,
    }
}
