//! Garbage collection: what nothing needs any more is deleted, or forgotten.
//!
//! Mark and sweep. Every head that is known is walked ([`mark`]): those of
//! names, those that are mounted, those that a running publish builds on. What
//! the store has, or the ledger says it has, and no mark reached, nothing needs.
//! Of that is kept, for a reason that the report tells ([`Kept`]):
//!
//! 1. what a publish claims that runs, or was killed a short time ago
//!    ([`super::leases`]);
//! 2. what a head may need that could not be read: whoever does not know what is
//!    needed must not delete;
//! 3. what a retention rule keeps ([`retain`]);
//! 4. what was stored within the grace period: somebody else's publish may be
//!    on its way to name it.
//!
//! The rest is deleted where the store lets us, and forgotten where it does not:
//! then it is not renewed and ends with its last epoch.
//!
//! **What is in use is read from leases** ([`super::leases`]), never asked of a
//! process. The kernel's mount table is the cross-check: where a mount of this store
//! has no lease, what it shows is unknown, and nothing is deleted ([`unexplained`]).
//!
//! **Nothing live is lost, whenever it is stopped.** Marks are never kept but
//! computed by each run. Blobs are deleted in batches ([`sweep`]): names and leases
//! are read again where they have changed, and nobody can claim a blob of the batch
//! until it is done. Before a blob is deleted that is written down ([`journal`]), so
//! a run that was killed is told from what it did not do, and the next one ends it.

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

/// A blob that is stored, as far as the store tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelved {
    /// Its ID.
    pub blob: BlobId,
    /// Its length in bytes.
    pub len: u64,
    /// When it was stored, in seconds since 1970.
    pub since: Option<u64>,
}

/// What became of a wish to delete a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Deleted,
    /// It cannot be deleted, by us or at all.
    Refused,
}

/// What a collector asks of a store.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// Every blob that is there; `None` where nobody can tell.
    async fn blobs(&self) -> Result<Option<Vec<Shelved>>, StoreError>;

    /// Whether the last epoch that a blob was paid for is over; `None` where
    /// nobody can tell.
    async fn is_expired(&self, blob: BlobId) -> Result<Option<bool>, StoreError>;

    /// Deletes a blob.
    async fn delete(&self, blob: BlobId) -> Result<Deletion, StoreError>;
}

/// What a collector has to know.
pub struct Ground<'a> {
    /// What the store has.
    pub shelf: &'a dyn Shelf,
    /// Who decodes nodes.
    pub loader: &'a Arc<Loader>,
    /// How heads are opened.
    pub access: &'a Access,
    /// The names.
    pub refs: &'a RefStore,
    /// What was published.
    pub ledger: &'a [LedgerEntry],
    /// What is mounted and what is being published.
    pub leases: &'a Leases,
    /// What the kernel says is mounted.
    pub kernel_mounts: &'a dyn KernelMounts,
    /// Which of those mounts read from this store.
    pub tags: &'a StoreTags,
    /// How long content is kept that nothing needs.
    pub policy: &'a Policy,
    /// How active repositories are.
    pub activity: &'a Activity,
    /// From when on they count as such.
    pub levels: &'a ActivityLevels,
    /// The class of a file, by its path.
    pub class_of: fn(&[u8]) -> &'static str,
    /// Where the collector keeps what it has to remember.
    pub dir: &'a Path,
    /// What storage costs.
    pub price: &'a Price,
}

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Only tell.
    pub dry_run: bool,
    /// Collects what no publish of ours is known to have stored, too: only where
    /// nobody else stores anything.
    pub unknown: bool,
    /// What was stored within so many seconds is left alone.
    pub grace: u64,
    /// The present, in seconds since 1970.
    pub now: u64,
}

/// Why something is kept that no head needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// A publish claims it.
    Claimed,
    /// A head that could not be read may need it.
    Unknown,
    /// A retention rule keeps it.
    Rule,
    /// It was stored a short time ago.
    Young,
}

impl Kept {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Kept::Claimed => "being published",
            Kept::Unknown => "perhaps needed by what could not be read",
            Kept::Rule => "kept by a retention rule",
            Kept::Young => "within the grace period",
        }
    }
}

/// A blob that nothing needs, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unneeded {
    /// The blob.
    pub blob: BlobId,
    /// Its length in bytes.
    pub len: u64,
    /// Whether a publish that ended stored it; else it is an orphan.
    pub published: bool,
    /// What becomes of it, or has.
    pub fate: Fate,
    /// Until when a rule keeps it, in seconds since 1970; `None` for always, or
    /// where no rule does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// What becomes of a blob that nothing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is deleted.
    Deleted,
    /// It has expired, or is gone already: it is forgotten.
    Expired,
    /// It cannot be deleted: it is not renewed.
    Forgotten,
    /// It is kept.
    Kept(Kept),
}

/// What a run found and did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing was done about it.
    pub dry_run: bool,
    /// Heads that were walked.
    pub heads: u64,
    /// Blobs that they need.
    pub live_blobs: u64,
    /// Heads that could not be read, and why.
    pub refused: Vec<Refused>,
    /// What nothing needs.
    pub unneeded: Vec<Unneeded>,
    /// What is deleted.
    pub reclaimed: Bill,
    /// What that saves an epoch.
    pub saved: f64,
    /// Of what: `USD`, `WAL`.
    pub currency: String,
    /// Blobs that an earlier run was about to delete when it was stopped.
    pub resumed: u64,
    /// Mounts whose heads are in use.
    pub mounts: u64,
    /// How often names and leases were read.
    pub scans: Scans,
    /// Folders with mounts of this store that no lease explains: as long as there are
    /// any, only a trial gets this far.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unexplained: Vec<PathBuf>,
    /// The blobs that heads need.
    #[serde(skip)]
    pub live: HashSet<BlobId>,
    /// What mounted repositories are called, from session to session.
    #[serde(skip)]
    pub mounted: HashSet<String>,
}

/// How often names and leases were read: again only where they had changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scans {
    /// All names.
    pub names: u64,
    /// All leases.
    pub leases: u64,
}

impl Report {
    /// How many blobs meet which fate, and their bytes.
    pub fn by_fate(&self) -> BTreeMap<Fate, Bill> {
        let mut fates: BTreeMap<Fate, Bill> = BTreeMap::new();
        for one in &self.unneeded {
            fates.entry(one.fate).or_default().add(one.len);
        }
        fates
    }
}

/// Why nothing could be collected.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The names cannot be read.
    #[error(transparent)]
    Refs(#[from] RefStoreError),
    /// What is in use is not known.
    #[error("{0}; nothing was deleted")]
    Leases(#[from] LeaseError),
    /// A mount of this store has no lease.
    #[error(
        "what is mounted on {} is unknown (it has no lease), so nothing more was deleted; \
         unmount it (walgit-fs unmount), then run gc again",
        folders(.0)
    )]
    Unexplained(Vec<PathBuf>),
    /// How active repositories are is unknown, so retention rules cannot be applied.
    #[error("{0}; nothing was deleted, as retention rules depend on that file")]
    Activity(std::io::Error),
    /// What others publish into the store cannot be read.
    #[error(
        "names in {} lead into this store, too, and cannot be read ({why}), so nothing was \
         deleted; restore them, or remove {} if they are gone for good",
        names.display(), file.display()
    )]
    Others {
        /// The directory of their names.
        names: PathBuf,
        /// What is wrong.
        why: String,
        /// The file that says that they publish here.
        file: PathBuf,
    },
    /// The kernel's mount table cannot be read.
    #[error("what is mounted is unknown ({0}), so nothing was deleted; is /proc mounted?")]
    MountTable(std::io::Error),
    /// A test asked for it.
    #[error("stopped: {0}")]
    Stopped(#[from] std::io::Error),
    /// What was done cannot be written down.
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
/// [`GcError`]; nothing that any head needs has been deleted then.
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
    // What is stored is listed before heads are: what comes later is young.
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
    // Heads first: stopped in between, an old one is whole or not there at all.
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
        // A name that moved meanwhile may need it after all.
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
    // What an earlier run had begun is done, or needed again.
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

/// What leases say now.
async fn in_use(ground: &Ground<'_>, options: &Options) -> Result<InUse, GcError> {
    let mounted = tokio::task::block_in_place(|| ground.kernel_mounts.leases());
    let mounted = mounted.map_err(GcError::MountTable)?;
    let (leases, options) = (ground.leases.clone(), *options);
    blocking(move || leases.in_use(options.now, options.grace, options.dry_run, &mounted)).await
}

/// Does what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LeaseError> + Send + 'static,
) -> Result<T, GcError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(GcError::Stopped(std::io::Error::other(error))),
    }
}

/// Every blob that the ledger names or an ended publish claimed, but for what is
/// known to be gone.
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
    // What others have published here is theirs to collect, by their rules.
    for other in &in_use.others {
        let theirs = Ledger::at(other.user.ledger.clone()).entries();
        let theirs = theirs.map_err(|error| others::unreadable(other, &error))?;
        for stored in theirs.iter().flat_map(|entry| &entry.blobs) {
            known.remove(&stored.blob);
        }
    }
    Ok(known)
}

/// Forgets what publishes claimed that have ended, where nothing of it is left to
/// collect.
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
