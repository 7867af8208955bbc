//! Inputs of a collector, from the user's settings.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Settings;
use crate::fuse::{Liveness, MountEntry, MountTable, liveness};
use crate::lifecycle::gc::{Ground, KernelMounts, Remote, Shelf};
use crate::lifecycle::leases::{KernelMount, MountTag, StoreTags};
use crate::lifecycle::policy::Policy;
use crate::lifecycle::{Activity, Leases, Ledger, LedgerEntry, LedgerError};
use crate::publish::analyze::Class;
use crate::repo::refs::RefStore;
use crate::repo::{Access, Loader};
use walrus_client::network::NetworkPlace;
use walrus_client::{BlobStore, LocalDir, StoreError};
use walrus_encoding::Price;

/// Returns the class of a file for retention rules, from its name alone: old content is
/// not read for that.
pub fn class_of(path: &[u8]) -> &'static str {
    Class::of(path, &[]).name()
}

/// Owner of the data that a [`Ground`] refers to.
pub struct Grounds<'a> {
    settings: &'a Settings,
    loader: &'a Arc<Loader>,
    access: &'a Access,
    shelf: Box<dyn Shelf>,
    refs: RefStore,
    entries: Vec<LedgerEntry>,
    leases: Leases,
    tags: StoreTags,
    policy: Policy,
    activity: Activity,
    dir: PathBuf,
    price: Price,
}

/// Reason why the inputs of a collector are unavailable.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It is unknown whether mounts read from the store.
    #[error("{}: {source}", dir.display())]
    Examine {
        /// The directory of the store.
        dir: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The mount table of this process's namespace.
#[derive(Debug)]
struct Kernel;

impl KernelMounts for Kernel {
    fn served(&self, select: &dyn Fn(&KernelMount) -> bool) -> io::Result<Vec<PathBuf>> {
        let table = MountTable::read()?;
        let selected = |entry: &&MountEntry| {
            entry.is_ours()
                && select(&KernelMount {
                    tag: MountTag::of_source(&entry.source),
                    user: entry.uid,
                })
        };
        let entries: Vec<&MountEntry> = table.entries().iter().filter(selected).collect();
        let states = liveness(&table, &entries);
        let served = entries.iter().zip(states);
        let served = served.filter(|(_, state)| *state != Liveness::Dead);
        Ok(served.map(|(entry, _)| entry.mountpoint.clone()).collect())
    }

    fn leases(&self) -> io::Result<HashSet<String>> {
        let table = MountTable::read()?;
        let ours = table.entries().iter().filter(|entry| entry.is_ours());
        let tags = ours.filter_map(|entry| MountTag::of_source(&entry.source));
        Ok(tags.map(|tag| tag.id).collect())
    }
}

impl<'a> Grounds<'a> {
    /// Collects the inputs for the network in force, accessed through `store`; heads are
    /// opened with `access`.
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
            tags: StoreTags::of(network).map_err(|source| GroundError::Examine {
                dir: match &network.place {
                    NetworkPlace::Local { dir } => dir.clone(),
                    NetworkPlace::Http { .. } => Default::default(),
                },
                source,
            })?,
            activity: Activity::new(settings.activity()),
            dir: settings.lifecycle_dir(),
            settings,
            loader,
            access,
            policy,
            price,
        })
    }

    /// Returns the inputs of a collector.
    pub fn ground(&self) -> Ground<'_> {
        Ground {
            shelf: self.shelf.as_ref(),
            loader: self.loader,
            access: self.access,
            refs: &self.refs,
            kernel_mounts: &Kernel,
            tags: &self.tags,
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
