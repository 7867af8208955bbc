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
//! **Nothing live is lost, whenever it is stopped.** Marks are never kept but
//! made anew by each run. A blob is deleted under a lock that holds off claims,
//! after the leases and the names were looked at once more; a name that has
//! moved since is walked first. Before a blob is deleted that is written down
//! ([`journal`]), so a run that was killed is told from what it did not do, and
//! the next one ends it.

mod journal;
mod learned;
mod mark;
mod retain;
mod shelf;

pub use journal::{Journal, JournalError};
pub use learned::{Dropped, LEARNED_DAYS, TidyError, tidy};
pub use mark::Refused;
pub use shelf::Remote;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use super::policy::Policy;
use super::{Activity, Ended, LeaseError, Leases, LedgerEntry};
use crate::chunk::BlobId;
use crate::config::{ActivityLevels, Price};
use crate::repo::refs::{RefStore, RefStoreError};
use crate::repo::{Access, Address, Loader};
use crate::walrus::StoreError;
use crate::walrus::cost::Bill;
use mark::Marks;

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
    /// What else must stay: what is mounted.
    pub held: &'a [Address],
    /// What was published.
    pub ledger: &'a [LedgerEntry],
    /// What is being published.
    pub leases: &'a Leases,
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
    /// The blobs that heads need.
    #[serde(skip)]
    pub live: HashSet<BlobId>,
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
    /// What is being published is not known.
    #[error(transparent)]
    Leases(#[from] LeaseError),
    /// What was done cannot be written down.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Collects garbage.
///
/// # Errors
/// [`GcError`]; nothing that any head needs has been deleted then.
pub async fn collect(ground: &Ground<'_>, options: &Options) -> Result<Report, GcError> {
    let mut journal = Journal::open(ground.dir, "gc", options.dry_run)?;
    let mut report = Report {
        dry_run: options.dry_run,
        currency: ground.price.currency.clone(),
        ..Report::default()
    };
    let claimed = {
        let held = ground.leases.hold(options.now, options.grace)?;
        (ground.ledger.iter().map(LedgerEntry::head))
            .filter(|head| head.is_some_and(|(blob, _)| held.is_claimed(&blob)))
            .flatten()
            .collect::<Vec<_>>()
    };
    let ended = ground.leases.ended()?;
    // What is stored is listed before heads are: what comes later is young.
    let known = known(ground, options, &ended, &journal).await?;
    let mut marks = Marks::default();
    marks.names(ground).await?;
    marks.held(ground, &claimed).await;
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
    for one in unneeded {
        let expired = ground.shelf.is_expired(one.blob).await? == Some(true);
        let (fate, until) = match retained.get(&one.blob) {
            // No rule brings back what has expired.
            Some(until) if !expired && until.is_none_or(|until| until > options.now) => {
                (Fate::Kept(Kept::Rule), *until)
            }
            _ => {
                let swept = sweep(ground, options, &mut marks, &mut journal, &one, expired);
                (swept.await?, None)
            }
        };
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
    for blob in journal.unfinished().collect::<Vec<_>>() {
        match known.contains_key(&blob) {
            true => journal.kept(blob, options.now)?,
            false => journal.done(blob, options.now)?,
        }
    }
    if !options.dry_run {
        forget(ground, &ended, &marks, &published, &report)?;
    }
    report.heads = marks.heads;
    report.live_blobs = marks.live.len() as u64;
    report.refused = marks.refused;
    report.live = marks.live;
    journal.settle()?;
    Ok(report)
}

/// Every blob that the ledger names or an ended publish claimed, but for what is
/// known to be gone.
async fn known(
    ground: &Ground<'_>,
    options: &Options,
    ended: &[Ended],
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
    for ended in ended {
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

/// Deletes a blob, unless something speaks against it.
async fn sweep(
    ground: &Ground<'_>,
    options: &Options,
    marks: &mut Marks,
    journal: &mut Journal,
    one: &Shelved,
    expired: bool,
) -> Result<Fate, GcError> {
    let since = one.since.or_else(|| journal.seen(&one.blob.to_string()));
    let age = since.map_or(0, |since| options.now.saturating_sub(since));
    // From here on nobody claims anything. Names may move; whoever moves one to
    // what was published meanwhile has claimed that.
    let held = ground.leases.hold(options.now, options.grace)?;
    if held.is_claimed(&one.blob) {
        return Ok(Fate::Kept(Kept::Claimed));
    }
    marks.names(ground).await?;
    if marks.live.contains(&one.blob) || marks.may_need(&one.blob) {
        return Ok(Fate::Kept(Kept::Unknown));
    }
    if age < options.grace && !expired {
        return Ok(Fate::Kept(Kept::Young));
    }
    if options.dry_run {
        return Ok(if expired {
            Fate::Expired
        } else {
            Fate::Deleted
        });
    }
    journal.intend(one.blob, one.len, options.now)?;
    let deleted = ground.shelf.delete(one.blob).await?;
    let fate = match (expired, deleted) {
        (true, _) => Fate::Expired,
        (false, Deletion::Deleted) => Fate::Deleted,
        (false, Deletion::Refused) => Fate::Forgotten,
    };
    journal.done(one.blob, options.now)?;
    Ok(fate)
}
