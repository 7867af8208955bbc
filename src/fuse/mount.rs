//! Mounts in the namespace and with the permissions of the caller.
//!
//! Root mounts directly; all other users need `fusermount3`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::fd_passing::receive_descriptor;
use super::liveness::{Liveness, liveness};
use super::mount_table::{FS_TYPE, MountEntry, MountTable};
use super::mountpoint::Mountpoint;
use super::unmount::{DEVICE, Fusermount, MountError, system_error, unmount, unmount_as_root};
use walgit_durable::fault_point;

/// Mount options.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The source in `/proc/mounts`.
    pub name: String,
    /// Whether other users have access.
    pub allow_other: bool,
}

/// A new mount. Dropping it unmounts, unless [`keep`](NewMount::keep) was called.
#[derive(Debug)]
pub struct NewMount {
    at: Mountpoint,
    name: String,
    before: MountTable,
    device: Option<OwnedFd>,
    /// Whether its location has been verified.
    in_place: bool,
    is_kept: bool,
}

impl NewMount {
    /// The `/dev/fuse` descriptor of the mount; `None` if it was taken already.
    pub fn take_device(&mut self) -> Option<OwnedFd> {
        self.device.take()
    }

    /// Keeps the mount when this is dropped.
    pub fn keep(mut self) {
        self.is_kept = true;
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
        let table = MountTable::read().map_err(MountError::Table)?;
        let is_new = |entry: &&MountEntry| {
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

impl Drop for NewMount {
    fn drop(&mut self) {
        if self.is_kept {
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
pub fn mount(at: Mountpoint, options: &MountOptions) -> Result<NewMount, MountError> {
    let mut mounted = NewMount {
        before: MountTable::read().map_err(MountError::Table)?,
        name: options.name.clone(),
        device: None,
        in_place: false,
        is_kept: true,
        at,
    };
    mounted.at.check()?;
    let dir = mounted.at.path();
    fault_point::reach("mount.checked").map_err(|error| failed(dir, error))?;
    let device = if rustix::process::geteuid().is_root() {
        mount_as_root(&mounted.at, options)?
    } else {
        let device = mount_as_user(dir, options);
        // From here on, a failure undoes a partial mount.
        mounted.is_kept = false;
        device?
    };
    mounted.device = Some(device);
    mounted.is_kept = false;
    // `fusermount3` follows paths, and a folder may be moved after the mount.
    let in_place = mounted.at.is_mounted_since(&mounted.before);
    mounted.in_place = in_place.map_err(MountError::Table)?;
    if mounted.in_place {
        Ok(mounted)
    } else {
        Err(MountError::Replaced(mounted.at.path().into()))
    }
}

fn failed(dir: &Path, error: impl Into<io::Error>) -> MountError {
    system_error("mount", dir, error.into())
}

fn mount_as_root(at: &Mountpoint, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let device = File::options().read(true).write(true).open(DEVICE);
    let device = device.map_err(MountError::Device)?;
    let allow_other = if options.allow_other {
        ",allow_other"
    } else {
        ""
    };
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions{allow_other}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let data = CString::new(data).map_err(|error| failed(at.path(), error))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let (source, dir) = (options.name.as_str(), at.by_descriptor());
    rustix::mount::mount(source, dir, FS_TYPE, flags, data.as_c_str())
        .map_err(|error| failed(at.path(), error))?;
    Ok(device.into())
}

fn mount_as_user(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let allow_other = if options.allow_other {
        ",allow_other"
    } else {
        ""
    };
    let list = format!(
        "ro,nosuid,nodev,default_permissions,subtype=walgit-fs,fsname={}{allow_other}",
        options.name.replace('\\', "\\\\").replace(',', "\\,")
    );
    let mut helper = Fusermount::new("mount", &["-o", &list], dir);
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| helper.error(error))?;
    // The helper inherits only its own end: a copy of this end in the helper, or of
    // either end in a child of another thread, would block the read below.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(|error| helper.error(error))?;
    let socket = theirs.as_raw_fd().to_string();
    let child = helper.command.env("_FUSE_COMMFD", socket).spawn();
    let child = child.map_err(|error| helper.error(error))?;
    drop(theirs);
    let received = receive_descriptor(ours.as_fd(), 1);
    let output = child.wait_with_output();
    let output = output.map_err(|error| helper.error(error))?;
    match received {
        Ok((_, Some(device))) if output.status.success() => Ok(device),
        _ => Err(helper.failure(&output)),
    }
}
