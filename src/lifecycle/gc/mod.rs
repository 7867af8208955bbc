//! Garbage collection: unneeded blobs are deleted, or forgotten.
//!
//! Mark and sweep. Every known head is walked ([`mark`]): targets of names, mounted
//! heads, and heads that a running publish builds on. Blobs in the store or the ledger
//! that no walk reaches are unneeded. Some of these are kept for a reason given in the
//! report ([`Kept`]):
//!
//! 1. blobs claimed by a publish that is running or ended abnormally a short time ago
//!    ([`super::leases`]);
//! 2. blobs that an unreadable head may need;
//! 3. blobs kept by a retention rule ([`retain`]);
//! 4. blobs stored within the grace period: another user's publish may be about to name
//!    them.
//!
//! All others are deleted if the store permits that. Otherwise they are forgotten: they
//! are not renewed and expire with their last epoch.
//!
//! **Blobs in use are determined from leases** ([`super::leases`]), never by asking a
//! process. The kernel's mount table serves as a cross-check: if a mount of this store
//! has no lease, its head is unknown, and nothing is deleted ([`unexplained`]).
//!
//! **No live blob is lost, even if a run is interrupted.** Marks are not stored but
//! computed by each run. Blobs are deleted in batches ([`sweep`]): names and leases are
//! read again if they have changed, and no publish can claim a blob of the batch until
//! the batch is complete. Each deletion is recorded in the [`journal`] before it starts,
//! so the next run detects and completes the deletions of a killed run.

mod journal;
mod learned;
mod mark;
mod others;
mod retain;
mod shelf;
mod sweep;
mod unexplained;

pub use journal::{Journal, JournalError};
pub use learned::{Dropped, LEARNED_DAYS, TidyError, tidy};
pub use mark::Refused;
pub use shelf::Remote;
pub use unexplained::KernelMounts;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use super::leases::{Ended, InUse, LeaseError, Leases, StoreTags};
use super::policy::Policy;
use super::{Activity, Ledger, LedgerEntry};
use crate::config::ActivityLevels;
use crate::repo::refs::{RefStore, RefStoreError};
use crate::repo::{Access, Loader};
use mark::Marks;
use walgit_durable::fault_point;
use walgit_format::chunk::BlobId;
use walrus_client::StoreError;
use walrus_encoding::Price;
use walrus_encoding::cost::Bill;

/// A stored blob, as listed by the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelved {
    /// Blob ID.
    pub blob: BlobId,
    /// Length in bytes.
    pub len: u64,
    /// Time of storage, in seconds since 1970.
    pub since: Option<u64>,
}

/// Result of a delete request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The blob is gone.
    Deleted,
    /// The blob cannot be deleted, by this user or at all.
    Refused,
}

/// Operations of a store that a collector needs.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// Lists all stored blobs; `None` if the store cannot list them.
    async fn blobs(&self) -> Result<Option<Vec<Shelved>>, StoreError>;

    /// Whether the last paid epoch of a blob is over; `None` if that is unknown.
    async fn is_expired(&self, blob: BlobId) -> Result<Option<bool>, StoreError>;

    /// Deletes a blob.
    async fn delete(&self, blob: BlobId) -> Result<Deletion, StoreError>;
}

/// Inputs of a collector.
pub struct Ground<'a> {
    /// The store.
    pub shelf: &'a dyn Shelf,
    /// Loads and decodes nodes.
    pub loader: &'a Arc<Loader>,
    /// How heads are opened.
    pub access: &'a Access,
    /// The names.
    pub refs: &'a RefStore,
    /// The entries of the ledger.
    pub ledger: &'a [LedgerEntry],
    /// Leases of mounts and running publishes.
    pub leases: &'a Leases,
    /// The kernel's view of the mounts.
    pub kernel_mounts: &'a dyn KernelMounts,
    /// Identifies the mounts that read from this store.
    pub tags: &'a StoreTags,
    /// How long unneeded content is kept.
    pub policy: &'a Policy,
    /// Activity of the repositories.
    pub activity: &'a Activity,
    /// Thresholds of the activity levels.
    pub levels: &'a ActivityLevels,
    /// Returns the class of a file from its path.
    pub class_of: fn(&[u8]) -> &'static str,
    /// Directory of the collector's state.
    pub dir: &'a Path,
    /// Price of storage.
    pub price: &'a Price,
}

/// Options of a collection.
#[derive(Clone, Copy, Debug)]
pub struct Options {
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

/// Reason why an unneeded blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// A publish claims it.
    Claimed,
    /// An unreadable head may need it.
    Unknown,
    /// A retention rule keeps it.
    Rule,
    /// It was stored a short time ago.
    Young,
}

impl Kept {
    /// Returns the reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Kept::Claimed => "being published",
            Kept::Unknown => "perhaps needed by what could not be read",
            Kept::Rule => "kept by a retention rule",
            Kept::Young => "within the grace period",
        }
    }
}

/// An unneeded blob and its fate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unneeded {
    /// Blob ID.
    pub blob: BlobId,
    /// Length in bytes.
    pub len: u64,
    /// Whether a completed publish stored it; otherwise it is an orphan.
    pub published: bool,
    /// What happens, or happened, to it.
    pub fate: Fate,
    /// Until when a rule keeps it, in seconds since 1970; `None` if forever, or if no
    /// rule keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// What happens to an unneeded blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is deleted.
    Deleted,
    /// It has expired or is gone already: it is forgotten.
    Expired,
    /// It cannot be deleted: it is no longer renewed.
    Forgotten,
    /// It is kept.
    Kept(Kept),
}

/// Result of a collection.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Heads that were walked.
    pub heads: u64,
    /// Blobs that these heads need.
    pub live_blobs: u64,
    /// Heads that could not be read, with reasons.
    pub refused: Vec<Refused>,
    /// Unneeded blobs.
    pub unneeded: Vec<Unneeded>,
    /// Bill of the deleted blobs.
    pub reclaimed: Bill,
    /// Savings per epoch.
    pub saved: f64,
    /// Currency of the savings: `USD`, `WAL`.
    pub currency: String,
    /// Blobs that an earlier, interrupted run was about to delete.
    pub resumed: u64,
    /// Mounts whose heads are in use.
    pub mounts: u64,
    /// How often names and leases were read.
    pub scans: Scans,
    /// Mount points of this store without a lease: if there are any, only a dry run gets
    /// this far.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unexplained: Vec<PathBuf>,
    /// Blobs that heads need.
    #[serde(skip)]
    pub live: HashSet<BlobId>,
    /// Persistent identities of mounted repositories.
    #[serde(skip)]
    pub mounted: HashSet<String>,
}

/// Number of reads of names and leases; they are read again only after changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scans {
    /// Reads of all names.
    pub names: u64,
    /// Reads of all leases.
    pub leases: u64,
}

impl Report {
    /// Returns the number and bytes of blobs per fate.
    pub fn by_fate(&self) -> BTreeMap<Fate, Bill> {
        let mut fates: BTreeMap<Fate, Bill> = BTreeMap::new();
        for one in &self.unneeded {
            fates.entry(one.fate).or_default().add(one.len);
        }
        fates
    }
}

/// Reason why nothing could be collected.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The names cannot be read.
    #[error(transparent)]
    Refs(#[from] RefStoreError),
    /// The blobs in use are unknown.
    #[error("{0}; nothing was deleted")]
    Leases(#[from] LeaseError),
    /// A mount of this store has no lease.
    #[error(
        "what is mounted on {} is unknown (it has no lease), so nothing more was deleted; \
         unmount it (walgit-fs unmount), then run gc again",
        folders(.0)
    )]
    Unexplained(Vec<PathBuf>),
    /// Activity is unknown, so retention rules cannot be applied.
    #[error("{0}; nothing was deleted, as retention rules depend on that file")]
    Activity(std::io::Error),
    /// Another user's names for this store cannot be read.
    #[error(
        "names in {} lead into this store, too, and cannot be read ({why}), so nothing was \
         deleted; restore them, or remove {} if they are gone for good",
        names.display(), file.display()
    )]
    Others {
        /// The directory of those names.
        names: PathBuf,
        /// The reason.
        why: String,
        /// The file that registers that user.
        file: PathBuf,
    },
    /// The kernel's mount table cannot be read.
    #[error("what is mounted is unknown ({0}), so nothing was deleted; is /proc mounted?")]
    MountTable(std::io::Error),
    /// A fault point stopped the run.
    #[error("stopped: {0}")]
    Stopped(#[from] std::io::Error),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn folders(folders: &[PathBuf]) -> String {
    let folders = folders.iter().map(|folder| folder.display().to_string());
    folders.collect::<Vec<_>>().join(", ")
}

/// Collects garbage.
///
/// # Errors
/// [`GcError`]; no blob that a head needs has been deleted.
pub async fn collect(ground: &Ground<'_>, options: &Options) -> Result<Report, GcError> {
    ground.activity.check().map_err(GcError::Activity)?;
    let mut journal = Journal::open(ground.dir, "gc", options.dry_run)?;
    let mut report = Report {
        dry_run: options.dry_run,
        currency: ground.price.currency.clone(),
        ..Report::default()
    };
    let collecting = if options.dry_run {
        None
    } else {
        let leases = ground.leases.clone();
        Some(blocking(move || leases.collect()).await?)
    };
    let in_use = in_use(ground, options).await?;
    // Blobs are listed before heads: later blobs are within the grace period.
    let known = known(ground, options, &in_use, &journal).await?;
    let mut marks = Marks::default();
    let in_use = marks.refresh(ground, options, in_use).await?;
    report.mounts = in_use.mounts.len() as u64;
    let mounts = in_use.mounts.iter();
    report.mounted = mounts.map(|mount| mount.holder.identity.clone()).collect();
    report.unexplained = unexplained::settled(ground, options, &in_use).await?;
    fault_point::reach("gc.marked")?;
    let mut unneeded: Vec<Shelved> = (known.values())
        .filter(|it| !marks.live.contains(&it.blob))
        .cloned()
        .collect();
    // Heads first: after an interruption, an old head is either complete or gone.
    let heads: HashSet<BlobId> = (ground.ledger.iter())
        .filter_map(|entry| Some(entry.head()?.0))
        .collect();
    unneeded.sort_unstable_by_key(|it| (!heads.contains(&it.blob), it.blob));
    let published: HashSet<BlobId> = (ground.ledger.iter())
        .flat_map(|entry| entry.blobs.iter().map(|stored| stored.blob))
        .collect();
    for one in &unneeded {
        journal.first_seen(&one.blob.to_string(), options.now);
    }
    let candidates: HashSet<BlobId> = unneeded.iter().map(|it| it.blob).collect();
    let retained = retain::retain(ground, options, &mut marks, &candidates, &mut journal).await;
    journal.keep_seen()?;
    report.resumed = journal.unfinished().count() as u64;
    let (ended, expired) = (in_use.ended.clone(), in_use.expired.clone());
    let mut sweep = sweep::Sweep {
        ground,
        options,
        marks: &mut marks,
        journal: &mut journal,
        in_use,
        collecting: collecting.as_ref(),
        fates: Vec::new(),
    };
    sweep.run(unneeded, &retained).await?;
    for (one, fate, until) in sweep.fates {
        // A name that moved meanwhile may need it again.
        if marks.live.contains(&one.blob) {
            continue;
        }
        if fate == Fate::Deleted {
            report.reclaimed.add(one.len);
        }
        report.unneeded.push(Unneeded {
            blob: one.blob,
            len: one.len,
            published: published.contains(&one.blob),
            fate,
            until,
        });
    }
    let price = |epochs| report.reclaimed.price(ground.price, epochs);
    report.saved = price(1) - price(0);
    // Deletions that an earlier run began are complete, or the blob is needed again.
    let (there, gone): (Vec<_>, Vec<_>) =
        (journal.unfinished()).partition(|blob| known.contains_key(blob));
    journal.kept(there, options.now)?;
    journal.done(gone, options.now)?;
    if !options.dry_run {
        fault_point::reach("gc.forget")?;
        forget(ground, &ended, &marks, &published, &report)?;
        for path in &expired {
            ground.leases.remove_expired(path)?;
        }
    }
    report.heads = marks.heads;
    report.live_blobs = marks.live.len() as u64;
    report.refused = marks.refused;
    report.scans = marks.scans;
    report.live = marks.live;
    journal.settle()?;
    Ok(report)
}

/// Reads the leases.
async fn in_use(ground: &Ground<'_>, options: &Options) -> Result<InUse, GcError> {
    let mounted = tokio::task::block_in_place(|| ground.kernel_mounts.leases());
    let mounted = mounted.map_err(GcError::MountTable)?;
    let (leases, options) = (ground.leases.clone(), *options);
    blocking(move || leases.in_use(options.now, options.grace, options.dry_run, &mounted)).await
}

/// Runs blocking work on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LeaseError> + Send + 'static,
) -> Result<T, GcError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(GcError::Stopped(std::io::Error::other(error))),
    }
}

/// Returns every blob of the ledger or of an ended publish, except those known to be
/// gone.
async fn known(
    ground: &Ground<'_>,
    options: &Options,
    in_use: &InUse,
    journal: &Journal,
) -> Result<HashMap<BlobId, Shelved>, GcError> {
    let mut known: HashMap<BlobId, Shelved> = HashMap::new();
    let mut note = |blob: BlobId, len: u64, at: u64| {
        let one = known.entry(blob).or_insert(Shelved {
            blob,
            len,
            since: None,
        });
        one.len = one.len.max(len);
        one.since = one.since.max(Some(at));
    };
    for entry in ground.ledger {
        (entry.blobs.iter()).for_each(|stored| note(stored.blob, stored.len, entry.at));
    }
    for ended in &in_use.ended {
        ended.blobs.iter().for_each(|blob| note(*blob, 0, ended.at));
    }
    known.retain(|blob, it| !journal.is_gone(blob, it.since.unwrap_or(0)));
    if let Some(shelved) = ground.shelf.blobs().await? {
        let there: HashMap<BlobId, Shelved> = shelved.into_iter().map(|it| (it.blob, it)).collect();
        known.retain(|blob, _| there.contains_key(blob));
        for (blob, one) in there {
            match known.get_mut(&blob) {
                Some(known) => {
                    known.len = one.len;
                    known.since = known.since.max(one.since);
                }
                None if options.unknown => _ = known.insert(blob, one),
                None => {}
            }
        }
    }
    // Blobs that others published here are collected by them, under their rules.
    for other in &in_use.others {
        let theirs = Ledger::at(other.user.ledger.clone()).entries();
        let theirs = theirs.map_err(|error| others::unreadable(other, &error))?;
        for stored in theirs.iter().flat_map(|entry| &entry.blobs) {
            known.remove(&stored.blob);
        }
    }
    Ok(known)
}

/// Forgets the claims of ended publishes that have no blobs left to collect.
fn forget(
    ground: &Ground<'_>,
    ended: &[Ended],
    marks: &Marks,
    published: &HashSet<BlobId>,
    report: &Report,
) -> Result<(), GcError> {
    let kept = report.unneeded.iter();
    let kept = kept.filter(|it| matches!(it.fate, Fate::Kept(_)));
    let kept: HashSet<BlobId> = kept.map(|it| it.blob).collect();
    for one in ended {
        let settled = |blob: &BlobId| {
            marks.live.contains(blob) || published.contains(blob) || !kept.contains(blob)
        };
        if one.blobs.iter().all(settled) {
            ground.leases.forget(one)?;
        }
    }
    Ok(())
}
