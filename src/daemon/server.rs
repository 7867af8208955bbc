//! The daemon's life: one at a time, until told or no longer needed.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::location::{ATTACH, CONTROL, Location, LocationError};
use super::lock::{Lock, Phase};
use super::mounts::Mounts;
use super::{MountFailure, MountRequest, attach, control, jobs};
use crate::cache::{Cache, CacheConfig, CacheError};
use crate::config::{ConfigError, Settings};
use crate::fuse;
use crate::lifecycle::LeaseError;
use crate::net::Journal;
use crate::prefetch::MalformedProfile;
use crate::repo::{Address, Loader, LoaderConfig, RepoError};
use crate::text::LineWriter;
use crate::walrus::StoreError;

/// How long a command that has the cache open may take to hand it over.
const HAND_OVER: Duration = Duration::from_secs(5);
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
    /// Its directory cannot be used.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
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
    /// The newest commit of a followed branch is said to be an older one.
    #[error(
        "the branch is said to be at {now}, which came before {shown}: the Sui node is behind, or \
         the branch was reset; mount it again to show that commit"
    )]
    WentBack {
        /// The commit that is shown.
        shown: String,
        /// The one that is said to be the newest.
        now: String,
    },
    /// There is nothing to give out.
    #[error("nothing has been learned about {0} yet; mount it and use it first")]
    NothingLearned(String),
    /// A profile cannot be read.
    #[error(transparent)]
    Profile(#[from] MalformedProfile),
    /// A peer that hands over a mount must send its descriptor.
    #[error("no descriptor came with the request")]
    NoDescriptor,
    /// Only a mount can be served.
    #[error("the descriptor that came with the request is not /dev/fuse")]
    NotFuse,
    /// What is to be mounted cannot be protected from a collector.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// It has been collected.
    #[error("{0} is no longer stored: walgit-fs gc has deleted it, as no name stands for it")]
    Collected(Address),
    /// The kernel's side failed.
    #[error("the mount could not be served: {0}")]
    Session(io::Error),
    /// A foreground mount failed.
    #[error(transparent)]
    Mount(#[from] MountFailure),
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
    let location = Location::create(&settings.dirs)?;
    let mut lock = Lock::take(&location)?.ok_or(DaemonError::Running)?;
    settings.check_cache()?;
    let config = CacheConfig::of(&settings);
    let opened = tokio::task::spawn_blocking(move || Cache::open_within(&config, HAND_OVER));
    let cache = opened
        .await
        .map_err(|error| DaemonError::Session(error.into()))??;
    let loader = Loader::new(cache.clone(), LoaderConfig::default());
    let deadline = Duration::from_secs(settings.deadline_s.value);
    let mounts = Mounts::new(loader, deadline, Journal::new(settings.failures()));
    let stop = Arc::new(Notify::new());
    // The lock is held, so whatever is left there is of a daemon that died.
    let [control, attach] = [location.listen(CONTROL)?, location.listen(ATTACH)?];
    tokio::spawn(attach::serve(attach, mounts.clone()));
    lock.enter(Phase::Running);
    let holder = lock.holder().clone();
    tokio::spawn(control::serve(
        control,
        mounts.clone(),
        stop.clone(),
        holder,
    ));
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
            Ok(mounted) => {
                let line = format!("serving {}", mounted.mountpoint.display());
                let _ = LineWriter(io::stderr()).write_all(line.as_bytes());
            }
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
    lock.enter(Phase::Stopping);
    farewell(&mounts).await;
    for socket in [CONTROL, ATTACH] {
        location.remove(socket);
    }
    let settled = tokio::task::spawn_blocking(move || cache.settle()).await;
    if let Ok(Err(error)) = settled {
        tracing::warn!("{error}");
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
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
