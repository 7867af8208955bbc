//! Opens the repositories of mounts, with stores that all mounts share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use parking_lot::Mutex;

use super::error::not_served;
use super::protocol::MountRequest;
use super::status::NetworkStatus;
use crate::chain;
use crate::leases::MountLease;
use crate::lifecycle::{FreshStore, Ledger};
use crate::repo::{Access, Loader, Located, MemoryAccount, Repository, Snapshot, Source, Target};
use walgit_durable::fault_point;
use walgit_format::Address;
use walgit_format::chunk::{BlobId, SecretKey};
use walrus_client::net::Journal;
use walrus_client::network::Network;
use walrus_client::{BlobStore, StoreHealth};

/// Opens repositories.
pub(super) struct Repositories {
    pub(super) loader: Arc<Loader>,
    /// Maximum duration of an operation.
    pub(super) deadline: Duration,
    /// Directory of the ledgers of all networks.
    ledgers: PathBuf,
    journal: Arc<Journal>,
    stores: Mutex<HashMap<Network, Arc<dyn BlobStore>>>,
}

impl Repositories {
    pub(super) fn new(
        loader: Arc<Loader>,
        deadline: Duration,
        ledgers: PathBuf,
        journal: Journal,
    ) -> Self {
        Repositories {
            loader,
            deadline,
            ledgers,
            journal: Arc::new(journal),
            stores: Mutex::default(),
        }
    }

    fn store(&self, network: &Network) -> Result<Arc<dyn BlobStore>> {
        if let Some(store) = self.stores.lock().get(network) {
            return Ok(store.clone());
        }
        let store = walrus_client::open(network, self.deadline, Some(self.journal.clone()))?;
        let ledger = Ledger::new(&self.ledgers, &network.name);
        let store = FreshStore::over(store, network, ledger, self.deadline);
        Ok((self.stores.lock().entry(network.clone()))
            .or_insert(store)
            .clone())
    }

    fn access(
        &self,
        network: &Network,
        keys: &[SecretKey],
        scripts: bool,
        account: MemoryAccount,
    ) -> Result<Access> {
        Ok(Access {
            store: self.store(network)?,
            keys: keys.to_vec(),
            chain: chain::open(network, self.deadline, Some(self.journal.clone())),
            scripts,
            account,
        })
    }

    /// Opens the repository of a future mount, and reads its root directory. The lease
    /// protects it from now on.
    pub(super) async fn prepare(
        &self,
        request: &MountRequest,
        lease: Option<&Arc<MountLease>>,
    ) -> Result<Snapshot> {
        let account = self.loader.account(&request.label);
        let access = self.access(&request.network, &request.keys, request.scripts, account)?;
        let located = request.source.locate(&access).await?;
        self.open(&access, &located, request, lease).await
    }

    /// Resolves the mount's source again; returns the tree to show instead of `shown`, if
    /// it differs.
    pub(super) async fn poll(
        &self,
        request: &MountRequest,
        shown: &Snapshot,
        lease: Option<&Arc<MountLease>>,
    ) -> Result<Option<Snapshot>> {
        let repository = shown.repository();
        let account = repository.access().account.clone();
        let access = self.access(&request.network, &request.keys, request.scripts, account)?;
        let located = request.source.locate(&access).await?;
        let same_relatives = *located.sibling_refs == *repository.sibling_refs();
        if located.target == *repository.target() && same_relatives {
            return Ok(None);
        }
        Ok(Some(self.open(&access, &located, request, lease).await?))
    }

    async fn open(
        &self,
        access: &Access,
        located: &Located,
        request: &MountRequest,
        lease: Option<&Arc<MountLease>>,
    ) -> Result<Snapshot> {
        // Leased before it is opened: from here on it is either protected or already
        // gone.
        if let (Some(lease), Some((address, blob))) = (lease, head_of(&located.target)) {
            extend_lease(lease, address.clone(), Vec::new()).await?;
            fault_point::reach("mount.leased").map_err(not_served)?;
            // The head may still be cached.
            if request.network.is_free() && access.store.len(blob).await?.is_none() {
                bail!(
                    "{address} is no longer stored: walgit-fs gc deleted it, because no name refers to it"
                );
            }
        }
        let repository = self.loader.open_located(access, located).await?;
        let snapshot = (repository.snapshot_of(request.reference.as_deref())).await?;
        snapshot.directory(&snapshot.root()).await?;
        if let Some(lease) = lease {
            let blobs = repository.head().blobs.to_vec();
            extend_lease(lease, repository.address(), blobs).await?;
        }
        Ok(snapshot)
    }

    /// Opens a repository that is not mounted.
    pub(super) async fn open_unmounted(
        &self,
        source: &Source,
        network: &Network,
        keys: &[SecretKey],
    ) -> Result<Repository> {
        let access = self.access(network, keys, false, MemoryAccount::unlimited())?;
        let located = source.locate(&access).await?;
        Ok(self.loader.open_located(&access, &located).await?)
    }

    /// Returns the status of each network that was used.
    pub(super) fn networks(&self) -> Vec<NetworkStatus> {
        let stores = self.stores.lock();
        let status = |(network, store): (&Network, &Arc<dyn BlobStore>)| NetworkStatus {
            name: network.name.clone(),
            health: store.health(),
        };
        stores.iter().map(status).collect()
    }

    /// Returns the health of a network that was used.
    pub(super) fn health(&self, network: &Network) -> Option<StoreHealth> {
        self.stores.lock().get(network).map(|store| store.health())
    }
}

/// Protects a head.
async fn extend_lease(lease: &Arc<MountLease>, address: Address, blobs: Vec<BlobId>) -> Result<()> {
    let lease = lease.clone();
    let extended = tokio::task::spawn_blocking(move || lease.hold(&address, &blobs)).await;
    Ok(extended.map_err(not_served)??)
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
