//! The directory of the daemon's lock and sockets: a private directory in the cache directory.
//!
//! The daemon owns the cache, so every process that finds the cache finds the daemon,
//! regardless of `XDG_RUNTIME_DIR` or `TMPDIR`. Paths are not trusted: the directory is
//! opened and verified once, its files are accessed through that descriptor, and the
//! kernel reports the user behind a socket before any byte is sent to it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};

use crate::config::Dirs;
use walgit_durable::require_regular;

/// Name of the HTTP socket.
pub(super) const CONTROL_SOCKET: &str = "control.sock";
/// Name of the socket that takes over mounts.
pub(super) const ATTACH_SOCKET: &str = "attach.sock";

/// Reason why the daemon's directory or a socket in it is rejected.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of a variant describes it")]
pub enum DaemonDirError {
    #[error(
        "{} belongs to user {owner}, but this command runs as user {user}; run it as that user, or set HOME or XDG_CACHE_HOME to directories of your own (sudo -H, su -)",
        path.display()
    )]
    Foreign {
        path: PathBuf,
        owner: u32,
        user: u32,
    },
    #[error(
        "{} has mode {mode:03o}, so other users can enter it; remove it and try again",
        path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{} is not a directory; remove it and try again", .0.display())]
    NotADirectory(PathBuf),
    #[error(
        "{} is served by a process of user {peer}, not by your walgit-fs daemon; nothing was sent to it. Remove the socket and try again",
        path.display()
    )]
    Impostor { path: PathBuf, peer: u32 },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The daemon's directory, open and verified.
#[derive(Debug)]
pub(super) struct DaemonDir {
    dir: OwnedFd,
    path: PathBuf,
}

/// A connection, and the process at its other end.
pub(super) struct DaemonPeer {
    pub(super) stream: UnixStream,
    /// Process ID in this process's namespace; `None` if it is not visible.
    pub(super) pid: Option<u32>,
}

impl DaemonDir {
    /// Opens the directory; `None` if it does not exist, so there is no daemon either.
    pub(super) fn open(dirs: &Dirs) -> Result<Option<Self>, DaemonDirError> {
        let path = dirs.daemon();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(DaemonDirError::NotADirectory(path)),
            // A foreign owner explains more than a denied access.
            Err(error) => {
                require_owned(&path)?;
                let source = error.into();
                return Err(DaemonDirError::Io { path, source });
            }
        };
        let stat = rustix::fs::fstat(&dir).map_err(|error| DaemonDirError::Io {
            path: path.clone(),
            source: error.into(),
        })?;
        require_owner(&path, stat.st_uid)?;
        let mode = stat.st_mode & 0o7777;
        if mode & 0o077 != 0 {
            return Err(DaemonDirError::Open { path, mode });
        }
        Ok(Some(DaemonDir { dir, path }))
    }

    /// Opens the directory, and creates it if needed. Fails also if the cache directory
    /// belongs to another user: files of this process would be in that user's cache.
    pub(super) fn create(dirs: &Dirs) -> Result<Self, DaemonDirError> {
        if let Some(found) = DaemonDir::open(dirs)? {
            return Ok(found);
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DaemonDirError::Io { path, source }
        };
        let mut private = std::fs::DirBuilder::new();
        private.mode(0o700).recursive(true);
        private.create(&dirs.cache).map_err(failed(&dirs.cache))?;
        require_owned(&dirs.cache)?;
        let path = dirs.daemon();
        private.create(&path).map_err(failed(&path))?;
        DaemonDir::open(dirs)?.ok_or_else(|| failed(&path)(io::ErrorKind::NotFound.into()))
    }

    /// Returns the path of a file in it, for messages; the path may lead elsewhere by
    /// now.
    pub(super) fn named(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the path of a file in it for system calls: short enough for a socket,
    /// however long the directory's path is, and always in this very directory.
    fn at(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()).into()
    }

    /// Opens a regular file in it; never follows a symbolic link.
    pub(super) fn open_file(&self, name: &str, flags: OFlags) -> io::Result<std::fs::File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        require_regular(file.into())
    }

    /// Listens on a socket in it; replaces the socket of a dead daemon.
    pub(super) fn listen(&self, name: &str) -> Result<UnixListener, DaemonDirError> {
        self.remove(name);
        UnixListener::bind(self.at(name)).map_err(|source| self.failed(name, source))
    }

    /// Removes a file or socket in it.
    pub(super) fn remove(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }

    /// Connects to a socket in it if the caller's own user listens there.
    pub(super) async fn connect(&self, name: &str) -> Result<DaemonPeer, DaemonDirError> {
        let failed = |source| self.failed(name, source);
        let stream = UnixStream::connect(self.at(name)).await.map_err(failed)?;
        let credentials = stream.peer_cred().map_err(failed)?;
        if credentials.uid() != rustix::process::geteuid().as_raw() {
            return Err(DaemonDirError::Impostor {
                path: self.named(name),
                peer: credentials.uid(),
            });
        }
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
        Ok(DaemonPeer {
            stream,
            pid: pid.filter(|&pid| pid != 0),
        })
    }

    pub(super) fn failed(&self, name: &str, source: io::Error) -> DaemonDirError {
        DaemonDirError::Io {
            path: self.named(name),
            source,
        }
    }
}

/// Returns the daemon's directory, created if needed: for checks.
pub fn directory(dirs: &Dirs) -> Result<PathBuf, DaemonDirError> {
    Ok(DaemonDir::create(dirs)?.path)
}

/// Verifies that the effective user owns a path, if it is readable.
fn require_owned(path: &Path) -> Result<(), DaemonDirError> {
    std::fs::metadata(path).map_or(Ok(()), |found| require_owner(path, found.uid()))
}

fn require_owner(path: &Path, owner: u32) -> Result<(), DaemonDirError> {
    let user = rustix::process::geteuid().as_raw();
    if owner == user {
        return Ok(());
    }
    let path = path.into();
    Err(DaemonDirError::Foreign { path, owner, user })
}

/// Whether the peer of a socket runs as this process's user, or root.
pub(super) fn is_owner(stream: &UnixStream) -> bool {
    let own_uid = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred().map(|cred| cred.uid());
    let is_owner = peer.as_ref().is_ok_and(|&uid| uid == own_uid || uid == 0);
    if !is_owner {
        tracing::warn!("rejected a peer with uid {peer:?}");
    }
    is_owner
}

/// Whether a descriptor refers to `/dev/fuse`, identified by its device number.
pub(super) fn is_fuse_device(descriptor: impl AsFd) -> bool {
    let device = rustix::fs::makedev(10, 229);
    rustix::fs::fstat(descriptor).is_ok_and(|found| {
        rustix::fs::FileType::from_raw_mode(found.st_mode).is_char_device()
            && found.st_rdev == device
    })
}
