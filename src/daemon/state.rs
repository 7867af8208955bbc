//! The state of a daemon, shared by its sockets, mounts and jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Result, bail};
use parking_lot::Mutex;

use super::mounts::Mounts;
use super::process;
use super::protocol::MountRequest;
use super::repositories::Repositories;
use super::status::{DaemonStatus, JobStatus};
use crate::cache::Cache;
use crate::leases::MountLease;
use crate::repo::Snapshot;

/// The state of a daemon.
pub(super) struct Daemon {
    pub(super) mounts: Mounts,
    pub(super) repositories: Repositories,
    /// Status of the scheduled jobs, by name.
    pub(super) jobs: Mutex<BTreeMap<&'static str, JobStatus>>,
    /// Limit of resident memory for new mounts, in bytes.
    pub(super) memory_limit: u64,
    pub(super) started: Instant,
    /// Warning for users of the daemon.
    pub(super) warning: OnceLock<&'static str>,
}

impl Daemon {
    pub(super) fn new(repositories: Repositories, memory_limit: u64) -> Arc<Self> {
        Arc::new(Daemon {
            mounts: Mounts::new(),
            repositories,
            jobs: Mutex::default(),
            memory_limit,
            started: Instant::now(),
            warning: OnceLock::new(),
        })
    }

    pub(super) fn cache(&self) -> &Arc<Cache> {
        self.repositories.loader.cache()
    }

    /// Opens the repository of a future mount, unless the daemon uses too much memory. The
    /// lease protects the repository from now on.
    pub(super) async fn prepare(
        &self,
        request: &MountRequest,
        lease: Option<&Arc<MountLease>>,
    ) -> Result<Snapshot> {
        let _keep_alive = self.mounts.keep_alive();
        let limit = self.memory_limit;
        if let Some(used) = process::resident_bytes().filter(|&used| used > limit) {
            bail!(
                "the daemon takes {used} bytes of memory, and takes no new mounts above {limit}; \
                 unmount what is not needed, or raise `memory` in [daemon]"
            );
        }
        self.repositories.prepare(request, lease).await
    }

    pub(super) fn status(&self) -> DaemonStatus {
        // Read from disk before the mounts are locked.
        let pins = self.cache().pins().unwrap_or_default();
        DaemonStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: self.started.elapsed().as_secs(),
            settings: None,
            warning: self.warning.get().map(|&warning| warning.into()),
            mounts: self.mounts.map(|mount| mount.status()),
            cache: self.cache().stats(),
            networks: self.repositories.networks(),
            pins,
            jobs: self.jobs.lock().values().cloned().collect(),
        }
    }
}
