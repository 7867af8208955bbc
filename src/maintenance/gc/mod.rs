//! Garbage collection: unneeded blobs are deleted, or forgotten.
//!
//! Mark and sweep. [`super::reachability`] finds the unneeded blobs. Some of these are
//! kept for a reason given in the report ([`RetainReason`]):
//!
//! 1. blobs claimed by a publish that is running or ended abnormally a short time ago
//!    ([`crate::leases`]);
//! 2. blobs that an unreadable head may need;
//! 3. blobs kept by a retention rule;
//! 4. blobs stored within the grace period: another user's publish may be about to name
//!    them.
//!
//! All others are deleted if the store permits that. Otherwise they are forgotten: they
//! are not renewed and expire with their last epoch.
//!
//! **No live blob is lost, even if a run is interrupted.** Marks are not stored but
//! computed by each run. Blobs are deleted in batches ([`sweep`]): names and leases are
//! read again if they have changed, and no publish can claim a blob of the batch until
//! the batch is complete. Each deletion is recorded in the [`CollectionJournal`] before it starts,
//! so the next run detects and completes the deletions of a killed run.

mod prune_cache;
mod report;
mod sweep;

use std::collections::HashSet;

use super::context::{GcOptions, MaintenanceContext};
use super::error::MaintenanceError;
use super::in_use::blocking;
use super::journal::{CollectionJournal, JournalEvent};
use super::reachability::Reachability;
use crate::leases::AbandonedLease;
pub use prune_cache::{LEARNED_RETENTION_DAYS, PrunedRecords, prune_cache};
pub use report::{GcReport, RetainReason, SweepOutcome, UnneededBlob};
use walgit_durable::fault_point;
use walgit_format::chunk::BlobId;

/// Collects garbage.
///
/// # Errors
/// [`MaintenanceError`]; no blob that a head needs has been deleted.
pub async fn collect(
    context: &MaintenanceContext,
    options: &GcOptions,
) -> Result<GcReport, MaintenanceError> {
    context
        .activity
        .check()
        .map_err(MaintenanceError::Activity)?;
    let mut journal = CollectionJournal::open(&context.state_dir, "gc", options.dry_run)?;
    let collecting = if options.dry_run {
        None
    } else {
        let leases = context.leases.clone();
        Some(blocking(move || leases.collect()).await?)
    };
    let mut reachability = Reachability::scan(context, options, &mut journal).await?;
    let mounts = &reachability.in_use.mounts;
    let mut report = GcReport {
        dry_run: options.dry_run,
        currency: context.price.currency.clone(),
        mounts: mounts.len() as u64,
        mounted: mounts
            .iter()
            .map(|mount| mount.holder.identity.clone())
            .collect(),
        resumed: journal.unfinished().count() as u64,
        ..GcReport::default()
    };
    let (ended, expired) = (
        reachability.in_use.ended.clone(),
        reachability.in_use.expired.clone(),
    );
    let published: HashSet<BlobId> = (context.entries.iter())
        .flat_map(|entry| entry.blobs.iter().map(|stored| stored.blob))
        .collect();
    let mut sweep = sweep::Sweep {
        context,
        options,
        reachability: &mut reachability,
        journal: &mut journal,
        collecting: collecting.as_ref(),
        swept: Vec::new(),
    };
    sweep.run().await?;
    let swept = sweep.swept;
    let marks = reachability.marks;
    for (stored, outcome, until) in swept {
        // A name that moved in the meantime may need it again.
        if marks.live.contains(&stored.blob) {
            continue;
        }
        if outcome == SweepOutcome::Deleted {
            report.reclaimed.add(stored.len);
        }
        report.unneeded.push(UnneededBlob {
            blob: stored.blob,
            len: stored.len,
            published: published.contains(&stored.blob),
            outcome,
            until,
        });
    }
    let price = |epochs| report.reclaimed.price(&context.price, epochs);
    report.saved = price(1) - price(0);
    // Deletions that an earlier run began are complete, or the blob is needed again.
    let (present, deleted): (Vec<_>, Vec<_>) = (journal.unfinished().map(|blob| (blob, 0)))
        .partition(|(blob, _)| reachability.inventory.contains_key(blob));
    journal.record(JournalEvent::Kept, present, options.now)?;
    journal.record(JournalEvent::Done, deleted, options.now)?;
    if !options.dry_run {
        fault_point::reach("gc.forget")?;
        let retained: HashSet<BlobId> = (report.unneeded.iter())
            .filter(|unneeded| matches!(unneeded.outcome, SweepOutcome::Kept(_)))
            .map(|unneeded| unneeded.blob)
            .collect();
        let is_settled = |blob: &BlobId| {
            marks.live.contains(blob) || published.contains(blob) || !retained.contains(blob)
        };
        // Publishes that have no blobs left to collect.
        let is_finished = |publish: &&AbandonedLease| publish.blobs.iter().all(is_settled);
        for publish in ended.iter().filter(is_finished) {
            context.leases.forget(publish)?;
        }
        for path in &expired {
            context.leases.remove_expired(path)?;
        }
    }
    report.heads = marks.heads;
    report.live_blobs = marks.live.len() as u64;
    report.unreadable = marks.unreadable;
    report.scans = marks.scans;
    report.mounts_without_lease = reachability.without_lease;
    journal.compact()?;
    Ok(report)
}
