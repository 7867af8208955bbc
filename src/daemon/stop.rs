//! Stops and restarts the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::client::{Client, DaemonState, lock_state};
use super::daemon_dir::DaemonDir;
use super::error::ClientError;
use super::lock::{LockState, Phase};
use super::mount_client::{MountInfo, mount};
use crate::config::{Dirs, Settings};

/// Timeout for a daemon that answers: it ends its mounts, then closes its cache.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout for a daemon that does not answer.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Timeout for a daemon that is starting, before it is terminated.
const START_GRACE_PERIOD: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Result of stopping a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopOutcome {
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
/// [`ClientError::DidNotStop`] if it does not exit, and errors of finding it.
pub async fn stop(dirs: &Dirs) -> Result<StopOutcome, ClientError> {
    let started = Instant::now();
    let Some(dir) = DaemonDir::open(dirs)? else {
        return Ok(StopOutcome::Absent);
    };
    let dir = Arc::new(dir);
    loop {
        let error = match Client::probe(dirs).await? {
            DaemonState::Absent => return Ok(StopOutcome::Absent),
            DaemonState::Unavailable(error) => error,
            DaemonState::Running(client) => {
                match client.stop(false).await {
                    Ok(()) | Err(ClientError::Gone(_)) => {}
                    Err(error) => return Err(error),
                }
                let phase = Phase::Stopping;
                let pid = Some(client.pid());
                ClientError::InTransition { pid, phase }
            }
        };
        let (pid, timeout, terminates) = match error {
            ClientError::InTransition {
                pid,
                phase: Phase::Stopping,
            } => (pid, STOP_TIMEOUT, false),
            ClientError::InTransition { .. } if started.elapsed() < START_GRACE_PERIOD => {
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
            ClientError::OtherVersion { pid, .. } => (pid, STOP_TIMEOUT, true),
            ClientError::InTransition { pid, .. } | ClientError::Unresponsive { pid, .. } => {
                (pid, TERMINATE_TIMEOUT, true)
            }
            error => return Err(error),
        };
        if terminates {
            terminate(&dir, pid).await?;
        }
        wait_for_exit(&dir, pid, timeout).await?;
        return Ok(StopOutcome::Ended { pid });
    }
}

/// Sends SIGTERM, and SIGCONT so that a stopped process receives it.
async fn terminate(dir: &Arc<DaemonDir>, pid: Option<u32>) -> Result<(), ClientError> {
    let raw = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let Some(raw) = raw else {
        return Err(ClientError::DidNotStop { pid });
    };
    // The descriptor identifies this very process. It is the daemon if the lock is still
    // held: otherwise the process ID may have been reused.
    let Ok(process) = pidfd_open(raw, PidfdFlags::empty()) else {
        return Ok(());
    };
    if lock_state(dir).await? == LockState::Free {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::CONT] {
        if pidfd_send_signal(&process, signal).is_err() {
            return Err(ClientError::DidNotStop { pid });
        }
    }
    Ok(())
}

/// Waits until a daemon no longer holds the lock.
async fn wait_for_exit(
    dir: &Arc<DaemonDir>,
    pid: Option<u32>,
    timeout: Duration,
) -> Result<(), ClientError> {
    let started = Instant::now();
    loop {
        match lock_state(dir).await? {
            LockState::Free => return Ok(()),
            // Another daemon was started.
            LockState::Held(Some(holder)) if pid.is_some_and(|pid| pid != holder.pid) => {
                return Ok(());
            }
            LockState::Held(_) if started.elapsed() > timeout => {
                return Err(ClientError::DidNotStop { pid });
            }
            LockState::Held(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// The mount points of a replaced daemon, with the result of mounting each again.
pub type Restarted = Vec<(PathBuf, anyhow::Result<MountInfo>)>;

/// Stops the daemon and repeats its mounts with a new one that uses the settings in
/// force. Without mounts, no daemon is started; the next mount does that.
///
/// # Errors
/// Those of [`stop`]; then nothing else was done.
pub async fn restart(settings: &Settings) -> Result<(StopOutcome, Restarted), ClientError> {
    let mut requests = Vec::new();
    if let DaemonState::Running(client) = Client::probe(&settings.dirs).await? {
        requests = client.mounts().await?;
    }
    let stopped = stop(&settings.dirs).await?;
    let mut mounted = Vec::new();
    for request in requests {
        let dir = request.mountpoint.clone();
        mounted.push((dir, mount(settings, request).await));
    }
    Ok((stopped, mounted))
}
