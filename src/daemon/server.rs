//! Life cycle of the daemon: one at a time, until stopped or no longer needed.

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
use crate::leases::LeaseError;
use crate::lifecycle::Ledger;
use crate::repo::{Loader, LoaderConfig, RepoError};
use walgit_format::Address;
use walgit_format::text::LineWriter;
use walgit_prefetch::MalformedProfile;
use walrus_client::StoreError;
use walrus_client::net::Journal;

/// Timeout for a command that has the cache open to release it.
const HAND_OVER: Duration = Duration::from_secs(5);
/// Timeout for an idle daemon to exit.
const SUCCESSION: Duration = Duration::from_secs(10);
/// Timeout for mounts to end when the daemon exits.
const FAREWELL: Duration = Duration::from_secs(5);

/// Reason why a daemon cannot run, or cannot serve a mount.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon is in use.
    #[error(
        "the walgit-fs daemon (process {pid}) has the cache: {why}; mount without --foreground, or run `walgit-fs daemon stop` first"
    )]
    Running {
        /// Process ID.
        pid: u32,
        /// What the daemon is doing.
        why: String,
    },
    /// The daemon does not exit while it is needed.
    #[error("{}", in_use(.0))]
    InUse(Vec<PathBuf>),
    /// The daemon is stopping.
    #[error("the walgit-fs daemon is stopping; try again")]
    Stopping,
    /// Another daemon does not exit.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon uses too much memory for another mount.
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
    /// A setting is invalid.
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
    /// A followed branch was reset, or its source is behind: its newest commit is older
    /// than the shown one.
    #[error(
        "the branch is said to be at {now}, which came before {shown}: the Sui node is behind, or \
         the branch was reset; mount it again to show that commit"
    )]
    WentBack {
        /// The shown commit.
        shown: String,
        /// The reported newest commit.
        now: String,
    },
    /// There is no profile to export.
    #[error("nothing has been learned about {0} yet; mount it and use it first")]
    NothingLearned(String),
    /// A profile cannot be decoded.
    #[error(transparent)]
    Profile(#[from] MalformedProfile),
    /// A peer handed over a mount without a descriptor.
    #[error("no descriptor came with the request")]
    NoDescriptor,
    /// The descriptor is not a mount.
    #[error("the descriptor that came with the request is not /dev/fuse")]
    NotFuse,
    /// The repository to mount cannot be protected from a collector.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The head has been collected.
    #[error("{0} is no longer stored: walgit-fs gc has deleted it, as no name stands for it")]
    Collected(Address),
    /// The connection to the kernel failed.
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

/// Runs a daemon until it is stopped (by a signal or by `daemon stop`), or until it has
/// had no mount for some time; with `foreground`, serves that mount and ends with it.
///
/// # Errors
/// [`DaemonError::Running`] for a foreground mount beside a daemon in use, and errors
/// that prevent the start. Once started, it ends without errors.
pub fn run(settings: Settings, foreground: Option<MountRequest>) -> Result<(), DaemonError> {
    let mut launcher = Launcher::none();
    if foreground.is_none() {
        launcher = Launcher::at_stderr();
        // Detaches from the terminal of the first mount. This fails for the leader of a
        // process group, which a shell or a service manager has detached already.
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
    // Abandoned fetches must not delay the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    // The lock is held until the process ends: by then the cache is closed, too.
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
        // With a shorter time it would exit before its first mount.
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
            // A mount may arrive just now.
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

/// Restores removed or moved parts of the cache directory that commands depend on.
/// Blocks.
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

/// Takes the lock of an idle daemon, for a mount in the foreground.
async fn take_over(settings: &Settings, location: &Location) -> Result<Lock, DaemonError> {
    if let Some(client) = Client::find(&settings.dirs).await? {
        let pid = client.pid();
        match client.stop(true).await {
            Ok(()) => {}
            Err(ClientError::Refused(why)) => return Err(DaemonError::Running { pid, why }),
            // It exited just now.
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

/// Returns when the daemon has been unused for `long_enough`.
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

/// Lazily unmounts everything: processes with open files keep them until they end, and no
/// mount remains.
async fn farewell(mounts: &Arc<Mounts>) {
    for dir in mounts.mountpoints() {
        // The path leads elsewhere if the mount is in another namespace, or covered by
        // another mount.
        if !fuse::MountTable::is_ours_at(&dir) {
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
            // A change may occur between the check and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
        }
    };
    let _ = tokio::time::timeout(FAREWELL, gone).await;
}
