//! Mounting and unmounting, as a command does it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::MountRequest;
use super::client::{Client, ClientError};
use crate::config::Settings;
use crate::fuse::{self, MountError, MountOptions, MountState};
use crate::lifecycle::Activity;
use crate::repo::Source;

/// How long an unmounted folder may linger in the daemon's list.
const PARTING: Duration = Duration::from_secs(5);

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
}

/// Why a folder could not be mounted or unmounted. Nothing is left mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountFailure {
    /// The folder is not there, or not to be entered.
    #[error("{}: {source}{}", dir.display(), remedy(source))]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a folder.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// Its content would be hidden.
    #[error("{} is not empty; mount on an empty folder", .0.display())]
    NotEmpty(PathBuf),
    /// Something of ours is there.
    #[error("{} is mounted already; walgit-fs unmount it first", .0.display())]
    Mounted(PathBuf),
    /// Nothing of ours is there.
    #[error("{} is not a walgit-fs mount; walgit-fs status lists those there are", .0.display())]
    NotMounted(PathBuf),
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

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; make it first (mkdir -p)",
        _ => "",
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
    request.mountpoint = mountpoint(&request.mountpoint)?;
    let client = Client::connect_or_start(settings).await?;
    // All that can be wrong with the repository shows here.
    let prepared = client.prepare(&request).await?;
    let dir = request.mountpoint.clone();
    let options = MountOptions {
        // The list of mounts is everybody's to read.
        name: match prepared.encrypted {
            true => "encrypted".into(),
            false => request.label.clone(),
        },
        allow_other: request.allow_other,
    };
    let device = fuse::mount(&dir, &options)?;
    let mounted = Undo(&dir);
    let called = match &request.source {
        Source::Name { name, .. } => name.clone(),
        other => other.identity(),
    };
    client.attach(&request, device).await?;
    // Retention rules count it; a mount does not depend on them.
    let activity = Activity::new(settings.activity());
    if let Err(why) = activity.mounted(&called, crate::clock::unix_seconds()) {
        tracing::info!("{}: {why}", settings.activity().display());
    }
    let asked = dir.clone();
    // The kernel passes `statfs` on; so the driver itself has answered. A thread of its
    // own, because nothing but the end of the process ends it where no answer comes.
    let (answered, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || answered.send(rustix::fs::statvfs(asked)));
    let answers = client.watching(async { Ok(answer.await) }).await?;
    match answers.map_or_else(|error| Err(io::Error::other(error)), |it| Ok(it?)) {
        Ok(_) => {
            std::mem::forget(mounted);
            Ok(MountInfo {
                mountpoint: dir,
                commit: prepared.commit,
                nodes: prepared.nodes,
                bytes: prepared.bytes,
                notices: prepared.notices,
            })
        }
        Err(source) => Err(MountFailure::Silent {
            dir: dir.clone(),
            source,
        }),
    }
}

/// Undoes a mount that was not completed.
struct Undo<'a>(&'a Path);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        // It was made a moment ago and never served: nobody is in it.
        let _ = fuse::unmount(self.0, true);
    }
}

/// The folder to mount on: absolute, empty, and free of a mount whose daemon
/// died.
fn mountpoint(dir: &Path) -> Result<PathBuf, MountFailure> {
    let failed = |source| MountFailure::Folder {
        dir: dir.into(),
        source,
    };
    let path = absolute(dir).map_err(failed)?;
    match fuse::mount_state(&path) {
        MountState::Ours => return Err(MountFailure::Mounted(path)),
        MountState::Stale => fuse::unmount(&path, true)?,
        MountState::Other => {}
    }
    if !std::fs::metadata(&path).map_err(failed)?.is_dir() {
        return Err(MountFailure::NotAFolder(path));
    }
    let mut entries = std::fs::read_dir(&path).map_err(failed)?;
    match entries.next() {
        None => Ok(path),
        Some(_) => Err(MountFailure::NotEmpty(path)),
    }
}

/// The path without links in it. That of a mount whose daemon died cannot be
/// resolved, but its parent can.
fn absolute(dir: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(dir) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error()) => {
            let path = std::path::absolute(dir)?;
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok(std::fs::canonicalize(parent)?.join(name)),
                _ => Err(error),
            }
        }
        resolved => resolved,
    }
}

/// Unmounts a folder; `lazy` detaches it even when it is in use. Returns when
/// the daemon has let go of it.
///
/// # Errors
/// [`MountFailure::NotMounted`], or [`MountError::Busy`] naming who uses it.
pub async fn unmount(settings: &Settings, dir: &Path, lazy: bool) -> Result<(), MountFailure> {
    let path = absolute(dir).map_err(|source| MountFailure::Folder {
        dir: dir.into(),
        source,
    })?;
    if fuse::mount_state(&path) == MountState::Other {
        return Err(MountFailure::NotMounted(path));
    }
    fuse::unmount(&path, lazy)?;
    if lazy {
        return Ok(());
    }
    let Some(client) = Client::find(&settings.dirs).await? else {
        return Ok(());
    };
    let begun = Instant::now();
    let name = path.display().to_string();
    while begun.elapsed() < PARTING {
        match client.status().await {
            Ok(status) if status.mounts.iter().any(|m| m.mountpoint == name) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            _ => break,
        }
    }
    Ok(())
}
