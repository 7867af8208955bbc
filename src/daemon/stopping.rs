//! Stops and restarts the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::client::{Client, ClientError, DaemonState, look};
use super::location::Location;
use super::lock::Held;
use super::{MountFailure, MountInfo, mount};
use crate::config::{Dirs, Settings};

/// Timeout for a daemon that answers: it ends its mounts, then closes its cache.
const ENDING: Duration = Duration::from_secs(20);
/// Timeout for a daemon that does not answer.
const LAST_CHANCE: Duration = Duration::from_millis(1500);
/// Timeout for a daemon that is starting, before it is terminated.
const STARTING: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// Result of stopping a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No daemon was running.
    Absent,
    /// It exited.
    Ended {
        /// Process ID, if known.
        pid: Option<u32>,
    },
}

/// Stops the daemon and all its mounts; with SIGTERM if it does not answer or has another
/// version. Returns when it has exited.
///
/// # Errors
/// [`ClientError::Stuck`] if it does not exit, and errors of finding it.
pub async fn stop(dirs: &Dirs) -> Result<Stopped, ClientError> {
    let begun = Instant::now();
    let Some(location) = Location::open(dirs)? else {
        return Ok(Stopped::Absent);
    };
    let location = Arc::new(location);
    loop {
        let (pid, patience) = match Client::probe(dirs).await? {
            DaemonState::Absent => return Ok(Stopped::Absent),
            DaemonState::Running(client) => {
                match client.stop(false).await {
                    Ok(()) | Err(ClientError::Gone(_)) => {}
                    Err(error) => return Err(error),
                }
                (Some(client.pid()), ENDING)
            }
            DaemonState::Stopping { pid } => (pid, ENDING),
            DaemonState::OtherVersion { pid, .. } => {
                terminate(&location, pid).await?;
                (pid, ENDING)
            }
            DaemonState::Starting { .. } if begun.elapsed() < STARTING => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            DaemonState::Starting { pid } | DaemonState::Unresponsive { pid, .. } => {
                terminate(&location, pid).await?;
                (pid, LAST_CHANCE)
            }
        };
        ended(&location, pid, patience).await?;
        return Ok(Stopped::Ended { pid });
    }
}

/// Sends SIGTERM, and SIGCONT so that a stopped process receives it.
async fn terminate(location: &Arc<Location>, pid: Option<u32>) -> Result<(), ClientError> {
    let raw = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let Some(raw) = raw else {
        return Err(ClientError::Stuck { pid });
    };
    // The descriptor identifies this very process. It is the daemon if the lock is still
    // held: otherwise the process ID may have been reused.
    let Ok(process) = pidfd_open(raw, PidfdFlags::empty()) else {
        return Ok(());
    };
    if look(location).await? == Held::No {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::CONT] {
        if pidfd_send_signal(&process, signal).is_err() {
            return Err(ClientError::Stuck { pid });
        }
    }
    Ok(())
}

/// Waits until a daemon no longer holds the lock.
async fn ended(
    location: &Arc<Location>,
    pid: Option<u32>,
    patience: Duration,
) -> Result<(), ClientError> {
    let begun = Instant::now();
    loop {
        match look(location).await? {
            Held::No => return Ok(()),
            // Another daemon was started meanwhile.
            Held::By(Some(holder)) if pid.is_some_and(|pid| pid != holder.pid) => return Ok(()),
            Held::By(_) if begun.elapsed() > patience => return Err(ClientError::Stuck { pid }),
            Held::By(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The mount points of a replaced daemon, with the result of mounting each again.
pub type Restarted = Vec<(PathBuf, Result<MountInfo, MountFailure>)>;

/// Stops the daemon and repeats its mounts with a new one that uses the settings in
/// force. Without mounts, no daemon is started; the next mount does that.
///
/// # Errors
/// Those of [`stop`]; then nothing else was done.
pub async fn restart(settings: &Settings) -> Result<(Stopped, Restarted), ClientError> {
    let requests = match Client::probe(&settings.dirs).await? {
        DaemonState::Running(client) => client.mounts().await?,
        // It cannot be queried.
        _ => Vec::new(),
    };
    let stopped = stop(&settings.dirs).await?;
    let mut mounted = Vec::new();
    for request in requests {
        let dir = request.mountpoint.clone();
        mounted.push((dir, mount(settings, request).await));
    }
    Ok((stopped, mounted))
}
