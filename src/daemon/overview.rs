//! Overview of all mounts and their daemons, whatever the state of the daemon.
//!
//! The mount table lists the mounts, a request to each mount determines whether it
//! answers, and the daemon's status and `/proc` identify the serving process. So a mount
//! is listed even if its daemon cannot be queried, and the overview never waits for a
//! hung process.

use std::fmt;

use serde::Serialize;

use super::client::{Client, DaemonState};
use super::error::ClientError;
use super::lock::Phase;
use super::status::{DaemonStatus, MountStatus};
use crate::config::{ConfigError, Dirs};
use crate::fuse::{self, Liveness, MountEntry, MountTable, Servers};
use crate::leases::MountTag;

/// State of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonPhase {
    /// No daemon is running.
    Absent,
    /// It is starting.
    Starting,
    /// It answers.
    Running,
    /// It is stopping.
    Stopping,
    /// It is running but does not answer.
    Unresponsive,
    /// It has another version.
    OtherVersion,
    /// Its state cannot be determined.
    Unknown,
}

/// The daemon of the user's cache directory.
#[derive(Clone, Debug, Serialize)]
pub struct DaemonReport {
    /// Its state.
    pub state: DaemonPhase,
    /// Process ID, if known.
    pub pid: Option<u32>,
    /// Problems and unusual conditions, and their remedies.
    pub message: Option<String>,
}

/// A mounted folder.
#[derive(Clone, Debug, Serialize)]
pub struct MountedFolder {
    /// The mount point.
    pub mountpoint: String,
    /// Its state.
    pub state: Liveness,
    /// Process ID of its server, if known.
    pub pid: Option<u32>,
    /// The user who mounted it, if known.
    pub user: Option<u32>,
    /// Label of the repository, as given by the user.
    pub label: String,
    /// Problems and unusual conditions, and their remedies.
    pub message: Option<String>,
    /// The daemon's status of the mount, if it was queried.
    #[serde(skip)]
    pub details: Option<MountStatus>,
}

/// The overview.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The user's daemon.
    pub daemon: DaemonReport,
    /// Its status.
    pub status: Option<DaemonStatus>,
    /// All mounted folders of this user; for root, of all users.
    pub folders: Vec<MountedFolder>,
}

impl Overview {
    /// Queries everything; takes a few seconds at most. Without `dirs` the daemon cannot
    /// be found.
    pub async fn take(dirs: Result<&Dirs, &ConfigError>) -> Result<Self, std::io::Error> {
        let mounts = tokio::task::spawn_blocking(KernelMounts::query);
        let (daemon, status) = match dirs {
            Ok(dirs) => query_daemon(dirs).await,
            Err(error) => (DaemonReport::unknown(error), None),
        };
        let mounts = mounts.await.map_err(std::io::Error::other)??;
        let folders = folders(&mounts, &daemon, status.as_ref());
        Ok(Overview {
            daemon,
            status,
            folders,
        })
    }

    /// Whether all mounts are usable, and the daemon can be queried.
    pub fn is_healthy(&self) -> bool {
        self.daemon.is_healthy() && self.folders.iter().all(MountedFolder::is_healthy)
    }
}

impl DaemonReport {
    /// Whether the daemon can be queried, or need not be running.
    pub fn is_healthy(&self) -> bool {
        use DaemonPhase::{Absent, Running, Starting, Stopping};
        matches!(self.state, Absent | Starting | Running | Stopping)
    }

    fn unavailable(error: &ClientError) -> Self {
        let (state, pid) = match error {
            ClientError::InTransition { pid, phase } => match phase {
                Phase::Starting => (DaemonPhase::Starting, *pid),
                Phase::Running => (DaemonPhase::Running, *pid),
                Phase::Stopping => (DaemonPhase::Stopping, *pid),
            },
            ClientError::Unresponsive { pid, .. } => (DaemonPhase::Unresponsive, *pid),
            ClientError::OtherVersion { pid, .. } => (DaemonPhase::OtherVersion, *pid),
            error => return DaemonReport::unknown(error),
        };
        DaemonReport::new(state, pid, Some(error.to_string()))
    }

    fn unknown(error: &dyn fmt::Display) -> Self {
        DaemonReport::new(DaemonPhase::Unknown, None, Some(error.to_string()))
    }

    fn new(state: DaemonPhase, pid: Option<u32>, message: Option<String>) -> Self {
        DaemonReport {
            state,
            pid,
            message,
        }
    }
}

impl MountedFolder {
    /// Whether the folder is usable, as far as this user can determine.
    pub fn is_healthy(&self) -> bool {
        !matches!(self.state, Liveness::Dead | Liveness::Unresponsive)
    }
}

/// The mounts of the mount table, whether they answer, and their server processes.
#[derive(Default)]
struct KernelMounts {
    mounts: Vec<(MountEntry, Liveness)>,
    servers: Servers,
}

impl KernelMounts {
    fn query() -> Result<Self, std::io::Error> {
        let table = MountTable::read()?;
        let entries: Vec<&MountEntry> = table.ours().collect();
        if entries.is_empty() {
            return Ok(KernelMounts::default());
        }
        let states = fuse::liveness(&table, &entries);
        Ok(KernelMounts {
            mounts: entries.into_iter().cloned().zip(states).collect(),
            servers: Servers::find(),
        })
    }
}

async fn query_daemon(dirs: &Dirs) -> (DaemonReport, Option<DaemonStatus>) {
    let status = match Client::probe(dirs).await {
        Ok(DaemonState::Running(client)) => client.status().await,
        Ok(DaemonState::Unavailable(error)) | Err(error) => Err(error),
        Ok(DaemonState::Absent) => {
            return (DaemonReport::new(DaemonPhase::Absent, None, None), None);
        }
    };
    match status {
        Err(error) => (DaemonReport::unavailable(&error), None),
        Ok(status) => {
            let (pid, warning) = (Some(status.pid), status.warning.clone());
            let report = DaemonReport::new(DaemonPhase::Running, pid, warning);
            (report, Some(status))
        }
    }
}

fn folders(
    kernel: &KernelMounts,
    daemon: &DaemonReport,
    status: Option<&DaemonStatus>,
) -> Vec<MountedFolder> {
    let mut listed: Vec<&MountStatus> = status.map_or(Vec::new(), |it| it.mounts.iter().collect());
    let mut folders = Vec::new();
    for (entry, liveness) in &kernel.mounts {
        let mountpoint = entry.mountpoint.display().to_string();
        let mut pids = kernel.servers.of(entry);
        let is_own = daemon.pid.is_some_and(|pid| pids.contains(&pid));
        // Mounts are queried by path, and two mounts may share one path.
        let details = listed
            .iter()
            .rposition(|it| it.mountpoint == mountpoint)
            .filter(|_| is_own || pids.is_empty())
            .map(|at| listed.remove(at).clone());
        if *liveness == Liveness::Dead {
            pids.clear();
        } else if details.is_some() || is_own && daemon.state != DaemonPhase::Running {
            pids = daemon.pid.into_iter().collect();
        } else if is_own && pids.len() > 1 {
            // It answered, and does not serve this mount.
            pids.retain(|&pid| Some(pid) != daemon.pid);
        }
        folders.push(folder(entry, *liveness, pids, details, daemon));
    }
    folders.extend(listed.into_iter().map(|details| MountedFolder {
        mountpoint: details.mountpoint.clone(),
        state: Liveness::Detached,
        pid: daemon.pid,
        user: None,
        label: details.label.clone(),
        message: Some(
            "no longer mounted here: it was detached and is in use, or another mount namespace has it"
                .into(),
        ),
        details: Some(details.clone()),
    }));
    folders
}

fn folder(
    entry: &MountEntry,
    mut state: Liveness,
    pids: Vec<u32>,
    details: Option<MountStatus>,
    daemon: &DaemonReport,
) -> MountedFolder {
    let pid = pids.first().copied().filter(|_| pids.len() == 1);
    // Without permission, at least a stopped server process is detected.
    if state == Liveness::Unknown && pid.is_some_and(fuse::is_stopped) {
        state = Liveness::Unresponsive;
    }
    let message = message(entry, state, &pids, details.is_some(), daemon);
    MountedFolder {
        mountpoint: entry.mountpoint.display().to_string(),
        state,
        pid,
        user: entry.uid,
        label: MountTag::label_of(&entry.source).into(),
        message,
        details,
    }
}

fn message(
    entry: &MountEntry,
    state: Liveness,
    pids: &[u32],
    is_listed: bool,
    daemon: &DaemonReport,
) -> Option<String> {
    let dir = quoted(&entry.mountpoint.display().to_string());
    let process = match pids {
        [] => "a process that cannot be seen from here".into(),
        [pid] => format!("process {pid}"),
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            format!("one of the processes {}", several.join(", "))
        }
    };
    Some(match state {
        Liveness::Dead => format!(
            "dead: the process that served it is gone; mount on it again, or `walgit-fs unmount {dir}`"
        ),
        Liveness::Unresponsive => match pids {
            [pid] if fuse::is_stopped(*pid) => format!(
                "not responding: {process}, which serves it, is stopped; resume it with `kill -CONT {pid}`, or `walgit-fs unmount {dir}`"
            ),
            _ => format!(
                "not responding: {process} serves it and does not answer within {} s; detach it with `walgit-fs unmount --lazy {dir}`",
                fuse::RESPONSE_TIMEOUT.as_secs()
            ),
        },
        Liveness::Hidden => "hidden: something else is mounted over it".into(),
        Liveness::Unknown => format!("served by {process}; only its user can query it"),
        Liveness::Responds if is_listed || daemon.pid.is_some_and(|pid| pids == [pid]) => {
            return None;
        }
        Liveness::Responds => format!(
            "served by {process}, which is not the daemon of this command's cache directory"
        ),
        Liveness::Detached => return None,
    })
}

/// Quotes a path for a shell.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if path.chars().all(plain) {
        path.into()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}
