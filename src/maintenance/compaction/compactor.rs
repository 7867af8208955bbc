//! Measures the heads of names, and compacts them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::block_in_place;

use super::super::epoch::present_epoch;
use super::layout::{MeasuredFile, measure};
use super::log::{CompactionLog, CompactionRecord};
use super::plan::{CompactionPlan, plan_compaction};
use crate::config::Settings;
use crate::leases::{LeaseError, Leases};
use crate::lifecycle::fsck::{self, check};
use crate::lifecycle::{Ledger, LedgerBlob, LedgerEntry, LogError};
use crate::prefetch::load_profile;
use crate::publish::{
    CompactionInput, Input, Progress, PublishError, PublishOptions, Published, Retiering,
    better_tier, publish, verify_equal,
};
use crate::repo::refs::{Expected, NamedRef, RefStore, RefStoreError};
use crate::repo::{Access, Loader, RepoError, Repository, Source};
use walgit_format::Address;
use walgit_format::chunk::BlobId;
use walgit_format::names::RefName;
use walrus_client::clock::unix_seconds;
use walrus_client::network::MAX_EPOCHS;
use walrus_client::{BlobStore, PutOptions};
use walrus_encoding::Price;
use walrus_encoding::cost::Bill;

/// Reason why a name is not compacted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum CompactionSkipReason {
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

/// A name and the effect of its compaction.
#[derive(Clone, Debug)]
pub struct CompactionCandidate {
    /// The name.
    pub name: RefName,
    /// Its target.
    pub named: NamedRef,
    /// Effect of a compaction; `None` if the head cannot be read.
    pub plan: Option<CompactionPlan>,
    /// Files that would move to another tier.
    pub moves: u64,
    /// Epochs to pay for the new blobs: as long as those that they replace, and at least
    /// the usual number.
    pub epochs: u32,
    /// Reason why the name is not compacted; `None` if it is to be compacted.
    pub skip: Option<CompactionSkipReason>,
}

impl CompactionCandidate {
    /// Improvement per cost.
    fn worth(&self) -> f64 {
        let plan = self.plan.as_ref();
        plan.map_or(0.0, |plan| plan.improvement / plan.cost.max(1e-9))
    }
}

/// Selection criteria.
#[derive(Clone, Copy, Debug)]
pub struct CandidateSelection {
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
    /// The ledger, or the log of compactions, cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The stored head differs when read back.
    #[error("the stored head is damaged when read back ({0}), so {1} keeps its old head")]
    Damaged(String, RefName),
    /// The name was published during the compaction.
    #[error("{0} was published during its compaction and keeps the published head")]
    Moved(RefName),
}

/// Compacts heads of one network.
pub struct Compactor<'a> {
    settings: &'a Settings,
    loader: Arc<Loader>,
    access: Access,
    store: Arc<dyn BlobStore>,
    refs: RefStore,
    log: CompactionLog,
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
            log: CompactionLog::new(&settings.lifecycle_dir()),
            price: settings.price(),
            settings,
        }
    }

    /// Returns the price of storage.
    pub fn price(&self) -> &Price {
        &self.price
    }

    /// Measures these names, or all; those to be compacted first, the best of them first.
    ///
    /// # Errors
    /// When names or the log cannot be read. An error of a single head is part of its
    /// result.
    pub async fn candidates(
        &self,
        names: &[RefName],
        selection: &CandidateSelection,
    ) -> Result<Vec<CompactionCandidate>, CompactionError> {
        let mut candidates = Vec::new();
        for (name, named) in block_in_place(|| self.named(names))? {
            candidates.push(self.candidate(name, named, selection).await?);
        }
        candidates.sort_by(|a, b| {
            (a.skip.is_some().cmp(&b.skip.is_some()))
                .then(b.worth().total_cmp(&a.worth()))
                .then(a.name.cmp(&b.name))
        });
        let is_free = self.settings.network.value.is_free();
        if let Some(spend) = selection.spend.filter(|_| !is_free) {
            // Each compaction reduces the budget of the following ones.
            let mut left = spend - block_in_place(|| self.log.spent(unix_seconds()))?;
            for candidate in candidates.iter_mut().filter(|one| one.skip.is_none()) {
                let cost = candidate.plan.as_ref().map_or(0.0, |plan| plan.cost);
                if cost <= left {
                    left -= cost;
                } else {
                    let left = left.max(0.0);
                    candidate.skip = Some(CompactionSkipReason::Costs { left });
                }
            }
        }
        Ok(candidates)
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

    async fn candidate(
        &self,
        name: RefName,
        named: NamedRef,
        selection: &CandidateSelection,
    ) -> Result<CompactionCandidate, CompactionError> {
        let compaction = &self.settings.compaction.value;
        let last = block_in_place(|| self.log.last(name.as_str()))?;
        let until = last.map_or(0, |last| last + compaction.cooldown().as_secs());
        let mut candidate = CompactionCandidate {
            name,
            named,
            plan: None,
            moves: 0,
            epochs: 0,
            skip: None,
        };
        match self.measure(&candidate.name, &candidate.named).await {
            Ok((plan, moves, epochs)) => {
                let improves = plan.improvement > compaction.improvement || moves > 0;
                candidate.skip = if selection.force {
                    None
                } else if !improves {
                    Some(CompactionSkipReason::Little)
                } else {
                    (until > unix_seconds()).then_some(CompactionSkipReason::Cooling { until })
                };
                (candidate.plan, candidate.moves, candidate.epochs) = (Some(plan), moves, epochs);
            }
            Err(error) => {
                let error = error.to_string();
                candidate.skip = Some(CompactionSkipReason::Unreadable { error });
            }
        }
        Ok(candidate)
    }

    async fn open(&self, address: &str) -> Result<Repository, CompactionError> {
        let Ok(Address::Walrus { blob, root }) = address.parse() else {
            return Err(PublishError::ForeignFormat.into());
        };
        Ok(self.loader.open(self.access.clone(), blob, root).await?)
    }

    /// Returns the tier changes for this name, from the learned profile of its mounts.
    fn retiering(&self, name: &RefName, repository: &Repository) -> Retiering {
        let source = Source::of(&Address::Name(name.clone()), &self.settings.refs_dir());
        Retiering {
            improvement: self.settings.compaction.value.improvement,
            profile: load_profile(repository, &source.identity()).map(Arc::new),
        }
    }

    /// Returns the effect of a compaction, the number of files that would move to another
    /// tier, and the epochs to pay for.
    async fn measure(
        &self,
        name: &RefName,
        named: &NamedRef,
    ) -> Result<(CompactionPlan, u64, u32), CompactionError> {
        let repository = self.open(&named.address).await?;
        if repository.is_derived() {
            return Err(PublishError::ForeignFormat.into());
        }
        let network = &self.settings.network.value;
        let tiers = &self.settings.tiers.value;
        let total = repository.head().commits.first().map(|commit| commit.bytes);
        let retiering = self.retiering(name, &repository);
        let moves = |file: &MeasuredFile<'_>| {
            let (path, bounds) = (file.place.path(), (network.max_body, total));
            let facts = retiering.facts(&path, file.size, file.shrinks, bounds, tiers);
            better_tier(&facts, file.tier, retiering.improvement, tiers).is_some()
        };
        let layout = measure(&repository, &moves).await?;
        let epochs = self.epochs(layout.blobs.keys()).await?;
        let price = (&self.price, epochs);
        let plan = plan_compaction(&layout, network.max_body, &tiers.weights, price);
        Ok((plan, layout.moves.0, epochs))
    }

    /// Returns the number of epochs until the last of these blobs expires, from the store
    /// or the ledger, but at least the usual number for new blobs.
    async fn epochs(&self, blobs: impl Iterator<Item = &BlobId>) -> Result<u32, CompactionError> {
        let network = &self.settings.network.value;
        let ledger = Ledger::of(self.settings).entries()?;
        let reported = self.store.epoch().await.map_err(PublishError::from)?;
        let length = network.epoch_s.map(Duration::from_secs);
        let Some(present) = present_epoch(reported, &ledger, unix_seconds(), length) else {
            return Ok(network.epochs);
        };
        let known = LedgerBlob::latest_by_blob(&ledger);
        let mut end = 0;
        for blob in blobs {
            let lifetime = self.store.lifetime(*blob).await;
            let reported = lifetime.map_err(PublishError::from)?.map(|it| it.end_epoch);
            let recorded = || known.get(blob).and_then(|it| it.end_epoch);
            end = end.max(reported.or_else(recorded).unwrap_or(0));
        }
        let left = end.saturating_sub(present.epoch);
        Ok(left.clamp(network.epochs, MAX_EPOCHS.max(network.epochs)))
    }

    /// Compacts the head of a name.
    pub async fn compact(
        &self,
        candidate: &CompactionCandidate,
        progress: Arc<dyn Progress>,
    ) -> Result<Compacted, CompactionError> {
        let leases = Leases::of(self.settings);
        let lease = Arc::new(block_in_place(|| leases.take())?);
        let old = self.open(&candidate.named.address).await?;
        if let Some(blob) = old.blob() {
            block_in_place(|| lease.needs(blob))?;
        }
        let planned = match (self.settings.network.value.is_free(), &candidate.plan) {
            (false, Some(plan)) => plan.cost,
            _ => 0.0,
        };
        let record = |cost: f64, to: &Address, bytes: u64, moved: bool| CompactionRecord {
            name: candidate.name.to_string(),
            at: unix_seconds(),
            from: candidate.named.address.clone(),
            to: to.to_string(),
            cost,
            moved,
            bytes,
        };
        // Recorded first, so that it counts after any interruption.
        let from = Address::Name(candidate.name.clone());
        block_in_place(|| self.log.append(&record(planned, &from, 0, false)))?;
        let compaction = CompactionInput {
            max_bytes: candidate.plan.as_ref().map(|plan| plan.write),
            repository: old.clone(),
            vacate: (candidate.plan.as_ref())
                .map(|plan| plan.leave.clone())
                .unwrap_or_default(),
            retiering: Some(self.retiering(&candidate.name, &old)),
        };
        let options = PublishOptions {
            put: PutOptions {
                epochs: candidate.epochs,
                ..PutOptions::default()
            },
            tiers: self.settings.tiers.value,
            key: old.key().cloned(),
            lease: Some(lease.clone()),
            ..PublishOptions::default()
        };
        let (store, loader) = (self.store.clone(), self.loader.clone());
        let input = Input::Compaction(compaction);
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
        let is_free = self.settings.network.value.is_free();
        let cost = if is_free {
            0.0
        } else {
            bill.price(&self.price, candidate.epochs)
        };
        let bytes = published.bytes_stored;
        block_in_place(|| {
            self.log
                .append(&record(cost - planned, &address, bytes, false))
        })?;
        self.verify(&old, &published, &candidate.name).await?;
        let ledger = Ledger::of(self.settings);
        let name = candidate.name.as_str();
        let entry = LedgerEntry::of(name, &address.to_string(), &published.blobs);
        let epoch = published.epoch(candidate.epochs);
        block_in_place(|| ledger.append(&entry.stored_in(epoch, true)))?;
        let to = NamedRef {
            key: candidate.named.key.clone(),
            source: candidate.named.source.clone(),
            ..NamedRef::now(&address)
        };
        let expected = Expected::Address(Some(&candidate.named.address));
        let update = || (self.refs).update(&candidate.name, expected, to, "compact");
        match block_in_place(update) {
            Err(RefStoreError::Moved { name, .. }) => return Err(CompactionError::Moved(name)),
            updated => updated?,
        }
        block_in_place(|| self.log.append(&record(0.0, &address, 0, true)))?;
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
    async fn verify(
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
        let report = check(&new, &fsck::FsckOptions::of_blobs(blobs), &()).await?;
        if let Some(fault) = report.faults.first() {
            let why = format!("{}: {}", fault.what, fault.why);
            return Err(CompactionError::Damaged(why, name.clone()));
        }
        Ok(verify_equal(old, &new).await?)
    }
}
