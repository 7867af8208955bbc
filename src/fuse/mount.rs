//! Mounts and unmounts, in the namespace and with the permissions of the caller.
//!
//! Root mounts directly; all other users need `fusermount3`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::handover::receive_descriptor;
use super::liveness::{Liveness, liveness};
use super::mountpoint::{Mountpoint, MountpointError};
use super::processes;
use super::table::{FS_TYPE, MountTable};
use walgit_durable::fault_point;

const DEVICE: &str = "/dev/fuse";
const FUSERMOUNT: &str = "fusermount3";

/// Mount options.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The source in `/proc/mounts`.
    pub name: String,
    /// Whether other users have access.
    pub allow_other: bool,
}

/// Why a mount or unmount fails.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// `/dev/fuse` is not available.
    #[error(
        "{DEVICE} cannot be opened ({0}); load the `fuse` module, or give the container that device"
    )]
    Device(io::Error),
    /// `fusermount3` is not installed.
    #[error("{FUSERMOUNT} is not installed; install the package `fuse3`")]
    NoFusermount,
    /// `fusermount3` failed.
    #[error("{FUSERMOUNT} could not {what} {}: {why}", dir.display())]
    Fusermount {
        /// `mount` or `unmount`.
        what: &'static str,
        /// The mountpoint.
        dir: PathBuf,
        /// Its error message.
        why: String,
    },
    /// The system call failed.
    #[error("cannot {what} {}: {source}", dir.display())]
    System {
        /// `mount` or `unmount`.
        what: &'static str,
        /// The mountpoint.
        dir: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// A process has a file open in the mount, or its working directory there.
    #[error("{} is in use{users}, or use --lazy to detach it now", dir.display())]
    Busy {
        /// The mountpoint.
        dir: PathBuf,
        /// The processes, and how to proceed.
        users: String,
    },
    /// The folder cannot be mounted on.
    #[error(transparent)]
    Mountpoint(#[from] MountpointError),
}

/// Whether the visible mount at `dir`, an absolute path without symlinks, is one of
/// this program. Reads only `/proc`, so it cannot hang.
pub fn is_ours(dir: &Path) -> bool {
    let table = MountTable::read();
    table.is_ok_and(|table| table.mounted_at(dir).is_some_and(|entry| entry.is_ours()))
}

/// A new mount. Dropping it unmounts, unless [`keep`](Mounted::keep) was called.
#[derive(Debug)]
pub struct Mounted {
    at: Mountpoint,
    name: String,
    before: MountTable,
    device: Option<OwnedFd>,
    /// Whether its location has been verified.
    in_place: bool,
    kept: bool,
}

impl Mounted {
    /// The `/dev/fuse` descriptor of the mount; `None` if it was taken already.
    pub fn take_device(&mut self) -> Option<OwnedFd> {
        self.device.take()
    }

    /// Keeps the mount when this is dropped.
    pub fn keep(mut self) {
        self.kept = true;
    }

    fn undo(&mut self) -> Result<(), MountError> {
        // Without another process that serves it, the mount is dead from here on.
        drop(self.device.take());
        if rustix::process::geteuid().is_root() {
            let dir = self.at.by_descriptor();
            return unmount_as_root(&dir, UnmountFlags::DETACH);
        }
        if self.in_place {
            return unmount(self.at.path(), true);
        }
        let table = MountTable::read().map_err(MountpointError::Table)?;
        let is_new = |entry: &&_| {
            let entry: &super::table::MountEntry = entry;
            entry.is_mine() && entry.source == self.name && !self.before.contains(entry.id)
        };
        let new: Vec<_> = table.ours().filter(is_new).collect();
        for (entry, state) in new.iter().zip(liveness(&table, &new)) {
            if state == Liveness::Dead {
                unmount(&entry.mountpoint, true)?;
            }
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = self.undo() {
            tracing::warn!("{} may still be mounted: {error}", self.at.path().display());
        }
    }
}

/// Mounts on the verified folder, even if its path now leads elsewhere.
///
/// # Errors
/// Fails if the kernel or `fusermount3` fails, or if the folder was replaced; then
/// nothing is mounted.
pub fn mount(at: Mountpoint, options: &MountOptions) -> Result<Mounted, MountError> {
    let table = || MountTable::read().map_err(MountpointError::Table);
    let mut mounted = Mounted {
        before: table()?,
        name: options.name.clone(),
        device: None,
        in_place: false,
        kept: true,
        at,
    };
    mounted.at.check()?;
    let dir = mounted.at.path();
    fault_point::reach("mount.checked").map_err(|source| MountError::System {
        what: "mount",
        dir: dir.into(),
        source,
    })?;
    let device = if rustix::process::geteuid().is_root() {
        mount_as_root(&mounted.at, options)?
    } else {
        let device = mount_as_user(dir, options);
        // From here on, a failure undoes a partial mount.
        mounted.kept = false;
        device?
    };
    mounted.device = Some(device);
    mounted.kept = false;
    // `fusermount3` follows paths, and a folder may be moved after the mount.
    let in_place = mounted.at.is_mounted_since(&mounted.before);
    mounted.in_place = in_place.map_err(MountpointError::Table)?;
    if mounted.in_place {
        Ok(mounted)
    } else {
        Err(MountpointError::Replaced(mounted.at.path().into()).into())
    }
}

fn mount_as_root(at: &Mountpoint, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let device = File::options()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(MountError::Device)?;
    let failed = |source| MountError::System {
        what: "mount",
        dir: at.path().into(),
        source,
    };
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let mut data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions",
        device.as_raw_fd()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(|error| failed(error.into()))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let (source, dir) = (options.name.as_str(), at.by_descriptor());
    rustix::mount::mount(source, dir, FS_TYPE, flags, data.as_c_str())
        .map_err(|error| failed(error.into()))?;
    Ok(device.into())
}

fn mount_as_user(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let failed = |why: String| MountError::Fusermount {
        what: "mount",
        dir: dir.into(),
        why,
    };
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| failed(error.to_string()))?;
    // The helper inherits only its own end: a copy of this end in the helper, or of
    // either end in a child of another thread, would block the read below.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(|error| failed(error.to_string()))?;
    let mut list = format!(
        "ro,nosuid,nodev,default_permissions,subtype=walgit-fs,fsname={}",
        options.name.replace('\\', "\\\\").replace(',', "\\,")
    );
    if options.allow_other {
        list.push_str(",allow_other");
    }
    let child = Command::new(FUSERMOUNT)
        .args(["-o", &list, "--"])
        .arg(dir)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| helper_missing(error, failed))?;
    drop(theirs);
    let received = receive_descriptor(ours.as_fd(), 1);
    let said = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    match received {
        Ok((_, Some(device))) if said.status.success() => Ok(device),
        _ => Err(failed(words(&said.stderr))),
    }
}

fn helper_missing(error: io::Error, failed: impl Fn(String) -> MountError) -> MountError {
    match error.kind() {
        io::ErrorKind::NotFound => MountError::NoFusermount,
        _ => failed(error.to_string()),
    }
}

/// The error message of the helper, without its name.
fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let text = text.strip_prefix("fusermount3: ").unwrap_or(text);
    match text.is_empty() {
        true => "it gave no reason".into(),
        false => text.replace('\n', "; "),
    }
}

/// Unmounts `dir`, an absolute path without symlinks. `lazy` detaches a mount that is
/// in use. Makes no request to the mount, so the mount may be unresponsive.
///
/// # Errors
/// [`MountError::Busy`], with the processes that use the mount, if known.
pub fn unmount(dir: &Path, lazy: bool) -> Result<(), MountError> {
    if rustix::process::geteuid().is_root() {
        let flags = if lazy {
            UnmountFlags::NOFOLLOW | UnmountFlags::DETACH
        } else {
            UnmountFlags::NOFOLLOW
        };
        return unmount_as_root(dir, flags);
    }
    let failed = |why: String| MountError::Fusermount {
        what: "unmount",
        dir: dir.into(),
        why,
    };
    let said = Command::new(FUSERMOUNT)
        .args(match lazy {
            true => &["-u", "-z", "--"][..],
            false => &["-u", "--"],
        })
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| helper_missing(error, failed))?;
    match said.status.success() {
        true => Ok(()),
        false if words(&said.stderr).contains("busy") => Err(busy(dir)),
        false => Err(failed(words(&said.stderr))),
    }
}

fn unmount_as_root(dir: &Path, flags: UnmountFlags) -> Result<(), MountError> {
    rustix::mount::unmount(dir, flags).map_err(|error| match error {
        rustix::io::Errno::BUSY => busy(dir),
        error => MountError::System {
            what: "unmount",
            dir: dir.into(),
            source: error.into(),
        },
    })
}

/// Creates the error for a busy mount, with the processes that use it.
fn busy(dir: &Path) -> MountError {
    let users = processes::using(dir);
    let shell = users.iter().find(|user| processes::is_ancestor(user.pid));
    let listed: Vec<String> = users.iter().map(ToString::to_string).collect();
    let inner = MountTable::read().ok().and_then(|table| {
        let inside = table.inside(table.mounted_at(dir)?).next()?;
        Some(inside.mountpoint.clone())
    });
    let users = match (shell, inner) {
        (Some(shell), _) if users.len() == 1 => {
            format!(": your shell, {shell}, is in it; cd out of it first")
        }
        (Some(shell), _) => format!(
            " by {}; your shell, {shell}, is in it: cd out of it first",
            listed.join(", ")
        ),
        (None, Some(inner)) if users.is_empty() => {
            format!(
                ": {} is mounted inside it; unmount that first",
                inner.display()
            )
        }
        (None, _) if users.is_empty() => {
            " by a process that cannot be seen from here; let it finish".into()
        }
        (None, _) => format!(" by {}; let them finish", listed.join(", ")),
    };
    MountError::Busy {
        dir: dir.into(),
        users,
    }
}
