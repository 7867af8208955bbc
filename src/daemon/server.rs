//! Life cycle of the daemon: one at a time, until stopped or no longer needed.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::client::Client;
use super::daemon_dir::DaemonDir;
use super::discovery::{CHECK_INTERVAL, Discovery, Service};
use super::error::{ClientError, not_served};
use super::launch::{StartupChannel, log_file};
use super::lock::DaemonLock;
use super::mount_client::mount;
use super::mounts::Mounts;
use super::protocol::MountRequest;
use super::repositories::Repositories;
use super::settings::DaemonSettings;
use super::signals::Signals;
use super::state::Daemon;
use super::{jobs, log, process};
use crate::cache::{Cache, CacheConfig};
use crate::config::Settings;
use crate::fuse::{self, MountTable};
use crate::lifecycle::Ledger;
use crate::repo::{Loader, LoaderConfig};
use walgit_format::text::LineWriter;
use walrus_client::net::Journal;

/// Timeout for a command that has the cache open to release it.
const CACHE_OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for an idle daemon to exit.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for mounts to end when the daemon exits.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for tasks to end when the daemon exits: abandoned fetches must not delay it.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a daemon until it is stopped (by a signal or by `daemon stop`), or until it has
/// had no mount for some time; with `foreground`, serves that mount and ends with it.
///
/// # Errors
/// Another daemon is in use, or something prevents the start. Once started, it ends without
/// errors.
pub fn run(settings: Settings, foreground: Option<MountRequest>) -> Result<()> {
    let mut startup = StartupChannel::default();
    if foreground.is_none() {
        startup = StartupChannel::at_stderr();
        // Detaches from the terminal of the first mount. This fails for the leader of a
        // process group, which a shell or a service manager has detached already.
        let _ = rustix::process::setsid();
        let _ = rustix::process::chdir("/");
        let unchanged = process::reset();
        if !unchanged.is_empty() {
            startup.warn(&format!(
                "the daemon keeps limits of this session that it may not change: {}; \
                 `walgit-fs daemon restart` in another session removes them",
                unchanged.join(", ")
            ));
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("walgit-fs")
        .build()
        .map_err(not_served)?;
    let mut discovery = None;
    let result = runtime.block_on(live(settings, foreground, &mut startup, &mut discovery));
    if let Err(error) = &result {
        startup.fail(&error.to_string());
    }
    log::summarize();
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    // The lock is held until the process ends: by then the cache is closed, too.
    std::mem::forget(discovery);
    result
}

async fn live(
    settings: Settings,
    foreground: Option<MountRequest>,
    startup: &mut StartupChannel,
    discovery: &mut Option<Discovery>,
) -> Result<()> {
    let in_foreground = foreground.is_some();
    let mut signals = Signals::catch(in_foreground).map_err(not_served)?;
    let dir = DaemonDir::create(&settings.dirs)?;
    let lock = match DaemonLock::take(&dir)? {
        Some(lock) => lock,
        None if in_foreground => take_over(&settings, &dir).await?,
        // Another command was faster; its daemon serves both.
        None => return Ok(()),
    };
    let discovery = discovery.insert(Discovery::new(&settings.dirs, dir, lock));
    if !in_foreground {
        startup.log_to(&log_file(&settings));
    }
    walgit_durable::fault_point::reach("daemon.start").map_err(not_served)?;
    settings.check_cache()?;
    let config = CacheConfig::of(&settings);
    let opening =
        tokio::task::spawn_blocking(move || Cache::open_within(&config, CACHE_OPEN_TIMEOUT));
    let cache = tokio::select! {
        opened = opening => opened.map_err(not_served)??,
        _ = signals.next() => return Ok(()),
    };
    let repositories = Repositories::new(
        Loader::new(cache.clone(), LoaderConfig::default()),
        Duration::from_secs(settings.deadline_s.value),
        Ledger::dir(&settings.dirs),
        Journal::new(settings.failures()),
    );
    let daemon = Daemon::new(repositories, settings.daemon_memory.value);
    let stop = Arc::new(Notify::new());
    discovery.serve(Service {
        daemon: daemon.clone(),
        stop: stop.clone(),
        settings: DaemonSettings::of(&settings),
    })?;
    startup.close();
    jobs::start(&settings, &daemon);
    tokio::spawn(async {
        loop {
            tokio::time::sleep(log::SUMMARY_INTERVAL).await;
            log::summarize();
        }
    });
    let mut result = Ok(());
    let mut ends = false;
    if let Some(request) = foreground {
        tokio::select! {
            mounted = mount(&settings, request) => match mounted {
                Ok(mounted) => {
                    let warnings = mounted.warnings.iter();
                    let mut lines: Vec<String> =
                        warnings.map(|it| format!("warning: {it}\n")).collect();
                    lines.push(format!("serving {}\n", mounted.mountpoint.display()));
                    let _ = LineWriter(io::stderr()).write_all(lines.concat().as_bytes());
                }
                Err(error) => {
                    result = Err(error);
                    ends = true;
                }
            },
            _ = signals.next() => ends = true,
        }
    }
    // With a shorter time it would exit before its first mount.
    let idle_exit = Duration::from_secs(settings.idle_exit_s.value.max(1));
    let idle_exit = if in_foreground {
        Duration::ZERO
    } else {
        idle_exit
    };
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !ends {
        tokio::select! {
            _ = check.tick() => tokio::task::block_in_place(|| restore(discovery, &daemon)),
            number = signals.next() => {
                tracing::info!("ended by signal {number}");
                ends = true;
            }
            () = stop.notified() => ends = true,
            // A mount may arrive just now.
            () = idle_for(&daemon.mounts, idle_exit) => ends = daemon.mounts.close(true).is_ok(),
        }
    }
    discovery.set_stopping();
    let _ = daemon.mounts.close(false);
    unmount_all(&daemon.mounts).await;
    discovery.remove_sockets();
    let settled = tokio::task::spawn_blocking(move || cache.settle()).await;
    if let Ok(Err(error)) = settled {
        tracing::warn!("{error}");
    }
    result
}

/// Restores removed or moved parts of the cache directory that commands depend on.
/// Blocks.
fn restore(discovery: &mut Discovery, daemon: &Daemon) {
    if daemon.cache().abandon_if_displaced() {
        let why = "the cache directory was removed or moved while the daemon ran, so it keeps \
                   nothing on disk; `walgit-fs daemon restart` begins a new cache and mounts all \
                   folders again";
        tracing::warn!("{why}");
        let _ = daemon.warning.set(why);
    }
    match discovery.restore() {
        Ok(false) => {}
        Ok(true) => tracing::warn!("the daemon's lock or sockets were removed, and are made again"),
        Err(error) => tracing::warn!("the daemon's directory cannot be made again: {error}"),
    }
}

/// Takes the lock of an idle daemon, for a mount in the foreground.
async fn take_over(settings: &Settings, dir: &DaemonDir) -> Result<DaemonLock> {
    if let Some(client) = Client::find(&settings.dirs).await? {
        let pid = client.pid();
        match client.stop(true).await {
            // It may have exited just now.
            Ok(()) | Err(ClientError::Gone(_)) => {}
            Err(ClientError::Rejected(why)) => bail!(
                "the walgit-fs daemon (process {pid}) has the cache: {why}; mount without \
                 --foreground, or run `walgit-fs daemon stop` first"
            ),
            Err(error) => return Err(error.into()),
        }
    }
    let started = Instant::now();
    loop {
        if let Some(lock) = DaemonLock::take(dir)? {
            return Ok(lock);
        }
        if started.elapsed() > LOCK_TIMEOUT {
            let state = Client::probe(&settings.dirs).await?;
            return Err(state.into_error().into());
        }
    }
}

/// Returns when the daemon has been unused for `idle_time`.
async fn idle_for(mounts: &Mounts, idle_time: Duration) {
    loop {
        let changed = mounts.changed.notified();
        let wait = match mounts.idle_time() {
            Some(idle) if idle >= idle_time => return,
            Some(idle) => idle_time - idle,
            None => Duration::from_secs(3600),
        };
        let _ = tokio::time::timeout(wait, changed).await;
    }
}

/// Lazily unmounts everything: processes with open files keep them until they end, and no
/// mount remains.
async fn unmount_all(mounts: &Mounts) {
    for dir in mounts.mountpoints() {
        // The path leads elsewhere if the mount is in another namespace, or covered by
        // another mount.
        if !MountTable::is_ours_at(&dir) {
            continue;
        }
        if let Err(error) = fuse::unmount(&dir, true) {
            tracing::warn!("{error}");
        }
    }
    let ended = async {
        loop {
            let changed = mounts.changed.notified();
            if mounts.mountpoints().is_empty() {
                break;
            }
            // A change may occur between the check and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
        }
    };
    let _ = tokio::time::timeout(UNMOUNT_TIMEOUT, ended).await;
}
