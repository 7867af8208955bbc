//! What a collector has to know, by the user's settings.

use std::sync::Arc;

use crate::config::{NetworkPlace, Price, Settings};
use crate::lifecycle::gc::{Ground, Remote, Shelf};
use crate::lifecycle::policy::Policy;
use crate::lifecycle::{Activity, Leases, Ledger, LedgerEntry, LedgerError};
use crate::publish::analyze::Class;
use crate::repo::refs::RefStore;
use crate::repo::{Access, Address, Loader};
use crate::walrus::{BlobStore, LocalDir, StoreError};

/// What a file is called where rules speak of classes, by its name alone: old
/// content is not read to be judged.
pub fn class_of(path: &[u8]) -> &'static str {
    Class::of(path, &[]).name()
}

/// What [`Ground`]s are made of.
pub struct Grounds<'a> {
    settings: &'a Settings,
    loader: &'a Arc<Loader>,
    access: &'a Access,
    shelf: Box<dyn Shelf>,
    refs: RefStore,
    entries: Vec<LedgerEntry>,
    leases: Leases,
    policy: Policy,
    activity: Activity,
    dir: std::path::PathBuf,
    price: Price,
}

/// Why nobody knows what a collector has to.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl<'a> Grounds<'a> {
    /// Looks at the network in force through `store`; heads are opened with
    /// `access`.
    ///
    /// # Errors
    /// [`GroundError`].
    pub fn new(
        settings: &'a Settings,
        loader: &'a Arc<Loader>,
        access: &'a Access,
        store: &Arc<dyn BlobStore>,
        (policy, price): (Policy, Price),
    ) -> Result<Self, GroundError> {
        let network = &settings.network.value;
        let shelf: Box<dyn Shelf> = match &network.place {
            NetworkPlace::Local { dir } => Box::new(LocalDir::open(dir, network.max_body)?),
            NetworkPlace::Http { .. } => Box::new(Remote(store.clone())),
        };
        Ok(Grounds {
            shelf,
            refs: RefStore::new(&settings.refs_dir()),
            entries: Ledger::of(settings).entries()?,
            leases: Leases::of(settings),
            activity: Activity::new(settings.activity()),
            dir: settings.lifecycle_dir(),
            settings,
            loader,
            access,
            policy,
            price,
        })
    }

    /// The ground on which what is `held` stays.
    pub fn ground<'g>(&'g self, held: &'g [Address]) -> Ground<'g> {
        Ground {
            shelf: self.shelf.as_ref(),
            loader: self.loader,
            access: self.access,
            refs: &self.refs,
            held,
            ledger: &self.entries,
            leases: &self.leases,
            policy: &self.policy,
            activity: &self.activity,
            levels: &self.settings.retention.value.activity,
            class_of,
            dir: &self.dir,
            price: &self.price,
        }
    }
}
