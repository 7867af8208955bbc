//! Batched deletion.

use std::collections::HashSet;

use tokio::task::block_in_place;

use super::super::context::{GcOptions, MaintenanceContext};
use super::super::error::MaintenanceError;
use super::super::in_use::check_mounts;
use super::super::inventory::InventoryBlob;
use super::super::journal::{CollectionJournal, JournalEvent};
use super::super::reachability::Reachability;
use super::report::{RetainReason, SweepOutcome};
use crate::leases::{Collecting, DeletionClaims};
use walgit_durable::fault_point;
use walgit_format::chunk::BlobId;

/// Blobs per batch: between two checks of names and leases, and two flushes of the
/// journal.
const BATCH_SIZE: usize = 64;

/// A blob, its outcome, and until when a rule keeps it.
type SweptBlob = (InventoryBlob, SweepOutcome, Option<u64>);

/// Deletes or keeps the blobs that no head needs.
pub(super) struct Sweep<'a> {
    pub(super) context: &'a MaintenanceContext,
    pub(super) options: &'a GcOptions,
    pub(super) reachability: &'a mut Reachability,
    pub(super) journal: &'a mut CollectionJournal,
    /// `None` in a dry run.
    pub(super) collecting: Option<&'a Collecting>,
    pub(super) swept: Vec<SweptBlob>,
}

impl Sweep<'_> {
    pub(super) async fn run(&mut self) -> Result<(), MaintenanceError> {
        let mut batch = Vec::new();
        for stored in std::mem::take(&mut self.reachability.unneeded) {
            let expired = self.context.has_expired(stored.blob).await?;
            let rule = (self.reachability).retained_until(&stored.blob, self.options.now);
            // No rule can restore an expired blob.
            let reason = if let (Some(until), false) = (rule, expired) {
                Some((RetainReason::Rule, until))
            } else if self.reachability.in_use.claimed.contains(&stored.blob) {
                Some((RetainReason::Claimed, None))
            } else if !expired && self.is_young(&stored) {
                Some((RetainReason::Young, None))
            } else {
                None
            };
            match reason {
                Some((reason, until)) => {
                    self.swept.push((stored, SweepOutcome::Kept(reason), until));
                }
                None => batch.push((stored, expired)),
            }
            if batch.len() == BATCH_SIZE {
                self.delete(std::mem::take(&mut batch)).await?;
            }
        }
        self.delete(batch).await
    }

    /// Whether a blob was stored within the grace period; the clock may have been set
    /// back since.
    fn is_young(&self, stored: &InventoryBlob) -> bool {
        let first_seen = || self.journal.known_first_seen(&stored.blob.to_string());
        let age = (stored.since.or_else(first_seen))
            .map_or(0, |since| self.options.now.saturating_sub(since));
        age < self.options.grace
    }

    /// Returns why a blob is kept; `None` if it may be deleted.
    fn retain_reason(&self, blob: &BlobId) -> Option<RetainReason> {
        let Reachability { marks, in_use, .. } = &*self.reachability;
        if in_use.claimed.contains(blob) {
            return Some(RetainReason::Claimed);
        }
        (marks.live.contains(blob) || marks.may_need(blob)).then_some(RetainReason::Unknown)
    }

    /// Lists the blobs of a batch that may still be deleted, which prevents claims on
    /// them.
    async fn condemn<'c>(
        &mut self,
        collecting: &'c Collecting,
        batch: &[(InventoryBlob, bool)],
    ) -> Result<(HashSet<BlobId>, DeletionClaims<'c>), MaintenanceError> {
        loop {
            let in_use = std::mem::take(&mut self.reachability.in_use);
            let refreshed = (self.reachability.marks).refresh(self.context, self.options, in_use);
            self.reachability.in_use = refreshed.await?;
            let in_use = &self.reachability.in_use;
            check_mounts(self.context, self.options, in_use).await?;
            let blobs: Vec<BlobId> = (batch.iter().map(|(stored, _)| stored.blob))
                .filter(|blob| self.retain_reason(blob).is_none())
                .collect();
            if let Some(condemned) = block_in_place(|| collecting.condemn(in_use, &blobs))? {
                return Ok((blobs.into_iter().collect(), condemned));
            }
        }
    }

    async fn delete(&mut self, batch: Vec<(InventoryBlob, bool)>) -> Result<(), MaintenanceError> {
        let Some(collecting) = self.collecting.filter(|_| !batch.is_empty()) else {
            for (stored, expired) in batch {
                let outcome = match self.retain_reason(&stored.blob) {
                    Some(reason) => SweepOutcome::Kept(reason),
                    None if expired => SweepOutcome::Expired,
                    None => SweepOutcome::Deleted,
                };
                self.swept.push((stored, outcome, None));
            }
            return Ok(());
        };
        let (doomed, _condemned) = self.condemn(collecting, &batch).await?;
        fault_point::reach("gc.condemned")?;
        let now = self.options.now;
        let intended = (batch.iter())
            .filter(|(stored, _)| doomed.contains(&stored.blob))
            .map(|(stored, _)| (stored.blob, stored.len));
        block_in_place(|| self.journal.record(JournalEvent::Intended, intended, now))?;
        let mut done = Vec::new();
        for (stored, expired) in batch {
            if !doomed.contains(&stored.blob) {
                let reason = self
                    .retain_reason(&stored.blob)
                    .unwrap_or(RetainReason::Unknown);
                self.swept.push((stored, SweepOutcome::Kept(reason), None));
                continue;
            }
            fault_point::reach("gc.before_delete")?;
            let deleted = self.context.delete(stored.blob).await?;
            fault_point::reach("gc.after_delete")?;
            done.push((stored.blob, 0));
            let outcome = match (expired, deleted) {
                (true, _) => SweepOutcome::Expired,
                (false, true) => SweepOutcome::Deleted,
                (false, false) => SweepOutcome::Forgotten,
            };
            self.swept.push((stored, outcome, None));
        }
        block_in_place(|| self.journal.record(JournalEvent::Done, done, now))?;
        fault_point::reach("gc.batch_done")?;
        Ok(())
    }
}
