//! Ending the daemon, and replacing it by another.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::client::{Client, ClientError, DaemonState, look};
use super::location::Location;
use super::lock::Held;
use super::{MountFailure, MountInfo, mount};
use crate::config::{Dirs, Settings};

/// How long a daemon that answers may take to end: its mounts, then its cache.
const ENDING: Duration = Duration::from_secs(20);
/// How long one that does not answer may.
const LAST_CHANCE: Duration = Duration::from_millis(1500);
/// How long one that starts may take before it is ended all the same.
const STARTING: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a daemon that was to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// None ran.
    Absent,
    /// It ended.
    Ended {
        /// Its process, where that was known.
        pid: Option<u32>,
    },
}

/// Ends the daemon, and with it all its mounts; with SIGTERM where it does not answer
/// or is of another version. Returns when it has ended.
///
/// # Errors
/// [`ClientError::Stuck`] where it does not end, and whatever keeps us from finding it.
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
    // The descriptor stays with this very process. It is the daemon if the lock is
    // still held: otherwise the number may be another's by now.
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
            // Another one was started meanwhile.
            Held::By(Some(holder)) if pid.is_some_and(|pid| pid != holder.pid) => return Ok(()),
            Held::By(_) if begun.elapsed() > patience => return Err(ClientError::Stuck { pid }),
            Held::By(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What became of the mounts of a daemon that was replaced, each with its folder.
pub type Restarted = Vec<(PathBuf, Result<MountInfo, MountFailure>)>;

/// Ends the daemon and mounts again what it served, by a new one with the settings in
/// force. Without mounts no new one is started; the next mount does.
///
/// # Errors
/// Whatever [`stop`] fails with; then nothing else was done.
pub async fn restart(settings: &Settings) -> Result<(Stopped, Restarted), ClientError> {
    let requests = match Client::probe(&settings.dirs).await? {
        DaemonState::Running(client) => client.mounts().await?,
        // It cannot be asked.
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
