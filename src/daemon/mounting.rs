//! Mounting and unmounting, as a command does it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::MountRequest;
use super::client::{Client, ClientError, DaemonState};
use crate::config::{Dirs, Settings};
use crate::fuse::{self, MountError, MountOptions, MountTable, Mountpoint, MountpointError};
use crate::lifecycle::Activity;
use crate::lifecycle::leases::{MountTag, StoreTags};
use crate::repo::Source;

/// How long an unmounted folder may linger in the daemon's list.
const PARTING: Duration = Duration::from_secs(4);
/// How long the file system of a mount point may take, and an unmount.
const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(10);

/// A mount that was made.
#[derive(Clone, Debug, Serialize)]
pub struct MountInfo {
    /// The folder.
    pub mountpoint: PathBuf,
    /// The commit, as git calls it; empty for a plain folder.
    pub commit: String,
    /// Files and directories in it.
    pub nodes: u64,
    /// Bytes of content in it.
    pub bytes: u64,
    /// Lines about what is not shown, or shown and worth a word.
    pub notices: Vec<String>,
    /// Lines about the daemon that serves it, and about what does not protect it.
    pub warnings: Vec<String>,
}

/// Why a folder could not be mounted or unmounted. Nothing new is left mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountFailure {
    /// There is no folder to mount on.
    #[error("{}: no such folder; make it first (mkdir -p)", .0.display())]
    Missing(PathBuf),
    /// The folder cannot be mounted on, or cannot be looked up.
    #[error(transparent)]
    Mountpoint(MountpointError),
    /// Its file system does not respond.
    #[error("{}: no response within {} s", .0.display(), PATIENCE.as_secs())]
    Stuck(PathBuf),
    /// Nothing is mounted there.
    #[error("{} is not a walgit-fs mount; walgit-fs status lists those there are", .0.display())]
    NotMounted(PathBuf),
    /// Another file system is mounted there.
    #[error("{} is not a walgit-fs mount but one of type {fs_type}; use umount for it", dir.display())]
    NotOurs {
        /// The folder.
        dir: PathBuf,
        /// What it is.
        fs_type: String,
    },
    /// The path leads into a mount.
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
    /// The mount failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The daemon failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It was mounted and did not answer.
    #[error("{} does not answer ({source}) and was unmounted again", dir.display())]
    Silent {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<MountpointError> for MountFailure {
    fn from(error: MountpointError) -> Self {
        match error {
            MountpointError::Missing(dir) => MountFailure::Missing(dir),
            error => MountFailure::Mountpoint(error),
        }
    }
}

/// Mounts what `request` says, starting the daemon where none runs; returns
/// when the folder answers.
///
/// # Errors
/// [`MountFailure`]; then nothing is mounted.
pub async fn mount(
    settings: &Settings,
    mut request: MountRequest,
) -> Result<MountInfo, MountFailure> {
    let dir = request.mountpoint.clone();
    let mountpoint = patiently(&dir.clone(), move || Mountpoint::open(&dir)).await??;
    let dir = mountpoint.path().to_owned();
    request.mountpoint.clone_from(&dir);
    let mut client = Client::connect_or_start(settings).await?;
    // All that can be wrong with the repository shows here.
    let prepared = match client.prepare(&request).await {
        // It had nothing to do and ended at this moment.
        Err(ClientError::Gone(_)) => {
            client = Client::connect_or_start(settings).await?;
            client.prepare(&request).await?
        }
        prepared => prepared?,
    };
    let options = MountOptions {
        name: source(&request, prepared.encrypted),
        allow_other: request.allow_other,
    };
    let mut mounted = fuse::mount(mountpoint, &options)?;
    let called = match &request.source {
        Source::Name { name, .. } => name.clone(),
        other => other.identity(),
    };
    let mut warnings = client.warnings().to_vec();
    if let Some(device) = mounted.take_device() {
        warnings.extend(client.attach(&request, device).await?);
    }
    warnings.extend(note(settings.activity(), called).await);
    let asked = dir.clone();
    // The kernel passes `statfs` on; so the driver itself has answered. A thread of its
    // own, because nothing but the end of the process ends it where no answer comes.
    let (answered, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || answered.send(rustix::fs::statvfs(asked)));
    let answers = client.watching(async { Ok(answer.await) }).await?;
    match answers.map_or_else(|error| Err(io::Error::other(error)), |it| Ok(it?)) {
        Ok(_) => {
            mounted.keep();
            Ok(MountInfo {
                mountpoint: dir,
                commit: prepared.commit,
                nodes: prepared.nodes,
                bytes: prepared.bytes,
                notices: prepared.notices,
                warnings,
            })
        }
        Err(source) => Err(MountFailure::Silent { dir, source }),
    }
}

/// Notes a mount, for the retention rules that count mounts; what to warn of where that
/// is impossible. The mount does not depend on it.
async fn note(file: PathBuf, called: String) -> Option<String> {
    let noted = tokio::task::spawn_blocking(move || {
        let activity = Activity::new(file.clone());
        let noted = activity.mounted(&called, walrus_client::clock::unix_seconds());
        noted.map_err(|error| {
            format!(
                "{}: {error}; retention rules that count mounts do not count this one",
                file.display()
            )
        })
    });
    noted.await.ok()?.err()
}

/// Runs something that waits for a file system on a thread of its own, for a few
/// seconds at most.
async fn patiently<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MountFailure> {
    let waited = tokio::task::spawn_blocking(move || fuse::within(PATIENCE, work)).await;
    let done = waited.ok().flatten();
    done.ok_or_else(|| MountFailure::Stuck(dir.into()))
}

/// What the kernel lists as the source of a mount: everybody may read it.
fn source(request: &MountRequest, encrypted: bool) -> String {
    let label = if encrypted {
        "encrypted"
    } else {
        &request.label
    };
    match StoreTags::of(&request.network) {
        Ok(stores) => {
            let id = request.id.clone();
            format!("{label}#{}", MountTag { stores, id })
        }
        // Then a collector takes it for a mount of every store.
        Err(_) => label.into(),
    }
}

/// The mount that `dir` is, by its absolute path. It is not asked anything: it may be one
/// that does not answer.
///
/// # Errors
/// When it is none, or another user's.
pub fn mounted_folder(dir: &Path) -> Result<PathBuf, MountFailure> {
    let table = MountTable::read().map_err(MountpointError::Table)?;
    let path = fuse::resolve(dir, &table).map_err(MountFailure::Mountpoint)?;
    let Some(entry) = table.at(&path) else {
        return Err(MountFailure::NotMounted(path));
    };
    match (entry.mountpoint == path, entry.is_ours()) {
        (true, true) => {}
        (true, false) => {
            let fs_type = entry.fs_type.clone();
            return Err(MountFailure::NotOurs { dir: path, fs_type });
        }
        (false, true) => {
            let mount = entry.mountpoint.clone();
            return Err(MountFailure::Inside { dir: path, mount });
        }
        (false, false) => return Err(MountFailure::NotMounted(path)),
    }
    match entry.uid {
        Some(uid) if !entry.is_mine() && !rustix::process::geteuid().is_root() => {
            Err(MountFailure::NotMine { dir: path, uid })
        }
        _ => Ok(path),
    }
}

/// Unmounts a folder that [`mounted_folder`] found; `lazy` detaches it even when it is in
/// use. Returns when the daemon of these directories, if it answers, has let go of it.
///
/// # Errors
/// [`MountError::Busy`] naming who uses it, or what else the system said.
pub async fn unmount(dirs: Option<&Dirs>, path: &Path, lazy: bool) -> Result<(), MountFailure> {
    // It would keep the folder busy itself.
    if std::env::current_dir().is_ok_and(|dir| dir.starts_with(path)) {
        let _ = std::env::set_current_dir("/");
    }
    let dir = path.to_owned();
    patiently(path, move || fuse::unmount(&dir, lazy)).await??;
    if let Some(dirs) = dirs.filter(|_| !lazy) {
        let _ = tokio::time::timeout(PARTING, parted(dirs, path)).await;
    }
    Ok(())
}

/// Returns when the daemon does not list a folder.
async fn parted(dirs: &Dirs, path: &Path) {
    let Ok(DaemonState::Running(client)) = Client::probe(dirs).await else {
        return;
    };
    let name = path.display().to_string();
    let listed = |mounts: &[super::MountStatus]| mounts.iter().any(|it| it.mountpoint == name);
    while client
        .status()
        .await
        .is_ok_and(|status| listed(&status.mounts))
    {
        tokio::time::sleep(PAUSE).await;
    }
}
