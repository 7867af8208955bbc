//! Unmounts with the permissions of the caller; errors of mounting and unmounting.
//!
//! Root unmounts directly; all other users need `fusermount3`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mount_table::MountTable;
use super::processes;
use walgit_durable::fault_point;

/// The device of FUSE.
pub(super) const DEVICE: &str = "/dev/fuse";
const FUSERMOUNT: &str = "fusermount3";
/// Maximum wait for a use of a mount that no process shows.
const TRANSIENT_USE_TIMEOUT: Duration = Duration::from_secs(1);
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Why a mount or unmount fails.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of a variant describes it")]
pub enum MountError {
    #[error("{}: no such folder", .0.display())]
    Missing(PathBuf),
    #[error(
        "{}: the current directory no longer exists; cd to one that does, or give an absolute path",
        .0.display()
    )]
    NoCurrentDirectory(PathBuf),
    #[error("{}: {source}", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error(transparent)]
    Table(io::Error),
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    #[error("{} is not empty; mount on an empty folder", .0.display())]
    NotEmpty(PathBuf),
    #[error("{} is mounted already; walgit-fs unmount it first", .0.display())]
    Mounted(PathBuf),
    #[error(
        "{} is mounted already and does not respond{}; `walgit-fs unmount {}` detaches it",
        dir.display(),
        served_by(*pid),
        dir.display()
    )]
    Unresponsive { dir: PathBuf, pid: Option<u32> },
    #[error("{} is inside the mount {}; mount on a folder outside of it", dir.display(), mount.display())]
    Inside { dir: PathBuf, mount: PathBuf },
    #[error("another walgit-fs is mounting on {} at this moment", .0.display())]
    Locked(PathBuf),
    #[error("{} was replaced while it was being mounted on; nothing is mounted", .0.display())]
    Replaced(PathBuf),
    #[error(
        "{DEVICE} cannot be opened ({0}); load the `fuse` module, or give the container that device"
    )]
    Device(io::Error),
    #[error("{FUSERMOUNT} is not installed; install the package `fuse3`")]
    NoFusermount,
    #[error("{FUSERMOUNT} could not {action} {}: {reason}", dir.display())]
    Fusermount {
        action: &'static str,
        dir: PathBuf,
        reason: String,
    },
    #[error("cannot {action} {}: {source}", dir.display())]
    System {
        action: &'static str,
        dir: PathBuf,
        source: io::Error,
    },
    #[error("{} is in use{}, or use --lazy to detach it now", .0.display(), .1)]
    Busy(PathBuf, String),
    #[error(
        "{} is in use by a process that cannot be seen from here; let it finish, or use --lazy to \
         detach it now",
        .0.display()
    )]
    BusyUnseen(PathBuf),
}

fn served_by(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if processes::is_stopped(pid) => {
            format!(" (process {pid}, which serves it, is stopped)")
        }
        Some(pid) => format!(" (process {pid} serves it)"),
        None => String::new(),
    }
}

/// A run of `fusermount3` on a folder.
pub(super) struct Fusermount<'a> {
    action: &'static str,
    dir: &'a Path,
    pub(super) command: Command,
}

impl<'a> Fusermount<'a> {
    pub(super) fn new(action: &'static str, options: &[&str], dir: &'a Path) -> Self {
        let mut command = Command::new(FUSERMOUNT);
        command.args(options).arg("--").arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        Fusermount {
            action,
            dir,
            command,
        }
    }

    pub(super) fn error(&self, error: impl Into<io::Error>) -> MountError {
        match error.into() {
            error if error.kind() == io::ErrorKind::NotFound => MountError::NoFusermount,
            error => self.failed(error.to_string()),
        }
    }

    fn failed(&self, reason: String) -> MountError {
        MountError::Fusermount {
            action: self.action,
            dir: self.dir.into(),
            reason,
        }
    }

    /// Its error message, without the name of the program.
    pub(super) fn failure(&self, output: &Output) -> MountError {
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.trim();
        let text = text.strip_prefix("fusermount3: ").unwrap_or(text);
        self.failed(if text.is_empty() {
            "fusermount3 gave no reason".into()
        } else {
            text.replace('\n', "; ")
        })
    }
}

/// Unmounts `dir`, an absolute path without symlinks. `lazy` detaches a mount that is
/// in use. Makes no request to the mount, so the mount may be unresponsive.
///
/// # Errors
/// [`MountError::Busy`], with the processes that use the mount, if known.
pub fn unmount(dir: &Path, lazy: bool) -> Result<(), MountError> {
    let deadline = Instant::now() + TRANSIENT_USE_TIMEOUT;
    loop {
        match try_unmount(dir, lazy) {
            // `df` and `status` use each mount for an instant, and leave no trace in /proc.
            Err(MountError::BusyUnseen(_)) if Instant::now() < deadline => {
                let reached = fault_point::reach("unmount.busy");
                reached.map_err(|source| system_error("unmount", dir, source))?;
                std::thread::sleep(BUSY_POLL_INTERVAL);
            }
            result => return result,
        }
    }
}

fn try_unmount(dir: &Path, lazy: bool) -> Result<(), MountError> {
    if rustix::process::geteuid().is_root() {
        let lazy = if lazy {
            UnmountFlags::DETACH
        } else {
            UnmountFlags::empty()
        };
        return unmount_as_root(dir, UnmountFlags::NOFOLLOW | lazy);
    }
    let options: &[&str] = if lazy { &["-u", "-z"] } else { &["-u"] };
    let mut helper = Fusermount::new("unmount", options, dir);
    let output = helper.command.output();
    let output = output.map_err(|error| helper.error(error))?;
    if output.status.success() {
        return Ok(());
    }
    match helper.failure(&output) {
        MountError::Fusermount { reason, .. } if reason.contains("busy") => Err(busy(dir)),
        error => Err(error),
    }
}

pub(super) fn unmount_as_root(dir: &Path, flags: UnmountFlags) -> Result<(), MountError> {
    rustix::mount::unmount(dir, flags).map_err(|error| match error {
        Errno::BUSY => busy(dir),
        error => system_error("unmount", dir, error.into()),
    })
}

pub(super) fn system_error(action: &'static str, dir: &Path, source: io::Error) -> MountError {
    let dir = dir.into();
    MountError::System {
        action,
        dir,
        source,
    }
}

/// Creates the error for a busy mount, with the processes that use it.
fn busy(dir: &Path) -> MountError {
    let users = processes::using(dir);
    let shell = users.iter().find(|user| processes::is_ancestor(user.pid));
    let listed: Vec<String> = users.iter().map(ToString::to_string).collect();
    let listed = listed.join(", ");
    let inner = MountTable::read().ok().and_then(|table| {
        let inside = table.inside(table.mounted_at(dir)?).next()?;
        Some(inside.mountpoint.display().to_string())
    });
    let users = match (shell, inner) {
        (Some(shell), _) if users.len() == 1 => {
            format!(": your shell, {shell}, is in it; cd out of it first")
        }
        (Some(shell), _) => {
            format!(" by {listed}; your shell, {shell}, is in it: cd out of it first")
        }
        (None, Some(inner)) if users.is_empty() => {
            format!(": {inner} is mounted inside it; unmount that first")
        }
        (None, _) if users.is_empty() => return MountError::BusyUnseen(dir.into()),
        (None, _) => format!(" by {listed}; let them finish"),
    };
    MountError::Busy(dir.into(), users)
}
