//! Batched deletion.

use tokio::task::block_in_place;

use super::journal::Journal;
use super::mark::Marks;
use super::retain::Retained;
use super::{Deletion, Fate, GcError, Ground, Kept, Options, Shelved, unexplained};
use crate::lifecycle::leases::{Collecting, InUse};
use walgit_durable::fault_point;
use walgit_format::chunk::BlobId;

/// Blobs per batch: between two checks of names and leases, and two flushes of the
/// journal.
const BATCH: usize = 64;

/// A blob, its fate, and until when a rule keeps it.
type Met = (Shelved, Fate, Option<u64>);

/// Deletes or keeps the blobs that no head needs.
pub(super) struct Sweep<'a, 'g> {
    pub(super) ground: &'a Ground<'g>,
    pub(super) options: &'a Options,
    pub(super) marks: &'a mut Marks,
    pub(super) journal: &'a mut Journal,
    /// The leases as last read.
    pub(super) in_use: InUse,
    /// `None` in a dry run.
    pub(super) collecting: Option<&'a Collecting>,
    pub(super) fates: Vec<Met>,
}

impl Sweep<'_, '_> {
    pub(super) async fn run(
        &mut self,
        unneeded: Vec<Shelved>,
        retained: &Retained,
    ) -> Result<(), GcError> {
        let mut batch = Vec::new();
        for one in unneeded {
            let expired = self.ground.shelf.is_expired(one.blob).await? == Some(true);
            // No rule can restore an expired blob.
            let until = retained.get(&one.blob).filter(|_| !expired);
            let until = until.filter(|until| until.is_none_or(|it| it > self.options.now));
            if let Some(until) = until {
                self.fates.push((one, Fate::Kept(Kept::Rule), *until));
            } else if self.in_use.claimed.contains(&one.blob) {
                self.fates.push((one, Fate::Kept(Kept::Claimed), None));
            } else if !expired && self.is_young(&one) {
                self.fates.push((one, Fate::Kept(Kept::Young), None));
            } else {
                batch.push((one, expired));
            }
            if batch.len() == BATCH {
                self.delete(std::mem::take(&mut batch)).await?;
            }
        }
        self.delete(batch).await
    }

    /// Whether a blob was stored within the grace period; the clock may have been set
    /// back since.
    fn is_young(&self, one: &Shelved) -> bool {
        let seen = || self.journal.seen(&one.blob.to_string());
        let age = one
            .since
            .or_else(seen)
            .map_or(0, |since| self.options.now.saturating_sub(since));
        age < self.options.grace
    }

    /// Returns why a blob is kept; `None` if it may be deleted.
    fn kept(&self, blob: &BlobId) -> Option<Kept> {
        if self.in_use.claimed.contains(blob) {
            Some(Kept::Claimed)
        } else if self.marks.live.contains(blob) || self.marks.may_need(blob) {
            Some(Kept::Unknown)
        } else {
            None
        }
    }

    async fn delete(&mut self, batch: Vec<(Shelved, bool)>) -> Result<(), GcError> {
        let Some(collecting) = self.collecting.filter(|_| !batch.is_empty()) else {
            for (one, expired) in batch {
                let fate = match self.kept(&one.blob) {
                    Some(kept) => Fate::Kept(kept),
                    None if expired => Fate::Expired,
                    None => Fate::Deleted,
                };
                self.fates.push((one, fate, None));
            }
            return Ok(());
        };
        let (doomed, _condemned) = loop {
            let in_use = std::mem::take(&mut self.in_use);
            self.in_use = self
                .marks
                .refresh(self.ground, self.options, in_use)
                .await?;
            unexplained::settled(self.ground, self.options, &self.in_use).await?;
            let free = |(one, _): &&(Shelved, bool)| self.kept(&one.blob).is_none();
            let blobs: Vec<BlobId> = batch.iter().filter(free).map(|(one, _)| one.blob).collect();
            let condemn = || collecting.condemn(&self.in_use, &blobs);
            if let Some(condemned) = block_in_place(condemn)? {
                break (blobs, condemned);
            }
        };
        fault_point::reach("gc.condemned")?;
        let now = self.options.now;
        let intended = batch.iter().filter(|(one, _)| doomed.contains(&one.blob));
        let intended = intended.map(|(one, _)| (one.blob, one.len));
        block_in_place(|| self.journal.intend(intended, now))?;
        let mut done = Vec::new();
        for (one, expired) in batch {
            if !doomed.contains(&one.blob) {
                let kept = self.kept(&one.blob).unwrap_or(Kept::Unknown);
                self.fates.push((one, Fate::Kept(kept), None));
                continue;
            }
            fault_point::reach("gc.before_delete")?;
            let deleted = self.ground.shelf.delete(one.blob).await?;
            fault_point::reach("gc.after_delete")?;
            done.push(one.blob);
            let fate = match (expired, deleted) {
                (true, _) => Fate::Expired,
                (false, Deletion::Deleted) => Fate::Deleted,
                (false, Deletion::Refused) => Fate::Forgotten,
            };
            self.fates.push((one, fate, None));
        }
        block_in_place(|| self.journal.done(done, now))?;
        fault_point::reach("gc.batch_done")?;
        Ok(())
    }
}
