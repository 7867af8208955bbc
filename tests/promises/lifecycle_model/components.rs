//! The real components: store, names, ledger and leases, with collection and renewal.

use std::path::PathBuf;
use std::sync::Arc;

use walgit_fs::config::{ActivityLevels, Retention};
use walgit_fs::leases::Leases;
use walgit_fs::lifecycle::policy::Policy;
use walgit_fs::lifecycle::{Activity, Ledger};
use walgit_fs::maintenance::gc::{GcReport, collect};
use walgit_fs::maintenance::renew::{RenewalOptions, RenewalReport, RenewalTerms, renew};
use walgit_fs::maintenance::{GcOptions, MaintenanceContext, MaintenanceError};
use walgit_fs::repo::refs::RefStore;
use walgit_fs::repo::{Access, Loader};
use walrus_client::{BlobStore, LocalDir};
use walrus_encoding::Price;

use super::RETENTION_DAYS;

/// Inputs of a collection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Components {
    pub(super) dir: PathBuf,
    pub(super) store: LocalDir,
    pub(super) refs: RefStore,
    pub(super) ledger: Ledger,
    pub(super) leases: Leases,
    pub(super) loader: Arc<Loader>,
}

impl Components {
    /// The inputs of a collector or a renewal that works on this store.
    fn context(&self, store: Arc<dyn BlobStore>) -> MaintenanceContext {
        let retention = Retention {
            default_days: RETENTION_DAYS as u32,
            rules: Vec::new(),
            ..Retention::default()
        };
        let reader: Arc<dyn BlobStore> = Arc::new(self.store.clone());
        MaintenanceContext {
            store,
            local: Some(self.store.clone()),
            loader: self.loader.clone(),
            access: Access::from(reader),
            refs: self.refs.clone(),
            entries: self.ledger.entries().unwrap(),
            ledger: self.ledger.clone(),
            leases: self.leases.clone(),
            // This store has no kernel mounts.
            store_tags: None,
            policy: Policy::of(&retention).unwrap(),
            activity: Activity::new(self.dir.join("activity")),
            activity_levels: ActivityLevels::default(),
            state_dir: self.dir.clone(),
            price: Price::mainnet(),
        }
    }

    pub(super) async fn collect(
        &self,
        store: Arc<dyn BlobStore>,
        now: u64,
    ) -> Result<GcReport, MaintenanceError> {
        let options = GcOptions {
            dry_run: false,
            unknown: false,
            grace: 0,
            now,
        };
        collect(&self.context(store), &options).await
    }

    /// Renews blobs that expire with this epoch.
    pub(super) async fn renew(&self, store: Arc<dyn BlobStore>, now: u64) -> RenewalReport {
        let options = RenewalOptions {
            dry_run: false,
            terms: RenewalTerms {
                margin: 1,
                epochs: 2,
                budget: None,
            },
            price: Price::mainnet(),
            command: None,
            epoch_length: None,
            now,
        };
        let context = self.context(store);
        renew(&context, &options, &|_, _| {}).await.unwrap()
    }
}
