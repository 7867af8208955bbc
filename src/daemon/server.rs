//! The daemon's life: one at a time, until told or no longer needed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::mounts::Mounts;
use super::{MountFailure, MountRequest, attach, control, jobs};
use crate::cache::{Cache, CacheConfig, CacheError};
use crate::config::{ConfigError, Dirs, Settings};
use crate::fuse;
use crate::net::Journal;
use crate::prefetch::MalformedProfile;
use crate::repo::{Loader, LoaderConfig, RepoError};
use crate::walrus::StoreError;

/// How long a new daemon waits for one that is about to end.
const SUCCESSION: Duration = Duration::from_secs(10);
/// How long mounts may take to end when the daemon does.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a daemon cannot run, or cannot serve a mount.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// There is one already.
    #[error(
        "a walgit-fs daemon runs already; mount without --foreground to use it, or unmount its folders first"
    )]
    Running,
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or socket of its own cannot be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache cannot be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository cannot be opened.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Nothing is mounted there.
    #[error("{} is not mounted; see walgit-fs status", .0.display())]
    NotMounted(PathBuf),
    /// There is nothing to give out.
    #[error("nothing has been learned about {0} yet; mount it and use it first")]
    NothingLearned(String),
    /// A profile cannot be read.
    #[error(transparent)]
    Profile(#[from] MalformedProfile),
    /// A peer that hands over a mount must send its descriptor.
    #[error("no descriptor came with the request")]
    NoDescriptor,
    /// The kernel's side failed.
    #[error("the mount could not be served: {0}")]
    Session(io::Error),
    /// A foreground mount failed.
    #[error(transparent)]
    Mount(#[from] MountFailure),
}

/// Paths of a daemon's files.
pub(super) fn control_socket(dirs: &Dirs) -> PathBuf {
    dirs.runtime.join("control.sock")
}

pub(super) fn attach_socket(dirs: &Dirs) -> PathBuf {
    dirs.runtime.join("attach.sock")
}

/// Runs a daemon until it is told to stop (SIGTERM, SIGINT, `stop`), or until
/// it has had no mount for a while; with `foreground`, serves that mount and
/// ends with it.
///
/// # Errors
/// [`DaemonError::Running`] beside another one of the same user, and whatever
/// keeps it from starting. After it started, it ends well.
pub fn run(settings: Settings, foreground: Option<MountRequest>) -> Result<(), DaemonError> {
    if foreground.is_none() {
        // The terminal of whoever mounted first must not end it. Refused to
        // the leader of a process group, which a shell has set apart already.
        let _ = rustix::process::setsid();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("walgit-fs")
        .build()
        .map_err(DaemonError::Session)?;
    let done = runtime.block_on(live(settings, foreground));
    // Fetches that nobody waits for any more must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn live(settings: Settings, foreground: Option<MountRequest>) -> Result<(), DaemonError> {
    let dir = settings.dirs.private_runtime()?.to_owned();
    let _lock = lock(&dir.join("daemon.lock"), foreground.is_some()).await?;
    let cache = Cache::open(&CacheConfig::of(&settings))?;
    let loader = Loader::new(cache.clone(), LoaderConfig::default());
    let deadline = Duration::from_secs(settings.deadline_s.value);
    let mounts = Mounts::new(loader, deadline, Journal::new(settings.failures()));
    let stop = Arc::new(Notify::new());
    let sockets = [
        control_socket(&settings.dirs),
        attach_socket(&settings.dirs),
    ];
    // The lock is ours, so whatever is left there is of a daemon that died.
    let [control, attach] = [listen(&sockets[0])?, listen(&sockets[1])?];
    tokio::spawn(attach::serve(attach, mounts.clone()));
    tokio::spawn(control::serve(control, mounts.clone(), stop.clone()));
    jobs::start(&settings, &mounts);
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Session)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Session)?;
    let idle_exit = match foreground {
        Some(_) => Duration::ZERO,
        // Less than this and it would be gone before its first mount came.
        None => Duration::from_secs(settings.idle_exit_s.value.max(1)),
    };
    let mut failed = None;
    if let Some(request) = foreground {
        match super::mount(&settings, request).await {
            Ok(mounted) => eprintln!("serving {}", mounted.mountpoint.display()),
            Err(error) => failed = Some(error),
        }
    }
    if failed.is_none() {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stop.notified() => {}
            () = idle_for(&mounts, idle_exit) => {}
        }
    }
    farewell(&mounts).await;
    for socket in &sockets {
        let _ = std::fs::remove_file(socket);
    }
    let settled = tokio::task::spawn_blocking(move || cache.settle()).await;
    if let Ok(Err(error)) = settled {
        tracing::warn!("{error}");
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Takes the lock that makes this daemon the only one. One that is ending
/// gives it up soon.
async fn lock(path: &Path, at_once: bool) -> Result<File, DaemonError> {
    let failed = |source: io::Error| DaemonError::Io {
        path: path.into(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed)?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if at_once || begun.elapsed() > SUCCESSION {
            return Err(DaemonError::Running);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn listen(path: &Path) -> Result<UnixListener, DaemonError> {
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).map_err(|source| DaemonError::Io {
        path: path.into(),
        source,
    })
}

/// Ends when nobody has needed the daemon for so long.
async fn idle_for(mounts: &Mounts, long_enough: Duration) {
    loop {
        let changed = mounts.changed.notified();
        let wait = match mounts.idle() {
            Some(idle) if idle >= long_enough => return,
            Some(idle) => long_enough - idle,
            None => Duration::from_secs(3600),
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Undoes all mounts, lazily: who still has a file open there keeps it until
/// the process ends, and nothing stays mounted.
async fn farewell(mounts: &Arc<Mounts>) {
    for dir in mounts.mountpoints() {
        // A mount made in another namespace, or already covered by somebody
        // else's, is not what this path leads to here.
        if !fuse::is_ours(&dir) {
            continue;
        }
        if let Err(error) = fuse::unmount(&dir, true) {
            tracing::warn!("{error}");
        }
    }
    let gone = async {
        loop {
            let changed = mounts.changed.notified();
            if mounts.mountpoints().is_empty() {
                break;
            }
            // A change may come between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
        }
    };
    let _ = tokio::time::timeout(FAREWELL, gone).await;
}
