//! The real parts: store, names, ledger, leases, and what works on them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use walgit_fs::config::{ActivityLevels, Retention};
use walgit_fs::lifecycle::gc::{GcError, Ground, KernelMounts, Options, Report, Shelf, collect};
use walgit_fs::lifecycle::leases::{KernelMount, StoreTags};
use walgit_fs::lifecycle::policy::Policy;
use walgit_fs::lifecycle::renew;
use walgit_fs::lifecycle::{Activity, Leases, Ledger};
use walgit_fs::repo::refs::RefStore;
use walgit_fs::repo::{Access, Loader};
use walrus_client::{BlobStore, LocalDir};
use walrus_encoding::Price;

use super::KEEP;

/// Mounts of other tests are not of this store.
struct NoMounts;

impl KernelMounts for NoMounts {
    fn served(&self, _: &dyn Fn(&KernelMount) -> bool) -> std::io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn leases(&self) -> std::io::Result<HashSet<String>> {
        Ok(HashSet::new())
    }
}

/// What a collector needs. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) dir: PathBuf,
    pub(super) store: LocalDir,
    pub(super) refs: RefStore,
    pub(super) ledger: Ledger,
    pub(super) leases: Leases,
    pub(super) loader: Arc<Loader>,
}

impl Parts {
    /// Does something with all that a collector needs.
    pub(super) async fn on_ground<T>(
        &self,
        shelf: &dyn Shelf,
        work: impl AsyncFnOnce(&Ground<'_>) -> T,
    ) -> T {
        let retention = Retention {
            default_days: KEEP as u32,
            rules: Vec::new(),
            ..Retention::default()
        };
        let ledger = self.ledger.entries().unwrap();
        let store: Arc<dyn BlobStore> = Arc::new(self.store.clone());
        let ground = Ground {
            shelf,
            loader: &self.loader,
            access: &Access::from(store),
            refs: &self.refs,
            kernel_mounts: &NoMounts,
            tags: &StoreTags::default(),
            ledger: &ledger,
            leases: &self.leases,
            policy: &Policy::of(&retention).unwrap(),
            activity: &Activity::new(self.dir.join("activity")),
            levels: &ActivityLevels::default(),
            class_of: |_| "unknown",
            dir: &self.dir,
            price: &Price::mainnet(),
        };
        work(&ground).await
    }

    pub(super) async fn collect(&self, shelf: &dyn Shelf, now: u64) -> Result<Report, GcError> {
        let options = Options {
            dry_run: false,
            unknown: false,
            grace: 0,
            now,
        };
        self.on_ground(shelf, async |ground| collect(ground, &options).await)
            .await
    }

    /// Renews what ends with this epoch.
    pub(super) async fn renew(&self, store: Arc<dyn BlobStore>, now: u64) -> renew::Report {
        let options = renew::Options {
            dry_run: false,
            terms: renew::Terms {
                margin: 1,
                epochs: 2,
                budget: None,
            },
            epoch_length: None,
            now,
        };
        let shelf = self.store.clone();
        self.on_ground(&shelf, async |ground| {
            let payer = renew::Payer::default();
            let watch = |_, _| {};
            renew::renew(ground, &self.ledger, &store, &payer, &options, &watch).await
        })
        .await
        .unwrap()
    }
}
