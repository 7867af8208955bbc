//! Determines which stored blobs are needed.
//!
//! Every known head is walked ([`mark`]): targets of names, mounted heads, and heads that
//! a running publish builds on. Blobs in the store or the ledger that no walk reaches are
//! unneeded; retention rules keep some of them for a time ([`retain`]).
//!
//! **Blobs in use are determined from leases** ([`crate::leases`]), never by
//! asking a process. The kernel's mount table serves as a cross-check: if a mount of this
//! store has no lease, its head is unknown, and nothing is deleted ([`super::in_use`]).

mod mark;
mod other_users;
mod retain;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::context::{GcOptions, MaintenanceContext};
use super::error::MaintenanceError;
use super::in_use::{check_mounts, in_use};
use super::inventory::{InventoryBlob, inventory};
use super::journal::CollectionJournal;
use crate::leases::InUse;
pub(super) use mark::Marks;
pub use mark::{ScanCounts, UnreadableHead};
use retain::Retained;
use walgit_durable::fault_point;
use walgit_format::chunk::BlobId;

/// The use of all stored blobs.
pub(super) struct Reachability {
    /// The needed blobs.
    pub(super) marks: Marks,
    /// The leases as last read.
    pub(super) in_use: InUse,
    /// All stored blobs that are known.
    pub(super) inventory: HashMap<BlobId, InventoryBlob>,
    /// Blobs that no head needs; heads come first.
    pub(super) unneeded: Vec<InventoryBlob>,
    retained: Retained,
    /// Mount points of this store without a lease; only a dry run accepts any.
    pub(super) without_lease: Vec<PathBuf>,
}

impl Reachability {
    /// Reads names and leases, and walks the heads that they refer to.
    pub(super) async fn scan(
        context: &MaintenanceContext,
        options: &GcOptions,
        journal: &mut CollectionJournal,
    ) -> Result<Self, MaintenanceError> {
        let in_use = in_use(context, options).await?;
        // Blobs are listed before heads: later blobs are within the grace period.
        let inventory = inventory(context, options, &in_use, journal).await?;
        let mut marks = Marks::default();
        let in_use = marks.refresh(context, options, in_use).await?;
        let without_lease = check_mounts(context, options, &in_use).await?;
        fault_point::reach("gc.marked")?;
        let mut unneeded: Vec<InventoryBlob> = (inventory.values())
            .filter(|stored| !marks.live.contains(&stored.blob))
            .cloned()
            .collect();
        // Heads first: after an interruption, an old head is either complete or gone.
        let heads: HashSet<BlobId> = (context.entries.iter())
            .filter_map(|entry| Some(entry.head()?.0))
            .collect();
        unneeded.sort_unstable_by_key(|stored| (!heads.contains(&stored.blob), stored.blob));
        for stored in &unneeded {
            journal.first_seen(&stored.blob.to_string(), options.now);
        }
        let candidates = unneeded.iter().map(|stored| stored.blob).collect();
        let retained = retain::retain(context, options.now, &mut marks, &candidates, journal).await;
        journal.save_first_seen()?;
        Ok(Reachability {
            marks,
            in_use,
            inventory,
            unneeded,
            retained,
            without_lease,
        })
    }

    /// Returns until when a retention rule keeps an unneeded blob after `now`, in seconds
    /// since 1970 (`None` if forever); `None` if no rule keeps it.
    pub(super) fn retained_until(&self, blob: &BlobId, now: u64) -> Option<Option<u64>> {
        let until = *self.retained.get(blob)?;
        until.is_none_or(|until| until > now).then_some(until)
    }
}
