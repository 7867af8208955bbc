//! Inputs of renewal and garbage collection.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{ActivityLevels, Settings};
use crate::leases::{Leases, StoreTags};
use crate::lifecycle::policy::Policy;
use crate::lifecycle::{Activity, Ledger, LedgerEntry};
use crate::repo::refs::RefStore;
use crate::repo::{Access, Loader};
use walgit_format::chunk::BlobId;
use walrus_client::network::NetworkPlace;
use walrus_client::{BlobStore, LocalDir, StoreError};
use walrus_encoding::Price;

use super::error::MaintenanceError;

/// Options of a collection.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// Reports without deleting.
    pub dry_run: bool,
    /// Also collects blobs that no publish of this user is known to have stored: only
    /// safe if no other user stores anything.
    pub unknown: bool,
    /// Blobs stored within this many seconds are kept.
    pub grace: u64,
    /// Current time, in seconds since 1970.
    pub now: u64,
}

/// The stores, records and rules of one network.
#[derive(Clone, Debug)]
pub struct MaintenanceContext {
    /// The store.
    pub store: Arc<dyn BlobStore>,
    /// The directory of the store, if it is a local one: its blobs can be listed.
    pub local: Option<LocalDir>,
    /// Loads and decodes nodes.
    pub loader: Arc<Loader>,
    /// How heads are opened.
    pub access: Access,
    /// The names.
    pub refs: RefStore,
    /// The ledger.
    pub ledger: Ledger,
    /// Its entries.
    pub entries: Vec<LedgerEntry>,
    /// Leases of mounts and running publishes.
    pub leases: Leases,
    /// Identifies the mounts that read from this store; `None` if there are none.
    pub store_tags: Option<StoreTags>,
    /// How long unneeded content is kept.
    pub policy: Policy,
    /// Activity of the repositories.
    pub activity: Activity,
    /// Thresholds of the activity levels.
    pub activity_levels: ActivityLevels,
    /// Directory of the collector's state.
    pub state_dir: PathBuf,
    /// Price of storage.
    pub price: Price,
}

impl MaintenanceContext {
    /// Reads the inputs for the network in force, accessed through `store`; heads are
    /// opened with `access`. Blocks.
    pub fn new(
        settings: &Settings,
        loader: Arc<Loader>,
        access: Access,
        store: Arc<dyn BlobStore>,
    ) -> Result<Self, MaintenanceError> {
        let network = &settings.network.value;
        let local = match &network.place {
            NetworkPlace::Local { dir } => Some(LocalDir::open(dir, network.max_body)?),
            NetworkPlace::Http { .. } => None,
        };
        let store_tags = StoreTags::of(network).map_err(|source| StoreError::Io {
            path: (local.as_ref()).map_or_else(PathBuf::new, |local| local.root().into()),
            source,
        })?;
        let ledger = Ledger::of(settings);
        Ok(MaintenanceContext {
            store,
            local,
            loader,
            access,
            refs: RefStore::new(&settings.refs_dir()),
            entries: ledger.entries()?,
            ledger,
            leases: Leases::of(settings),
            store_tags: Some(store_tags),
            policy: Policy::in_force(settings)?,
            activity: Activity::new(settings.activity()),
            activity_levels: settings.retention.value.activity,
            state_dir: settings.lifecycle_dir(),
            price: settings.price(),
        })
    }

    /// Whether the last paid epoch of a blob is certainly over.
    pub(super) async fn has_expired(&self, blob: BlobId) -> Result<bool, StoreError> {
        if let Some(local) = &self.local {
            return local.has_expired(blob);
        }
        if self.store.epoch().await?.is_none() || self.store.lifetime(blob).await?.is_some() {
            return Ok(false);
        }
        // The source of epochs may be a different service than the one that stores blobs.
        Ok(self.store.len(blob).await?.is_none())
    }

    /// Deletes a blob; `false` if this user cannot delete it.
    pub(super) async fn delete(&self, blob: BlobId) -> Result<bool, StoreError> {
        let deleted = self.store.delete(blob).await?;
        if self.local.is_some() {
            // The journal records it as gone, so a crash must not restore it.
            self.store.flush().await?;
        }
        Ok(deleted)
    }
}
