//! The blobs that this user has stored.

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use super::context::{GcOptions, MaintenanceContext};
use super::error::MaintenanceError;
use super::journal::CollectionJournal;
use crate::leases::InUse;
use crate::lifecycle::Ledger;
use walgit_format::chunk::BlobId;
use walrus_client::{LocalDir, StoreError};

/// A blob that this user has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InventoryBlob {
    /// Blob ID.
    pub blob: BlobId,
    /// Length in bytes.
    pub len: u64,
    /// Time of storage, in seconds since 1970.
    pub since: Option<u64>,
}

/// Returns every blob of the ledger or of an abandoned publish, except those known to be
/// gone.
pub(super) async fn inventory(
    context: &MaintenanceContext,
    options: &GcOptions,
    in_use: &InUse,
    journal: &CollectionJournal,
) -> Result<HashMap<BlobId, InventoryBlob>, MaintenanceError> {
    let mut blobs: HashMap<BlobId, InventoryBlob> = HashMap::new();
    let mut add = |blob: BlobId, len: u64, at: u64| {
        let since = None;
        let known = (blobs.entry(blob)).or_insert(InventoryBlob { blob, len, since });
        known.len = known.len.max(len);
        known.since = known.since.max(Some(at));
    };
    for entry in &context.entries {
        (entry.blobs.iter()).for_each(|stored| add(stored.blob, stored.len, entry.at));
    }
    for ended in &in_use.ended {
        ended.blobs.iter().for_each(|blob| add(*blob, 0, ended.at));
    }
    blobs.retain(|blob, known| !journal.is_deleted(blob, known.since.unwrap_or(0)));
    if let Some(local) = &context.local {
        let listed = tokio::task::block_in_place(|| list(local))?;
        blobs.retain(|blob, _| listed.contains_key(blob));
        for (blob, found) in listed {
            match blobs.get_mut(&blob) {
                Some(known) => {
                    known.len = found.len;
                    known.since = known.since.max(found.since);
                }
                None if options.unknown => _ = blobs.insert(blob, found),
                None => {}
            }
        }
    }
    // Blobs that others published here are collected by them, under their rules.
    for other in &in_use.others {
        let theirs = Ledger::at(other.user.ledger.clone()).entries();
        let theirs = theirs.map_err(|error| MaintenanceError::other_user(other, error))?;
        for stored in theirs.iter().flat_map(|entry| &entry.blobs) {
            blobs.remove(&stored.blob);
        }
    }
    Ok(blobs)
}

/// Lists the blobs of a directory store.
fn list(local: &LocalDir) -> Result<HashMap<BlobId, InventoryBlob>, StoreError> {
    let examine = |blob| {
        // `None` if it is gone since it was listed.
        let metadata = std::fs::metadata(local.blob_path(blob)).ok()?;
        let since = (metadata.modified().ok()).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let (len, since) = (metadata.len(), since.map(|since| since.as_secs()));
        Some((blob, InventoryBlob { blob, len, since }))
    };
    Ok(local.list()?.into_iter().filter_map(examine).collect())
}
