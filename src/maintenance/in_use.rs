//! Blobs in use, according to leases and the kernel's mount table.
//!
//! A mount has no lease if the directory of leases was removed, or if a version without
//! leases made the mount. The kernel's mount table lists the mount nevertheless.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::context::{GcOptions, MaintenanceContext};
use super::error::MaintenanceError;
use crate::fuse::{Liveness, MountEntry, MountTable, liveness};
use crate::leases::{InUse, LeaseError, MountTag};

/// Time to wait for the lease of a mount that is being made.
const LEASE_WAIT: Duration = Duration::from_secs(3);
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Reads the leases.
pub(super) async fn in_use(
    context: &MaintenanceContext,
    options: &GcOptions,
) -> Result<InUse, MaintenanceError> {
    let mounted = tokio::task::block_in_place(|| mounted_leases(context))?;
    let (leases, options) = (context.leases.clone(), *options);
    blocking(move || leases.in_use(options.now, options.grace, options.dry_run, &mounted)).await
}

/// Runs blocking work on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LeaseError> + Send + 'static,
) -> Result<T, MaintenanceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(MaintenanceError::Stopped(io::Error::other(error))),
    }
}

/// Returns the lease names of all mounts of this program, served or not.
fn mounted_leases(context: &MaintenanceContext) -> Result<HashSet<String>, MaintenanceError> {
    if context.store_tags.is_none() {
        return Ok(HashSet::new());
    }
    let table = MountTable::read().map_err(MaintenanceError::MountTable)?;
    let ours = table.entries().iter().filter(|entry| entry.is_ours());
    let tags = ours.filter_map(|entry| MountTag::of_source(&entry.source));
    Ok(tags.map(|tag| tag.id).collect())
}

/// Returns the mount points of this store without a lease, except those whose process is
/// gone. A mount that does not answer counts as served. May block for a few seconds.
fn mounts_without_lease(
    context: &MaintenanceContext,
    in_use: &InUse,
) -> Result<Vec<PathBuf>, MaintenanceError> {
    let find = || -> io::Result<Vec<PathBuf>> {
        let Some(store_tags) = &context.store_tags else {
            return Ok(Vec::new());
        };
        let user = rustix::process::geteuid().as_raw();
        let lacks_lease = |entry: &MountEntry| match MountTag::of_source(&entry.source) {
            Some(tag) => tag.stores.overlap(store_tags) && !in_use.knows(&tag.id),
            None => entry.uid == Some(user),
        };
        let table = MountTable::read()?;
        let entries: Vec<&MountEntry> = (table.entries().iter())
            .filter(|entry| entry.is_ours() && lacks_lease(entry))
            .collect();
        let states = liveness(&table, &entries);
        let served = (entries.iter().zip(states)).filter(|(_, state)| *state != Liveness::Dead);
        Ok(served.map(|(entry, _)| entry.mountpoint.clone()).collect())
    };
    find().map_err(MaintenanceError::MountTable)
}

/// Returns the mount points of this store without a lease; waits briefly for the leases
/// of new mounts.
///
/// # Errors
/// [`MaintenanceError::MountWithoutLease`] if there are any, unless this is a dry run.
pub(super) async fn check_mounts(
    context: &MaintenanceContext,
    options: &GcOptions,
    known: &InUse,
) -> Result<Vec<PathBuf>, MaintenanceError> {
    let started = Instant::now();
    let mut newer: Option<InUse> = None;
    loop {
        let known = newer.as_ref().unwrap_or(known);
        let found = tokio::task::block_in_place(|| mounts_without_lease(context, known))?;
        if found.is_empty() || options.dry_run {
            return Ok(found);
        }
        if started.elapsed() > LEASE_WAIT {
            return Err(MaintenanceError::MountWithoutLease(found));
        }
        tokio::time::sleep(LEASE_POLL_INTERVAL).await;
        newer = Some(in_use(context, options).await?);
    }
}
