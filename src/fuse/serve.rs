//! Starts the driver of a mount, and gives access to it while it serves.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use fuser::{INodeNo, Notifier, Session, SessionACL};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::attributes::Owner;
use super::control_dir::StatusSource;
use super::dispatch::{Dispatcher, DriverStats};
use super::driver::Driver;
use super::inode_map::Invalidation;
use super::snapshot_table::TreeStats;
use super::view::View;
use crate::prefetch::{Learning, PrefetchDriver, PrefetchStats};
use crate::repo::{RepoError, Snapshot};
use walgit_format::chunk::BlobId;

/// Limits of the number of threads that read the kernel's requests of one mount. Cache hits
/// are answered on these threads, so there is one per core within these limits.
const MIN_THREADS: usize = 2;
const MAX_THREADS: usize = 4;

/// Settings of a mount.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Maximum duration of an operation.
    pub deadline: Duration,
    /// Owner of the files.
    pub uid: u32,
    /// Group of the files.
    pub gid: u32,
    /// Whether other users may access the mount.
    pub allow_other: bool,
    /// Whether the mount may move to another tree: see [`MountHandle::move_to`].
    pub may_move: bool,
    /// Data that may be used to predict file opens.
    pub learning: Learning,
    /// Stable identifier of the repository across sessions, for its learned profile.
    pub identity: String,
}

/// Access to a mount while its driver serves it.
#[derive(Clone, Debug)]
pub struct MountHandle {
    view: Arc<View>,
    stats: Arc<Mutex<DriverStats>>,
    notifier: Notifier,
}

/// Creates the driver of a mount of `snapshot`, which receives requests through `device`
/// when the session runs. Operations that wait run on `runtime`.
pub fn serve(
    snapshot: Snapshot,
    device: OwnedFd,
    config: &DriverConfig,
    runtime: Handle,
    status: Arc<dyn StatusSource>,
) -> io::Result<(Session<Driver>, MountHandle)> {
    let owner = Owner {
        uid: config.uid,
        gid: config.gid,
    };
    let guide = {
        let _entered = runtime.enter();
        PrefetchDriver::new(&snapshot, &config.identity, config.learning)
    };
    let view = Arc::new(View::new(snapshot, owner, config.may_move, status, guide));
    let stats = Arc::default();
    let dispatcher = Dispatcher {
        runtime,
        deadline: config.deadline,
        stats: Arc::clone(&stats),
    };
    let driver = Driver {
        dispatcher,
        view: view.clone(),
    };
    let mut session_config = fuser::Config::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    session_config.n_threads = Some(cores.clamp(MIN_THREADS, MAX_THREADS));
    session_config.clone_fd = true;
    let acl = if config.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    let session = Session::from_fd(driver, device, acl, session_config)?;
    let notifier = session.notifier();
    let handle = MountHandle {
        view,
        stats,
        notifier,
    };
    Ok((session, handle))
}

impl MountHandle {
    /// The mounted tree.
    pub fn snapshot(&self) -> Snapshot {
        self.view.snapshots.current().snapshot.clone()
    }

    /// Statistics of the operations.
    pub fn stats(&self) -> DriverStats {
        *self.stats.lock()
    }

    /// Prefetch statistics, if prefetching is enabled.
    pub fn prefetch_stats(&self) -> Option<PrefetchStats> {
        self.view.prefetcher.stats()
    }

    /// Statistics of the trees of the mount.
    pub fn tree_stats(&self) -> TreeStats {
        self.view.snapshots.stats()
    }

    /// The blobs of the heads that processes may still read from through the mount.
    pub fn heads_in_use(&self) -> HashSet<BlobId> {
        self.view.snapshots.heads_in_use()
    }

    /// Number of detected walks.
    pub fn walks(&self) -> u64 {
        self.view.prefetcher.walks()
    }

    /// The guide that observes file opens of the mount, if any.
    pub fn prefetch_driver(&self) -> Option<&PrefetchDriver> {
        self.view.prefetcher.driver()
    }

    /// Moves the mount to `snapshot`, without a remount; returns the number of names that
    /// changed. Unchanged content stays in the kernel's cache, and open files keep their
    /// version.
    ///
    /// # Errors
    /// Fails if a changed directory cannot be read; then the mount does not move.
    pub async fn move_to(&self, snapshot: Snapshot) -> Result<u64, RepoError> {
        let invalidations = self.view.move_to(snapshot).await?;
        let notifier = self.notifier.clone();
        let invalidated = tokio::task::spawn_blocking(move || {
            // The kernel blocks until lookups in progress in a directory complete:
            // never call this on a thread that serves requests.
            let mut names = 0;
            for invalidation in &invalidations {
                let result = match invalidation {
                    Invalidation::Name { directory, name } => {
                        names += 1;
                        notifier.inval_entry(INodeNo(*directory), OsStr::from_bytes(name))
                    }
                    Invalidation::Listing { directory } => {
                        notifier.inval_inode(INodeNo(*directory), 0, 0)
                    }
                };
                if let Err(error) = result {
                    tracing::debug!("the kernel rejected {invalidation:?}: {error}");
                }
            }
            names
        });
        Ok(invalidated.await.unwrap_or(0))
    }
}
