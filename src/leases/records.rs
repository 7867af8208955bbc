//! What lease files record.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use walgit_format::chunk::BlobId;

/// The holder of a mount lease: the first line of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    /// Process ID.
    pub pid: u32,
    /// The mount point, as seen by the process that made the mount.
    pub folder: PathBuf,
    /// Name of the network.
    pub network: String,
    /// Persistent identity of the repository.
    pub identity: String,
    /// Time of the mount, in seconds since 1970.
    pub since: u64,
}

/// A head that is read through a mount: a further line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldHead {
    /// Address of the head.
    pub address: String,
    /// All blobs that the head names. Empty until the head is opened, and for foreign
    /// formats, which do not list them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<BlobId>,
}

/// The content of a mount lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRecord {
    /// Identifies the mount in the kernel's mount table.
    pub id: String,
    /// The holder.
    pub holder: LeaseHolder,
    /// The heads.
    pub heads: Vec<HeldHead>,
    /// Whether the process is alive.
    pub is_held: bool,
}

/// The claims of a publish that failed or was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbandonedLease {
    pub(super) path: PathBuf,
    /// The blobs.
    pub blobs: Vec<BlobId>,
    /// Time of the last claim, in seconds since 1970.
    pub at: u64,
}

/// Locations of the data of a user who publishes into a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreUser {
    /// The directory of names.
    pub names: PathBuf,
    /// The ledger.
    pub ledger: PathBuf,
}

/// Another user of a store, and the registration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherUser {
    /// The user.
    pub user: StoreUser,
    /// The file.
    pub file: PathBuf,
}

/// A snapshot of everything that leases protect.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    /// See [`Leases::generation`](super::Leases::generation).
    pub generation: u64,
    /// Blobs that publishes need: running ones, and those that ended within the grace
    /// period without releasing their lease.
    pub claimed: HashSet<BlobId>,
    /// Heads of mounts whose process is running or ended within the grace period.
    pub mounts: Vec<MountRecord>,
    /// Publishes that ended without releasing their lease.
    pub ended: Vec<AbandonedLease>,
    /// Leases of mounts whose process ended before the grace period.
    pub expired: Vec<PathBuf>,
    /// Other users who publish into a directory store.
    pub others: Vec<OtherUser>,
}

impl InUse {
    /// Whether a mount has a lease, even if its process has ended.
    pub fn knows(&self, mount: &str) -> bool {
        let is_it = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == mount);
        self.mounts.iter().any(|it| it.id == mount) || self.expired.iter().any(is_it)
    }
}
