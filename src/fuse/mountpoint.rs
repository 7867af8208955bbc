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
use super::mount_table::{MountEntry, MountTable};
use super::processes::Servers;
use super::unmount::{MountError, unmount};

/// Most symlinks on one path, as in the kernel.
const MAX_SYMLINKS: usize = 40;

/// The absolute path of `dir` without symlinks. Makes no lookups in mounts of this
/// program: takes the path below their root as it is.
pub fn resolve(dir: &Path, table: &MountTable) -> Result<PathBuf, MountError> {
    let mut path = PathBuf::from("/");
    if dir.as_os_str().is_empty() {
        return Err(MountError::Missing(dir.into()));
    }
    if dir.is_relative() {
        // The kernel returns it without a request to a file system.
        let current = std::env::current_dir();
        path = current.map_err(|_| MountError::NoCurrentDirectory(dir.into()))?;
    }
    let mut pending = components(dir);
    let mut symlinks = 0;
    while let Some(component) = pending.pop_front() {
        if component == ".." {
            path.pop();
            continue;
        }
        // Replaces the whole path if it is `/`.
        path.push(&component);
        if table.at(&path).is_some_and(MountEntry::is_ours) {
            continue;
        }
        match fs::read_link(&path) {
            Ok(target) => {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(failed(dir, Errno::LOOP));
                }
                path.pop();
                let mut target = components(&target);
                target.append(&mut pending);
                pending = target;
            }
            // Not a symlink.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
            Err(error) => return Err(failed(dir, error)),
        }
    }
    Ok(path)
}

fn failed(dir: &Path, error: impl Into<io::Error>) -> MountError {
    let dir = dir.into();
    match error.into() {
        error if error.kind() == io::ErrorKind::NotFound => MountError::Missing(dir),
        source => MountError::Folder { dir, source },
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    let components = path.components();
    let names = components.filter(|component| *component != Component::CurDir);
    names.map(|name| name.as_os_str().to_owned()).collect()
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
    pub fn open(dir: &Path) -> Result<Self, MountError> {
        let table = MountTable::read().map_err(MountError::Table)?;
        let path = resolve(dir, &table)?;
        clear(&path, table)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOTDIR) => return Err(MountError::NotAFolder(path)),
            Err(Errno::LOOP) => return Err(MountError::Replaced(path)),
            dir => dir.map_err(|error| failed(&path, error))?,
        };
        // Prevents two commands from mounting on the same folder, where one mount
        // would cover the other. Some file systems have no locks: then the mount
        // table is checked afterwards.
        if flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(MountError::Locked(path));
        }
        let within = mount_id(&dir).map_err(MountError::Table)?;
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
    pub(super) fn check(&self) -> Result<(), MountError> {
        if !self.is_in_place() {
            return Err(MountError::Replaced(self.path.clone()));
        }
        let failed = |error| failed(&self.path, error);
        for entry in rustix::fs::Dir::read_from(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Err(MountError::NotEmpty(self.path.clone()));
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
fn clear(path: &Path, mut table: MountTable) -> Result<(), MountError> {
    loop {
        let Some(entry) = table.at(path).filter(|entry| entry.is_ours()) else {
            return Ok(());
        };
        if entry.mountpoint != path {
            return Err(MountError::Inside {
                dir: path.into(),
                mount: entry.mountpoint.clone(),
            });
        }
        match liveness(&table, &[entry])[..] {
            [Liveness::Dead] => {
                unmount(path, true)?;
            }
            [Liveness::Unresponsive] => {
                let servers = Servers::find().of(entry);
                return Err(MountError::Unresponsive {
                    dir: path.into(),
                    pid: (servers.len() == 1).then(|| servers[0]),
                });
            }
            _ => return Err(MountError::Mounted(path.into())),
        }
        let id = entry.id;
        table = MountTable::read().map_err(MountError::Table)?;
        if table.contains(id) {
            return Err(MountError::Mounted(path.into()));
        }
    }
}

/// The ID of the mount that contains an open file.
fn mount_id(file: &OwnedFd) -> io::Result<u64> {
    let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = fs::read_to_string(&info)?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("{info} names no mount")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_resolve_as_in_the_kernel() {
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
        assert!(matches!(resolved("no"), Err(MountError::Missing(_))));
        assert!(matches!(resolved("loop"), Err(MountError::Folder { .. })));
    }

    #[test]
    fn a_mountpoint_can_be_opened_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = Mountpoint::open(dir.path()).unwrap();
        let second = Mountpoint::open(dir.path());
        assert!(matches!(second, Err(MountError::Locked(_))));
        drop(first);
        Mountpoint::open(dir.path()).unwrap();
    }

    #[test]
    fn a_moved_or_filled_mountpoint_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        fs::create_dir(&path).unwrap();
        let open = Mountpoint::open(&path).unwrap();
        open.check().unwrap();
        fs::File::create(path.join("file")).unwrap();
        assert!(matches!(open.check(), Err(MountError::NotEmpty(_))));
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(open.check(), Err(MountError::Replaced(_))));
    }
}
