//! Errors of the daemon and of its clients.

use std::io;
use std::path::PathBuf;

use super::daemon_dir::DaemonDirError;
use super::lock::Phase;
use crate::cache::CacheError;
use crate::config::ConfigError;
use crate::fuse::{MountError, is_stopped};
use crate::leases::LeaseError;
use crate::repo::RepoError;
use walgit_format::Address;
use walgit_prefetch::MalformedProfile;
use walrus_client::StoreError;

/// Reason why the daemon did not serve a request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon rejected the request, with this reason.
    #[error("{0}")]
    Rejected(String),
    /// The daemon is running but does not answer.
    #[error("{}", unresponsive(*pid, why))]
    Unresponsive {
        /// Process ID, if known.
        pid: Option<u32>,
        /// The reason.
        why: String,
    },
    /// The daemon is starting or stopping, and takes long.
    #[error("the walgit-fs daemon{} is {phase}; try again in a moment", process(*pid))]
    InTransition {
        /// Process ID, if known.
        pid: Option<u32>,
        /// What it is doing.
        phase: Phase,
    },
    /// The daemon has another version.
    #[error(
        "the running walgit-fs daemon{} is version {version}, this is {}; replace it with `walgit-fs daemon restart`",
        process(*pid),
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion {
        /// Process ID, if known.
        pid: Option<u32>,
        /// Its version.
        version: String,
    },
    /// The daemon exited during the request, or its answer is invalid.
    #[error("the walgit-fs daemon did not complete the request ({0}); try again")]
    Gone(String),
    /// The daemon did not start.
    #[error("the walgit-fs daemon did not start: {why} (its log: {})", log.display())]
    Start {
        /// Its last message.
        why: String,
        /// Path of its log.
        log: PathBuf,
    },
    /// The daemon was asked to exit and did not.
    #[error("the walgit-fs daemon{} did not stop; end it with `kill -KILL {}`", process(*pid), pid.map_or("PID".into(), |pid| pid.to_string()))]
    DidNotStop {
        /// Process ID, if known.
        pid: Option<u32>,
    },
    /// Its directory or a socket in it cannot be trusted or used.
    #[error(transparent)]
    Dir(#[from] DaemonDirError),
}

impl ClientError {
    /// The error for a daemon whose process is stopped (SIGSTOP), or else `why`.
    pub(super) fn unresponsive(pid: Option<u32>, why: String) -> Self {
        let is_stopped = pid.is_some_and(is_stopped);
        let why = if is_stopped { STOPPED.into() } else { why };
        ClientError::Unresponsive { pid, why }
    }

    /// The error for a request that was interrupted.
    pub(super) fn gone(error: impl ToString) -> Self {
        ClientError::Gone(error.to_string())
    }
}

const STOPPED: &str = "it is stopped";

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn unresponsive(pid: Option<u32>, why: &str) -> String {
    let remedy = match pid {
        Some(pid) if why == STOPPED => format!("resume it with `kill -CONT {pid}`, or end it"),
        _ => "end it".into(),
    };
    let or_kill = pid.map_or_else(String::new, |pid| format!(" or `kill -KILL {pid}`"));
    format!(
        "the walgit-fs daemon{} does not answer: {why}; {remedy} with `walgit-fs daemon stop`{or_kill} and mount again",
        process(pid)
    )
}

/// Reason why a mount or unmount failed. No new mount remains.
#[derive(Debug, thiserror::Error)]
pub enum MountFailure {
    /// The mount point does not exist.
    #[error("{}: no such folder; make it first (mkdir -p)", .0.display())]
    Missing(PathBuf),
    /// The file system of the mount point does not respond.
    #[error("{}: no response within {seconds} s", dir.display())]
    Timeout {
        /// The mount point.
        dir: PathBuf,
        /// The timeout.
        seconds: u64,
    },
    /// The folder is not a mount.
    #[error("{} is not a walgit-fs mount; walgit-fs status lists those there are", .0.display())]
    NotMounted(PathBuf),
    /// Another file system is mounted there.
    #[error("{} is not a walgit-fs mount but one of type {fs_type}; use umount for it", dir.display())]
    NotOurs {
        /// The folder.
        dir: PathBuf,
        /// Its type.
        fs_type: String,
    },
    /// The path is inside of a mount.
    #[error(
        "{} is inside the mount {}; give that folder instead",
        dir.display(),
        mount.display()
    )]
    Inside {
        /// The path.
        dir: PathBuf,
        /// The mount.
        mount: PathBuf,
    },
    /// Another user mounted it.
    #[error("{} was mounted by user {uid}; that user or root can unmount it", dir.display())]
    NotMine {
        /// The folder.
        dir: PathBuf,
        /// The other user.
        uid: u32,
    },
    /// The mount point is not usable, or the mount failed.
    #[error(transparent)]
    Mount(MountError),
    /// The daemon failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The mount was made but does not answer.
    #[error("{} does not answer ({source}) and was unmounted again", dir.display())]
    NoAnswer {
        /// The folder.
        dir: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl From<MountError> for MountFailure {
    fn from(error: MountError) -> Self {
        match error {
            MountError::Missing(dir) => MountFailure::Missing(dir),
            error => MountFailure::Mount(error),
        }
    }
}

/// Reason why a daemon cannot run, or cannot serve a mount.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon is in use.
    #[error(
        "the walgit-fs daemon (process {pid}) has the cache: {why}; mount without --foreground, or run `walgit-fs daemon stop` first"
    )]
    Running {
        /// Process ID.
        pid: u32,
        /// What the daemon is doing.
        why: String,
    },
    /// The daemon does not exit while it is needed.
    #[error("{}", in_use(.0))]
    InUse(Vec<PathBuf>),
    /// The daemon is stopping.
    #[error("the walgit-fs daemon is stopping; try again")]
    Stopping,
    /// Another daemon does not exit.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon uses too much memory for another mount.
    #[error(
        "the daemon takes {used} bytes of memory, and takes no new mounts above {limit}; unmount what is not needed, or raise `memory` in [daemon]"
    )]
    Memory {
        /// Resident bytes.
        used: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Its directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DaemonDirError),
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cache cannot be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository cannot be opened.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// No mount is there.
    #[error("{} is not mounted; see walgit-fs status", .0.display())]
    NotMounted(PathBuf),
    /// A followed branch was reset, or its source is behind: its newest commit is older
    /// than the shown one.
    #[error(
        "the branch is reported at {reported}, an ancestor of {shown}: the Sui node is behind, or \
         the branch was reset; mount it again to show that commit"
    )]
    WentBack {
        /// The shown commit.
        shown: String,
        /// The reported newest commit.
        reported: String,
    },
    /// There is no profile to export.
    #[error("nothing has been learned about {0} yet; mount it and use it first")]
    NothingLearned(String),
    /// A profile cannot be decoded.
    #[error(transparent)]
    Profile(#[from] MalformedProfile),
    /// A peer handed over a mount without a descriptor.
    #[error("no descriptor came with the request")]
    NoDescriptor,
    /// The descriptor is not a mount.
    #[error("the descriptor that came with the request is not /dev/fuse")]
    NotFuse,
    /// The repository to mount cannot be protected from a collector.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The head has been collected.
    #[error("{0} is no longer stored: walgit-fs gc deleted it, because no name refers to it")]
    Collected(Address),
    /// The connection to the kernel failed.
    #[error("the mount could not be served: {0}")]
    Session(io::Error),
    /// A foreground mount failed.
    #[error(transparent)]
    Mount(#[from] MountFailure),
}

impl DaemonError {
    /// The error for a task that panicked or was cancelled.
    pub(super) fn task(error: tokio::task::JoinError) -> Self {
        DaemonError::Session(io::Error::other(error))
    }
}

fn in_use(dirs: &[PathBuf]) -> String {
    if dirs.is_empty() {
        return "it is working on a request or a job".into();
    }
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    format!("it serves {}", dirs.join(", "))
}
