//! Detection of mounts without a lease.
//!
//! A lease is missing if its directory was removed, or if a version without leases made
//! the mount. The kernel's mount table lists the mount nevertheless.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{GcError, Ground, InUse, Options};
use crate::lifecycle::leases::KernelMount;

/// Time to wait for the lease of a mount that is being made.
const SETTLE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// The kernel's mount table.
pub trait KernelMounts: Send + Sync {
    /// Returns the mount points of the selected mounts of this program, except those
    /// whose process is gone. A mount that does not answer counts as served. May block
    /// for a few seconds.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn served(&self, select: &dyn Fn(&KernelMount) -> bool) -> io::Result<Vec<PathBuf>>;

    /// Returns the lease names of all mounts of this program, served or not.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn leases(&self) -> io::Result<HashSet<String>>;
}

/// Returns the mount points of this store without a lease; waits briefly for the leases
/// of new mounts.
///
/// # Errors
/// [`GcError::Unexplained`] if there are any, unless this is a dry run.
pub(super) async fn settled(
    ground: &Ground<'_>,
    options: &Options,
    in_use: &InUse,
) -> Result<Vec<PathBuf>, GcError> {
    let begun = Instant::now();
    let mut newer: Option<InUse> = None;
    loop {
        let known = newer.as_ref().unwrap_or(in_use);
        let found = tokio::task::block_in_place(|| unexplained(ground, known))?;
        if found.is_empty() || options.dry_run {
            return Ok(found);
        }
        if begun.elapsed() > SETTLE {
            return Err(GcError::Unexplained(found));
        }
        tokio::time::sleep(PAUSE).await;
        newer = Some(super::in_use(ground, options).await?);
    }
}

fn unexplained(ground: &Ground<'_>, in_use: &InUse) -> Result<Vec<PathBuf>, GcError> {
    let user = rustix::process::geteuid().as_raw();
    let select = |mount: &KernelMount| match &mount.tag {
        Some(tag) => tag.stores.overlap(ground.tags) && !in_use.knows(&tag.id),
        None => mount.user == Some(user),
    };
    (ground.kernel_mounts.served(&select)).map_err(GcError::MountTable)
}
