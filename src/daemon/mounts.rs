//! The mounts of a daemon, and their stores.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::follow::Follower;
use super::jobs::JobRegistry;
use super::learned::Subject;
use super::memory;
use super::status::{DaemonStatus, FollowStatus, MountStatus, NetworkStatus};
use super::{DaemonError, MountRequest};
use crate::cache::Cache;
use crate::chain;
use crate::fuse::{self, DriverConfig, MountHandle, StatusSource};
use crate::leases::MountLease;
use crate::lifecycle::{FreshStore, Ledger};
use crate::repo::{Access, Account, Loader, Located, Repository, Snapshot, Target};
use walgit_durable::fault_point;
use walgit_format::Address;
use walgit_format::chunk::BlobId;
use walrus_client::clock::unix_seconds;
use walrus_client::net::Journal;
use walrus_client::network::Network;
use walrus_client::{self, BlobStore};

/// The state of a daemon.
pub(super) struct Mounts {
    loader: Arc<Loader>,
    deadline: Duration,
    /// Directory of the ledgers of all networks.
    ledgers: PathBuf,
    /// Limit of resident memory for new mounts, in bytes.
    memory: u64,
    journal: Arc<Journal>,
    runtime: tokio::runtime::Handle,
    started: Instant,
    state: Mutex<State>,
    /// Notified when a mount begins or ends.
    pub(super) changed: Notify,
    /// Status of jobs.
    pub(super) jobs: JobRegistry,
}

struct State {
    next: u64,
    mounts: BTreeMap<u64, Mounted>,
    stores: HashMap<Network, Arc<dyn BlobStore>>,
    /// Time of the last request to the daemon.
    active: Instant,
    /// Number of requests in progress.
    busy: usize,
    /// Warning for users of the daemon.
    warning: Option<&'static str>,
    /// Whether the daemon is about to exit and rejects new mounts.
    closed: bool,
}

/// Keeps the daemon alive while a request is in progress, however slow the network is.
pub(super) struct Busy<'a>(&'a Mounts);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.busy -= 1;
        state.active = Instant::now();
        drop(state);
        self.0.changed.notify_waiters();
    }
}

/// A repository with a learned profile.
pub(super) struct Known {
    /// Persistent identity of the repository.
    pub(super) identity: String,
    pub(super) repository: Repository,
    /// Its live mounts.
    pub(super) handles: Vec<MountHandle>,
}

struct Mounted {
    request: MountRequest,
    handle: MountHandle,
    since: u64,
    followed: Option<FollowStatus>,
    /// Protects the shown head until the unmount.
    _lease: Option<Arc<MountLease>>,
}

/// Protects a head.
async fn hold(
    lease: &Arc<MountLease>,
    address: Address,
    blobs: Vec<BlobId>,
) -> Result<(), DaemonError> {
    let lease = lease.clone();
    let held = tokio::task::spawn_blocking(move || lease.hold(&address, &blobs)).await;
    Ok(held.map_err(|error| DaemonError::Session(std::io::Error::other(error)))??)
}

/// Returns the head of a target that is in a blob.
fn head_of(target: &Target) -> Option<(Address, BlobId)> {
    match *target {
        Target::Blob { blob, root } | Target::Archived { blob, root, .. } => {
            Some((Address::Walrus { blob, root }, blob))
        }
        Target::Commit(_) => None,
    }
}

impl Mounts {
    pub(super) fn new(
        loader: Arc<Loader>,
        deadline: Duration,
        memory: u64,
        journal: Journal,
        ledgers: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Mounts {
            loader,
            deadline,
            ledgers,
            memory,
            journal: Arc::new(journal),
            runtime: tokio::runtime::Handle::current(),
            started: Instant::now(),
            state: Mutex::new(State {
                next: 0,
                mounts: BTreeMap::new(),
                stores: HashMap::new(),
                active: Instant::now(),
                busy: 0,
                warning: None,
                closed: false,
            }),
            changed: Notify::new(),
            jobs: JobRegistry::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn loader(&self) -> &Arc<Loader> {
        &self.loader
    }

    pub(super) fn cache(&self) -> &Arc<Cache> {
        self.loader.cache()
    }

    /// Sets a warning for users of the daemon.
    pub(super) fn warn(&self, warning: &'static str) {
        self.state().warning = Some(warning);
    }

    pub(super) fn busy(&self) -> Busy<'_> {
        self.state().busy += 1;
        Busy(self)
    }

    /// Returns how long the daemon has been unused; `None` while it has mounts or
    /// requests in progress.
    pub(super) fn idle(&self) -> Option<Duration> {
        let state = self.state();
        let needed = state.busy > 0 || !state.mounts.is_empty();
        (!needed).then(|| state.active.elapsed())
    }

    /// Rejects new mounts from now on, because the daemon exits; with `if_idle`, only if
    /// it has no mounts and no requests in progress.
    ///
    /// # Errors
    /// [`DaemonError::InUse`].
    pub(super) fn close(&self, if_idle: bool) -> Result<(), DaemonError> {
        let mut state = self.state();
        if if_idle && (state.busy > 0 || !state.mounts.is_empty()) {
            let mounts = state.mounts.values();
            let dirs = mounts.map(|mounted| mounted.request.mountpoint.clone());
            return Err(DaemonError::InUse(dirs.collect()));
        }
        state.closed = true;
        Ok(())
    }

    /// Returns the requests of all mounts, so that they can be repeated.
    pub(super) fn requests(&self) -> Vec<MountRequest> {
        let state = self.state();
        let mounts = state.mounts.values();
        mounts.map(|mounted| mounted.request.clone()).collect()
    }

    /// Returns all mount points.
    pub(super) fn mountpoints(&self) -> Vec<PathBuf> {
        let state = self.state();
        (state.mounts.values())
            .map(|mounted| mounted.request.mountpoint.clone())
            .collect()
    }

    /// Returns the mount that contains a path: its mount point, the identity of its
    /// repository, and the shown tree.
    pub(super) fn holding(&self, path: &Path) -> Option<(PathBuf, String, Snapshot)> {
        let state = self.state();
        let holds = |mounted: &&Mounted| path.starts_with(&mounted.request.mountpoint);
        let depth = |mounted: &&Mounted| mounted.request.mountpoint.components().count();
        let mounted = state.mounts.values().filter(holds).max_by_key(depth)?;
        Some((
            mounted.request.mountpoint.clone(),
            mounted.request.source.identity(),
            mounted.handle.snapshot(),
        ))
    }

    fn store(&self, network: &Network) -> Result<Arc<dyn BlobStore>, DaemonError> {
        if let Some(store) = self.state().stores.get(network) {
            return Ok(store.clone());
        }
        let store = walrus_client::open(network, self.deadline, Some(self.journal.clone()))?;
        let ledger = Ledger::new(&self.ledgers, &network.name);
        let store = FreshStore::over(store, network, ledger, self.deadline);
        let mut state = self.state();
        let kept = state.stores.entry(network.clone()).or_insert(store);
        Ok(kept.clone())
    }

    fn access(&self, request: &MountRequest, account: Account) -> Result<Access, DaemonError> {
        Ok(Access {
            store: self.store(&request.network)?,
            keys: request.keys.clone(),
            chain: chain::open(&request.network, self.deadline, Some(self.journal.clone())),
            scripts: request.scripts,
            account,
        })
    }

    /// Opens the repository of a future mount, and reads its root directory. The lease
    /// protects it from now on.
    pub(super) async fn prepare(
        &self,
        request: &MountRequest,
        lease: Option<&Arc<MountLease>>,
    ) -> Result<Snapshot, DaemonError> {
        let _busy = self.busy();
        self.check_memory()?;
        let access = self.access(request, self.loader.account(&request.label))?;
        let located = request.source.locate(&access).await?;
        self.open(&access, &located, request, lease).await
    }

    /// Rejects a new mount if the daemon uses too much memory.
    fn check_memory(&self) -> Result<(), DaemonError> {
        match memory::resident() {
            Some(used) if used > self.memory => Err(DaemonError::Memory {
                used,
                most: self.memory,
            }),
            _ => Ok(()),
        }
    }

    async fn open(
        &self,
        access: &Access,
        located: &Located,
        request: &MountRequest,
        lease: Option<&Arc<MountLease>>,
    ) -> Result<Snapshot, DaemonError> {
        // Leased before it is opened: from here on it is either protected or already
        // gone.
        if let (Some(lease), Some((address, blob))) = (lease, head_of(&located.target)) {
            hold(lease, address.clone(), Vec::new()).await?;
            fault_point::reach("mount.leased").map_err(DaemonError::Session)?;
            // The head may still be cached.
            if request.network.is_free() && access.store.len(blob).await?.is_none() {
                return Err(DaemonError::Collected(address));
            }
        }
        let repository = self.loader.open_located(access, located).await?;
        let snapshot = (repository.snapshot_of(request.reference.as_deref())).await?;
        snapshot.directory(&snapshot.root()).await?;
        if let Some(lease) = lease {
            let blobs = repository.head().blobs.to_vec();
            hold(lease, repository.address(), blobs).await?;
        }
        Ok(snapshot)
    }

    /// Returns the repository of a learned profile, and its live mounts.
    pub(super) async fn subject(&self, subject: &Subject) -> Result<Known, DaemonError> {
        let _busy = self.busy();
        let (identity, mounted) = {
            let state = self.state();
            let identity = match subject {
                Subject::Repository { source, .. } => source.identity(),
                Subject::Mount(dir) => {
                    let mut mounts = state.mounts.values();
                    let found = mounts.find(|mounted| mounted.request.mountpoint == *dir);
                    let found = found.ok_or_else(|| DaemonError::NotMounted(dir.clone()))?;
                    found.request.source.identity()
                }
            };
            let of_it = |it: &&Mounted| it.request.source.identity() == identity;
            let mounted = state.mounts.values().filter(of_it);
            let handles: Vec<MountHandle> = mounted.map(|it| it.handle.clone()).collect();
            (identity, handles)
        };
        let repository = match (mounted.first(), subject) {
            (Some(handle), _) => handle.snapshot().repository().clone(),
            (None, Subject::Mount(dir)) => return Err(DaemonError::NotMounted(dir.clone())),
            (
                None,
                Subject::Repository {
                    source,
                    network,
                    keys,
                },
            ) => {
                let access = Access {
                    store: self.store(network)?,
                    keys: keys.clone(),
                    chain: chain::open(network, self.deadline, Some(self.journal.clone())),
                    scripts: false,
                    account: Account::unlimited(),
                };
                let located = source.locate(&access).await?;
                self.loader.open_located(&access, &located).await?
            }
        };
        Ok(Known {
            identity,
            repository,
            handles: mounted,
        })
    }

    /// Resolves the mount's source again; returns the tree to show instead of `shown`, if
    /// it differs.
    pub(super) async fn look(
        &self,
        request: &MountRequest,
        shown: &Snapshot,
        lease: Option<&Arc<MountLease>>,
    ) -> Result<Option<Snapshot>, DaemonError> {
        let repository = shown.repository();
        let account = repository.access().account.clone();
        let access = self.access(request, account)?;
        let located = request.source.locate(&access).await?;
        let same_relatives = *located.relatives == *repository.relatives();
        if located.target == *repository.target() && same_relatives {
            return Ok(None);
        }
        let snapshot = (self.open(&access, &located, request, lease)).await?;
        Ok(Some(snapshot))
    }

    /// Serves a new mount. Returns once the kernel has received the first answer; blocks
    /// until then.
    pub(super) fn serve(
        self: &Arc<Self>,
        request: MountRequest,
        snapshot: Snapshot,
        lease: Option<Arc<MountLease>>,
        device: OwnedFd,
    ) -> Result<(), DaemonError> {
        let config = DriverConfig {
            deadline: self.deadline,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            allow_other: request.allow_other,
            may_move: request.follow.is_some(),
            learning: request.learning,
            identity: request.source.identity(),
        };
        let number = {
            let mut state = self.state();
            state.next += 1;
            state.next
        };
        let source = Arc::new(OneMount {
            mounts: Arc::downgrade(self),
            number,
        });
        let (session, handle) =
            fuse::serve(snapshot, device, &config, self.runtime.clone(), source)
                .map_err(DaemonError::Session)?;
        let since = unix_seconds();
        let dir = request.mountpoint.clone();
        let followed = request.follow.map(|every_s| FollowStatus {
            every_s,
            ..FollowStatus::default()
        });
        let follower = request.follow.map(|every_s| Follower {
            mounts: Arc::downgrade(self),
            number,
            request: request.clone(),
            handle: handle.clone(),
            lease: lease.as_ref().map(Arc::downgrade),
            every: Duration::from_secs(every_s),
        });
        let mounted = Mounted {
            request,
            handle,
            since,
            followed,
            _lease: lease,
        };
        let mut state = self.state();
        if state.closed {
            return Err(DaemonError::Stopping);
        }
        state.mounts.insert(number, mounted);
        drop(state);
        self.changed.notify_waiters();
        if let Some(follower) = follower {
            self.runtime.spawn(follower.run());
        }
        tracing::info!("serving {}", dir.display());
        let this = self.clone();
        let served = std::thread::Builder::new()
            .name(format!("mount-{number}"))
            .spawn(move || {
                // Ended by an unmount, or by an abort of the connection.
                if let Err(error) = session.run() {
                    tracing::info!("{}: {error}", dir.display());
                }
                this.forget(number);
                tracing::info!("{} is unmounted", dir.display());
            });
        match served {
            Ok(_) => Ok(()),
            Err(error) => {
                self.forget(number);
                Err(DaemonError::Session(error))
            }
        }
    }

    /// Updates the follow status of a mount; returns whether the mount still exists.
    pub(super) fn note_follow(&self, number: u64, note: impl FnOnce(&mut FollowStatus)) -> bool {
        let mut state = self.state();
        let mounted = state.mounts.get_mut(&number);
        let followed = mounted.and_then(|mounted| mounted.followed.as_mut());
        followed.map(note).is_some()
    }

    fn forget(&self, number: u64) {
        let mut state = self.state();
        state.mounts.remove(&number);
        state.active = Instant::now();
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn status(&self) -> DaemonStatus {
        // Read from disk before the mounts are locked.
        let pins = self.cache().pins().unwrap_or_default();
        let state = self.state();
        DaemonStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: self.started.elapsed().as_secs(),
            settings: None,
            warning: state.warning.map(Into::into),
            mounts: state.mounts.values().map(Mounted::status).collect(),
            cache: self.cache().stats(),
            networks: networks(&state),
            pins,
            jobs: self.jobs.all(),
        }
    }
}

fn networks(state: &State) -> Vec<NetworkStatus> {
    let one = |(network, store): (&Network, &Arc<dyn BlobStore>)| NetworkStatus {
        name: network.name.clone(),
        health: store.health(),
    };
    state.stores.iter().map(one).collect()
}

impl Mounted {
    fn status(&self) -> MountStatus {
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
            follow: self.followed.clone(),
            trees: self.handle.tree_stats(),
            memory: snapshot.repository().access().account.stats(),
        }
    }
}

/// Source of `.walgit/status` of one mount.
struct OneMount {
    mounts: Weak<Mounts>,
    number: u64,
}

impl StatusSource for OneMount {
    fn status(&self) -> Vec<u8> {
        let Some(mounts) = self.mounts.upgrade() else {
            return b"{}\n".to_vec();
        };
        let state = mounts.state();
        let mount = state.mounts.get(&self.number).map(Mounted::status);
        let health = state
            .mounts
            .get(&self.number)
            .and_then(|m| state.stores.get(&m.request.network))
            .map(|store| store.health());
        drop(state);
        let text = serde_json::json!({
            "mount": mount,
            "network": health,
            "cache": mounts.cache().stats(),
        });
        format!("{text:#}\n").into_bytes()
    }
}
