//! Compaction of heads that many pushes have scattered.
//!
//! [`Compactor::look`] measures the heads of names and selects those that benefit
//! ([`crate::lifecycle::compaction`]), the best first. [`Compactor::compact`] rewrites
//! one: the new head is stored beside the old one, read back and compared with it, and
//! only then the name moves, unless it was moved concurrently. The old head remains
//! unchanged; blobs that become unneeded are collected later. An interruption loses
//! nothing, and the next run reuses the stored blobs.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::block_in_place;

use crate::config::Settings;
use crate::lifecycle::compaction::{FileFound, Plan, Record, Records, RecordsError, measure, plan};
use crate::lifecycle::fsck::{self, check};
use crate::lifecycle::renew::present;
use crate::lifecycle::{LeaseError, Leases, Ledger, LedgerBlob, LedgerEntry, LedgerError};
use crate::prefetch::learned;
use crate::publish::analyze::Class;
use crate::publish::{
    Input, Knowledge, Progress, PublishError, PublishOptions, Published, Rewrite, TierMover,
    move_for, publish, same,
};
use crate::repo::refs::{Expected, NamedRef, RefStore, RefStoreError};
use crate::repo::{Access, Loader, RepoError, Repository, Source};
use walgit_format::Address;
use walgit_format::chunk::BlobId;
use walgit_format::ref_name::RefName;
use walgit_prefetch::Profile;
use walrus_client::clock::unix_seconds;
use walrus_client::network::MAX_EPOCHS;
use walrus_client::{BlobStore, PutOptions};
use walrus_encoding::Price;
use walrus_encoding::cost::Bill;

/// Reason why a name stays.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Stays {
    /// The improvement is below the threshold.
    Little,
    /// It was compacted a short time ago.
    Cooling {
        /// End of the cooldown, in seconds since 1970.
        until: u64,
    },
    /// It costs more than the spending limit allows.
    Costs {
        /// The amount left.
        left: f64,
    },
    /// Its head cannot be read or rewritten.
    Unreadable {
        /// The reason.
        error: String,
    },
}

/// A measured name.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The name.
    pub name: RefName,
    /// Its target.
    pub named: NamedRef,
    /// Effect of a compaction; `None` if the head cannot be read.
    pub plan: Option<Plan>,
    /// Files that would move to another tier.
    pub moves: u64,
    /// Epochs to pay for the new blobs: as long as those that they replace, and at least
    /// the usual number.
    pub epochs: u32,
    /// Reason why the name stays; `None` for a candidate.
    pub stays: Option<Stays>,
}

impl Looked {
    /// Improvement per cost, by which candidates are ordered.
    fn worth(&self) -> f64 {
        let plan = self.plan.as_ref();
        plan.map_or(0.0, |plan| plan.improvement / plan.cost.max(1e-9))
    }
}

/// Selection criteria.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Ignores the threshold and the cooldown.
    pub force: bool,
    /// Spending limit for 30 days; `None` for no limit.
    pub spend: Option<f64>,
}

/// A compacted name.
#[derive(Clone, Debug)]
pub struct Compacted {
    /// The stored head.
    pub published: Published,
    /// The new address of the name.
    pub address: Address,
    /// Cost of the compaction.
    pub cost: f64,
}

/// Reason why a compaction failed. The name is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// The head cannot be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Something cannot be stored, or differs.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The names cannot be read or written.
    #[error(transparent)]
    Refs(#[from] RefStoreError),
    /// The stored blobs cannot be protected.
    #[error(transparent)]
    Leases(#[from] LeaseError),
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The records of compactions cannot be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The stored head differs when read back.
    #[error("what was stored reads back wrong ({0}); {1} stays as it was")]
    Wrong(String, RefName),
    /// The name was published meanwhile.
    #[error("{0} was published anew meanwhile, and stays as that")]
    Moved(RefName),
}

/// Knowledge from learned profiles and file names.
struct Known(Option<Profile>);

impl Knowledge for Known {
    fn class(&self, path: &[u8]) -> Class {
        Class::of(path, &[])
    }

    fn access(&self, path: &[u8]) -> Option<f64> {
        self.0.as_ref()?.access(std::str::from_utf8(path).ok()?)
    }
}

/// Compacts heads of one network.
pub struct Compactor<'a> {
    settings: &'a Settings,
    loader: Arc<Loader>,
    access: Access,
    store: Arc<dyn BlobStore>,
    refs: RefStore,
    records: Records,
    price: Price,
}

impl<'a> Compactor<'a> {
    /// Creates a compactor that reads with `access` and writes to `store`.
    pub fn new(
        settings: &'a Settings,
        loader: Arc<Loader>,
        access: Access,
        store: Arc<dyn BlobStore>,
    ) -> Self {
        Compactor {
            loader,
            access,
            store,
            refs: RefStore::new(&settings.refs_dir()),
            records: Records::new(&settings.lifecycle_dir()),
            price: settings.price(),
            settings,
        }
    }

    /// Returns the price of storage.
    pub fn price(&self) -> &Price {
        &self.price
    }

    /// Measures these names, or all; candidates first, the best of them first.
    ///
    /// # Errors
    /// When names or records cannot be read. An error of a single head is part of its
    /// result.
    pub async fn look(
        &self,
        names: &[RefName],
        choice: &Choice,
    ) -> Result<Vec<Looked>, CompactionError> {
        let named = block_in_place(|| self.named(names))?;
        let mut looked = Vec::new();
        for (name, named) in named {
            looked.push(self.look_at(name, named, choice).await?);
        }
        looked.sort_by(|a, b| {
            let order = b.worth().total_cmp(&a.worth());
            (a.stays.is_some().cmp(&b.stays.is_some()))
                .then(order)
                .then(a.name.cmp(&b.name))
        });
        // The earlier candidates reduce the budget of the later ones.
        if let Some(spend) = choice
            .spend
            .filter(|_| !self.settings.network.value.is_free())
        {
            let mut left = spend - block_in_place(|| self.records.spent(unix_seconds()))?;
            for one in looked.iter_mut().filter(|one| one.stays.is_none()) {
                let cost = one.plan.as_ref().map_or(0.0, |plan| plan.cost);
                match cost <= left {
                    true => left -= cost,
                    false => {
                        one.stays = Some(Stays::Costs {
                            left: left.max(0.0),
                        })
                    }
                }
            }
        }
        Ok(looked)
    }

    /// Returns these names, or all, with their targets.
    fn named(&self, names: &[RefName]) -> Result<Vec<(RefName, NamedRef)>, RefStoreError> {
        if names.is_empty() {
            return self.refs.list();
        }
        let mut named = Vec::new();
        for name in names {
            self.refs.resolve(name)?;
            named.extend(self.refs.get(name)?.map(|it| (name.clone(), it)));
        }
        Ok(named)
    }

    async fn look_at(
        &self,
        name: RefName,
        named: NamedRef,
        choice: &Choice,
    ) -> Result<Looked, CompactionError> {
        let compaction = &self.settings.compaction.value;
        let until = match block_in_place(|| self.records.last(name.as_str()))? {
            Some(last) => last + compaction.cooldown().as_secs(),
            None => 0,
        };
        let (plan, moves, epochs) = match self.measured(&name, &named).await {
            Ok(measured) => measured,
            Err(error) => {
                return Ok(Looked {
                    name,
                    named,
                    plan: None,
                    moves: 0,
                    epochs: 0,
                    stays: Some(Stays::Unreadable {
                        error: error.to_string(),
                    }),
                });
            }
        };
        let gains = plan.improvement > compaction.improvement || moves > 0;
        let stays = match choice.force {
            true => None,
            false if !gains => Some(Stays::Little),
            false if until > unix_seconds() => Some(Stays::Cooling { until }),
            false => None,
        };
        Ok(Looked {
            name,
            named,
            plan: Some(plan),
            moves,
            epochs,
            stays,
        })
    }

    async fn open(&self, address: &str) -> Result<Repository, CompactionError> {
        let Ok(Address::Walrus { blob, root }) = address.parse() else {
            return Err(PublishError::NotOurs.into());
        };
        Ok(self.loader.open(self.access.clone(), blob, root).await?)
    }

    /// Returns the mover of files for this name, from the learned profile of its mounts.
    fn mover(&self, name: &RefName, repository: &Repository) -> TierMover {
        let source = Source::of(&Address::Name(name.clone()), &self.settings.refs_dir());
        TierMover {
            improvement: self.settings.compaction.value.improvement,
            known: Arc::new(Known(learned(repository, &source.identity()))),
        }
    }

    async fn measured(
        &self,
        name: &RefName,
        named: &NamedRef,
    ) -> Result<(Plan, u64, u32), CompactionError> {
        let repository = self.open(&named.address).await?;
        if repository.is_implied() {
            return Err(PublishError::NotOurs.into());
        }
        let network = &self.settings.network.value;
        let tiers = &self.settings.tiers.value;
        let total = repository.head().commits.first().map(|commit| commit.bytes);
        let mover = self.mover(name, &repository);
        let moves = |file: &FileFound<'_>| {
            let (path, bounds) = (file.place.path(), (network.max_body, total));
            let facts = mover.facts(&path, file.size, file.shrinks, bounds, tiers);
            move_for(&facts, file.tier, mover.improvement, tiers).is_some()
        };
        let layout = measure(&repository, &moves).await?;
        let epochs = self.epochs(layout.blobs.keys()).await?;
        let price = (&self.price, epochs);
        let plan = plan(&layout, network.max_body, &tiers.weights, price);
        Ok((plan, layout.moves.0, epochs))
    }

    /// Returns the number of epochs until the last of these blobs expires, from the store
    /// or the ledger, but at least the usual number for new blobs.
    async fn epochs(&self, blobs: impl Iterator<Item = &BlobId>) -> Result<u32, CompactionError> {
        let network = &self.settings.network.value;
        let ledger = Ledger::of(self.settings).entries()?;
        let told = self.store.epoch().await.map_err(PublishError::from)?;
        let length = network.epoch_s.map(Duration::from_secs);
        let Some(present) = present(told, &ledger, unix_seconds(), length) else {
            return Ok(network.epochs);
        };
        let known = LedgerBlob::fold(&ledger);
        let mut end = 0;
        for blob in blobs {
            let lifetime = self.store.lifetime(*blob).await;
            let told = lifetime.map_err(PublishError::from)?.map(|it| it.end_epoch);
            let written = || known.get(blob).and_then(|it| it.end_epoch);
            end = end.max(told.or_else(written).unwrap_or(0));
        }
        let left = end.saturating_sub(present.epoch);
        Ok(left.clamp(network.epochs, MAX_EPOCHS.max(network.epochs)))
    }

    /// Compacts the head of a name.
    ///
    /// # Errors
    /// [`CompactionError`].
    pub async fn compact(
        &self,
        looked: &Looked,
        progress: Arc<dyn Progress>,
    ) -> Result<Compacted, CompactionError> {
        let leases = Leases::of(self.settings);
        let lease = Arc::new(block_in_place(|| leases.take())?);
        let old = self.open(&looked.named.address).await?;
        if let Some(blob) = old.blob() {
            block_in_place(|| lease.needs(blob))?;
        }
        let planned = match (self.settings.network.value.is_free(), &looked.plan) {
            (false, Some(plan)) => plan.cost,
            _ => 0.0,
        };
        let record = |cost: f64, to: &Address, bytes: u64, moved: bool| Record {
            name: looked.name.to_string(),
            at: unix_seconds(),
            from: looked.named.address.clone(),
            to: to.to_string(),
            cost,
            moved,
            bytes,
        };
        // Recorded first, so that it counts after any interruption.
        let from = Address::Name(looked.name.clone());
        block_in_place(|| self.records.append(&record(planned, &from, 0, false)))?;
        let rewrite = Rewrite {
            most: looked.plan.as_ref().map(|plan| plan.write),
            repository: old.clone(),
            leave: (looked.plan.as_ref()).map_or_else(Default::default, |plan| plan.leave.clone()),
            mover: Some(self.mover(&looked.name, &old)),
        };
        let options = PublishOptions {
            put: PutOptions {
                epochs: looked.epochs,
                ..PutOptions::default()
            },
            tiers: self.settings.tiers.value,
            key: old.key().cloned(),
            lease: Some(lease.clone()),
            ..PublishOptions::default()
        };
        let (store, loader) = (self.store.clone(), self.loader.clone());
        let input = Input::Rewrite(rewrite);
        let published = publish(input, &options, store, loader, progress).await?;
        drop(options);
        let address = Address::Walrus {
            blob: published.blob,
            root: Some(published.root),
        };
        let bill = Bill {
            blobs: published.blobs_uploaded,
            bytes: published.bytes_stored,
            billed: published.bytes_billed,
        };
        let cost = match self.settings.network.value.is_free() {
            true => 0.0,
            false => bill.price(&self.price, looked.epochs),
        };
        let bytes = published.bytes_stored;
        block_in_place(|| (self.records).append(&record(cost - planned, &address, bytes, false)))?;
        self.prove(&old, &published, &looked.name).await?;
        let ledger = Ledger::of(self.settings);
        let name = looked.name.as_str();
        let entry = LedgerEntry::of(name, &address.to_string(), &published.blobs);
        let epoch = published.epoch(looked.epochs);
        block_in_place(|| ledger.append(&entry.stored_in(epoch, true)))?;
        let to = NamedRef {
            key: looked.named.key.clone(),
            source: looked.named.source.clone(),
            ..NamedRef::now(&address)
        };
        let expected = Expected::Address(Some(&looked.named.address));
        let update = || (self.refs).update(&looked.name, expected, to, "compact");
        match block_in_place(update) {
            Err(RefStoreError::Moved { name, .. }) => return Err(CompactionError::Moved(name)),
            updated => updated?,
        }
        block_in_place(|| self.records.append(&record(0.0, &address, 0, true)))?;
        if let Some(lease) = Arc::into_inner(lease) {
            block_in_place(|| lease.finish())?;
        }
        Ok(Compacted {
            published,
            address,
            cost,
        })
    }

    /// Reads the stored head back, and compares it with the original.
    async fn prove(
        &self,
        old: &Repository,
        published: &Published,
        name: &RefName,
    ) -> Result<(), CompactionError> {
        let access = Access {
            store: self.store.clone(),
            ..self.access.clone()
        };
        let stored = self
            .loader
            .open_stored(&access, published.blob, published.root);
        let new = stored.await?;
        let blobs = published.blobs.iter().map(|stored| stored.blob);
        let blobs: Vec<BlobId> = blobs.collect();
        let report = check(&new, &fsck::Options::of_blobs(blobs), &()).await?;
        if let Some(fault) = report.faults.first() {
            let why = format!("{}: {}", fault.what, fault.why);
            return Err(CompactionError::Wrong(why, name.clone()));
        }
        Ok(same(old, &new).await?)
    }
}
