//! The folder to mount on or to unmount.
//!
//! A path is resolved without requests to mounts of this program, because a mount
//! that hangs would block the command. A mountpoint is verified through a descriptor,
//! and the mount is attached to that descriptor, so that a user who can rename a
//! folder on the path or replace it by a symlink cannot redirect the mount.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::liveness::{Liveness, liveness};
use super::processes::{self, Servers};
use super::table::{MountEntry, MountTable};
use super::{MountError, unmount};

/// Most symlinks on one path, as in the kernel.
const MAX_SYMLINKS: usize = 40;

/// Why a folder cannot be mounted on, or is not a mount.
#[derive(Debug, thiserror::Error)]
pub enum MountpointError {
    /// The folder does not exist.
    #[error("{}: no such folder", .0.display())]
    Missing(PathBuf),
    /// The current directory was removed, so a relative path cannot be resolved.
    #[error(
        "{}: the current directory no longer exists; cd to one that does, or give an absolute path",
        .0.display()
    )]
    NoCurrentDirectory(PathBuf),
    /// The folder cannot be opened.
    #[error("{}: {source}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// The kernel's mount table cannot be read.
    #[error(transparent)]
    Table(io::Error),
    /// Not a folder.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The folder is not empty; a mount would hide its content.
    #[error("{} is not empty; mount on an empty folder", .0.display())]
    NotEmpty(PathBuf),
    /// A mount of this program is already there.
    #[error("{} is mounted already; walgit-fs unmount it first", .0.display())]
    Mounted(PathBuf),
    /// A mount that does not respond is already there.
    #[error(
        "{} is mounted already and does not respond{}; `walgit-fs unmount {}` detaches it",
        dir.display(),
        served_by(*pid),
        dir.display()
    )]
    Silent {
        /// The folder.
        dir: PathBuf,
        /// The process that serves it, if known.
        pid: Option<u32>,
    },
    /// The folder is inside a mount of this program.
    #[error("{} is inside the mount {}; mount on a folder outside of it", dir.display(), mount.display())]
    Inside {
        /// The folder.
        dir: PathBuf,
        /// The mount.
        mount: PathBuf,
    },
    /// Another command is mounting on the folder.
    #[error("another walgit-fs is mounting on {} at this moment", .0.display())]
    Taken(PathBuf),
    /// The folder was replaced or moved.
    #[error("{} was replaced while it was being mounted on; nothing is mounted", .0.display())]
    Replaced(PathBuf),
    /// A mount without a daemon could not be removed.
    #[error(transparent)]
    Dead(Box<MountError>),
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

/// The absolute path of `dir` without symlinks. Makes no lookups in mounts of this
/// program: takes the path below their root as it is.
///
/// # Errors
/// Fails if a component is missing or cannot be read.
pub fn resolve(dir: &Path, table: &MountTable) -> Result<PathBuf, MountpointError> {
    let failed = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => MountpointError::Missing(path.into()),
        _ => MountpointError::Folder {
            dir: path.into(),
            source: error,
        },
    };
    let mut path = PathBuf::from("/");
    if dir.as_os_str().is_empty() {
        return Err(MountpointError::Missing(dir.into()));
    }
    if dir.is_relative() {
        // The kernel returns it without a request to a file system.
        path =
            std::env::current_dir().map_err(|_| MountpointError::NoCurrentDirectory(dir.into()))?;
    }
    let mut pending = components(dir);
    let mut symlinks = 0;
    while let Some(component) = pending.pop_front() {
        if component == "/" {
            path = "/".into();
            continue;
        }
        if component == ".." {
            path.pop();
            continue;
        }
        path.push(&component);
        if table.at(&path).is_some_and(MountEntry::is_ours) {
            continue;
        }
        match fs::read_link(&path) {
            Ok(target) => {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(failed(dir, Errno::LOOP.into()));
                }
                path.pop();
                for component in components(&target).into_iter().rev() {
                    pending.push_front(component);
                }
            }
            // Not a symlink.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
            Err(error) => return Err(failed(dir, error)),
        }
    }
    Ok(path)
}

fn components(path: &Path) -> VecDeque<OsString> {
    let components = path.components();
    components
        .filter(|component| *component != Component::CurDir)
        .map(|component| component.as_os_str().to_owned())
        .collect()
}

/// An empty folder to mount on, held open since its verification.
#[derive(Debug)]
pub struct Mountpoint {
    path: PathBuf,
    dir: OwnedFd,
    /// ID of the mount that contains it.
    within: u64,
}

impl Mountpoint {
    /// Verifies a folder; first removes a mount there whose daemon is gone. Blocks
    /// for as long as the file system of the folder does.
    ///
    /// # Errors
    /// Fails if the folder cannot be mounted on.
    pub fn open(dir: &Path) -> Result<Self, MountpointError> {
        let table = MountTable::read().map_err(MountpointError::Table)?;
        let path = resolve(dir, &table)?;
        clear(&path, table)?;
        let failed = |error: Errno| match error {
            Errno::NOTDIR => MountpointError::NotAFolder(path.clone()),
            Errno::LOOP => MountpointError::Replaced(path.clone()),
            Errno::NOENT => MountpointError::Missing(path.clone()),
            error => MountpointError::Folder {
                dir: path.clone(),
                source: error.into(),
            },
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed)?;
        // Prevents two commands from mounting on the same folder, where one mount
        // would cover the other. Some file systems have no locks: then the mount
        // table is checked afterwards.
        if flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(MountpointError::Taken(path));
        }
        let within = mount_id(&dir).map_err(MountpointError::Table)?;
        let mountpoint = Mountpoint { path, dir, within };
        mountpoint.check()?;
        Ok(mountpoint)
    }

    /// The absolute path, without symlinks.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path to the open folder, independent of its name.
    pub(super) fn by_descriptor(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.dir.as_raw_fd()).into()
    }

    /// Checks that the folder has not moved and is empty.
    pub(super) fn check(&self) -> Result<(), MountpointError> {
        if !self.is_in_place() {
            return Err(MountpointError::Replaced(self.path.clone()));
        }
        let failed = |error: Errno| MountpointError::Folder {
            dir: self.path.clone(),
            source: error.into(),
        };
        for entry in rustix::fs::Dir::read_from(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Err(MountpointError::NotEmpty(self.path.clone()));
            }
        }
        Ok(())
    }

    fn is_in_place(&self) -> bool {
        fs::read_link(self.by_descriptor()).is_ok_and(|path| path == self.path)
    }

    /// Whether a mount that is not in `before` is on exactly this folder, and its
    /// path leads to that mount.
    pub(super) fn is_mounted_since(&self, before: &MountTable) -> io::Result<bool> {
        let table = MountTable::read()?;
        let new = |entry: &MountEntry| {
            entry.is_ours() && entry.parent == self.within && !before.contains(entry.id)
        };
        Ok(self.is_in_place() && table.mounted_at(&self.path).is_some_and(new))
    }
}

/// Removes mounts without a daemon, and rejects folders with a live mount.
fn clear(path: &Path, mut table: MountTable) -> Result<(), MountpointError> {
    loop {
        let Some(entry) = table.at(path).filter(|entry| entry.is_ours()) else {
            return Ok(());
        };
        if entry.mountpoint != path {
            return Err(MountpointError::Inside {
                dir: path.into(),
                mount: entry.mountpoint.clone(),
            });
        }
        match liveness(&table, &[entry])[..] {
            [Liveness::Dead] => {
                unmount(path, true).map_err(|error| MountpointError::Dead(Box::new(error)))?;
            }
            [Liveness::Silent] => {
                let servers = Servers::find().of(entry);
                return Err(MountpointError::Silent {
                    dir: path.into(),
                    pid: (servers.len() == 1).then(|| servers[0]),
                });
            }
            _ => return Err(MountpointError::Mounted(path.into())),
        }
        let id = entry.id;
        table = MountTable::read().map_err(MountpointError::Table)?;
        if table.contains(id) {
            return Err(MountpointError::Mounted(path.into()));
        }
    }
}

/// The ID of the mount that contains an open file.
fn mount_id(file: &OwnedFd) -> io::Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/fdinfo names no mount"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_resolved_as_the_kernel_would() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", root.join("relative")).unwrap();
        std::os::unix::fs::symlink(root.join("a"), root.join("absolute")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        let table = MountTable::read().unwrap();
        let resolved = |path: &str| resolve(&root.join(path), &table);
        for path in [
            "a/b",
            "a/b/",
            "./a/./b/.",
            "a/../a/b",
            "relative/b",
            "absolute/b",
            "absolute/b/../../relative/b",
        ] {
            let expected = fs::canonicalize(root.join(path)).unwrap();
            assert_eq!(resolved(path).unwrap(), expected, "{path}");
        }
        assert!(matches!(resolved("no"), Err(MountpointError::Missing(_))));
        assert!(matches!(
            resolved("loop"),
            Err(MountpointError::Folder { .. })
        ));
    }

    #[test]
    fn two_commands_do_not_mount_on_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Mountpoint::open(dir.path()).unwrap();
        let second = Mountpoint::open(dir.path());
        assert!(matches!(second, Err(MountpointError::Taken(_))));
        drop(first);
        Mountpoint::open(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_that_was_moved_or_filled_since_it_was_opened_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        fs::create_dir(&path).unwrap();
        let open = Mountpoint::open(&path).unwrap();
        open.check().unwrap();
        fs::File::create(path.join("file")).unwrap();
        assert!(matches!(open.check(), Err(MountpointError::NotEmpty(_))));
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(open.check(), Err(MountpointError::Replaced(_))));
    }
}
