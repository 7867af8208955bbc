//! Mounts that no lease explains.
//!
//! A lease may be missing: somebody removed the directory, or the mount was made by
//! a version that takes none. The kernel's mount table shows the mount all the same.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{GcError, Ground, InUse, Options};
use crate::lifecycle::leases::KernelMount;

/// A mount that is being made has no lease yet: how long that may take.
const SETTLE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// The kernel's mount table.
pub trait KernelMounts: Send + Sync {
    /// The folders of those mounts of this program that are selected, without those that
    /// nobody serves any more. A mount that does not answer is served. May block for a
    /// few seconds.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn served(&self, select: &dyn Fn(&KernelMount) -> bool) -> io::Result<Vec<PathBuf>>;

    /// The names of the leases of all mounts of this program, whether or not somebody
    /// serves them still.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn leases(&self) -> io::Result<HashSet<String>>;
}

/// Folders with mounts of this store that no lease explains; waits a moment for the
/// leases of new ones.
///
/// # Errors
/// [`GcError::Unexplained`] where there are any, and it is no trial.
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
