//! Making and undoing mounts, in the namespace and with the rights of whoever
//! calls.
//!
//! Root mounts directly; everybody else through `fusermount3`, which is there
//! to do so for them.

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

/// How a mount is made.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What `/proc/mounts` shows as its source.
    pub name: String,
    /// Whether other users may enter.
    pub allow_other: bool,
}

/// Why a mount cannot be made or undone.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// No such device.
    #[error(
        "{DEVICE} cannot be opened ({0}); load the `fuse` module, or give the container that device"
    )]
    Device(io::Error),
    /// No helper.
    #[error("{FUSERMOUNT} is not installed; install the package `fuse3`")]
    NoFusermount,
    /// The helper said no.
    #[error("{FUSERMOUNT} could not {what} {}: {why}", dir.display())]
    Fusermount {
        /// `mount` or `unmount`.
        what: &'static str,
        /// The mount point.
        dir: PathBuf,
        /// Its words.
        why: String,
    },
    /// The kernel said no.
    #[error("cannot {what} {}: {source}", dir.display())]
    System {
        /// `mount` or `unmount`.
        what: &'static str,
        /// The mount point.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Somebody has a file open in it, or is in it.
    #[error("{} is in use{users}, or use --lazy to detach it now", dir.display())]
    Busy {
        /// The mount point.
        dir: PathBuf,
        /// By whom, and what to do.
        users: String,
    },
    /// The folder cannot be mounted on.
    #[error(transparent)]
    Mountpoint(#[from] MountpointError),
}

/// Whether the mount that is seen at `dir`, an absolute path without symlinks, is one of
/// ours. Asks only `/proc`, so it cannot hang.
pub fn is_ours(dir: &Path) -> bool {
    let table = MountTable::read();
    table.is_ok_and(|table| table.mounted_at(dir).is_some_and(|entry| entry.is_ours()))
}

/// A mount that was made. It is undone when this is dropped, unless it is kept.
#[derive(Debug)]
pub struct Mounted {
    at: Mountpoint,
    name: String,
    before: MountTable,
    device: Option<OwnedFd>,
    /// Whether it is known to be where it should be.
    in_place: bool,
    kept: bool,
}

impl Mounted {
    /// The descriptor through which the kernel will ask; `None` once it was taken.
    pub fn take_device(&mut self) -> Option<OwnedFd> {
        self.device.take()
    }

    /// Leaves it mounted.
    pub fn keep(mut self) {
        self.kept = true;
    }

    fn undo(&mut self) -> Result<(), MountError> {
        // Unless somebody serves it, it is dead from here on.
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

/// Mounts on the folder that was checked, wherever its path leads by now.
///
/// # Errors
/// When the kernel or the helper refuses, or the folder was replaced; nothing is mounted
/// then.
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
        // Where it failed half way, what was mounted is undone.
        mounted.kept = false;
        device?
    };
    mounted.device = Some(device);
    mounted.kept = false;
    // `fusermount3` follows paths; and a folder may be moved once it is mounted on.
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
    // The helper inherits its end and nothing else: a copy of ours in it, or
    // of either in a child of another thread, would keep us waiting for it.
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

/// What the helper said, without its own name before it.
fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let text = text.strip_prefix("fusermount3: ").unwrap_or(text);
    match text.is_empty() {
        true => "it gave no reason".into(),
        false => text.replace('\n', "; "),
    }
}

/// Undoes the mount on `dir`, an absolute path without symlinks. `lazy` detaches it even
/// when it is in use. The mount itself is not asked anything, so it may be one that does
/// not answer.
///
/// # Errors
/// [`MountError::Busy`], naming who uses it where that can be told.
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

/// Who keeps a mount busy, and what to do.
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
