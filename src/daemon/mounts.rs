//! The mounts that a daemon serves, and the requests that keep it alive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::protocol::MountRequest;
use super::status::{FollowStatus, MountStatus};
use crate::fuse::MountHandle;
use crate::leases::MountLease;

/// The mounts of a daemon.
pub(super) struct Mounts {
    state: Mutex<MountsState>,
    /// Notified when a mount begins or ends, or a request ends.
    pub(super) changed: Notify,
}

struct MountsState {
    next_id: u64,
    mounts: BTreeMap<u64, Arc<ServedMount>>,
    /// Time of the last request to the daemon.
    last_active: Instant,
    /// Number of requests in progress.
    requests: usize,
    /// Whether the daemon is about to exit and rejects new mounts.
    is_closed: bool,
}

/// Keeps the daemon alive while a request is in progress, however slow the network is.
pub(super) struct KeepAlive<'a>(&'a Mounts);

impl Drop for KeepAlive<'_> {
    fn drop(&mut self) {
        self.0.update(|state| state.requests -= 1);
    }
}

/// A mount that is being served.
pub(super) struct ServedMount {
    pub(super) request: MountRequest,
    pub(super) handle: MountHandle,
    /// Time of the mount, in seconds since 1970.
    pub(super) since: u64,
    pub(super) follow: Option<Mutex<FollowStatus>>,
    /// Protects the shown head until the unmount.
    pub(super) lease: Option<Arc<MountLease>>,
}

impl Mounts {
    pub(super) fn new() -> Self {
        Mounts {
            state: Mutex::new(MountsState {
                next_id: 0,
                mounts: BTreeMap::new(),
                last_active: Instant::now(),
                requests: 0,
                is_closed: false,
            }),
            changed: Notify::new(),
        }
    }

    /// Applies a change after which the daemon may be idle.
    fn update(&self, change: impl FnOnce(&mut MountsState)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.last_active = Instant::now();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Applies `get` to each mount, oldest first.
    pub(super) fn map<T>(&self, get: impl Fn(&ServedMount) -> T) -> Vec<T> {
        let state = self.state.lock();
        state.mounts.values().map(|mount| get(mount)).collect()
    }

    pub(super) fn keep_alive(&self) -> KeepAlive<'_> {
        self.state.lock().requests += 1;
        KeepAlive(self)
    }

    /// Returns how long the daemon has been unused; `None` while it has mounts or
    /// requests in progress.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let state = self.state.lock();
        (!state.is_in_use()).then(|| state.last_active.elapsed())
    }

    /// Rejects new mounts from now on, because the daemon exits; with `if_idle`, only if
    /// it has no mounts and no requests in progress.
    pub(super) fn close(&self, if_idle: bool) -> Result<()> {
        let mut state = self.state.lock();
        if if_idle && state.is_in_use() {
            let dirs = state
                .mounts
                .values()
                .map(|mount| mount.request.mountpoint.display());
            let dirs: Vec<String> = dirs.map(|dir| dir.to_string()).collect();
            if dirs.is_empty() {
                bail!("it is working on a request or a job");
            }
            bail!("it serves {}", dirs.join(", "));
        }
        state.is_closed = true;
        Ok(())
    }

    /// Returns all mount points.
    pub(super) fn mountpoints(&self) -> Vec<PathBuf> {
        self.map(|mount| mount.request.mountpoint.clone())
    }

    /// Returns the mount that contains a path. It keeps its lease as long as the result
    /// exists.
    pub(super) fn containing(&self, path: &Path) -> Option<Arc<ServedMount>> {
        let state = self.state.lock();
        let mounts = state.mounts.values();
        let containing = mounts.filter(|mount| path.starts_with(&mount.request.mountpoint));
        let depth = |mount: &&Arc<ServedMount>| mount.request.mountpoint.components().count();
        containing.max_by_key(depth).cloned()
    }

    /// Returns a mount, if it still exists. It keeps its lease as long as the result exists.
    pub(super) fn get(&self, id: u64) -> Option<Arc<ServedMount>> {
        self.state.lock().mounts.get(&id).cloned()
    }

    /// Reserves the ID of a new mount.
    pub(super) fn next_id(&self) -> u64 {
        let mut state = self.state.lock();
        state.next_id += 1;
        state.next_id
    }

    /// Adds a mount.
    pub(super) fn add(&self, id: u64, mount: ServedMount) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_closed {
            bail!("the walgit-fs daemon is stopping; try again");
        }
        state.mounts.insert(id, Arc::new(mount));
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Removes a mount that ended.
    pub(super) fn remove(&self, id: u64) {
        self.update(|state| drop(state.mounts.remove(&id)));
    }
}

impl MountsState {
    fn is_in_use(&self) -> bool {
        self.requests > 0 || !self.mounts.is_empty()
    }
}

impl ServedMount {
    pub(super) fn status(&self) -> MountStatus {
        let snapshot = self.handle.snapshot();
        let commit = snapshot.commit();
        MountStatus {
            mountpoint: self.request.mountpoint.display().to_string(),
            label: self.request.label.clone(),
            address: snapshot.repository().address().to_string(),
            network: self.request.network.name.clone(),
            commit: commit.id.to_string(),
            since: self.since,
            nodes: commit.nodes,
            bytes: commit.bytes,
            stats: self.handle.stats(),
            walks: self.handle.walks(),
            prefetch: self.handle.prefetch_stats(),
            follow: self.follow.as_ref().map(|follow| follow.lock().clone()),
            trees: self.handle.tree_stats(),
            memory: snapshot.repository().access().account.stats(),
        }
    }
}
