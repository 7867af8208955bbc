//! The daemon's life: one at a time, until told or no longer needed.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::client::{Client, ClientError};
use super::launch::{Launcher, log_file};
use super::location::{Location, LocationError};
use super::lock::Lock;
use super::mounts::Mounts;
use super::place::{LOOK, Place};
use super::signals::Signals;
use super::{DaemonSettings, MountFailure, MountRequest, fresh, jobs, log};
use crate::cache::{Cache, CacheConfig, CacheError};
use crate::config::{ConfigError, Settings};
use crate::fuse;
use crate::lifecycle::{LeaseError, Ledger};
use crate::repo::{Loader, LoaderConfig, RepoError};
use walgit_format::Address;
use walgit_format::text::LineWriter;
use walgit_prefetch::MalformedProfile;
use walrus_client::StoreError;
use walrus_client::net::Journal;

/// How long a command that has the cache open may take to hand it over.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long an idle daemon may take to end.
const SUCCESSION: Duration = Duration::from_secs(10);
/// How long mounts may take to end when the daemon does.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a daemon cannot run, or cannot serve a mount.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A daemon is in use.
    #[error(
        "the walgit-fs daemon (process {pid}) has the cache: {why}; mount without --foreground, or run `walgit-fs daemon stop` first"
    )]
    Running {
        /// Its process.
        pid: u32,
        /// What it does.
        why: String,
    },
    /// The daemon does not end while it is needed.
    #[error("{}", in_use(.0))]
    InUse(Vec<PathBuf>),
    /// The daemon ends.
    #[error("the walgit-fs daemon is stopping; try again")]
    Stopping,
    /// Another daemon does not give way.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It takes too much memory for one more mount.
    #[error(
        "the daemon takes {used} bytes of memory, and takes no new mounts above {most}; unmount what is not needed, or raise `memory` in [daemon]"
    )]
    Memory {
        /// Resident bytes.
        used: u64,
        /// The limit, in bytes.
        most: u64,
    },
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

fn in_use(dirs: &[PathBuf]) -> String {
    if dirs.is_empty() {
        return "it is working on a request or a job".into();
    }
    let dirs = dirs.iter().map(|dir| dir.display().to_string());
    format!("it serves {}", dirs.collect::<Vec<_>>().join(", "))
}

/// Runs a daemon until it is told to stop (by a signal or by `daemon stop`), or until
/// it has had no mount for a while; with `foreground`, serves that mount and ends with
/// it.
///
/// # Errors
/// [`DaemonError::Running`] for a foreground mount beside a daemon in use, and whatever
/// keeps it from starting. After it started, it ends well.
pub fn run(settings: Settings, foreground: Option<MountRequest>) -> Result<(), DaemonError> {
    let mut launcher = Launcher::none();
    if foreground.is_none() {
        launcher = Launcher::at_stderr();
        // The terminal of whoever mounted first must not end it. Refused to the leader
        // of a process group, which a shell or a service manager has set apart already.
        let _ = rustix::process::setsid();
        let _ = rustix::process::chdir("/");
        let kept = fresh::reset();
        if !kept.is_empty() {
            launcher.warn(&format!(
                "the daemon keeps what this session imposes and it may not change: {}; \
                 `walgit-fs daemon restart` in another session is free of it",
                kept.join(", ")
            ));
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("walgit-fs")
        .build()
        .map_err(DaemonError::Session)?;
    let mut place = None;
    let done = runtime.block_on(live(settings, foreground, &mut launcher, &mut place));
    if let Err(error) = &done {
        launcher.fail(&error.to_string());
    }
    log::sum_up();
    // Fetches that nobody waits for any more must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    // Only the end of the process gives the lock up: by then the cache is closed, too.
    std::mem::forget(place);
    done
}

async fn live(
    settings: Settings,
    foreground: Option<MountRequest>,
    launcher: &mut Launcher,
    held: &mut Option<Place>,
) -> Result<(), DaemonError> {
    let in_foreground = foreground.is_some();
    let mut signals = Signals::catch(in_foreground).map_err(DaemonError::Session)?;
    let location = Location::create(&settings.dirs)?;
    let lock = match Lock::take(&location)? {
        Some(lock) => lock,
        None if in_foreground => take_over(&settings, &location).await?,
        // Another command was faster; its daemon serves both.
        None => return Ok(()),
    };
    let place = held.insert(Place::new(&settings.dirs, location, lock));
    if !in_foreground {
        launcher.log_to(&log_file(&settings));
    }
    walgit_durable::fault_point::reach("daemon.start").map_err(DaemonError::Session)?;
    settings.check_cache()?;
    let config = CacheConfig::of(&settings);
    let opening = tokio::task::spawn_blocking(move || Cache::open_within(&config, HAND_OVER));
    let cache = tokio::select! {
        opened = opening => opened.map_err(|error| DaemonError::Session(error.into()))??,
        _ = signals.next() => return Ok(()),
    };
    let loader = Loader::new(cache.clone(), LoaderConfig::default());
    let deadline = Duration::from_secs(settings.deadline_s.value);
    let journal = Journal::new(settings.failures());
    let memory = settings.daemon_memory.value;
    let ledgers = Ledger::dir(&settings.dirs);
    let mounts = Mounts::new(loader, deadline, memory, journal, ledgers);
    let stop = Arc::new(Notify::new());
    place.serve(mounts.clone(), stop.clone(), DaemonSettings::of(&settings))?;
    launcher.release();
    jobs::start(&settings, &mounts);
    tokio::spawn(async {
        loop {
            tokio::time::sleep(log::WINDOW).await;
            log::sum_up();
        }
    });
    let mut done = Ok(());
    let mut ends = false;
    if let Some(request) = foreground {
        tokio::select! {
            mounted = super::mount(&settings, request) => match mounted {
                Ok(mounted) => {
                    let warnings = mounted.warnings.iter();
                    let mut lines: Vec<String> =
                        warnings.map(|it| format!("warning: {it}\n")).collect();
                    lines.push(format!("serving {}\n", mounted.mountpoint.display()));
                    let _ = LineWriter(io::stderr()).write_all(lines.concat().as_bytes());
                }
                Err(error) => {
                    done = Err(error.into());
                    ends = true;
                }
            },
            _ = signals.next() => ends = true,
        }
    }
    let idle_exit = match in_foreground {
        true => Duration::ZERO,
        // Less than this and it would be gone before its first mount came.
        false => Duration::from_secs(settings.idle_exit_s.value.max(1)),
    };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !ends {
        tokio::select! {
            _ = look.tick() => tokio::task::block_in_place(|| keep(place, &mounts)),
            number = signals.next() => {
                tracing::info!("ended by signal {number}");
                ends = true;
            }
            () = stop.notified() => ends = true,
            // A mount may come at the last moment.
            () = idle_for(&mounts, idle_exit) => ends = mounts.close(true).is_ok(),
        }
    }
    place.leave();
    let _ = mounts.close(false);
    farewell(&mounts).await;
    place.clear();
    let settled = tokio::task::spawn_blocking(move || cache.settle()).await;
    if let Ok(Err(error)) = settled {
        tracing::warn!("{error}");
    }
    done
}

/// Restores what was removed or moved of the cache directory, as far as commands depend
/// on it. Blocks.
fn keep(place: &mut Place, mounts: &Mounts) {
    if mounts.cache().abandon_if_displaced() {
        let why = "the cache directory was removed or moved while the daemon ran, so it keeps \
                   nothing on disk; `walgit-fs daemon restart` begins a new cache and mounts all \
                   folders again";
        tracing::warn!("{why}");
        mounts.warn(why);
    }
    match place.restore() {
        Ok(false) => {}
        Ok(true) => tracing::warn!("the daemon's lock or sockets were removed, and are made again"),
        Err(error) => tracing::warn!("the daemon's directory cannot be made again: {error}"),
    }
}

/// Takes the lock of a daemon that is idle, for a mount in the foreground.
async fn take_over(settings: &Settings, location: &Location) -> Result<Lock, DaemonError> {
    if let Some(client) = Client::find(&settings.dirs).await? {
        let pid = client.pid();
        match client.stop(true).await {
            Ok(()) => {}
            Err(ClientError::Refused(why)) => return Err(DaemonError::Running { pid, why }),
            // It ended by itself at this moment.
            Err(ClientError::Gone(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let begun = Instant::now();
    loop {
        if let Some(lock) = Lock::take(location)? {
            return Ok(lock);
        }
        if begun.elapsed() > SUCCESSION {
            let state = Client::probe(&settings.dirs).await?;
            return Err(state.into_error().into());
        }
    }
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
