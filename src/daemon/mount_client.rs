//! Mounting and unmounting by a command.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use tokio::sync::oneshot::Receiver;

use super::client::{Client, DaemonState};
use super::error::ClientError;
use super::protocol::MountRequest;
use super::status::MountStatus;
use crate::config::{Dirs, Settings};
use crate::fuse::{self, MountError, MountOptions, MountTable, Mountpoint};
use crate::leases::{MountTag, StoreTags};
use crate::lifecycle::Activity;
use crate::repo::Source;

/// How long the daemon may list an unmounted folder.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(4);
/// Timeout for the file system of a mount point, and for an unmount.
const FILE_SYSTEM_TIMEOUT: Duration = Duration::from_secs(4);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A completed mount.
#[derive(Clone, Debug, Serialize)]
pub struct MountInfo {
    /// The mount point.
    pub mountpoint: PathBuf,
    /// Git ID of the commit; empty for a plain folder.
    pub commit: String,
    /// Number of files and directories.
    pub nodes: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Notices about content that is omitted or shown with restrictions.
    pub notices: Vec<String>,
    /// Warnings about the daemon that serves the mount, and about missing protection.
    pub warnings: Vec<String>,
}

/// Makes the mount of `request`, and starts the daemon if there is none; returns when the
/// mount answers.
///
/// # Errors
/// Any error; then nothing is mounted.
pub async fn mount(settings: &Settings, mut request: MountRequest) -> Result<MountInfo> {
    let dir = request.mountpoint.clone();
    let opened = with_timeout(&dir.clone(), move || Mountpoint::open(&dir)).await?;
    let mountpoint = opened.map_err(|error| match error {
        MountError::Missing(_) => anyhow!("{error}; make it first (mkdir -p)"),
        error => error.into(),
    })?;
    let dir = mountpoint.path().to_owned();
    request.mountpoint.clone_from(&dir);
    let mut client = Client::connect_or_start(settings).await?;
    // Reports all errors of the repository before the mount is made.
    let prepared = match client.prepare(&request).await {
        // The daemon was idle and exited just now.
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
    warnings.extend(log_mount(settings.activity(), called).await);
    let asked = dir.clone();
    // The kernel passes `statfs` on, so the driver itself has answered.
    let answer = on_thread(move || rustix::fs::statvfs(asked));
    let answers = client.while_responsive(async { Ok(answer.await) }).await?;
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
        Err(error) => bail!(
            "{} does not answer ({error}) and was unmounted again",
            dir.display()
        ),
    }
}

/// Logs a mount for the retention rules that count mounts; returns a warning if that
/// fails. The mount does not depend on it.
async fn log_mount(file: PathBuf, called: String) -> Option<String> {
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

/// Runs a call that waits for a file system on a separate thread. Without a response, only
/// the end of the process ends it.
fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // Without a thread, the sender is dropped and the receiver fails.
    let _ = std::thread::Builder::new().spawn(move || sender.send(work()));
    receiver
}

/// Runs a call that waits for a file system, for a few seconds.
async fn with_timeout<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let result = tokio::time::timeout(FILE_SYSTEM_TIMEOUT, on_thread(work)).await;
    result.ok().and_then(|result| result.ok()).with_context(|| {
        let seconds = FILE_SYSTEM_TIMEOUT.as_secs();
        format!("{}: no response within {seconds} s", dir.display())
    })
}

/// Returns the source of a mount in the kernel's table, which every user can read.
fn source(request: &MountRequest, encrypted: bool) -> String {
    let mut source = request.label.clone();
    if encrypted {
        source = "encrypted".into();
    }
    // A collector counts a mount without a tag as one of every store.
    if let Ok(stores) = StoreTags::of(&request.network) {
        let id = request.id.clone();
        source.push_str(&format!("#{}", MountTag { stores, id }));
    }
    source
}

/// Returns the mount point at `dir`, by its absolute path. Sends no request to the mount,
/// which may not answer.
pub fn mounted_folder(dir: &Path) -> Result<PathBuf> {
    let table = MountTable::read()?;
    let path = fuse::resolve(dir, &table)?;
    let shown = path.display();
    let entry = table.at(&path);
    let entry = entry.filter(|entry| entry.mountpoint == path || entry.is_ours());
    let Some(entry) = entry else {
        bail!("{shown} is not a walgit-fs mount; walgit-fs status lists those there are");
    };
    if entry.mountpoint != path {
        let mount = entry.mountpoint.display();
        bail!("{shown} is inside the mount {mount}; give that folder instead");
    }
    if !entry.is_ours() {
        let fs_type = &entry.fs_type;
        bail!("{shown} is not a walgit-fs mount but one of type {fs_type}; use umount for it");
    }
    if let Some(uid) = entry.uid
        && !entry.is_mine()
        && !rustix::process::geteuid().is_root()
    {
        bail!("{shown} was mounted by user {uid}; that user or root can unmount it");
    }
    Ok(path)
}

/// Unmounts a folder that [`mounted_folder`] returned; `lazy` detaches it even if it is
/// in use. Returns when the daemon of these directories, if it answers, has released it.
///
/// # Errors
/// [`MountError::Busy`] with the processes that use it, or another system error.
pub async fn unmount(dirs: Option<&Dirs>, path: &Path, lazy: bool) -> Result<()> {
    // Otherwise this process itself would keep the folder busy.
    if std::env::current_dir().is_ok_and(|dir| dir.starts_with(path)) {
        let _ = std::env::set_current_dir("/");
    }
    let dir = path.to_owned();
    with_timeout(path, move || fuse::unmount(&dir, lazy)).await??;
    if let Some(dirs) = dirs.filter(|_| !lazy) {
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, wait_for_release(dirs, path)).await;
    }
    Ok(())
}

/// Waits until the daemon no longer lists a folder.
async fn wait_for_release(dirs: &Dirs, path: &Path) {
    let Ok(DaemonState::Running(client)) = Client::probe(dirs).await else {
        return;
    };
    let name = path.display().to_string();
    let listed = |mounts: &[MountStatus]| mounts.iter().any(|it| it.mountpoint == name);
    while client
        .status()
        .await
        .is_ok_and(|status| listed(&status.mounts))
    {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
