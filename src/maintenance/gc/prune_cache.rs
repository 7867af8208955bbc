//! Removal of learned data about unused repositories.
//!
//! The cache evicts content automatically. Two kinds of records are
//! never evicted: learned file opens of repositories, and the locations of heads in
//! blobs. The former are dropped when the repository has not been mounted for a long
//! time, the latter when their blob was collected.

use std::collections::HashSet;

use serde::Serialize;

use super::super::context::{GcOptions, MaintenanceContext};
use super::super::error::MaintenanceError;
use super::super::journal::CollectionJournal;
use super::report::{GcReport, SweepOutcome};
use crate::cache::{Cache, RecordNamespace};
use walgit_format::chunk::BlobId;

/// How long learned data is kept after the last mount, in days.
pub const LEARNED_RETENTION_DAYS: u64 = 180;
const DAY_SECONDS: u64 = 24 * 3600;

/// Summary of data dropped from the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrunedRecords {
    /// Repositories whose learned data was dropped.
    pub learned: Vec<String>,
    /// Bytes of that data.
    pub learned_bytes: u64,
    /// Number of dropped head locations of collected blobs.
    pub heads: u64,
}

/// Drops cached records about unused repositories of this network; `report` lists the
/// collected blobs.
pub fn prune_cache(
    cache: &Cache,
    context: &MaintenanceContext,
    network: &str,
    options: &GcOptions,
    report: &GcReport,
) -> Result<PrunedRecords, MaintenanceError> {
    let mut dropped = PrunedRecords::default();
    let mut journal = CollectionJournal::open(&context.state_dir, "learned", options.dry_run)?;
    for (key, len) in cache.records(RecordNamespace::Profiles)? {
        let identity = String::from_utf8_lossy(&key).into_owned();
        // Names belong to one network; addresses are valid on any network.
        let name = match identity.strip_prefix(network) {
            Some(rest) if rest.starts_with('/') => &rest[1..],
            _ if identity.contains("://") => identity.as_str(),
            _ => continue,
        };
        let seen = journal.first_seen(&format!("learned {identity}"), options.now);
        let last =
            (context.activity.last(name, options.now)).map_err(MaintenanceError::LastMounts)?;
        let last = match last {
            Some(last) => last,
            // It may be mounted from another network.
            None if identity.contains("://") => continue,
            None => seen,
        };
        let old = options.now.saturating_sub(last) >= LEARNED_RETENTION_DAYS * DAY_SECONDS;
        if !old || report.mounted.contains(&identity) {
            continue;
        }
        if !options.dry_run {
            cache.remove_record(RecordNamespace::Profiles, &key)?;
        }
        dropped.learned.push(identity);
        dropped.learned_bytes += len;
    }
    journal.save_first_seen()?;
    let deleted: HashSet<BlobId> = (report.unneeded.iter())
        .filter(|it| matches!(it.outcome, SweepOutcome::Deleted | SweepOutcome::Expired))
        .map(|it| it.blob)
        .collect();
    if deleted.is_empty() {
        return Ok(dropped);
    }
    for (key, _) in cache.records(RecordNamespace::Heads)? {
        let blob = key.first_chunk().map(|blob| BlobId::from_bytes(*blob));
        if blob.is_some_and(|blob| deleted.contains(&blob)) {
            if !options.dry_run {
                cache.remove_record(RecordNamespace::Heads, &key)?;
            }
            dropped.heads += 1;
        }
    }
    Ok(dropped)
}
